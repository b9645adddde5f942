"""The account: ledger totals, and the balance as a pure function of them, registers and tariff.

    balance = credits - closed periods - charges of the open period

A billing period has a part for each tariff that was in force in it; "open" is the one that runs.

A recharge pays emergency credit taken, then the arrears' share of the rest, then credit; what pays
arrears is no credit, so the balance is never above what was paid. docs/SPEC.md section 2.4.2.

The same class serves the meter (live and at recovery) and the gateway (which replays a meter's
records and compares): both only ever `apply` records, so they cannot disagree about what a record
means. Tests: host_tests/unit/test_account.py, host_tests/property/test_meter_machine.py.
"""

import json

from firmware.core.shim import const
from firmware.credit import charges, life
from firmware.credit import tariff as tariffs
from firmware.credit.usage import Usage

_STEADY_MAX_WH = const(100)

_TOTALS = (
    "credits_mp",
    "closed_mp",
    "period_start_wh",
    "period_start_utc_s",
    "arrears_mp",
    "arrears_percent",
    "arrears_per_day_mp",
    "arrears_day",
    "postpaid",
    "last_recharge_mp",
    "emergency_mp",
    "begun_wh",
    "closed",
)


class Account:
    """Ledger totals of one meter. All amounts in mp, registers in Wh.

    usage: credit.usage.Usage of the open part, which began at the register `period_start_wh`.
    number: the account's number, "" for the first one of a meter; begun_wh: register at which it
    began, or was closed; closed: 1 from then on until another one is opened.
    """

    def __init__(self):
        self.tariff = None
        self._passive = None  # JSON of a tariff that is held until its time
        self.passive_from_utc_s = 0
        self.usage = Usage(None, 0)
        self.number = ""
        self.credits_mp = 0
        self.closed_mp = 0
        self.period_start_wh = 0
        self.period_start_utc_s = 0  # 0: the time was unknown when the period began
        self.arrears_mp = 0
        self.arrears_percent = 0  # of each recharge, once the emergency credit is paid
        self.arrears_per_day_mp = 0  # what a positive balance pays of them each day
        self.arrears_day = 0  # local day since 1970 up to which it has; 0: not begun
        self.postpaid = 0  # 1: payment mode credit, the balance may fall without end
        self.last_recharge_mp = 0  # 0: none yet
        self.emergency_mp = 0  # the balance may fall to minus this; 0: none granted
        self.begun_wh = 0
        self.closed = 0

    def state(self):
        """The totals as a dict for a snapshot; `restore` takes it back."""
        state = {name: getattr(self, name) for name in _TOTALS}
        state["tariff"] = self.tariff.document if self.tariff else None
        state["passive"] = self.passive
        state["usage"] = self.usage.state()
        state["number"] = self.number
        return state

    def restore(self, state):
        """Takes the totals of a snapshot or a resync; what an older one has not is 0 or none."""
        self.tariff = tariffs.parse(state["tariff"]) if state["tariff"] else None
        passive = state.get("passive")
        self._hold(tariffs.parse(passive) if passive else None)
        for name in _TOTALS:
            setattr(self, name, state.get(name, 0))
        self.number = state.get("number", "")
        self.usage = Usage(self.tariff, self.period_start_wh)
        if state.get("usage"):
            self.usage.restore(state["usage"])

    def copy(self):
        """The same, to try a record on."""
        other = Account()
        other.tariff = self.tariff
        other._passive = self._passive
        other.passive_from_utc_s = self.passive_from_utc_s
        for name in _TOTALS:
            setattr(other, name, getattr(self, name))
        other.number = self.number
        other.usage = self.usage.copy()
        return other

    def status(self):
        """`new` before the first tariff, `active`, `closed` (DLMS account, status)."""
        if self.tariff is None:
            return "new"
        return "closed" if self.closed else "active"

    @property
    def passive(self):
        """The document of the tariff that is held until `passive_from_utc_s`, or None."""
        return json.loads(self._passive) if self._passive else None

    def _hold(self, tariff):
        self._passive = tariff.json if tariff else None
        self.passive_from_utc_s = tariff.effective_from_utc_s if tariff else 0

    def apply(self, record):
        """Takes a journal record into the totals; records of other types change nothing."""
        kind = record["type"]
        if kind == "credit":
            self._credit(record)
        elif kind in ("recovery", "arrears"):
            self._place_arrears(record)
            if record.get("at_once"):
                self._pay_arrears(self.arrears_mp)
        elif kind == "mode":
            self.postpaid = 1 if record["mode"] == "credit" else 0
            if self.postpaid:
                self.emergency_mp = 0  # what was taken of it is a part of the amount due
            else:
                self.credits_mp += record["amount_mp"]
                self._place_arrears(record)
        elif kind == "emergency":
            self.emergency_mp = record["limit_mp"]
        elif kind == "tally":
            if self.tariff is not None:
                self.usage.take(self.tariff, record)
            self.recover(record["day"], record["import_wh"])
        elif kind == "period":
            self._period(record)
        elif kind == "passive":
            self._hold(tariffs.parse(record["document"]))  # what cannot be in force is not held
        elif kind == "tariff":
            self._change_tariff(record)
        elif kind == "account":
            life.take(self, record)
        elif kind == "resync":
            self.restore(record["document"])

    def _credit(self, record):
        parts = self.divide(record["kind"], record["amount_mp"], record["import_wh"])
        self.credits_mp += parts[0] + parts[2]
        self.arrears_mp -= parts[1]
        if record["kind"] == "recharge":
            self.last_recharge_mp = record["amount_mp"]
            self.usage.recharge(self.tariff)
            if self.balance_mp(record["import_wh"]) > 0:
                self.emergency_mp = 0

    def _period(self, record):
        self.closed_mp += record["charge_mp"]
        self.period_start_wh = record["end_wh"]
        if ends_period(record):
            self.usage = Usage(self.tariff, record["end_wh"])
            self.usage.whole = 1
        elif self.period_start_utc_s:
            self.usage.misdate()
        self.period_start_utc_s = record["end_utc_s"]

    def _change_tariff(self, record):
        wh = record["import_wh"]
        tariff = tariffs.parse(record["document"])
        usage = Usage(tariff, wh)
        if self.tariff is None:
            # 0 on a new meter; one whose ledger was lost charges nothing for what was before.
            self.begun_wh = wh
        elif not self.closed:
            # What was consumed stays at the price it was charged at. One record does both, so that
            # power cannot fail in between.
            self.closed_mp += charges.charge_mp(self.tariff, self.closing(record))
            usage.follow(self.usage, wh, tariff.pro_rata)
            if record["time_valid"]:
                self.period_start_utc_s = record["utc_s"]
        self.period_start_wh = wh
        self.usage = usage
        self.tariff = tariff
        if self._passive and self.passive == tariff.document:
            self._hold(None)

    def closing(self, record):
        """The quantities with which a `period` or `tariff` record ends the open part."""
        usage = self.usage.copy()
        if record["type"] == "period":
            wh = record["end_wh"]
            usage.finish(self.tariff, wh)
        else:
            wh = record["import_wh"]
            usage.split(self.tariff, wh, tariffs.is_pro_rata(record["document"]))
        return usage.quantities(self.tariff, wh)

    def period_charge_mp(self, end_wh):
        """Charges of the open part if the billing period ends at a register of `end_wh`."""
        if self.tariff is None:
            return 0
        return charges.charge_mp(self.tariff, self.closing({"type": "period", "end_wh": end_wh}))

    def needs_tallies(self):
        """True if days or zones count."""
        tariff, usage = self.tariff, self.usage
        if tariff is None or self.closed:
            return self.recovers_daily()
        cut = usage.share_days and not usage.first_day  # limits by days that are not known yet
        return self.recovers_daily() or bool(tariff.zones or tariff.fixed or cut)

    def _place_arrears(self, record):
        """Adds to the arrears, and changes how all of them are recovered."""
        if not self.recovers_daily():
            self.arrears_day = 0
        self.arrears_mp += record["amount_mp"]
        self.arrears_percent = record["share_percent"]
        self.arrears_per_day_mp = record.get("per_day_mp", 0)

    def _pay_arrears(self, amount_mp):
        """Pays arrears out of the balance."""
        self.arrears_mp -= amount_mp
        self.credits_mp -= amount_mp

    def recover(self, day, import_wh):
        """Pays the arrears' part of the days up to the local `day`, as far as the balance allows.

        The first day that is known begins it. A clock that goes back by a day counts none twice;
        one that goes back by more was wrong before, and begins anew.
        """
        days = day - self.arrears_day
        if not self.recovers_daily() or -1 <= days <= 0:
            return
        begun = self.arrears_day
        self.arrears_day = day
        if begun and days > 0:
            most_mp = min(self.arrears_mp, days * self.arrears_per_day_mp)
            self._pay_arrears(max(0, min(most_mp, self.balance_mp(import_wh))))

    def recovers_daily(self):
        """True while each day pays a part of the arrears."""
        return self.arrears_mp > 0 and self.arrears_per_day_mp > 0

    def recovery_begins(self):
        """True if the day is not known yet from which arrears are paid daily."""
        return self.recovers_daily() and not self.arrears_day

    def settle(self):
        """Makes a new tariff once more, after a collection, and again after the next: its parts lie
        among what it came with, then beside those, and would leave the free heap in pieces."""
        tariff = self.tariff
        if tariff is None or tariff.settled == 2:
            return
        settled = tariff.settled + 1
        try:
            tariff = tariffs.parse(tariff.document)
        except MemoryError:
            return  # it is tried again with the next collection
        tariff.settled = settled
        self.tariff = tariff

    def divide(self, kind, amount_mp, import_wh):
        """(to emergency credit taken, to arrears, to credit) of a ledger entry; their sum is
        `amount_mp`. kind: that of the entry; only a recharge pays the first two."""
        if kind != "recharge":
            return 0, 0, amount_mp
        taken_mp = 0
        if self.emergency_mp:
            taken_mp = min(amount_mp, self.emergency_mp, max(0, -self.balance_mp(import_wh)))
        rest_mp = amount_mp - taken_mp
        arrears_mp = min(self.arrears_mp, (rest_mp * self.arrears_percent + 50) // 100)
        return taken_mp, arrears_mp, rest_mp - arrears_mp

    def available_mp(self, balance_mp):
        """What can be consumed at a balance before credit is exhausted."""
        return balance_mp + self.emergency_mp

    def due_mp(self, balance_mp):
        """What a balance below zero is in payment mode credit: the amount due; else 0."""
        return max(0, -balance_mp) if self.postpaid else 0

    def debt_mp(self, balance_mp):
        """All that is owed at a balance: arrears, emergency credit taken and what else is below
        zero (DLMS account, aggregated debt)."""
        return self.arrears_mp + max(0, -balance_mp)

    def clearing_mp(self, balance_mp):
        """The least recharge after which there is credit again, or in payment mode credit nothing
        due any more; 0 if it is so (DLMS account, amount to clear)."""
        taken_mp = min(self.emergency_mp, max(0, -balance_mp))
        needed_mp = -balance_mp - taken_mp + (0 if self.postpaid else 1)
        if needed_mp <= 0:
            return 0
        # Behind the emergency credit: all arrears are paid, or their share is taken of the whole.
        rest_mp = needed_mp + self.arrears_mp
        kept_percent = 100 - self.arrears_percent
        if kept_percent:
            rest_mp = min(rest_mp, (100 * needed_mp - 50) // kept_percent + 1)
        return taken_mp + rest_mp

    def quantities(self, import_wh):
        """What the charge of the open part at a register of `import_wh` follows from."""
        return self.usage.quantities(self.tariff, import_wh)

    def open_charge_mp(self, import_wh):
        """Charges of the open part at a register of `import_wh`."""
        if self.tariff is None or self.closed:
            return 0
        return charges.charge_mp(self.tariff, self.quantities(import_wh))

    def steady_wh(self, import_wh, spare_mp):
        """Wh above a register during which the balance surely falls by at most `spare_mp` (None: by
        any amount); at most 100, as it may rise as well."""
        wh = _STEADY_MAX_WH
        if spare_mp is not None and self.status() == "active":
            steady = charges.steady_wh(self.tariff, self.quantities(import_wh), spare_mp)
            if steady is not None:
                wh = min(wh, steady)
        return wh

    def open_lines(self, import_wh):
        """The lines of the open part's charge, as `charges.charge_lines`."""
        if self.tariff is None or self.closed:
            return []
        return charges.charge_lines(self.tariff, self.quantities(import_wh))

    def balance_mp(self, import_wh):
        """The balance at a register of `import_wh`."""
        return self.credits_mp - self.charges_mp(import_wh)

    def charges_mp(self, import_wh):
        """All charges so far, at a register of `import_wh`."""
        return self.closed_mp + self.open_charge_mp(import_wh)


def ends_period(record):
    """True if a `period` record ends the period; others only say when it began."""
    return 0 < record["start_utc_s"] < record["end_utc_s"]
