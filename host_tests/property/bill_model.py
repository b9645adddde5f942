"""What a meter's records charge, once more: SPEC sections 3.3 to 3.5, and charges_model for prices.

It shares nothing with firmware/credit but the records.
"""

import copy
from collections import defaultdict

from firmware.core.events import LEDGER_LOST
from host_tests.property import charges_model

DAY_MIN = 1440


class Bill:
    """All charges of one meter by its records, which `take` gets in their order."""

    def __init__(self):
        self.part = None
        self.closed_mp = 0
        self.tenantless = None  # the tariff in force while the account is closed, and since when
        self.unsure = None  # behind a lost ledger: (register, the part before) of each tally

    @property
    def start_wh(self):
        """The register at which the open part began."""
        if self.tenantless:
            return self.tenantless[1]
        return self.part.start_wh if self.part else 0

    def charges_mp(self, wh):
        """All charges at a register."""
        return self.closed_mp + (self.part.charge_mp(wh) if self.part else 0)

    def take(self, record):
        kind = record["type"]
        if kind == "account":
            self._change_account(record)
        elif kind == "tariff" and self.tenantless:
            self.tenantless = record["document"], record["import_wh"]
        elif kind == "tariff":
            self._change_tariff(record)
        elif self.part is None:
            return
        elif kind == "event" and record["code"] == LEDGER_LOST:
            self.unsure = []
        elif kind == "tally":
            if self.unsure is not None:
                self.unsure.append((record["import_wh"], copy.deepcopy(self.part)))
            self.part.tally(record)
        elif kind == "resync":
            self._resync(record["document"].get("usage"))
        elif kind == "credit" and record["kind"] == "recharge":
            self.part.recharge()
        elif kind == "period" and 0 < record["start_utc_s"] < record["end_utc_s"]:
            self.closed_mp += self.part.final_mp(record["end_wh"])
            self.part = Part(self.part.document, record["end_wh"])
            self.part.whole = True
        elif kind == "period" and record["start_utc_s"]:
            self.part.counted_to = None
            if self.part.whole:  # a wrong time ended the period before, and charged this one's days
                self.part.paid, self.part.first = True, None
                self.part.collected.clear()

    def _resync(self, usage):
        """What the gateway did not know yet of the lost time does not count."""
        while usage and self.unsure and self.unsure[-1][0] > usage["at_wh"]:
            self.part = self.unsure.pop()[1]
        self.unsure = None

    def _change_account(self, record):
        """A closing or an opening on the same meter; moves between meters are not judged here."""
        wh = record["import_wh"]
        if record["action"] == "closed":
            self.closed_mp += self.part.final_mp(wh, True)
            self.tenantless, self.part = (self.part.document, wh), None
        else:
            self.part, self.tenantless = Part(self.tenantless[0], wh), None

    def _change_tariff(self, record):
        wh, old = record["import_wh"], self.part
        self.part = new = Part(record["document"], wh)
        if old is None:
            return
        new.recharged, new.counted_to, new.period = old.recharged, old.counted_to, old.period
        pro_rata = record["document"].get("on_change") == "pro_rata"
        self.closed_mp += old.final_mp(wh, True, pro_rata)
        if old.first is None:
            return
        begin_day, days = old.period
        if pro_rata:
            new.limits_from = min(old.counted_to, begin_day + days - 1)
        else:
            new.base_wh = old.base_wh + wh - old.start_wh
            new.limits_from = old.limits_from


class Part:
    """What one tariff charges for a part of a billing period."""

    def __init__(self, document, start_wh):
        self.document = document
        self.start_wh = start_wh
        self.marks = [(start_wh, 0)]  # (register, zone above it)
        self.fixed = [line for line in document["lines"] if line["shape"] == "fixed"]
        self.collected = defaultdict(int)  # of each fixed line, month's mp x days (x minutes)
        self.base_wh = 0
        self.limits_from = None  # day from which on limits are cut, None: not cut
        self.period = None  # (first day, days)
        self.first = self.counted_to = None  # days
        self.recharged = self.whole = self.paid = False
        self.load_w = 0

    def tally(self, record):
        self.marks.append((record["import_wh"], record["zone"] * ("zones" in self.document)))
        self.load_w = record["load_w"]
        self.period = record["period_day"], record["period_days"]
        day = record["day"]
        if self.paid and self.counted_to is None:
            self.first = self.counted_to = sum(self.period)
        elif self.first is None:
            began = self.period[0] if self.whole else self.counted_to
            self.first = self.counted_to = day if began is None else began
            self.ahead("monthly")
            if self.recharged:
                self.ahead("first_recharge")
        if self.counted_to is None:
            self.first = self.counted_to = day
        days = max(0, day - self.counted_to)
        self.counted_to += days
        full_min = self.document.get("full_supply_min", 0)
        whole, rest_min = divmod(record["supply_min"], DAY_MIN)
        minutes = min(whole * full_min + min(rest_min, full_min), days * full_min)
        for number, line in enumerate(self.fixed):
            if line["collect"] == "daily":
                count = minutes if line.get("by_supply") else days
                self.collected[number] += self.rate(line) * count

    def recharge(self):
        if not self.recharged and self.first is not None:
            self.ahead("first_recharge")
        self.recharged = True

    def ahead(self, collect):
        days = max(0, sum(self.period) - self.first)
        for number, line in enumerate(self.fixed):
            if line["collect"] == collect:
                self.collected[number] += self.rate(line) * days

    def rate(self, line):
        """mp a month at the sanctioned load."""
        kw = max(1, -(-self.load_w // 1000))
        if line["per"] == "band":
            return next(
                band["rate_mp"]
                for band in line["bands"]
                if band["up_to_kw"] is None or kw <= band["up_to_kw"]
            )
        return line["rate_mp"] * (kw if line["per"] == "kw" else 1)

    def final_mp(self, wh, splits=False, pro_rata=False):
        """The charge when the part ends; `splits`: inside the billing period."""
        share = None
        if self.first is not None:
            self.recharge()
            begin_day, days = self.period
            passed, paid = max(0, self.counted_to - self.first), begin_day + days - self.first
            for number, line in enumerate(self.fixed):
                if splits and line["collect"] != "daily" and paid > passed:
                    self.collected[number] = self.collected[number] * passed // paid
            if pro_rata:
                from_day = begin_day if self.limits_from is None else self.limits_from
                share = max(1, self.counted_to - from_day), days
        return self.charge_mp(wh, share)

    def charge_mp(self, wh, share=None):
        """The charge at a register; share: of the limits, instead of the part's own."""
        begin_day, days = self.period or (0, 30)
        if share is None:
            share = (1, 1)
            if self.limits_from is not None:
                share = begin_day + days - self.limits_from, days
        zone_wh = [0, 0, 0, 0]
        for (from_wh, zone), (to_wh, _zone) in zip(
            self.marks, [*self.marks[1:], (wh, 0)], strict=True
        ):
            zone_wh[zone] += to_wh - from_wh
        fixed = [self.collected[number] for number in range(len(self.fixed))]
        found = charges_model.amounts(self.document, zone_wh, self.base_wh, share, days, fixed)
        return sum(sum(amounts) for amounts in found.values())
