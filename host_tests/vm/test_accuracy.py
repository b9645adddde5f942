"""The meter's energy on sensors at their worst: some chips of `make bench-accuracy`, its limits."""

import pytest

from host_tests.accuracy import conditions
from host_tests.accuracy.run import Amount, Bench, failures, recordings
from host_tests.fakes.interpreters import micropython

HOUR_S = 3600
HIGHEST, LOWEST = conditions.corner(1, 1, 1), conditions.corner(-1, -1, -1)


@pytest.fixture
def make_bench(tmp_path):
    """A Bench with all currents and so long without load, and what is asked for."""
    micropython(32)

    def make(no_load_s, starts, replays):
        return Bench(tmp_path, Amount(conditions.CURRENTS_MA, no_load_s, starts, replays))

    return make


def test_a_chip_without_errors_keeps_every_limit(make_bench):
    errors = make_bench(HOUR_S, True, False).errors(conditions.ideal(), conditions.BEFORE)
    assert set(errors.at_ma) == set(conditions.CURRENTS_MA)
    assert max(abs(error) for error in errors.at_ma.values()) < 0.05
    assert errors.no_load_mwh == 0
    assert failures(errors) == []


@pytest.mark.parametrize("corner", [HIGHEST, LOWEST], ids=["highest", "lowest"])
def test_the_worst_chips_fail_without_calibration(make_bench, corner):
    """And by as much as their errors say: else the test would not see what it is to see."""
    errors = make_bench(HOUR_S, False, False).errors(corner, conditions.BEFORE)
    for ma, error in errors.at_ma.items():
        offset = corner.chip["shunt_offset_uv"][-1] / (100 * ma)  # 0.1 ohm
        current, voltage = (corner.chip[name] / 1e6 for name in ("shunt_gain_ppm", "bus_gain_ppm"))
        expected = (1 + current + offset) * (1 + voltage) - 1
        assert error == pytest.approx(100 * expected, abs=0.15)  # the chip's and the gains' steps
    assert len(failures(errors)) >= len(conditions.CURRENTS_MA)


@pytest.mark.parametrize("corner", [HIGHEST, LOWEST], ids=["highest", "lowest"])
def test_the_worst_chips_keep_every_limit_after_calibration_also_when_they_get_warm(
    make_bench, corner
):
    errors = make_bench(HOUR_S, False, False).errors(corner, conditions.WARM)
    assert set(errors.at_ma) == set(conditions.CURRENTS_MA)
    assert failures(errors) == []


@pytest.mark.slow
def test_a_calibrated_meter_starts_and_counts_a_household(make_bench):
    bench = make_bench(HOUR_S, True, True)
    errors = bench.errors(LOWEST, conditions.AFTER)
    assert errors.first_wh_s is not None
    assert len(errors.replays) == len(bench.households)
    assert failures(errors) == []


def test_a_recording_is_found_with_its_integral():
    homes = recordings()
    if not homes:
        pytest.skip("no household_*.csv in ../shared/data here")
    for home in homes:
        assert home.minutes % 1440 == 0
        assert float(home.wh) > 0
    assert {home.name: round(float(home.wh)) for home in homes}["household"] == 122513


def test_values_that_are_missing_in_a_recording_are_bridged(make_bench, tmp_path, monkeypatch):
    """As the emulated household bridges them, or the two would not be of the same energy."""
    rows = [f"{m},230.000,{m % 5}.000,0.0" for m in range(120)]
    rows[7] = "7,?,?,?"
    rows[30] = "30,,3.000,0.0"
    del rows[50]
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "household_holes.csv").write_text(
        "\n".join(["minute,voltage_v,current_a,active_power_kw", *rows])
    )
    monkeypatch.setattr("host_tests.accuracy.run.DATA", folder)
    bench = make_bench(60, False, True)
    errors = bench.errors(conditions.ideal(), conditions.BEFORE)
    assert bench.households[0].minutes == 120
    assert abs(errors.replays["household_holes"][1]) < conditions.REPLAY_LIMIT
