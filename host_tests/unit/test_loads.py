"""Loads: their text, the recording with holes, and a household that stays the same story."""

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boards.emulated.vm.emu.loads import (
    DAY_MS,
    NOMINAL_MV,
    Appliances,
    Constant,
    Recorded,
    load_from,
    milli,
)

IST_MIN = 330
# Local midnight in India, 21 September 2026.
MIDNIGHT_MS = 1_789_929_000_000
MINUTE_MS = 60_000
HOUSEHOLD = Path(__file__).parents[3] / "shared" / "data" / "household_minutes.csv"


def recorded(text, start_ms=MIDNIGHT_MS + 5 * 3_600_000):
    return Recorded(io.BytesIO(text.encode()), start_ms, IST_MIN)


def values(load, minute, ms=0):
    load.at(MIDNIGHT_MS + minute * MINUTE_MS + ms)
    return load.voltage_mv, load.current_ma


def energy_mwh(load, day):
    """Exact energy of a local day, cut to whole mWh."""
    t_ms = MIDNIGHT_MS + day * DAY_MS
    end_ms = t_ms + DAY_MS
    energy_nj = 0
    while t_ms < end_ms:
        load.at(t_ms)
        assert load.until_ms > t_ms
        energy_nj += load.voltage_mv * load.current_ma * (min(load.until_ms, end_ms) - t_ms)
        t_ms = load.until_ms
    return energy_nj // 3_600_000_000


def test_midnight_is_midnight():
    assert (MIDNIGHT_MS + IST_MIN * MINUTE_MS) % DAY_MS == 0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("242.730", 242_730), ("4", 4_000), ("-0.5", -500), (".25", 250), ("1.", 1_000),
        ("0.0005", 1), ("0.0004", 0), ("-0.0005", -1), (" 7.1 ", 7_100),
        ("", None), ("?", None), ("nan", None), ("1e3", None), (".", None), ("1.2.3", None),
        ("+1", None), ("--1", None), ("1,5", None),
    ],
)  # fmt: skip
def test_decimals_become_thousandths_without_a_float(text, value):
    assert milli(text) == value


@given(st.integers(-(10**9), 10**9))
def test_every_thousandth_survives(value):
    sign = "-" if value < 0 else ""
    assert milli(f"{sign}{abs(value) // 1000}.{abs(value) % 1000:03}") == value


def test_texts_of_loads():
    constant = load_from("constant:230V,2.5A")
    assert (constant.voltage_mv, constant.current_ma) == (230_000, 2_500)
    assert load_from("constant:12.05V,-0.4A").current_ma == -400
    assert isinstance(load_from("appliances:default", seed=5), Appliances)
    same = [
        energy_mwh(load_from(text, seed=5), 0) for text in ("appliances:default", "appliances:5")
    ]
    assert same[0] == same[1] != energy_mwh(load_from("appliances:6,2"), 0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "appliances"), ("heater:1", "constant"), ("constant:230,2", "230V,2.5A"),
        ("constant:230V", "230V,2.5A"), ("appliances:x", "whole number"),
        ("appliances:1,0", "1-9"), ("appliances:1,12", "1-9"), ("csv:/no/such/file", "cannot open"),
    ],
)  # fmt: skip
def test_a_wrong_text_says_what_is_right(text, says):
    with pytest.raises(ValueError, match=says):
        load_from(text)


def test_columns_are_found_by_name():
    load = recorded("current_a;note;Voltage_V;minute\n1.5;x;230.5;0\n2;x;231;1\n")
    assert values(load, 0) == (230_500, 1_500)
    assert values(load, 1, 59_999) == (231_000, 2_000)
    with pytest.raises(ValueError, match="minute,voltage_v,current_a"):
        recorded("minute,volts\n0,1\n")
    with pytest.raises(ValueError, match="no row"):
        recorded("minute,voltage_v,current_a\n\n?,1,1\n")


HOLES = """minute,voltage_v,current_a
0,?,1.0
1,231,2.0
2,,?
3,232
5,233,5.0
bad line
?,240,9
4,240,9
6,234,6.0
"""


def test_missing_values_and_rows_are_bridged_and_counted():
    load = recorded(HOLES)
    assert values(load, 0) == (NOMINAL_MV, 1_000)
    assert load.held == 1
    assert values(load, 1) == (231_000, 2_000)
    assert values(load, 2) == (231_000, 2_000)
    assert values(load, 3) == (232_000, 2_000)
    assert load.held == 3
    assert values(load, 4) == (232_000, 2_000), "a row that comes too late is not believed"
    assert load.held == 4
    assert values(load, 5) == (233_000, 5_000)
    assert values(load, 6) == (234_000, 6_000)
    assert load.held == 4


def test_a_recording_repeats_and_holds_each_minute():
    load = recorded(HOLES)
    first = [values(load, minute) for minute in range(7)]
    assert [values(load, minute, 12_345) for minute in range(7, 21)] == first * 2
    load.at(MIDNIGHT_MS + 8 * MINUTE_MS + 12_345)
    assert load.until_ms == MIDNIGHT_MS + 9 * MINUTE_MS
    assert values(load, -7) == first[0], "before its first midnight it has been running, too"


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30))
def test_a_recording_is_a_function_of_time(minutes):
    fresh = [values(recorded(HOLES), minute) for minute in minutes]
    load = recorded(HOLES)
    assert [values(load, minute) for minute in minutes] == fresh


def test_rows_longer_than_a_read_and_windows_line_ends():
    rows = "".join(
        f"{m},{230 + m % 7}.{m % 1000:03},{m % 13}.5,{'x' * (m % 700)}\r\n" for m in range(900)
    )
    load = recorded("minute,voltage_v,current_a,note\r\n" + rows)
    for minute in (0, 1, 699, 700, 899, 900, 450):
        m = minute % 900
        assert values(load, minute) == ((230 + m % 7) * 1000 + m, m % 13 * 1000 + 500)


def test_the_real_household():
    if not HOUSEHOLD.exists():
        pytest.skip("no ../shared/data/household_minutes.csv here")
    with HOUSEHOLD.open("rb") as source:
        load = Recorded(source, MIDNIGHT_MS, IST_MIN)
        total_mwh = sum(energy_mwh(load, day) for day in range(3))
        assert total_mwh == pytest.approx(122_513_000, abs=1_000)  # its README: 122.513 kWh
        assert energy_mwh(load, 3) == energy_mwh(load, 0)
        assert load.held == 0


def test_households_use_what_households_use():
    days_kwh = []
    for seed in range(6):
        for residents in (2, 4, 6):
            load = Appliances(seed, residents)
            for day in range(3, 366, 29):
                days_kwh.append(energy_mwh(load, day) / 1e6)
    days_kwh.sort()
    assert days_kwh[0] > 3
    assert days_kwh[-1] < 14
    within = [kwh for kwh in days_kwh if 5 <= kwh <= 12]
    assert len(within) > 0.85 * len(days_kwh)


def test_a_day_has_its_hours_and_a_week_its_end():
    load = Appliances(1, 4)
    load.at(MIDNIGHT_MS)
    mean_ma = dict.fromkeys(range(24), 0)
    for day in range(-60, -32):  # July and August: warm
        for hour in mean_ma:
            for minute in range(0, 60, 5):
                load.at(MIDNIGHT_MS + day * DAY_MS + (hour * 60 + minute) * MINUTE_MS)
                assert 205_000 < load.voltage_mv < 250_000
                assert 0 < load.current_ma < 40_000
                mean_ma[hour] += load.current_ma
    assert mean_ma[20] > 1.3 * mean_ma[10], "the evening is busy"
    assert mean_ma[13] > mean_ma[10], "fans and cooler at noon"
    days = [energy_mwh(load, day) for day in range(-70, 0)]
    assert len(set(days)) == len(days), "no two days are the same"


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    offsets=st.lists(st.integers(0, 10 * DAY_MS), min_size=1, max_size=20),
)
def test_a_household_is_a_function_of_time(seed, offsets):
    load = Appliances(seed)
    for offset_ms in offsets:
        t_ms = MIDNIGHT_MS + offset_ms
        fresh = Appliances(seed)
        for one in (load, fresh):
            one.at(t_ms)
        seen = load.voltage_mv, load.current_ma, load.until_ms
        assert seen == (fresh.voltage_mv, fresh.current_ma, fresh.until_ms)
        assert t_ms < load.until_ms <= t_ms + MINUTE_MS
        fresh.at(load.until_ms - 1)
        assert (fresh.voltage_mv, fresh.current_ma, fresh.until_ms) == seen


def test_constant_is_constant():
    load = Constant(230_000, 1)
    load.at(MIDNIGHT_MS)
    assert load.until_ms > MIDNIGHT_MS + 10**15
