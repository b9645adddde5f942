"""The journal: records that must reach the gateway, and checkpoints to start from after a cut.

Two families of files in one folder, docs/SPEC.md section 5 gives every byte, files.py reads them:

    log-SSSSSSSS      segments of records; the name is the first record's number in hex
    ckpt-a, ckpt-b    one snapshot of the state, then small checkpoints; the higher number counts

Invariants:
- What a method wrote is on flash when it returns. What it could not write is not in memory, and
  void on flash: a record does not count if its number is not below the next segment's first.
- A live file is never truncated, and nothing is appended behind bytes that are not a whole record:
  the log goes on in a new segment, the checkpoints in the other file.
- A number that damaged bytes may have carried is not given again, so two records never share one.
- A segment is dropped only when a snapshot contains its records.
- The records of the ledger are chained by digests: one that is missing is noticed, also behind a
  snapshot and when the oldest segments are gone.
- A file of an older format version is read and never written to.
- Memory does not grow with the journal, except for 8 bytes or so per order.

Tests: host_tests/unit/test_journal.py, host_tests/property/test_journal_model.py,
host_tests/vm/test_journal_on_littlefs.py.
"""

import json
import os
import struct
from binascii import crc32, hexlify, unhexlify

from firmware.core.records import LEDGER, ORDERED, code_of
from firmware.core.shim import const, encoded, part
from firmware.storage import packing
from firmware.storage.errors import JournalFull, fault, is_full
from firmware.storage.files import (
    CHAIN_BYTES,
    CHAINED,
    CHECKPOINT,
    CHECKPOINT_FAMILY,
    FILE_HEAD_BYTES,
    HEAD,
    LINK_BYTES,
    LOG_FAMILY,
    MAGIC,
    NO_LINK,
    PAYLOAD_MAX,
    RECORD_MIN_BYTES,
    SNAPSHOT,
    TIME_VALID,
    VERSION,
    digest_of,
    read_file_head,
    scan,
    size_of,
    wire_of,
    write_file_head,
    write_record,
)
from firmware.storage.packing import RecordError

SEGMENT_BYTES = const(32768)
LOG_BYTES = const(524288)
CHECKPOINT_FILE_BYTES = const(16384)
RETENTION_S = const(3024000)  # 35 days

# A restart reads what no snapshot contains: this bounds the time that it takes.
_REPLAY_RECORDS = const(400)
# More than are written between two notes of the number in a second place.
_SKIPPED = const(1000)

CHECKPOINT_FILES = ("ckpt-a", "ckpt-b")
_ENOENT = const(2)


class SnapshotNeeded(Exception):
    """A checkpoint without a sound file to append it to: write a snapshot first."""


class Journal:
    """The journal in one folder. Order of use: `open`, replay, `begin_boot`, then the rest.

    checkpoint_format: that of `struct` for the tuples that `checkpoint` takes; a later one only
    adds values at the end. The sizes in bytes are those of SPEC section 5; tests take small ones to
    see files change often.
    """

    def __init__(
        self,
        folder,
        checkpoint_format,
        log_bytes=LOG_BYTES,
        segment_bytes=SEGMENT_BYTES,
        checkpoint_file_bytes=CHECKPOINT_FILE_BYTES,
    ):
        self._folder = folder
        self._format = checkpoint_format
        self._segment_bytes = segment_bytes
        self._segments_max = log_bytes // segment_bytes
        self._checkpoint_file_bytes = checkpoint_file_bytes
        self.formatted = False  # True: open() found no journal and began one
        self.ledger_count = 0  # ledger records of this store that are chained
        # Ledger records are missing. Known when the replay of open() has been used up.
        self.ledger_missing = False
        # Numbers at the log's end whose records are lost: of which type they were is not known.
        self.tail_missing = False
        self.boot = 0
        self.last_seq = 0
        self.acked_seq = 0
        self.snapshot_seq = 0  # the snapshot contains every record up to this one
        self.checkpoint_seq = 0  # the last record when the checkpoint was written
        self.checkpoint_boot = 0  # the boot that wrote it, and the snapshot before it
        self.lost_records = 0  # records that ended unacknowledged, at least
        self.damaged_bytes = 0  # found by open()
        # Numbers without a record from the oldest unacknowledged one on, and behind any that is
        # there; known when the replay of open() has been used up.
        self.missing_records = 0
        self._store = None
        self._firsts = []  # first number of each segment
        self._log = None  # the newest segment, open; None: the next record begins one
        self._log_size = 0
        self._checkpoints = None  # the live checkpoint file, open; None: a snapshot is needed
        self._checkpoints_size = 0
        self._live = 1  # its place in CHECKPOINT_FILES
        self._generation = 0
        self._cursor = []  # (number, segment, offset behind it) of the records last read
        self._orders = {}  # digest of an order's id -> first segment that may hold it
        self._link = NO_LINK  # of the last ledger record
        self._snapshot_chain = None  # (count, digest) of the snapshot, None: it has none
        self._count_told = 0  # by the last checkpoint

    @property
    def store_id(self):
        """8 hex digits, made at random when the journal was begun."""
        return str(hexlify(self._store), "ascii")

    @property
    def snapshot_due(self):
        """True when the next checkpoint had better be a snapshot."""
        return (
            self._checkpoints is None
            or self._checkpoints_size > self._checkpoint_file_bytes
            or self.last_seq - self.snapshot_seq > _REPLAY_RECORDS
        )

    def open(self, store_id=None):
        """Returns (snapshot dict or None, checkpoint tuple or None, iterator of later records).

        The iterator gives wire dicts; use it up before the first append. It reads the whole log.
        `damaged_bytes` counts what was stepped over in the files that a start reads. `store_id`
        (8 hex digits): what to call the journal if no file knows it any more. Raises StorageError,
        also for a file of a newer format.
        """
        try:
            names = self._list()
            snapshot, checkpoint = self._open_checkpoints(names)
            self._open_log(names)
        except OSError as error:
            raise fault("open", error)
        checkpoints = [name for name in CHECKPOINT_FILES if name in names]
        self.formatted = not checkpoints and not self._firsts
        if snapshot is None and (checkpoints or self._firsts):
            # All of it must be there, from the first record on.
            self.ledger_missing = bool(checkpoints)
            records = self._log_records(0)
            for _first, record in records:
                self.ledger_missing = record[1][5] > 1
                break
            records.close()
        if self._store is None:
            known = store_id and not self.formatted
            self._store = unhexlify(store_id) if known else os.urandom(4)
        return snapshot, checkpoint, self._replay()

    def _list(self):
        try:
            return os.listdir(self._folder)
        except OSError as error:
            if error.errno != _ENOENT:
                raise
            os.mkdir(self._folder)
            return []

    def _open_checkpoints(self, names):
        found = []
        for live in (0, 1):
            if CHECKPOINT_FILES[live] in names:
                path = self._path(CHECKPOINT_FILES[live])
                store, generation, version = read_file_head(path, CHECKPOINT_FAMILY)
                found.append((generation, live, path, store, version))
        for generation, live, path, store, version in sorted(found, reverse=True):
            snapshot, checkpoint, sound = self._read_state(path) if store else (None, None, 0)
            size = size_of(path)
            if snapshot is None:
                self.damaged_bytes += size
                continue
            self.damaged_bytes += size - sound
            self._store, self._generation, self._live = store, generation, live
            if size == sound and version == VERSION:
                self._checkpoints = open(path, "ab")
                self._checkpoints_size = size
            return snapshot, checkpoint
        return None, None

    def _read_state(self, path):
        """(snapshot or None, checkpoint or None, bytes that are sound) of a checkpoint file."""
        snapshot = checkpoint = None
        sound = FILE_HEAD_BYTES
        for end, head, body in scan(path, sound):
            chained = head[3] & CHAINED
            if chained and head[2] == SNAPSHOT and len(body) < CHAIN_BYTES:
                break
            if snapshot is None:
                # The snapshot comes first; without it nothing in the file counts.
                if end != RECORD_MIN_BYTES + sound + len(body) or head[2] != SNAPSHOT:
                    break
                try:
                    start = CHAIN_BYTES if chained else 0
                    snapshot = json.loads(part(body, start, len(body)))
                except ValueError:
                    break
                self.snapshot_seq = head[5]
                if chained:
                    self._snapshot_chain = struct.unpack_from("<I16s", body)
                    self._count_told = self._snapshot_chain[0]
            elif head[2] == CHECKPOINT:
                # The values of an older firmware are the first ones; the others are 0.
                at = 4 if chained else 0
                short = at + struct.calcsize(self._format) - len(body)
                checkpoint = struct.unpack_from(self._format, body + bytes(max(0, short)), at)
                if chained:
                    self._count_told = struct.unpack_from("<I", body)[0]
            self.checkpoint_seq, self.boot, self.acked_seq, self.lost_records = head[5:]
            self.checkpoint_boot = self.boot
            sound += RECORD_MIN_BYTES + len(body)
        return snapshot, checkpoint, sound

    def _open_log(self, names):
        firsts = []
        for name in names:
            if name.startswith("log-") and len(name) == 12:
                try:
                    firsts.append(int(name[4:], 16))
                except ValueError:  # not a file of ours
                    pass
        self._firsts = sorted(firsts)
        floor = self._firsts[-1] - 1 if firsts else 0  # what came before the newest segment
        known, carried = floor, 0
        for first in reversed(self._firsts):
            path = self._segment_path(first)
            store, _first, version = read_file_head(path, LOG_FAMILY)
            self._store = self._store or store
            size = size_of(path)
            sound = FILE_HEAD_BYTES if store else 0
            behind, last, boot = FILE_HEAD_BYTES, 0, 0
            for end, head, body in scan(path, FILE_HEAD_BYTES):
                behind = end
                sound += RECORD_MIN_BYTES + len(body)
                last, boot = head[5], head[6]
            if first > floor:
                known = max(floor, last)
                carried = max(0, size - behind) // RECORD_MIN_BYTES
                self.damaged_bytes += size - sound
                if store and size == sound and version == VERSION:
                    self._log, self._log_size = open(path, "ab"), size
            self.boot = max(self.boot, boot)
            if last and self._store:
                break
        self.last_seq = max(known + carried, self.checkpoint_seq, self.acked_seq)
        self.lost_records += self.last_seq - known
        self.tail_missing = self.last_seq > known

    def _replay(self):
        """Reads the whole log: checks the chain, notes the orders, yields what is above the
        snapshot."""
        chain = self._snapshot_chain
        # What came before the oldest record is not known if it has been dropped.
        link = NO_LINK if not chain or self._firsts[:1] == [1] else None
        if chain:
            self.ledger_count = chain[0]
        seq = self._firsts[0] - 1 if self._firsts else self.acked_seq
        missing = max(0, seq - self.acked_seq)
        version = VERSION
        gap = False
        for first, record in self._log_records(0):
            _end, head, body = record
            if chain and head[5] > self.snapshot_seq:
                self._join(chain, link, gap or seq < self.snapshot_seq)
                chain, link = None, chain[1]
            new = head[5] > self.snapshot_seq
            if head[5] != seq + 1:
                gap = True
                missing += head[5] - seq - 1
                # What has no chain may have been of the ledger.
                if new and 1 in (version, head[1]):
                    self.ledger_missing = True
            seq, version = head[5], head[1]
            if head[3] & CHAINED:
                if link is not None and link != body[:LINK_BYTES]:
                    self.ledger_missing = True
                link = digest_of(struct.pack(HEAD, *head), body)
                if new:
                    self.ledger_count += 1
                if head[2] == packing.RESYNC_CODE:
                    self.ledger_missing = False  # it says anew what the missing ones said
            ordered = head[2] in packing.ORDER_CODES
            wire = wire_of(record) if new or ordered else None
            if wire:
                if ordered:
                    self._orders.setdefault(order_digest(wire["id"]), first)
                if new:
                    yield wire
        if chain:
            self._join(chain, link, gap or seq < self.snapshot_seq)
            link = chain[1]
        self._link = link or NO_LINK
        self.missing_records = missing + self.last_seq - seq
        if self.ledger_count < self._count_told or (version == 1 and self.tail_missing):
            self.ledger_missing = True

    def _join(self, chain, link, gap):
        """The log up to the snapshot must end as the snapshot says."""
        if link != chain[1] if link is not None else gap:
            self.ledger_missing = True

    def close(self):
        """Closes the files. Nothing is pending in them."""
        for file in (self._log, self._checkpoints):
            if file is not None:
                file.close()
        self._log = self._checkpoints = None

    def _path(self, name):
        return self._folder + "/" + name

    def _segment_path(self, first):
        return self._folder + "/log-%08x" % first

    def _log_records(self, seq):
        """Yields (segment, record) of the whole records above `seq`, in their order."""
        start, offset = 0, FILE_HEAD_BYTES
        for at, first, end in self._cursor:
            if at == seq:
                start, offset = first, end
        firsts = list(self._firsts)
        for i, first in enumerate(firsts):
            bound = firsts[i + 1] if i + 1 < len(firsts) else self.last_seq + 1
            if bound <= seq + 1 or first < start:
                continue
            for record in scan(
                self._segment_path(first), offset if first == start else FILE_HEAD_BYTES
            ):
                # From `bound` on a record is void: its append was reported as failed.
                if seq < record[1][5] < bound:
                    seq = record[1][5]
                    yield first, record

    def begin_boot(self):
        """Returns this boot's number. On flash with the boot's first record or snapshot."""
        self.boot += 1
        return self.boot

    def raise_floors(self, ledger_count, seq):
        """Takes what a second place knows of this store: so many ledger records were written, and
        record `seq`. Numbers above it may have been given too, so some are left out."""
        self.ledger_count = max(self.ledger_count, ledger_count)
        if seq > self.last_seq:
            skipped = seq + _SKIPPED - self.last_seq
            self.lost_records += skipped
            self.missing_records += skipped
            self.last_seq += skipped

    def append(self, name, fields, utc_s, time_valid, up_s):
        """Writes a record and returns its number. On flash on return.

        Raises RecordError (the table does not hold it), JournalFull or StorageError; then nothing
        has changed.
        """
        flags = TIME_VALID if time_valid else 0
        chained = name in LEDGER
        if chained:
            flags |= CHAINED
        code, payload = packing.pack(name, fields, self._link if chained else b"")
        if len(payload) > PAYLOAD_MAX:
            raise RecordError(name, "is too long")
        seq = self.last_seq + 1
        head = struct.pack(
            HEAD, MAGIC, VERSION, code, flags, len(payload), seq, self.boot, utc_s, up_s
        )
        # All that takes memory comes before the write: behind it nothing may fail.
        link = digest_of(head, payload) if chained else self._link
        if name in ORDERED:
            may_hold = self._firsts[-1] if self._firsts else seq
            self._orders.setdefault(order_digest(fields["id"]), may_hold)
        try:
            self._append(seq, head, payload, utc_s if time_valid else 0)
        except OSError as error:
            if not is_full(error) or not self._drop_oldest(False):
                raise fault("append", error)
            try:
                self._append(seq, head, payload, 0)
            except OSError as again:
                raise fault("append", again)
        self.last_seq = seq
        self._link = link
        if chained:
            self.ledger_count += 1
        return seq

    def _append(self, seq, head, body, now_utc_s):
        if self._log is None or (
            self._log_size + RECORD_MIN_BYTES + len(body) > self._segment_bytes
        ):
            self._begin_segment(seq, now_utc_s)
        # Whatever comes in between, also Ctrl-C: a part that is there stays the segment's last.
        file, self._log = self._log, None
        try:
            self._log_size += write_record(file, head, body)
            self._log = file
        finally:
            if self._log is None:
                _discard(file)

    def _begin_segment(self, seq, now_utc_s):
        self._log = _discard(self._log)
        while len(self._firsts) >= self._segments_max and self._drop_oldest(True):
            pass
        while self._oldest_expired(now_utc_s) and self._drop_oldest(False):
            pass
        # A file of this name holds no record that counts: it would have a lower number.
        file = open(self._segment_path(seq), "wb")
        if seq not in self._firsts:
            self._firsts.append(seq)
        try:
            write_file_head(file, LOG_FAMILY, self._store, seq)
            self._log, self._log_size = file, FILE_HEAD_BYTES
        finally:
            if self._log is None:
                _discard(file)

    def _oldest_expired(self, now_utc_s):
        if not now_utc_s or len(self._firsts) < 2:
            return False
        # The first record behind the segment is younger than all in it.
        records = scan(self._segment_path(self._firsts[1]), FILE_HEAD_BYTES)
        expired = False
        for _end, head, _payload in records:
            expired = bool(head[3] & TIME_VALID) and now_utc_s - head[7] > RETENTION_S
            break
        records.close()
        return expired

    def _drop_oldest(self, unacknowledged_too):
        """Deletes the oldest segment if a snapshot contains it; False if it must stay."""
        if len(self._firsts) < 2:
            return False
        last = self._firsts[1] - 1
        if last > self.snapshot_seq or (last > self.acked_seq and not unacknowledged_too):
            return False
        try:
            os.remove(self._segment_path(self._firsts[0]))
        except OSError:
            return False  # it is still there
        self.lost_records += max(0, last - max(self.acked_seq, self._firsts[0] - 1))
        self._firsts.pop(0)
        return True

    def checkpoint(self, values):
        """Writes the tuple `values` in the checkpoint format. On flash on return.

        Raises SnapshotNeeded or StorageError; then nothing has changed.
        """
        if self._checkpoints is None:
            raise SnapshotNeeded("no sound checkpoint file")
        payload = struct.pack(self._format, *values)
        if struct.unpack(self._format, payload) != tuple(values):
            raise RecordError("checkpoint", "does not fit " + self._format)
        file, self._checkpoints = self._checkpoints, None
        try:
            body = struct.pack("<I", self.ledger_count) + payload
            self._checkpoints_size += self._write_state(file, CHECKPOINT, body)
            self._checkpoints = file
        except OSError as error:
            raise fault("checkpoint", error)
        finally:
            if self._checkpoints is None:
                _discard(file)

    def snapshot(self, state):
        """Writes the whole state (a dict for JSON) and begins a new checkpoint file with it.

        Raises RecordError, JournalFull or StorageError; then the old snapshot still counts.
        """
        chain = struct.pack("<I16s", self.ledger_count, self._link)
        text = encoded(json.dumps(state, separators=(",", ":")))
        if len(chain) + len(text) > PAYLOAD_MAX:
            raise RecordError("snapshot", "is too long")
        try:
            self._snapshot(chain, text)
        except JournalFull:
            if not self._drop_oldest(False):
                raise
            self._snapshot(chain, text)

    def _snapshot(self, chain, text):
        live = 1 - self._live
        path = self._path(CHECKPOINT_FILES[live])
        file = None
        try:
            file = open(path, "wb")
            write_file_head(file, CHECKPOINT_FAMILY, self._store, self._generation + 1)
            size = self._write_state(file, SNAPSHOT, chain, text)
        except (OSError, MemoryError) as error:
            _discard(file)  # else the heap closes it some time, over what is written there next
            try:
                os.remove(path)
            except OSError:
                # It may count after a restart: the old file must not grow newer than it.
                self._checkpoints = _discard(self._checkpoints)
            raise fault("snapshot", error) if isinstance(error, OSError) else error
        _discard(self._checkpoints)
        self._checkpoints, self._checkpoints_size = file, FILE_HEAD_BYTES + size
        self._live = live
        self._generation += 1
        self.snapshot_seq = self.last_seq

    def _write_state(self, file, code, body, rest=b""):
        head = struct.pack(
            HEAD, MAGIC, VERSION, code, CHAINED, len(body) + len(rest),
            self.last_seq, self.boot, self.acked_seq, self.lost_records,
        )  # fmt: skip
        return write_record(file, head, body, rest)

    def acknowledge(self, seq):
        """The gateway has committed all records up to `seq`. On flash with the next checkpoint."""
        if self.acked_seq < seq <= self.last_seq:
            self.acked_seq = seq

    def rewind(self, seq):
        """The records above `seq` wait again for the gateway, as far as they are still there. On
        flash with the next checkpoint."""
        oldest = self._firsts[0] - 1 if self._firsts else seq
        self.acked_seq = min(self.acked_seq, max(seq, oldest))

    def records_after(self, seq, limit, without=None):
        """Up to `limit` wire dicts of the records above `seq`, without a type.

        Going on from any record of the last answer costs no search. Raises StorageError.
        """
        left_out = code_of(without) if without else -1
        wires = []
        cursor = []
        records = self._log_records(seq)
        try:
            for first, record in records:
                wire = None if record[1][2] == left_out else wire_of(record)
                if wire:
                    wires.append(wire)
                    cursor.append((wire["seq"], first, record[0]))
                if len(wires) == limit:
                    break
        except OSError as error:
            raise fault("read", error)
        finally:
            records.close()
        if cursor:
            self._cursor = cursor
        return wires

    def find_order(self, order_id):
        """The first record (of types ORDERED) with this id as a wire dict, or None.

        The start has noted the ids' digests; only where this one was met is the log read. Ids of
        segments that were dropped are not known any more. Raises StorageError.
        """
        digest = order_digest(order_id)
        found = None
        try:
            if digest in self._orders:
                orders = self._orders_from(self._orders[digest] - 1)
                for _first, wire in orders:
                    if wire["id"] == order_id:
                        found = wire
                        break
                orders.close()
        except OSError as error:
            raise fault("read", error)
        return found

    def _orders_from(self, seq):
        for first, record in self._log_records(seq):
            if record[1][2] in packing.ORDER_CODES:
                wire = wire_of(record)
                if wire:
                    yield first, wire


def order_digest(order_id):
    return crc32(order_id.encode()) & 0x3FFFFFFF  # a small integer


def _discard(file):
    """Closes a file whose last write may have failed; returns None."""
    if file is not None:
        try:
            file.close()
        except OSError:  # it says again what the write said
            pass
    return None
