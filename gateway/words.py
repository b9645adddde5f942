"""Words for people: events, states and amounts. One home, used by page, API and command line.

Tests: host_tests/gateway/test_words.py.
"""

from __future__ import annotations

from typing import Any

from firmware.console import statements
from firmware.core.records import REASONS as RECORDED
from firmware.relay import arbitration
from gateway.errors import FieldError

MP_PER_RUPEE = 100_000
MP_PER_PAISA = 1_000

STATES = {
    "connected": "supply on",
    "ready_for_reconnection": "supply off, comes back with a recharge",
    "disconnected": "supply off by the utility",
}
WOULD_CUT = "warn only: the supply would be cut now"
WAYS_BACK = {
    "limiter": "supply off, comes back by itself",
    "over_current": "supply off, comes back by itself",
    "test": "supply off, comes back by itself",
    "tamper": "supply off until the utility switches it on",
}
"""What is said instead of the state's words, by the cause in force."""
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
    "ledger_lost": "ledger lost, supply is kept",
    "mode": "postpaid",
    "limiter": "load above its limit",
    "over_current": "current above its limit",
    "tamper": "tamper",
    "test": "test of the switch",
    "ended": "its cause has ended",
    "partial": "enough of the dues was paid",
    "undone": "the power failed before the cut was done, it is still due",
    "account": "another account",
}
HOLDS = {
    "": "",
    "commissioning": "not put into service yet",
    "ledger_lost": "ledger lost",
    "closed": "account closed",
    "credit_mode": "postpaid",
    "start": "just started",
    "order": "no order can be decided, the flash refuses writes",
    "sensor_fault": "fault of the sensor",
    "time_unknown": "the time is unknown",
    "server_down": "no answer from the gateway",
    "switched": "prepaid only for some days",
    "warning": "the last warning is too recent",
    "warn_only": "warns only",
    "window": "outside the allowed hours",
    "interval": "the contact has just moved",
}
"""Why a credit cut does not happen, by the word of `hold` in the present values."""
MODES = {
    "prepayment": "prepaid",
    "credit": "postpaid",
}
EMERGENCIES = {
    "none": "none",
    "selectable": "offered: press the button",
    "in_use": "in use",
    "consumed": "used up",
}
SENSOR_FAULTS = {
    1: "no answer",
    2: "lost its configuration",
    3: "overflow",
    4: "values out of range",
    5: "no new conversion",
    6: "its bus hangs",
    7: "current above the range, counted as its end",
}
CAUSES = {
    "power": "power came back",
    "hard": "reset",
    "watchdog": "reset by the watchdog",
    "soft": "restarted",
    "brownout": "supply voltage dipped",
    "unknown": "restarted",
}
SERVICES = {
    "": "",
    "ledger_lost": "ledger lost, needs a resync",
    "storage": "flash refuses writes, needs service",
}
STANDING = {
    7: "over-voltage",
    9: "low voltage",
    51: "tamper: current flows backwards",
    67: "over-current",
    201: "tamper: magnet",
    215: "overload",
    251: "tamper: cover open",
    1050: "tamper: current past the open contact",
}
"""Conditions that a meter has told and that are not over, by the code of their event."""
RESULTS = {
    "accepted": "accepted",
    "old": "out of turn, sent anew",
    "range": "refused, a value is out of range",
    "malformed": "refused, cannot be read",
    "unsupported": "refused, this firmware does not know it",
    "expired": "expired",
    "time_unknown": "refused, the meter does not know the time",
    "resync_needed": "waits, the meter needs a resync first",
    "closed": "refused, the account is closed",
}
RELAY_ORDERS = {
    "connected": "supply on",
    "disconnected": "supply off",
    "commissioned": "put into service",
}
ORDERS = {
    "recharge": "recharge",
    "tariff": "tariff",
    "settings": "settings",
    "relay": "switch the supply",
    "arrears": "arrears",
    "adjustment": "ledger entry",
    "account": "account",
    "emergency": "emergency credit",
    "mode": "payment mode",
    "key": "new key",
    "link": "new link settings",
    "clock": "allow a large clock step",
    "resync": "resync of the ledger",
    "resend": "send records again",
    "calendar": "calendar of the allowed hours",
}


EXCESS = "excess-"
"""What the id of a ledger entry for a month's excess load begins with; the month is behind it."""

CHANGES = {
    "mismatch": "stopped, the meter's totals are not the gateway's",
    "cancelled": "its order was cancelled",
    "old_backup": "its order was given up at a restoration",
}
"""Results of changes of accounts that are no results of orders."""


def refusal(code: str, field: str) -> str:
    """Why a meter did not take a recharge, "" without a code."""
    if code == "range" and field == "amount_mp":
        return "refused, the amount is below the least or above the highest of this meter"
    if code == "range" and field == "balance_mp":
        return "refused, the balance would be above the highest of this meter"
    return RESULTS.get(code, code)


def supply(state: str, cause: str) -> str:
    """The state of the supply, and how it ends; cause: the one in force."""
    return WAYS_BACK.get(cause, STATES[state])


def causes(record: dict[str, Any]) -> list[str]:
    """What stands after a `control` record, the cause in force first; also after a `relay` record,
    in which older firmware said less."""
    if "standing" in record:
        found: list[str] = arbitration.words(record["standing"])
        return found
    return {"ready_for_reconnection": ["credit"], "disconnected": ["order"]}.get(
        record["state"], []
    )


def _control(record: dict[str, Any]) -> str:
    """What a `control` or `relay` record says."""
    cause = next(iter(causes(record)), "")
    reason = REASONS[record["reason"]]
    why = REASONS[cause] if cause else reason
    text = supply(record["state"], cause) + (f" ({why})" if why else "")
    return text if why == reason else f"{text}; why now: {reason}"


def rupees(amount_mp: int) -> str:
    """An amount in rupees with two decimals, rounded half up away from zero: 1234567 -> 12.35."""
    paise = (abs(amount_mp) + MP_PER_PAISA // 2) // MP_PER_PAISA
    sign = "-" if amount_mp < 0 and paise else ""
    return f"{sign}{paise // 100}.{paise % 100:02d}"


def charge_line(line: dict[str, Any]) -> str:
    """A line of a charge, as the audit puts it."""
    names = ("name", "kind", "quantity", "unit", "rate")
    detail = statements.detail([line.get(name) for name in names])
    return f"{line['name']}{detail and f': {detail}'} = {rupees(line['amount_mp'])} ₹"


def exact_rupees(amount_mp: int) -> str:
    """An amount in rupees, not rounded: 2 to 5 decimals. 1234567 -> 12.34567, 100000 -> 1.00."""
    sign = "-" if amount_mp < 0 else ""
    whole, rest = divmod(abs(amount_mp), MP_PER_RUPEE)
    decimals = f"{rest:05d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{decimals}"


def rupees_up(amount_mp: int) -> str:
    """The least amount in whole paise that is not below `amount_mp`, which is not negative."""
    return rupees(-(-amount_mp // MP_PER_PAISA) * MP_PER_PAISA)


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
    number = "unknown number" if detail < 0 else str(detail)
    changed = "key" if detail == 1 else "link settings"
    milli = f"{detail / 1000:.1f}"
    reason = REASONS[RECORDED[detail]] if 0 < detail < len(RECORDED) else ""
    why = f": {reason}" if reason else ""
    cuts = ", cuts the supply" if detail else ""
    limit = " and ".join(REASONS[word] for word in arbitration.words(detail))
    texts = {
        7: f"over-voltage: above {milli} V",
        8: f"over-voltage is over, it was up to {milli} V",
        9: f"low voltage: below {milli} V",
        10: f"low voltage is over, it was down to {milli} V",
        51: "tamper: current flows backwards",
        52: f"current flows forwards again, it was up to {milli} A backwards",
        67: f"over-current: above {milli} A",
        68: f"over-current is over, it was up to {milli} A",
        101: f"power failed ({span(detail)})",
        102: f"power restored after {span(detail)}",
        151: f"clock set by {detail} s" if detail else "clock set, the time was unknown",
        201: f"tamper: magnet at the meter{cuts}",
        202: "no magnet at the meter any more",
        211: "postpaid: no credit cut",
        212: "prepaid",
        213: "forwarded-only mode: a reversed current counts as import",
        214: "import and export mode: a reversed current counts as export",
        215: f"overload: above the sanctioned {detail} W",
        216: f"overload is over, it was up to {detail} W",
        251: f"tamper: meter cover open{cuts}",
        301: f"contact opened{why}",
        302: f"contact closed{why}",
        1001: f"low credit: below {amount} rupees",
        1002: f"credit used up, {span(detail)} of grace begin",
        1003: "grace is over, supply will be cut in the next allowed window"
        if detail
        else "grace is over, when the supply can be cut is not known",
        1004: "in credit again",
        1005: f"emergency credit of {amount} rupees is offered: press the meter's button",
        1006: f"low credit: {detail} % of the last recharge are left",
        1007: f"low credit: it lasts for {detail} days like the last ones",
        1008: f"the next units re-rate the month: that costs {amount} rupees",
        1009: "no credit cut for now: 7 days from when the time was known",
        1010: "sensor: " + SENSOR_FAULTS.get(detail, f"fault {detail}"),
        1011: "sensor well again",
        1012: f"gap of {detail} ms in the samples",
        1021: "time unknown: no cut until it is known",
        1022: f"time refused: a step of {detail} s needs an order",
        1023: f"the power failure lasted {span(detail)}, as is known now",
        1050: "tamper: current flows though the contact is open",
        1051: f"no current past the contact any more, it was up to {milli} A",
        1052: "meter cover closed",
        253: f"switch weld: the contact did not {'close' if detail else 'open'}",
        1030: "restarted after an internal error",
        1031: f"journal damaged: {detail} bytes dropped",
        1032: f"ledger records lost ({number}): no credit is taken, supply is kept, resync needed",
        1033: "ledger resynced, credit is taken again",
        1034: f"flash refuses writes (error {detail}), metering goes on in memory",
        1035: f"flash takes writes again after {span(detail)}",
        1036: "configuration unreadable, last good copy in use",
        1037: f"new {changed} in use, the old dropped",
        1038: f"new {changed} given up, the old stay",
        1060: WOULD_CUT,
        1061: f"time unknown for too long: the supply will be cut after {span(detail)} of supply",
        1062: f"{limit or 'a limit'} too often: locked out for a while",
        1063: "the contact did not close",
        1064: f"the contact follows again (event {detail} is over)",
        1065: f"cuts were held for want of the gateway: a last grace of {span(detail)} begins",
        1066: "the meter hears no gateway",
        1067: f"the meter hears the gateway again after {span(detail)}",
        1068: "put into service",
        1039: f"{detail} records are missing from the meter's journal",
    }
    return texts.get(code, f"event {code} ({detail})")


def _recovery(members: dict[str, Any]) -> str:
    """How arrears are recovered: members of an order or of its record."""
    if members.get("at_once"):
        return "taken from the balance at once"
    ways = [f"{members['share_percent']} % of each recharge"]
    if members.get("per_day_mp"):
        ways.append(f"{rupees(members['per_day_mp'])} rupees a day")
    return "paid by " + " and ".join(ways)


def closing(document: dict[str, Any]) -> str:
    """How an account was closed, by the document of its record."""
    if "moved_to" in document:
        moved = _rupees_of(document, "balance_mp")
        return f"account closed: balance of {moved} rupees moved to {document['moved_to']}"
    if document.get("due_mp"):
        return f"account closed: {_rupees_of(document, 'due_mp')} rupees are due"
    return f"account closed: {_rupees_of(document, 'refund_mp')} rupees are to be refunded"


def _rupees_of(document: dict[str, Any], name: str) -> str:
    """An amount of a record's document, which nobody has checked."""
    amount_mp = document.get(name)
    return rupees(amount_mp) if isinstance(amount_mp, int) else "?"


def order(view: dict[str, Any]) -> str:
    """What an order asks for, in words."""
    kind, members = view["kind"], view["members"]
    if kind == "relay":
        return RELAY_ORDERS[members["state"]]
    if kind == "tariff":
        return (
            f"tariff {members['document'].get('id')} version {members['document'].get('version')}"
        )
    if kind == "settings":
        changes = sorted(members["document"].items())
        return "settings: " + ", ".join(f"{name} {value}" for name, value in changes)
    if kind == "calendar":
        document = members["document"]
        return f"calendar {document['id']}" if document else "calendar by the settings"
    if kind == "arrears":
        return f"arrears of {rupees(members['amount_mp'])} rupees, {_recovery(members)}"
    if kind == "account":
        return f"account to be {members['action']}"
    if kind == "adjustment":
        return f"{members['entry']} of {rupees(members['amount_mp'])} rupees"
    if kind == "emergency":
        return f"emergency credit of {rupees(members['limit_mp'])} rupees"
    if kind == "mode":
        return f"payment mode {MODES[members['mode']]}"
    if kind == "link":
        return "new " + " and ".join(name for name in ("wifi", "broker") if name in members)
    if kind == "resync":
        return (
            f"resync of the ledger, credits of {rupees(members['document']['credits_mp'])} rupees"
        )
    return ORDERS.get(kind, kind)


def account(view: dict[str, Any]) -> str:
    """What a change of an account is, in words."""
    meter, target, consumer = view["meter"], view["target"], view["consumer"]
    return {
        "close": f"account of {meter} to be closed",
        "open": f"account for {consumer} on {target}",
        "tenant": f"{meter} passes from {view['consumer_before']} to {consumer}",
        "replace": f"account of {meter} moves to {target}",
    }[str(view["kind"])]


def describe(record: dict[str, Any]) -> str:
    """One line for a record of a meter, "" for those that are no news."""
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
        month = str(record.get("id", "")).removeprefix(EXCESS)
        if month != record.get("id", "") and not record.get("counter"):
            what = f"load above the sanctioned one in {month}:"
        return (
            f"{what} {rupees(record['amount_mp'])} rupees, "
            f"balance {rupees(record['balance_mp'])} rupees"
        )
    if kind == "tariff":
        document = record["document"]
        return f"tariff {document.get('id')} version {document.get('version')} in force"
    if kind == "passive":
        document = record["document"]
        return (
            f"tariff {document.get('id')} version {document.get('version')} comes into force at "
            f"its time"
        )
    if kind == "period":
        if not record["start_utc_s"] and not record["charge_mp"]:
            return "the date of the billing period is known now"
        return f"billing period closed: {rupees(record['charge_mp'])} rupees charged"
    if kind in ("relay", "control"):
        return _control(record)
    if kind == "calendar":
        return "calendar of the allowed hours changed"
    if kind == "order":
        what = ORDERS.get(record["kind"], f"order of kind {record['kind']}")
        return f"{what}: {RESULTS.get(record['result'], record['result'])}"
    if kind == "settings":
        document = record["document"]
        changes = ", ".join(f"{name} {document[name]}" for name in sorted(document))
        return f"settings changed: {changes}"
    if kind in ("arrears", "recovery"):
        return f"arrears of {rupees(record['amount_mp'])} rupees added, {_recovery(record)}"
    if kind == "mode":
        due = f"{rupees(record['amount_mp'])} rupees"
        if record["mode"] == "credit":
            return f"postpaid from now on, {due} are due"
        if record["amount_mp"]:
            return f"prepaid from now on, the due {due} become arrears, {_recovery(record)}"
        return "prepaid from now on"
    if kind == "emergency":
        how = {"button": "taken at the button", "console": "taken at the console"}
        by = how.get(record["id"], "granted")
        return f"emergency credit of {rupees(record['limit_mp'])} rupees {by}"
    if kind == "account":
        document = record["document"]
        if record["action"] == "closed":
            return closing(document)
        source = f", moved from {document['moved_from']}" if "moved_from" in document else ""
        amount = _rupees_of(document, "balance_mp")
        return f"account {document.get('account')} opened with {amount} rupees{source}"
    if kind == "resync":
        return f"ledger resynced, balance {rupees(record['balance_mp'])} rupees"
    if kind == "calibration":
        return (
            f"calibrated ({record['what']}, change {record['number']}): "
            f"voltage {record['voltage_gain_ppm']} ppm, current {record['current_gain_ppm']} ppm"
        )
    if kind == "fault":
        return f"internal error {record['kind']} in {record['place']}"
    return ""
