"""A flipped bit hits what it is said to hit, and the journal notices it."""

import random

import pytest
from littlefs import LittleFS

from firmware.meter import CHECKPOINT_FORMAT
from firmware.storage.journal import Journal
from host_tests.chaos.damage import flip_bit
from host_tests.fakes.worlds import mounted, records_on_flash

REGISTERS = {"import_wh": 0, "balance_mp": 0}
BOOT = {"cause": "power", "firmware": "1", "off_s": 0, **REGISTERS}
CREDIT = {"kind": "recharge", "id": "r", "counter": 1, "amount_mp": 5, **REGISTERS}


@pytest.fixture
def image(tmp_path):
    """A flash image with a journal: records 1 to 20, every other one of the ledger."""
    folder = tmp_path / "journal"
    journal = Journal(str(folder), CHECKPOINT_FORMAT)
    list(journal.open()[2])
    journal.begin_boot()
    journal.snapshot({})
    for _ in range(10):
        journal.append("boot", dict(BOOT), 1, 1, 1)
        journal.append("credit", dict(CREDIT), 1, 1, 1)
    journal.snapshot({})
    journal.close()
    path = tmp_path / "flash.bin"
    fs = LittleFS(block_size=4096, block_count=512)
    path.write_bytes(fs.context.buffer)
    with mounted(path) as fs:
        fs.mkdir("/data")
        for file in folder.iterdir():
            with fs.open(f"/data/{file.name}", "wb") as copy:
                copy.write(file.read_bytes())
    return path


def test_a_flip_hits_an_acknowledged_record_and_no_other(image, tmp_path):
    store, before = records_on_flash(image, tmp_path / "copy")
    hit = set()
    for seed in range(40):
        found = flip_bit(image, tmp_path / "copy", {store: 12}, random.Random(seed))
        if found[0]:
            assert found[1] == (found[0] % 2 == 0)
            assert found[0] not in hit
            hit.add(found[0])
        kept = [record for record in before if record["seq"] not in hit]
        assert records_on_flash(image, tmp_path / "copy") == (store, kept)
    assert hit == set(range(1, 13))


def test_a_journal_misses_the_record_if_it_is_of_the_ledger(image, tmp_path):
    store, _ = records_on_flash(image, tmp_path / "copy")
    for seed in range(20):
        hurt = tmp_path / "hurt.bin"
        hurt.write_bytes(image.read_bytes())
        _, of_ledger = flip_bit(hurt, tmp_path / "copy", {store: 20}, random.Random(seed))
        records_on_flash(hurt, tmp_path / "copy")
        journal = Journal(str(tmp_path / "copy"), CHECKPOINT_FORMAT)
        list(journal.open()[2])
        assert journal.ledger_missing == of_ledger
        journal.close()


def test_without_anything_acknowledged_the_older_checkpoints_are_hit(image, tmp_path):
    _, before = records_on_flash(image, tmp_path / "copy")
    assert flip_bit(image, tmp_path / "copy", {}, random.Random(1)) == (0, False)
    assert records_on_flash(image, tmp_path / "copy")[1] == before
