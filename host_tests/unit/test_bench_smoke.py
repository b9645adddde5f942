"""Each row of `make bench` that needs no servers can be measured. No figure is judged."""

import pytest

from host_tests.bench import __main__ as bench
from host_tests.bench import wear
from host_tests.bench.measure import Group, Row
from host_tests.fakes.interpreters import micropython


@pytest.mark.parametrize("name", ["sample", "rules", "journal", "boot", "wear"])
def test_the_rows_of_a_group_can_be_measured(name):
    micropython(32)
    group = bench.measure(name, quick=True)
    assert group.missing == ""
    assert group.what
    for row in group.rows:
        assert row.figure and row.baseline
        assert len(row.figure) == len(row.baseline)


def test_what_is_stored_does_not_depend_on_the_steps_of_the_wear_simulation(tmp_path):
    """Steps from one instant at which something may be stored to the next, as a sample a second."""
    micropython(32)
    assert wear.live(tmp_path, 1, "acked") == wear.live(tmp_path, 1, "acked", exact=True)


def test_the_table_shows_medians_and_what_was_not_measured(capsys):
    row = Row("reads", "us", [1.0, 4.0, 2.0], "another", [10.0, 10.0, 10.0])
    bench.show([Group("fast", "How.", [row]), Group("gone", "", missing="not measured, no tool")])
    shown = capsys.readouterr().out
    assert "2 us (1 - 4)" in shown
    assert "0.2" in shown
    assert "not measured, no tool" in shown
    assert "fast: How." in shown
