"""Control channel to the supervisor: JSON lines over one TCP connection.

To the supervisor: {"event": NAME, ...}, with "id" where an answer is wanted.
From it: {"answer": ID, ...}, or a command {"do": NAME, "id": ID, ...} which is answered by
{"answer": ID, ...}; "error" in an answer is a text for a person.

A chip model registers its commands with `on()`. Commands run between two steps of the firmware,
whenever it looks at the clock or waits, never in the middle of one.
"""

import json

import uos
import usocket

import emu

socket = None  # the connection; part of every poll set (emu.clock.attach)
_rest = b""
_handlers = {}
_queue = []  # commands that arrived while an answer was awaited
_answers = {}
_last_id = 0
_interrupt = False
last_words = None  # set by emu.wiring: what to say (a dict) at the end of this run
before_send = None  # set by emu.clock: what to do before anything that another could see


def connect(port):
    """Connect to the supervisor at the loopback `port` and fill `emu.settings`."""
    global socket
    socket = usocket.socket()
    socket.connect(usocket.getaddrinfo("127.0.0.1", port)[0][-1])
    socket.setsockopt(6, 1, 1)  # IPPROTO_TCP, TCP_NODELAY: a line is not held for the next one
    emu.settings.update(ask("hello"))


def tell(event, **fields):
    """Tell the supervisor; no answer. Fields must be values of JSON."""
    fields["event"] = event
    _send(fields)


def ask(event, **fields):
    """Tell and wait for the answer (a dict); simulated time stands still meanwhile.

    Raises ValueError where the supervisor refuses.
    """
    global _last_id
    _last_id += 1
    own_id = _last_id
    fields["event"] = event
    fields["id"] = own_id
    _send(fields)
    while own_id not in _answers:
        _receive()
    answer = _answers.pop(own_id)
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer


def on(command, fn):
    """Register fn(fields: dict) -> dict as the handler of the supervisor's `command`.

    ValueError raised by fn goes back as the error text: name the field and its allowed range.
    """
    _handlers[command] = fn


def keep(key, value, lifetime="reset"):
    """Have the supervisor keep a state of the hardware; it returns in settings["kept"][key].

    lifetime "reset": survives a reset of the chip, gone with the power (registers, the chip's RTC).
    lifetime "power": survives a power cut too (NVS, latching contact, battery RTC); it is on the
    host's disk when this returns.
    """
    if lifetime == "power":
        ask("keep", key=key, value=value, lifetime=lifetime)
    elif lifetime == "reset":
        tell("keep", key=key, value=value, lifetime=lifetime)
    else:
        raise ValueError("lifetime is 'reset' or 'power'")


def reset(cause, raw=False):
    """End this run at once; the supervisor starts the next with `reset_cause`.

    cause: "soft", "hard", "watchdog" or "brownout". raw: the next run comes up in the raw REPL
    and does not run main.py.
    """
    from emu import clock

    words = last_words() if last_words else {}
    clock.reborn()
    tell("reset", cause=cause, raw=raw, **words)
    while True:  # until the supervisor ends the process, as abruptly as a reset is
        _receive()


def fail(text):
    """Tell the supervisor why this board cannot run; does not return."""
    tell("failed", text=text)
    while True:
        _receive()


def power_lost():
    """Have the supervisor cut the power; does not return."""
    tell("power_lost", **(last_words() if last_words else {}))
    while True:
        _receive()


def waiting():
    """True when a command or a Ctrl-C has been read but not acted on."""
    return bool(_queue) or _interrupt


def take_pings():
    """Read what has arrived and answer pings; True if that was all.

    The supervisor asks each second whether the program lives. That must not look like the answer
    that this board may be holding the clock for.
    """
    _receive()
    for i in range(len(_queue) - 1, -1, -1):
        if _queue[i].get("do") == "ping":
            _send({"answer": _queue.pop(i).get("id")})
    return not waiting()


def pump(arrived):
    """Act on what has come; `arrived` says that the socket has something to read.

    Raises KeyboardInterrupt on a Ctrl-C.
    """
    global _interrupt
    if arrived:
        _receive()
    while _queue:
        message = _queue.pop(0)
        own_id = message.pop("id", None)
        fn = _handlers.get(message.pop("do"))
        try:
            answer = fn(message) if fn else {"error": "not known to this board"}
        except ValueError as er:
            answer = {"error": str(er)}
        if own_id is not None:
            answer = dict(answer or {})
            answer["answer"] = own_id
            _send(answer)
    if _interrupt:
        _interrupt = False
        tell("interrupted")
        raise KeyboardInterrupt


def terminal(kbd, raw):
    """Set the serial port's behaviour and wait until it is in force.

    kbd 3: Ctrl-C interrupts; -1: it is data, and an interrupt not yet delivered is dropped.
    raw True: output passes unchanged; False: LF becomes CR LF, as on the chip's console.
    """
    global _interrupt
    ask("terminal", kbd=kbd, raw=raw)
    if kbd < 0:
        _interrupt = False


def raw_output(raw):
    """Switch only the output, see `terminal()`; wait until it is in force."""
    ask("terminal", raw=raw)


def _send(message):
    if before_send:
        before_send()
    data = (json.dumps(message) + "\n").encode()
    while data:
        data = data[socket.send(data) :]


def _receive():
    global _rest, _interrupt
    data = socket.recv(256)  # small: this comes out of the firmware's heap
    if not data:
        # The supervisor died: nobody can see or stop this process any more. It must go whatever
        # the firmware catches, so by a signal and not by an exception.
        uos.system("kill -9 $PPID")
    _rest += data
    while True:
        end = _rest.find(b"\n")
        if end < 0:
            return
        message = json.loads(_rest[:end])
        _rest = _rest[end + 1 :]
        if "answer" in message:
            _answers[message["answer"]] = message
        elif message["do"] == "interrupt":
            _interrupt = True
        else:
            _queue.append(message)
