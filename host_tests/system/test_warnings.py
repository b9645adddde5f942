"""Credit that ends, as the consumer meets it: lamp, buzzer and button of the emulated board."""

from demo.households import RUPEE_MP
from host_tests.fakes.worlds import (
    HOUR_MS,
    METER,
    MINUTE_MS,
    OPENING_MP,
    SECOND_MS,
    START_MS,
)


def done(story, key, **body):
    """Sends an order and lets time pass until it is done."""
    assert story.ended(story.order(key, **body))["state"] == "done"


def lamp(story):
    """Levels of the status LED at some samples in a row."""
    levels = []
    for _ in range(6):
        story.passes(10 * SECOND_MS)
        levels.append(story.board.look()["status_led"])
    return levels


def live(story):
    return story.world.get(f"/api/meters/{METER}")["live"]


def test_credit_that_ends_at_night_is_shown_sounded_in_the_morning_and_helped_by_a_press(story):
    assert set(lamp(story)) == {0}
    settings = {"emergency_limit_mp": 100 * RUPEE_MP, "live_period_s": 60}
    done(story, "settings", kind="settings", document=settings)
    taken_mp = -(OPENING_MP - 10 * RUPEE_MP)
    done(story, "most of it", kind="adjustment", entry="adjustment", amount_mp=taken_mp)
    story.passes(MINUTE_MS)
    assert set(lamp(story)) == {0, 1}
    done(story, "the rest", kind="adjustment", entry="adjustment", amount_mp=-10 * RUPEE_MP)
    story.passes(2 * MINUTE_MS)
    assert set(lamp(story)) == {1}
    assert live(story)["emergency"] == "selectable"
    assert story.board.look()["beeps"] == 0  # it is night

    story.passes(START_MS + 7 * HOUR_MS - MINUTE_MS - story.world.now_ms)
    assert story.board.look()["beeps"] == 0
    story.passes(2 * MINUTE_MS)
    assert story.board.look()["beeps"] == 5

    story.board.set(button="pressed")
    story.passes(30 * SECOND_MS)
    story.board.set(button="released")
    story.until(lambda: live(story)["emergency"] == "in_use", 5 * MINUTE_MS, "in use")
    assert live(story)["emergency_limit_mp"] == 100 * RUPEE_MP
    assert any("emergency credit to -100.00 id=button" in line for line in story.board.lines())
    assert set(lamp(story)) == {0, 1}
    story.delivered()
    assert story.world.get(f"/api/meters/{METER}/balance")["agree"] is True
