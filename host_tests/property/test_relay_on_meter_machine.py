"""The relay of a whole meter under anything that can happen, against the judge of host_tests/relay.

The judge reads the meter's records, minute by minute. What it needs besides is known here: the
payments, the price, the clock of the world, and what the gateway and the utility have done.
"""

import datetime

import pytest
from hypothesis import settings, stateful
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition

from firmware.core import events
from firmware.relay import arbitration as a
from host_tests.fakes.bench import HOUR_S, Contact
from host_tests.fakes.documents import tariff_document
from host_tests.fakes.failing import FailingWrites, PowerCut
from host_tests.fakes.relay import allowed
from host_tests.property.bench_machine import SETTINGS, BenchMachine
from host_tests.relay.household import (
    DAY_S,
    NEVER_S,
    PRICE_MP_PER_WH,
    RUPEE_MP,
    START_S,
    SWITCH_S,
    Judge,
)

# A power failure leaves files open.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

BEGIN_UTC_S = 1769884200  # 2026-02-01 00:00 in India, a Sunday
MINUTE_S = 60
LIMIT_W = 1000
TRIP_MA = 12000  # 2,880 W
LOOKS_S = 3  # a contact that does not follow is operated that long after a boot
CHECKPOINT_S = 16 * MINUTE_S
NO_DOCUMENT = {"windows": [[63, 600, 780]], "happy": [], "holidays": [], "second_saturdays": 0}
DOCUMENT = {
    "v": 1,
    "id": "any",
    "windows": [[63, 600, 780], [32, 900, 1000]],
    "happy": [[4, 660, 700]],
    "holidays": ["2026-02-03", "2026-02-04", "2026-02-09"],
    "second_saturdays": 1,
}


class RelayOnMeterMachine(BenchMachine):
    """Is what the Judge calls the house."""

    @initialize(
        # A latching relay, an auxiliary contact.
        board=st.sampled_from([(True, True), (True, True), (True, False), (False, False)]),
        hour=st.integers(0, 23),
        opening=st.integers(-320, 10),
        limit_mode=st.sampled_from([2, 0]),
        tamper_cut=st.sampled_from([1, 1, 0]),
        commissioning=st.sampled_from([0, 0, 0, 0, 0, 1]),
        changes=st.fixed_dictionaries(
            {
                "grace_s": st.sampled_from([0, HOUR_S, 6 * HOUR_S, DAY_S]),
                "restore_percent": st.sampled_from([0, 50]),
                "debt_cap_mp": st.sampled_from([0, 100 * RUPEE_MP]),
                "floor_mp": st.sampled_from([0, -300 * RUPEE_MP]),
                "undated_limit_h": st.sampled_from([0, 5]),
                "undated_debt_cap_mp": st.sampled_from([0, 20 * RUPEE_MP]),
                "link_silence_h": st.sampled_from([1, 24]),
                "offline_debt_cap_mp": st.sampled_from([0, 30 * RUPEE_MP]),
                "cut_mode": st.sampled_from([1, 1, 1, 0]),
            }
        ),
    )
    def begin(self, board, hour, opening, limit_mode, tamper_cut, commissioning, changes):
        self.writes = FailingWrites()
        self.sync = self.writes.fsync
        rules = {"window_start_min": 600, "window_end_min": 780, **changes}
        self.make_bench(
            BEGIN_UTC_S + hour * HOUR_S,
            contact=Contact(*board),
            opening_balance_mp=opening * RUPEE_MP,
            sample_period_ms=MINUTE_S * 1000,
            rules=rules,
            limit_mode=limit_mode,
            limit_w=LIMIT_W,
            tamper_cut=tamper_cut,
            commissioning=commissioning,
        )
        self.writes.watch(self.bench.nvs)
        self.credits_mp = opening * RUPEE_MP  # less what was used up to `price_wh`
        self.price_mp_per_wh = PRICE_MP_PER_WH
        self.price_wh = 0  # where the price began
        self.version = 1
        self.commissioned = not commissioning
        self.counter = 0
        self.ordered = self.postpaid = self.faulty = self.silent = self.closed = False
        self.emergency_mp = 0
        self.tampered = False
        self.tamper_s = None  # since when a cut for tamper is due
        self.time_known = True
        self.boot_s = self.heard_s = self.heard_dated_s = self.latest_s = self.now_s
        self.moved_s = self.free_s = 0  # the contact; no cause stands since
        self.operations = 0
        self.undone = False  # a power failure has left an operation of the contact undone
        self.no_cut_before_s = 0
        self.document = NO_DOCUMENT
        # By the cause: above the limit without a break, when it tripped.
        self.over_s = {a.LIMITER: 0, a.OVER_CURRENT: 0}
        self.tripped_s = {a.LIMITER: 0, a.OVER_CURRENT: 0}
        self.limited_s = 0  # since when the current is limited
        self.stood = 0  # the causes, as was read
        self.last_seq = 0
        self.jumped_s = 0  # a step of the clock that a boot may take for time without power
        self.judge = Judge(self)
        self.read()

    # --- the house, as the judge sees it --------------------------------------------------------

    @property
    def config(self):
        return self.bench.config

    @property
    def rule(self):
        return self.bench.meter.control.rule

    @property
    def standing(self):
        return self.bench.meter.control.standing

    @property
    def contact(self):
        return self.bench.contact.closed

    @property
    def now_s(self):
        return self.bench.utc_s

    @property
    def up_s(self):
        return self.now_s - self.boot_s

    def local(self):
        return self.local_of(self.now_s)

    def local_of(self, utc_s):
        return datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=utc_s + 19800)

    def available_mp(self):
        return self.available_at_mp(self.bench.meter.energy.import_wh)

    def available_at_mp(self, wh):
        return self.balance_at_mp(wh) + self.emergency_mp

    def balance_at_mp(self, wh):
        return self.credits_mp - (wh - self.price_wh) * self.price_mp_per_wh

    def has_credit(self):
        if self.closed:
            return not self.standing & a.CREDIT  # as it was at the closing
        floor_mp = self.config.floor_mp
        return self.postpaid or not self.commissioned or self.available_mp() > floor_mp

    def debt_mp(self):
        return max(0, self.config.floor_mp - self.available_mp())

    def causes(self):
        return (
            (a.ORDER if self.ordered else 0)
            | (a.TAMPER if self.tampered else 0)
            | self.standing & (a.OVER_CURRENT | a.LIMITER)
        )

    def cut_is_wrong(self):
        """Nothing may be opened for want of credit now."""
        told, debt_mp = self.judge.told, self.debt_mp()
        undated = events.UNDATED_CUT in told and debt_mp > self.config.undated_debt_cap_mp
        return (
            self.up_s < START_S
            or self.faulty
            or self.closed
            or not self.config.cut_mode
            or (self.no_cut_before_s > self.now_s and not undated)
            or (self.silent and debt_mp < self.config.offline_debt_cap_mp)
            or not (allowed(self.document, self.local()) if self.time_known else undated)
        )

    # --- what happens to it ----------------------------------------------------------------------

    def read(self):
        """Hands the judge what was written since it read last."""
        journal = self.bench.meter.journal
        if journal.last_seq == self.last_seq:
            return
        for record in journal.records_after(self.last_seq, 1000):
            self.last_seq = record["seq"]
            if record["type"] == "event":
                self.read_event(record["code"], record["detail"])
            elif record["type"] == "control":
                self.read_control(record["reason"], record["standing"])
            elif record["type"] == "mode":
                self.read_mode(record)

    def read_event(self, code, detail):
        if code == events.LINK_SILENT:
            # When it was heard before a boot is known as of the last checkpoint with a time.
            silent_s = self.now_s - min(self.heard_s, self.heard_dated_s) + self.jumped_s
            assert silent_s >= self.config.link_silence_h * HOUR_S - CHECKPOINT_S
            self.silent = True
        elif code == events.LINK_HEARD:
            self.silent = False
        elif code == events.COMMISSIONED:
            self.tamper_s = None
        elif code == events.COVER_OPEN and self.config.tamper_cut:
            self.tamper_s = None if self.tampered else self.now_s
        self.judge.event(code, detail)

    def read_mode(self, record):
        self.postpaid = record["mode"] == "credit"
        self.emergency_mp = 0 if self.postpaid else self.emergency_mp
        self.no_cut_before_s = 0
        if not self.postpaid:
            # What is due becomes arrears.
            self.credits_mp += max(0, -self.balance_at_mp(record["import_wh"]))
            # While the time is unknown the days have not begun.
            self.no_cut_before_s = self.now_s + SWITCH_S if self.time_known else NEVER_S

    def read_control(self, reason, standing):
        begun, ended = standing & ~self.stood, self.stood & ~standing
        self.stood = standing
        if reason == "order" and not standing & a.ORDER:
            self.tampered, self.tamper_s = False, None
        elif reason == "tamper":
            assert self.tamper_s is not None
            self.tampered, self.tamper_s = True, None
            assert self.closed or not ended & a.CREDIT
        if reason != "undone":  # a start writes that, and an order is repeated only behind it
            assert standing & (a.ORDER | a.TAMPER) == self.causes() & (a.ORDER | a.TAMPER)
        if reason in ("tamper", "limiter", "over_current"):
            assert self.up_s >= START_S and self.commissioned and not self.faulty
        if reason == "limiter":
            assert self.config.limit_mode == 2
            assert begun == a.LIMITER and self.over_s[begun] >= self.config.limit_over_s
            self.tripped_s[begun] = self.now_s
        elif reason == "over_current":
            assert self.config.trip_current_ma
            assert begun == a.OVER_CURRENT and self.over_s[begun] >= self.config.trip_over_s
            self.tripped_s[begun] = self.now_s
        elif reason == "ended":
            lasted_s = self.now_s - self.tripped_s[ended]
            off = ended == a.OVER_CURRENT and not self.config.trip_current_ma
            assert off or lasted_s >= self.config.limit_reclose_s
        elif reason == "credit":
            assert self.commissioned
            self.judge.cut(0)
        elif reason in ("recharge", "partial", "mode"):
            self.judge.restored(reason)
        elif reason == "account":
            assert ended == a.CREDIT and not self.closed
        elif reason == "undone":
            self.judge.unheard |= self.silent

    def pass_time(self, seconds, power_w):
        """One step of time."""
        supplied = self.standing == 0
        closed = self.contact
        failed = False
        try:
            self.bench.run(seconds, power_w, step_s=seconds)
        except PowerCut:
            failed = True
        if self.bench.gateway_answers:
            self.heard_s = self.now_s
            self.jumped_s = 0
            if self.time_known:
                self.heard_dated_s = self.now_s
        self.latest_s = max(self.latest_s, self.now_s)
        for cause, limit_w in ((a.LIMITER, LIMIT_W), (a.OVER_CURRENT, TRIP_MA * 240 // 1000)):
            over = closed and power_w > limit_w
            self.over_s[cause] = self.over_s[cause] + seconds if over else 0
        self.judge.passed(seconds, supplied)
        if not self.time_known and self.judge.undated_s >= SWITCH_S:
            self.no_cut_before_s = 0  # days enough, though nobody knows which
        if failed:
            self.judge_opening(closed)
            closed = self.contact
            self.restart(0, self.time_known)
        self.read()
        self.judge_contact(closed)
        if failed:
            self.look()

    def judge_opening(self, was_closed):
        if was_closed and not self.contact and self.standing == a.CREDIT:
            assert not self.cut_is_wrong()

    def judge_contact(self, was_closed):
        """The contact, not what the records say of it."""
        now_s, operations = self.now_s, self.bench.contact.operations
        if operations != self.operations:
            self.operations, self.moved_s = operations, now_s
            self.undone = False
            self.judge_opening(was_closed)
        if self.has_credit() and self.up_s:
            assert not self.standing & a.CREDIT
        if self.standing:
            self.free_s = None
        elif self.free_s is None:
            self.free_s = now_s
        if not self.standing and not self.contact:
            may_move_s = self.moved_s + self.config.operation_min_s
            assert now_s <= max(self.free_s + 1, may_move_s, self.boot_s + LOOKS_S)
        for cause, begun_s in self.tripped_s.items():
            if self.standing & cause:
                lasts_s = max(self.config.limit_reclose_s, self.config.limit_lockout_s)
                assert now_s - max(begun_s, self.boot_s) <= lasts_s + 2 * MINUTE_S
        if self.commissioned and self.up_s > START_S + MINUTE_S:
            assert self.tamper_s is None or now_s - self.tamper_s <= MINUTE_S
            if self.config.trip_current_ma:
                over_s = min(self.over_s[a.OVER_CURRENT], now_s - self.limited_s)
                assert over_s <= self.config.trip_over_s + 2 * MINUTE_S

    def look(self):
        """A contact that does not follow is operated by now."""
        for _ in range(LOOKS_S):
            self.pass_time(1, 0)

    def restart(self, off_s, time_known):
        """A power failure and a new boot, or two if the power fails in the boot."""
        contact, operations = self.contact, self.bench.contact.operations
        try:
            self.bench.restart(off_s, time_known)
        except PowerCut:
            self.bench.restart(0, time_known)
        if self.bench.contact.latching:
            assert (self.contact, self.bench.contact.operations) == (contact, operations)
        self.operations = self.bench.contact.operations
        self.read()  # what was written before belongs to the circumstances before
        self.boot_s = self.now_s
        self.time_known = time_known
        self.over_s = dict.fromkeys(self.over_s, 0)
        self.undone = self.contact != (not self.standing)
        self.begin_days()
        self.judge.passed(off_s, False)

    def pass_minutes(self, minutes, power_w):
        for _ in range(minutes):
            self.pass_time(MINUTE_S, power_w)

    def order(self, kind, **members):
        """Sends it until it is answered, and looks at the contact a second later."""
        self.counter += 1
        arguments = (f"{kind}-{self.counter}", self.counter, kind)
        closed = self.contact
        try:
            answer = self.bench.order(*arguments, **members)
        except PowerCut:
            self.judge_opening(closed)
            closed = self.contact
            self.restart(0, self.time_known)
            answer = self.bench.order(*arguments, **members)
        self.read()
        self.judge_contact(closed)
        return answer["result"]

    @stateful.rule(hours=st.sampled_from([26, 9, 3]), power_w=st.sampled_from([900, 60, 4000]))
    def consume(self, hours, power_w):
        self.pass_minutes(hours * 60, power_w)

    @stateful.rule(power_w=st.sampled_from([60, 900]))
    def consume_until_a_cut(self, power_w):
        """Or for two days, with nothing of the gateway's or the utility's in its way."""
        self.bench.gateway_answers = True
        if self.ordered or self.tampered:
            self.ordered = False
            assert self.order("relay", state="connected") == "accepted"
        for _ in range(48 * 60):
            if self.standing & a.CREDIT:
                break
            self.pass_time(MINUTE_S, power_w)

    @stateful.rule(minutes=st.integers(3, 90), power_w=st.sampled_from([4000, 60]))
    def consume_a_while(self, minutes, power_w):
        self.pass_minutes(minutes, power_w)

    def pay(self, amount_mp):
        self.credits_mp += amount_mp
        if self.balance_at_mp(self.bench.meter.energy.import_wh) > 0:
            self.emergency_mp = 0
        assert self.order("recharge", amount_mp=amount_mp) == "accepted"
        self.pass_time(1, 0)

    @stateful.rule(rupees=st.integers(1, 200))
    def recharge(self, rupees):
        self.pay(rupees * RUPEE_MP)

    @precondition(lambda self: self.standing & a.CREDIT)
    @stateful.rule(percent=st.integers(1, 100))
    def recharge_a_share(self, percent):
        self.pay(max(1, self.debt_mp() * percent // 100))

    @precondition(lambda self: self.standing & a.CREDIT)
    @stateful.rule()
    def recharge_enough(self):
        self.pay(self.debt_mp() + 1)
        assert self.standing == self.causes()

    @stateful.rule(off=st.sampled_from([False, False, True]))
    def relay(self, off):
        refused = off and not self.ordered and not self.time_known
        expires = {"expires_utc_s": self.now_s + 60} if off else {}
        self.ordered = off and not refused
        result = self.order("relay", state="disconnected" if off else "connected", **expires)
        assert result == ("time_unknown" if refused else "accepted")

    @precondition(lambda self: not self.commissioned)
    @stateful.rule()
    def commission(self):
        self.commissioned = True
        self.limited_s = self.now_s
        assert self.order("relay", state="commissioned") == "accepted"

    @stateful.rule(postpaid=st.sampled_from([False, False, True]))
    def mode(self, postpaid):
        mode = "credit" if postpaid else "prepayment"
        assert self.order("mode", mode=mode, share_percent=0) == "accepted"
        assert self.postpaid == postpaid
        self.pass_time(1, 0)

    @stateful.rule(rate_mp=st.sampled_from([400, 665, 2000]))
    def tariff(self, rate_mp):
        self.version += 1
        document = tariff_document((None, rate_mp * 1000))
        document["version"] = self.version
        assert self.order("tariff", document=document) == "accepted"
        self.credits_mp = self.balance_at_mp(self.bench.meter.energy.import_wh)
        self.begin_price(rate_mp)

    def begin_price(self, rate_mp):
        """`credits_mp` is the balance now."""
        self.price_mp_per_wh, self.price_wh = rate_mp, self.bench.meter.energy.import_wh
        assert self.bench.meter.balance_mp() == self.credits_mp

    @precondition(lambda self: not self.postpaid)
    @stateful.rule(rupees=st.sampled_from([50, 50, 0]))
    def emergency_credit(self, rupees):
        self.emergency_mp = rupees * RUPEE_MP
        assert self.order("emergency", limit_mp=self.emergency_mp) == "accepted"
        self.pass_time(1, 0)

    @precondition(lambda self: self.commissioned)
    @stateful.rule(
        minutes=st.sampled_from([0, 0, 3, 26 * 60]),
        connect=st.booleans(),
        rupees=st.sampled_from([-20, 0, 60]),
    )
    def another_account(self, minutes, connect, rupees):
        """The account is closed, and a while later the next one opened."""
        standing = self.standing
        self.closed = True
        self.emergency_mp = 0
        assert self.order("account", action="closed", document={}) == "accepted"
        assert standing & ~self.standing == 0
        self.judge._in_credit()
        if connect:
            self.ordered = False
            assert self.order("relay", state="connected") == "accepted"
            assert not self.standing & (a.ORDER | a.TAMPER | a.CREDIT)
        self.pass_minutes(minutes, 60)
        self.closed = False
        self.credits_mp = rupees * RUPEE_MP
        self.price_wh = self.bench.meter.energy.import_wh
        document = {"account": f"A-{self.counter}", "balance_mp": self.credits_mp}
        assert self.order("account", action="opened", document=document) == "accepted"
        self.begin_price(self.price_mp_per_wh)
        self.pass_time(1, 0)
        if self.config.grace_s or rupees > 0:
            assert not self.standing & a.CREDIT

    @stateful.rule(limit_ma=st.sampled_from([TRIP_MA, TRIP_MA, 0]))
    def limit_the_current(self, limit_ma):
        self.limited_s = self.now_s
        assert self.order("settings", document={"trip_current_ma": limit_ma}) == "accepted"
        self.pass_time(1, 0)

    @stateful.rule(
        name=st.sampled_from(["restore_percent", "cut_mode", "debt_cap_mp"]),
        value=st.integers(0, 1),
    )
    def change_a_setting(self, name, value):
        assert self.order("settings", document={name: value}) == "accepted"

    @stateful.rule(with_holidays=st.booleans())
    def calendar(self, with_holidays):
        self.document = DOCUMENT if with_holidays else NO_DOCUMENT
        document = DOCUMENT if with_holidays else None
        assert self.order("calendar", document=document) == "accepted"

    @stateful.rule(answers=st.booleans())
    def gateway(self, answers):
        self.bench.gateway_answers = answers

    @stateful.rule(opened=st.booleans())
    def cover(self, opened):
        self.bench.cover.level = 1 if opened else 0
        self.look()

    @stateful.rule(seconds=st.sampled_from([10, 130]))
    def the_sensor_fails(self, seconds):
        closed = self.contact
        for _ in range(seconds):
            self.faulty = True
            supplied = self.standing == 0
            try:
                self.bench.fail_samples(1)
            except PowerCut:
                self.restart(0, self.time_known)
            self.judge.passed(1, supplied)
            self.read()
            self.judge_contact(closed)
            closed = self.contact
            if self.tamper_s is not None:
                self.tamper_s = self.now_s
        self.faulty = False
        self.look()

    @stateful.rule(off_s=st.sampled_from([1, 600, 9 * HOUR_S, 3 * DAY_S]), time_known=st.booleans())
    def cut_the_power(self, off_s, time_known):
        limited = self.standing & (a.LIMITER | a.OVER_CURRENT)
        self.restart(off_s, time_known)
        undone, operations = self.undone, self.operations
        self.look()
        # Without an auxiliary contact it may be operated once more, where it is already; a limit's
        # delay may have ended without power.
        closed = limited and not self.standing
        assert undone or closed or self.operations == operations or not self.bench.contact.aux

    @stateful.rule(writes=st.integers(1, 12), percent=st.sampled_from([0, 50, 99, 100]))
    def the_power_will_fail(self, writes, percent):
        """Inside a write of what comes next."""
        self.writes.fail(writes, percent)

    @stateful.rule(writes=st.integers(1, 2), percent=st.sampled_from([99, 100]))
    def the_power_will_fail_at_the_contact(self, writes, percent):
        """Between the next record about the contact and what the contact does."""
        journal = self.bench.meter.journal
        append = journal.append

        def append_or_fail(kind, *arguments):
            if kind == "control":
                self.writes.fail(writes, percent)
            append(kind, *arguments)

        journal.append = append_or_fail

    @precondition(lambda self: not self.time_known)
    @stateful.rule()
    def the_time_comes(self):
        self.set_time(self.now_s)
        self.time_known = True
        self.begin_days()
        self.read()

    @precondition(lambda self: self.time_known)
    @stateful.rule(minutes=st.integers(-23 * 60, 23 * 60))
    def the_clock_steps(self, minutes):
        """The clock of meter and world: no time has passed, but it is called otherwise."""
        step_s = minutes * MINUTE_S
        if not self.set_time(self.now_s + step_s):
            # Not back over a month that is closed.
            latest = self.local_of(self.latest_s)
            assert (self.local_of(self.now_s + step_s).month, latest.month) in ((1, 2), (2, 3))
            return
        self.bench.utc_s += step_s
        self.heard_s = self.now_s
        self.heard_dated_s += step_s
        self.jumped_s = max(self.jumped_s, step_s)  # when it heard is on flash by the old clock
        self.boot_s += step_s
        self.moved_s += step_s
        self.limited_s += step_s
        self.free_s = None if self.free_s is None else self.free_s + step_s
        self.tamper_s = None if self.tamper_s is None else self.tamper_s + step_s
        self.tripped_s = {cause: then_s + step_s for cause, then_s in self.tripped_s.items()}
        self.judge.told = {code: then_s + step_s for code, then_s in self.judge.told.items()}
        self.pass_time(1, 0)

    def set_time(self, utc_s):
        """True if the meter takes it; it is an answer of the gateway's, too."""
        self.bench.meter.heard()
        self.heard_s = self.now_s
        try:
            return self.bench.meter.set_time(utc_s * 1000)
        except PowerCut:
            before_s, self.bench.utc_s = self.bench.utc_s, utc_s
            self.jumped_s = max(0, utc_s - before_s)
            self.tripped_s = {
                cause: then_s - self.jumped_s for cause, then_s in self.tripped_s.items()
            }
            self.restart(0, True)
            self.bench.utc_s = before_s
            self.boot_s = before_s
            return True

    def begin_days(self):
        if self.time_known and self.no_cut_before_s == NEVER_S:
            self.no_cut_before_s = self.now_s + SWITCH_S

    @invariant()
    def the_contact_is_what_the_causes_say(self):
        # At once, or as soon as the minimum time between two operations is over.
        for _ in range(self.config.operation_min_s + 1):
            if self.contact == (not self.standing):
                break
            self.pass_time(1, 0)
        self.judge.steady()
        live = self.bench.meter.live()
        assert live["service"] == ""
        assert live["causes"] == a.words(self.standing)
        assert (live["state"], live["contact"], live["reason"]) == a.decide(self.standing)
        if self.ordered:
            assert (live["state"], live["reason"]) == ("disconnected", "order")


RelayOnMeterMachine.TestCase.settings = settings(SETTINGS, max_examples=60)
TestRelayOnMeterMachine = RelayOnMeterMachine.TestCase
