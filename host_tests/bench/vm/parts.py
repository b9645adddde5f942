# ruff: noqa: PTH123, SIM115
"""What the scripts of this folder share: a counting flash, and a meter on it. MicroPython only."""

import gc
import sys

import vfs

BLOCK_BYTES = 4096
BLOCKS = 512
UTC_S = 1767551400  # Monday 2026-01-05 00:00 in India


class Flash:
    """A block device over a file of the host (made if missing) that counts what is done to it.

    Its methods allocate nothing: an exception (MemoryError) would unwind through the C code of
    littlefs, which then hangs or crashes.
    """

    def __init__(self, path):
        try:
            self.file = open(path, "r+b")
        except OSError:
            self.file = open(path, "w+b")
            for _ in range(BLOCKS):
                self.file.write(b"\xff" * BLOCK_BYTES)
        self.count()

    def count(self):
        self.erases = self.bytes_read = self.bytes_written = 0

    def readblocks(self, block, buffer, offset=0):
        self.bytes_read += len(buffer)
        self.file.seek(block * BLOCK_BYTES + offset)
        self.file.readinto(buffer)

    def writeblocks(self, block, buffer, offset=0):
        self.bytes_written += len(buffer)
        self.file.seek(block * BLOCK_BYTES + offset)
        self.file.write(buffer)

    def ioctl(self, operation, argument):
        if operation == 4:
            return BLOCKS
        if operation == 5:
            return BLOCK_BYTES
        if operation == 6:
            self.erases += 1
        return 0


def mount(path):
    """The flash in a file, formatted if it is blank, mounted at /flash."""
    flash = Flash(path)
    try:
        system = vfs.VfsLfs2(flash)
    except OSError:
        vfs.VfsLfs2.mkfs(flash)
        system = vfs.VfsLfs2(flash)
    vfs.mount(system, "/flash")
    flash.count()
    return flash


def import_from_rom(path):
    """Has `firmware` run in place from a ROM partition in a file of the host, as on a chip."""
    sys.path.insert(0, __file__.rsplit("/", 4)[0] + "/boards/emulated/vm")
    from emu import rom  # type: ignore[import-not-found]

    sys.path.pop(0)  # it has modules that stand for a chip's
    rom.load(path)
    sys.path[:0] = rom.mount()


class Ticks:
    """`time.ticks_ms` that the script moves."""

    ms = 0

    def read(self):
        return self.ms

    def go_on(self, ms):
        self.ms = self.ms + ms & 0x3FFFFFFF


class Contact:
    closed = 1

    def value(self):
        return self.closed


class Coil:
    def __init__(self, contact, closes):
        self._contact = contact
        self._closes = closes

    def value(self, level):
        if level:
            self._contact.closed = self._closes


class NVS:
    writes = 0  # values that were set

    def __init__(self):
        self._values = {}

    def get_i32(self, key):
        if key not in self._values:
            raise OSError(-4354)
        return self._values[key]

    def set_i32(self, key, value):
        self._values[key] = value
        NVS.writes += 1

    def get_blob(self, key, buffer):
        raise OSError(-4354)

    def commit(self):
        pass


def nothing(*_arguments):
    pass


def make_meter(config_path, ticks, **changes):
    """A meter on /flash/data, not started; `ticks`: a Ticks."""
    from firmware.core.config import Config, read_document
    from firmware.core.wallclock import WallClock
    from firmware.meter import CHECKPOINT_FORMAT, Meter
    from firmware.relay.driver import RelayDriver
    from firmware.storage.journal import Journal

    values = read_document(config_path)
    values.update(changes)
    contact = Contact()
    relay = RelayDriver("latching", Coil(contact, 1), Coil(contact, 0), contact, nothing)
    return Meter(
        Config(values),
        Journal("/flash/data", CHECKPOINT_FORMAT),
        WallClock(ticks.read),
        relay,
        NVS(),
        100000,
        nothing,
        nothing,
    )


def recharge(meter, counter, amount_mp):
    """Gives a meter the signed order of a recharge, which it must take."""
    from firmware.link import codec

    order = {
        "v": 1,
        "meter": meter.config.meter,
        "id": f"r-{counter:032d}",
        "counter": counter,
        "kind": "recharge",
        "amount_mp": amount_mp,
    }
    message = codec.sign(meter.config.key, meter.config.meter, codec.encode(order))
    assert meter.handle_order(message)["result"] == "accepted"


def heap_bytes():
    """Heap in use after a collection."""
    gc.collect()
    gc.collect()
    return gc.mem_alloc()
