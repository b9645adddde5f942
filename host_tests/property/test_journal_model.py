"""The journal against a model of a few lines, through power cuts, torn writes and flipped bits."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from firmware.core.records import LEDGER
from firmware.storage import errors as errors_module
from firmware.storage.journal import Journal

FORMAT = "<QIiI"
# Small, so that a short run crosses segments and changes the checkpoint file.
SIZES = {"segment_bytes": 700, "checkpoint_file_bytes": 300}
RECORD_MIN_BYTES = 26

order_ids = st.text("abc", min_size=1, max_size=36)


@pytest.fixture(autouse=True, scope="module")
def small_and_fast():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(errors_module, "_fsync", None)
        yield


class JournalMachine(RuleBasedStateMachine):
    """`records`, `snapshot` and `checkpoint` are the model: what the journal must still know."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="journal-"))
        self.records = {}
        self.snapshot = (None, 0)
        self.checkpoint = None
        self.known_seq = 0  # the highest number that a checkpoint file names
        self.acked = (0, 0)  # in memory, on flash
        self.boot = 0
        self.store_id = None
        self.faulted = False
        self.journal = None

    def teardown(self):
        self.journal.close()
        shutil.rmtree(self.folder)

    @initialize()
    def start(self):
        self.power_cut()

    # --- verbs ---

    @rule(order_id=order_ids, kind=st.sampled_from(["recharge", "refund"]), time=st.booleans())
    def append_credit(self, order_id, kind, time):
        fields = {
            "kind": kind,
            "id": order_id,
            "counter": len(self.records),
            "amount_mp": -5,
            "import_wh": 2**40,
            "balance_mp": -(2**40),
        }
        self.append("credit", fields, time)

    @rule(code=st.integers(0, 65535), detail=st.integers(-(2**63), 2**63 - 1))
    def append_event(self, code, detail):
        fields = {"code": code, "detail": detail, "import_wh": 1, "balance_mp": 2}
        self.append("event", {**fields, "voltage_mv": -1, "current_ma": 3}, True)

    def append(self, name, fields, time_valid):
        seq = self.journal.append(name, fields, 1_767_600_000, time_valid, 9)
        assert seq == self.journal.last_seq
        assert seq > max(self.records, default=0)
        envelope = {"seq": seq, "boot": self.boot, "utc_s": 1_767_600_000, "up_s": 9}
        envelope["time_valid"] = int(time_valid)
        if name in LEDGER:
            # Taken from what it wrote: what a link must be is tested byte for byte elsewhere.
            envelope["prev"] = self.journal.records_after(seq - 1, 1)[0]["prev"]
        self.records[seq] = {**envelope, "type": name, **fields}

    @rule(state=st.dictionaries(order_ids, st.integers(0, 2**60), max_size=3))
    def write_snapshot(self, state):
        self.journal.snapshot(state)
        self.snapshot = (state, self.journal.last_seq)
        self.checkpoint = None
        self.flash_acknowledgement()

    @precondition(lambda self: not self.journal.snapshot_due)
    @rule(wh=st.integers(0, 2**64 - 1), grace_s=st.integers(-(2**31), 2**31 - 1))
    def write_checkpoint(self, wh, grace_s):
        self.checkpoint = (wh, 3_599_999_999, grace_s, 7)
        self.journal.checkpoint(self.checkpoint)
        self.flash_acknowledgement()

    def flash_acknowledgement(self):
        self.acked = (self.acked[0], self.acked[0])
        self.known_seq = self.journal.last_seq

    @rule(back=st.integers(0, 5))
    def acknowledge(self, back):
        seq = self.journal.last_seq - back
        self.journal.acknowledge(seq)
        self.acked = (max(self.acked[0], seq), self.acked[1])

    # --- faults ---

    @rule()
    def power_cut(self):
        self.reopen(faulted=False)
        assert self.faulted or self.journal.damaged_bytes == 0
        self.check_state()

    @rule(part=st.floats(0, 1, exclude_max=True), order_id=order_ids)
    def cut_inside_an_append(self, part, order_id):
        before = dict(self.records)
        sizes = self.sizes()
        self.append_credit(order_id, "recharge", True)
        seq = max(self.records)
        self.tear(sizes, part)
        self.records = before
        self.reopen()
        assert set(self.survivors()) == set(before)
        assert self.journal.last_seq < seq or self.journal.damaged_bytes >= RECORD_MIN_BYTES
        self.check_state()

    @precondition(lambda self: not self.journal.snapshot_due)
    @rule(part=st.floats(0, 1, exclude_max=True), wh=st.integers(0, 2**64 - 1))
    def cut_inside_a_checkpoint(self, part, wh):
        before = self.checkpoint, self.acked, self.known_seq
        sizes = self.sizes()
        self.write_checkpoint(wh, 0)
        self.tear(sizes, part)
        self.checkpoint, self.acked, self.known_seq = before
        self.reopen()
        self.check_state()

    @rule(part=st.floats(0, 1, exclude_max=True))
    def cut_inside_a_snapshot(self, part):
        before = self.snapshot, self.checkpoint, self.acked, self.known_seq
        other = {path: path.read_bytes() for path in self.folder.glob("ckpt-*")}
        self.write_snapshot({"new": 1})
        live = max(
            self.folder.glob("ckpt-*"), key=lambda path: path.read_bytes() != other.get(path)
        )
        raw = live.read_bytes()
        live.write_bytes(raw[: int(len(raw) * part)])
        self.snapshot, self.checkpoint, self.acked, self.known_seq = before
        self.reopen()
        self.check_state()

    # Not where a bit was flipped before: the same again would bring a record back.
    @precondition(lambda self: self.records and self.journal.damaged_bytes == 0)
    @rule(part=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def flip_a_bit_of_the_newest_segment(self, part, bit):
        path = max(self.folder.glob("log-*"))
        raw = bytearray(path.read_bytes())
        if not raw:
            return  # begun, but its first record was torn away
        raw[int(len(raw) * part)] ^= 1 << bit
        path.write_bytes(raw)
        ever = max(self.records)
        self.reopen()
        survivors = self.survivors()
        assert len(survivors) >= len(self.records) - 1
        assert self.journal.damaged_bytes > 0
        assert self.journal.last_seq >= ever
        self.records = survivors
        self.check_state()

    @precondition(lambda self: self.records)
    @rule(part=st.floats(0, 1, exclude_max=True))
    def truncate_the_newest_segment(self, part):
        path = max(self.folder.glob("log-*"))
        raw = path.read_bytes()
        path.write_bytes(raw[: int(len(raw) * part)])
        self.reopen()
        survivors = self.survivors()
        newest = int(path.name[4:], 16)
        # Only what lay behind the cut is gone, and no number that a checkpoint knows comes again.
        assert all(seq in survivors for seq in self.records if seq < newest)
        assert sorted(survivors) == sorted(self.records)[: len(survivors)]
        assert self.journal.last_seq >= self.known_seq
        self.records = survivors
        self.check_state()

    # --- checks ---

    def sizes(self):
        return {path: path.stat().st_size for path in self.folder.iterdir()}

    def tear(self, before, part):
        """Cuts the file that has grown somewhere inside what it has grown by."""
        grown = [p for p, size in self.sizes().items() if size != before.get(p, 0)]
        assert len(grown) == 1
        raw = grown[0].read_bytes()
        start = before.get(grown[0], 0)
        grown[0].write_bytes(raw[: start + int((len(raw) - start) * part)])

    def reopen(self, faulted=True):
        self.faulted = self.faulted or faulted
        if self.journal:
            self.journal.close()
        self.journal = Journal(str(self.folder), FORMAT, **SIZES)
        self.opened = self.journal.open()
        self.replayed = list(self.opened[2])
        assert self.journal.begin_boot() <= self.boot + 1
        self.boot = self.journal.boot

    def survivors(self):
        found = {wire["seq"]: wire for wire in self.journal.records_after(0, 10**6)}
        for seq, wire in found.items():
            assert wire == self.records[seq]
        return found

    def check_state(self):
        assert self.opened[0] == self.snapshot[0]
        assert self.opened[1] == self.checkpoint
        later = [self.records[seq] for seq in sorted(self.records) if seq > self.snapshot[1]]
        assert self.replayed == later
        assert self.journal.acked_seq == self.acked[1]
        self.acked = (self.acked[1], self.acked[1])
        # The id stands in each file's head: without a checkpoint file, in one head only.
        if self.snapshot[0] is not None:
            assert self.store_id in (None, self.journal.store_id)
            self.store_id = self.journal.store_id

    @invariant()
    def every_record_is_there(self):
        if self.journal:
            assert self.survivors().keys() == self.records.keys()

    @rule(limit=st.integers(1, 20), take=st.integers(1, 20))
    def drain(self, limit, take):
        seq, seen = 0, []
        while batch := self.journal.records_after(seq, limit)[:take]:
            seen += [wire["seq"] for wire in batch]
            seq = seen[-1]
        assert seen == sorted(self.records)

    @rule(order_id=order_ids)
    def find_any_order(self, order_id):
        ids = {wire["id"] for wire in self.records.values() if "id" in wire} | {order_id}
        for wanted in ids:
            first = [w for _, w in sorted(self.records.items()) if w.get("id") == wanted][:1]
            assert self.journal.find_order(wanted) == (first[0] if first else None)


JournalMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, print_blob=True
)
TestJournal = JournalMachine.TestCase
