"""The firmware's heap: the flashed image on the 32-bit emulated board with an ESP32's free heap.

Looked at from outside (`heap` on the emulator's control channel): what is free after a collection,
and the longest piece of it, which is what a long message or snapshot must find. Measured after
orders, an hour with a backlog and two days: 22 to 27 kB are free, 12 to 15 kB of it in one piece;
behind five of the longest tariffs 21 kB, 3.4 kB of it in one piece.
Loaded from the file system instead of run in place from the ROM partition, the code alone fills the
heap.
"""

import pytest

from firmware.link import codec
from host_tests.fakes.documents import largest_tariff
from host_tests.fakes.interpreters import micropython
from host_tests.fakes.worlds import HOUR_MS, METER, MINUTE_MS, SECOND_MS, Story

FREE_MIN_BYTES = 22_000
PIECE_MIN_BYTES = 7_500
# With the longest tariff in force. The longest that is asked for is then a snapshot of 2,450 bytes,
# and a batch of records of 2,500.
LONG_FREE_MIN_BYTES = 17_000
LONG_PIECE_MIN_BYTES = 3_000


@pytest.fixture
def story(tmp_path):
    micropython(32)
    with Story(tmp_path / "world") as made:
        made.passes(2 * MINUTE_MS + 500)
        yield made


def assert_room(story, free=FREE_MIN_BYTES, longest=PIECE_MIN_BYTES):
    heap = story.board.command("heap")
    assert heap["free"] >= free, heap
    assert heap["longest"] >= longest, heap


def assert_no_fault(story):
    """No exception in the whole serial log, and no restart."""
    log = (story.board.folder / "console.log").read_text()
    for word in ("MemoryError", "memory allocation", "Traceback", "fault before this boot"):
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


def order(story, number, **body):
    """Sends an order through the gateway and lets time pass until it is done."""
    view = story.ended(story.order(f"order-{number}", **body))
    assert view["state"] == "done", view


def test_orders_that_need_most_are_answered_and_take_effect(story):
    """Settings, key, relay, arrears, and two rotations: to a broker that is there, and to none."""

    def said(words):
        return any(words in line for line in story.board.lines())

    order(story, 1, kind="settings", document={"grace_s": 7200})
    order(story, 2, kind="key")
    order(story, 3, kind="key")  # under the one before
    expires_utc_s = story.world.now_ms // 1000 + 3600
    order(story, 4, kind="relay", state="disconnected", expires_utc_s=expires_utc_s)
    order(story, 5, kind="relay", state="connected")
    order(story, 6, kind="arrears", amount_mp=10_000_000, share_percent=50)
    assert_room(story)

    wifi = {"ssid": "bijli", "password": "another word"}
    order(story, 7, kind="link", wifi=wifi, broker={"new_password": True})
    story.until(
        lambda: said("a change works, the old is dropped (link settings)"), 5 * MINUTE_MS, "works"
    )
    assert_room(story)

    order(story, 8, kind="link", broker={"host": "127.0.0.9"})
    story.until(lambda: said("link settings: changed to 127.0.0.9"), 5 * MINUTE_MS, "tried")
    assert_room(story)
    last = story.board.line_count

    def came_back():
        new = story.board.line_count - last
        return new and any("link up" in line for line in story.board.lines()[-new:])

    story.until(came_back, 10 * MINUTE_MS, "back at the broker that is there")
    recharge = story.recharge(10)
    story.until(lambda: story.state(recharge) == "confirmed", 10 * MINUTE_MS, "confirmed")
    assert_room(story)
    assert_no_fault(story)


def test_the_longest_tariffs_come_one_after_another(story):
    """Each finds room for the one in force, itself, its message and its record."""
    for version in range(2, 7):
        document = {**largest_tariff(), "version": version}
        codec.check_document(document)
        order(story, version, kind="tariff", document=document)
        story.passes(3 * MINUTE_MS)  # it has settled
    assert any("tariff test version 6" in line for line in story.board.lines())
    assert_room(story, LONG_FREE_MIN_BYTES, LONG_PIECE_MIN_BYTES)
    assert_no_fault(story)


@pytest.mark.slow
def test_two_days_with_a_loss_of_wifi_recharges_and_the_largest_tariff(story):
    ids = []
    for hours, wifi in ((12, True), (12, False), (12, True), (12, True)):
        story.board.set(wifi=wifi)
        story.passes(MINUTE_MS)
        ids.append(story.recharge(20))
        if len(ids) == 3:
            story.world.post(f"/api/meters/{METER}/tariff", {"document": largest_tariff()})
        story.passes(hours * HOUR_MS)
    story.passes(10 * SECOND_MS)
    story.delivered()
    assert {story.state(id_) for id_ in ids} == {"confirmed"}
    assert any("tariff test version 1" in line for line in story.board.lines())
    assert_room(story, LONG_FREE_MIN_BYTES, LONG_PIECE_MIN_BYTES)
    assert_no_fault(story)
