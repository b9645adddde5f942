"""The relay of a whole meter under anything that can happen, against the judge of host_tests/relay.

The judge reads the meter's records, minute by minute. What it needs besides is known here: the
payments, the price, the clock of the world, and what the gateway and the utility have done.
"""

import datetime

from hypothesis import settings, stateful
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition

from firmware.core import events
from firmware.relay import arbitration as a
from host_tests.fakes.bench import HOUR_S
from host_tests.property.bench_machine import SETTINGS, BenchMachine
from host_tests.relay.household import DAY_S, PRICE_MP_PER_WH, RUPEE_MP, SWITCH_S, Judge

BEGIN_UTC_S = 1769884200  # 2026-02-01 00:00 in India, a Sunday
MINUTE_S = 60
LIMIT_W = 1000
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
        hour=st.integers(0, 23),
        opening=st.integers(-320, 10),
        limit_mode=st.sampled_from([2, 0]),
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
    def begin(self, hour, opening, limit_mode, changes):
        rules = {"window_start_min": 600, "window_end_min": 780, **changes}
        self.make_bench(
            BEGIN_UTC_S + hour * HOUR_S,
            opening_balance_mp=opening * RUPEE_MP,
            sample_period_ms=MINUTE_S * 1000,
            rules=rules,
            limit_mode=limit_mode,
            limit_w=LIMIT_W,
        )
        self.credits_mp = opening * RUPEE_MP
        self.counter = 0
        self.ordered = self.postpaid = self.faulty = self.silent = False
        self.time_known = True
        self.boot_s = self.heard_s = self.now_s
        self.no_cut_before_s = 0
        self.document = NO_DOCUMENT
        self.over_s = self.tripped_s = 0  # above the limit without a break, when it tripped
        self.last_seq = 0
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
        return datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=self.now_s + 19800)

    def available_mp(self):
        return self.credits_mp - self.bench.meter.energy.import_wh * PRICE_MP_PER_WH

    def has_credit(self):
        return self.postpaid or self.available_mp() > self.config.floor_mp

    def debt_mp(self):
        return max(0, self.config.floor_mp - self.available_mp())

    def is_silent(self):
        return self.now_s - self.heard_s >= self.config.link_silence_h * HOUR_S

    def causes(self):
        return (a.ORDER if self.ordered else 0) | self.standing & a.LIMITER

    # --- what happens to it ----------------------------------------------------------------------

    def read(self):
        """Hands the judge what was written since it read last."""
        journal = self.bench.meter.journal
        if journal.last_seq == self.last_seq:
            return
        for record in journal.records_after(self.last_seq, 1000):
            self.last_seq = record["seq"]
            if record["type"] == "event":
                if record["code"] == events.LINK_SILENT:
                    assert self.is_silent()
                    self.silent = True
                elif record["code"] == events.LINK_HEARD:
                    self.silent = False
                self.judge.event(record["code"], record["detail"])
            elif record["type"] == "control":
                assert record["standing"] & a.ORDER == self.causes() & a.ORDER
                if record["reason"] == "limiter":
                    assert self.over_s >= self.config.limit_over_s and self.config.limit_mode == 2
                    self.tripped_s = self.now_s
                elif record["reason"] == "ended":
                    assert self.now_s - self.tripped_s >= self.config.limit_reclose_s
                elif record["reason"] == "credit":
                    self.judge.cut(0)
                elif record["reason"] in ("recharge", "partial", "mode"):
                    self.judge.restored(record["reason"])

    def pass_time(self, seconds, power_w):
        """One step of time."""
        supplied = self.standing == 0
        self.bench.run(seconds, power_w, step_s=seconds)
        if self.bench.gateway_answers:
            self.heard_s = self.now_s
        self.over_s = self.over_s + seconds if supplied and power_w > LIMIT_W else 0
        self.judge.passed(seconds, supplied)
        self.read()

    def pass_minutes(self, minutes, power_w):
        for _ in range(minutes):
            self.pass_time(MINUTE_S, power_w)

    def order(self, kind, **members):
        self.counter += 1
        answer = self.bench.order(f"{kind}-{self.counter}", self.counter, kind, **members)
        return answer["result"]

    @stateful.rule(hours=st.sampled_from([26, 9, 3]), power_w=st.sampled_from([900, 60, 4000]))
    def consume(self, hours, power_w):
        self.pass_minutes(hours * 60, power_w)

    @stateful.rule(minutes=st.integers(3, 90), power_w=st.sampled_from([4000, 60]))
    def consume_a_while(self, minutes, power_w):
        self.pass_minutes(minutes, power_w)

    @stateful.rule(rupees=st.integers(1, 200))
    def recharge(self, rupees):
        self.credits_mp += rupees * RUPEE_MP
        assert self.order("recharge", amount_mp=rupees * RUPEE_MP) == "accepted"
        self.read()

    @precondition(lambda self: self.standing & a.CREDIT)
    @stateful.rule(percent=st.integers(1, 100))
    def recharge_a_share(self, percent):
        amount_mp = max(1, self.debt_mp() * percent // 100)
        self.credits_mp += amount_mp
        assert self.order("recharge", amount_mp=amount_mp) == "accepted"
        self.read()

    @precondition(lambda self: self.standing & a.CREDIT)
    @stateful.rule()
    def recharge_enough(self):
        amount_mp = self.debt_mp() + 1
        self.credits_mp += amount_mp
        assert self.order("recharge", amount_mp=amount_mp) == "accepted"
        self.read()
        assert self.standing == self.causes()

    @stateful.rule(off=st.booleans())
    def relay(self, off):
        before = self.ordered
        expires = {"expires_utc_s": self.now_s + 60} if off else {}
        self.ordered = off if off or before else False
        if off and not before and not self.time_known:
            self.ordered = before
        result = self.order("relay", state="disconnected" if off else "connected", **expires)
        refused = off and not before and not self.time_known
        assert result == ("time_unknown" if refused else "accepted")
        self.read()

    @stateful.rule(postpaid=st.booleans())
    def mode(self, postpaid):
        before = self.postpaid
        if before and not postpaid:
            self.credits_mp += max(0, -self.available_mp())
            # While the time is unknown the days have not begun.
            self.no_cut_before_s = self.now_s + SWITCH_S if self.time_known else 1 << 40
        elif postpaid and not before:
            self.no_cut_before_s = 0
        self.postpaid = postpaid
        mode = "credit" if postpaid else "prepayment"
        assert self.order("mode", mode=mode, share_percent=0) == "accepted"
        self.read()

    @stateful.rule(
        name=st.sampled_from(["restore_percent", "cut_mode", "debt_cap_mp"]),
        value=st.integers(0, 1),
    )
    def change_a_setting(self, name, value):
        assert self.order("settings", document={name: value}) == "accepted"
        self.read()

    @stateful.rule(with_holidays=st.booleans())
    def calendar(self, with_holidays):
        self.document = DOCUMENT if with_holidays else NO_DOCUMENT
        document = DOCUMENT if with_holidays else None
        assert self.order("calendar", document=document) == "accepted"
        self.read()

    @stateful.rule(answers=st.booleans())
    def gateway(self, answers):
        self.bench.gateway_answers = answers

    @stateful.rule(seconds=st.sampled_from([10, 130]))
    def the_sensor_fails(self, seconds):
        for _ in range(seconds):
            self.faulty = True
            supplied = self.standing == 0
            self.bench.fail_samples(1)
            self.judge.passed(1, supplied)
            self.read()
        self.faulty = False

    @stateful.rule(off_s=st.sampled_from([1, 600, 9 * HOUR_S, 3 * DAY_S]), time_known=st.booleans())
    def cut_the_power(self, off_s, time_known):
        contact, operations = self.contact, self.bench.contact.operations
        self.bench.restart(off_s, time_known)
        self.boot_s = self.now_s
        self.time_known = time_known
        assert (self.contact, self.bench.contact.operations) == (contact, operations)
        self.begin_days()
        self.judge.passed(off_s, False)
        self.read()

    @precondition(lambda self: not self.time_known)
    @stateful.rule()
    def the_time_comes(self):
        assert self.bench.meter.set_time(self.now_s * 1000)
        self.time_known = True
        self.begin_days()
        self.read()

    def begin_days(self):
        if self.time_known and self.no_cut_before_s == 1 << 40:
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
        assert live["causes"] == a.words(self.standing)
        assert (live["state"], live["contact"], live["reason"]) == a.decide(self.standing)
        if self.ordered:
            assert (live["state"], live["reason"]) == ("disconnected", "order")


RelayOnMeterMachine.TestCase.settings = settings(SETTINGS, max_examples=12)
TestRelayOnMeterMachine = RelayOnMeterMachine.TestCase
