"""The INA219 driver on the chip model."""

import errno

import pytest

from boards.emulated.vm.emu.ina219 import ADC_US
from boards.emulated.vm.emu.ina219 import INA219 as Chip
from firmware.metering.ina219 import CNVR, INA219, OVF, ConfigurationLost
from host_tests.fakes.chips import Clock, MachineBus, TwoVoltages

ADDRESS = 0x40


class Bench:
    """A driver on a chip on its circuit."""

    def __init__(self, shunt_uv=0, bus_mv=0, shunt_uohm=100_000):
        self.clock = Clock()
        self.circuit = TwoVoltages(self.clock, shunt_uv, bus_mv)
        self.chip = self.circuit.sampler = Chip(self.circuit, self.clock)
        self.bus = MachineBus({ADDRESS: self.chip})
        self.sensor = INA219(self.bus, ADDRESS, shunt_uohm)

    def register(self, number):
        buf = bytearray(2)
        self.chip.register_into(number, buf)
        return buf[0] << 8 | buf[1]

    def read(self, after_ms=200):
        self.clock.pass_ms(after_ms)
        self.sensor.read()
        return self.sensor


def test_the_datasheets_example():
    """Section 8.5.2.1 and 9.2.2: 20 mV across 2 milliohm, 11.98 V: 10 A and 119.8 W."""
    bench = Bench(20_000, 11_980, shunt_uohm=2_000)
    assert (bench.sensor.current_lsb_ua, bench.sensor.calibration) == (5_000, 4_096)
    bench.sensor.configure()
    sensor = bench.read()
    assert (sensor.shunt_uv(), sensor.bus_uv()) == (20_000, 11_980_000)
    assert sensor.read_current_ua() == 10_000_000
    assert sensor.power_uw() == 119_800_000


@pytest.mark.parametrize("pg", range(4))
@pytest.mark.parametrize("brng", range(2))
def test_ranges_are_those_of_the_chip(brng, pg):
    full_uv = 40_000 << pg
    bench = Bench(full_uv + 5_000, 36_000)
    bench.sensor.choose(brng=brng, pg=pg)
    bench.sensor.configure()
    sensor = bench.read()
    assert sensor.shunt_raw == sensor.shunt_full_scale == full_uv // 10
    assert sensor.bus_raw == sensor.bus_full_scale == (4_000, 8_000)[brng]
    bench.circuit.set(10 - full_uv, 15_996)
    sensor = bench.read()
    assert sensor.shunt_uv() == 10 - full_uv
    assert sensor.bus_uv() == 15_996_000


@pytest.mark.parametrize("setting", range(16))
def test_a_triggered_conversion_takes_the_time_of_its_averaging(setting):
    bench = Bench(32_000, 16_000)
    bench.sensor.choose(badc=setting, sadc=setting, mode=3)
    bench.sensor.configure()
    needed_ms = -(-2 * ADC_US[setting] // 1000)
    assert not bench.read(needed_ms - 1).flags & CNVR
    bench.sensor.trigger()
    sensor = bench.read(needed_ms)
    assert sensor.flags & CNVR
    assert (sensor.shunt_uv(), sensor.bus_uv()) == (32_000, 16_000_000)
    assert not bench.read(1000).flags & CNVR  # only once
    bench.circuit.set(64_000, 8_000)
    bench.sensor.trigger()
    sensor = bench.read(needed_ms)
    assert sensor.flags & CNVR
    assert (sensor.shunt_uv(), sensor.bus_uv()) == (64_000, 8_000_000)


@pytest.mark.parametrize("mode", [0, 4])
def test_without_power_or_converter_nothing_is_converted(mode):
    bench = Bench(10_000, 10_000)
    bench.sensor.choose(mode=mode)
    bench.sensor.configure()
    sensor = bench.read(1000)
    assert (sensor.flags & CNVR, sensor.shunt_raw, sensor.bus_raw) == (0, 0, 0)


@pytest.mark.parametrize(("mode", "raws"), [(5, (1_000, 0)), (6, (0, 2_500)), (7, (1_000, 2_500))])
def test_continuous_modes_convert_what_they_say(mode, raws):
    bench = Bench(10_000, 10_000)
    bench.sensor.choose(mode=mode)
    bench.sensor.configure()
    for _ in range(3):
        sensor = bench.read(140)
        assert sensor.flags & CNVR
        assert (sensor.shunt_raw, sensor.bus_raw) == raws


def test_ready_says_that_a_conversion_has_ended_since_power_was_read():
    bench = Bench(10_000, 10_000)
    bench.sensor.configure()
    assert not bench.read(136).flags & CNVR
    assert bench.read(1).flags & CNVR
    assert not bench.read(10).flags & CNVR
    assert bench.read(200).flags & CNVR
    bench.clock.pass_ms(200)
    for _ in range(3):
        bench.sensor.read(False)
        assert bench.sensor.flags & CNVR
    bench.sensor.read()
    bench.sensor.read(False)
    assert not bench.sensor.flags & CNVR


def test_overflow_is_the_chips():
    bench = Bench(320_000, 24_000)
    bench.sensor.calibration = 8_192
    bench.sensor.configure()
    assert bench.read().flags & OVF
    bench.circuit.set(1_000, 24_000)
    assert not bench.read().flags & OVF


@pytest.mark.parametrize(
    "shunt_uohm", [1_000, 2_000, 12_345, 100_000, 299_999, 1_000_000, 7 * 10**6]
)
def test_no_shunt_makes_the_registers_overflow_inside_the_ranges(shunt_uohm):
    bench = Bench(-320_000, 31_996, shunt_uohm=shunt_uohm)
    bench.sensor.configure()
    sensor = bench.read()
    assert not sensor.flags & OVF
    exact_ua = -320_000 * 1_000_000 / shunt_uohm
    assert sensor.read_current_ua() == pytest.approx(exact_ua, rel=2e-3)


def test_a_reset_is_seen_and_a_configuration_written_again():
    bench = Bench(10_000, 10_000)
    assert not bench.sensor.verify()
    bench.sensor.configure()
    assert bench.sensor.verify()
    bench.chip.power_up()
    assert not bench.sensor.verify()
    bench.sensor.configure()
    assert bench.sensor.verify()
    bench.sensor.calibration = 0x1235  # bit 0 is void
    bench.sensor.configure()
    bench.chip.write = lambda data: None
    bench.sensor.choose(pg=0)
    with pytest.raises(ConfigurationLost):
        bench.sensor.configure()


def test_the_meters_configuration():
    bench = Bench()
    bench.sensor.configure()
    assert (bench.register(0), bench.register(5)) == (0x3FFF, 4096)


@pytest.mark.parametrize(
    ("field", "highest"), [("brng", 1), ("pg", 3), ("badc", 15), ("sadc", 15), ("mode", 7)]
)
def test_a_field_out_of_range_is_named_and_changes_nothing(field, highest):
    bench = Bench()
    for value in (-1, highest + 1):
        with pytest.raises(ValueError, match=f"{field}: must be 0 to {highest}, not {value}"):
            bench.sensor.choose(**{field: value})
    bench.sensor.configure()
    assert bench.register(0) == 0x3FFF


def test_errors_of_the_bus_come_through_and_leave_the_last_reading():
    bench = Bench(10_000, 10_000)
    bench.sensor.configure()
    bench.read()
    for error in (errno.ENODEV, errno.ETIMEDOUT):
        bench.bus.error = error
        for call in (bench.sensor.read, bench.sensor.verify, bench.sensor.configure):
            with pytest.raises(OSError) as raised:
                call()
            assert raised.value.errno == error
    assert (bench.sensor.shunt_raw, bench.sensor.bus_raw) == (1_000, 2_500)
