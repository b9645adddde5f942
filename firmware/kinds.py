"""What each kind of signed order does.

One with two writes finds the first one done when it comes again after a power cut between them, and
is then accepted whatever the time is. docs/SPEC.md section 2.4 is the prose. Tests:
host_tests/unit/test_orders.py.
"""

from firmware.core.config import rows
from firmware.core.records import ACTIONS, LEDGER_LOST, MODES, TEXT_MAX
from firmware.core.settings import check_settings
from firmware.core.wallclock import PLAUSIBLE_UTC_S
from firmware.credit import life
from firmware.credit import tariff as tariffs
from firmware.credit.usage import Usage
from firmware.link import codec
from firmware.relay import calendar
from firmware.relay.arbitration import ORDER

# Members of a resync, as config.rows reads them: name, 1 if it is needed, lowest, highest.
_TOTALS = """\
credits_mp 1 -1000000000000000 1000000000000000
closed_mp 1 -1000000000000000 1000000000000000
period_start_wh 1 0 2147483647
period_start_utc_s 1 0 4294967295
import_wh 1 0 2147483647
begun_wh 0 0 2147483647
closed 0 0 1"""

# Those that an account has wherever it comes from.
_CARRIED = """\
arrears_mp 0 0 1000000000000000
arrears_percent 0 0 100
arrears_per_day_mp 0 0 10000000000
arrears_day 0 0 65535
postpaid 0 0 1
last_recharge_mp 0 0 10000000000
emergency_mp 0 0 1000000000000000"""

# The same for an account that is opened; the last one only if it moved from another meter.
_OPENING = """\
balance_mp 1 -1000000000000000 1000000000000000
reading_wh 0 0 2147483647"""
_MOVED = """\
tariff_version 1 1 65535
postpaid 1 0 1
period_start_utc_s 1 0 4294967295"""

# Members of its `usage`; all are needed.
_USAGE = """\
at_wh 1 0 2147483647
zone 1 0 3
base_wh 1 0 2147483647
period_day 1 0 65535
days 1 0 31
share_days 1 0 31
first_day 1 0 65535
day 1 0 65535
load_w 1 0 4294967295
recharged 1 0 1
whole 1 0 1
paid 1 0 1"""


def decide(meter, order):
    """(result, True if the record that was written is the answer's) of an order's execution.

    Raises CodecError, TariffError or ConfigError for a member outside its range, before anything is
    written.
    """
    kind = _KINDS.get(order["kind"])
    if kind is None:
        return "unsupported", False
    if meter.account.closed and order["kind"] in _OF_AN_OPEN_ACCOUNT:
        return "closed", False
    return kind(meter, order)


def _refusal(meter, order):
    """`expired` or `time_unknown` for an order that must not be executed now, else None."""
    if "expires_utc_s" not in order:
        return None
    expires_utc_s = codec.integer(order, "expires_utc_s", 0, 0xFFFFFFFF)
    utc_s = meter.clock.utc_s()
    if utc_s is None:
        return "time_unknown"
    return "expired" if utc_s > expires_utc_s else None


def _recharge(meter, order):
    config = meter.config
    least_mp = max(1, config.recharge_min_mp)
    amount_mp = codec.integer(order, "amount_mp", least_mp, codec.AMOUNT_MAX_MP)
    if config.balance_max_mp:
        account = meter.account.copy()
        wh = meter.energy.import_wh
        entry = {"type": "credit", "kind": "recharge", "amount_mp": amount_mp, "import_wh": wh}
        account.apply(entry)
        if account.balance_mp(wh) > config.balance_max_mp:
            raise codec.CodecError("balance_mp", "must be at most %d" % config.balance_max_mp)
    meter.credit("recharge", order["id"], order["counter"], amount_mp)
    return "accepted", True


def _tariff(meter, order):
    document = codec.check_document(order.pop("document", None))
    tariff = tariffs.parse(document)
    refusal = _refusal(meter, order)
    in_force = meter.account.tariff  # None while a new meter's flash refuses
    if (in_force and document == in_force.document) or document == meter.account.passive:
        return "accepted", False
    if refusal:
        return refusal, False
    utc_s = meter.clock.utc_s()
    document = None  # a long one takes some kB of heap
    if tariff.effective_from_utc_s > (meter.last_utc_s if utc_s is None else utc_s):
        meter.append("passive", {"document": tariff})
    else:
        meter.billing.change_tariff(tariff)
    return "accepted", False


def _settings(meter, order):
    document = check_settings(order.get("document"), meter.config)
    refusal = _refusal(meter, order)
    if refusal:
        return refusal, False
    meter.orders.append("settings", order, document=document)
    return "accepted", True


def _calendar(meter, order):
    document = order.get("document", {})
    if document is not None:  # null: back to the settings
        calendar.check(document)
    refusal = _refusal(meter, order)
    if refusal:
        return refusal, False
    meter.orders.append("calendar", order, document=document or {})
    return "accepted", True


def _relay(meter, order):
    state = order.get("state")
    if state not in ("connected", "disconnected", "commissioned"):
        raise codec.CodecError("state", "must be connected, disconnected or commissioned")
    control = meter.control
    if state == "commissioned":
        control.commission()
        return "accepted", False
    off = state == "disconnected"
    if off:
        codec.integer(order, "expires_utc_s", 0, 0xFFFFFFFF)  # needed
        refusal = _refusal(meter, order)
        if refusal and not control.standing & ORDER:
            return refusal, False
    control.order(off)
    return "accepted", False


def _arrears(meter, order):
    amount_mp = codec.integer(order, "amount_mp", 1, codec.AMOUNT_MAX_MP)
    percent = codec.integer(order, "share_percent", 0, 100)
    meter.orders.append(
        "recovery",
        order,
        amount_mp=amount_mp,
        share_percent=percent,
        per_day_mp=_or_0(order, "per_day_mp", codec.AMOUNT_MAX_MP),
        at_once=_or_0(order, "at_once", 1),
    )
    return "accepted", True


def _or_0(order, field, high):
    """An integer member from 0 to `high` that may be missing."""
    return codec.integer(order, field, 0, high) if field in order else 0


def _mode(meter, order):
    mode = order.get("mode")
    if mode not in MODES:
        raise codec.CodecError("mode", "must be " + " or ".join(MODES))
    percent = _or_0(order, "share_percent", 100)
    per_day_mp = _or_0(order, "per_day_mp", codec.AMOUNT_MAX_MP)
    if (mode == "credit") == meter.account.postpaid:
        return "accepted", False
    meter.orders.append(
        "mode",
        order,
        mode=mode,
        amount_mp=max(0, -meter.balance_mp()),
        share_percent=percent,
        per_day_mp=per_day_mp,
    )
    return "accepted", True


def _adjustment(meter, order):
    entry = order.get("entry")
    if entry not in ("refund", "adjustment"):
        raise codec.CodecError("entry", "must be refund or adjustment")
    highest_mp = -1 if entry == "refund" else codec.AMOUNT_MAX_MP  # a refund leaves the account
    amount_mp = codec.integer(order, "amount_mp", -codec.AMOUNT_MAX_MP, highest_mp)
    if not amount_mp:
        raise codec.CodecError("amount_mp", "must not be 0")
    meter.credit(entry, order["id"], order["counter"], amount_mp)
    return "accepted", True


def _emergency(meter, order):
    high_mp = 0 if meter.account.postpaid else codec.AMOUNT_MAX_MP
    limit_mp = codec.integer(order, "limit_mp", 0, high_mp)
    meter.orders.append("emergency", order, limit_mp=limit_mp)
    return "accepted", True


def _account(meter, order):
    action = order.get("action")
    if action not in ACTIONS:
        raise codec.CodecError("action", "must be opened or closed")
    document = order.get("document")
    if not isinstance(document, dict):
        raise codec.CodecError("document", "must be an object")
    account = meter.account
    if action == "closed":
        if account.status() != "active":
            raise codec.CodecError("action", "must not be closed: no account is open")
        _only(document, ("moved_to",))
        if "moved_to" in document:
            codec.check_meter_id(document["moved_to"])
    else:
        moved = "moved_from" in document
        if account.tariff is None or not (account.closed or (moved and life.is_fresh(account))):
            raise codec.CodecError("action", "must not be opened: an account is open")
        _check_opening(document, account.tariff, moved)
    meter.billing.change_account(lambda: _append_account(meter, order, action, document))
    return "accepted", True


def _append_account(meter, order, action, asked):
    account = meter.account
    wh = meter.energy.import_wh
    if action == "opened":
        document = dict(asked)
        # Also what a new meter measured before is of the account that moves there.
        document["start_wh"] = wh if account.closed else account.begun_wh
    elif "moved_to" in asked:
        document = life.moving(account, wh, asked["moved_to"])
    else:
        document = life.closing(account, wh)
    meter.orders.append("account", order, action=action, document=document)


def _check_opening(document, tariff, moved):
    """CodecError unless it is the document of an opening, SPEC section 2.4.5."""
    codec.text(document, "account", TEXT_MAX)
    names = ["account"] + _check_numbers(document, _OPENING, _CARRIED)
    if moved:
        codec.check_meter_id(document["moved_from"])
        names += ["moved_from", "tariff", "usage"] + _check_numbers(document, _MOVED)
        if (document.get("tariff"), document["tariff_version"]) != (tariff.id, tariff.version):
            raise codec.CodecError("tariff", "must be the one in force")
        _check_usage(document, tariff)
    _only(document, names)


def _only(document, names):
    for name in document:
        if name not in names:
            raise codec.CodecError(name, "is not a member of this document")


def _key(meter, order):
    if meter.credentials.slots is None:
        return "unsupported", False
    meter.credentials.take_key(order)
    return "accepted", False


def _link(meter, order):
    if meter.credentials.slots is None:
        return "unsupported", False
    meter.credentials.take_link(order)
    return "accepted", False


def _clock(meter, order):
    utc_s = codec.integer(order, "utc_s", PLAUSIBLE_UTC_S[0], PLAUSIBLE_UTC_S[1])
    meter.orders.permit_s = utc_s - meter.clock.up_s()
    return "accepted", False


def _resync(meter, order):
    if meter.service != LEDGER_LOST:
        raise codec.CodecError("kind", "must not be resync: no ledger record is missing")
    document = _check_resync(order.get("document"))
    wh = max(meter.energy.import_wh, document["import_wh"])
    meter.orders.append("resync", order, document=document, import_wh=wh)
    meter.resynced()
    return "accepted", True


def _check_resync(document):
    """Returns the document of a resync, SPEC section 2.6; CodecError or TariffError otherwise."""
    if not isinstance(document, dict):
        raise codec.CodecError("document", "must be an object")
    names = _check_numbers(document, _TOTALS, _CARRIED) + ["tariff", "passive", "usage", "number"]
    codec.integer(document, "period_start_wh", 0, document["import_wh"])
    _only(document, names)
    if document.get("number"):
        codec.text(document, "number", TEXT_MAX)
    tariff = tariffs.parse(codec.check_document(document.get("tariff")))
    if document.get("passive") is not None:
        tariffs.parse(codec.check_document(document["passive"]))
    if document.get("usage") is not None:
        usage = _check_usage(document, tariff)
        codec.integer(usage, "at_wh", document["period_start_wh"], document["import_wh"])
        # Only an account with a number can have moved here with energy of another meter.
        more_wh = sum(usage["zone_wh"]) - usage["at_wh"] + document["period_start_wh"]
        if more_wh < 0 or (more_wh and not document.get("number")):
            raise codec.CodecError("zone_wh", "must add up to at_wh less period_start_wh")
    return document


def _check_numbers(document, *tables):
    """The names of the members in some tables; CodecError if one is missing or out of range."""
    names = []
    for name, needed, low, high in rows(tables):
        names.append(name)
        if needed or name in document:
            codec.integer(document, name, low, high)
    return names


def _check_usage(document, tariff):
    """The `usage` of a document, if it is that of a part under a tariff; CodecError otherwise."""
    usage = document.get("usage")
    if not isinstance(usage, dict):
        raise codec.CodecError("usage", "must be an object")
    _check_numbers(usage, _USAGE)
    blank = Usage(tariff, 0)
    for name, length in (("zone_wh", len(blank.zone_wh)), ("fixed", len(blank.fixed))):
        values = usage.get(name)
        if not isinstance(values, list) or len(values) != length:
            raise codec.CodecError(name, "must be a list of %d integers" % length)
        for value in values:
            codec.integer({name: value}, name, 0, 100000000000000000)
    codec.integer(usage, "zone", 0, len(blank.zone_wh) - 1)
    return usage


def _resend(meter, order):
    journal = meter.journal
    if order.get("store") != journal.store_id:
        raise codec.CodecError("store", "must be " + journal.store_id)
    meter.resend(codec.integer(order, "seq", 0, journal.last_seq))
    return "accepted", False


_KINDS = {
    "recharge": _recharge,
    "tariff": _tariff,
    "settings": _settings,
    "relay": _relay,
    "arrears": _arrears,
    "adjustment": _adjustment,
    "emergency": _emergency,
    "mode": _mode,
    "account": _account,
    "key": _key,
    "link": _link,
    "clock": _clock,
    "resync": _resync,
    "resend": _resend,
    "calendar": _calendar,
}
# What an account that is closed does not take; its corrections are entries as ever.
_OF_AN_OPEN_ACCOUNT = ("recharge", "arrears", "emergency", "mode")
