"""The meter's energy on sensors at their worst: some chips of `make bench-accuracy`, its limits."""

import pytest

from host_tests.accuracy import conditions
from host_tests.accuracy.run import Amount, Bench, failures, recordings
from host_tests.fakes.interpreters import micropython

NO_LOAD_S = 3600
SIGNS = [(1, 1, 1), (-1, -1, -1)]


@pytest.fixture
def bench(tmp_path):
    micropython(32)
    return Bench(tmp_path, Amount(conditions.CURRENTS_MA, NO_LOAD_S))


def test_a_chip_without_errors_keeps_every_limit(bench):
    errors = bench.errors(conditions.Corner("none", {}))
    assert set(errors.at_ma) == set(conditions.CURRENTS_MA)
    assert max(abs(error) for error in errors.at_ma.values()) < 0.05
    assert errors.no_load_mwh == 0
    assert failures(errors, NO_LOAD_S) == []


@pytest.mark.parametrize("signs", SIGNS)
def test_the_worst_chips_fail_without_calibration(bench, signs):
    """And by as much as their errors say: else the test would not see what it is to see."""
    errors = bench.errors(conditions.corner(*signs))
    for ma, error in errors.at_ma.items():
        offset = conditions.OFFSET_UV[-1] / (100 * ma)  # 0.1 ohm
        gain = conditions.GAIN_PPM / 1e6
        expected = (1 + signs[1] * gain + signs[0] * offset) * (1 + signs[2] * gain) - 1
        assert error == pytest.approx(100 * expected, abs=0.15)  # the chip's and the gains' steps
    assert len(failures(errors, NO_LOAD_S)) >= len(conditions.CURRENTS_MA)


def test_a_recording_is_found_with_its_integral():
    homes = recordings()
    if not homes:
        pytest.skip("no household_*.csv in ../shared/data here")
    for home in homes:
        assert home.minutes % 1440 == 0
        assert float(home.wh) > 0
    assert {home.name: round(float(home.wh)) for home in homes}["household"] == 122513


def test_values_that_are_missing_in_a_recording_are_bridged(bench, tmp_path, monkeypatch):
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
    bench.households = recordings()
    errors = bench.errors(conditions.Corner("none", {}))
    assert bench.households[0].minutes == 120
    assert abs(errors.replays["household_holes"][1]) < conditions.REPLAY_LIMIT
