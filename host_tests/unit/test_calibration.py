"""Calibration: what is accepted, what it does to the readings, that it lasts and can be undone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.core.records import CALIBRATED
from firmware.metering import calibrating
from firmware.metering.calibrating import SAMPLES, CalibrationError, Measurement
from firmware.metering.calibration import BUS_ZERO, CURRENT_GAIN, RANGE, VOLTAGE_GAIN
from firmware.metering.energy import EnergyRegister
from firmware.metering.scale import bus_gain, shunt_gain
from host_tests.fakes.bench import HOUR_S

NONE = [0] * len(CALIBRATED)


def measured(bus_raw, shunt_raw, spread=0):
    found = Measurement()
    for number in range(SAMPLES):
        found.add(bus_raw + number % 2 * spread, shunt_raw + number % 2 * spread)
    return found


def calibrate(bench, what, values):
    bench.meter.append("calibration", calibrating.fields(bench.meter.calibration, what, values))


def test_only_so_many_samples_are_taken():
    found = measured(5750, -3)
    found.add(0, 9999)
    assert (found.count, found.bus_x16, found.shunt_x16) == (16, 16 * 5750, -48)
    assert (found.shunt_low, found.shunt_high) == (-3, -3)


@pytest.mark.parametrize(("pg", "limit_uv"), list(enumerate((150, 188, 225, 300))))
def test_the_zero_of_each_range_is_kept_apart_and_bounded(pg, limit_uv):
    steps = limit_uv // 10
    for shunt_raw in (-steps, 0, steps):
        values = calibrating.zero(measured(5750, shunt_raw), NONE, pg)
        assert values == [16 * shunt_raw if at == pg else 0 for at in range(7)]
    for shunt_raw in (-steps - 1, steps + 1):
        with pytest.raises(CalibrationError, match=f"zero: .* -{limit_uv} to {limit_uv} uV"):
            calibrating.zero(measured(5750, shunt_raw), NONE, pg)


def test_the_zero_of_the_bus_is_taken_only_without_a_voltage():
    before = [*NONE[:BUS_ZERO], 5, 0, 0]
    assert calibrating.zero(measured(10, 3), before, RANGE)[BUS_ZERO] == 160
    assert calibrating.zero(measured(11, 3), before, RANGE)[BUS_ZERO] == 5


@pytest.mark.parametrize(
    ("measure", "field"),
    [
        (lambda: calibrating.zero(measured(0, 0, spread=9), NONE, RANGE), "zero"),
        (lambda: calibrating.voltage(measured(999, 0), NONE, 40000, 10000), "voltage"),
        (lambda: calibrating.voltage(measured(5750, 0, 29), NONE, 230000, 10000), "voltage"),
        (lambda: calibrating.voltage(measured(5750, 0), NONE, 241600, 10000), "voltage"),
        (lambda: calibrating.voltage(measured(5750, 0), NONE, 218400, 10000), "voltage"),
        (lambda: calibrating.current(measured(0, 999), NONE, 1250, 12500, 100000, 3), "current"),
        (lambda: calibrating.current(measured(0, -4000), NONE, 5000, 12500, 100000, 3), "current"),
        (
            lambda: calibrating.current(measured(0, 4000, 21), NONE, 5000, 12500, 10**5, 3),
            "current",
        ),
        (lambda: calibrating.current(measured(0, 4000), NONE, 5251, 12500, 100000, 3), "current"),
        (lambda: calibrating.current(measured(0, 4000), NONE, 4749, 12500, 100000, 3), "current"),
    ],
)
def test_what_is_implausible_is_refused_by_name(measure, field):
    with pytest.raises(CalibrationError) as refused:
        measure()
    assert refused.value.field == field


offsets_ppm = st.integers(-45000, 45000)


@given(offsets_ppm, offsets_ppm, st.integers(-20, 20), st.integers(0, 10), st.integers(20, 320))
def test_a_calibrated_meter_measures_what_the_reference_said(
    voltage_ppm, current_ppm, shunt_zero, bus_zero, level
):
    """A sensor with offsets and gain errors, calibrated as the lab does it, at a tenth to full."""
    bus_raw = round(5750 * (1 + voltage_ppm / 10**6)) + bus_zero
    shunt_raw = round(level * 100 / 1.05 * (1 + current_ppm / 10**6)) + shunt_zero
    true_ma = round(level * 100 / 1.05 * 1.25)
    values = calibrating.zero(measured(bus_zero, shunt_zero), NONE, RANGE)
    values = calibrating.voltage(measured(bus_raw, 0), values, 230000, 10000)
    values = calibrating.current(measured(0, shunt_raw), values, true_ma, 12500, 100000, RANGE)
    assert abs(values[VOLTAGE_GAIN] + voltage_ppm) < 3000
    assert abs(values[CURRENT_GAIN] + current_ppm) < 3000
    energy = EnergyRegister((0, 0), (0, 0), 0)
    energy.scale(
        bus_gain(10000, values[VOLTAGE_GAIN]),
        values[BUS_ZERO],
        shunt_gain(12500, 100000, values[CURRENT_GAIN]),
        values[RANGE],
    )
    energy.add(bus_raw, shunt_raw, 0)
    assert abs(energy.voltage_mv - 230000) <= 4
    assert abs(energy.current_ua - true_ma * 1000) <= true_ma * 1000 // 20000
    energy.add(bus_zero, shunt_zero, 0)
    assert (energy.voltage_mv, energy.current_ua) == (0, 0)


@given(st.integers(1000, 12500), st.integers(1000, 32000), st.integers(-50000, 50000))
def test_calibrated_gains_stay_inside_small_integers(voltage_ratio, current_ratio, ppm):
    gain, shift = bus_gain(voltage_ratio, ppm)
    assert 8000 * gain + (1 << shift) < 2**30  # the zero of the bus only makes it less
    gain, shift = shunt_gain(current_ratio, 100000, ppm)
    assert 32060 * gain + (1 << shift) < 2**30


@pytest.fixture
def bench(make_bench):
    return make_bench()


def test_a_calibration_is_a_record_lasts_and_is_undone_by_another(bench):
    first = [1, 2, 3, 48, 5, 1000, -2000]
    calibrate(bench, "zero", first)
    bench.run(HOUR_S, 960)
    second = [*first[:6], 3000]
    calibrate(bench, "current", second)
    record = bench.records("calibration")[-1]
    assert [record[name] for name in CALIBRATED] == second
    assert (record["what"], record["number"], record["utc_s"]) == ("current", 2, bench.utc_s)
    assert record["prev"] != "0" * 32

    bench.meter.sample(6000, 4000, 0)
    counted = bench.meter.energy.voltage_mv, bench.meter.energy.current_ua
    exact = (6000 * 16 - 5) * 40 * 1001 // 16000, (4000 - 3) * 1250 * 1003 // 1000
    assert abs(counted[0] - exact[0]) <= 2
    assert abs(counted[1] - exact[1]) <= exact[1] // 30000
    calibration = bench.meter.calibration
    state = calibration.state()
    for _ in range(2):  # out of the records, out of the snapshot
        bench.restart()
        assert bench.meter.calibration.state() == state
        bench.meter.sample(6000, 4000, 0)
        assert (bench.meter.energy.voltage_mv, bench.meter.energy.current_ua) == counted

    calibrate(bench, "undo", bench.meter.calibration.before)
    assert bench.meter.calibration.values == first
    assert bench.meter.calibration.number == 3
    calibrate(bench, "undo", bench.meter.calibration.before)
    assert bench.meter.calibration.values == second


def test_a_calibration_does_not_change_what_was_counted(bench):
    bench.run(HOUR_S, 960)
    count = bench.meter.energy.imported
    before = count.wh, count.half_mj, bench.meter.balance_mp()
    calibrate(bench, "voltage", [0, 0, 0, 0, 0, 50000, 50000])
    assert (count.wh, count.half_mj, bench.meter.balance_mp()) == before
    bench.run(HOUR_S, 960)
    assert 1.1 * 958 < count.wh - before[0] < 1.103 * 962
