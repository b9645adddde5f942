"""The judge of a story finds what must not be: each never-rule, and each kind of expectation."""

import pytest

from demo.scenario import judging
from demo.scenario.playing import Told
from demo.scenario.reading import Expectation, check
from firmware.core import events
from host_tests.unit.test_scenario_files import GOOD, HOUR_MS, SHIPPED, START_MS


class Book:
    """Records of a meter, one behind the other."""

    def __init__(self):
        self.told = Told(balance={"agree": True})

    def add(self, hour, type_, **members):
        self.told.records.append(
            {
                "type": type_,
                "at_ms": START_MS + hour * HOUR_MS,
                "at_utc_s": (START_MS + hour * HOUR_MS) // 1000,
                "seq": len(self.told.records) + 1,
                "balance_mp": 0,
                **members,
            }
        )
        return self

    def event(self, hour, code):
        return self.add(hour, "event", code=code, detail=0)

    def cut(self, hour):
        return self.add(hour, "relay", state="ready_for_reconnection", contact=0, reason="credit")

    def recharged(self, hour):
        return self.add(hour, "credit", kind="recharge", balance_mp=100)

    def closed(self, hour):
        return self.add(
            hour, "relay", state="connected", contact=1, reason="recharge", balance_mp=100
        )


def story(calendar=None, **changes):
    if calendar is not None:
        own = {"v": 1, "id": "own", "windows": [[63, 600, 780]], "happy": [], "holidays": []}
        changes["calendar"] = {**own, "second_saturdays": 0, **calendar}
    return check({**GOOD, "expect": [], **changes}, SHIPPED)


def lawful():
    """Warned, zero, grace, cut on the second day at 10:00, and paid at noon."""
    book = Book()
    book.event(1, events.LOW_CREDIT).event(2, events.CREDIT_EXHAUSTED)
    return book.event(26, events.GRACE_OVER).cut(34)


def failing(told, **changes):
    return [verdict.text for verdict in judging.judge(story(**changes), told) if not verdict.passed]


def test_a_lawful_story_passes():
    assert failing(lawful().recharged(36).closed(36).told) == []


def test_a_cut_outside_the_window_is_found():
    book = Book().event(1, events.LOW_CREDIT).event(2, events.GRACE_OVER).cut(9)
    assert failing(book.told) == ["no cut outside the allowed windows"]


@pytest.mark.parametrize(
    "calendar",
    [
        {"holidays": ["2026-01-06"]},
        {"windows": [[1, 600, 780]]},
        {"happy": [[2, 590, 610]]},
        {"happy": [[1, 1300, 610]]},
    ],
)
def test_a_cut_against_the_calendar_is_found(calendar):
    """The cut is on a Tuesday at 10:00."""
    assert failing(lawful().told, calendar=calendar) == ["no cut outside the allowed windows"]


def test_a_second_saturday_is_no_day_for_a_cut():
    saturdays = story(calendar={"second_saturdays": 1})
    assert not judging.is_allowed(saturdays, START_MS + (5 * 24 + 11) * HOUR_MS)  # 10 January
    assert judging.is_allowed(saturdays, START_MS + (12 * 24 + 11) * HOUR_MS)
    assert judging.is_allowed(story(), START_MS + (5 * 24 + 11) * HOUR_MS)
    assert not judging.is_allowed(story(), START_MS + (6 * 24 + 11) * HOUR_MS)  # a Sunday


def test_a_cut_in_the_grace_or_without_warning_is_found():
    book = Book().event(1, events.LOW_CREDIT).event(2, events.CREDIT_EXHAUSTED).cut(34)
    assert failing(book.told) == ["no cut in the grace"]
    renewed = lawful().told
    renewed.records.insert(3, {**renewed.records[1], "seq": 3, "code": events.OFFLINE_GRACE})
    assert failing(renewed) == ["no cut in the grace"]
    partly = lawful().add(35, "control", state="connected", contact=1, reason="partial", standing=0)
    assert failing(partly.cut(36).told) == ["no cut in the grace"]
    book = Book().event(1, events.GRACE_OVER).cut(34)
    assert failing(book.told) == ["no cut without a warning before it"]


def test_a_recharge_that_does_not_reclose_is_found():
    assert failing(lawful().recharged(36).told) == ["each sufficient recharge recloses at once"]
    assert failing(lawful().recharged(36).closed(37).told) == [
        "each sufficient recharge recloses at once"
    ]


def test_a_utility_order_may_keep_the_contact_open():
    book = lawful().add(35, "relay", state="disconnected", contact=0, reason="order")
    assert failing(book.recharged(36).told) == []


def test_missing_records_and_another_balance_are_found():
    told = lawful().told
    told.missing = 2
    told.balance = {"agree": False}
    assert failing(told) == ["every record arrived", "the gateway computes the same balance"]


def expects(told, kind, value, from_h=0, until_h=48, count=None):
    moments = (START_MS + from_h * HOUR_MS, START_MS + until_h * HOUR_MS)
    each = Expectation(kind, value, *moments, count, kind, kind)
    (verdict,) = judging.judge_each([each], told)
    return verdict.passed


def test_expectations_hold_or_not():
    told = lawful().recharged(36).closed(36).told
    told.seen[START_MS] = {"contact": True, "live": {"causes": ["order", "credit"], "hold": ""}}
    told.results["recharge", 1] = "confirmed"
    assert expects(told, "event", 1001) and not expects(told, "event", 1001, 2)
    assert expects(told, "event", 1001, count=1) and not expects(told, "event", 1001, count=2)
    assert expects(told, "event", 1065, count=0) and not expects(told, "event", 1065)
    assert expects(told, "cuts", 1) and not expects(told, "cuts", 0)
    assert expects(told, "cuts", 0, until_h=33)
    assert expects(told, "state", "connected", 33, 33)
    assert expects(told, "state", "ready_for_reconnection", 35, 35)
    assert expects(told, "reclosed_within_s", 0) and not expects(told, "reclosed_within_s", 0, 37)
    assert expects(told, "balance_above", 99, 36) and not expects(told, "balance_below", 99, 36)
    assert expects(told, "contact", "closed") and not expects(told, "contact", "open")
    assert expects(told, "causes", ["credit", "order"]) and not expects(told, "causes", [])
    assert expects(told, "hold", "") and not expects(told, "hold", "window")
    assert not expects(told, "earliest_cut", START_MS)
    assert expects(told, "recharge", (1, "confirmed"))
    assert not expects(told, "order", (1, "accepted"))
