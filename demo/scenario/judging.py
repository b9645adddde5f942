"""What a story must show: the expectations of its file, and what holds in every story.

The windows are worked out here anew, by the host's calendar, so that the meter's own code does not
judge itself. Tests: host_tests/unit/test_scenario_judging.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from demo.households import IST_S
from demo.scenario.playing import Told
from demo.scenario.reading import Expectation, Scenario, local, shown
from firmware.core import events
from firmware.core.config import SETTINGS, rows
from gateway import words

WARNINGS = (
    events.LOW_CREDIT,
    events.CREDIT_EXHAUSTED,
    events.EMERGENCY_OFFERED,
    events.PERCENT_LEFT,
    events.DAYS_LEFT,
)


@dataclass(frozen=True)
class Verdict:
    """One line of the judgement."""

    text: str
    passed: bool
    seen: str
    key: str = ""


def judge(scenario: Scenario, told: Told) -> list[Verdict]:
    """What holds in every story, then the file's own expectations in their order."""
    return [*_always(scenario, told), *judge_each(scenario.expectations, told)]


def judge_each(expectations: list[Expectation], told: Told) -> list[Verdict]:
    """What was expected, each with what was seen."""
    return [_expected(each, told) for each in expectations]


# --- what the records say --------------------------------------------------------------------


def switchings(told: Told) -> list[dict[str, Any]]:
    """The records that say what the contact shall be, in order."""
    return [record for record in told.records if record["type"] in ("relay", "control")]


def cuts(told: Told) -> list[dict[str, Any]]:
    """The records by which a supply that was on was cut for want of credit."""
    found = []
    contact = 1
    for record in switchings(told):
        if contact and not record["contact"] and record["reason"] == "credit":
            found.append(record)
        contact = record["contact"]
    return found


def for_credit_only(record: dict[str, Any] | None) -> bool:
    """True while the contact is open for want of credit and for nothing else."""
    return record is not None and words.causes(record) == ["credit"]


def closings(scenario: Scenario, told: Told) -> list[tuple[dict[str, Any], int | None]]:
    """(credit record, seconds to the closing or None) of each recharge that had to close."""
    floor_mp = setting(scenario, "floor_mp")
    found = []
    last: dict[str, Any] | None = None
    for place, record in enumerate(told.records):
        if record["type"] in ("relay", "control"):
            last = record
        elif (
            record["type"] == "credit"
            and record["kind"] == "recharge"
            and record["balance_mp"] > floor_mp
            and for_credit_only(last)
        ):
            behind = [r for r in switchings(told) if r["seq"] > record["seq"] and r["contact"]]
            delay_s = behind[0]["at_utc_s"] - told.records[place]["at_utc_s"] if behind else None
            found.append((record, delay_s))
    return found


def of_event(told: Told, code: int, from_ms: int, until_ms: int) -> list[dict[str, Any]]:
    """The events of a code from a moment to another, both included."""
    return [
        record
        for record in told.records
        if record["type"] == "event"
        and record["code"] == code
        and from_ms <= record["at_ms"] <= until_ms
    ]


def setting(scenario: Scenario, name: str) -> int:
    """A setting of the story, or its default."""
    for known, default, _low, _high in rows(SETTINGS):
        if known == name:
            return scenario.settings.get(name, int(default))
    raise KeyError(name)


# --- windows, by the host's calendar -----------------------------------------------------------


def is_allowed(scenario: Scenario, at_ms: int) -> bool:
    """Whether the story's settings and calendar allow a cut for want of credit at a moment."""
    moment = datetime.fromtimestamp(at_ms // 1000 + IST_S, UTC)
    minute = moment.hour * 60 + moment.minute
    today = moment.date()
    calendar = scenario.calendar or {}
    windows = calendar.get("windows") or [
        [
            setting(scenario, "window_days"),
            setting(scenario, "window_start_min"),
            setting(scenario, "window_end_min"),
        ]
    ]
    if today.isoformat() in calendar.get("holidays", []):
        return False
    if calendar.get("second_saturdays") and today.weekday() == 5 and 8 <= today.day <= 14:
        return False
    inside = any(_covers(window, today, minute) for window in windows)
    return inside and not any(_covers(happy, today, minute) for happy in calendar.get("happy", []))


def _covers(window: list[int], today: date, minute: int) -> bool:
    days, start_min, end_min = window
    on_today = days >> today.weekday() & 1
    if start_min < end_min:
        return bool(on_today and start_min <= minute < end_min)
    on_yesterday = days >> (today - timedelta(days=1)).weekday() & 1
    return bool((on_today and minute >= start_min) or (on_yesterday and minute < end_min))


# --- what holds in every story -------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What a story did that matters in every story."""

    cuts: list[dict[str, Any]]
    outside: list[dict[str, Any]]
    """Of the cuts, those outside the allowed windows."""
    graced: list[dict[str, Any]]
    """Of the cuts, those in a grace."""
    unwarned: list[dict[str, Any]]
    """Of the cuts, those without a warning before them."""
    warned_s: list[int]
    """Seconds from the first warning to each other cut."""
    closings: list[tuple[dict[str, Any], int | None]]
    """As `closings`."""
    slow: list[dict[str, Any]]
    """Of the credits that had to reclose, those that did not or did later than allowed."""


def facts(scenario: Scenario, told: Told) -> Facts:
    """Looks at all cuts and at all that had to end them."""
    found = cuts(told)
    # Behind the loudest warning a cut needs no window: its time is unknown.
    forced = of_event(told, events.UNDATED_CUT, scenario.start_ms, scenario.end_ms)
    warned = [warned_before_s(told, cut) for cut in found]
    closed = closings(scenario, told)
    # A sample, and the least time between two operations of the contact.
    late_s = int(scenario.meter["sample_period_s"]) + setting(scenario, "operation_min_s") + 1
    return Facts(
        found,
        [c for c in found if not forced and not is_allowed(scenario, c["at_utc_s"] * 1000)],
        [cut for cut in found if in_grace(told, cut)],
        [cut for cut, since_s in zip(found, warned, strict=True) if since_s is None],
        [since_s for since_s in warned if since_s is not None],
        closed,
        [credit for credit, delay_s in closed if delay_s is None or delay_s > late_s],
    )


def _always(scenario: Scenario, told: Told) -> list[Verdict]:
    found = facts(scenario, told)
    agree = bool(told.balance.get("agree"))
    return [
        _none("no cut outside the allowed windows", found.cuts, found.outside),
        _none("no cut in the grace", found.cuts, found.graced),
        _none("no cut without a warning before it", found.cuts, found.unwarned),
        _none("each sufficient recharge recloses at once", found.closings, found.slow),
        Verdict("every record arrived", told.missing == 0, f"{told.missing} missing"),
        Verdict(
            "the gateway computes the same balance", agree, "equal" if agree else str(told.balance)
        ),
    ]


def _none(text: str, of: list[Any], bad: list[dict[str, Any]]) -> Verdict:
    seen = f"{len(bad)} of {len(of)}"
    if bad:
        seen += ", the first " + local(bad[0]["at_utc_s"] * 1000)
    return Verdict(text, not bad, seen)


def in_grace(told: Told, cut: dict[str, Any]) -> bool:
    """Whether a grace had begun and was not over when the contact was opened."""
    state = None
    for record in told.records:
        if record["seq"] >= cut["seq"]:
            break
        if record["type"] == "event" and record["code"] in GRACE_CODES:
            state = record["code"]
        elif record.get("reason") == "partial":
            state = None  # a part of the dues opened one grace
    return state != events.GRACE_OVER


GRACE_CODES = (
    events.CREDIT_EXHAUSTED,
    events.GRACE_OVER,
    events.IN_CREDIT,
    events.OFFLINE_GRACE,
)


def warned_before_s(told: Told, cut: dict[str, Any]) -> int | None:
    """Seconds from the first warning since there was credit to a cut; None: there was none."""
    first = None
    for record in told.records:
        if record["seq"] >= cut["seq"]:
            break
        if record["type"] == "event" and record["code"] == events.IN_CREDIT:
            first = None
        elif record["type"] == "event" and record["code"] in WARNINGS and first is None:
            first = record
    return None if first is None else cut["at_utc_s"] - first["at_utc_s"]


# --- what a file expects -------------------------------------------------------------------------


def _expected(each: Expectation, told: Told) -> Verdict:
    passed, seen = JUDGES[each.kind](each, told)
    return Verdict(each.text, passed, seen, each.key)


def _contact(each: Expectation, told: Told) -> tuple[bool, str]:
    contact = told.seen[each.from_ms]["contact"]
    seen = {True: "closed", False: "open", None: "no power"}[contact]
    return seen == each.value, seen


def _state(each: Expectation, told: Told) -> tuple[bool, str]:
    past = [record for record in switchings(told) if record["at_ms"] <= each.from_ms]
    seen = past[-1]["state"] if past else "connected"
    return seen == each.value, seen


def _live(each: Expectation, told: Told) -> tuple[bool, str]:
    live = told.seen[each.from_ms]["live"]
    if each.kind not in live:
        return False, "not told"
    value = live[each.kind]
    good = sorted(value) == sorted(each.value) if each.kind == "causes" else value == each.value
    return good, shown(each.kind, value)


def _earliest(each: Expectation, told: Told) -> tuple[bool, str]:
    found = told.seen[each.from_ms]["live"].get("earliest_cut_utc_s", 0) * 1000
    return found == each.value, shown(each.kind, found)


def _balance(each: Expectation, told: Told) -> tuple[bool, str]:
    past = [r for r in told.records if r["at_ms"] <= each.from_ms and "balance_mp" in r]
    if not past:
        return False, "not told"
    balance_mp = past[-1]["balance_mp"]
    above = each.kind == "balance_above"
    good = balance_mp > each.value if above else balance_mp < each.value
    return good, shown(each.kind, balance_mp)


def _event(each: Expectation, told: Told) -> tuple[bool, str]:
    found = of_event(told, each.value, each.from_ms, each.until_ms)
    good = bool(found) if each.count is None else len(found) == each.count
    return good, _times(found)


def _cuts(each: Expectation, told: Told) -> tuple[bool, str]:
    found = [cut for cut in cuts(told) if each.from_ms <= cut["at_ms"] <= each.until_ms]
    return len(found) == each.value, _times(found)


def _reclosed(each: Expectation, told: Told) -> tuple[bool, str]:
    """How long each closing after a recharge took; at least one must be there."""
    delays = []
    last: dict[str, Any] | None = None
    credit: dict[str, Any] | None = None
    for record in told.records:
        if record["type"] == "credit" and for_credit_only(last):
            credit = record  # the last one before it closes is the one that reached
        elif record["type"] in ("relay", "control"):
            if record["contact"] and credit is not None:
                if each.from_ms <= record["at_ms"] <= each.until_ms:
                    delays.append(record["at_utc_s"] - credit["at_utc_s"])
                credit = None
            last = record
    good = bool(delays) and max(delays) <= each.value
    return good, ", ".join(f"{delay} s" for delay in delays) or "none"


def _result(each: Expectation, told: Told) -> tuple[bool, str]:
    number, wanted = each.value
    seen = told.results.get((each.kind, number), "not made")
    return seen == wanted, seen


def _times(found: list[dict[str, Any]]) -> str:
    if not found:
        return "none"
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(local(record["at_ms"]) for record in found[:3]) + more


JUDGES = {
    "contact": _contact,
    "state": _state,
    "causes": _live,
    "hold": _live,
    "earliest_cut": _earliest,
    "balance_above": _balance,
    "balance_below": _balance,
    "event": _event,
    "cuts": _cuts,
    "reclosed_within_s": _reclosed,
    "recharge": _result,
    "order": _result,
}
