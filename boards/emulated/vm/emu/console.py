"""Standard input and output as the firmware sees them, and the modules that lead to the host.

The built-in `sys`, `micropython`, `os` and `vfs` are replaced in `sys.modules` by modules made
here: with the chip's names, and without what would reach the host's files and shell.
"""

import builtins
import io
import random
import sys

import micropython
import uos
import uselect
import vfs

from emu import clock, control, rom

_stdin = sys.stdin.buffer  # made non-blocking by the supervisor
_stdout = sys.stdout.buffer
_poller = None
_byte = bytearray(1)

VERSION = "%d.%d.%d" % sys.implementation[1][:3]
MACHINE = "Generic ESP32 module (emulated) with ESP32"


def wait_for_input(alarms=True):
    """Block (simulated time passes) until standard input has something."""
    global _poller
    if _poller is None:
        _poller = uselect.poll()
        _poller.register(_stdin, uselect.POLLIN)
        clock.attach(_poller)
    while True:
        arrived = stale = ready = False
        for item in _poller.ipoll(0):
            if item[0] is _stdin:
                ready = True
            elif item[0] is control.socket:
                arrived = True
            else:
                stale = True
        if stale:
            clock.drop_stale()
        if arrived or control.waiting():
            control.pump(arrived)
        if ready:
            return
        clock.idle(None, _poller, alarms)


def read_byte(alarms=True):
    """The next byte of standard input as an int."""
    while not _stdin.readinto(_byte):
        wait_for_input(alarms)
    return _byte[0]


def write(text):
    """Write to the port."""
    _stdout.write(text)


class _Input(io.IOBase):
    """`sys.stdin.buffer`: bytes."""

    emu_real = _stdin

    def readinto(self, buf, count=None):
        count = len(buf) if count is None else count
        view = memoryview(buf)
        done = 0
        while done < count:
            got = _stdin.readinto(view[done:count])
            if got:
                done += got
            else:
                wait_for_input()
        return done

    def read(self, count=1):
        # Standard input of the chip never ends: to read all of it would never return.
        buf = bytearray(max(count, 1))
        self.readinto(buf)
        return bytes(buf)

    def readline(self, limit=-1):
        line = bytearray()
        while not line.endswith(b"\n") and len(line) != limit:
            line.append(read_byte())
        return bytes(line)

    def write(self, buf):
        raise OSError(9)

    def ioctl(self, request, arg):
        return 0 if request != 3 else arg & 1


class _TextInput(_Input):
    """`sys.stdin`: text."""

    def __init__(self):
        self.buffer = _Input()

    def read(self, count=1):
        return str(self.buffer.read(count), "utf8")

    def readline(self, limit=-1):
        return str(self.buffer.readline(limit), "utf8")


class _Output(io.IOBase):
    """`sys.stdout.buffer`: bytes go out unchanged."""

    emu_real = _stdout

    def write(self, buf, count=None):
        data = buf if count is None else memoryview(buf)[:count]
        if _raw:
            return _stdout.write(data)
        control.raw_output(True)
        try:
            return _stdout.write(data)
        finally:
            control.raw_output(False)

    def ioctl(self, request, arg):
        return 0 if request != 3 else arg & 4


class _TextOutput(_Output):
    """`sys.stdout`: LF leaves as CR LF (done by the supervisor)."""

    def __init__(self):
        self.buffer = _Output()

    def write(self, text, count=None):
        return _stdout.write(text if count is None else text[:count])


_raw = False  # the port passes output on unchanged because kbd_intr(-1) is in force


def kbd_intr(char):
    """As on the chip: -1 lets every byte through to `sys.stdin`, 3 makes Ctrl-C interrupt.

    While it is off, a program on the host answers byte by byte (mpremote's mount): simulated time
    stands still, or the waits of the chip's side would run out at once.
    """
    global _raw
    off = char < 0
    control.terminal(-1 if off else 3, off)
    if off and not _raw:
        clock.hold()
    elif _raw and not off:
        clock.release()
    _raw = off


def kbd_reset():
    """After a command: whatever it switched with `kbd_intr` or held is undone."""
    global _raw
    _raw = False
    clock.release_all()


def _input(prompt=""):
    print(prompt, end="")
    line = bytearray()
    while True:
        byte = read_byte()
        if byte in (10, 13):
            print()
            return str(line, "utf8")
        if byte in (8, 127):
            if line:
                line = line[:-1]
                write(b"\x08 \x08")
        elif byte >= 32:
            line.append(byte)
            write(bytes((byte,)))


def _module(name, source, without, extra):
    """A module object named `name` with the members of `source`, less `without`, plus `extra`."""
    # A real module, by importing an empty file anew: `import *` from an instance crashes.
    module = __import__("emu.blank", None, None, ("blank",))
    del sys.modules["emu.blank"]
    for key in dir(source):
        if key[0] != "_" and key not in without:
            setattr(module, key, getattr(source, key))
    for key in extra:
        setattr(module, key, extra[key])
    module.__name__ = name
    return module


def urandom(count):
    """As `os.urandom`, but from the seeded generator: the same seed gives the same story."""
    return bytes(random.getrandbits(8) for _ in range(count))


def uname():
    return ("esp32", "esp32", VERSION, "v" + VERSION, MACHINE)


def install(seed):
    """Replace the built-in modules; `seed` (int) is that of `random`."""
    random.seed(seed)
    builtins.input = _input
    modules = sys.modules
    text_in, text_out = _TextInput(), _TextOutput()
    modules["micropython"] = _module(
        "micropython",
        micropython,
        (),
        {"kbd_intr": kbd_intr, "alloc_emergency_exception_buf": lambda size: None},
    )
    modules["os"] = _module(
        "os",
        uos,
        ("VfsPosix", "system", "getenv", "putenv", "unsetenv"),
        {"urandom": urandom, "uname": uname, "sync": lambda: None},
    )
    modules["vfs"] = _module("vfs", vfs, ("VfsPosix",), {"rom_ioctl": rom.rom_ioctl})
    modules["sys"] = _module(
        "sys",
        sys,
        ("atexit", "argv", "executable"),
        {
            "platform": "esp32",
            "stdin": text_in,
            "stdout": text_out,
            "stderr": text_out,
        },
    )
