"""Pulses against the register they stand for, and which constants a board may have."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.core.config import ConfigError
from firmware.metering.energy import HALF_MJ_PER_WH, EnergyRegister
from firmware.metering.pulse import Pulse, check
from firmware.metering.scale import bus_gain, shunt_gain
from host_tests.fakes.bench import HOUR_S, Bench

samples = st.lists(
    st.tuples(st.integers(0, 6250), st.integers(-26880, 26880), st.integers(0, 2000)),
    min_size=2,
    max_size=60,
)


def position(count, imp_per_kwh):
    """Whole pulses up to where a register is."""
    return (count.wh * HALF_MJ_PER_WH + count.half_mj) * imp_per_kwh // (1000 * HALF_MJ_PER_WH)


@given(
    samples,
    st.sampled_from([10, 1000, 1600, 3200, 10000]),
    st.integers(0, 2**40),
    st.integers(0, HALF_MJ_PER_WH - 1),
)
def test_pulses_are_those_of_the_register_wherever_it_began(readings, imp_per_kwh, wh, half_mj):
    register = EnergyRegister(bus_gain(10000), shunt_gain(12500, 100000), 25000)
    register.imported.restore(wh, half_mj)
    woken = []
    pulse = Pulse(register.imported, imp_per_kwh, lambda: woken.append(pulse.due))
    before = position(register.imported, imp_per_kwh)
    for reading in readings:
        register.add(*reading)
        due = pulse.due
        pulse.add()
        assert pulse.due == position(register.imported, imp_per_kwh) - before
        assert (woken[-1:] == [pulse.due]) == (pulse.due > 0)
        assert pulse.due >= due


def config(**changes):
    return SimpleNamespace(
        **{"voltage_ratio_x1000": 10000, "current_ratio_x1000": 12500, **changes}
    )


@pytest.mark.parametrize(
    ("imp_per_kwh", "changes"),
    [
        (10, {}),
        (5000, {}),  # 260 V and 40 A: 10.4 kW, 14.4 pulses a second
        (1600, {"voltage_ratio_x1000": 12500, "current_ratio_x1000": 31250}),
    ],
)
def test_constants_that_can_be_given(imp_per_kwh, changes):
    check(imp_per_kwh, config(**changes), 100000)


@pytest.mark.parametrize(
    ("imp_per_kwh", "changes", "why"),
    [
        (9, {}, "from 10 to 10000"),
        (10001, {}, "from 10 to 10000"),
        (7000, {}, "divide 7,200,000,000"),
        (6000, {}, "at most 5538: at 10400 W"),
        (3200, {"voltage_ratio_x1000": 12500, "current_ratio_x1000": 31250}, "at most 1772"),
        (3200, {"current_ratio_x1000": 32000}, "at most 2163"),
    ],
)
def test_constants_that_cannot_be_given_at_the_largest_power(imp_per_kwh, changes, why):
    with pytest.raises(ConfigError, match=why) as refused:
        check(imp_per_kwh, config(**changes), 100000)
    assert refused.value.field == "pulse_imp_per_kwh"


def test_a_register_that_a_resync_raises_gives_no_pulses(tmp_path):
    bench = Bench(tmp_path / "data")
    bench.run(HOUR_S, 960)
    meter = bench.meter
    meter.pulse = Pulse(meter.energy.imported, 1000, lambda: None)
    bench.run(HOUR_S, 960)
    due = meter.pulse.due
    assert 958 <= due <= 961
    meter.service = "ledger_lost"
    document = {
        "credits_mp": 0,
        "closed_mp": 0,
        "period_start_wh": 0,
        "period_start_utc_s": 0,
        "import_wh": 50_000,
        "tariff": meter.account.tariff.document,
    }
    assert bench.order("s-1", 1, "resync", document=document)["result"] == "accepted"
    assert meter.energy.import_wh == 50_000
    bench.run(60, 960)
    assert meter.pulse.due - due <= 17
    meter.journal.close()
