"""The driver beside adafruit-circuitpython-ina219 on the same chip: the same numbers.

Ours are exact integers. Theirs are floats: a register times a step that is a float itself, so the
two may differ by the last bit of that step and the rounding of the product, and by no more.
"""

from fractions import Fraction
from math import ulp

import adafruit_ina219
import pytest
from adafruit_ina219 import ADCResolution, BusVoltageRange, Gain, Mode
from hypothesis import given, settings
from hypothesis import strategies as st

from boards.emulated.vm.emu.ina219 import (
    BUS_VOLTAGE,
    CALIBRATION,
    CURRENT,
    POWER,
    SHUNT_VOLTAGE,
)
from boards.emulated.vm.emu.ina219 import (
    INA219 as Chip,
)
from firmware.metering.ina219 import INA219, OVF
from host_tests.fakes.chips import BlinkaBus, Clock, MachineBus, TwoVoltages

ADDRESS = 0x40
# The configurations that the library offers by name, with the shunt that each is meant for.
NAMED = {
    "set_calibration_32V_2A": 100_000,
    "set_calibration_32V_1A": 100_000,
    "set_calibration_16V_400mA": 100_000,
    "set_calibration_16V_5A": 20_000,
    "set_calibration_16V_80mA": 1_000_000,
    "set_calibration_16V_4mA": 10_000_000,
}


def values(cls):
    return st.sampled_from([value for name, value in vars(cls).items() if name.isupper()])


word = st.integers(0, 0xFFFF)
settings_of_library = st.fixed_dictionaries(
    {},
    optional={
        "bus_voltage_range": values(BusVoltageRange),
        "gain": values(Gain),
        "bus_adc_resolution": values(ADCResolution),
        "shunt_adc_resolution": values(ADCResolution),
        "mode": values(Mode),
        "calibration": word,
    },
)


class Pair:
    """Both drivers on one chip."""

    def __init__(self, named, shunt_uv=0, bus_mv=0):
        self.clock = Clock()
        self.circuit = TwoVoltages(self.clock, shunt_uv, bus_mv)
        self.chip = self.circuit.sampler = Chip(self.circuit, self.clock)
        self.theirs = adafruit_ina219.INA219(BlinkaBus({ADDRESS: self.chip}, self.clock), ADDRESS)
        getattr(self.theirs, named)()
        self.ours = INA219(MachineBus({ADDRESS: self.chip}), ADDRESS, NAMED[named])

    def take_settings(self):
        """Ours is told what theirs has written."""
        theirs = self.theirs
        self.ours.choose(
            theirs.bus_voltage_range,
            theirs.gain,
            theirs.bus_adc_resolution,
            theirs.shunt_adc_resolution,
            theirs.mode,
        )
        self.ours.calibration = theirs.calibration
        assert self.ours.verify()  # the same words in the chip's registers

    def compare(self):
        """Reads everything by both; `power` last, as it clears CNVR."""
        ours, theirs = self.ours, self.theirs
        flags = theirs.conversion_ready, theirs.overflow
        shunt_v, bus_v = theirs.shunt_voltage, theirs.bus_voltage
        current_ma, power_w = theirs.current, theirs.power
        ours.read()
        assert flags[1] == ours.flags & OVF
        near(ours.shunt_raw, ours.shunt_uv(), shunt_v, 10**6, 0.00001)
        near(ours.bus_raw, ours.bus_uv(), bus_v, 10**6, 0.004)
        current_raw = theirs.raw_current
        near(current_raw, ours.read_current_ua(), current_ma, 1000, theirs._current_lsb)
        near(ours.power_raw, ours.power_uw(), power_w, 10**6, theirs._power_lsb)
        return flags[0]


def near(raw, exact, theirs, scale, step):
    """`exact` (an integer) is the library's float `theirs` times `scale`, but for its rounding."""
    assert isinstance(exact, int)
    assert round(theirs * scale) == exact
    allowed = abs(raw) * Fraction(ulp(step)) + Fraction(ulp(theirs)) / 2
    assert abs(Fraction(exact, scale) - Fraction(theirs)) <= allowed


@pytest.mark.parametrize("named", NAMED)
@settings(deadline=None)
@given(changes=settings_of_library, shunt=word, bus=word, current=word, power=word)
def test_any_registers_give_the_same_numbers(named, changes, shunt, bus, current, power):
    pair = Pair(named)
    for name, value in changes.items():
        setattr(pair.theirs, name, value)
    pair.take_settings()
    pair.chip.stuck = True  # the registers stay as they are put
    registers = pair.chip._registers
    registers[SHUNT_VOLTAGE], registers[BUS_VOLTAGE] = shunt, bus
    registers[CURRENT], registers[POWER] = current, power
    pair.compare()


@pytest.mark.parametrize("named", NAMED)
@settings(deadline=None)
@given(
    changes=settings_of_library,
    shunt_uv=st.integers(-330_000, 330_000),
    bus_mv=st.integers(0, 33_000),
)
def test_what_the_chip_converts_gives_the_same_numbers(named, changes, shunt_uv, bus_mv):
    pair = Pair(named, shunt_uv, bus_mv)
    for name, value in changes.items():
        setattr(pair.theirs, name, value)
    pair.take_settings()
    pair.clock.pass_ms(200)
    assert pair.compare() == (pair.theirs.mode not in (Mode.POWERDOWN, Mode.ADCOFF))


@pytest.mark.parametrize("named", NAMED)
def test_each_named_configuration_is_the_datasheets_equation_for_its_shunt(named):
    pair = Pair(named)
    assert pair.ours.calibration == pair.theirs.calibration == 4096
    assert round(pair.theirs._current_lsb * 1000) == pair.ours.current_lsb_ua
    pair.take_settings()


@pytest.mark.parametrize("named", NAMED)
def test_every_value_of_every_register_agrees(named):
    pair = Pair(named)
    pair.take_settings()
    pair.chip.stuck = True
    registers = pair.chip._registers
    for value in range(0, 0x10000, 7):
        for number in (SHUNT_VOLTAGE, BUS_VOLTAGE, CURRENT, POWER):
            registers[number] = value
        pair.compare()
    assert registers[CALIBRATION] == 4096
