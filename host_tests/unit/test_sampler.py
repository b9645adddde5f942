"""The sampler on the chip model: what follows from each fault, and the way back."""

import errno

import pytest

from boards.emulated.vm.emu.ina219 import BUS_VOLTAGE, CNVR, OVF, SHUNT_VOLTAGE
from boards.emulated.vm.emu.ina219 import INA219 as Chip
from firmware.metering import sampler as faults
from firmware.metering.ina219 import INA219
from firmware.metering.sampler import Sampler
from host_tests.fakes.chips import Clock, MachineBus, TwoVoltages

ADDRESS = 0x40
SECOND_MS = 1000


class Taker:
    """What the sampler needs of a meter; keeps what it was handed."""

    gap_limit_ms = 2000

    def __init__(self):
        self.samples = []
        self.faults = []

    def sample(self, bus_raw, shunt_raw, dt_ms, fault):
        self.samples.append((bus_raw, shunt_raw, dt_ms, fault))

    def sample_failed(self, dt_ms, fault):
        self.faults.append((dt_ms, fault))


class Bench:
    """A sampler on a chip: 20 mV and 20 V."""

    def __init__(self, shunt_uv=20_000, bus_mv=20_000):
        self.clock = Clock()
        self.circuit = TwoVoltages(self.clock, shunt_uv, bus_mv)
        self.chip = self.circuit.sampler = Chip(self.circuit, self.clock)
        self.bus = MachineBus({ADDRESS: self.chip})
        self.taker = Taker()
        self.restart()

    def restart(self):
        """The processor starts anew, the chip runs on."""
        self.sampler = Sampler(INA219(self.bus, ADDRESS, 100_000), self.taker)

    def rounds(self, count, dt_ms=SECOND_MS):
        """So many rounds; returns (samples, kinds of faults) of them."""
        self.taker.samples.clear()
        self.taker.faults.clear()
        for _ in range(count):
            self.clock.pass_ms(dt_ms)
            self.sampler.step(dt_ms)
        return list(self.taker.samples), [fault for _, fault in self.taker.faults]

    def write(self, register, value):
        self.chip.write(bytes([register, value >> 8, value & 0xFF]))


GOOD = (5_000, 2_000, SECOND_MS, 0)


@pytest.fixture
def bench():
    made = Bench()
    made.rounds(5)
    return made


def test_the_first_sample_begins_a_stretch_and_the_start_is_no_fault():
    bench = Bench()
    samples, kinds = bench.rounds(4)
    assert samples == [(5_000, 2_000, 0, 0), GOOD, GOOD]
    assert kinds == []
    bench.restart()
    samples, kinds = bench.rounds(2)  # the chip kept its configuration
    assert samples == [(5_000, 2_000, 0, 0), GOOD]
    assert kinds == []


def test_every_second_reading_asks_for_a_new_conversion(bench):
    bench.bus.reads.clear()
    bench.rounds(20)
    assert bench.bus.reads.count(1) == bench.bus.reads.count(2) == 20
    assert bench.bus.reads.count(3) == 10
    assert bench.bus.reads.count(0) == bench.bus.reads.count(5) == 2  # the configuration


@pytest.mark.parametrize("error", [errno.ENODEV, errno.ETIMEDOUT])
def test_one_reading_that_fails_is_bridged(bench, error):
    for wait in range(12):  # also when it is the one that checks the configuration
        bench.rounds(wait)
        bench.bus.error = error
        assert len(bench.rounds(1)[1]) == 1
        bench.bus.error = None
        assert bench.rounds(2) == ([(5_000, 2_000, 2_000, 0), GOOD], [])


@pytest.mark.parametrize(
    ("error", "kind"), [(errno.ENODEV, faults.NO_ANSWER), (errno.ETIMEDOUT, faults.BUS_HANGS)]
)
def test_more_readings_that_fail_are_a_gap(bench, error, kind):
    bench.bus.error = error
    assert bench.rounds(10) == ([], 2 * [faults.NO_ANSWER] + 8 * [kind])  # the third one sees why
    bench.bus.error = None
    samples, kinds = bench.rounds(3)
    assert samples == [(5_000, 2_000, 12_000, 0), GOOD]
    assert kinds == [kind]  # the round that wrote the configuration again


def test_a_chip_that_was_unplugged_is_configured_and_used_again(bench):
    bench.bus.error = errno.ENODEV
    bench.rounds(100)
    bench.chip.power_up()
    bench.bus.error = None
    samples, _ = bench.rounds(4)
    assert samples[0] == (5_000, 2_000, 102_000, 0)
    assert samples[1:] == [GOOD, GOOD]
    assert bench.sampler._sensor.verify()


def test_a_chip_that_reset_itself_is_found_within_ten_readings_and_costs_one(bench):
    bench.chip.power_up()
    samples, kinds = bench.rounds(12)
    assert kinds == [faults.CONFIGURATION_LOST]
    assert len(samples) == 11
    assert sum(dt_ms for _, _, dt_ms, _ in samples) == 12_000
    assert max(dt_ms for _, _, dt_ms, _ in samples) == 2_000
    assert bench.sampler._sensor.verify()


def test_a_chip_that_does_not_take_its_configuration_is_never_read(bench):
    bench.chip.write = lambda data: None
    bench.chip.power_up()
    samples, kinds = bench.rounds(30)
    assert len(samples) <= 10
    assert set(kinds) == {faults.CONFIGURATION_LOST}
    del bench.chip.write
    samples, _ = bench.rounds(3)
    assert samples[-1] == GOOD


def test_a_converter_that_stands_still_is_believed_for_one_sample(bench):
    for wait in range(4):
        bench.rounds(wait)
        bench.chip.stuck = True
        bench.circuit.set(0, 20_000)
        samples, kinds = bench.rounds(10)
        assert len(samples) <= 1
        assert set(kinds) == {faults.NO_CONVERSION}
        bench.chip.stuck = False
        samples, _ = bench.rounds(6)
        assert samples[-1] == (5_000, 0, SECOND_MS, 0)
        bench.circuit.set(20_000, 20_000)
        bench.rounds(3)


def test_a_round_that_comes_too_early_waits_for_the_conversion(bench):
    bench.rounds(1)
    for _ in range(2):  # POWER was read before one of the two
        samples, _ = bench.rounds(1, 20)
        samples += bench.rounds(3)[0]
        assert sum(dt_ms for _, _, dt_ms, _ in samples) == 3 * SECOND_MS + 20
        assert max(dt_ms for _, _, dt_ms, _ in samples) <= SECOND_MS + 20


def test_an_overflow_is_not_believed(bench):
    bench.chip.stuck = True
    bench.chip._registers[BUS_VOLTAGE] |= OVF | CNVR
    assert bench.rounds(1) == ([], [faults.OVERFLOW])
    bench.chip.stuck = False
    bench.circuit.set(10_000, 20_000)
    samples, _ = bench.rounds(4)
    assert samples[-1] == (5_000, 1_000, SECOND_MS, 0)


@pytest.mark.parametrize(
    "registers",
    [
        {BUS_VOLTAGE: 8_000 << 3},  # 32 V
        {BUS_VOLTAGE: 0xFFF8},
        {SHUNT_VOLTAGE: 32_001},
        {SHUNT_VOLTAGE: 0x8000},  # -327.68 mV
        {SHUNT_VOLTAGE: 0xFFFF, BUS_VOLTAGE: 0xFFFF},  # a line that stays high
    ],
)
def test_what_the_converter_cannot_give_is_not_believed(bench, registers):
    bench.chip.stuck = True
    for number, value in registers.items():
        bench.chip._registers[number] = value
    bench.chip._registers[BUS_VOLTAGE] |= CNVR
    samples, kinds = bench.rounds(1)
    assert (samples, kinds) == ([], [faults.OUT_OF_RANGE])
    bench.chip.stuck = False
    bench.circuit.set(10_000, 20_000)
    samples, _ = bench.rounds(4)
    assert samples[-1] == (5_000, 1_000, SECOND_MS, 0)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_current_above_the_range_counts_as_its_end_and_is_told_after_a_while(bench, sign):
    bench.circuit.set(sign * 400_000, 20_000)
    samples, kinds = bench.rounds(10)
    assert not kinds
    assert {(bus, shunt) for bus, shunt, _, _ in samples} == {(5_000, sign * 32_000)}
    kinds = [kind for _, _, _, kind in samples]
    assert kinds == [0] * 6 + [faults.CURRENT_CLIPPED] * 4
    bench.circuit.set(sign * 319_990, 20_000)
    assert bench.rounds(1)[0] == [(5_000, sign * 31_999, SECOND_MS, 0)]


def test_a_sensor_that_is_absent_from_the_start_gives_the_length_of_the_gap():
    bench = Bench()
    bench.bus.error = errno.ENODEV
    _, kinds = bench.rounds(30)
    assert set(kinds) == {faults.NO_ANSWER}
    bench.bus.error = None
    samples, _ = bench.rounds(3)
    assert samples[0] == (5_000, 2_000, 32_000, 0)


def test_time_is_never_lost_nor_counted_twice(bench):
    """Whatever happens to the bus and the chip: the samples' spans add up to the time."""
    passed_ms = taken_ms = 0
    for step in range(2_000):
        if step % 7 == 3:
            bench.bus.error = (None, errno.ENODEV, None, errno.ETIMEDOUT)[step % 4]
        if step % 31 == 5:
            bench.chip.power_up()
        bench.chip.stuck = step % 53 < 5
        dt_ms = 200 + step * 37 % 1900
        taken_ms += sum(span_ms for _, _, span_ms, _ in bench.rounds(1, dt_ms)[0])
        passed_ms += dt_ms
    bench.bus.error = None
    bench.chip.stuck = False
    taken_ms += sum(span_ms for _, _, span_ms, _ in bench.rounds(5)[0])
    assert taken_ms == passed_ms + 5 * SECOND_MS
