"""What happens to the flash of a meter that has no power: a bit of its journal flips.

Restricted to what the account must survive exactly: a record that the gateway has acknowledged, or
the older of the two checkpoint files. `make powerloss` damages every file and block in every way;
there a record may be lost that nobody else has, and an account at the end could only be bounded.
"""

from firmware.core.records import LEDGER, code_of
from firmware.meter import CHECKPOINT_FORMAT
from firmware.storage.files import FILE_HEAD_BYTES, RECORD_MIN_BYTES, scan
from firmware.storage.journal import CHECKPOINT_FILES, Journal
from host_tests.fakes.worlds import copy_journal, mounted

_CHECKPOINT_SHARE = 0.2
_LEDGER_CODES = [code_of(name) for name in LEDGER]


def flip_bit(image, copy, acked, rng):
    """Flips a bit in the flash image `image`; `copy` is a folder for its journal.

    acked: {store: highest acknowledged number}. Returns (number, True if of the ledger) of the
    record that it hit, (0, False) for a checkpoint file, None if there is nothing to hit.
    """
    copy_journal(image, copy)
    journal = Journal(str(copy), CHECKPOINT_FORMAT)
    for _ in journal.open()[2]:
        pass
    older = CHECKPOINT_FILES[1 - journal._live]
    snapshot_seq, acked_seq = journal.snapshot_seq, acked.get(journal.store_id, 0)
    journal.close()
    places = _records(copy, snapshot_seq, acked_seq)
    if (copy / older).exists() and (not places or rng.random() < _CHECKPOINT_SHARE):
        name, first, end, hit = older, 0, (copy / older).stat().st_size, (0, False)
    elif places:
        name, first, end, hit = rng.choice(places)
    else:
        return None
    with mounted(image) as fs, fs.open(f"/data/{name}", "r+b") as file:
        at = rng.randrange(first, end)
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1 << rng.randrange(8)]))
    return hit


def _records(copy, snapshot_seq, acked_seq):
    """(file, first byte, byte behind it, (number, of the ledger)) of the records to choose from."""
    places = []
    for path in sorted(copy.glob("log-*")):
        found = []
        for end, head, body in scan(str(path), FILE_HEAD_BYTES):
            start = end - RECORD_MIN_BYTES - len(body)
            found.append((path.name, start, end, (head[5], head[2] in _LEDGER_CODES)))
        places += found[:-1]  # behind damage at its end a log leaves numbers out
    # A block behind the snapshot would be counted again, by the next one.
    return [p for p in places if p[3][0] <= acked_seq and (p[3][1] or p[3][0] <= snapshot_seq)]
