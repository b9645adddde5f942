"""The rules of the relay under anything that can happen, against the judge of host_tests/relay.

It judges each cut, each grace and each restoration, and after each step that no cause is forgotten
and that credit has closed the contact.
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from firmware.core import events
from firmware.relay import arbitration as a
from firmware.relay.credit_rule import IN_CREDIT
from host_tests.fakes.relay import rule_config
from host_tests.relay.household import DAY_S, HOUR_S, RUPEE_MP, House

BEGIN_UTC_S = 1769884200  # 2026-02-01 00:00 in India, a Sunday
DOCUMENT = {
    "v": 1,
    "id": "any",
    "windows": [[63, 600, 780], [32, 900, 1000]],
    "happy": [[4, 660, 700]],
    "holidays": ["2026-02-03", "2026-02-04", "2026-02-09"],
    "second_saturdays": 1,
}


class RelayMachine(RuleBasedStateMachine):
    @initialize(
        opening=st.integers(-400, 40),
        has_rtc=st.booleans(),
        limited=st.booleans(),
        changes=st.fixed_dictionaries(
            {
                "grace_s": st.sampled_from([0, 3600, DAY_S, 10 * DAY_S]),
                "restore_percent": st.sampled_from([0, 1, 50, 100]),
                "debt_cap_mp": st.sampled_from([0, 100 * RUPEE_MP]),
                "floor_mp": st.sampled_from([0, -300 * RUPEE_MP]),
                "warned_days": st.sampled_from([0, 0, 2]),
                "grace_counts_outage": st.integers(0, 1),
                "cut_mode": st.sampled_from([1, 1, 1, 0]),
                "undated_limit_h": st.sampled_from([0, 5, 72]),
            }
        ),
    )
    def begin(self, opening, has_rtc, limited, changes):
        if limited:
            changes.update(limit_mode=2, limit_w=1000)
        config = rule_config(**changes)
        self.house = House(config, None, opening * RUPEE_MP, BEGIN_UTC_S, has_rtc)

    @rule(hours=st.integers(1, 72), power_w=st.sampled_from([0, 60, 900, -700]))
    def consume(self, hours, power_w):
        self.house.live(hours * HOUR_S, power_w)

    @rule(seconds=st.integers(1, 900), power_w=st.sampled_from([60, 4000]))
    def consume_for_moments(self, seconds, power_w):
        self.house.live(seconds, power_w)

    @rule(rupees=st.integers(1, 500))
    def recharge(self, rupees):
        self.house.recharge(rupees * RUPEE_MP)

    @precondition(lambda self: self.house.debt_mp() > 100)
    @rule(percent=st.integers(1, 100))
    def recharge_a_share(self, percent):
        self.house.recharge(self.house.debt_mp() * percent // 100)

    @precondition(lambda self: self.house.standing & a.CREDIT)
    @rule()
    def recharge_enough(self):
        self.house.recharge(self.house.debt_mp() + 1)
        assert self.house.contact == (not self.house.causes())

    @rule(seconds=st.sampled_from([1, 600, HOUR_S, 9 * HOUR_S, 4 * DAY_S]))
    def cut_the_power(self, seconds):
        self.house.power_off(seconds)

    @precondition(lambda self: not self.house.time_known)
    @rule()
    def the_time_comes(self):
        self.house.time_comes()

    @rule(seconds=st.integers(-20 * HOUR_S, 20 * HOUR_S))
    def a_clock_step(self, seconds):
        self.house.step_clock(seconds)

    @rule(up=st.booleans())
    def server(self, up):
        self.house.server(up)

    @rule(off=st.booleans())
    def order(self, off):
        self.house.order(off)

    @rule(cut=st.booleans())
    def tamper(self, cut):
        self.house.tamper(cut)

    @rule(faulty=st.booleans())
    def sensor(self, faulty):
        self.house.faulty = faulty
        self.house.settle()

    @rule(postpaid=st.booleans())
    def mode(self, postpaid):
        self.house.mode(postpaid)

    @rule(with_holidays=st.booleans())
    def calendar(self, with_holidays):
        self.house.take_calendar(DOCUMENT if with_holidays else None)
        self.house.settle()

    @rule(
        name=st.sampled_from(["restore_percent", "cut_mode", "warned_days", "debt_cap_mp"]),
        value=st.integers(0, 1),
    )
    def change_a_setting(self, name, value):
        setattr(self.house.config, name, value)
        self.house.settle()

    @invariant()
    def each_cut_has_its_warnings_before_it(self):
        happened = [what for _second, what, _detail in self.house.log]
        if "cut" in happened:
            last = len(happened) - happened[::-1].index("cut")
            before = happened[: last - 1]
            assert events.GRACE_OVER in before
            since = before[::-1].index(events.GRACE_OVER)
            assert not {"cut", "restored", events.IN_CREDIT} & set(before[len(before) - since :])

    @invariant()
    def what_the_causes_say_is_so(self):
        house = self.house
        house.judge.steady()
        state, contact, reason = a.decide(house.standing)
        assert (contact == 1) == (state == "connected") == (reason == "")
        if house.ordered:
            assert (state, reason) == ("disconnected", "order")
        if house.has_credit():
            assert house.rule.word == IN_CREDIT


RelayMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestRelayMachine = RelayMachine.TestCase
