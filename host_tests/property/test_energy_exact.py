"""The energy registers against exact arithmetic, and their bound: no step reaches 2**30."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.metering.energy import EnergyRegister
from firmware.metering.scale import bus_gain, shunt_gain
from host_tests.bench.exact import Reference, counted_half_mj

BUS = bus_gain(10000)
SHUNT = shunt_gain(12500, 100000)

samples = st.lists(
    st.tuples(st.integers(0, 6250), st.integers(-26880, 26880), st.integers(0, 16000)),
    min_size=2,
    max_size=60,
)


@given(samples, st.integers(0, 1), st.integers(-200, 200), st.integers(-480, 480))
def test_registers_are_the_exact_integral_of_the_samples(readings, exports, bus_zero, shunt_zero):
    register = EnergyRegister(BUS, SHUNT, 25000, exports)
    register.scale(BUS, bus_zero, SHUNT, shunt_zero)
    reference = Reference(BUS, bus_zero, SHUNT, shunt_zero, 25000, exports)
    before = (0, 0)
    for reading in readings:
        register.add(*reading)
        reference.add(*reading)
        now = register.import_wh, register.export_wh
        assert now[0] >= before[0] and now[1] >= before[1]
        before = now
    assert counted_half_mj(register.imported) == 2000 * reference.import_j
    assert counted_half_mj(register.exported) == 2000 * reference.export_j
    assert exports or register.export_wh == reference.export_j == 0


@given(samples, st.data())
def test_where_an_interval_is_parted_changes_nothing_at_constant_power(readings, data):
    """Late, early and missing samples: the same energy, as long as the power is the same."""
    bus_raw, shunt_raw, _ = readings[0]
    whole, parted = (EnergyRegister(BUS, SHUNT, 25000) for _ in range(2))
    whole.add(bus_raw, shunt_raw, 0)
    parted.add(bus_raw, shunt_raw, 0)
    for _bus_raw, _shunt_raw, dt_ms in readings:
        whole.add(bus_raw, shunt_raw, dt_ms)
        first_ms = data.draw(st.integers(0, dt_ms))
        parted.add(bus_raw, shunt_raw, first_ms)
        parted.add(bus_raw, shunt_raw, dt_ms - first_ms)
    assert counted_half_mj(whole.imported) == counted_half_mj(parted.imported)


@given(st.integers(0, 6250), st.integers(-26880, 26880))
def test_power_is_voltage_times_current_within_rounding(bus_raw, shunt_raw):
    register = EnergyRegister(BUS, SHUNT, creep_ua=0)
    register.add(bus_raw, shunt_raw, 0)
    assert abs(register.voltage_mv - bus_raw * 40) <= 1 + bus_raw * 40 * 8 // 1000000
    exact_ua = abs(shunt_raw) * 1250
    assert abs(register.current_ua - exact_ua) <= 1 + exact_ua * 31 // 1000000
    assert register.power_mw == (register.voltage_mv * register.current_ua * 2 + 10**6) // (
        2 * 10**6
    )
    assert register.reversed == (shunt_raw < 0)


@given(st.integers(1000, 12500), st.integers(1000, 32000), st.integers(1000, 1000000))
def test_gains_stay_inside_small_integers(voltage_ratio_x1000, current_ratio_x1000, shunt_uohm):
    gain, shift = bus_gain(voltage_ratio_x1000)
    assert 8191 * gain + (1 << shift) < 2**30
    exact = Fraction(4 * voltage_ratio_x1000, 1000)
    assert abs(Fraction(gain, 2**shift) / exact - 1) <= Fraction(8, 10**6)
    if current_ratio_x1000 * 10000 // shunt_uohm < 3200:
        gain, shift = shunt_gain(current_ratio_x1000, shunt_uohm)
        # 60 steps: twice the zero that a calibration may take.
        assert 32060 * gain + (1 << shift) < 2**30


@pytest.mark.parametrize("exports", [0, 1])
def test_below_the_creep_threshold_nothing_registers_and_at_twice_it_does(exports):
    for sign in (1, -1):
        register = EnergyRegister(BUS, SHUNT, 25000, exports)
        count = register.exported if exports and sign < 0 else register.imported
        for _ in range(3600):
            register.add(6000, sign * 19, 1000)  # 23.75 mA
        assert (count.wh, count.half_mj, register.reversed, register.power_mw) == (0, 0, 0, 0)
        for _ in range(3600):
            register.add(6000, sign * 40, 1000)  # 50 mA = 0.4 % of Ib; at 240 V it is 12 W
        assert count.wh in (11, 12)
        assert register.reversed == (sign < 0)


def test_zeros_are_taken_off_before_the_sign_is_judged():
    register = EnergyRegister(BUS, SHUNT, creep_ua=25000)
    register.scale(BUS, 8, SHUNT, -480)  # the shunt reads -30 steps at no current
    register.add(6000, -30, 0)
    assert (register.current_ua, register.reversed) == (0, 0)
    register.add(0, 10, 0)
    assert (register.voltage_mv, register.current_ua) == (0, 50000)
    register.add(6000, -70, 0)
    assert (register.voltage_mv, register.current_ua, register.reversed) == (239980, 50000, 1)
