"""The limits of load and current: when they trip, reclose and lock out, also over a restart."""

from types import SimpleNamespace

import pytest

from firmware.core.config import RELAY, rows
from firmware.relay.limiter import CURRENT, LOCK, POWER, RECLOSE, TRIP, Limiter

HIGH, LOW = 5000, 1000


def config(**settings):
    values = {name: default for name, default, _low, _high in rows((RELAY,))}
    values.update(limit_mode=2, sanctioned_load_w=2000, **settings)
    return SimpleNamespace(**values)


class Story:
    """A limiter, and what it asked for by second; each is applied at once, as the meter does."""

    def __init__(self, which=POWER, **settings):
        self.limiter = Limiter(config(**settings), which)
        self.told = []
        self.now_s = 0

    def feed(self, seconds, value, may_trip=True):
        for _ in range(seconds):
            self.now_s += 1
            asked = self.limiter.judge(value, 1000, may_trip)
            if asked is None:
                continue
            self.told.append((self.now_s, asked))
            if asked == LOCK:
                self.limiter.apply(True, self.now_s, True)
            else:
                self.limiter.apply(asked == TRIP, self.now_s)
        return self

    def restart(self, off_s=0):
        """A power failure, of a length that is known."""
        state = self.limiter.state()
        self.limiter = Limiter(self.limiter._config, self.limiter._which)
        self.limiter.restore(state)
        self.now_s += off_s
        self.limiter.resume(self.now_s)
        return self


def test_a_trip_after_the_time_over_and_a_reclosing_after_the_delay():
    story = Story().feed(120, HIGH)
    assert story.told == []
    story.feed(1, HIGH).feed(119, 0)
    assert story.told == [(121, TRIP)]
    assert story.limiter.stands == 1
    story.feed(1, 0)
    assert story.told == [(121, TRIP), (241, RECLOSE)]
    assert story.limiter.stands == 0


def test_a_moment_below_the_limit_begins_the_time_anew():
    story = Story().feed(120, HIGH).feed(1, 2000).feed(120, HIGH)
    assert story.told == []
    story.feed(1, HIGH)
    assert story.told == [(242, TRIP)]


@pytest.mark.parametrize("dt_ms", [10_000, 60_000])
def test_one_value_is_no_time_above_the_limit_however_far_the_values_are_apart(dt_ms):
    limiter = Limiter(config(limit_over_s=60), POWER)
    assert limiter.judge(LOW, dt_ms, True) is None
    asked = [limiter.judge(HIGH, dt_ms, True) for _ in range(60_000 // dt_ms + 1)]
    assert asked == [None] * (60_000 // dt_ms) + [TRIP]


def test_the_fourth_trip_in_half_an_hour_locks_out_and_then_trips_count_anew():
    story = Story()
    while len(story.told) < 9:
        story.feed(1, 0 if story.limiter.stands else HIGH)
    trips = [241 * i + 121 for i in range(4)]
    assert story.told == [
        (trips[0], TRIP),
        (trips[0] + 120, RECLOSE),
        (trips[1], TRIP),
        (trips[1] + 120, RECLOSE),
        (trips[2], TRIP),
        (trips[2] + 120, RECLOSE),
        (trips[3], TRIP),
        (trips[3] + 1, LOCK),
        (trips[3] + 301, RECLOSE),
    ]
    again = len(story.told)
    while len(story.told) < again + 7:
        story.feed(1, 0 if story.limiter.stands else HIGH)
    assert [asked for _, asked in story.told[again:]] == [TRIP, RECLOSE] * 3 + [TRIP]
    story.feed(1, 0)
    assert story.told[-1][1] == LOCK


def test_trips_that_are_long_past_do_not_count():
    story = Story(limit_within_s=600)
    for _ in range(8):
        story.feed(121, HIGH).feed(120, 0).feed(100, LOW)
    assert [asked for _, asked in story.told] == [TRIP, RECLOSE] * 8


def test_what_may_not_trip_now_trips_as_soon_as_it_may():
    story = Story().feed(5000, HIGH, False)
    assert story.told == []
    story.feed(1, HIGH)
    assert story.told == [(5001, TRIP)]


def test_until_it_is_applied_it_is_asked_again():
    limiter = Limiter(config(limit_over_s=1, limit_reclose_s=10), POWER)
    assert [limiter.judge(HIGH, 1000, True) for _ in range(4)] == [None] + [TRIP] * 3
    limiter.apply(True, 3)
    limiter.apply(True, 4)  # as with a control record of another cause
    assert limiter.state() == [1, 0, 3]
    assert [limiter.judge(0, 1000, True) for _ in range(11)] == [None] * 9 + [RECLOSE] * 2


def test_the_limit_is_that_of_an_order_or_the_sanctioned_load():
    assert Story(limit_w=6000).feed(1000, HIGH).told == []
    assert Story(limit_w=1500).feed(121, 1600).told == [(121, TRIP)]


@pytest.mark.parametrize(
    ("which", "settings"),
    [(POWER, {"limit_mode": 0}), (POWER, {"limit_mode": 1}), (CURRENT, {})],
)
def test_what_is_off_never_trips(which, settings):
    limits = config()
    vars(limits).update(settings)
    limiter = Limiter(limits, which)
    assert [limiter.judge(99_000, 1000, True) for _ in range(1000)] == [None] * 1000


def test_switching_it_off_recloses_at_once():
    story = Story().feed(121, HIGH)
    story.limiter._config.limit_mode = 0
    story.feed(1, 0)
    assert story.told == [(121, TRIP), (122, RECLOSE)]
    assert story.feed(500, HIGH).limiter.stands == 0


def test_current_has_its_own_limit_and_time():
    story = Story(CURRENT, trip_current_ma=20_000).feed(10, 20_001)
    assert story.told == []
    story.feed(1, 20_001).feed(120, 0)
    assert story.told == [(11, TRIP), (131, RECLOSE)]


def test_a_restart_keeps_the_trips_and_the_delay():
    story = Story()
    for _ in range(3):
        story.feed(121, HIGH).feed(120, 0).restart()
    story.feed(121, HIGH).feed(100, 0)
    assert [asked for _, asked in story.told[-2:]] == [TRIP, LOCK]
    story.restart().feed(200, 0)
    assert story.limiter.stands == 1
    story.feed(1, 0)
    assert story.told[-1][1] == RECLOSE
    assert story.limiter.state()[2:] == []


@pytest.mark.parametrize("off_s", [10, 100, 119, 5000])
def test_a_delay_runs_on_without_power(off_s):
    story = Story().feed(121, HIGH).restart(off_s)
    story.feed(max(0, 119 - off_s), 0)
    assert story.limiter.stands == 1
    story.feed(1, 0)
    assert story.limiter.stands == 0


def test_power_that_fails_again_and_again_does_not_keep_a_delay_from_its_end():
    story = Story(limit_attempts=1, limit_lockout_s=21600).feed(121, HIGH).feed(1, 0)
    assert story.told[-1][1] == LOCK
    for _ in range(20):
        story.feed(600, 0).restart(600)
    assert story.told[-1] == (122 + 21600 + 1, RECLOSE)


def test_where_no_length_of_an_outage_is_known_a_delay_begins_anew():
    limiter = Limiter(config(), POWER)
    limiter.restore([1, 0, 100])
    assert [limiter.judge(0, 1000, True) for _ in range(122)] == [None] * 120 + [RECLOSE] * 2


def test_a_trip_counts_over_a_restart():
    story = Story(limit_within_s=600, limit_attempts=2)
    story.feed(121, HIGH).feed(120, 0).restart().feed(350, LOW).feed(121, HIGH).feed(1, 0)
    assert story.told[-1] == (713, LOCK)
    for supplied_s, off_s in ((370, 0), (170, 200)):
        story = Story(limit_within_s=600, limit_attempts=2)
        story.feed(121, HIGH).feed(120, 0).restart(off_s).feed(supplied_s, LOW).feed(121, HIGH)
        assert story.feed(1, 0).told[-1] == (732, TRIP)
