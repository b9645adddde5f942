"""How a journal is opened at a start: its files become its state.

Part of journal.py, which says the invariants.
"""

import json
import os
import struct
from binascii import crc32, unhexlify

from firmware.core.shim import const
from firmware.storage import packing
from firmware.storage.errors import StorageError, fault
from firmware.storage.journal import (
    CHAIN_BYTES,
    CHAINED,
    CHECKPOINT,
    CHECKPOINT_FAMILY,
    CHECKPOINT_FILES,
    FILE_HEAD,
    FILE_HEAD_BYTES,
    HEAD,
    LINK_BYTES,
    LOG_FAMILY,
    NO_LINK,
    RECORD_MIN_BYTES,
    SNAPSHOT,
    VERSION,
    digest_of,
    order_digest,
    scan,
    wire_of,
)

_ENOENT = const(2)


def _size(path):
    try:
        return os.stat(path)[6]
    except OSError:
        return 0


def _read_file_head(path, family):
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


def open_journal(journal, store_id):
    """As Journal.open."""
    try:
        names = _list(journal)
        snapshot, checkpoint = _open_checkpoints(journal, names)
        _open_log(journal, names)
    except OSError as error:
        raise fault("open", error)
    checkpoints = [name for name in CHECKPOINT_FILES if name in names]
    journal.formatted = not checkpoints and not journal._firsts
    if snapshot is None and (checkpoints or journal._firsts):
        # All of it must be there, from the first record on.
        journal.ledger_missing = bool(checkpoints)
        records = journal._log_records(0)
        for _first, record in records:
            journal.ledger_missing = record[1][5] > 1
            break
        records.close()
    if journal._store is None:
        known = store_id and not journal.formatted
        journal._store = unhexlify(store_id) if known else os.urandom(4)
    return snapshot, checkpoint, _replay(journal)


def _list(journal):
    try:
        return os.listdir(journal._folder)
    except OSError as error:
        if error.errno != _ENOENT:
            raise
        os.mkdir(journal._folder)
        return []


def _open_checkpoints(journal, names):
    found = []
    for live in (0, 1):
        if CHECKPOINT_FILES[live] in names:
            path = journal._path(CHECKPOINT_FILES[live])
            store, generation, version = _read_file_head(path, CHECKPOINT_FAMILY)
            found.append((generation, live, path, store, version))
    for generation, live, path, store, version in sorted(found, reverse=True):
        snapshot = checkpoint = None
        sound = FILE_HEAD_BYTES
        for end, head, body in scan(path, sound) if store else ():
            chained = head[3] & CHAINED
            if chained and head[2] == SNAPSHOT and len(body) < CHAIN_BYTES:
                break
            if snapshot is None:
                # The snapshot comes first; without it nothing in the file counts.
                if end != RECORD_MIN_BYTES + sound + len(body) or head[2] != SNAPSHOT:
                    break
                try:
                    snapshot = json.loads(body[CHAIN_BYTES:] if chained else body)
                except ValueError:
                    break
                journal.snapshot_seq = head[5]
                if chained:
                    journal._snapshot_chain = struct.unpack_from("<I16s", body)
                    journal._count_told = journal._snapshot_chain[0]
            elif head[2] == CHECKPOINT:
                at = 4 if chained else 0
                if len(body) - at == struct.calcsize(journal._format):
                    checkpoint = struct.unpack_from(journal._format, body, at)
                    if chained:
                        journal._count_told = struct.unpack_from("<I", body)[0]
            journal.checkpoint_seq, journal.boot, journal.acked_seq, journal.lost_records = head[5:]
            sound += RECORD_MIN_BYTES + len(body)
        size = _size(path)
        if snapshot is None:
            journal.damaged_bytes += size
            continue
        journal.damaged_bytes += size - sound
        journal._store, journal._generation, journal._live = store, generation, live
        if size == sound and version == VERSION:
            journal._checkpoints = open(path, "ab")
            journal._checkpoints_size = size
        return snapshot, checkpoint
    return None, None


def _open_log(journal, names):
    firsts = []
    for name in names:
        if name.startswith("log-") and len(name) == 12:
            try:
                firsts.append(int(name[4:], 16))
            except ValueError:  # not a file of ours
                pass
    journal._firsts = sorted(firsts)
    floor = journal._firsts[-1] - 1 if firsts else 0  # what came before the newest segment
    known, carried = floor, 0
    for first in reversed(journal._firsts):
        path = journal._segment_path(first)
        store, _first, version = _read_file_head(path, LOG_FAMILY)
        journal._store = journal._store or store
        size = _size(path)
        sound = FILE_HEAD_BYTES if store else 0
        behind, last, boot = FILE_HEAD_BYTES, 0, 0
        for end, head, body in scan(path, FILE_HEAD_BYTES):
            behind = end
            sound += RECORD_MIN_BYTES + len(body)
            last, boot = head[5], head[6]
        if first > floor:
            known = max(floor, last)
            carried = max(0, size - behind) // RECORD_MIN_BYTES
            journal.damaged_bytes += size - sound
            if store and size == sound and version == VERSION:
                journal._log, journal._log_size = open(path, "ab"), size
        journal.boot = max(journal.boot, boot)
        if last and journal._store:
            break
    journal.last_seq = max(known + carried, journal.checkpoint_seq, journal.acked_seq)
    journal.lost_records += journal.last_seq - known
    journal.tail_missing = journal.last_seq > known


def _replay(journal):
    """Reads the whole log: checks the chain, notes the orders, yields what is above the
    snapshot."""
    chain = journal._snapshot_chain
    # What came before the oldest record is not known if it has been dropped.
    link = NO_LINK if not chain or journal._firsts[:1] == [1] else None
    if chain:
        journal.ledger_count = chain[0]
    seq = journal._firsts[0] - 1 if journal._firsts else journal.acked_seq
    missing = max(0, seq - journal.acked_seq)
    version = VERSION
    gap = False
    for first, record in journal._log_records(0):
        _end, head, body = record
        if chain and head[5] > journal.snapshot_seq:
            _join(journal, chain, link, gap or seq < journal.snapshot_seq)
            chain, link = None, chain[1]
        new = head[5] > journal.snapshot_seq
        if head[5] != seq + 1:
            gap = True
            missing += head[5] - seq - 1
            # What has no chain may have been of the ledger.
            if new and 1 in (version, head[1]):
                journal.ledger_missing = True
        seq, version = head[5], head[1]
        if head[3] & CHAINED:
            if link is not None and link != body[:LINK_BYTES]:
                journal.ledger_missing = True
            link = digest_of(struct.pack(HEAD, *head), body)
            if new:
                journal.ledger_count += 1
            if head[2] == packing.RESYNC_CODE:
                journal.ledger_missing = False  # it says anew what the missing ones said
        ordered = head[2] in packing.ORDER_CODES
        wire = wire_of(record) if new or ordered else None
        if wire:
            if ordered:
                journal._orders.setdefault(order_digest(wire["id"]), first)
            if new:
                yield wire
    if chain:
        _join(journal, chain, link, gap or seq < journal.snapshot_seq)
        link = chain[1]
    journal._link = link or NO_LINK
    journal.missing_records = missing + journal.last_seq - seq
    if journal.ledger_count < journal._count_told or (version == 1 and journal.tail_missing):
        journal.ledger_missing = True


def _join(journal, chain, link, gap):
    """The log up to the snapshot must end as the snapshot says."""
    if link != chain[1] if link is not None else gap:
        journal.ledger_missing = True
