"""The street of 20 households: different ones, the same again by the same seed, and playable."""

from demo import street
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


def test_some_households_have_more_to_live_with():
    scenarios = street.street(20, 31, 10, 1)
    assert {each.settings["limit_mode"] for each in scenarios} == {0, 2}
    assert {each.settings["reclose_spread_s"] for each in scenarios} == {0, 600}
    steps = [step for each in scenarios for step in each.steps]
    assert len([step for step in steps if step.name == "knobs"]) >= 2
    states = [step.what["body"].get("state") for step in steps if step.name == "order"]
    assert states.count("disconnected") == states.count("connected") >= 2
    assert states.count(None) >= 2  # postpaid
    for each in scenarios:
        assert all(each.start_ms <= step.at_ms < each.end_ms for step in each.steps)
