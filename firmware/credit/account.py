"""The account: ledger totals, and the balance as a pure function of them, registers and tariff.

    balance = credits - closed periods - charges of the open period

A recharge pays emergency credit taken, then the arrears' share of the rest, then credit; what pays
arrears is no credit, so the balance is never above what was paid. docs/SPEC.md section 2.4.2.

The same class serves the meter (live and at recovery) and the gateway (which replays a meter's
records and compares): both only ever `apply` records, so they cannot disagree about what a record
means. Tests: host_tests/unit/test_account.py, host_tests/property/test_meter_machine.py.
"""

from firmware.credit import charges
from firmware.credit import tariff as tariffs


class Account:
    """Ledger totals of one meter. All amounts in mp, registers in Wh."""

    def __init__(self):
        self.tariff = None
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

    def state(self):
        """The totals as a dict for a snapshot; `restore` takes it back."""
        return {
            "tariff": self.tariff.document if self.tariff else None,
            "credits_mp": self.credits_mp,
            "closed_mp": self.closed_mp,
            "period_start_wh": self.period_start_wh,
            "period_start_utc_s": self.period_start_utc_s,
            "arrears_mp": self.arrears_mp,
            "arrears_percent": self.arrears_percent,
            "arrears_per_day_mp": self.arrears_per_day_mp,
            "arrears_day": self.arrears_day,
            "postpaid": self.postpaid,
            "last_recharge_mp": self.last_recharge_mp,
            "emergency_mp": self.emergency_mp,
        }

    def restore(self, state):
        """Takes the totals of a snapshot."""
        self.tariff = tariffs.parse(state["tariff"]) if state["tariff"] else None
        self.credits_mp = state["credits_mp"]
        self.closed_mp = state["closed_mp"]
        self.period_start_wh = state["period_start_wh"]
        self.period_start_utc_s = state["period_start_utc_s"]
        # Snapshots of 0.1.0 have no such members.
        self.arrears_mp = state.get("arrears_mp", 0)
        self.arrears_percent = state.get("arrears_percent", 0)
        self.arrears_per_day_mp = state.get("arrears_per_day_mp", 0)
        self.arrears_day = state.get("arrears_day", 0)
        self.postpaid = state.get("postpaid", 0)
        self.last_recharge_mp = state.get("last_recharge_mp", 0)
        self.emergency_mp = state.get("emergency_mp", 0)

    def apply(self, record):
        """Takes a journal record into the totals; records of other types change nothing."""
        kind = record["type"]
        if kind == "credit":
            parts = self.divide(record["kind"], record["amount_mp"], record["import_wh"])
            self.credits_mp += parts[0] + parts[2]
            self.arrears_mp -= parts[1]
            if record["kind"] == "recharge":
                self.last_recharge_mp = record["amount_mp"]
                if self.balance_mp(record["import_wh"]) > 0:
                    self.emergency_mp = 0
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
        elif kind == "period":
            self.closed_mp += record["charge_mp"]
            self.period_start_wh = record["end_wh"]
            self.period_start_utc_s = record["end_utc_s"]
        elif kind == "tariff":
            if self.tariff is not None:
                # What was consumed stays at the price it was charged at. One record does both, so
                # that power cannot fail in between.
                wh = record["import_wh"]
                self.closed_mp += self.open_charge_mp(wh)
                self.period_start_wh = wh
                if record["time_valid"]:
                    self.period_start_utc_s = record["utc_s"]
            else:
                # 0 on a new meter; one whose ledger was lost charges nothing for what was before.
                self.period_start_wh = record["import_wh"]
            self.tariff = tariffs.parse(record["document"])
        elif kind == "resync":
            self.restore(record["document"])

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

    def open_charge_mp(self, import_wh):
        """Charges of the open period at a register of `import_wh`."""
        if self.tariff is None:
            return 0
        return charges.charge_mp(self.tariff, self._quantities(import_wh))

    def open_lines(self, import_wh):
        """The lines of the open period's charge, as `charges.charge_lines`."""
        if self.tariff is None:
            return []
        return charges.charge_lines(self.tariff, self._quantities(import_wh))

    def _quantities(self, import_wh):
        return charges.Quantities(self.tariff, import_wh - self.period_start_wh)

    def balance_mp(self, import_wh):
        """The balance at a register of `import_wh`."""
        return self.credits_mp - self.charges_mp(import_wh)

    def charges_mp(self, import_wh):
        """All charges so far, at a register of `import_wh`."""
        return self.closed_mp + self.open_charge_mp(import_wh)
