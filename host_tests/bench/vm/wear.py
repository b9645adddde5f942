# ruff: noqa: PTH123
"""Lets a household live on a flash that counts the erases of each block.

The real Meter and Journal on littlefs over a device in RAM that begins as a flashed board. Time
goes on from one instant at which the meter may store something to the next: power is constant
within a minute, so what is stored, and when, is the same as with a sample a second (`exact` takes
them all; host_tests/unit/test_bench_smoke.py compares).

argv: the ROM partition's image, that of the flash with config.json, a file with the shunt reading
of each minute (u16), `acked` (a gateway that acknowledges at once) or `full` (none, and the log is
at its limit from the beginning), `exact` or `coarse`. Prints one line of JSON.
"""

import json
import os
import struct
import sys

import parts
import vfs

parts.import_from_rom(sys.argv[1])

from firmware.core.config import read_document  # noqa: E402
from firmware.metering.energy import HALF_MJ_PER_WH  # noqa: E402
from firmware.storage.slots import Slots  # noqa: E402

GATEWAY, EXACT = sys.argv[4], sys.argv[5] == "exact"
BUS_RAW = 5750  # 230 V
MINUTE_S, DAY_S = 60, 86400
RECHARGE_EVERY_S = 5 * DAY_S
SYNC_EVERY_S = 3600
RECHARGE_MP = 35000000
CHECKPOINT_WH, CHECKPOINT_MAX_S = 10, 900  # as firmware/meter.py


def count(counts, key):
    counts[key] = counts.get(key, 0) + 1


class RamFlash:
    """A flash in RAM that counts erases: of each block, of blocks that then took the head of a
    littlefs metadata block, and both by what the journal was doing."""

    def __init__(self, path):
        self.data = bytearray(parts.BLOCKS * parts.BLOCK_BYTES)
        with open(path, "rb") as file:
            file.readinto(self.data)
        self.blank = b"\xff" * parts.BLOCK_BYTES
        self.doing = "files"
        self.forget()

    def forget(self):
        self.erases = [0] * parts.BLOCKS
        self.metadata_erases = [0] * parts.BLOCKS
        self.by_verb = {}
        self.metadata_by_verb = {}
        self.written = 0

    def readblocks(self, block, buffer, offset=0):
        start = block * parts.BLOCK_BYTES + offset
        buffer[:] = memoryview(self.data)[start : start + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        start = block * parts.BLOCK_BYTES + offset
        self.data[start : start + len(buffer)] = buffer
        self.written += len(buffer)
        if offset == 0 and _begins_metadata(buffer):
            self.metadata_erases[block] += 1
            count(self.metadata_by_verb, self.doing)

    def ioctl(self, operation, argument):
        if operation == 4:
            return parts.BLOCKS
        if operation == 5:
            return parts.BLOCK_BYTES
        if operation == 6:
            start = argument * parts.BLOCK_BYTES
            self.data[start : start + parts.BLOCK_BYTES] = self.blank
            self.erases[argument] += 1
            count(self.by_verb, self.doing)
        return 0


def _begins_metadata(buffer):
    """Does a block that begins so hold a directory? (littlefs SPEC.md: a revision, then
    tags, the first inverted; it names an entry, the superblock, or the directory's tail.)"""
    tag = struct.unpack(">I", memoryview(buffer)[4:8])[0] ^ 0xFFFFFFFF
    return tag >> 20 in (0x001, 0x002, 0x0FF, 0x600, 0x601)


def blocks_in_use():
    stat = os.statvfs("/flash")
    return stat[2] - stat[3]


def fill_log():
    """As after months alone: the log is at its limit, and a segment was dropped for it.

    With few long records, which takes less time.
    """
    long = {"document": {"pad": "x" * 4000}, "import_wh": 0, "balance_mp": 0}
    while not journal.lost_records:
        meter.snapshot()
        for _ in range(7):  # a segment has 32 kB
            journal.append("tariff", long, parts.UTC_S, 1, 0)


flash = RamFlash(sys.argv[2])
vfs.mount(vfs.VfsLfs2(flash), "/flash")
Slots("/flash/keep", "config").write(read_document("/flash/config.json"))  # as firmware/begin.py
blocks_at_first = blocks_in_use()

ticks = parts.Ticks()
meter = parts.make_meter("/flash/config.json", ticks, sample_period_ms=MINUTE_S * 1000)
journal = meter.journal


class Watch:
    """What the journal was asked to do, and the state in which it was."""

    def __init__(self):
        self.verbs = {}
        self.now_s = self.checkpoint_s = self.committed_wh = 0
        for name in ("append", "checkpoint", "snapshot"):
            self._wrap(name, getattr(journal, name))

    def _wrap(self, name, verb):
        def watched(*arguments):
            flash.doing = name
            count(self.verbs, name)
            self.committed_wh = meter.energy.import_wh
            if name != "append":
                self.checkpoint_s = self.now_s
            return verb(*arguments)

        setattr(journal, name, watched)

    def step_s(self, left_s):
        """Seconds to the next instant at which the meter may store something, at most `left_s`."""
        due_s = min(left_s, CHECKPOINT_MAX_S - (self.now_s - self.checkpoint_s))
        missing = (self.committed_wh + CHECKPOINT_WH - meter.energy.import_wh) * HALF_MJ_PER_WH
        missing -= meter.energy.imported.half_mj
        if meter.energy.power_mw:
            due_s = min(due_s, missing // (2 * meter.energy.power_mw))
        return max(due_s, 1)


def live_minute(shunt_raw):
    left_s = MINUTE_S
    while left_s:
        # The trapezoid between two minutes takes one second, as at 1 Hz.
        step_s = 1 if EXACT or left_s == MINUTE_S else watch.step_s(left_s)
        left_s -= step_s
        watch.now_s += step_s
        ticks.go_on(step_s * 1000)
        meter.sample(BUS_RAW, shunt_raw, step_s * 1000)
        meter.tick(step_s * 1000)
        if GATEWAY == "acked":
            journal.acknowledge(journal.last_seq)


watch = Watch()
meter.start("power", parts.UTC_S)
if GATEWAY == "full":
    fill_log()
flash.forget()
watch.verbs.clear()
nvs_writes, lost_records = parts.NVS.writes, journal.lost_records
with open(sys.argv[3], "rb") as series:
    while True:
        reading = series.read(2)
        if not reading:
            break
        live_minute(struct.unpack("<H", reading)[0])
        if watch.now_s % RECHARGE_EVERY_S == 0:
            parts.recharge(meter, watch.now_s // RECHARGE_EVERY_S, RECHARGE_MP)
        if watch.now_s % SYNC_EVERY_S == 0:
            meter.set_time((parts.UTC_S + watch.now_s) * 1000 + 300)
print(
    json.dumps(
        {
            "days": watch.now_s / DAY_S,
            "import_wh": meter.energy.import_wh,
            "verbs": watch.verbs,
            "erases_by_verb": flash.by_verb,
            "metadata_erases_by_verb": flash.metadata_by_verb,
            "programmed_bytes": flash.written,
            "blocks_at_first": blocks_at_first,
            "blocks_in_use": blocks_in_use(),
            "lost_records": journal.lost_records - lost_records,
            "nvs_writes": parts.NVS.writes - nvs_writes,
            "erases": flash.erases,
            "metadata_erases": flash.metadata_erases,
        }
    )
)
