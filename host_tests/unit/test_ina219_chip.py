"""The INA219 model against the datasheet (TI SBOS448) and against Adafruit's driver."""

import adafruit_ina219
import pytest
from adafruit_ina219 import ADCResolution, BusVoltageRange, Gain, Mode
from hypothesis import given, settings
from hypothesis import strategies as st

from boards.emulated.vm.emu import ina219
from boards.emulated.vm.emu.ina219 import (
    BUS_VOLTAGE,
    CALIBRATION,
    CONFIGURATION,
    CURRENT,
    INA219,
    POWER,
    SHUNT_VOLTAGE,
)
from host_tests.fakes.chips import BlinkaBus, Clock, TwoVoltages

CNVR, OVF = 2, 1

# Table "ADC Settings" of the datasheet, typed here again: setting -> conversion time in us.
DATASHEET_ADC_US = {
    0b0000: 84, 0b0001: 148, 0b0010: 276, 0b0011: 532,
    0b0100: 84, 0b0101: 148, 0b0110: 276, 0b0111: 532,
    0b1000: 532, 0b1001: 1060, 0b1010: 2130, 0b1011: 4260,
    0b1100: 8510, 0b1101: 17020, 0b1110: 34050, 0b1111: 68100,
}  # fmt: skip

# Table "Shunt Voltage Register Format": (uV, PG) -> register, where the table's input of
# 320.02 mV, 160.01 mV, 80.01 mV or 40.01 mV is out of the range chosen, it shows full scale.
DATASHEET_SHUNT = [
    (320_020, 3, 0x7D00),
    (320_000, 3, 0x7D00),
    (319_990, 3, 0x7CFF),
    (160_010, 3, 0x3E81),
    (160_010, 2, 0x3E80),
    (160_010, 1, 0x1F40),
    (160_010, 0, 0x0FA0),
    (80_010, 1, 0x1F40),
    (40_010, 0, 0x0FA0),
    (39_990, 0, 0x0F9F),
    (20, 0, 0x0002),
    (0, 3, 0x0000),
    (-10, 0, 0xFFFF),
    (-20, 3, 0xFFFE),
    (-39_990, 0, 0xF061),
    (-40_000, 0, 0xF060),
    (-40_010, 0, 0xF060),
    (-80_000, 1, 0xE0C0),
    (-160_000, 2, 0xC180),
    (-320_020, 3, 0x8300),
]


class Bench:
    """A chip on its circuit; registers by number."""

    def __init__(self, shunt_uv=0, bus_mv=0, **chip):
        self.clock = Clock()
        self.circuit = TwoVoltages(self.clock, shunt_uv, bus_mv)
        self.chip = INA219(self.circuit, self.clock, **chip)
        self.circuit.sampler = self.chip

    def write(self, register, value):
        self.chip.write(bytes([register, value >> 8, value & 0xFF]))

    def read(self, register):
        buf = bytearray(2)
        self.chip.register_into(register, buf)
        return buf[0] << 8 | buf[1]

    def after_ms(self, ms, register):
        self.clock.pass_ms(ms)
        return self.read(register)


def test_reset_values():
    bench = Bench(shunt_uv=1000, bus_mv=5000)
    assert [bench.read(r) for r in range(6)] == [0x399F, 0, 0, 0, 0, 0]


def test_rst_restores_every_register_and_clears_itself():
    bench = Bench(shunt_uv=50_000, bus_mv=12_000)
    bench.write(CALIBRATION, 4096)
    bench.write(CONFIGURATION, 0x0001)
    bench.clock.pass_ms(10)
    assert bench.read(CURRENT)
    bench.write(CONFIGURATION, 0xFFFF)
    assert [bench.read(r) for r in range(6)] == [0x399F, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(("shunt_uv", "gain", "register"), DATASHEET_SHUNT)
def test_shunt_register_format(shunt_uv, gain, register):
    bench = Bench(shunt_uv=shunt_uv)
    bench.write(CONFIGURATION, 0x2000 | gain << 11 | 3 << 7 | 3 << 3 | 7)
    assert bench.after_ms(10, SHUNT_VOLTAGE) == register


@pytest.mark.parametrize(
    ("bus_mv", "range_32v", "field"),
    [
        (0, 1, 0), (4, 1, 1), (12_000, 1, 3000), (31_996, 1, 7999), (32_000, 1, 8000),
        (33_000, 1, 8000), (15_996, 0, 3999), (16_000, 0, 4000), (20_000, 0, 4000), (-50, 1, 0),
    ],
)  # fmt: skip
def test_bus_register_layout_and_full_scale(bus_mv, range_32v, field):
    bench = Bench(bus_mv=bus_mv)
    bench.write(CONFIGURATION, range_32v << 13 | 0x199F)
    assert bench.after_ms(10, BUS_VOLTAGE) == field << 3 | CNVR


def test_datasheet_example():
    """Section "Programming": 20 mV across the shunt, 11.98 V, calibration 5000h."""
    bench = Bench(shunt_uv=20_000, bus_mv=11_980)
    bench.write(CALIBRATION, 0x5000)
    bench.write(CONFIGURATION, 0x019F)
    bench.clock.pass_ms(10)
    assert bench.read(SHUNT_VOLTAGE) == 0x07D0
    assert bench.read(BUS_VOLTAGE) == 0x5D98 | CNVR
    assert bench.read(CURRENT) == 0x2710
    assert bench.read(POWER) == 0x1766


@given(
    shunt_uv=st.integers(-400_000, 400_000),
    bus_mv=st.integers(0, 36_000),
    calibration=st.integers(0, 0xFFFF),
    gain=st.integers(0, 3),
    range_32v=st.integers(0, 1),
)
def test_arithmetic_of_every_register(shunt_uv, bus_mv, calibration, gain, range_32v):
    bench = Bench(shunt_uv, bus_mv)
    bench.write(CALIBRATION, calibration)
    bench.write(CONFIGURATION, range_32v << 13 | gain << 11 | 0x019F)
    bench.clock.pass_ms(5)
    shunt = bench.read(SHUNT_VOLTAGE)
    shunt -= (shunt & 0x8000) << 1
    bus = bench.read(BUS_VOLTAGE)
    full_scale = 4000 << gain
    assert abs(shunt) <= full_scale
    if abs(shunt_uv) < full_scale * 10:
        assert abs(shunt * 10 - shunt_uv) <= 5
    else:
        assert abs(shunt) == full_scale
    assert abs((bus >> 3) * 4 - min(bus_mv, 32_000 if range_32v else 16_000)) <= 2
    assert bus & 4 == 0
    assert bench.read(CALIBRATION) == calibration & 0xFFFE
    # Rational truncation toward zero, by another road than the model's.
    current = int(shunt * (calibration & 0xFFFE) / 4096)
    power = abs(current) * (bus >> 3) // 5000
    assert bench.read(CURRENT) == current & 0xFFFF
    assert bench.read(POWER) == power & 0xFFFF
    assert bus & OVF == (not -32768 <= current <= 32767 or power > 65535)


@given(sadc=st.integers(0, 15), badc=st.integers(0, 15), mode=st.integers(0, 7))
def test_conversion_takes_the_time_of_the_table(sadc, badc, mode):
    bench = Bench(shunt_uv=10_240, bus_mv=10_240)  # whole steps of 9 bits, too
    bench.clock.pass_ms(1)  # less than the first conversion
    bench.write(CONFIGURATION, 0x3800 | badc << 7 | sadc << 3 | mode)
    time_us = DATASHEET_ADC_US[sadc] * (mode & 1) + DATASHEET_ADC_US[badc] * (mode >> 1 & 1)
    if not time_us:
        assert bench.after_ms(1000, BUS_VOLTAGE) == 0
        return
    needed_ms = -(-time_us // 1000)
    assert bench.after_ms(needed_ms - 1, BUS_VOLTAGE) & CNVR == 0
    assert bench.after_ms(1, BUS_VOLTAGE) & CNVR
    assert bench.read(SHUNT_VOLTAGE) == (1024 if mode & 1 else 0)
    assert bench.read(BUS_VOLTAGE) >> 3 == (2560 if mode & 2 else 0)


def test_conversion_ready_is_cleared_by_power_and_by_a_mode_only():
    bench = Bench(shunt_uv=10_000, bus_mv=10_000)
    assert bench.after_ms(2, BUS_VOLTAGE) & CNVR
    assert bench.read(BUS_VOLTAGE) & CNVR, "reading the bus voltage leaves it"
    bench.read(CURRENT)
    assert bench.read(BUS_VOLTAGE) & CNVR
    bench.read(POWER)
    assert not bench.read(BUS_VOLTAGE) & CNVR
    assert bench.after_ms(2, BUS_VOLTAGE) & CNVR, "the next conversion sets it again"
    bench.write(CONFIGURATION, 0x399F & ~7)
    assert bench.read(BUS_VOLTAGE) & CNVR, "power-down leaves it"
    bench.write(CONFIGURATION, 0x399F)
    assert not bench.read(BUS_VOLTAGE) & CNVR


def test_triggered_mode_converts_once():
    bench = Bench(shunt_uv=10_000, bus_mv=10_000)
    bench.write(CONFIGURATION, 0x399B)
    assert bench.after_ms(2, SHUNT_VOLTAGE) == 1000
    bench.circuit.set(20_000, 10_000)
    assert bench.after_ms(500, SHUNT_VOLTAGE) == 1000
    bench.write(CONFIGURATION, 0x399B)
    assert bench.after_ms(2, SHUNT_VOLTAGE) == 2000


def test_a_conversion_samples_the_circuit_at_its_own_time():
    bench = Bench(shunt_uv=10_000, bus_mv=10_000)
    bench.write(CONFIGURATION, 0x3FFF)  # 128 samples each: 136.2 ms
    bench.clock.pass_ms(137)
    bench.circuit.set(20_000, 10_000)
    assert bench.after_ms(100, SHUNT_VOLTAGE) == 1000, "ended before the change"
    assert bench.after_ms(36, SHUNT_VOLTAGE) == 2000
    start_ms = bench.clock.now_ms()
    bench.circuit.plan((start_ms + 1000, 30_000, 10_000))
    assert bench.after_ms(999, SHUNT_VOLTAGE) == 2000
    assert bench.after_ms(1, SHUNT_VOLTAGE) == 2000, "no conversion has ended since"
    assert bench.after_ms(137, SHUNT_VOLTAGE) == 3000


@pytest.mark.parametrize(("sadc", "step"), [(0, 8), (1, 4), (2, 2), (3, 1), (8, 1), (15, 1)])
def test_fewer_bits_are_coarser(sadc, step):
    seen = set()
    for shunt_uv in range(0, 1000, 10):
        bench = Bench(shunt_uv=shunt_uv)
        bench.write(CONFIGURATION, 0x3800 | sadc << 3 | 5)
        seen.add(bench.after_ms(100, SHUNT_VOLTAGE))
    assert {value % step for value in seen} == {0}
    assert len(seen) >= 100 // step


def test_pointer_stays_and_one_byte_changes_nothing():
    bench = Bench(bus_mv=12_000)
    bench.clock.pass_ms(2)
    bench.chip.write(bytes([BUS_VOLTAGE]))
    for _ in range(2):
        buf = bytearray(2)
        bench.chip.read_into(buf)
        assert buf == bytes([0x5D, 0xC2])
    bench.chip.write(bytes([CALIBRATION, 0x12]))
    assert bench.read(CALIBRATION) == 0
    bench.write(BUS_VOLTAGE, 0xFFFF)
    assert bench.read(BUS_VOLTAGE) == 0x5DC2, "read-only"


def test_errors_are_applied_before_the_converter():
    errors = {"shunt_offset_uv": [10, 20, 30, 40], "shunt_gain_ppm": 5_000, "bus_offset_mv": -8}
    bench = Bench(20_000, 10_000, errors={**errors, "bus_gain_ppm": -2_000})
    for gain in range(4):
        bench.write(CONFIGURATION, 0x219F | gain << 11)
        assert bench.after_ms(2, SHUNT_VOLTAGE) == 2000 + 10 + 1 + gain
    assert bench.read(BUS_VOLTAGE) >> 3 == 2500 - 5 - 2
    with pytest.raises(ValueError, match="shunt_offset_uv"):
        Bench(errors={"shunt_offset": 1})


def test_noise_is_bounded_seeded_centred_and_averaged_away():
    def samples(configuration, seed):
        bench = Bench(100_000, 10_000, errors={"noise_lsb": 6}, seed=seed)
        bench.write(CONFIGURATION, configuration)
        return [bench.after_ms(200, SHUNT_VOLTAGE) - 10_000 for _ in range(2000)]

    single = samples(0x399F, 1)
    assert single == samples(0x399F, 1)
    assert single != samples(0x399F, 2)
    assert max(map(abs, single)) <= 6
    assert len(set(single)) > 8
    assert abs(sum(single)) < 200  # mean within 0.1 LSB
    assert max(map(abs, samples(0x39FF, 1))) <= 1


def test_registers_outlive_a_reset_of_the_processor_and_not_of_the_chip():
    kept = []
    bench = Bench(50_000, 12_000, on_keep=kept.append)
    bench.write(CALIBRATION, 0x2001)
    bench.write(CONFIGURATION, 0x1234)
    again = Bench(50_000, 12_000, kept=kept[-1])
    assert (again.read(CONFIGURATION), again.read(CALIBRATION)) == (0x1234, 0x2000)
    bench.chip.power_up()
    assert kept[-1] == [0x399F, 0]


def test_a_stuck_chip_goes_on_answering():
    bench = Bench(50_000, 12_000)
    assert bench.after_ms(2, SHUNT_VOLTAGE) == 5000
    bench.chip.stuck = True
    bench.circuit.set(60_000, 12_000)
    assert bench.after_ms(1000, SHUNT_VOLTAGE) == 5000
    bench.chip.stuck = False
    assert bench.after_ms(1000, SHUNT_VOLTAGE) == 6000


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["read", "write", "change", "wait"]),
            st.integers(0, 7),
            st.integers(0, 0xFFFF),
        ),
        max_size=40,
    )
)
def test_the_short_cut_of_a_read_is_never_seen(steps):
    """A chip read at once and one that always looks give the same registers."""

    class Careful(INA219):
        def register_into(self, pointer, buf):
            self._calm_ms = 0
            super().register_into(pointer, buf)

    benches = [Bench(10_000, 10_000), Bench(10_000, 10_000)]
    benches[1].chip = benches[1].circuit.sampler = Careful(benches[1].circuit, benches[1].clock)
    for what, register, value in steps:
        for bench in benches:
            if what == "write":
                bench.write(register, value)
            elif what == "change":
                bench.circuit.set(value * 4, value // 2)
            elif what == "wait":
                bench.clock.pass_ms(value % 300)
        assert benches[0].read(register) == benches[1].read(register)


@pytest.mark.parametrize(
    ("configure", "volts", "amperes"),
    [
        ("set_calibration_32V_2A", 23.0, 1.9),
        ("set_calibration_32V_1A", 12.0, 0.95),
        ("set_calibration_16V_400mA", 5.0, 0.39),
    ],
)
def test_adafruits_driver_measures_what_flows(configure, volts, amperes):
    shunt_ohm = 0.1
    clock = Clock()
    circuit = TwoVoltages(clock, round(amperes * shunt_ohm * 1e6), round(volts * 1000))
    chip = circuit.sampler = INA219(circuit, clock)
    driver = adafruit_ina219.INA219(BlinkaBus({0x40: chip}, clock))
    getattr(driver, configure)()
    clock.pass_ms(200)
    assert driver.conversion_ready
    assert not driver.overflow
    assert driver.bus_voltage == pytest.approx(volts, abs=0.004)
    assert driver.shunt_voltage == pytest.approx(amperes * shunt_ohm, abs=1e-5)
    assert driver.current == pytest.approx(amperes * 1000, rel=1e-3)
    assert driver.power == pytest.approx(volts * amperes, rel=2e-3)
    assert not driver.conversion_ready


def test_adafruits_driver_finds_its_settings_again():
    clock = Clock()
    circuit = TwoVoltages(clock, 5_000, 12_000)
    chip = circuit.sampler = INA219(circuit, clock)
    driver = adafruit_ina219.INA219(BlinkaBus({0x40: chip}, clock))
    driver.bus_voltage_range = BusVoltageRange.RANGE_16V
    driver.gain = Gain.DIV_2_80MV
    driver.bus_adc_resolution = ADCResolution.ADCRES_9BIT_1S
    driver.shunt_adc_resolution = ADCResolution.ADCRES_12BIT_128S
    driver.mode = Mode.SANDBVOLT_TRIGGERED
    assert chip._registers[CONFIGURATION] == 1 << 11 | 0 << 7 | 15 << 3 | 3
    assert (driver.gain, driver.mode) == (Gain.DIV_2_80MV, Mode.SANDBVOLT_TRIGGERED)
    clock.pass_ms(70)
    assert driver.raw_shunt_voltage == 500
    driver.calibration = 0x1001
    assert driver._raw_calibration == 0x1000
    driver.reset = 1
    assert chip._registers[CONFIGURATION] == ina219.CONFIGURATION_RESET


def test_an_overflow_shows():
    clock = Clock()
    circuit = TwoVoltages(clock, 320_000, 24_000)
    chip = circuit.sampler = INA219(circuit, clock)
    driver = adafruit_ina219.INA219(BlinkaBus({0x40: chip}, clock))
    driver.calibration = 8192
    clock.pass_ms(10)
    assert driver.overflow
