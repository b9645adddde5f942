"""The energy register against exact arithmetic, and its bound: no step reaches 2**30."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from firmware.metering.energy import HALF_MJ_PER_WH, EnergyRegister
from firmware.metering.scale import bus_gain, shunt_gain

BUS = bus_gain(10000)
SHUNT = shunt_gain(12500, 100000)

samples = st.lists(
    st.tuples(st.integers(0, 6250), st.integers(-26880, 26880), st.integers(1, 2000)),
    min_size=2,
    max_size=60,
)


@given(samples)
def test_register_is_the_exact_trapezoid_of_its_own_powers(readings):
    register = EnergyRegister(BUS, SHUNT, creep_ua=25000)
    exact_mj = Fraction(0)
    before_mw = 0
    for number, (bus_raw, shunt_raw, dt_ms) in enumerate(readings):
        register.add(bus_raw, shunt_raw, dt_ms if number else 0)
        if number:
            exact_mj += Fraction((before_mw + register.power_mw) * dt_ms, 2 * 1000)
        before_mw = register.power_mw
    counted_half_mj = (
        register.import_wh * HALF_MJ_PER_WH
        + register.remainder_half_mj
        + Fraction(register.remainder_half_uj, 1000)
    )
    assert counted_half_mj == 2 * exact_mj


@given(st.integers(0, 6250), st.integers(-26880, 26880))
def test_power_is_voltage_times_current_within_rounding(bus_raw, shunt_raw):
    register = EnergyRegister(BUS, SHUNT, creep_ua=0)
    register.add(bus_raw, shunt_raw, 0)
    assert abs(register.voltage_mv - bus_raw * 40) <= 1 + bus_raw * 40 * 8 // 1000000
    exact_ua = abs(shunt_raw) * 1250
    assert abs(register.current_ua - exact_ua) <= 1 + exact_ua * 31 // 1000000
    assert abs(register.power_mw - Fraction(register.voltage_mv * register.current_ua, 10**6)) <= 2


@given(st.integers(1000, 12500), st.integers(1000, 32000), st.integers(1000, 1000000))
def test_gains_stay_inside_small_integers(voltage_ratio_x1000, current_ratio_x1000, shunt_uohm):
    gain, shift = bus_gain(voltage_ratio_x1000)
    assert 8191 * gain + (1 << shift) < 2**30
    exact = Fraction(4 * voltage_ratio_x1000, 1000)
    assert abs(Fraction(gain, 2**shift) / exact - 1) <= Fraction(8, 10**6)
    if current_ratio_x1000 * 10000 // shunt_uohm < 3200:
        gain, shift = shunt_gain(current_ratio_x1000, shunt_uohm)
        assert 32000 * gain + (1 << shift) < 2**30


def test_below_the_creep_threshold_nothing_registers_and_at_twice_it_does():
    register = EnergyRegister(BUS, SHUNT, creep_ua=25000)
    for _ in range(3600):
        register.add(6000, 19, 1000)  # 23.75 mA
    assert (register.import_wh, register.remainder_half_mj) == (0, 0)
    for _ in range(3600):
        register.add(6000, 40, 1000)  # 50 mA at 240 V is 12 W
    assert register.import_wh in (11, 12)
