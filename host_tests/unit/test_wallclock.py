import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.core.drift import RATE_MAX_PPB, STEP_MS, learn
from firmware.core.wallclock import WallClock
from host_tests.fakes.bench import NVS

START_MS = 1_767_600_000_000
HOUR_S = 3600


@given(
    st.integers(0, 2**30 - 1),
    st.lists(st.integers(0, 2**29), max_size=20),
    st.integers(1704067200000, 4102444800000),
)
def test_uptime_and_time_follow_the_ticks_over_their_wraps(start, spans_ms, utc_ms):
    ticks = start
    clock = WallClock(lambda: ticks)
    assert clock.utc_s() is None
    passed_ms = 0
    for span_ms in spans_ms:
        ticks = (ticks + span_ms) % 2**30
        passed_ms += span_ms
        assert clock.up_ms() == passed_ms
    assert clock.set_utc_ms(utc_ms) is None
    ticks = (ticks + 12345) % 2**30
    assert clock.utc_s() == (utc_ms + 12345) // 1000
    assert clock.up_s() == (passed_ms + 12345) // 1000
    assert clock.set_utc_ms(utc_ms) == -12345


def test_the_time_that_is_set_is_that_of_this_instant():
    ticks = 0
    clock = WallClock(lambda: ticks)
    ticks = 4321  # nobody has looked since
    clock.set_utc_ms(1704067200000)
    assert clock.utc_s() == 1704067200


class Crystal:
    """A clock on a crystal that is `error_ppm` off (fast: above 0), beside the true time in us."""

    def __init__(self, error_ppm, nvs=None):
        self.true_us = START_MS * 1000
        self.error_ppm = error_ppm
        self._ticks_e6 = 5_000_000
        self.nvs = nvs or NVS()
        self.boot()

    def boot(self):
        self.clock = WallClock(lambda: self._ticks_e6 // 1_000_000_000 % 2**30, self.nvs)

    def passes(self, seconds):
        """Second by second; UTC must never go back."""
        for _ in range(seconds):
            self.true_us += 1_000_000
            self._ticks_e6 += 1_000_000_000_000 + self.error_ppm * 1_000_000
            before = getattr(self, "_seen_ms", 0)
            self._seen_ms = self.clock.utc_ms() or 0
            assert self._seen_ms >= before
            if before:
                assert abs(self._seen_ms - before - 1000) <= 2  # no jump either

    @property
    def error_ms(self):
        return self.clock.utc_ms() - self.true_us // 1000

    def sync(self, there_ms=20, back_ms=20, wrong_ms=0):
        """One question and answer; the way takes so long in each direction."""
        measured_ms = self.true_us // 1000 + wrong_ms - back_ms + (there_ms + back_ms) // 2
        return self.clock.sync(measured_ms, there_ms + back_ms)


def largest_errors_ms(crystal, hours, ways):
    """The largest error of each hour, just before the next time comes."""
    errors = []
    for _ in range(hours):
        crystal.sync(*ways())
        crystal.passes(HOUR_S)
        errors.append(abs(crystal.error_ms))
    return errors


@pytest.mark.parametrize("error_ppm", [40, -40, 150])
def test_the_rate_of_the_crystal_is_learnt_and_corrected(error_ppm):
    crystal = Crystal(error_ppm)
    assert crystal.sync() is None
    errors = largest_errors_ms(crystal, 24, lambda: (20, 20))
    uncorrected_ms = abs(error_ppm) * 36 // 10
    assert abs(errors[0] - uncorrected_ms) <= 2
    assert max(errors[8:]) <= 3
    assert abs(crystal.clock.rate_ppb + error_ppm * 1000) < 500


def test_a_slow_network_and_wrong_answers_hardly_move_the_rate():
    """40 ppm, ways of up to 300 ms each, and one answer in seven that is wrong by up to 1.5 s."""
    rng = random.Random(5)
    crystal = Crystal(40)
    crystal.sync()

    def ways():
        wrong_ms = rng.randrange(-1500, 1500) if rng.random() < 0.15 else 0
        return rng.randrange(5, 300), rng.randrange(5, 300), wrong_ms

    hours = 72
    rates = []
    for _ in range(hours):
        crystal.sync(*ways())
        crystal.passes(HOUR_S)
        rates.append(crystal.clock.rate_ppb)
    assert all(abs(rate + 40_000) < 25_000 for rate in rates[8:])


def test_good_answers_keep_the_error_below_the_way():
    rng = random.Random(6)
    crystal = Crystal(-40)
    crystal.sync()
    errors = largest_errors_ms(crystal, 48, lambda: (rng.randrange(5, 200), rng.randrange(5, 200)))
    assert max(errors[8:]) < 144  # what 40 ppm make in an hour; the answers are up to 100 ms off
    assert sum(errors[8:]) // len(errors[8:]) < 50


def test_a_small_error_is_made_up_slowly_and_a_large_one_is_a_step():
    crystal = Crystal(0)
    crystal.sync()
    assert crystal.sync(wrong_ms=STEP_MS - 1) == 0
    assert crystal.error_ms == 0
    crystal.passes(1000)
    assert 450 <= crystal.error_ms <= 550
    crystal.passes(HOUR_S)
    assert crystal.error_ms == STEP_MS - 1
    assert crystal.sync(wrong_ms=STEP_MS + 5_000) == 5_001
    assert crystal.error_ms == STEP_MS + 5_000


def test_the_rate_outlives_a_restart_and_nvs_is_written_seldom():
    crystal = Crystal(40)
    commits = []
    commit = crystal.nvs.commit
    crystal.nvs.commit = lambda: (commits.append(1), commit())
    crystal.sync()
    largest_errors_ms(crystal, 48, lambda: (20, 20))
    assert 1 <= len(commits) <= 2
    crystal._seen_ms = 0
    crystal.boot()
    assert abs(crystal.clock.rate_ppb + 40_000) < 3_000
    crystal.sync()
    crystal.passes(HOUR_S)
    assert abs(crystal.error_ms) <= 12


@pytest.mark.parametrize("kept", [-(2**31), 2**31 - 1])
def test_a_rate_in_nvs_that_no_crystal_has_is_bounded(kept):
    nvs = NVS()
    nvs.kept["drift_ppb"] = kept
    assert abs(WallClock(lambda: 0, nvs).rate_ppb) == RATE_MAX_PPB


def test_a_gateway_whose_clock_was_set_does_not_bend_the_rate():
    clock = WallClock(lambda: 0)
    hours_ms = [n * 3_600_000 for n in range(12)]
    for up_ms in hours_ms[:6]:
        learn(clock, up_ms, START_MS + up_ms + up_ms // 50_000, 40)  # 20 ppm
    rate_ppb = clock.rate_ppb
    assert abs(rate_ppb - 20_000) < 100
    for up_ms in hours_ms[6:8]:
        learn(clock, up_ms, START_MS + up_ms + up_ms // 50_000 + 1_500, 40)
    assert clock.rate_ppb == rate_ppb
    for up_ms in hours_ms[8:]:
        learn(clock, up_ms, START_MS + up_ms + up_ms // 50_000 + 1_500, 40)
    assert abs(clock.rate_ppb - 20_000) < 100


@given(
    st.lists(st.tuples(st.integers(0, 2**34), st.integers(-(2**34), 2**34), st.integers(0, 9_000)))
)
def test_the_rate_is_bounded_whatever_comes(points):
    clock = WallClock(lambda: 0)
    up_ms = 0
    for span_ms, off_ms, round_trip_ms in points:
        up_ms += span_ms
        learn(clock, up_ms, START_MS + up_ms + off_ms, round_trip_ms)
        assert abs(clock.rate_ppb) <= RATE_MAX_PPB
        assert len(clock.points) <= 8
