"""What each kind of signed order does.

One with two writes finds the first one done when it comes again after a power cut between them, and
is then accepted whatever the time is. docs/SPEC.md section 2.4 is the prose. Tests:
host_tests/unit/test_orders.py.
"""

from firmware.core.config import rows
from firmware.core.records import LEDGER_LOST, MODES
from firmware.core.settings import check_settings
from firmware.core.wallclock import PLAUSIBLE_UTC_S
from firmware.credit import tariff as tariffs
from firmware.credit.account import Account
from firmware.link import codec

# Members of a resync, as config.rows reads them: name, 1 if it is needed, lowest, highest.
_TOTALS = """\
credits_mp 1 -1000000000000000 1000000000000000
closed_mp 1 0 1000000000000000
period_start_wh 1 0 2147483647
period_start_utc_s 1 0 4294967295
import_wh 1 0 2147483647
arrears_mp 0 0 1000000000000000
arrears_percent 0 0 100
arrears_per_day_mp 0 0 10000000000
arrears_day 0 0 65535
postpaid 0 0 1
last_recharge_mp 0 0 10000000000
emergency_mp 0 0 1000000000000000"""


def decide(meter, order):
    """(result, True if the record that was written is the answer's) of an order's execution.

    Raises CodecError, TariffError or ConfigError for a member outside its range, before anything is
    written.
    """
    kind = _KINDS.get(order["kind"])
    if kind is None:
        return "unsupported", False
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
    amount_mp = codec.integer(order, "amount_mp", 1, codec.AMOUNT_MAX_MP)
    meter.credit("recharge", order["id"], order["counter"], amount_mp)
    return "accepted", True


def _tariff(meter, order):
    tariff = tariffs.parse(codec.check_document(order.get("document")))
    refusal = _refusal(meter, order)
    in_force = meter.account.tariff  # None while a new meter's flash refuses
    if in_force and tariff.document == in_force.document:
        return "accepted", False
    if refusal:
        return refusal, False
    utc_s = meter.clock.utc_s()
    if utc_s is not None and tariff.effective_from_utc_s > utc_s:
        raise tariffs.TariffError("effective_from_utc_s", "must not be in the future")
    meter.append("tariff", {"document": tariff.document})
    return "accepted", False


def _settings(meter, order):
    document = check_settings(order.get("document"), meter.config)
    refusal = _refusal(meter, order)
    if refusal:
        return refusal, False
    meter.orders.append("settings", order, document=document)
    return "accepted", True


def _relay(meter, order):
    state = order.get("state")
    if state not in ("connected", "disconnected"):
        raise codec.CodecError("state", "must be connected or disconnected")
    off = state == "disconnected"
    if off:
        codec.integer(order, "expires_utc_s", 0, 0xFFFFFFFF)  # needed
        refusal = _refusal(meter, order)
        if refusal and not meter.ordered_off:
            return refusal, False
    meter.order_contact(off)
    return "accepted", False


def _arrears(meter, order):
    account = meter.account
    amount_mp = codec.integer(order, "amount_mp", 1, codec.AMOUNT_MAX_MP)
    percent = codec.integer(order, "share_percent", 0, 100)
    at_once = _or_0(order, "at_once", 1)
    balance_mp = meter.balance_mp()
    if at_once:
        balance_mp -= account.arrears_mp + amount_mp
    meter.orders.append(
        "recovery",
        order,
        amount_mp=amount_mp,
        share_percent=percent,
        per_day_mp=_or_0(order, "per_day_mp", codec.AMOUNT_MAX_MP),
        at_once=at_once,
        balance_mp=balance_mp,
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
    balance_mp = meter.balance_mp()
    due_mp = max(0, -balance_mp)
    meter.orders.append(
        "mode",
        order,
        mode=mode,
        amount_mp=due_mp,
        share_percent=percent,
        per_day_mp=per_day_mp,
        balance_mp=balance_mp if mode == "credit" else balance_mp + due_mp,
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
    account = Account()
    account.restore(document)
    wh = max(meter.energy.import_wh, document["import_wh"])
    balance_mp = account.balance_mp(wh)
    meter.orders.append("resync", order, document=document, import_wh=wh, balance_mp=balance_mp)
    meter.resynced()
    return "accepted", True


def _check_resync(document):
    """Returns the document of a resync, SPEC section 2.6; CodecError or TariffError otherwise."""
    if not isinstance(document, dict):
        raise codec.CodecError("document", "must be an object")
    names = ["tariff"]
    for name, needed, low, high in rows((_TOTALS,)):
        names.append(name)
        if needed or name in document:
            codec.integer(document, name, low, high)
    codec.integer(document, "period_start_wh", 0, document["import_wh"])
    for name in document:
        if name not in names:
            raise codec.CodecError(name, "is not a member of a resync")
    tariffs.parse(codec.check_document(document.get("tariff")))
    return document


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
    "key": _key,
    "link": _link,
    "clock": _clock,
    "resync": _resync,
    "resend": _resend,
}
