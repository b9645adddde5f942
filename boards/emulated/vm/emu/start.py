"""Start of one run of the chip: connect, load the emulator, take the host away, trim the heap."""

import gc
import sys

import emu
from emu import clock, control

# Loaded before the host's folder is unmounted. Chip models register their commands on import.
_MODULES = ("time", "select", "machine", "network", "esp32", "socket", "emu.wiring")

_NAMES = 2560

# What the models take of the heap once the firmware uses them, in words: pins and bus 304, NVS 136,
# asyncio's tasks 136 more than those of the chip, Wi-Fi 40. The chip has that outside its heap.
_MODELS_WORDS = 600

_ballast = []  # what the interpreter has more of than the chip


def prepare(port, main_globals):
    """Everything up to the moment when the chip would run its boot.py.

    port: the supervisor's control port. main_globals: the namespace of `__main__`, which gets a
    `go()` that runs the flash's programs.
    """
    control.connect(port)
    try:
        _load(main_globals)
    except ValueError as er:  # a setting of the board that cannot be
        control.fail(str(er))


def _load(main_globals):
    settings = emu.settings
    host, conductor_port = settings["conductor"]
    clock.join(host, conductor_port, settings["name"])
    # The chip's RTC starts at 2000-01-01 with the power and runs through resets.
    kept = settings["kept"]
    clock.rtc_offset_ms = kept.get("rtc_offset_ms", clock.EPOCH_2000_MS - clock.now_ms())
    control.keep("rtc_offset_ms", clock.rtc_offset_ms)

    from emu import console, flash, repl, rom, tasks

    for name in _MODULES:
        __import__(name)
    sys.modules["_asyncio"] = tasks
    console.install((settings.get("seed", 0) * 1009 + settings["run"]) & 0x3FFFFFFF)
    rom.load(settings["rom"])
    flash.device = flash.mount(settings["flash"])
    sys.path[:] = ["", ".frozen"] + rom.mount() + ["/lib"]
    raw = settings.get("raw", False)

    def go():
        del main_globals["go"]
        control.tell("ready")
        repl.run(main_globals, raw)

    main_globals["go"] = go
    names_bytes = _grow_names()
    _trim(settings["heap_kb"] * 1024 - names_bytes + _MODELS_WORDS * _word_bytes())


def _grow_names():
    """Has the table of names grow to 2,560 now; returns the bytes of the step before, to 1,280.

    It doubles when it is full. The emulator's some 800 names would bring that step, of 18 kB,
    among the firmware's, who come on a chip with the one before: that is counted as theirs.
    """
    word_bytes = _word_bytes()
    number = grown_bytes = 0
    while grown_bytes < _NAMES * (word_bytes + 2):
        before = gc.mem_alloc()
        for _ in range(32):
            getattr(emu, "n%d" % number, None)
            number += 1
        grown_bytes = gc.mem_alloc() - before
        gc.collect()  # the names stay where they are: what lies between them must not be much
    return _NAMES // 2 * (word_bytes + 3)  # address, hash, length


def _word_bytes():
    return 8 if sys.maxsize > 0x7FFFFFFF else 4


def _trim(free_bytes):
    """Leave so much free heap, at most 1 kB less, in one piece as far as that is possible."""
    free_bytes -= 512
    gc.collect()
    gc.collect()
    if gc.mem_free() < free_bytes:
        raise MemoryError("the interpreter's heap is too small for the emulator itself")
    # Small pieces, as the lowest free addresses are given first: they fill the gaps that loading
    # left, and the firmware gets the unbroken rest.
    for piece_bytes in (1024, 64):
        while gc.mem_free() > free_bytes + 2 * piece_bytes:
            _ballast.append(bytearray(piece_bytes))
    gc.collect()
