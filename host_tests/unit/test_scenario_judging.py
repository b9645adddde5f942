"""The judge of a story finds what must not be: each never-rule, and each kind of expectation."""

import pytest

from demo.scenario import judging
from demo.scenario.playing import Told, date
from demo.scenario.reading import Expectation, check
from firmware.core import events
from host_tests.unit.test_scenario_files import GOOD, HOUR_MS, SHIPPED, START_MS


class Book:
    """Records of a meter, one behind the other. It began two hours before the story."""

    def __init__(self):
        self.told = Told(balance={"agree": True}, sample_s=10)
        self._boot = 1
        self._began_s = START_MS // 1000 - 7200

    def add(self, hour, type_, after_s=0, **members):
        """A record `after_s` seconds behind the hour."""
        at_utc_s = START_MS // 1000 + hour * 3600 + after_s
        self.told.records.append(
            {
                "type": type_,
                "at_ms": at_utc_s * 1000,
                "at_utc_s": at_utc_s,
                "time_valid": 1,
                "boot": self._boot,
                "up_s": at_utc_s - self._began_s,
                "seq": len(self.told.records) + 1,
                "balance_mp": 0,
                **members,
            }
        )
        return self

    def event(self, hour, code, after_s=0, **members):
        return self.add(hour, "event", after_s, **{"code": code, "detail": 0, **members})

    def starts(self, hour, cause="power", after_s=0):
        self._boot += 1
        self._began_s = START_MS // 1000 + hour * 3600 + after_s
        return self.add(hour, "boot", after_s, cause=cause)

    def cut(self, hour, after_s=0, **members):
        return self.add(
            hour,
            "relay",
            after_s,
            state="ready_for_reconnection",
            contact=0,
            reason="credit",
            **members,
        )

    def opens(self, hour, after_s=0, **members):
        return self.event(hour, events.DISCONNECTED, after_s, **{"detail": 1, **members})

    def closes(self, hour, after_s=0):
        return self.event(hour, events.CONNECTED, after_s, detail=2)

    def recharged(self, hour, after_s=0):
        return self.add(hour, "credit", after_s, kind="recharge", balance_mp=100)

    def closed(self, hour, after_s=0):
        """The record that closes it, and the contact."""
        return self.may_close(hour, after_s).closes(hour, after_s)

    def may_close(self, hour, after_s=0, reason="recharge"):
        return self.add(
            hour, "relay", after_s, state="connected", contact=1, reason=reason, balance_mp=100
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
    return book.event(26, events.GRACE_OVER).cut(34).opens(34)


OUTSIDE = "no cut outside the allowed windows"
HELD = "no cut behind a start, at an unknown time, or postpaid"
OPENED_OUTSIDE = "no contact opened outside the windows"
OPENED_HELD = "no contact opened in a hold"
ENDS = "each sufficient recharge ends the cut at once"
CLOSES = "the contact closes as soon as it may"


def failing(told, **changes):
    return [verdict.text for verdict in judging.judge(story(**changes), told) if not verdict.passed]


def test_a_lawful_story_passes():
    assert failing(lawful().recharged(36).closed(36).told) == []


def test_a_cut_outside_the_window_is_found():
    book = Book().event(1, events.LOW_CREDIT).event(2, events.GRACE_OVER).cut(9)
    assert failing(book.told) == [OUTSIDE]
    assert failing(book.opens(9).told) == [OUTSIDE, OPENED_OUTSIDE]


def test_a_contact_that_opens_outside_the_window_for_a_lawful_cut_is_found():
    def opened(hour, **members):
        book = Book().event(1, events.LOW_CREDIT).event(2, events.CREDIT_EXHAUSTED)
        return book.event(26, events.GRACE_OVER).cut(34).opens(hour, **members)

    assert failing(opened(36).told) == []
    assert failing(opened(38).told) == [OPENED_OUTSIDE]
    # It is told when its current has been looked at: a sample later.
    assert failing(opened(37, after_s=14).told) == []
    assert failing(opened(37, after_s=15).told) == [OPENED_OUTSIDE]
    # What it says of its reason excuses nothing: no other cause stands.
    assert failing(opened(38, detail=9).told) == [OPENED_OUTSIDE]
    # One that has slipped closed is opened again at any hour.
    assert failing(opened(36).opens(40).told) == []
    assert failing(opened(36).closed(38).cut(58).opens(64).told) == [OPENED_OUTSIDE]
    ordered = lawful()
    del ordered.told.records[-1]
    ordered.add(35, "relay", state="disconnected", contact=0, reason="order")
    assert failing(ordered.opens(40).told) == []


def test_a_contact_that_opens_right_behind_a_start_is_found():
    begun = lawful()
    del begun.told.records[-1]
    assert failing(begun.starts(35).opens(35, 59).told) == [OPENED_HELD]
    later = lawful()
    del later.told.records[-1]
    assert failing(later.starts(35).opens(35, 60).told) == []


def test_a_cut_or_an_opening_at_an_unknown_time_or_behind_a_start_is_found():
    book = lawful()
    book.told.records[-1]["time_valid"] = 0
    assert failing(book.told) == [OPENED_HELD]
    book.told.records[-2]["time_valid"] = 0
    assert failing(book.told) == [HELD, OPENED_HELD]
    book = lawful()
    for record in book.told.records[-2:]:
        record["up_s"] = 59
    assert failing(book.told) == [HELD, OPENED_HELD]


def test_a_cut_in_payment_mode_credit_is_found():
    def switched(*modes):
        book = Book().event(1, events.LOW_CREDIT).event(2, events.CREDIT_EXHAUSTED)
        for mode in modes:
            book.add(3, "mode", mode=mode)
        return book.event(26, events.GRACE_OVER).cut(34).opens(34).told

    assert failing(switched("credit")) == [HELD, OPENED_HELD]
    assert failing(switched("credit", "prepayment")) == []


def test_the_loudest_warning_excuses_the_cut_behind_it_and_no_other():
    def cut_at(hour, **members):
        book = Book().event(1, events.LOW_CREDIT).event(2, events.CREDIT_EXHAUSTED)
        book.event(13, events.UNDATED_CUT).event(14, events.GRACE_OVER)
        return book.cut(hour, **members).opens(hour, **members)

    assert failing(cut_at(15, time_valid=0).told) == []
    assert failing(cut_at(15).told) == [OUTSIDE, OPENED_OUTSIDE]  # the time is known again
    again = cut_at(15, time_valid=0).recharged(16).closed(16).event(16, events.IN_CREDIT)
    again.event(17, events.CREDIT_EXHAUSTED).event(18, events.LOW_CREDIT)
    again.event(19, events.GRACE_OVER).cut(20, time_valid=0).opens(20, time_valid=0)
    assert failing(again.told) == [OUTSIDE, HELD, OPENED_OUTSIDE, OPENED_HELD]
    early = Book().event(1, events.LOW_CREDIT).event(2, events.GRACE_OVER)
    early.cut(9, time_valid=0).event(10, events.UNDATED_CUT)
    assert failing(early.told) == [OUTSIDE, HELD]


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
    assert failing(lawful().told, calendar=calendar) == [OUTSIDE, OPENED_OUTSIDE]


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
    assert failing(lawful().recharged(36).told) == [ENDS, CLOSES]
    assert failing(lawful().recharged(36).closed(36, 2).told) == [ENDS]
    assert failing(lawful().recharged(36).closed(37).told) == [ENDS, CLOSES]
    # Decided in time, and the contact does not follow, or late, and nothing is told of it.
    decided = lawful().recharged(36).may_close(36)
    assert failing(decided.told) == [CLOSES]
    assert failing(lawful().recharged(36).may_close(36).closes(36, 2).told) == []
    assert failing(lawful().recharged(36).may_close(36).closes(36, 3).told) == [CLOSES]


def test_a_contact_that_cannot_close_says_so_in_time():
    stuck = lawful().recharged(36).may_close(36).event(36, events.NOT_CLOSED, 1)
    assert failing(stuck.told) == []
    assert failing(stuck.event(40, events.CONTACT_WORKS).closes(40).told) == []
    # Behind a failure that stands nothing more is told.
    assert failing(lawful().event(35, events.NOT_CLOSED).recharged(36).may_close(36).told) == []
    works = lawful().event(35, events.NOT_CLOSED).event(35, events.CONTACT_WORKS, 5)
    assert failing(works.recharged(36).may_close(36).told) == [CLOSES]
    late = lawful().recharged(36).may_close(36).event(36, events.NOT_CLOSED, 3)
    assert failing(late.told) == [CLOSES]


def test_a_closing_may_wait_for_the_least_time_between_operations():
    def closes(after_s, **settings):
        book = lawful().recharged(34, 4).may_close(34, 4).closes(34, after_s)
        return failing(book.told, settings=settings)

    assert closes(17) == []  # 5 s behind the opening, at the next sample
    assert closes(18) == [CLOSES]
    assert closes(18, operation_min_s=20) == []
    assert closes(7, operation_min_s=0) == [CLOSES]


def test_a_closing_may_wait_for_a_start_and_for_the_street():
    def closes(after_s, cause="power", **settings):
        book = lawful().recharged(36).may_close(36).starts(37, cause)
        return failing(book.closes(37, after_s).told, settings=settings)

    assert closes(25) == []
    assert closes(26) == [CLOSES]
    assert closes(300, reclose_spread_s=300) == []
    assert closes(326, reclose_spread_s=300) == [CLOSES]
    assert closes(300, "watchdog", reclose_spread_s=300) == [CLOSES]
    # Not so a recharge long behind the start.
    paid = lawful().starts(35).recharged(36).may_close(36).closes(36, 20)
    assert failing(paid.told, settings={"reclose_spread_s": 300}) == [CLOSES]


def test_another_cause_keeps_it_open_and_its_end_closes_it():
    book = lawful().add(35, "control", standing=17, state="disconnected", contact=0, reason="order")
    book.recharged(36)
    assert failing(book.told) == [ENDS]  # the cut ends, whatever else stands
    book.add(36, "control", standing=1, state="disconnected", contact=0, reason="recharge")
    assert failing(book.told) == []
    assert failing(book.may_close(37, reason="order").told) == [CLOSES]
    assert failing(book.closes(37, 1).told) == []


def test_a_utility_order_may_keep_the_contact_open():
    book = lawful().add(35, "relay", state="disconnected", contact=0, reason="order")
    assert failing(book.recharged(36).told) == []


def test_missing_records_and_another_balance_are_found():
    told = lawful().told
    told.missing = 2
    told.balance = {"agree": False}
    assert failing(told) == ["every record arrived", "the gateway computes the same balance"]


def test_records_without_a_time_are_dated_by_others_of_their_boot():
    book = Book().event(1, 1001).starts(2).event(2, 1002, 30).event(3, 1003)
    book.event(2, events.POWER_FAILED, at_utc_s=START_MS // 1000, at_ms=START_MS, up_s=0)
    records = book.told.records
    wanted = [record["at_utc_s"] for record in records]
    for record in records[1:3]:
        record.update(time_valid=0, at_utc_s=9, at_ms=9_000)
    date(records)
    assert [record["at_utc_s"] for record in records] == wanted
    assert [record["at_ms"] for record in records] == [1000 * at_s for at_s in wanted]
    alone = Book().event(1, 1001).told.records
    alone[0].update(time_valid=0, at_utc_s=9)
    date(alone)
    assert (alone[0]["at_utc_s"], alone[0]["at_ms"]) == (9, 9_000)


def expects(told, kind, value, from_h=0, until_h=48, count=None):
    moments = (START_MS + from_h * HOUR_MS, START_MS + until_h * HOUR_MS)
    each = Expectation(kind, value, *moments, count, kind, kind)
    (verdict,) = judging.judge_each([each], told)
    return verdict.passed


def test_expectations_hold_or_not():
    told = lawful().recharged(36).may_close(36).closes(36, 1).told
    told.seen[START_MS] = {"contact": True, "live": {"causes": ["order", "credit"], "hold": ""}}
    told.results["recharge", 1] = "confirmed"
    assert expects(told, "event", 1001) and not expects(told, "event", 1001, 2)
    assert expects(told, "event", 1001, count=1) and not expects(told, "event", 1001, count=2)
    assert expects(told, "event", 1065, count=0) and not expects(told, "event", 1065)
    assert expects(told, "cuts", 1) and not expects(told, "cuts", 0)
    assert expects(told, "cuts", 0, until_h=33)
    assert expects(told, "state", "connected", 33, 33)
    assert expects(told, "state", "ready_for_reconnection", 35, 35)
    assert expects(told, "reclosed_within_s", 1) and not expects(told, "reclosed_within_s", 0)
    assert not expects(told, "reclosed_within_s", 1, 37)
    assert expects(told, "balance_above", 99, 36) and not expects(told, "balance_below", 99, 36)
    assert expects(told, "contact", "closed") and not expects(told, "contact", "open")
    assert expects(told, "causes", ["credit", "order"]) and not expects(told, "causes", [])
    assert expects(told, "hold", "") and not expects(told, "hold", "window")
    assert not expects(told, "earliest_cut", START_MS)
    assert expects(told, "recharge", (1, "confirmed"))
    assert not expects(told, "order", (1, "accepted"))
