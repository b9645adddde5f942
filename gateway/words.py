"""Words for people: events, states and amounts. One home, used by page, API and command line.

Tests: host_tests/gateway/test_words.py.
"""

from __future__ import annotations

from typing import Any

from gateway.errors import FieldError

MP_PER_RUPEE = 100_000
MP_PER_PAISA = 1_000

STATES = {
    "connected": "supply on",
    "ready_for_reconnection": "supply off, comes back with a recharge",
    "disconnected": "supply off by the utility",
}
CREDITS = {
    "in_credit": "in credit",
    "low_credit": "low credit",
    "out_of_credit": "out of credit",
}
REASONS = {
    "": "",
    "start": "at start",
    "credit": "no credit",
    "recharge": "recharged",
    "order": "order of the utility",
}
CAUSES = {
    "power": "power came back",
    "hard": "reset",
    "watchdog": "reset by the watchdog",
    "soft": "restarted",
    "brownout": "supply voltage dipped",
    "unknown": "restarted",
}
REFUSALS = {"1": "wrong signature", "2": "meant for another meter", "3": "unreadable"}


def rupees(amount_mp: int) -> str:
    """An amount in rupees with two decimals, rounded half up away from zero: 1234567 -> 12.35."""
    paise = (abs(amount_mp) + MP_PER_PAISA // 2) // MP_PER_PAISA
    sign = "-" if amount_mp < 0 and paise else ""
    return f"{sign}{paise // 100}.{paise % 100:02d}"


def parse_rupees(text: str, field: str) -> int:
    """Milli-paise of a decimal text like `500` or `500.50`. Raises FieldError naming `field`."""
    whole, dot, fraction = text.strip().partition(".")
    digits = whole + fraction
    if (
        not whole
        or (dot and not 1 <= len(fraction) <= 2)
        or not (digits.isascii() and digits.isdigit())
        or len(whole) > 12
    ):
        raise FieldError(
            field, "must be rupees as digits with at most 2 decimals, like 500 or 99.50"
        )
    return int(whole) * MP_PER_RUPEE + int(fraction.ljust(2, "0")) * MP_PER_PAISA


def span(seconds: int) -> str:
    """A length of time: 86400 -> 24 h."""
    if seconds < 0:
        return "unknown length"
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def _event(code: int, detail: int) -> str:
    amount = rupees(detail)
    texts = {
        101: f"power failed ({span(detail)})",
        102: f"power restored after {span(detail)}",
        151: f"clock set by {detail} s" if detail else "clock set, the time was unknown",
        301: "contact opened",
        302: "contact closed",
        1001: f"low credit: below {amount} rupees",
        1002: f"credit used up, {span(detail)} of grace begin",
        1003: "grace is over, supply will be cut in the next allowed window",
        1004: "in credit again",
        1010: "current sensor does not answer",
        1011: "current sensor answers again",
        1012: f"gap of {detail} ms in the samples",
        1020: f"order refused: {REFUSALS.get(str(detail), 'unknown reason')}",
        1021: "time unknown: no cut until it is known",
        1030: "restarted after an internal error",
        1031: f"journal damaged: {detail} bytes dropped",
    }
    return texts.get(code, f"event {code} ({detail})")


def describe(record: dict[str, Any]) -> str:
    """One line for a record of a meter, "" for those that are no news (load profile)."""
    kind = record["type"]
    if kind == "event":
        return _event(record["code"], record["detail"])
    if kind == "boot":
        return f"meter started: {CAUSES[record['cause']]}, firmware {record['firmware']}"
    if kind == "credit":
        what = {
            "opening": "account opened with",
            "recharge": "recharged with",
            "refund": "refund of",
            "adjustment": "adjustment of",
        }[record["kind"]]
        return (
            f"{what} {rupees(record['amount_mp'])} rupees, "
            f"balance {rupees(record['balance_mp'])} rupees"
        )
    if kind == "tariff":
        document = record["document"]
        return f"tariff {document.get('id')} version {document.get('version')} in force"
    if kind == "period":
        if not record["start_utc_s"] and not record["charge_mp"]:
            return "the date of the billing period is known now"
        return f"billing period closed: {rupees(record['charge_mp'])} rupees charged"
    if kind == "relay":
        reason = REASONS[record["reason"]]
        return f"{STATES[record['state']]}" + (f" ({reason})" if reason else "")
    if kind == "order":
        return f"order {record['kind']} {record['id']}: {record['result']}"
    return ""
