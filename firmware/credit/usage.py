"""What the open part of a billing period has used: energy by zone, days, and fixed charges.

A billing period has one part for each tariff that was in force in it. A `tally` record tells when
days and zones changed; what a part has used follows from these alone, so meter and gateway cannot
disagree about it. Days are local days since 1970. docs/SPEC.md section 3.5 is the prose. Tests:
host_tests/unit/test_billing.py, host_tests/property/test_meter_machine.py.
"""

from firmware.credit import charges
from firmware.credit.tariff import DAY_MIN, ZONES_MAX

NUMBERS = (
    "at_wh",
    "zone",
    "base_wh",
    "period_day",
    "days",
    "share_days",
    "first_day",
    "day",
    "load_w",
    "recharged",
    "whole",
    "paid",
)
"""Members of `Usage.state` that are one integer."""


class Usage:
    """The open part under one tariff.

    zone_wh: Wh by zone up to the register `at_wh`; what comes behind it is of `zone`.
    base_wh: Wh of earlier parts, behind which the slabs go on.
    period_day, days: first day of the billing period and its length; 0: no tally told them yet.
    share_days: days for which limits of slabs are taken; 0: as they are written.
    first_day: from which day on it is charged; 0: no tally came yet.
    day: the days before it are counted; 0: the next tally says.
    load_w: sanctioned load at the last tally.
    fixed: of each fixed line the mp a month x days collected (x minutes, if by supply).
    recharged: 1: there was a recharge in the billing period.
    whole: 1: it began with the billing period.
    paid: 1: a period that ended by a wrong time has charged the days of this one.
    """

    def __init__(self, tariff, at_wh):
        self.zone_wh = [0] * (ZONES_MAX if tariff and tariff.zones else 1)
        self.fixed = [0] * (len(tariff.fixed) if tariff else 0)
        for name in NUMBERS:
            setattr(self, name, 0)
        self.at_wh = at_wh

    def state(self):
        """All of it as a dict for a snapshot; `restore` takes it back."""
        state = {name: getattr(self, name) for name in NUMBERS}
        state["zone_wh"] = list(self.zone_wh)
        state["fixed"] = list(self.fixed)
        return state

    def restore(self, state):
        """Takes what `state` gave."""
        for name in NUMBERS:
            setattr(self, name, state[name])
        self.zone_wh = list(state["zone_wh"])
        self.fixed = list(state["fixed"])

    def copy(self):
        """The same, to go on from."""
        other = Usage(None, 0)
        other.restore(self.state())
        return other

    def quantities(self, tariff, import_wh):
        """What the charge at a register follows from."""
        quantities = charges.Quantities(tariff)
        quantities.zone_wh = list(self.zone_wh)
        quantities.zone_wh[self.zone] += import_wh - self.at_wh
        quantities.base_wh = self.base_wh
        if self.days:
            quantities.days = self.days
        if self.share_days:
            quantities.share = (self.share_days, quantities.days)
        quantities.fixed = self.fixed
        return quantities

    def take(self, tariff, tally):
        """Takes a tally; returns how many days it counts."""
        self.run_to(tally["import_wh"])
        self.zone = tally["zone"] if tally["zone"] < len(self.zone_wh) else 0
        self.load_w = tally["load_w"]
        if self.share_days:
            # A tariff whose periods begin on another day: its part has the days to their end.
            moved = tally["period_day"] + tally["period_days"] - self.period_day - self.days
            self.share_days = max(1, min(self.share_days + moved, tally["period_days"]))
        self.period_day = tally["period_day"]
        self.days = tally["period_days"]
        day = tally["day"]
        if self.paid and not self.day:
            self.first_day = self.day = self.period_day + self.days
        elif not self.first_day:
            self.first_day = self.period_day if self.whole else self.day or day
            self.day = self.first_day
            self._collect_ahead(tariff, "monthly")
            if self.recharged:
                self._collect_ahead(tariff, "first_recharge")
        elif not self.day:  # the time before was wrong
            self.first_day = day
        counted = day - self.day if self.day else 0
        if counted > 0:
            self._collect_daily(tariff, counted, tally["supply_min"])
        if counted >= 0:  # else the clock went back: no day is counted twice
            self.day = day
        return max(0, counted)

    def misdate(self):
        """The time was wrong, and the next tally says the day anew. If it had ended a period,
        that one has charged all its days: those until its true end are not charged again."""
        self.day = 0
        if self.whole:
            self.paid = 1
            self.first_day = 0
            self.fixed = [0] * len(self.fixed)

    def recharge(self, tariff):
        """The billing period has a recharge: what waits for the first one is collected."""
        if not self.recharged:
            self.recharged = 1
            if self.first_day:
                self._collect_ahead(tariff, "first_recharge")

    def normal(self, import_wh):
        """Energy above a register is of zone 0 until the next tally."""
        if self.zone:
            self.run_to(import_wh)
            self.zone = 0

    def finish(self, tariff, end_wh):
        """The part ends with the billing period, at a register of `end_wh`."""
        self.run_to(end_wh)
        if self.first_day and not self.recharged:
            self._collect_ahead(tariff, "first_recharge")

    def split(self, tariff, end_wh, pro_rata):
        """The part ends inside the billing period, with its last counted day. What was collected
        ahead is given back; pro_rata: limits of slabs are taken for the days that passed."""
        self.finish(tariff, end_wh)
        if not self.first_day:
            return
        passed = max(0, self.day - self.first_day)
        ahead = self._days_ahead()
        for i, line in enumerate(tariff.fixed):
            if line[3] != "daily" and ahead > passed:
                self.fixed[i] = self.fixed[i] * passed // ahead
        if pro_rata:
            begin_day = self.period_day
            if self.share_days:
                begin_day += self.days - self.share_days
            # A part of less than a day has the limits of one.
            self.share_days = max(1, self.day - begin_day)

    def follow(self, before, wh, pro_rata):
        """Goes on behind the part `before`, which ended at a register inside the billing period.

        Slabs of one without any tally end with it: so it was before there were tallies."""
        for name in ("period_day", "days", "day", "load_w", "recharged"):
            setattr(self, name, getattr(before, name))
        if not before.first_day:
            return
        if pro_rata:
            self.share_days = max(1, self.period_day + self.days - self.day)
        else:
            self.base_wh = before.base_wh + sum(before.zone_wh) + wh - before.at_wh
            self.share_days = before.share_days

    def run_to(self, import_wh):
        """Counts the energy up to a register."""
        self.zone_wh[self.zone] += import_wh - self.at_wh
        self.at_wh = import_wh

    def _days_ahead(self):
        """Days from the first one to the end of the billing period."""
        return self.period_day + self.days - self.first_day

    def _collect_ahead(self, tariff, collect):
        for i, line in enumerate(tariff.fixed):
            if line[3] == collect:
                rate_mp = charges.fixed_rate_mp(tariff, i, self.load_w)
                self.fixed[i] += rate_mp * max(0, self._days_ahead())

    def _collect_daily(self, tariff, days, supply_min):
        full_min = tariff.full_supply_min
        counted_min = full_min * (supply_min // DAY_MIN) + min(supply_min % DAY_MIN, full_min)
        for i, line in enumerate(tariff.fixed):
            if line[3] == "daily":
                rate_mp = charges.fixed_rate_mp(tariff, i, self.load_w)
                self.fixed[i] += rate_mp * (min(counted_min, days * full_min) if line[4] else days)
