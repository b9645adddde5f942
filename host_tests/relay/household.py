"""One household on the rules of the relay alone, and a judge that knows none of them.

The household does what a meter does about its contact, in steps as long as nothing can happen in
them. The judge is told what was written and how time has passed, and says anew, with `datetime` and
counters of its own, when a cut is right.
"""

import datetime
from collections import Counter

from firmware.core import events
from firmware.relay import arbitration as a
from firmware.relay import limiter as limits
from firmware.relay.calendar import Calendar
from firmware.relay.credit_rule import CUT, DUE, GRACE, IN_CREDIT, CreditRule
from firmware.relay.limiter import Limiter
from host_tests.fakes.relay import allowed

HOUR_S = 3600
DAY_S = 86400
START_S = 60  # of a boot, in which nothing is cut
SWITCH_S = 7 * DAY_S
PRICE_MP_PER_WH = 665
RUPEE_MP = 100000
STEP_S = 10  # while the load is above its limit
NEVER_S = 1 << 40


class Wrong(AssertionError):
    """A rule of the judge is broken."""


class Judge:
    """What may happen, said once more. `facts`: how often what happened; `least`: least seconds."""

    def __init__(self, house):
        self.house = house
        self.facts = Counter()
        self.least = {}
        self._in_credit()

    def _in_credit(self):
        self.told = {}  # code to the second at which it was told in this want of credit
        self.partials = 0
        self.unheard = False  # the server was silent, as was told, since a grace began
        self.graces = set()  # given for that: at the cap (True), at the end (False)
        self._grace(0)

    def _grace(self, grace_s):
        """A full grace begins."""
        self.grace_s = grace_s
        self.unheard |= self.house.silent
        self.counted_s = self.undated_s = 0
        self.told.pop(events.GRACE_OVER, None)

    def require(self, holds, what):
        if not holds:
            raise Wrong(f"{what} at {self.house.local()}: {self.told} {self.house.rule.state()}")

    def note_least(self, name, seconds):
        self.least[name] = min(seconds, self.least.get(name, seconds))

    def passed(self, seconds, supplied):
        """Time has passed in the present circumstances."""
        house = self.house
        counts = supplied or house.config.grace_counts_outage
        if house.time_known:
            self.counted_s += seconds if counts else 0
        elif supplied:
            self.undated_s += seconds
            if events.UNDATED_CUT in self.told:
                self.counted_s += seconds

    def event(self, code, detail):
        house = self.house
        self.facts[code] += 1
        if code in (events.IN_CREDIT, events.CREDIT_EXHAUSTED):
            self._in_credit()
        if code == events.IN_CREDIT:
            return
        if code == events.CREDIT_EXHAUSTED:
            self._grace(house.config.grace_s)
            self.require(detail == self.grace_s, "another grace")
        elif code == events.OFFLINE_GRACE:
            self.require(house.silent not in self.graces, "a second grace behind a silence")
            self.require(self.unheard, "a grace behind no silence")
            small = house.debt_mp() < house.config.offline_debt_cap_mp
            self.require(not (house.silent and small), "below the cap while the server is down")
            self.graces.add(house.silent)
            self.unheard = False
            self._grace(house.config.grace_s)
        elif code == events.UNDATED_CUT:
            self.counted_s += self.undated_s
        elif code == events.LINK_SILENT:
            self.unheard |= house.rule.word in (GRACE, DUE)
        elif code == events.GRACE_OVER:
            self.require(self.counted_s >= self.grace_s, "a grace that is not full")
        self.told[code] = house.now_s

    def cut(self, holds):
        """The household is cut for want of credit, while some circumstances are so."""
        house, told = self.house, self.told
        self.facts["cuts"] += 1
        self.require(house.available_mp() <= house.config.floor_mp, "cut in credit")
        self.require(not house.postpaid, "cut in mode credit")
        self.require(house.config.cut_mode, "cut though it shall only warn")
        self.require(house.up_s >= START_S, "cut at the start")
        self.require(not house.faulty, "cut on a sensor fault")
        self.require(house.no_cut_before_s <= house.now_s, "cut behind a switch")
        self.require(events.CREDIT_EXHAUSTED in told, "cut without the warning of zero")
        self.require(events.GRACE_OVER in told, "cut without the last warning")
        self.require(self.counted_s >= self.grace_s, "cut in grace")
        if house.silent:
            small = house.debt_mp() < house.config.offline_debt_cap_mp
            self.require(not small, "below the cap while the server is down")
        if self.unheard:
            self.require(house.silent in self.graces, "cut without the grace behind a silence")
        self.unheard = False
        undated = not house.time_known
        if undated:
            self.facts["cuts at unknown time"] += 1
            self.require(events.UNDATED_CUT in told, "cut at unknown time without its warning")
            self.require(house.now_s - told[events.UNDATED_CUT] >= HOUR_S, "less than an hour")
            self.require(house.debt_mp() > house.config.undated_debt_cap_mp, "a small debt")
        else:
            self.require(allowed(house.document, house.local()), "cut outside a window")
            days = house.config.warned_days
            warned_s = told[events.CREDIT_EXHAUSTED]
            self.require(house.now_s - warned_s >= days * DAY_S, "a warning too recent")
        self.require(not holds & ~(a.UNDATED | a.OUTSIDE | a.WARNED | a.SERVER_DOWN), "held")
        self.note_least("zero to cut", house.now_s - told[events.CREDIT_EXHAUSTED])
        self.note_least("supplied grace", self.counted_s)

    def restored(self, reason):
        house = self.house
        self.facts["restorations"] += 1
        if reason == "partial":
            self.facts["by a share"] += 1
            self.require(house.config.restore_percent, "restored by a share that none set")
            self.require(not self.partials, "a second share restored")
            cap_mp = house.config.debt_cap_mp
            self.require(not cap_mp or house.debt_mp() <= cap_mp, "a share above the cap of debt")
            self.partials = 1
            self._grace(house.config.grace_s)
        else:
            self.require(house.has_credit(), "restored without credit")
            self._in_credit()

    def steady(self):
        """Nothing is left to be done in this second."""
        house = self.house
        if house.has_credit():
            self.require(not house.standing & a.CREDIT, "cut though there is credit")
            self.require(house.rule.word == IN_CREDIT, "no credit state")
        others = house.standing & ~a.CREDIT
        as_wanted = (house.contact == 1) == (not house.standing)
        self.require(as_wanted, "the contact is not what the causes say")
        self.require(others == house.causes(), "a cause was forgotten")


class House:
    """config: as fakes.relay.rule_config; document: a calendar or None; has_rtc: the time is known
    behind each start; now_s: UTC seconds of the world, also when the meter does not know them."""

    def __init__(self, config, document, balance_mp, now_s, has_rtc=True, postpaid=False):
        self.config = config
        self.calendar = Calendar(config)
        self.take_calendar(document)
        self.rule = CreditRule(config)
        self.limiter = Limiter(config, limits.POWER)
        self.credits_mp = balance_mp
        self.used_ws = 0
        self.now_s = now_s
        self.has_rtc = has_rtc
        self.time_known = True
        self.up_s = START_S
        self.supplied_s = 0
        self.heard_s = now_s
        self.silent = False  # the server, as was told
        self.server_up = True
        self.ordered = self.tampered = self.limited = self.faulty = False
        self.postpaid = postpaid
        self.no_cut_before_s = 0
        self.standing = 0
        self.contact = 1
        self.operated_s = 0
        self.warned_s = 0  # of the last warning; NEVER_S: before the time was known
        self.told_low = False
        self.log = []
        self.judge = Judge(self)
        self.settle()

    def take_calendar(self, document):
        """A calendar, or None for the window of the settings."""
        self.calendar.take(document)
        config = self.config
        self.document = document or {
            "windows": [[config.window_days, config.window_start_min, config.window_end_min]],
            "happy": [],
            "holidays": [],
            "second_saturdays": 0,
        }

    # --- what it is ---------------------------------------------------------------------------

    def utc_s(self):
        return self.now_s if self.time_known else None

    def local(self):
        return datetime.datetime.fromtimestamp(self.now_s, datetime.UTC).replace(
            tzinfo=None
        ) + datetime.timedelta(seconds=self.config.utc_offset_s)

    def available_mp(self):
        return self.credits_mp - self.used_ws * PRICE_MP_PER_WH // HOUR_S

    def has_credit(self):
        return self.postpaid or self.available_mp() > self.config.floor_mp

    def debt_mp(self):
        return max(0, self.config.floor_mp - self.available_mp())

    def owed_mp(self):
        return max(0, -self.available_mp())

    def is_silent(self):
        return self.now_s - self.heard_s >= self.config.link_silence_h * HOUR_S

    def limit_w(self):
        """The load above which it is cut, 0 for none."""
        return self.config.limit_w if self.config.limit_mode == 2 else 0

    def causes(self):
        """Those besides credit."""
        return (
            (a.ORDER if self.ordered else 0)
            | (a.TAMPER if self.tampered else 0)
            | (a.LIMITER if self.limited else 0)
        )

    def holds(self):
        config = self.config
        days_s = config.warned_days * DAY_S
        return (
            (0 if self.time_known else a.UNDATED)
            | (a.SENSOR_FAULT if self.faulty else 0)
            | (a.STARTING if self.up_s < START_S else 0)
            | (a.SERVER_DOWN if self.silent else 0)
            | (a.SWITCHED if self.now_s < self.no_cut_before_s else 0)
            | (a.CREDIT_MODE if self.postpaid else 0)
            | (a.WARNED if days_s and self.now_s < self.warned_s + days_s else 0)
            | (0 if self.calendar.is_open(self.utc_s()) else a.OUTSIDE)
            | (a.INTERVAL if self.now_s < self.operated_s + config.operation_min_s else 0)
        )

    # --- what happens to it --------------------------------------------------------------------

    def live(self, seconds, power_w):
        """Time passes with power; the household wants `power_w` all the while."""
        while seconds > 0:
            span_s = min(seconds, self._span_s(power_w))
            if self.contact:
                self.used_ws += power_w * span_s
            supplied = self.contact == 1
            self.now_s += span_s
            self.up_s += span_s
            seconds -= span_s
            if self.server_up:
                self.heard_s = self.now_s
            self.rule.run(self.utc_s(), span_s * 1000, supplied)
            self.judge.passed(span_s, supplied)
            self._limit(power_w, span_s)
            self._low()
            if self.standing or self.rule.word != IN_CREDIT or not self.has_credit():
                self.settle()

    def _span_s(self, power_w):
        """Seconds in which nothing can happen, at least 1."""
        ends = [HOUR_S]
        rule, config = self.rule, self.config
        drawn_w = power_w if self.contact else 0
        if self.limiter.stands or 0 < self.limit_w() < power_w:
            ends.append(STEP_S)
        if self.up_s < START_S:
            ends.append(START_S - self.up_s)
        if rule.word == IN_CREDIT:
            if drawn_w > 0 and not self.postpaid:
                left_mp = self.available_mp() - config.floor_mp
                ends.append(-(-left_mp * HOUR_S // (drawn_w * PRICE_MP_PER_WH)))
        elif rule.word in (GRACE, DUE) and not self.time_known:
            ends.append(config.undated_limit_h * HOUR_S + 1 - rule.undated_s)
        if rule.word == GRACE:
            ends.append(rule.grace_left_s)
        elif rule.word == DUE:
            if self.time_known:
                opens_s = self.calendar.next_open_utc_s(self.now_s)
                ends.append(60 if opens_s == self.now_s else opens_s - self.now_s)
            ends.append(self.no_cut_before_s - self.now_s)
        return min([end for end in ends if end > 0])

    def _limit(self, power_w, span_s):
        self.supplied_s += span_s
        limit_w = self.limit_w()
        if not limit_w:
            return
        drawn_w = power_w if self.contact else 0
        may_trip = drawn_w > limit_w and a.may_begin(a.LIMITER, self.holds())
        step = self.limiter.judge(drawn_w, span_s * 1000, may_trip)
        if step is None:
            return
        if step == limits.TRIP:
            self.limiter.apply(True, self.supplied_s)
            self.limited = True
            self.judge.facts["limiter trips"] += 1
        elif step == limits.RECLOSE:
            self.limiter.apply(False, self.supplied_s)
            self.limited = False
        elif step == limits.LOCK:
            self.limiter.apply(True, self.supplied_s, True)
            self.judge.facts["lock-outs"] += 1
        self.settle()

    def _low(self):
        """The warning of low credit, once for each recovery."""
        low = not self.postpaid and self.available_mp() <= self.config.low_credit_mp
        if low and not self.told_low:
            self.event(events.LOW_CREDIT, 0)
        self.told_low = low

    def power_off(self, seconds):
        """The power fails and comes again; the meter restarts from what it has stored."""
        self.now_s += seconds
        before = self.contact
        self.rule, state = CreditRule(self.config), self.rule.state()
        self.rule.restore(state)
        self.limiter, state = Limiter(self.config, limits.POWER), self.limiter.state()
        self.limiter.restore(state)
        self.up_s = 0
        self.time_known = self.has_rtc
        if self.time_known:
            self.rule.run(self.now_s, seconds * 1000, False)
            self.judge.passed(seconds, False)
        self.judge.facts["restarts"] += 1
        self.settle()
        self.judge.require(self.contact == before, "a restart moved the contact")

    def step_clock(self, seconds):
        """The clock of meter and world steps: no time has passed, but it is called otherwise."""
        self.now_s += seconds
        self.heard_s += seconds
        self.operated_s += seconds
        self.settle()

    def time_comes(self):
        self.time_known = True
        if self.warned_s == NEVER_S:
            self.warned_s = self.now_s
        self.settle()

    def server(self, up):
        """The link to the server is lost, or found again."""
        if up and self.silent:
            self.silent = False
            self.event(events.LINK_HEARD, self.now_s - self.heard_s)
        self.server_up = up
        if up:
            self.heard_s = self.now_s
        self.settle()

    def recharge(self, amount_mp):
        self.credits_mp += amount_mp
        self.rule.apply_recharge(amount_mp)
        self.judge.facts["recharges"] += 1
        self.settle()

    def order(self, off):
        self.ordered = off
        self.settle()

    def tamper(self, cut):
        self.tampered = cut
        self.settle()

    def mode(self, postpaid):
        if postpaid == self.postpaid:
            return
        self.postpaid = postpaid
        if not postpaid:
            # What is due becomes arrears, and the opening credit is at least 0.
            self.credits_mp += max(0, -self.available_mp())
            self.no_cut_before_s = self.now_s + SWITCH_S
        else:
            self.rule.begin_anew()
        self.settle()

    # --- what it does --------------------------------------------------------------------------

    def event(self, code, detail):
        self.log.append((self.now_s, code, detail))
        self.rule.apply_event(code, detail)
        self.judge.event(code, detail)
        if code in (events.LOW_CREDIT, events.CREDIT_EXHAUSTED):
            self.warned_s = self.now_s if self.time_known else NEVER_S

    def settle(self):
        """Does what the rules want now."""
        rule = self.rule
        if not self.silent and self.is_silent():
            self.silent = True
            self.event(events.LINK_SILENT, self.heard_s)
        if rule.word != IN_CREDIT or not self.has_credit():
            while True:
                holds = self.holds()
                step = rule.next(self.has_credit(), self.debt_mp(), holds)
                if step is None:
                    break
                action, value = step
                if action == "event":
                    self.event(value[0], value[1] or 0)
                elif action == "cut":
                    self.judge.cut(holds)
                    rule.apply_control("credit", self.causes() | a.CREDIT, self.owed_mp())
                    self.log.append((self.now_s, "cut", self.debt_mp()))
                else:
                    rule.apply_control(value, self.causes(), self.owed_mp())
                    self.judge.restored(value)
                    self.log.append((self.now_s, "restored", value))
        self.standing = self.causes() | (a.CREDIT if rule.word == CUT else 0)
        contact = a.decide(self.standing)[1]
        if contact != self.contact:
            self.contact = contact
            self.operated_s = self.now_s
        self.judge.steady()
