"""The firmware's heap: the flashed image on the 32-bit emulated board with an ESP32's free heap.

Looked at from outside (`heap` on the emulator's control channel): what is free after a collection,
and the longest piece of it, which is what a long message or snapshot must find. Measured when the
floors were set: 50 kB were free, 47 kB of it in one piece. Loaded from the file system instead of
run in place from the ROM partition, the same code left 6 kB.
"""

import pytest

from demo.households import slabs
from host_tests.fakes.interpreters import micropython
from host_tests.fakes.worlds import HOUR_MS, METER, MINUTE_MS, SECOND_MS, Story

FREE_MIN_BYTES = 40_000
PIECE_MIN_BYTES = 16_000


@pytest.fixture
def story(tmp_path):
    micropython(32)
    with Story(tmp_path / "world") as made:
        made.passes(2 * MINUTE_MS + 500)
        yield made


def assert_room(story):
    heap = story.board.command("heap")
    assert heap["free"] >= FREE_MIN_BYTES, heap
    assert heap["longest"] >= PIECE_MIN_BYTES, heap


def assert_no_fault(story):
    """No exception in the whole serial log, and no restart."""
    log = (story.board.folder / "console.log").read_text()
    for word in ("MemoryError", "Traceback", "fault before this boot"):
        assert word not in log
    assert log.count("boot cause=") == 1


def test_room_after_a_backlog_and_an_hour(story):
    story.board.set(wifi=False)
    story.passes(2 * MINUTE_MS)
    before = story.stored_count()
    story.make_records(200)
    story.board.set(wifi=True)
    story.delivered(20 * MINUTE_MS)
    assert story.stored_count() >= before + 200
    story.passes(HOUR_MS)
    assert_room(story)
    assert_no_fault(story)


@pytest.mark.slow
def test_two_days_with_a_loss_of_wifi_recharges_and_a_long_tariff(story):
    long = slabs(*[(n * 100, 600 + n) for n in range(1, 12)], (None, 900), name="long-tariff")
    ids = []
    for hours, wifi in ((12, True), (12, False), (12, True), (12, True)):
        story.board.set(wifi=wifi)
        story.passes(MINUTE_MS)
        ids.append(story.recharge(20))
        if len(ids) == 3:
            story.world.post(f"/api/meters/{METER}/tariff", {"document": long})
        story.passes(hours * HOUR_MS)
    story.passes(10 * SECOND_MS)
    story.delivered()
    assert {story.state(id_) for id_ in ids} == {"confirmed"}
    assert any("tariff long-tariff version 1" in line for line in story.board.lines())
    assert_room(story)
    assert_no_fault(story)
