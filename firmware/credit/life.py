"""How an account ends and begins: closed with a settlement, moved to another meter, opened.

An `account` record says in its document what it means, and `take` takes it into an Account. The
totals of a meter run on from account to account, so that the sum of all entries stays the balance.
docs/SPEC.md section 2.4.5. Tests: host_tests/unit/test_life.py,
host_tests/gateway/test_accounts.py.
"""

from firmware.credit import charges
from firmware.credit.usage import Usage

ENDING = (
    "arrears_mp",
    "arrears_percent",
    "arrears_per_day_mp",
    "arrears_day",
    "emergency_mp",
    "last_recharge_mp",
)
"""Totals that end with an account, and that move with it."""

CARRIED = ENDING + (
    "balance_mp",
    "postpaid",
    "period_start_utc_s",
    "usage",
    "tariff",
    "tariff_version",
)
"""Members of a closing that moved to another meter which its opening there repeats."""


def is_fresh(account):
    """True for the account that a new meter opened by itself and to which nothing was credited:
    one that moves there may take its place."""
    return not (account.number or account.credits_mp or account.arrears_mp)


def closing(account, import_wh):
    """The document of a record that closes an account at a register.

    The open part is charged to its end, arrears are taken from what is left, and the rest is to be
    refunded, or is due.
    """
    part = account.closing({"type": "account", "import_wh": import_wh, "document": {}})
    charge_mp = charges.charge_mp(account.tariff, part)
    balance_mp = account.credits_mp - account.closed_mp - charge_mp
    left_mp = balance_mp - account.arrears_mp
    return {
        "account": account.number,
        "charge_mp": charge_mp,
        "balance_mp": balance_mp,
        "arrears_mp": account.arrears_mp,
        "refund_mp": max(0, left_mp),
        "due_mp": max(0, -left_mp),
    }


def moving(account, import_wh, meter):
    """The document of a record that closes an account which goes on at another meter: what that one
    needs, so that slabs and days go on there and nothing is charged twice."""
    usage = account.usage.copy()
    usage.run_to(import_wh)
    document = {
        "account": account.number,
        "moved_to": meter,
        "balance_mp": account.balance_mp(import_wh),
        "postpaid": account.postpaid,
        "period_start_utc_s": account.period_start_utc_s,
        "usage": usage.state(),
        "tariff": account.tariff.id,
        "tariff_version": account.tariff.version,
    }
    for name in ENDING:
        document[name] = getattr(account, name)
    return document


def take(account, record):
    """Takes an `account` record into the totals."""
    if record["action"] == "closed":
        _close(account, record["import_wh"], record["document"])
    else:
        _open(account, record)


def _close(account, wh, document):
    if "moved_to" in document:
        account.closed_mp += account.open_charge_mp(wh)
        account.credits_mp -= document["balance_mp"]
    else:
        account.closed_mp += document["charge_mp"]
        account.credits_mp -= document["arrears_mp"] + document["refund_mp"]
    for name in ENDING:
        setattr(account, name, 0)
    _begin(account, wh)
    account.closed = 1


def _open(account, record):
    document = record["document"]
    for name in ENDING:
        setattr(account, name, document.get(name, 0))
    # The mode is that of the place, so it stays unless an account brings its own.
    account.postpaid = document.get("postpaid", account.postpaid)
    account.number = document["account"]
    account.closed = 0
    wh = document["start_wh"]
    _begin(account, wh)
    account.period_start_utc_s = record["utc_s"] if record["time_valid"] else 0
    if "usage" in document:
        account.usage.restore(document["usage"])
        account.usage.at_wh = wh
        account.usage.zone = 0  # what was measured before the opening is of no window
        account.period_start_utc_s = document["period_start_utc_s"]
    # What a moved part has used so far is paid.
    account.credits_mp = account.closed_mp + account.open_charge_mp(wh) + document["balance_mp"]


def _begin(account, wh):
    """A part begins at a register with nothing used."""
    account.usage = Usage(account.tariff, wh)
    account.begun_wh = account.period_start_wh = wh
