"""The journal's verbs, one by one, on an ordinary folder."""

import errno
import hashlib
import json
import random
import struct
import zlib
from pathlib import Path

import pytest

from firmware.core.records import RANGES, RECORDS
from firmware.core.records import members as members_of
from firmware.storage import errors as errors_module
from firmware.storage import files, packing
from firmware.storage import journal as journal_module
from firmware.storage.errors import JournalFull, StorageError
from firmware.storage.journal import RETENTION_S, SEGMENT_BYTES, Journal, SnapshotNeeded
from firmware.storage.packing import RecordError

T0_UTC_S = 1_767_600_000
REGISTERS = {"import_wh": 15_230, "balance_mp": -7_000_000_000}
FORMAT = "<QIiI"
BLOCK_BYTES = 22 + 40 + 4


def block(number=0):
    return {
        "start_utc_s": T0_UTC_S + number,
        "length_s": 1800,
        "energy_wh": 250,
        "voltage_mv": 231_000,
        "current_ma": 2_200,
        "power_max_w": 900,
        "supply_s": 1800,
        **REGISTERS,
    }


def credit(order_id, counter=1):
    return {
        "kind": "recharge",
        "id": order_id,
        "counter": counter,
        "amount_mp": 5_000_000,
        **REGISTERS,
    }


OPENED = []


@pytest.fixture(autouse=True)
def left_open(monkeypatch):
    """A journal that a test leaves open has lost its power; its files are closed at the end."""
    monkeypatch.setattr(errors_module, "_fsync", None)
    yield
    while OPENED:
        OPENED.pop().close()


def append(journal, name="block", fields=None, utc_s=T0_UTC_S):
    return journal.append(name, fields or block(), utc_s, True, 60)


def began(folder, **options):
    journal = Journal(str(folder), FORMAT, **options)
    OPENED.append(journal)
    journal.open()
    journal.begin_boot()
    return journal


def reopened(folder, **options):
    journal = Journal(str(folder), FORMAT, **options)
    OPENED.append(journal)
    snapshot, checkpoint, records = journal.open()
    return journal, snapshot, checkpoint, list(records)


def sample(form, highest):
    if isinstance(form, tuple):
        return form[-1 if highest else 0]
    if form == "text":
        return "x" * 36 if highest else "y"
    if form == "json":
        return {"id": "t", "lines": [{"up_to_kwh": None}]}
    return RANGES[form][1 if highest else 0]


# --- packing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("highest", [False, True])
@pytest.mark.parametrize("name", sorted(RECORDS))
def test_every_type_comes_back_as_it_was_given(name, highest):
    fields = {field: sample(form, highest) for field, form in members_of(name)}
    code, payload = packing.pack(name, fields)
    wire = {}
    assert packing.unpack(code, payload, wire)
    assert wire == {"type": name, **fields}


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_a_payload_of_another_length_is_not_read(name):
    fields = {field: sample(form, True) for field, form in members_of(name)}
    code, payload = packing.pack(name, fields)
    for cut in range(len(payload)):
        assert not packing.unpack(code, payload[:cut], {})
    assert not packing.unpack(code, payload + b"\0", {})
    assert not packing.unpack(200, payload, {})


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("block", "length_s", 65_536),
        ("block", "energy_wh", -1),
        ("block", "voltage_mv", 2**31),
        ("block", "balance_mp", 2**63),
        ("credit", "kind", "gift"),
        ("credit", "id", ""),
        ("credit", "id", "x" * 37),
        ("credit", "id", "बिजली"),
    ],
)
def test_a_member_outside_its_range_is_refused_by_name(tmp_path, name, field, value):
    journal = began(tmp_path)
    fields = {**(block() if name == "block" else credit("r-1")), field: value}
    with pytest.raises(RecordError) as refused:
        append(journal, name, fields)
    assert refused.value.field == field
    assert journal.last_seq == 0
    assert append(journal) == 1


def test_missing_and_unknown_members_are_refused(tmp_path):
    journal = began(tmp_path)
    for fields in ({**block(), "more": 1}, {"start_utc_s": 1}, {**credit("r"), "kid": 1}):
        with pytest.raises(RecordError):
            append(journal, "block", fields)
    with pytest.raises(RecordError):
        append(journal, "nothing", {"a": 1})


# --- log -------------------------------------------------------------------------------------


def test_an_empty_folder_becomes_a_journal(tmp_path):
    folder = tmp_path / "data"
    journal, snapshot, checkpoint, records = reopened(folder)
    assert (snapshot, checkpoint, records) == (None, None, [])
    assert journal.formatted
    assert len(journal.store_id) == 8
    journal.begin_boot()
    append(journal)
    again, *_ = reopened(folder)
    assert again.store_id == journal.store_id
    assert not again.formatted


def test_a_record_comes_back_as_the_dict_that_is_sent(tmp_path):
    journal = began(tmp_path)
    assert journal.append("credit", credit("r-1", 9), 0, False, 7) == 1
    journal.close()
    again, _, _, records = reopened(tmp_path)
    expected = {"seq": 1, "boot": 1, "utc_s": 0, "time_valid": 0, "up_s": 7, "type": "credit"}
    assert records == [{**expected, "prev": "0" * 32, **credit("r-1", 9)}]
    assert again.records_after(0, 10) == records
    assert again.begin_boot() == 2


def test_numbers_go_on_over_boots_and_segments(tmp_path):
    for boot in (1, 2, 3):
        journal, _, _, records = reopened(tmp_path)
        assert journal.begin_boot() == boot
        assert [r["seq"] for r in records] == list(range(1, (boot - 1) * 700 + 1))
        for _ in range(700):
            append(journal)
        journal.close()
    files = sorted(tmp_path.glob("log-*"))
    assert len(files) > 3
    assert all(file.stat().st_size <= SEGMENT_BYTES for file in files)
    assert reopened(tmp_path)[0].damaged_bytes == 0


def test_a_block_costs_66_bytes(tmp_path):
    journal = began(tmp_path)
    append(journal)
    path = tmp_path / "log-00000001"
    before = path.stat().st_size
    append(journal)
    assert path.stat().st_size - before == BLOCK_BYTES


def test_draining_reads_each_byte_about_once(tmp_path, monkeypatch):
    journal = began(tmp_path)
    for number in range(2_000):
        append(journal, fields=block(number))
    reads = 0
    read_record = files._read_record

    def counting(file):
        nonlocal reads
        reads += 1
        return read_record(file)

    monkeypatch.setattr(files, "_read_record", counting)
    seq = 0
    while batch := journal.records_after(seq, 16):
        assert [r["seq"] for r in batch] == list(range(seq + 1, seq + 1 + len(batch)))
        # The sender may take only a part of what it read.
        seq = batch[len(batch) // 2]["seq"]
    assert seq == 2_000
    assert reads < 2 * 2_000 + 600


def test_a_record_appended_after_the_drain_is_read_without_search(tmp_path, monkeypatch):
    journal = began(tmp_path)
    for _ in range(300):
        append(journal)
    seq = 0
    while batch := journal.records_after(seq, 16):
        seq = batch[-1]["seq"]
    append(journal)
    scanned = []
    scan = journal_module.scan
    monkeypatch.setattr(
        journal_module, "scan", lambda path, offset: scanned.append(offset) or scan(path, offset)
    )
    assert [r["seq"] for r in journal.records_after(seq, 16)] == [301]
    assert scanned == [16 + 300 * BLOCK_BYTES]


# --- orders ----------------------------------------------------------------------------------


def test_an_order_of_weeks_ago_is_found(tmp_path):
    journal = began(tmp_path)
    append(journal, "credit", credit("r-old", 5))
    order = {field: sample(form, False) for field, form in members_of("order")}
    order.update(id="t-1", result="range")
    append(journal, "order", order)
    for _ in range(1_500):
        append(journal)
    append(journal, "credit", credit("r-new", 7))
    for again in (journal, reopened(tmp_path)[0]):
        assert again.find_order("r-old")["counter"] == 5
        assert again.find_order("r-new")["counter"] == 7
        assert again.find_order("t-1")["result"] == "range"
        assert again.find_order("r-none") is None
    append(journal, "credit", credit("r-later", 8))
    assert journal.find_order("r-later")["counter"] == 8


def test_the_first_answer_to_an_id_counts(tmp_path):
    journal = began(tmp_path)
    append(journal, "credit", credit("r-1", 5))
    append(journal, "credit", credit("r-1", 6))
    assert journal.find_order("r-1")["counter"] == 5


def test_two_ids_with_one_digest_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "order_digest", lambda order_id: 1)
    journal = began(tmp_path)
    append(journal, "credit", credit("r-1", 5))
    for _ in range(600):
        append(journal)
    append(journal, "credit", credit("r-2", 6))
    for again in (journal, reopened(tmp_path)[0]):
        assert again.find_order("r-2")["counter"] == 6
        assert again.find_order("r-3") is None


def test_an_unknown_order_is_not_searched_twice(tmp_path, monkeypatch):
    journal = began(tmp_path)
    append(journal)
    assert journal.find_order("r-1") is None

    def no_scan(path, offset):
        raise AssertionError("the log was read again")

    monkeypatch.setattr(journal_module, "scan", no_scan)
    assert journal.find_order("r-2") is None


# --- checkpoints -----------------------------------------------------------------------------

VALUES = (15_230, 3_599_999_999, -5, T0_UTC_S)


def test_a_start_gets_the_last_snapshot_checkpoint_and_what_came_later(tmp_path):
    journal = began(tmp_path)
    append(journal)
    append(journal)
    journal.acknowledge(1)
    journal.snapshot({"credits_mp": 5, "tariff": None})
    append(journal)
    journal.checkpoint(VALUES)
    append(journal)
    again, snapshot, checkpoint, records = reopened(tmp_path)
    assert snapshot == {"credits_mp": 5, "tariff": None}
    assert checkpoint == VALUES
    assert [r["seq"] for r in records] == [3, 4]
    assert (again.snapshot_seq, again.checkpoint_seq, again.acked_seq) == (2, 3, 1)
    assert again.last_seq == 4


def test_a_snapshot_supersedes_the_checkpoints_before_it(tmp_path):
    journal = began(tmp_path)
    for number in range(5):
        journal.snapshot({"n": number})
        journal.checkpoint((number, 0, 0, 0))
    journal.snapshot({"n": 5})
    assert reopened(tmp_path)[1:] == ({"n": 5}, None, [])


def test_a_boot_number_is_kept_by_a_snapshot_alone(tmp_path):
    journal = began(tmp_path)
    journal.snapshot({})
    again, *_ = reopened(tmp_path)
    assert again.store_id == journal.store_id
    assert again.begin_boot() == 2


def test_an_acknowledgement_is_kept_by_the_next_checkpoint(tmp_path):
    journal = began(tmp_path)
    journal.snapshot({})
    append(journal)
    journal.acknowledge(7)  # not a number of ours
    assert journal.acked_seq == 0
    journal.acknowledge(1)
    journal.acknowledge(0)
    assert reopened(tmp_path)[0].acked_seq == 0
    journal.checkpoint(VALUES)
    assert reopened(tmp_path)[0].acked_seq == 1


def test_a_snapshot_is_due_first_and_when_the_file_or_the_replay_is_long(tmp_path):
    journal = began(tmp_path)
    assert journal.snapshot_due
    with pytest.raises(SnapshotNeeded):
        journal.checkpoint(VALUES)
    journal.snapshot({})
    assert not journal.snapshot_due
    checkpoints = 0
    while not journal.snapshot_due:
        journal.checkpoint(VALUES)
        checkpoints += 1
    assert checkpoints > 300
    journal.snapshot({})
    assert not journal.snapshot_due
    for _ in range(401):
        append(journal)
    assert journal.snapshot_due


def test_a_snapshot_that_no_record_can_hold_is_refused(tmp_path):
    journal = began(tmp_path)
    journal.snapshot({"n": 1})
    with pytest.raises(RecordError):
        journal.snapshot({"n": "x" * 9_000})
    journal.checkpoint(VALUES)
    assert reopened(tmp_path)[1:3] == ({"n": 1}, VALUES)


# --- retention -------------------------------------------------------------------------------


def fill_segment(journal, utc_s):
    begun = len(journal._firsts)
    while len(journal._firsts) == begun:
        append(journal, utc_s=utc_s)


def test_acknowledged_segments_go_after_35_days(tmp_path):
    journal = began(tmp_path)
    for day in range(4):
        fill_segment(journal, T0_UTC_S + day * 86_400)
    journal.acknowledge(journal.last_seq)
    journal.snapshot({})
    fill_segment(journal, T0_UTC_S + RETENTION_S)
    assert journal._firsts[0] == 1
    fill_segment(journal, T0_UTC_S + RETENTION_S + 2 * 86_400)
    assert journal._firsts[0] > 1
    assert journal.lost_records == 0
    assert len(list(tmp_path.glob("log-*"))) == len(journal._firsts)


def test_unacknowledged_and_undated_segments_stay(tmp_path):
    journal = began(tmp_path)
    fill_segment(journal, T0_UTC_S)
    journal.snapshot({})
    fill_segment(journal, T0_UTC_S + 3 * RETENTION_S)
    assert journal._firsts[0] == 1


def test_at_the_space_limit_the_oldest_goes_and_the_loss_is_counted(tmp_path):
    journal = began(tmp_path, log_bytes=4 * SEGMENT_BYTES)
    for _ in range(5):
        fill_segment(journal, T0_UTC_S)
    assert len(journal._firsts) == 5  # no snapshot contains them: kept
    journal.snapshot({})
    journal.acknowledge(100)
    fill_segment(journal, T0_UTC_S)
    assert len(journal._firsts) == 4
    assert journal.lost_records == journal._firsts[0] - 1 - 100
    journal.checkpoint(VALUES)
    again, *_ = reopened(tmp_path)
    assert again.lost_records == journal.lost_records
    assert again.records_after(0, 1)[0]["seq"] == journal._firsts[0]


# --- faults ----------------------------------------------------------------------------------


class Failing:
    """A file that fails at its n-th write, having written a part of it."""

    def __init__(self, file, writes, number=errno.EIO):
        self.file, self.left, self.number = file, writes, number

    def write(self, data):
        self.left -= 1
        if self.left == 0:
            self.file.write(data[: len(data) // 2])
            raise OSError(self.number, "injected")
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("write", [1, 2, 3])
def test_an_append_that_fails_changes_nothing(tmp_path, write):
    journal = began(tmp_path)
    journal.snapshot({})
    append(journal, "credit", credit("r-1"))
    journal._log = Failing(journal._log, write)
    with pytest.raises(StorageError) as failed:
        append(journal, "credit", credit("r-2"))
    assert failed.value.errno == errno.EIO
    assert journal.last_seq == 1
    assert [r["seq"] for r in journal.records_after(0, 9)] == [1]
    # The number is given again, in a new segment.
    assert append(journal, "credit", credit("r-3")) == 2
    for again in (journal, reopened(tmp_path)[0]):
        assert [r["id"] for r in again.records_after(0, 9)] == ["r-1", "r-3"]
        assert again.find_order("r-2") is None
    assert reopened(tmp_path)[0].lost_records == 0


def test_a_record_whose_sync_failed_is_void_once_its_number_is_given_again(tmp_path, monkeypatch):
    journal = began(tmp_path)
    append(journal, "credit", credit("r-1"))

    def failing(descriptor):
        raise OSError(errno.EIO, "injected")

    with monkeypatch.context() as patch:
        patch.setattr(errors_module, "_fsync", failing)
        with pytest.raises(StorageError):
            append(journal, "credit", credit("r-2"))
    assert append(journal, "credit", credit("r-3")) == 2
    for again in (journal, reopened(tmp_path)[0]):
        assert [r["id"] for r in again.records_after(0, 9)] == ["r-1", "r-3"]


def test_a_full_flash_drops_an_acknowledged_segment_or_says_so(tmp_path):
    journal = began(tmp_path)
    fill_segment(journal, T0_UTC_S)
    append(journal)
    journal._log = Failing(journal._log, 1, errno.ENOSPC)
    seq = journal.last_seq
    with pytest.raises(JournalFull):
        append(journal)
    assert (journal.last_seq, journal._firsts[0]) == (seq, 1)
    append(journal)
    journal.snapshot({})
    journal.acknowledge(seq)
    journal._log = Failing(journal._log, 1, errno.ENOSPC)
    assert append(journal) == seq + 2
    assert journal._firsts[0] > 1
    assert journal.lost_records == 0


def test_a_folder_without_room_for_a_new_segment_is_a_full_flash(tmp_path, monkeypatch):
    journal = began(tmp_path)
    for _ in range(2):
        fill_segment(journal, T0_UTC_S)
    journal.snapshot({})
    journal.acknowledge(journal.last_seq)
    seq, first = journal.last_seq, journal._firsts[0]

    def full(path, mode):
        if journal._firsts[0] == first and mode == "wb":
            raise OSError(errno.ENAMETOOLONG, "injected")
        return Path(path).open(mode)

    monkeypatch.setattr(journal_module, "open", full, raising=False)
    journal._log.close()
    journal._log = None  # the next record begins a segment
    assert append(journal) == seq + 1
    assert journal._firsts[0] > first


def test_a_snapshot_on_a_full_flash_drops_an_acknowledged_segment(tmp_path, monkeypatch):
    journal = began(tmp_path)
    for _ in range(3):
        fill_segment(journal, T0_UTC_S)
    journal.snapshot({"n": 1})
    journal.acknowledge(journal.last_seq)
    write = journal_module.write_record

    def full(file, *record):
        if len(journal._firsts) == 3:
            raise OSError(errno.ENOSPC, "injected")
        return write(file, *record)

    monkeypatch.setattr(journal_module, "write_record", full)
    journal.snapshot({"n": 2})
    assert reopened(tmp_path)[1] == {"n": 2}

    def refuse(*_):
        raise OSError(errno.ENOSPC, "injected")

    monkeypatch.setattr(journal_module, "write_record", refuse)
    monkeypatch.setattr(journal_module.os, "remove", refuse)
    for write in (append, lambda journal: journal.snapshot({"n": 3})):
        with pytest.raises(JournalFull):
            write(journal)


@pytest.mark.parametrize("name", ["credit", "relay"])
def test_memory_that_ends_beside_a_record_leaves_it_wholly_written_or_not_at_all(
    tmp_path, monkeypatch, name
):
    journal = began(tmp_path)
    append(journal, "credit", credit("r-1"))
    fields = credit("r-2")
    if name == "relay":
        fields = {"state": "connected", "contact": 1, "reason": "order", **REGISTERS}

    def no_memory(*_):
        raise MemoryError

    with monkeypatch.context() as full:
        full.setattr(journal_module, "digest_of", no_memory)
        with pytest.raises(MemoryError):
            append(journal, name, dict(fields))
    with monkeypatch.context() as full:
        full.setattr(journal_module, "order_digest", no_memory)
        if name == "credit":
            with pytest.raises(MemoryError):
                append(journal, name, dict(fields))
    assert [r["seq"] for r in journal.records_after(0, 9)] == [1]
    append(journal, name, dict(fields))
    again = reopened(tmp_path)[0]
    assert [r["seq"] for r in again.records_after(0, 9)] == [1, 2]
    assert (again.ledger_count, again.ledger_missing) == (2, False)


def test_a_checkpoint_that_fails_asks_for_a_snapshot(tmp_path):
    journal = began(tmp_path)
    journal.snapshot({"n": 1})
    journal.checkpoint(VALUES)
    journal._checkpoints = Failing(journal._checkpoints, 2)
    with pytest.raises(StorageError):
        journal.checkpoint((0, 0, 0, 0))
    assert journal.snapshot_due
    with pytest.raises(SnapshotNeeded):
        journal.checkpoint(VALUES)
    assert reopened(tmp_path)[1:3] == ({"n": 1}, VALUES)
    journal.snapshot({"n": 2})
    assert reopened(tmp_path)[1:3] == ({"n": 2}, None)


def test_a_snapshot_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    journal = began(tmp_path)
    journal.snapshot({"n": 1})

    def failing(descriptor):
        raise OSError(errno.EIO, "injected")

    with monkeypatch.context() as patch:
        patch.setattr(errors_module, "_fsync", failing)
        with pytest.raises(StorageError):
            journal.snapshot({"n": 2})
    journal.checkpoint(VALUES)
    assert reopened(tmp_path)[1:3] == ({"n": 1}, VALUES)


def test_a_folder_that_cannot_be_read_is_a_named_error(tmp_path):
    (tmp_path / "data").write_text("a file", encoding="utf-8")
    with pytest.raises(StorageError) as failed:
        Journal(str(tmp_path / "data"), FORMAT).open()
    assert failed.value.errno == errno.ENOTDIR


# --- damage ----------------------------------------------------------------------------------


def test_damage_in_the_middle_loses_one_record_and_no_number(tmp_path):
    journal = began(tmp_path)
    for number in range(10):
        append(journal, fields=block(number))
    journal.close()
    path = tmp_path / "log-00000001"
    raw = bytearray(path.read_bytes())
    raw[16 + 4 * BLOCK_BYTES + 30] ^= 0x10
    path.write_bytes(raw)
    again, _, _, records = reopened(tmp_path)
    assert [r["seq"] for r in records] == [1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert again.damaged_bytes == BLOCK_BYTES
    again.begin_boot()
    assert append(again) == 11
    assert len(list(tmp_path.glob("log-*"))) == 2
    assert reopened(tmp_path)[0].damaged_bytes == 0


def test_a_number_that_damaged_bytes_may_have_carried_is_not_given_again(tmp_path):
    journal = began(tmp_path)
    for number in range(10):
        append(journal, fields=block(number))
    path = tmp_path / "log-00000001"
    raw = bytearray(path.read_bytes())
    raw[-3 * BLOCK_BYTES + 30] ^= 0x10
    raw[-2 * BLOCK_BYTES + 30] ^= 0x10
    raw[-1 * BLOCK_BYTES + 30] ^= 0x10
    path.write_bytes(raw)
    again, *_ = reopened(tmp_path)
    again.begin_boot()
    assert append(again) > 10
    assert again.lost_records >= 3
    assert [r["seq"] for r in again.records_after(5, 2)] == [6, 7]


@pytest.mark.parametrize("name", ["log-00000001", "ckpt-a"])
def test_a_damaged_file_head_is_noticed_and_the_store_keeps_its_id(tmp_path, name):
    journal = began(tmp_path)
    journal.snapshot({"n": 1})
    append(journal)
    raw = bytearray((tmp_path / name).read_bytes())
    raw[5] ^= 0x01
    (tmp_path / name).write_bytes(raw)
    again, snapshot, _, records = reopened(tmp_path)
    assert again.store_id == journal.store_id
    assert again.damaged_bytes > 0
    assert not again.formatted
    assert snapshot == (None if name == "ckpt-a" else {"n": 1})
    assert [r["seq"] for r in records] == [1]
    again.begin_boot()
    again.snapshot({"n": 2})
    assert append(again) == 2
    assert reopened(tmp_path)[0].damaged_bytes == 0


def test_a_damaged_snapshot_falls_back_to_the_older_one(tmp_path):
    journal = began(tmp_path)
    journal.snapshot({"n": 1})
    journal.checkpoint(VALUES)
    append(journal)
    journal.snapshot({"n": 2})
    append(journal)
    raw = bytearray((tmp_path / "ckpt-b").read_bytes())
    raw[40] ^= 0x01
    (tmp_path / "ckpt-b").write_bytes(raw)
    again, snapshot, checkpoint, records = reopened(tmp_path)
    assert (snapshot, checkpoint) == ({"n": 1}, VALUES)
    assert [r["seq"] for r in records] == [1, 2]
    assert again.damaged_bytes == len(raw)


def test_a_length_that_damage_claims_is_not_read_at_once(tmp_path, monkeypatch):
    """MicroPython would take 8 kB of heap for it: a running meter has no such piece."""
    journal = began(tmp_path)
    append(journal)
    journal.close()
    head = struct.pack("<BBBBHIIII", 0xB7, 2, 3, 1, 8192, 2, 1, 0, 0)
    with (tmp_path / "log-00000001").open("ab") as file:
        file.write(head + bytes(9000))
    longest = []

    class Watched:
        def __init__(self, *arguments):
            self.file = open(*arguments)  # noqa: PTH123, SIM115

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_error):
            self.file.close()

        def read(self, size):
            longest.append(size)
            return self.file.read(size)

    monkeypatch.setattr(files, "open", Watched, raising=False)
    again, _, _, records = reopened(tmp_path)
    assert [r["seq"] for r in records] == [1]
    assert again.damaged_bytes == len(head) + 9000
    assert max(longest) == 256


def test_noise_in_every_file_never_stops_a_start(tmp_path):
    rng = random.Random(1)
    journal = began(tmp_path)
    journal.snapshot({"n": 1})
    for number in range(50):
        append(journal, fields=block(number))
        journal.checkpoint(VALUES)
    journal.close()
    clean = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for _ in range(300):
        for path, raw in clean.items():
            noisy = bytearray(raw[: rng.randrange(len(raw) + 1)])
            for _ in range(rng.randrange(4)):
                if noisy:
                    noisy[rng.randrange(len(noisy))] ^= 1 << rng.randrange(8)
            path.write_bytes(noisy)
        again, snapshot, checkpoint, records = reopened(tmp_path)
        assert snapshot in (None, {"n": 1})
        assert checkpoint in (None, VALUES)
        for record in records:
            assert record["start_utc_s"] == T0_UTC_S + record["seq"] - 1
        again.close()


def test_the_folder_may_hold_other_files(tmp_path):
    (tmp_path / "log-zzzzzzzz").write_bytes(b"x")
    (tmp_path / "notes.json").write_text(json.dumps({}), encoding="utf-8")
    assert append(began(tmp_path)) == 1


# --- chain -----------------------------------------------------------------------------------


def raw_records(path):
    """(head, body, all bytes before the CRC) of each record of a sound file, by SPEC 5.2."""
    raw = path.read_bytes()
    at, found = 16, []
    while at < len(raw):
        head = struct.unpack_from("<BBBBHIIII", raw, at)
        end = at + 22 + head[4]
        assert zlib.crc32(raw[at:end]) == struct.unpack_from("<I", raw, end)[0]
        found.append((head, raw[at + 22 : end], raw[at:end]))
        at = end + 4
    return found


def test_a_ledger_record_carries_the_digest_of_the_one_before_over_boots_and_segments(tmp_path):
    link = bytes(16)
    for boot in range(3):
        journal, *_ = reopened(tmp_path, segment_bytes=600)
        journal.begin_boot()
        for number in range(6):
            append(journal)
            append(journal, "credit", credit(f"r-{boot}-{number}"))
        journal.close()
    count = 0
    wires = {wire["seq"]: wire for wire in reopened(tmp_path, segment_bytes=600)[3]}
    for path in sorted(tmp_path.glob("log-*")):
        assert path.read_bytes()[:4] == b"BJL\x02"
        for head, body, raw in raw_records(path):
            assert head[1] == 2
            assert head[3] == (3 if head[2] == 4 else 1)
            if head[2] == 4:
                assert body[:16] == link
                assert wires[head[5]]["prev"] == link.hex()
                link = hashlib.sha256(raw).digest()[:16]
                count += 1
    assert count == 18
    assert not any("prev" in wire for wire in wires.values() if wire["type"] == "block")


def test_snapshot_and_checkpoint_carry_the_chain(tmp_path):
    journal = began(tmp_path)
    append(journal, "credit", credit("r-1"))
    journal.snapshot({"n": 1})
    append(journal, "credit", credit("r-2"))
    journal.checkpoint(VALUES)
    first, second = (raw for *_, raw in raw_records(tmp_path / "log-00000001"))
    snapshot, checkpoint = raw_records(tmp_path / "ckpt-a")
    assert snapshot[1][:20] == struct.pack("<I", 1) + hashlib.sha256(first).digest()[:16]
    assert json.loads(snapshot[1][20:]) == {"n": 1}
    assert checkpoint[1] == struct.pack("<I", 2) + struct.pack(FORMAT, *VALUES)
    again, *_ = reopened(tmp_path)
    append(again, "credit", credit("r-3"))
    assert raw_records(tmp_path / "log-00000001")[2][1][:16] == hashlib.sha256(second).digest()[:16]


def mixed(folder, **options):
    """Ledger records at 2, 4, 5, 8 and 9, a snapshot behind 5, a checkpoint behind 9."""
    journal = began(folder, **options)
    for seq in range(1, 11):
        if seq in (2, 4, 5, 8, 9):
            append(journal, "credit", credit(f"r-{seq}"))
        else:
            append(journal)
        if seq == 5:
            journal.snapshot({"n": 1})
    journal.checkpoint(VALUES)
    journal.close()


def spoil(folder, seq):
    """Flips a bit in the middle of a record."""
    for path in folder.glob("log-*"):
        raw = bytearray(path.read_bytes())
        at = 16
        for head, body, _raw in raw_records(path):
            if head[5] == seq:
                raw[at + 40] ^= 4
                path.write_bytes(raw)
                return
            at += 26 + len(body)
    raise AssertionError(seq)


@pytest.mark.parametrize("seq", range(1, 11))
def test_a_missing_ledger_record_is_noticed_and_another_is_not_taken_for_one(tmp_path, seq):
    mixed(tmp_path)
    assert not reopened(tmp_path)[0].ledger_missing
    spoil(tmp_path, seq)
    again, *_ = reopened(tmp_path)
    assert again.ledger_missing == (seq in (2, 4, 5, 8, 9))


def test_a_resync_record_makes_good_what_is_missing_before_it(tmp_path):
    mixed(tmp_path)
    spoil(tmp_path, 4)
    again, *_ = reopened(tmp_path)
    again.begin_boot()
    fields = {"id": "s-1", "counter": 9, "document": {}, **REGISTERS}
    append(again, "resync", fields)
    append(again, "credit", credit("r-11"))
    assert not reopened(tmp_path)[0].ledger_missing
    spoil(tmp_path, again.last_seq)
    again, *_ = reopened(tmp_path)
    assert again.ledger_missing is False  # the last one: only a count kept elsewhere knows
    assert again.tail_missing


def test_a_lost_tail_is_noticed_by_the_count_in_a_checkpoint(tmp_path):
    mixed(tmp_path)
    path = tmp_path / "log-00000001"
    path.write_bytes(path.read_bytes()[: 16 + 3 * BLOCK_BYTES])
    again, *_ = reopened(tmp_path)
    assert again.ledger_missing and again.tail_missing
    assert again.last_seq >= 10


def test_without_a_snapshot_the_whole_log_from_its_first_record_is_enough(tmp_path):
    mixed(tmp_path)
    (tmp_path / "ckpt-a").write_bytes(b"")
    assert not reopened(tmp_path)[0].ledger_missing
    for path in tmp_path.glob("ckpt-*"):
        path.unlink()
    again, snapshot, _, records = reopened(tmp_path)
    assert snapshot is None and len(records) == 10
    assert not again.ledger_missing and not again.formatted


def test_without_a_snapshot_and_the_oldest_segment_the_ledger_is_missing(tmp_path):
    mixed(tmp_path, segment_bytes=500)
    oldest = min(tmp_path.glob("log-*"))
    oldest.unlink()
    assert reopened(tmp_path)[0].ledger_missing is False  # the snapshot contains its records
    (tmp_path / "ckpt-a").unlink()
    assert reopened(tmp_path)[0].ledger_missing


def test_a_journal_that_no_head_names_takes_the_id_that_is_known_elsewhere(tmp_path):
    mixed(tmp_path)
    store = reopened(tmp_path)[0].store_id
    for path in tmp_path.iterdir():
        raw = bytearray(path.read_bytes())
        raw[5] ^= 1
        path.write_bytes(raw)
    journal = Journal(str(tmp_path), FORMAT)
    OPENED.append(journal)
    _, _, records = journal.open(store)
    assert [r["seq"] for r in records] == list(range(1, 11))
    assert journal.store_id == store
    assert not journal.formatted


def test_a_file_of_a_newer_format_is_left_alone(tmp_path):
    mixed(tmp_path)
    path = tmp_path / "log-00000001"
    raw = bytearray(path.read_bytes())
    raw[3] = 3
    raw[12:16] = struct.pack("<I", zlib.crc32(raw[:12]))
    path.write_bytes(raw)
    with pytest.raises(StorageError, match="newer format 3"):
        reopened(tmp_path)
    assert path.read_bytes() == raw


def test_numbers_that_a_second_place_knows_are_not_given_again(tmp_path):
    mixed(tmp_path)
    again, *_ = reopened(tmp_path)
    again.begin_boot()
    again.raise_floors(9, 10)
    assert (again.ledger_count, again.last_seq) == (9, 10)
    again.raise_floors(3, 500)
    assert append(again) == 1501
    assert reopened(tmp_path)[0].lost_records == 0  # written with the next checkpoint only
    assert again.lost_records == 1490
