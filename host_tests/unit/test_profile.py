"""One interval's means and extremes, and what a day or month adds up to."""

import pytest

from firmware.metering.profile import Block, Span, demand_w

LIMIT = 2**30


class Watched(Block):
    """Every integer that it keeps stays a small one of an ESP32."""

    def __setattr__(self, name, value):
        assert abs(value) < LIMIT, (name, value)
        super().__setattr__(name, value)


@pytest.mark.parametrize("samples", [1800, 3600, 100_000])
@pytest.mark.parametrize(
    ("voltage_mv", "current_ua"), [(300_000, 100_000_000), (409_550, 102_400_000)]
)
def test_sums_stay_small_at_full_scale_however_long_it_goes_on(samples, voltage_mv, current_ua):
    block = Watched()
    for _ in range(samples):
        block.add(voltage_mv, current_ua, 30_000_000, 1000)
        block.supplied(1000)
    assert block.figures() == (voltage_mv,) * 3 + (current_ua // 1000,) * 3
    assert block.supply_s == samples


def test_mean_and_extremes():
    block = Block()
    for voltage_mv, current_ma in ((231_000, 0), (229_000, 4_000), (236_000, 500)):
        block.add(voltage_mv, current_ma * 1000, 0, 1000)
    assert block.figures() == (232_000, 229_000, 236_000, 1500, 0, 4000)
    block.clear()
    assert block.figures() == (0,) * 6


def test_time_above_the_sanctioned_load_is_carried_over_intervals():
    block = Block()
    block.set_limit(2000)
    total_s = 0
    for power_mw in (2_000_000, 2_000_001, 2_500_000, 1_999_999):
        for _ in range(3):
            block.add(230_000, 0, power_mw, 750)
            total_s += block.over_load_s
            block.clear()
    assert total_s == 6 * 750 // 1000
    block.set_limit(0)
    block.add(230_000, 0, 30_000_000, 5000)
    assert block.over_load_s == 0


def test_no_second_of_supply_is_lost_between_intervals():
    block = Block()
    total_s = 0
    for _ in range(1000):
        block.supplied(1001)
        total_s += block.supply_s
        block.clear()
    assert total_s == 1001


@pytest.mark.parametrize(
    ("energy_wh", "length_s", "expected_w"),
    [(500, 1800, 1000), (500, 900, 2000), (1, 1800, 2), (0, 900, 0), (500, 0, 0)],
)
def test_demand_is_energy_over_the_whole_interval(energy_wh, length_s, expected_w):
    assert demand_w(energy_wh, length_s) == expected_w


def load(start_utc_s, energy_wh, length_s=1800, **more):
    return {"start_utc_s": start_utc_s, "length_s": length_s, "energy_wh": energy_wh, **more}


def test_the_first_of_equal_maxima_counts_and_energy_without_a_length_makes_none():
    span = Span()
    span.begin(0, 0, 0, 0)
    span.add(load(1800, 100, supply_s=1800, over_load_s=10))
    span.add(load(3600, 300, supply_s=1800, over_load_s=10))
    span.add(load(5400, 300, supply_s=1700))
    span.add(load(7200, 9000, 0, supply_s=1800))
    assert (span.demand_max_w, span.demand_max_utc_s) == (600, 5400)
    assert (span.supply_s, span.over_load_s) == (7100, 20)
    again = Span()
    again.restore(span.state())
    assert again.state() == span.state()


def test_what_makes_no_minute_is_carried_into_the_next_span():
    span = Span()
    span.begin(0, 0, 0, 0)
    span.add(load(0, 0, supply_s=119, over_load_s=61))
    span.begin(86400, 5, 6, 7)
    assert span.state() == [86400, 5, 6, 7, 59, 1, 0, 0]
