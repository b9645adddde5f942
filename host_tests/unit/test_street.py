"""The street of 20 households: different ones, the same again by the same seed, and playable."""

from demo import street
from demo.scenario.reading import KNOBS
from gateway.calendar_files import check_calendar


def test_the_households_differ_and_the_seed_decides():
    scenarios = street.street(20, 31, 10, 1)
    assert scenarios == street.street(20, 31, 10, 1)
    assert scenarios != street.street(20, 31, 10, 2)
    assert len({each.load for each in scenarios}) == 20
    assert len({each.meter["id"] for each in scenarios}) == 20
    calendars = [each.calendar for each in scenarios]
    assert None in calendars and len({str(each) for each in calendars}) >= 4
    for each in scenarios:
        if each.calendar is not None:
            check_calendar(each.calendar, "calendar")


def test_each_week_has_a_power_cut_and_a_network_failure_that_end():
    for scenario in street.street(20, 31, 10, 1):
        for name in ("power", "network"):
            turns = [step for step in scenario.steps if step.name == name]
            assert len(turns) >= 6
            assert sum(step.what["on"] for step in turns) * 2 == len(turns)
            assert all(step.at_ms < scenario.end_ms for step in turns)
        assert not [step for step in scenario.steps if step.name in KNOBS]
