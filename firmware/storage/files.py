"""The bytes of the journal's files: heads and records, written, read and searched.

docs/SPEC.md section 5 gives every byte. Damage is stepped over here, a file of a newer format is
refused; what the records mean together is journal.py's. Tests: host_tests/unit/test_journal.py.
"""

import hashlib
import os
import struct
from binascii import crc32, hexlify

from firmware.core.shim import const, part
from firmware.storage import packing
from firmware.storage.errors import StorageError, sync

PAYLOAD_MAX = const(8192)
VERSION = const(2)  # of files and records; version 1 has no chain
MAGIC = const(0xB7)
FILE_HEAD = "<BBBB4sI"  # 'B', 'J', family, version, store id, number
FILE_HEAD_BYTES = const(16)  # with its CRC
HEAD = "<BBBBHIIII"  # magic, version, type, flags, payload length, seq, boot, two more by family
HEAD_BYTES = const(22)
_PIECE_BYTES = const(256)  # read at once where nothing is known to be sound
RECORD_MIN_BYTES = const(26)  # with its CRC
TIME_VALID = const(1)
CHAINED = const(2)
LINK_BYTES = const(16)
CHAIN_BYTES = const(20)  # count of ledger records, digest of the last one
NO_LINK = bytes(LINK_BYTES)
SNAPSHOT = const(0xF0)
CHECKPOINT = const(0xF1)
LOG_FAMILY = const(0x4C)
CHECKPOINT_FAMILY = const(0x43)


def write_file_head(file, family, store, number):
    """The head of a new file. On flash with its first record."""
    head = struct.pack(FILE_HEAD, 0x42, 0x4A, family, VERSION, store, number)
    file.write(head)
    file.write(struct.pack("<I", crc32(head)))


def read_file_head(path, family):
    """(store id, number, version) of a file of ours; (None, 0, 0) if its head is not sound.

    Raises StorageError for a file of a newer version: going on without it would lose it.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(FILE_HEAD_BYTES)
    except OSError:  # unreadable is as good as damaged: the rest of the journal still counts
        return None, 0, 0
    if len(raw) == FILE_HEAD_BYTES and crc32(raw[:-4]) == struct.unpack("<I", raw[-4:])[0]:
        head = struct.unpack(FILE_HEAD, raw[:-4])
        if head[:3] == (0x42, 0x4A, family):
            if head[3] > VERSION:
                raise StorageError("%s is of the newer format %d: open" % (path, head[3]), 0)
            return head[4], head[5], head[3]
    return None, 0, 0


def size_of(path):
    """Bytes of a file; 0 if it cannot be looked at."""
    try:
        return os.stat(path)[6]
    except OSError:
        return 0


def digest_of(head, body):
    """What the next ledger record says of this one: SHA-256 over head and body, 16 bytes of it."""
    digest = hashlib.sha256(head)
    digest.update(body)
    return digest.digest()[:LINK_BYTES]


def write_record(file, head, payload, rest=b""):
    """Writes a record and waits until it is on flash; returns its size. rest: of the payload, apart
    so that nobody has to put a long one together."""
    file.write(head)
    file.write(payload)
    file.write(rest)
    file.write(struct.pack("<I", crc32(rest, crc32(payload, crc32(head)))))
    sync(file)
    return RECORD_MIN_BYTES + len(payload) + len(rest)


def _read_record(file):
    """(head, body) of the record at the file's position; None: damaged; (): end of file."""
    try:
        raw = file.read(HEAD_BYTES)
        if not raw:
            return ()
        if len(raw) < HEAD_BYTES:
            return None
        head = struct.unpack(HEAD, raw)
        if head[0] != MAGIC or not 1 <= head[1] <= VERSION or head[4] > PAYLOAD_MAX:
            return None
        if head[4] > _PIECE_BYTES and not _is_whole(file, head[4], crc32(raw)):
            return None
        payload = file.read(head[4])
        crc = file.read(4)
    except OSError:  # a block that cannot be read is damage, not a reason to stop the meter
        return None
    if head[3] & CHAINED and head[4] < (4 if head[2] >= SNAPSHOT else LINK_BYTES):
        return None
    if len(crc) == 4 and struct.unpack("<I", crc)[0] == crc32(payload, crc32(raw)):
        return head, payload
    return None


def _is_whole(file, length, crc):
    """Is the CRC behind the next `length` bytes right? They stay the next ones.

    In pieces: a damaged head may name a length for which the heap has no room.
    """
    start = file.tell()
    while length:
        piece = file.read(min(length, _PIECE_BYTES))
        if not piece:
            return False
        crc = crc32(piece, crc)
        length -= len(piece)
    right = file.read(4) == struct.pack("<I", crc)
    file.seek(start)
    return right


def scan(path, offset):
    """Yields (offset of its end, head, body) of each whole record; steps over what is none."""
    try:
        file = open(path, "rb")
    except OSError:  # a file that cannot be opened is damaged as a whole
        return
    with file:
        file.seek(offset)
        while True:
            record = _read_record(file)
            if record == ():
                return
            if record:
                offset += RECORD_MIN_BYTES + record[0][4]
                yield offset, record[0], record[1]
                continue
            try:
                file.seek(offset + 1)
                piece = file.read(_PIECE_BYTES)
                found = piece.find(b"\xb7")  # MAGIC
                offset += 1 + (found if found >= 0 else len(piece))
                file.seek(offset)
            except OSError:
                return
            if not piece:
                return


def wire_of(record):
    """The dict of SPEC 2.1; None for a record of a type that this firmware does not know."""
    head = record[1]
    wire = {
        "seq": head[5],
        "boot": head[6],
        "utc_s": head[7],
        "time_valid": head[3] & TIME_VALID,
        "up_s": head[8],
    }
    body = record[2]
    if head[3] & CHAINED:
        wire["prev"] = str(hexlify(body[:LINK_BYTES]), "ascii")
        body = part(body, LINK_BYTES, len(body))
    return wire if packing.unpack(head[2], body, wire) else None
