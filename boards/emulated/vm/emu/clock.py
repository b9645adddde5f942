"""Simulated time of this board, as granted by the conductor (protocol: boards/emulated/README.md).

Time stands still while code runs and moves only in `idle()`. The time of day is an integer of
milliseconds since the Unix epoch; `ticks` is the same time since the boot, modulo 2**30, kept
apart because it stays a small integer (reading it must not allocate, the sampling path reads it
with the heap locked).
"""

import uselect
import usocket

from emu import control

TICKS_MASK = 0x3FFFFFFF
EPOCH_2000_MS = 946_684_800_000

# Reads of the clock without idling after which each further read takes 1 ms: a loop that only
# watches the clock must see it move.
FREE_READS = 1000

rtc_offset_ms = 0  # the chip's RTC shows now_ms() + rtc_offset_ms; set by machine.RTC
ticks = 0  # ms since boot, modulo 2**30
ticks_us = 0  # us since boot, modulo 2**30

socket = None  # the connection to the conductor
_now_ms = 0
_last_id = 0
_rest = b""
_reads = 0
_held = 0
in_reach = None  # set by emu.wiring: False while no answer can come, so that nothing is held
_ahead_ms = 0  # so far this board may go without asking: nobody else has anything to do before
_untold = False  # it has gone there, and the conductor does not know
_alarms = []  # (ms, fn), earliest first
_bare = None  # poll set of the two connections alone


def join(host, port, name):
    """Join the conductor as `name`; time starts at what it says."""
    global socket, _bare, _now_ms, ticks, ticks_us
    socket = usocket.socket()
    socket.connect(usocket.getaddrinfo(host, port)[0][-1])
    socket.setsockopt(6, 1, 1)  # IPPROTO_TCP, TCP_NODELAY
    _bare = uselect.poll()
    attach(_bare)
    socket.send("join %s ahead\n" % name)
    _await_answer()
    ticks = ticks_us = 0
    control.before_send = tell


def attach(poller):
    """Add the emulator's own connections to a poll set of `uselect`."""
    poller.register(socket, uselect.POLLIN)
    poller.register(control.socket, uselect.POLLIN)


def now_ms():
    """Simulated ms since the Unix epoch."""
    return _now_ms


def look():
    """Count a look at the clock (or at a chip) by the firmware; see FREE_READS."""
    global _reads
    _reads += 1
    if _reads > FREE_READS:
        reads = _reads
        idle_until(_now_ms + 1)
        _reads = reads


def idle_until(ms):
    """Block until simulated time reaches `ms`; commands and Ctrl-C are served meanwhile."""
    while _now_ms < ms:
        if idle(ms, _bare):
            serve()


def serve():
    """Run the supervisor's commands that have arrived. Raises KeyboardInterrupt on a Ctrl-C."""
    arrived = False
    for item in _bare.ipoll(0):
        if item[0] is control.socket:
            arrived = True
    if arrived or control.waiting():
        control.pump(arrived)


def idle(until_ms, poller, alarms=True):
    """Let time pass until `until_ms` (None: for ever) or until something of `poller` is ready.

    Returns False when the time has come, True when something is ready (time is then up to date).
    `poller` must have been given to `attach()`. `alarms` False leaves the alarms alone.
    """
    global _last_id, _reads, _untold
    _reads = 0
    if control.waiting():
        return True
    while True:
        target = until_ms
        if alarms and _alarms and (target is None or _alarms[0][0] < target):
            target = _alarms[0][0]
        if target is not None and target <= _now_ms:
            if alarms:
                _run_alarms()
            if until_ms is not None and until_ms <= _now_ms:
                return False
            continue
        held = _held and (in_reach is None or in_reach())
        if target is not None and target <= _ahead_ms and not held:
            _untold = True
            _move(target)
            continue
        tell()
        _last_id += 1
        _send("idle %d %s %d\n" % (_last_id, "-" if target is None else target, 1 if held else 0))
        granted = False
        while not granted:
            answered = other = False
            for item in poller.ipoll(-1):
                if item[0] is socket:
                    answered = True
                elif item[0] is not control.socket or not control.take_pings():
                    other = True
            if answered:
                granted = _read()
            if other and not granted:
                _last_id += 1
                _send("busy %d\n" % _last_id)
                _await_answer()
                if alarms:
                    _run_alarms()
                return True


def tell():
    """Say where this board's time is; to be called before anything that another could see."""
    global _untold
    if _untold:
        _untold = False
        _send("at %d\n" % _now_ms)


def drop_stale():
    """Read what the conductor sent without being asked for it: late answers, of no use."""
    _read()


def at(ms, fn):
    """Have fn() run when simulated time reaches `ms`, while the firmware idles or in its next look.

    One alarm per fn: a second call moves it.
    """
    cancel(fn)
    i = len(_alarms)
    while i and _alarms[i - 1][0] > ms:
        i -= 1
    _alarms.insert(i, (ms, fn))


def cancel(fn):
    """Forget the alarm of fn, if there is one."""
    for i in range(len(_alarms)):
        if _alarms[i][1] == fn:
            _alarms.pop(i)
            return


def shift_alarms(by_ms):
    """Move all alarms: timers and watchdog stand still while the firmware is stopped (REPL)."""
    for i in range(len(_alarms)):
        _alarms[i] = (_alarms[i][0] + by_ms, _alarms[i][1])


def hold():
    """From now until `release()` (nestable) nobody's time moves: a peer's answer is awaited."""
    global _held
    _held += 1


def release():
    """End one `hold()`."""
    global _held
    if _held:
        _held -= 1


def release_all():
    """End every `hold()`: the code that held was interrupted."""
    global _held
    _held = 0


def reborn():
    """Tell the conductor that this run ends and the next comes under the same name."""
    tell()
    _send("reborn\n")


def _send(line):
    try:
        socket.send(line)
    except OSError:
        control.fail("the conductor is gone")


def _run_alarms():
    while _alarms and _alarms[0][0] <= _now_ms:
        _alarms.pop(0)[1]()


def _move(ms):
    global _now_ms, ticks, ticks_us
    passed_ms = ms - _now_ms
    if passed_ms > 0:
        _now_ms = ms
        ticks = (ticks + passed_ms) & TICKS_MASK
        ticks_us = (ticks_us + passed_ms * 1000) & TICKS_MASK


def _await_answer():
    while not _read():
        pass


def _read():
    """Take what the conductor sent. True when it answered the last request."""
    global _rest, _ahead_ms
    data = socket.recv(256)
    if not data:
        control.fail("the conductor is gone")
    if _rest:
        data = _rest + data
    answered = False
    while True:
        end = data.find(b"\n")
        if end < 0:
            break
        line = data[:end]
        words = line.split()
        data = data[end + 1 :]
        if len(words) >= 3 and words[0] == b"now":
            if int(words[1]) == _last_id:
                _move(int(words[2]))
                _ahead_ms = int(words[3]) if len(words) > 3 else 0
                answered = True
        else:
            control.fail("the conductor said: " + line.decode())
    _rest = data
    return answered
