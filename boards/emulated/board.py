"""The emulated board's supervisor: power, serial port, and what outlives the interpreter.

One thread per board does all the work (a selector, timers, a queue of calls from other threads),
so that the order of bytes, interrupts and resets is decided in one place. Callbacks run in that
thread: they must not call the board's methods.
Tests: host_tests/system/test_serial_mpremote.py, test_power.py.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import logging
import os
import pty
import re
import select
import selectors
import signal
import socket
import subprocess
import termios
import threading
import time
import tty
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from boards.emulated import flashing
from toolchain import locate

log = logging.getLogger(__name__)

HEAP_KB = 110  # what Wi-Fi and TLS leave of an ESP32's heap
HEAP_KB_RANGE = (32, 8192)

# The emulator's own modules live in the interpreter's heap too; what they leave over is taken away
# before the firmware starts (vm/emu/start.py), so this only has to be enough.
EMULATOR_HEAP_KB = {32: 200, 64: 400}

INTERRUPT_GRACE_S = 0.2  # a program that uses the clock notices a Ctrl-C by itself within this
INTERRUPT_LIMIT_S = 1.0  # after a signal, input goes on even if nobody admits to having seen it
STALL_S = 0.3  # the port took nothing for so long: look whether anybody has it open
STALL_LIMIT_S = 10.0  # who has it open and takes nothing for so long is no reader
BACKLOG_BYTES = 65536
PIPE_BYTES = 65536  # capacity of a pipe, so one read of so much empties it
WATCHDOG_STALL_S = 5.0
START_TIMEOUT_S = 20.0
COMMAND_TIMEOUT_S = 10.0
QUICK_END_S = 1.0
QUICK_ENDS = 3  # interpreters that end by themselves so soon, in a row: give up

_LINE_FEED = re.compile(rb"(?<!\r)\n")


class BoardError(Exception):
    """The board cannot do what was asked: no power, no answer, or the interpreter fails."""


class EmulatedBoard:
    """One emulated board in `folder` (made if missing), known to the conductor as `name`.

    conductor: its (host, port). heap_kb: free heap of the firmware on 32 bits (twice as much on
    64). bits: 32 or 64, of the interpreter (default: $MICROPYTHON32 or $MICROPYTHON if set, else
    32 if there is one). settings: the world and the chips, see README.md; `seed` among them.
    Raises ValueError for values out of range.
    """

    def __init__(
        self,
        folder: Path | str,
        name: str,
        conductor: tuple[str, int],
        *,
        settings: Mapping[str, Any] | None = None,
        heap_kb: int = HEAP_KB,
        bits: int | None = None,
    ) -> None:
        if not re.fullmatch(r"[!-~]{1,64}", name):
            raise ValueError("name: 1 to 64 printable characters without spaces")
        if bits is not None and bits not in EMULATOR_HEAP_KB:
            raise ValueError("bits: 32 or 64")
        low, high = HEAP_KB_RANGE
        if not low <= heap_kb <= high:
            raise ValueError(f"heap_kb: {low} to {high}")
        self.folder = Path(folder).absolute()
        self.name = name
        self.port = ""  # path of the pseudo-terminal while the board is started
        self.runs = 0  # interpreters started
        self.powered = False
        self._conductor = conductor
        self._settings = dict(settings or {})
        self._settings_now: dict[str, Any] = {}
        self._interpreter, self._bits = _interpreter(bits)
        self._heap_kb = heap_kb * self._bits // 32

        self._lines: collections.deque[str] = collections.deque(maxlen=5000)
        self._line_count = 0
        self._news = threading.Condition()
        self._console: list[Callable[[str], None]] = []
        self._listeners: dict[str, list[Callable[[dict[str, Any]], None]]] = {}

        self._calls: collections.deque[Callable[[], None]] = collections.deque()
        self._timers: dict[str, tuple[float, Callable[[], None]]] = {}
        self._thread: threading.Thread | None = None
        self._closing = False
        self._image = contextlib.ExitStack()  # our claim to the flash image
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0
        self._quick_ends = 0
        self._ready: Future[None] = Future()
        self._cause = "power"
        self._come_up_raw = False
        self._kept: dict[str, dict[str, Any]] = {"reset": {}, "power": {}}

        self._vm: socket.socket | None = None
        self._rests: dict[socket.socket, bytes] = {}
        self._waiting: dict[int, Callable[[dict[str, Any]], None]] = {}
        self._last_id = 0

        self._kbd: int | None = None  # 3: Ctrl-C interrupts, -1: is data, None: not up yet
        self._raw_output = False
        self._interrupting = False
        self._input = bytearray()  # typed, not yet passed on
        self._output = bytearray()  # for the port, not yet taken
        self._unread = True  # nobody seems to read the port
        self._stalled_since_s = 0.0
        self._partial_line = b""

    # ---- for other threads ----

    def start(self) -> EmulatedBoard:
        """Open the port and switch the power on; returns when the flash's programs start.

        Raises BoardError when the interpreter does not come up.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._image.enter_context(flashing.use_image(self.folder / "flash.bin"))
        self._emulator = flashing.emulator_files()
        hardware = self.folder / "hardware.json"
        if hardware.exists():
            try:
                self._kept["power"] = json.loads(hardware.read_text())
            except ValueError:
                self._image.close()
                raise BoardError(f"{hardware} is not JSON") from None
        self._open()
        self._thread = threading.Thread(target=self._run, name=f"board {self.name}", daemon=True)
        self._thread.start()
        try:
            self.restore_power()
        except BoardError:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Cut the power, close the port, remove the files `port` and `control`. Idempotent."""
        if self._thread is None:
            return
        try:
            self.cut_power()
        finally:
            self._closing = True
            self._poke()
            self._thread.join()
            self._thread = None
            self._close()
            self._image.close()

    def __enter__(self) -> EmulatedBoard:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def cut_power(self) -> None:
        """The process is gone, RAM and chip registers are gone; the flash keeps what was written.

        Returns when that is so. Without power already: does nothing.
        """
        self._call(self._power_off)

    def restore_power(self, **settings: Any) -> None:
        """Power on; returns when the flash's programs start. With power already: does nothing.

        settings: as those of the board, until the power goes again.
        """

        def on() -> None:
            if not self.powered:
                self._settings_now = settings
            self._power_on()

        self._call(on)
        self._await_ready()

    def reset(self) -> None:
        """The reset button. Returns when the flash's programs start."""
        self._call(lambda: self._restart("hard", False))
        self._await_ready()

    def set(self, **knobs: Any) -> dict[str, Any]:
        """Change the world (Wi-Fi, load, cover, magnet, ...); returns what is set now.

        Raises BoardError: no power, or a knob or value that does not exist (the text says which
        are allowed).
        """
        return self.command("set", **knobs)

    def look(self) -> dict[str, Any]:
        """What an observer at the bench sees: contact, true voltage and current, energy, LEDs."""
        return self.command("look")

    def command(self, command: str, **fields: Any) -> dict[str, Any]:
        """Send a command to the chip models and return their answer. Raises BoardError."""
        answer: Future[dict[str, Any]] = Future()

        def send() -> None:
            self._ask_vm(command, fields, answer.set_result)

        self._call(send)
        try:
            result = answer.result(COMMAND_TIMEOUT_S)
        except TimeoutError:
            raise BoardError(f"{self.name}: no answer to {command!r}") from None
        if "error" in result:
            raise BoardError(f"{command}: {result['error']}")
        return result

    def on(self, event: str, fn: Callable[[dict[str, Any]], None]) -> None:
        """Have fn(fields) called, in the board's thread, at each `event` of a chip model.

        "failed" (field `text`): the board cannot go on and is without power.
        """
        self._listeners.setdefault(event, []).append(fn)

    def console(self, fn: Callable[[str], None]) -> None:
        """Have fn(line) called, in the board's thread, for each line that programs print."""
        self._console.append(fn)

    def wait_for(self, pattern: str, timeout_s: float = 10.0, after: int = 0) -> tuple[str, int]:
        """Wait until a console line matches the regular expression; returns it and its number.

        after: look only at lines with a greater number (the first line has number 1; the last
        5000 are remembered). Raises TimeoutError with the last lines.
        """
        wanted = re.compile(pattern)
        deadline_s = time.monotonic() + timeout_s
        with self._news:
            while True:
                new = min(self._line_count - after, len(self._lines))
                lines = list(itertools.islice(reversed(self._lines), max(new, 0)))
                for number, line in enumerate(reversed(lines), self._line_count - new + 1):
                    if wanted.search(line):
                        return line, number
                after = max(after, self._line_count)
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or self._closing:
                    last = "\n".join(list(self._lines)[-10:])
                    raise TimeoutError(f"no line matches {pattern!r}; the last are:\n{last}")
                self._news.wait(left_s)

    @property
    def line_count(self) -> int:
        """Number of the console's newest line, for `wait_for(after=)`."""
        return self._line_count

    def lines(self) -> list[str]:
        """The console's last lines (at most 5000)."""
        with self._news:
            return list(self._lines)

    def type(self, data: bytes) -> None:
        """Type on the serial port without a client of it."""
        self._call(lambda: self._typed(data))

    # ---- thread and its plumbing ----

    def _call(self, fn: Callable[[], None]) -> None:
        """Run fn in the board's thread and wait for it; its BoardError comes out here."""
        if self._thread is None:
            raise BoardError(f"{self.name} is not started")
        done: Future[None] = Future()

        def run() -> None:
            try:
                fn()
            except BoardError as er:
                done.set_exception(er)
            else:
                done.set_result(None)

        self._post(run)
        done.result(START_TIMEOUT_S)

    def _post(self, fn: Callable[[], None]) -> None:
        self._calls.append(fn)
        self._poke()

    def _poke(self) -> None:
        try:
            self._poke_w.send(b"!")
        except (BlockingIOError, OSError):
            pass  # full: it will wake anyway; closed: nobody is there to wake

    def _await_ready(self) -> None:
        try:
            self._ready.result(START_TIMEOUT_S)
        except TimeoutError:
            raise BoardError(f"{self.name}: the interpreter does not come up") from None

    def _open(self) -> None:
        self._closing = False
        self._selector = selectors.DefaultSelector()
        self._poke_r, self._poke_w = socket.socketpair()
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave, termios.TCSANOW)
        self._in_r, self._in_w = os.pipe()
        self._out_r, self._out_w = os.pipe()
        for fd in (self._master, self._in_r, self._in_w, self._out_r):
            os.set_blocking(fd, False)
        for sock in (self._poke_r, self._poke_w):
            sock.setblocking(False)
        self._dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._dns.bind(("127.0.0.1", 0))
        self._dns.setblocking(False)
        self._selector.register(self._dns, selectors.EVENT_READ, self._dns_ready)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self._selector.register(self._poke_r, selectors.EVENT_READ, self._poked)
        self._selector.register(self._master, selectors.EVENT_READ, self._port_ready)
        self._selector.register(self._out_r, selectors.EVENT_READ, self._console_ready)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._watch = Watch(self._conductor)
        self.port = os.ttyname(self._slave)
        host, number = self._listener.getsockname()
        write_atomically(self.folder / "port", self.port + "\n")
        write_atomically(self.folder / "control", f"{host}:{number}\n")

    def _close(self) -> None:
        for name in ("port", "control"):
            (self.folder / name).unlink(missing_ok=True)
        for sock in (*self._rests, self._dns, self._listener, self._poke_r, self._poke_w):
            sock.close()
        self._rests.clear()
        self._watch.close()
        self._selector.close()
        if self._slave >= 0:
            os.close(self._slave)
        for fd in (self._master, self._in_r, self._in_w, self._out_r, self._out_w):
            os.close(fd)
        self.port = ""

    def _run(self) -> None:
        while not self._closing:
            timeout_s = None
            if self._timers:
                timeout_s = max(0.0, min(t for t, _ in self._timers.values()) - time.monotonic())
            for item, mask in self._selector.select(timeout_s):
                item.data(mask)
            now_s = time.monotonic()
            for key, (at_s, fn) in list(self._timers.items()):
                if at_s <= now_s and self._timers.get(key) == (at_s, fn):
                    del self._timers[key]
                    fn()
            while self._calls:
                self._calls.popleft()()

    def _poked(self, mask: int) -> None:
        try:
            self._poke_r.recv(4096)
        except BlockingIOError:
            pass

    def _after(self, key: str, delay_s: float, fn: Callable[[], None]) -> None:
        self._timers[key] = (time.monotonic() + delay_s, fn)

    # ---- power and resets ----

    def _power_on(self) -> None:
        if self.powered:
            return
        self.powered = True
        self._quick_ends = 0
        self._watch.expect(self.name)
        self._spawn("power", False)

    def _power_off(self) -> None:
        if not self.powered:
            return
        self.powered = False
        self._end_process()
        self._discard_input()
        self._kept["reset"] = {}
        self._watch.forget(self.name)

    def _restart(self, cause: str, raw: bool) -> None:
        if not self.powered:
            raise BoardError(f"{self.name} has no power")
        self._end_process()
        if cause != "soft":
            self._discard_input()  # a soft reset keeps the serial port's buffer
        self._spawn(cause, raw)

    def _spawn(self, cause: str, raw: bool) -> None:
        self.runs += 1
        self._cause, self._come_up_raw = cause, raw
        self._ready = Future()
        self._kbd = None
        self._raw_output = False
        heap_kb = self._heap_kb + EMULATOR_HEAP_KB[self._bits]
        number = self._listener.getsockname()[1]
        command = [*self._interpreter, "-X", f"heapsize={heap_kb}k", "boot.py", str(number)]
        process = subprocess.Popen(
            command,
            cwd=self._emulator,
            stdin=self._in_r,
            stdout=self._out_w,
            stderr=self._out_w,
            env={"PATH": os.defpath, "TZ": "UTC"},
            start_new_session=True,  # a Ctrl-C in the supervisor's terminal is not the board's
        )
        self._process = process
        self._started_s = time.monotonic()

        def wait() -> None:
            process.wait()
            self._post(lambda: self._ended(process))

        threading.Thread(target=wait, name=f"wait {self.name}", daemon=True).start()

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        self._drain_console()
        if self._partial_line:
            self._log_lines(b"\n")  # the next run begins a line of its own
        if self._vm is not None:
            self._read_lines(self._vm)  # what it told before it ended
            self._drop(self._vm)
        for key in ("interrupt", "watchdog"):
            self._timers.pop(key, None)
        self._interrupting = False
        self._kbd = None

    def _ended(self, process: subprocess.Popen[bytes]) -> None:
        """The interpreter ended by itself: it crashed, which on a chip is a reset."""
        if process is not self._process:
            return
        early = time.monotonic() - self._started_s < QUICK_END_S
        self._end_process()
        self._quick_ends = self._quick_ends + 1 if early else 0
        text = f"the interpreter ended by itself (status {process.returncode})"
        log.warning("%s: %s", self.name, text)
        if not self._ready.done() or self._quick_ends >= QUICK_ENDS:
            self._fail("\n".join([f"{text}:", *self.lines()[-15:], self._partial_line.decode()]))
            return
        self._spawn("hard", False)

    def _fail(self, text: str) -> None:
        """The board cannot run: it stays without power, and whoever waits for it is told."""
        self._power_off()
        if not self._ready.done():
            self._ready.set_exception(BoardError(f"{self.name}: {text}"))
        for fn in self._listeners.get("failed", ()):
            self._notify(fn, {"text": text})

    def _discard_input(self) -> None:
        self._input.clear()
        try:
            while os.read(self._in_r, 65536):
                pass
        except BlockingIOError:
            pass

    # ---- control socket ----

    def _accept(self, mask: int) -> None:
        sock, _ = self._listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        self._rests[sock] = b""
        self._selector.register(sock, selectors.EVENT_READ, lambda mask: self._read_lines(sock))

    def _read_lines(self, sock: socket.socket) -> None:
        while sock in self._rests:
            try:
                data = sock.recv(65536)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
            if not data:
                self._drop(sock)
                return
            *lines, rest = (self._rests[sock] + data).split(b"\n")
            self._rests[sock] = rest
            for line in lines:
                try:
                    message = json.loads(line)
                except ValueError:
                    message = None
                if not isinstance(message, dict):
                    log.warning("%s: not a JSON object on the control socket", self.name)
                    self._drop(sock)
                    return
                if sock is self._vm or message.get("event") == "hello":
                    self._from_vm(sock, message)
                else:
                    self._from_client(sock, message)

    def _drop(self, sock: socket.socket) -> None:
        if sock is self._vm:
            self._vm = None
            for answer in list(self._waiting.values()):
                answer({"error": "the board was reset or lost its power"})
            self._waiting.clear()
        if self._rests.pop(sock, None) is not None:
            self._selector.unregister(sock)
            sock.close()

    def _send(self, sock: socket.socket | None, message: dict[str, Any]) -> None:
        if sock is None:
            return
        try:
            sock.setblocking(True)
            sock.sendall(json.dumps(message).encode() + b"\n")
            sock.setblocking(False)
        except OSError:
            self._drop(sock)

    def _ask_vm(
        self, command: str, fields: dict[str, Any], answer: Callable[[dict[str, Any]], None]
    ) -> None:
        if not self.powered or self._vm is None:
            raise BoardError(f"{self.name} has no power" if not self.powered else "not up yet")
        self._last_id += 1
        self._waiting[self._last_id] = answer
        self._send(self._vm, {**fields, "do": command, "id": self._last_id})

    def _from_client(self, sock: socket.socket, message: dict[str, Any]) -> None:
        """Another process (`bijli board set`): set, look, cut, restore, reset."""
        command = message.pop("do", None)

        def answer(result: dict[str, Any]) -> None:
            self._send(sock, {k: v for k, v in result.items() if k != "answer"})

        try:
            if command == "cut":
                self._power_off()
            elif command == "restore":
                self._power_on()
            elif command == "reset":
                self._restart("hard", False)
            elif isinstance(command, str):
                self._ask_vm(command, message, answer)
                return
            else:
                raise BoardError('a command is {"do": NAME, ...}')
            answer({})
        except BoardError as er:
            answer({"error": str(er)})

    def _from_vm(self, sock: socket.socket, message: dict[str, Any]) -> None:
        if "answer" in message:
            waiting = self._waiting.pop(message["answer"], None)
            if waiting is not None:
                waiting(message)
            return
        self._drain_console()  # what was printed before this line belongs before it
        event = message.pop("event")
        own_id = message.pop("id", None)
        answer: dict[str, Any] = {}
        if event == "hello":
            self._vm = sock
            answer = self._hello()
        elif event == "ready":
            if not self._ready.done():
                self._ready.set_result(None)
        elif event == "terminal":
            self._raw_output = message.get("raw", self._raw_output)
            if "kbd" in message:
                self._kbd = message["kbd"]
                if self._kbd < 0:
                    self._interrupt_seen()
        elif event == "interrupted":
            self._interrupt_seen()
        elif event == "keep":
            self._keep(message["key"], message["value"], message["lifetime"])
        elif event == "watchdog":
            self._last_pong_s = time.monotonic()
            self._watch_clock()
        elif event == "reset":
            self._post(lambda: self._reset_by_vm(sock, message["cause"], bool(message["raw"])))
        elif event == "failed":
            self._post(lambda: self._fail(message["text"]))
            return
        elif event == "power_lost":
            self._post(self._power_off)
        for fn in self._listeners.get(event, ()):
            self._notify(fn, message)
        if own_id is not None:
            self._send(sock, {**answer, "answer": own_id})
        self._feed()

    def _dns_ready(self, mask: int) -> None:
        """The name server of the board's network; it knows the names of the settings."""
        try:
            query, asker = self._dns.recvfrom(512)
        except OSError:
            return  # an asker that has gone
        labels, at = [], 12
        while at < len(query) and query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace"))
            at += 1 + query[at]
        address = self._settings.get("names", {}).get(".".join(labels))
        head = query[:2] + (b"\x81\x80" if address else b"\x81\x83")
        answer = head + b"\0\x01" + (b"\0\x01" if address else b"\0\0") + bytes(4) + query[12:]
        if address:
            answer += b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04" + socket.inet_aton(address)
        self._dns.sendto(answer, asker)

    def _hello(self) -> dict[str, Any]:
        return {
            **self._settings,
            **self._settings_now,
            "name": self.name,
            "conductor": list(self._conductor),
            "dns_port": self._dns.getsockname()[1],
            "flash": str(self.folder / "flash.bin"),
            "rom": str(self.folder / "rom.bin"),
            "heap_kb": self._heap_kb,
            "reset_cause": self._cause,
            "raw": self._come_up_raw,
            "run": self.runs,
            "kept": {**self._kept["reset"], **self._kept["power"]},
        }

    def _reset_by_vm(self, sock: socket.socket, cause: str, raw: bool) -> None:
        if sock is self._vm and self.powered:
            self._restart(cause, raw)

    def _keep(self, key: str, value: Any, lifetime: str) -> None:
        other = "power" if lifetime == "reset" else "reset"
        was_durable = self._kept[other].pop(key, None) is not None and other == "power"
        if self._kept[lifetime].get(key) == value and not was_durable:
            return
        self._kept[lifetime][key] = value
        if lifetime == "power" or was_durable:
            write_atomically(self.folder / "hardware.json", json.dumps(self._kept["power"]))

    def _watch_clock(self) -> None:
        """The watchdog is armed: a program that never looks at the clock again is stuck.

        Simulated time cannot expire the watchdog then, because it stands still with the program.
        """
        if self._process is None:
            return  # its last words, read after its end
        now_s = time.monotonic()
        if now_s - self._last_pong_s >= WATCHDOG_STALL_S:
            self._restart("watchdog", False)
            return
        self._after("watchdog", 1.0, self._watch_clock)

        def pong(answer: dict[str, Any]) -> None:
            self._last_pong_s = time.monotonic()

        if self._vm is not None:
            self._ask_vm("ping", {}, pong)

    # ---- serial port ----

    def _port_ready(self, mask: int) -> None:
        if mask & selectors.EVENT_READ:
            try:
                data = os.read(self._master, 65536)
            except BlockingIOError:
                data = b""
            except OSError:  # EIO: a client that had claimed the port has closed it
                self._open_slave()
                data = b""
            if data:
                self._unread = False  # who talks also listens
                self._typed(data)
        if mask & selectors.EVENT_WRITE:
            self._flush_output()

    def _typed(self, data: bytes) -> None:
        self._input += data
        self._feed()

    def _feed(self) -> None:
        """Pass input on to the interpreter, as the chip's UART interrupt does.

        Ctrl-C is not put into the buffer while it interrupts, and what follows it waits until the
        interrupt has been delivered: it is for whoever reads next.
        """
        while self._input and self._kbd is not None and not self._interrupting:
            end = len(self._input)
            if self._kbd == 3:
                end = self._input.find(b"\x03")
                if end == 0:
                    del self._input[0]
                    self._interrupt()
                    continue
                if end < 0:
                    end = len(self._input)
            try:
                done = os.write(self._in_w, self._input[:end])
            except BlockingIOError:
                if self._kbd == 3:
                    done = end  # nobody reads: the chip's buffer overflows too
                else:
                    self._after("feed", 0.01, self._feed)
                    return
            del self._input[:done]

    def _interrupt(self) -> None:
        """Have KeyboardInterrupt raised: by asking first, by a signal if nobody listens.

        Asking is safe at any moment; the signal may strike anywhere, and a second one while the
        first is pending would end the interpreter.
        """
        self._interrupting = True
        process = self._process

        def give_up() -> None:
            self._interrupting = False
            self._feed()

        def strike() -> None:
            if process is not None and process is self._process:
                process.send_signal(signal.SIGINT)
            self._after("interrupt", INTERRUPT_LIMIT_S, give_up)

        self._send(self._vm, {"do": "interrupt"})
        self._after("interrupt", INTERRUPT_GRACE_S, strike)

    def _interrupt_seen(self) -> None:
        self._timers.pop("interrupt", None)
        self._interrupting = False

    def _console_ready(self, mask: int) -> None:
        self._drain_console()

    def _drain_console(self) -> None:
        """Take what is in the pipe now: one read, as a program may print faster than we read."""
        try:
            data = os.read(self._out_r, PIPE_BYTES)
        except BlockingIOError:
            data = b""
        if data:
            if not self._raw_output:
                self._log_lines(data)
                data = _LINE_FEED.sub(b"\r\n", data)
            self._output += data
        self._flush_output()

    def _log_lines(self, data: bytes) -> None:
        *lines, self._partial_line = (self._partial_line + data).split(b"\n")
        for line in lines:
            text = line.decode("utf8", "replace").rstrip("\r")
            with self._news:
                self._lines.append(text)
                self._line_count += 1
                self._news.notify_all()
            for fn in self._console:
                self._notify(fn, text)

    def _notify(self, fn: Callable[[Any], None], what: Any) -> None:
        try:
            fn(what)
        except Exception:
            log.exception("%s: a listener failed", self.name)  # the board goes on

    def _flush_output(self) -> None:
        """Write to the port what it takes. A port that nobody reads must not stop the board."""
        try:
            while self._output:
                done = os.write(self._master, self._output[:4096])
                del self._output[:done]
                self._timers.pop("stall", None)
        except BlockingIOError:
            pass
        wanted = selectors.EVENT_READ
        if self._output:
            if self._unread:
                self._output.clear()
            else:
                wanted |= selectors.EVENT_WRITE
                if "stall" not in self._timers:
                    self._stalled_since_s = time.monotonic()
                    self._after("stall", STALL_S, self._stalled)
        if self._selector.get_key(self._master).events != wanted:
            self._selector.modify(self._master, wanted, self._port_ready)
        # A slow reader slows the board down, as the serial line does.
        listening = self._out_r in self._selector.get_map()
        if listening and len(self._output) > BACKLOG_BYTES:
            self._selector.unregister(self._out_r)
        elif not listening and len(self._output) <= BACKLOG_BYTES:
            self._selector.register(self._out_r, selectors.EVENT_READ, self._console_ready)

    def _stalled(self) -> None:
        now_s = time.monotonic()
        if now_s < self._stalled_since_s + STALL_LIMIT_S and self._port_is_open():
            self._after("stall", STALL_S, self._stalled)
            return
        self._unread = True
        self._output.clear()
        self._flush_output()

    def _port_is_open(self) -> bool:
        """True when a client has the port open.

        The kernel tells only whether anybody has, so our own end is closed for a moment. (It is
        kept open otherwise because settings and unread input go with the last who closes.)
        """
        if self._slave < 0:
            return True
        os.close(self._slave)
        poller = select.poll()
        poller.register(self._master, 0)
        is_open = not any(events & select.POLLHUP for _, events in poller.poll(0))
        self._open_slave()
        return is_open

    def _open_slave(self) -> None:
        try:
            self._slave = os.open(self.port, os.O_RDWR | os.O_NOCTTY)
        except OSError:
            self._slave = -1  # a client has claimed the port for itself; see _port_ready
            return
        if not termios.tcgetattr(self._slave)[3] & termios.ICANON:
            return  # as we or the client set it
        tty.setraw(self._slave, termios.TCSANOW)


def _interpreter(bits: int | None) -> tuple[list[str], int]:
    """Command and word size; 32 bits is the chip's size, and faster, unless one was chosen."""
    command = None
    if bits is None and (os.environ.get("MICROPYTHON32") or not os.environ.get("MICROPYTHON")):
        with contextlib.suppress(locate.ToolMissing):
            command = locate.micropython(bits=32)
    if command is None:
        command = locate.micropython(bits=bits or 64)
    return command, locate.probe(command[0]).bits


class Watch:
    """Tells the conductor at `address` whom to expect. Every call returns when that is in force."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=10)
        self._answers = self._socket.makefile("rb")
        self._say("watch")

    def expect(self, name: str) -> None:
        self._say(f"expect {name}")

    def forget(self, name: str) -> None:
        self._say(f"forget {name}")

    def stopped(self, name: str) -> None:
        """The process is about to be stopped (SIGSTOP): time goes on without it."""
        self._say(f"stopped {name}")

    def goes(self, name: str) -> None:
        """The process goes on (SIGCONT)."""
        self._say(f"goes {name}")

    def close(self) -> None:
        self._answers.close()
        self._socket.close()

    def _say(self, line: str) -> None:
        try:
            self._socket.sendall(line.encode() + b"\n")
            answer = self._answers.readline()
        except OSError:
            answer = b""
        if not answer:
            log.warning("the conductor is gone")  # it ended first: nothing left to tell it


def write_atomically(path: Path, text: str) -> None:
    """Replace a file so that a power cut of the host leaves the old or the new one."""
    new = path.with_name(path.name + ".new")
    with new.open("w", encoding="utf8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
