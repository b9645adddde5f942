from fractions import Fraction

import pytest

from demo import reference

START_MS = 1_767_551_400_000


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "minutes.csv"
    path.write_text("minute,voltage_v,current_a\n0,240.000,2.500\n1,?,\n2,230.5,1.2\n")
    return reference.Recording(path, START_MS)


def test_a_missing_value_holds_the_last_good_one(recording):
    recording.at(START_MS + 90_000)
    assert (recording.voltage_mv, recording.current_ma) == (240_000, 2_500)


def test_the_integral_is_exact_over_parts_of_minutes_and_the_repetition(recording):
    whole = Fraction(600 + 600) / 60 + Fraction("276.6") / 60
    assert reference.energy_wh(recording, [(START_MS, START_MS + 180_000)]) == whole
    assert reference.energy_wh(recording, [(START_MS, START_MS + 360_000)]) == 2 * whole
    half = reference.energy_wh(recording, [(START_MS + 150_000, START_MS + 210_000)])
    assert half == (Fraction("276.6") + 600) / 120


def test_a_cut_in_the_middle_counts_nothing(recording):
    parts = [(START_MS, START_MS + 10_000), (START_MS + 20_000, START_MS + 30_000)]
    assert reference.energy_wh(recording, parts) == Fraction(600 * 20, 3600)
