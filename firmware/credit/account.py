"""The account: ledger totals, and the balance as a pure function of them, registers and tariff.

    balance = credits - closed periods - charges of the open period

The same class serves the meter (live and at recovery) and the gateway (which replays a meter's
records and compares): both only ever `apply` records, so they cannot disagree about what a record
means. Tests: host_tests/unit/test_meter.py, host_tests/property/test_meter_machine.py.
"""

from firmware.credit import tariff as tariffs


class Account:
    """Ledger totals of one meter. All amounts in mp, registers in Wh."""

    def __init__(self):
        self.tariff = None
        self.credits_mp = 0
        self.closed_mp = 0
        self.period_start_wh = 0
        self.period_start_utc_s = 0  # 0: the time was unknown when the period began

    def state(self):
        """The totals as a dict for a snapshot; `restore` takes it back."""
        return {
            "tariff": self.tariff.document if self.tariff else None,
            "credits_mp": self.credits_mp,
            "closed_mp": self.closed_mp,
            "period_start_wh": self.period_start_wh,
            "period_start_utc_s": self.period_start_utc_s,
        }

    def restore(self, state):
        """Takes the totals of a snapshot."""
        self.tariff = tariffs.parse(state["tariff"]) if state["tariff"] else None
        self.credits_mp = state["credits_mp"]
        self.closed_mp = state["closed_mp"]
        self.period_start_wh = state["period_start_wh"]
        self.period_start_utc_s = state["period_start_utc_s"]

    def apply(self, record):
        """Takes a journal record into the totals; records of other types change nothing."""
        kind = record["type"]
        if kind == "credit":
            self.credits_mp += record["amount_mp"]
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
            self.tariff = tariffs.parse(record["document"])

    def open_charge_mp(self, import_wh):
        """Charges of the open period at a register of `import_wh`."""
        if self.tariff is None:
            return 0
        return tariffs.charge_mp(self.tariff, import_wh - self.period_start_wh)

    def open_lines(self, import_wh):
        """The lines of the open period's charge, as `tariff.charge_lines`."""
        if self.tariff is None:
            return []
        return tariffs.charge_lines(self.tariff, import_wh - self.period_start_wh)

    def balance_mp(self, import_wh):
        """The balance at a register of `import_wh`."""
        return self.credits_mp - self.closed_mp - self.open_charge_mp(import_wh)
