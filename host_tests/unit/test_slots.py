"""Documents in two slots: what is there survives whatever happens to the write of the next."""

import errno
import os

import pytest

from firmware.storage import errors
from firmware.storage.errors import JournalFull, StorageError
from firmware.storage.slots import DOCUMENT_MAX, Slots

FIRST, SECOND = {"key": "old", "n": [1, None]}, {"key": "new"}


@pytest.fixture
def slots(tmp_path):
    return Slots(str(tmp_path / "keep"), "config")


def files(tmp_path):
    return {path.name: path.read_bytes() for path in (tmp_path / "keep").iterdir()}


def test_nothing_then_what_was_written_last(slots, tmp_path):
    assert slots.read() is None
    for number in range(5):
        slots.write({"n": number})
        assert slots.read() == Slots(str(tmp_path / "keep"), "config").read() == {"n": number}
    assert sorted(files(tmp_path)) == ["config-a", "config-b"]


def test_the_bytes_are_those_of_the_specification(slots, tmp_path):
    slots.write({"a": 1})
    raw = files(tmp_path)["config-a"]
    assert raw[:12] == b"BJS\x01" + (1).to_bytes(4, "little") + (8).to_bytes(4, "little")
    assert raw[12:20] == b'{"a": 1}'
    assert len(raw) == 24


def test_a_torn_write_leaves_old_or_new(slots, tmp_path):
    slots.write(FIRST)
    old = files(tmp_path)
    slots.write(SECOND)
    name, raw = next((n, r) for n, r in files(tmp_path).items() if old.get(n) != r)
    for length in range(len(raw)):
        (tmp_path / "keep" / name).write_bytes(raw[:length])
        assert slots.read() == FIRST
    slots.write({"third": 1})
    assert slots.read() == {"third": 1}
    assert (tmp_path / "keep" / "config-a").read_bytes() == old["config-a"]


def test_any_flipped_bit_leaves_the_other_slot(slots, tmp_path):
    slots.write(FIRST)
    slots.write(SECOND)
    path = tmp_path / "keep" / "config-b"
    raw = path.read_bytes()
    for bit in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert slots.read() == FIRST
    (tmp_path / "keep" / "config-a").write_bytes(b"")
    assert slots.read() is None


def test_a_refused_write_is_named_and_leaves_the_document(slots, tmp_path, monkeypatch):
    slots.write(FIRST)
    with pytest.raises(StorageError):
        slots.write({"x": "y" * DOCUMENT_MAX})

    def full(descriptor):
        raise OSError(errno.ENOSPC, "injected")

    with monkeypatch.context() as patch:
        patch.setattr(errors, "_fsync", full)
        with pytest.raises(JournalFull):
            slots.write(SECOND)
    os.truncate(tmp_path / "keep" / "config-b", 20)
    assert slots.read() == FIRST
