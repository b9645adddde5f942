"""What a story must show: the expectations of its file, and what holds in every story.

The windows are worked out here anew, by the host's calendar, so that the meter's own code does not
judge itself. Tests: host_tests/unit/test_scenario_judging.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile
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


@dataclass(frozen=True)
class Closing:
    """A contact that had to close: what asked for it, and how long that took."""

    record: dict[str, Any]
    """The recharge that ended a cut for want of credit, else the record that ended the last
    cause."""
    delay_s: int | None
    """Until event 302, or 1063, which tells that it does not follow; behind a power failure from
    the start. None: neither came."""
    allowed_s: int
    """As late as that may be."""

    @property
    def slow(self) -> bool:
        """True if it took longer than anything allows."""
        return self.delay_s is None or self.delay_s > self.allowed_s


class _Closings:
    """Goes through the records of a story; `found` has every closing that was due.

    A closing is done within a second and the pulse, or told to have failed. It may be later: by the
    least time between two operations of the contact, before the second look of a start, and behind
    a power failure as a street is spread. None is due while another cause stands, as a limit that
    is locked out, nor from a contact that is known not to follow.
    """

    def __init__(self, scenario: Scenario, sample_s: int) -> None:
        self.found: list[Closing] = []
        self._floor_mp = setting(scenario, "floor_mp")
        self._spread_s = setting(scenario, "reclose_spread_s")
        self._least_s = setting(scenario, "operation_min_s")
        self._sample_s = sample_s
        self._standing: dict[str, Any] | None = None
        self._is_open = False  # as events told
        self._follows = True
        self._cause = ""  # of the present boot
        self._operated: dict[str, Any] | None = None
        self._due: dict[str, Any] | None = None

    def take(self, record: dict[str, Any]) -> None:
        """Takes the next record."""
        if record["type"] == "boot":
            self._cause = record["cause"]
            self._operated = None  # a start is none for a closing
        elif record["type"] in ("relay", "control"):
            if not record["contact"]:
                self._due = None
            elif self._due is None and self._is_open and self._follows:
                self._due = record
            self._standing = record
        elif record["type"] == "credit":
            pays = record["kind"] == "recharge" and record["balance_mp"] > self._floor_mp
            if pays and self._is_open and self._follows and for_credit_only(self._standing):
                self._due = self._due or record
        elif record["type"] == "event":
            self._event(record)

    def _event(self, record: dict[str, Any]) -> None:
        code = record["code"]
        if code in (events.CONNECTED, events.NOT_CLOSED) and self._due is not None:
            self._closed(self._due, record)
        if code in (events.CONNECTED, events.DISCONNECTED, events.NOT_CLOSED):
            self._due = None
        if code in (events.CONNECTED, events.DISCONNECTED):
            self._is_open = code == events.DISCONNECTED
        if code in (events.NOT_CLOSED, events.CONTACT_WORKS):
            self._follows = code == events.CONTACT_WORKS
        if code in (events.CONNECTED, events.DISCONNECTED, events.SWITCH_WELD, events.NOT_CLOSED):
            self._operated = record

    def _closed(self, due: dict[str, Any], record: dict[str, Any]) -> None:
        same_boot = due["boot"] == record["boot"]
        from_up_s = due["up_s"] if same_boot else 0
        until_up_s = from_up_s + CLOSES_WITHIN_S
        looked_up_s = 2 * self._sample_s + LOOKS_S
        if from_up_s <= looked_up_s:
            until_up_s = looked_up_s
            if self._cause in ("power", "brownout"):
                until_up_s += self._spread_s
        operated = self._operated
        if operated is not None and from_up_s - operated["up_s"] <= self._least_s:
            least_up_s = operated["up_s"] + self._least_s + self._sample_s + CLOSES_WITHIN_S
            until_up_s = max(until_up_s, least_up_s)
        self.found.append(Closing(due, record["up_s"] - from_up_s, until_up_s - from_up_s))

    def end(self) -> list[Closing]:
        """All of them, with the one that was due and did not come."""
        if self._due is not None:
            self.found.append(Closing(self._due, None, CLOSES_WITHIN_S))
        return self.found


CLOSES_WITHIN_S = 2
"""A second and the pulse, of an uptime in whole seconds."""
LOOKS_S = 5
"""What a start takes before its first look."""


def closings(scenario: Scenario, told: Told) -> list[Closing]:
    """Every closing of the contact that was due, and how long it took."""
    walk = _Closings(scenario, told.sample_s)
    for record in told.records:
        walk.take(record)
    return walk.end()


def recharges(scenario: Scenario, told: Told) -> list[tuple[dict[str, Any], int | None]]:
    """(credit record, seconds until the record that ends the cut, or None) of each recharge that
    had to end one, whatever else keeps the contact open."""
    floor_mp = setting(scenario, "floor_mp")
    found = []
    standing: list[str] = []
    for place, record in enumerate(told.records):
        if record["type"] in ("relay", "control"):
            standing = words.causes(record)
        elif (
            record["type"] == "credit"
            and record["kind"] == "recharge"
            and record["balance_mp"] > floor_mp
            and "credit" in standing
        ):
            behind = (
                each["at_utc_s"] - record["at_utc_s"]
                for each in told.records[place:]
                if each["type"] in ("relay", "control") and "credit" not in words.causes(each)
            )
            found.append((record, next(behind, None)))
    return found


def openings(told: Told) -> list[dict[str, Any]]:
    """The events by which the contact opened for want of credit and nothing else.

    The first of each cut: one that has slipped closed is opened again at any hour.
    """
    found = []
    last: dict[str, Any] | None = None
    is_open = False
    for record in told.records:
        if record["type"] in ("relay", "control"):
            last = record
        elif record["type"] == "event" and record["code"] == events.CONNECTED:
            is_open = False
        elif record["type"] == "event" and record["code"] == events.DISCONNECTED:
            if not is_open and for_credit_only(last):
                found.append(record)
            is_open = True
    return found


def before(told: Told, record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The records before one, in order."""
    return takewhile(lambda each: each["seq"] < record["seq"], told.records)


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
    held: list[dict[str, Any]]
    """Of the cuts, those right behind a start or at an unknown time."""
    openings: list[dict[str, Any]]
    """As `openings`."""
    openings_outside: list[dict[str, Any]]
    openings_held: list[dict[str, Any]]
    graced: list[dict[str, Any]]
    """Of the cuts, those in a grace."""
    unwarned: list[dict[str, Any]]
    """Of the cuts, those without a warning before them."""
    warned_s: list[int]
    """Seconds from the first warning to each other cut."""
    recharges: list[dict[str, Any]]
    """Those that had to end a cut."""
    unheeded: list[dict[str, Any]]
    """Of these, those that did not, or not at once."""
    closings: list[Closing]
    """As `closings`."""
    slow: list[Closing]
    """Of these, those that did not close, or later than anything allows."""


def facts(scenario: Scenario, told: Told) -> Facts:
    """Looks at all cuts and at all that had to end them, as decided and at the contact."""
    found = cuts(told)
    opened = openings(told)
    warned = [warned_before_s(told, cut) for cut in found]
    paid = recharges(scenario, told)
    closed = closings(scenario, told)
    return Facts(
        cuts=found,
        outside=[each for each in found if is_outside(scenario, told, each)],
        held=[each for each in found if is_held(told, each)],
        openings=opened,
        openings_outside=[
            each for each in opened if is_outside(scenario, told, each, told.sample_s + TOLD_S)
        ],
        openings_held=[each for each in opened if is_held(told, each)],
        graced=[cut for cut in found if in_grace(told, cut)],
        unwarned=[cut for cut, since_s in zip(found, warned, strict=True) if since_s is None],
        warned_s=[since_s for since_s in warned if since_s is not None],
        recharges=[credit for credit, _delay_s in paid],
        unheeded=[
            credit for credit, delay_s in paid if delay_s is None or delay_s > DECIDES_WITHIN_S
        ],
        closings=closed,
        slow=[each for each in closed if each.slow],
    )


STARTING_S = 60
DECIDES_WITHIN_S = 1


TOLD_S = 5
"""With a sample: so late an opening may be told, as its current is looked at."""


def is_outside(scenario: Scenario, told: Told, record: dict[str, Any], within_s: int = 0) -> bool:
    """Whether the supply was cut, up to `within_s` before a record, when no window allows it."""
    if not record["time_valid"] and is_undated_cut(told, record):
        return False
    moments = (record["at_utc_s"], record["at_utc_s"] - within_s)
    return not any(is_allowed(scenario, at_utc_s * 1000) for at_utc_s in moments)


def is_held(told: Told, record: dict[str, Any]) -> bool:
    """Whether the supply was cut by a record right behind a start, at an unknown time, or postpaid,
    in payment mode credit."""
    modes = [each["mode"] for each in before(told, record) if each["type"] == "mode"]
    if record["up_s"] < STARTING_S or modes[-1:] == ["credit"]:
        return True
    return not record["time_valid"] and not is_undated_cut(told, record)


def is_undated_cut(told: Told, record: dict[str, Any]) -> bool:
    """Whether the loudest warning was before a record, with no credit between the two: behind it a
    cut needs neither time nor window."""
    warned = False
    for each in before(told, record):
        if each["type"] == "event" and each["code"] == events.UNDATED_CUT:
            warned = True
        elif (each["type"] == "event" and each["code"] == events.IN_CREDIT) or (
            each["type"] == "control" and each["reason"] in ("recharge", "mode", "ledger_lost")
        ):
            warned = False
    return warned


def _always(scenario: Scenario, told: Told) -> list[Verdict]:
    found = facts(scenario, told)
    agree = bool(told.balance.get("agree"))
    return [
        _none("no cut outside the allowed windows", found.cuts, found.outside),
        _none("no cut behind a start, at an unknown time, or postpaid", found.cuts, found.held),
        _none("no contact opened outside the windows", found.openings, found.openings_outside),
        _none("no contact opened in a hold", found.openings, found.openings_held),
        _none("no cut in the grace", found.cuts, found.graced),
        _none("no cut without a warning before it", found.cuts, found.unwarned),
        _none("each sufficient recharge ends the cut at once", found.recharges, found.unheeded),
        _none(
            "the contact closes as soon as it may",
            found.closings,
            [each.record for each in found.slow],
        ),
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
    for record in before(told, cut):
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
    for record in before(told, cut):
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
    """How long each closing behind a recharge took, at the contact; at least one must be there."""
    delays = []
    last: dict[str, Any] | None = None
    credit: dict[str, Any] | None = None
    for record in told.records:
        if record["type"] == "credit" and for_credit_only(last):
            credit = record  # the last one before it closes is the one that reached
        elif record["type"] in ("relay", "control"):
            if not record["contact"]:
                credit = None
            last = record
        elif record["type"] == "event" and record["code"] == events.CONNECTED:
            if credit is not None and each.from_ms <= record["at_ms"] <= each.until_ms:
                delays.append(record["at_utc_s"] - credit["at_utc_s"])
            credit = None
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
