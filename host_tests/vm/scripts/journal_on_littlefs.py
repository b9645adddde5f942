"""Run by test_journal_on_littlefs.py on MicroPython: the journal on the real littlefs.

argv: folder with firmware/ (sources or .mpy), `cuts` or `size`, for `size` a file for the flash.
Prints one line of JSON.
"""

import gc
import json
import os
import sys

import vfs

sys.path.insert(0, sys.argv[1])

EIO = -5  # as a block device returns it
FORMAT = "<QIiI"
BLOCK_BYTES = 4096
SMALL = {"segment_bytes": 400}  # so that the scenario crosses segments
T0_UTC_S = 1767600000


class RamFlash:
    """A flash in RAM that counts its operations and loses its power at one of them: half of that
    one is done, and from then on nothing. It says so by an error code, for an exception would
    unwind through the C code of littlefs and leave that with files that are half open."""

    def __init__(self, blocks):
        self.data = bytearray(b"\xff" * (blocks * BLOCK_BYTES))
        self.operations = 0
        self.cut_at = -1

    @property
    def is_cut(self):
        return 0 < self.cut_at <= self.operations

    def _put(self, start, content):
        if self.is_cut:
            return EIO
        self.operations += 1
        size = len(content) // 2 if self.is_cut else len(content)
        self.data[start : start + size] = content[:size]
        return EIO if self.is_cut else 0

    def readblocks(self, block, buffer, offset=0):
        if self.is_cut:
            return EIO
        start = block * BLOCK_BYTES + offset
        buffer[:] = self.data[start : start + len(buffer)]
        return 0

    def writeblocks(self, block, buffer, offset=0):
        return self._put(block * BLOCK_BYTES + offset, buffer)

    def ioctl(self, operation, argument):
        if operation == 4:
            return len(self.data) // BLOCK_BYTES
        if operation == 5:
            return BLOCK_BYTES
        if operation == 6:
            return self._put(argument * BLOCK_BYTES, b"\xff" * BLOCK_BYTES)
        return 0


class FileFlash(RamFlash):
    """The same over a file of the host, so that its content does not take heap."""

    def __init__(self, blocks, path):
        self._file = open(path, "w+b")
        for _ in range(blocks):
            self._file.write(b"\xff" * BLOCK_BYTES)
        self._blocks = blocks
        self.erases = self.bytes_written = 0

    def readblocks(self, block, buffer, offset=0):
        self._file.seek(block * BLOCK_BYTES + offset)
        self._file.readinto(buffer)

    def writeblocks(self, block, buffer, offset=0):
        self.bytes_written += len(buffer)
        self._file.seek(block * BLOCK_BYTES + offset)
        self._file.write(buffer)

    def ioctl(self, operation, argument):
        if operation == 4:
            return self._blocks
        if operation == 5:
            return BLOCK_BYTES
        if operation == 6:
            self.erases += 1
        return 0


def block(number):
    return {
        "start_utc_s": T0_UTC_S + number,
        "length_s": 1800,
        "energy_wh": 250,
        "voltage_mv": 231000,
        "current_ma": 2200,
        "power_max_w": 900,
        "supply_s": 1800,
        "import_wh": number,
        "balance_mp": -7000000000 - number,
    }


def credit(number):
    return {
        "kind": "recharge",
        "id": "r-%d" % number,
        "counter": number,
        "amount_mp": 5000000,
        "import_wh": number,
        "balance_mp": number,
    }


class Expected:
    """What must be there after a cut, and what may be: the verb that was under way."""

    def __init__(self):
        self.records = []
        self.state = (None, None)
        self.record_under_way = None
        self.state_under_way = None


def scenario(journal_module, flash, expected):
    vfs.VfsLfs2.mkfs(flash)
    vfs.mount(vfs.VfsLfs2(flash), "/j")
    for boot in (1, 2):
        journal = journal_module.Journal("/j/data", FORMAT, **SMALL)
        try:
            _boot(journal, boot, expected)
        finally:
            journal.close()
    # A format that is cut has nothing to keep; from here on it has.


def _boot(journal, boot, expected):
    for _ in journal.open()[2]:
        pass
    journal.begin_boot()
    for number in range(24):
        fields = credit(number) if number % 5 == 0 else block(number)
        name = "credit" if number % 5 == 0 else "block"
        expected.record_under_way = fields
        journal.append(name, fields, T0_UTC_S, 1, number)
        expected.records.append(fields)
        expected.record_under_way = None
        if number % 4 == 0:
            state = {"boot": boot, "number": number}
            expected.state_under_way = (state, None)
            journal.snapshot(state)
        else:
            expected.state_under_way = (expected.state[0], (2**63 + number, 1, -2, 3))
            journal.checkpoint(expected.state_under_way[1])
        expected.state = expected.state_under_way


def check(journal_module, expected):
    """Opens what a cut has left; returns an error or None."""
    journal = journal_module.Journal("/j/data", FORMAT, **SMALL)
    snapshot, checkpoint, later = journal.open()
    for _ in later:
        pass
    if (snapshot, checkpoint) not in (expected.state, expected.state_under_way):
        return "state %r" % ((snapshot, checkpoint),)
    wires = journal.records_after(0, 1000)
    allowed = list(expected.records)
    if len(wires) > len(allowed) and expected.record_under_way:
        allowed.append(expected.record_under_way)
    if len(wires) != len(allowed):
        return "%d records of %d" % (len(wires), len(allowed))
    for i, wire in enumerate(wires):
        if wire["seq"] != i + 1:
            return "number %d at %d" % (wire["seq"], i + 1)
        for field in allowed[i]:
            if wire[field] != allowed[i][field]:
                return "record %d" % wire["seq"]
    if journal.damaged_bytes or journal.lost_records:
        return "%d bytes damaged, %d lost" % (journal.damaged_bytes, journal.lost_records)
    journal.begin_boot()
    if journal.append("credit", credit(99), T0_UTC_S, 1, 1) != len(wires) + 1:
        return "next number"
    if journal.find_order("r-99")["counter"] != 99:
        return "order not found"
    journal.close()


def cuts():
    from firmware.storage import journal as journal_module
    from firmware.storage.errors import StorageError

    flash = RamFlash(48)
    scenario(journal_module, flash, Expected())
    vfs.umount("/j")
    total = flash.operations
    survived = 0
    for cut_at in range(20, total):
        flash = RamFlash(48)
        flash.cut_at = cut_at
        expected = Expected()
        try:
            scenario(journal_module, flash, expected)
            return {"error": "no power cut", "cut_at": cut_at}
        except (OSError, StorageError):
            vfs.umount("/j")
        flash.cut_at = -1
        vfs.mount(vfs.VfsLfs2(flash), "/j")
        error = check(journal_module, expected)
        if error:
            return {"cut_at": cut_at, "error": error}
        vfs.umount("/j")
        survived += 1
    return {"cuts": survived, "operations": total}


def size():
    gc.collect()
    before = gc.mem_alloc()
    from firmware.storage import journal as journal_module

    gc.collect()
    modules = gc.mem_alloc() - before
    flash = FileFlash(512, sys.argv[3])
    vfs.VfsLfs2.mkfs(flash)
    vfs.mount(vfs.VfsLfs2(flash), "/j")
    journal = journal_module.Journal("/j/data", FORMAT)
    journal.open()
    journal.begin_boot()
    journal.snapshot({})
    flash.erases = flash.bytes_written = 0
    records = 1680  # 35 days of half-hour blocks
    for number in range(records):
        journal.append("block", block(number), T0_UTC_S, 1, number)
    record_erases = flash.erases * 100 // records
    flash.erases = 0
    journal.snapshot({"x": "y" * 2000})
    for number in range(200):
        journal.checkpoint((number, 1, 2, 3))
    checkpoint_erases = flash.erases * 100 // 200
    journal.close()
    journal = None
    gc.collect()
    before = gc.mem_alloc()
    journal = journal_module.Journal("/j/data", FORMAT)
    replayed = 0
    for _ in journal.open()[2]:
        replayed += 1
    gc.collect()
    opened = gc.mem_alloc() - before
    seq = seen = 0
    while True:
        wires = journal.records_after(seq, 4)
        if not wires:
            break
        seq = wires[-1]["seq"]
        seen += len(wires)
    unknown = journal.find_order("r-1")
    return {
        "records": seen,
        "replayed": replayed,
        "unknown": unknown,
        "modules_bytes": modules,
        "journal_bytes": opened,
        "record_erases_x100": record_erases,
        "checkpoint_erases_x100": checkpoint_erases,
        "log_bytes": sum(os.stat("/j/data/" + name)[6] for name in os.listdir("/j/data")),
    }


print(json.dumps(cuts() if sys.argv[2] == "cuts" else size()))
