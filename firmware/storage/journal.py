"""The journal: records that must reach the gateway, and checkpoints to start from after a cut.

Two families of files in one folder, docs/SPEC.md section 5 gives every byte:

    log-SSSSSSSS      segments of records; the name is the first record's number in hex
    ckpt-a, ckpt-b    one snapshot of the state, then small checkpoints; the higher number counts

Invariants:
- What a method wrote is on flash when it returns. What it could not write is not in memory, and
  void on flash: a record does not count if its number is not below the next segment's first.
- A live file is never truncated, and nothing is appended behind bytes that are not a whole record:
  the log goes on in a new segment, the checkpoints in the other file.
- A number that damaged bytes may have carried is not given again, so two records never share one.
- A segment is dropped only when a snapshot contains its records.
- Memory does not grow with the journal, except for 8 bytes or so per order.

Tests: host_tests/unit/test_journal.py, host_tests/property/test_journal_model.py,
host_tests/vm/test_journal_on_littlefs.py.
"""

import json
import os
import struct
from binascii import crc32, hexlify

from firmware.core.records import ORDERED
from firmware.core.shim import const
from firmware.storage import packing
from firmware.storage.packing import RecordError

SEGMENT_BYTES = const(32768)
LOG_BYTES = const(524288)
CHECKPOINT_FILE_BYTES = const(16384)
RETENTION_S = const(3024000)  # 35 days
PAYLOAD_MAX = const(8192)

# A restart reads what no snapshot contains: this bounds the time that it takes.
_REPLAY_RECORDS = const(400)

_VERSION = const(1)
_MAGIC = const(0xB7)
_ENOENT = const(2)
_ENOSPC = const(28)  # MicroPython's errno module does not name it
_FILE_HEAD = "<BBBB4sI"  # 'B', 'J', family, version, store id, number
_FILE_HEAD_BYTES = const(16)  # with its CRC
_HEAD = "<BBBBHIIII"  # magic, version, type, flags, payload length, seq, boot, two more by family
_HEAD_BYTES = const(22)
_RECORD_MIN_BYTES = const(26)  # with its CRC
_TIME_VALID = const(1)
_SNAPSHOT = const(0xF0)
_CHECKPOINT = const(0xF1)
_LOG_FAMILY = const(0x4C)
_CHECKPOINT_FAMILY = const(0x43)
_CHECKPOINT_FILES = ("ckpt-a", "ckpt-b")

# On MicroPython's littlefs `flush` commits; elsewhere the system's cache must be written too.
_fsync = getattr(os, "fsync", None)


class StorageError(Exception):
    """A flash operation failed and changed nothing: `errno` is the file system's number."""

    def __init__(self, what, number):
        super().__init__("%s failed, errno %d" % (what, number))
        self.errno = number


class JournalFull(StorageError):
    """There is no room, and nothing that may be dropped."""


class SnapshotNeeded(Exception):
    """A checkpoint without a sound file to append it to: write a snapshot first."""


def _sync(file):
    file.flush()
    if _fsync is not None:
        _fsync(file.fileno())


def _fault(what, error):
    kind = JournalFull if error.errno == _ENOSPC else StorageError
    return kind(what, error.errno or 0)


def _write_file_head(file, family, store, number):
    head = struct.pack(_FILE_HEAD, 0x42, 0x4A, family, _VERSION, store, number)
    file.write(head)
    file.write(struct.pack("<I", crc32(head)))


def _read_file_head(path, family):
    """(store id, number) of a file of ours; (None, 0) if its head is not sound."""
    try:
        with open(path, "rb") as file:
            raw = file.read(_FILE_HEAD_BYTES)
    except OSError:  # unreadable is as good as damaged: the rest of the journal still counts
        return None, 0
    if len(raw) == _FILE_HEAD_BYTES and crc32(raw[:-4]) == struct.unpack("<I", raw[-4:])[0]:
        head = struct.unpack(_FILE_HEAD, raw[:-4])
        if head[:4] == (0x42, 0x4A, family, _VERSION):
            return head[4], head[5]
    return None, 0


def _write_record(file, head, payload):
    """Writes a record and waits until it is on flash; returns its size."""
    file.write(head)
    file.write(payload)
    file.write(struct.pack("<I", crc32(payload, crc32(head))))
    _sync(file)
    return _RECORD_MIN_BYTES + len(payload)


def _read_record(file):
    """(head, payload) of the record at the file's position; None: damaged; (): end of file."""
    try:
        raw = file.read(_HEAD_BYTES)
        if not raw:
            return ()
        if len(raw) < _HEAD_BYTES:
            return None
        head = struct.unpack(_HEAD, raw)
        if head[0] != _MAGIC or head[1] != _VERSION or head[4] > PAYLOAD_MAX:
            return None
        payload = file.read(head[4])
        crc = file.read(4)
    except OSError:  # a block that cannot be read is damage, not a reason to stop the meter
        return None
    if len(crc) == 4 and struct.unpack("<I", crc)[0] == crc32(payload, crc32(raw)):
        return head, payload
    return None


def _scan(path, offset):
    """Yields (offset of its end, head, payload) of each whole record; steps over what is none."""
    with open(path, "rb") as file:
        file.seek(offset)
        while True:
            record = _read_record(file)
            if record == ():
                return
            if record:
                offset += _RECORD_MIN_BYTES + record[0][4]
                yield offset, record[0], record[1]
                continue
            try:
                file.seek(offset + 1)
                piece = file.read(256)
                found = piece.find(b"\xb7")
                offset += 1 + (found if found >= 0 else len(piece))
                file.seek(offset)
            except OSError:
                return
            if not piece:
                return


def _wire(record):
    """The dict of SPEC 2.1; None for a record of a type that this firmware does not know."""
    head = record[1]
    wire = {
        "seq": head[5],
        "boot": head[6],
        "utc_s": head[7],
        "time_valid": head[3] & _TIME_VALID,
        "up_s": head[8],
    }
    return wire if packing.unpack(head[2], record[2], wire) else None


class Journal:
    """The journal in one folder. Order of use: `open`, replay, `begin_boot`, then the rest.

    checkpoint_format: that of `struct` for the tuples that `checkpoint` takes. The sizes in bytes
    are those of SPEC section 5; tests take small ones to see files change often.
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
        self.boot = 0
        self.last_seq = 0
        self.acked_seq = 0
        self.snapshot_seq = 0  # the snapshot contains every record up to this one
        self.checkpoint_seq = 0  # the last record when the checkpoint was written
        self.lost_records = 0  # records that ended unacknowledged, at least
        self.damaged_bytes = 0  # found by open()
        self._store = None
        self._firsts = []  # first number of each segment
        self._log = None  # the newest segment, open; None: the next record begins one
        self._log_size = 0
        self._checkpoints = None  # the live checkpoint file, open; None: a snapshot is needed
        self._checkpoints_size = 0
        self._live = 1  # its place in _CHECKPOINT_FILES
        self._generation = 0
        self._cursor = []  # (number, segment, offset behind it) of the records last read
        self._orders = None  # digest of an order's id -> first segment that may hold it

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

    def open(self):
        """Returns (snapshot dict or None, checkpoint tuple or None, iterator of later records).

        The iterator gives wire dicts; use it up before the first append. `damaged_bytes` counts
        what was stepped over in the files that a start reads. Raises StorageError.
        """
        try:
            names = self._list()
            snapshot, checkpoint = self._open_checkpoints(names)
            self._open_log(names)
        except OSError as error:
            raise _fault("open", error)
        if self._store is None:
            self._store = os.urandom(4)
            self.formatted = True
        return snapshot, checkpoint, self._replay()

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
            if _CHECKPOINT_FILES[live] in names:
                path = self._path(_CHECKPOINT_FILES[live])
                store, generation = _read_file_head(path, _CHECKPOINT_FAMILY)
                found.append((generation, live, path, store))
        for generation, live, path, store in sorted(found, reverse=True):
            snapshot = checkpoint = None
            sound = _FILE_HEAD_BYTES
            for end, head, payload in _scan(path, sound) if store else ():
                if snapshot is None:
                    # The snapshot comes first; without it nothing in the file counts.
                    if end != _RECORD_MIN_BYTES + sound + len(payload) or head[2] != _SNAPSHOT:
                        break
                    snapshot = json.loads(payload)
                    self.snapshot_seq = head[5]
                elif head[2] == _CHECKPOINT and len(payload) == struct.calcsize(self._format):
                    checkpoint = struct.unpack(self._format, payload)
                self.checkpoint_seq, self.boot, self.acked_seq, self.lost_records = head[5:]
                sound += _RECORD_MIN_BYTES + len(payload)
            size = os.stat(path)[6]
            if snapshot is None:
                self.damaged_bytes += size
                continue
            self.damaged_bytes += size - sound
            self._store, self._generation, self._live = store, generation, live
            if size == sound:
                self._checkpoints = open(path, "ab")
                self._checkpoints_size = size
            return snapshot, checkpoint
        return None, None

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
            store = _read_file_head(path, _LOG_FAMILY)[0]
            self._store = self._store or store
            size = os.stat(path)[6]
            sound = _FILE_HEAD_BYTES if store else 0
            behind, last, boot = _FILE_HEAD_BYTES, 0, 0
            for end, head, payload in _scan(path, _FILE_HEAD_BYTES):
                behind = end
                sound += _RECORD_MIN_BYTES + len(payload)
                last, boot = head[5], head[6]
            if first > floor:
                known = max(floor, last)
                carried = max(0, size - behind) // _RECORD_MIN_BYTES
                self.damaged_bytes += size - sound
                if store and size == sound:
                    self._log, self._log_size = open(path, "ab"), size
            self.boot = max(self.boot, boot)
            if last and self._store:
                break
        self.last_seq = max(known + carried, self.checkpoint_seq, self.acked_seq)
        self.lost_records += self.last_seq - known

    def _replay(self):
        for _first, record in self._log_records(self.snapshot_seq):
            wire = _wire(record)
            if wire:
                yield wire

    def _log_records(self, seq):
        """Yields (segment, record) of the whole records above `seq`, in their order."""
        start, offset = 0, _FILE_HEAD_BYTES
        for at, first, end in self._cursor:
            if at == seq:
                start, offset = first, end
        firsts = list(self._firsts)
        for i, first in enumerate(firsts):
            bound = firsts[i + 1] if i + 1 < len(firsts) else self.last_seq + 1
            if bound <= seq + 1 or first < start:
                continue
            for record in _scan(
                self._segment_path(first), offset if first == start else _FILE_HEAD_BYTES
            ):
                # From `bound` on a record is void: its append was reported as failed.
                if seq < record[1][5] < bound:
                    seq = record[1][5]
                    yield first, record

    def begin_boot(self):
        """Returns this boot's number. On flash with the boot's first record or snapshot."""
        self.boot += 1
        return self.boot

    def append(self, name, fields, utc_s, time_valid, up_s):
        """Writes a record and returns its number. On flash on return.

        Raises RecordError (the table does not hold it), JournalFull or StorageError; then nothing
        has changed.
        """
        code, payload = packing.pack(name, fields)
        if len(payload) > PAYLOAD_MAX:
            raise RecordError(name, "is too long")
        flags = _TIME_VALID if time_valid else 0
        seq = self.last_seq + 1
        head = struct.pack(
            _HEAD, _MAGIC, _VERSION, code, flags, len(payload), seq, self.boot, utc_s, up_s
        )
        try:
            self._append(seq, head, payload, utc_s if time_valid else 0)
        except OSError as error:
            if error.errno != _ENOSPC or not self._drop_oldest(False):
                raise _fault("append", error)
            try:
                self._append(seq, head, payload, 0)
            except OSError as again:
                raise _fault("append", again)
        self.last_seq = seq
        if self._orders is not None and name in ORDERED:
            self._orders.setdefault(_order_digest(fields["id"]), self._firsts[-1])
        return seq

    def _append(self, seq, head, payload, now_utc_s):
        try:
            size = _RECORD_MIN_BYTES + len(payload)
            if self._log is None or self._log_size + size > self._segment_bytes:
                self._begin_segment(seq, now_utc_s)
            self._log_size += _write_record(self._log, head, payload)
        except OSError:
            # Whatever part of it is there must stay the last of its segment.
            self._log = _discard(self._log)
            raise

    def _begin_segment(self, seq, now_utc_s):
        self._log = _discard(self._log)
        while len(self._firsts) >= self._segments_max and self._drop_oldest(True):
            pass
        while self._oldest_expired(now_utc_s) and self._drop_oldest(False):
            pass
        # A file of this name holds no record that counts: it would have a lower number.
        self._log = open(self._segment_path(seq), "wb")
        if seq not in self._firsts:
            self._firsts.append(seq)
        _write_file_head(self._log, _LOG_FAMILY, self._store, seq)
        self._log_size = _FILE_HEAD_BYTES

    def _oldest_expired(self, now_utc_s):
        if not now_utc_s or len(self._firsts) < 2:
            return False
        # The first record behind the segment is younger than all in it.
        records = _scan(self._segment_path(self._firsts[1]), _FILE_HEAD_BYTES)
        expired = False
        for _end, head, _payload in records:
            expired = bool(head[3] & _TIME_VALID) and now_utc_s - head[7] > RETENTION_S
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
        os.remove(self._segment_path(self._firsts[0]))
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
        try:
            self._checkpoints_size += self._write_state(self._checkpoints, _CHECKPOINT, payload)
        except OSError as error:
            self._checkpoints = _discard(self._checkpoints)
            raise _fault("checkpoint", error)

    def snapshot(self, state):
        """Writes the whole state (a dict for JSON) and begins a new checkpoint file with it.

        Raises RecordError, JournalFull or StorageError; then the old snapshot still counts.
        """
        payload = json.dumps(state).encode()
        if len(payload) > PAYLOAD_MAX:
            raise RecordError("snapshot", "is too long")
        live = 1 - self._live
        path = self._path(_CHECKPOINT_FILES[live])
        file = None
        try:
            file = open(path, "wb")
            _write_file_head(file, _CHECKPOINT_FAMILY, self._store, self._generation + 1)
            size = self._write_state(file, _SNAPSHOT, payload)
        except OSError as error:
            _discard(file)
            try:
                os.remove(path)
            except OSError:
                # It may count after a restart: the old file must not grow newer than it.
                self._checkpoints = _discard(self._checkpoints)
            raise _fault("snapshot", error)
        _discard(self._checkpoints)
        self._checkpoints, self._checkpoints_size = file, _FILE_HEAD_BYTES + size
        self._live = live
        self._generation += 1
        self.snapshot_seq = self.last_seq

    def _write_state(self, file, code, payload):
        head = struct.pack(
            _HEAD, _MAGIC, _VERSION, code, 0, len(payload),
            self.last_seq, self.boot, self.acked_seq, self.lost_records,
        )  # fmt: skip
        return _write_record(file, head, payload)

    def acknowledge(self, seq):
        """The gateway has committed all records up to `seq`. On flash with the next checkpoint."""
        if self.acked_seq < seq <= self.last_seq:
            self.acked_seq = seq

    def records_after(self, seq, limit):
        """Up to `limit` wire dicts of the records above `seq`.

        Going on from any record of the last answer costs no search. Raises StorageError.
        """
        wires = []
        cursor = []
        records = self._log_records(seq)
        try:
            for first, record in records:
                wire = _wire(record)
                if wire:
                    wires.append(wire)
                    cursor.append((wire["seq"], first, record[0]))
                if len(wires) == limit:
                    break
        except OSError as error:
            raise _fault("read", error)
        finally:
            records.close()
        if cursor:
            self._cursor = cursor
        return wires

    def find_order(self, order_id):
        """The first record (of types ORDERED) with this id as a wire dict, or None.

        The first call after a start reads the whole log; later ones read on only where the id's
        digest was met. Raises StorageError.
        """
        digest = _order_digest(order_id)
        found = None
        try:
            if self._orders is None:
                orders = {}
                for first, wire in self._orders_from(0):
                    orders.setdefault(_order_digest(wire["id"]), first)
                self._orders = orders
            if digest in self._orders:
                orders = self._orders_from(self._orders[digest] - 1)
                for _first, wire in orders:
                    if wire["id"] == order_id:
                        found = wire
                        break
                orders.close()
        except OSError as error:
            raise _fault("read", error)
        return found

    def _orders_from(self, seq):
        for first, record in self._log_records(seq):
            if record[1][2] in packing.ORDER_CODES:
                wire = _wire(record)
                if wire:
                    yield first, wire


def _order_digest(order_id):
    return crc32(order_id.encode()) & 0x3FFFFFFF  # a small integer


def _discard(file):
    """Closes a file whose last write may have failed; returns None."""
    if file is not None:
        try:
            file.close()
        except OSError:  # it says again what the write said
            pass
    return None
