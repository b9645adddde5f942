"""The meter as a state machine against a tiny model: what must hold after every step.

The model knows the payments, the price (flat, so a charge is Wh times price) and nothing else.
"""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from host_tests.fakes.bench import HOUR_S, MIDNIGHT_UTC_S, Bench

PRICE_MP_PER_WH = 665
RUPEE_MP = 100000


class MeterMachine(RuleBasedStateMachine):
    @initialize(hour=st.integers(0, 23), opening=st.integers(-20, 40))
    def begin(self, hour, opening):
        self.folder = tempfile.TemporaryDirectory()
        self.bench = Bench(
            Path(self.folder.name) / "data",
            MIDNIGHT_UTC_S + hour * HOUR_S,
            opening_balance_mp=opening * RUPEE_MP,
            sample_period_ms=60000,
        )
        self.paid_mp = opening * RUPEE_MP
        self.orders = {}
        self.counter = 0
        self.published_wh = 0
        self.time_known = True

    def teardown(self):
        if hasattr(self, "bench"):
            self.bench.meter.journal.close()
            self.folder.cleanup()

    @rule(hours=st.integers(1, 30), power_w=st.sampled_from([0, 60, 900, 5000]))
    def consume(self, hours, power_w):
        contact = self.bench.contact
        for _ in range(hours):
            was_closed = contact.closed
            self.bench.run(HOUR_S, power_w, step_s=60)
            if was_closed and not contact.closed:
                self.judge_cut()

    def judge_cut(self):
        """A cut is inside the window, at known time, and after warning and a full grace."""
        cut = self.bench.records("relay")[-1]
        assert cut["time_valid"]
        minute = (cut["utc_s"] + 19800) % 86400 // 60
        assert 600 <= minute < 780
        assert cut["balance_mp"] <= 0
        begun = self.bench.records("event", 1002)[-1]
        ended = self.bench.records("event", 1004)
        assert not ended or ended[-1]["seq"] < begun["seq"]
        assert cut["seq"] > self.bench.records("event", 1003)[-1]["seq"] > begun["seq"]

    @rule(rupees=st.integers(1, 300))
    def recharge(self, rupees):
        self.counter += 1
        order_id = f"r-{self.counter}"
        answer = self.bench.order(order_id, self.counter, amount_mp=rupees * RUPEE_MP)
        assert answer["result"] == "accepted"
        self.paid_mp += rupees * RUPEE_MP
        self.orders[order_id] = (self.counter, rupees, answer)

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), raised=st.booleans())
    def repeat_an_order(self, data, raised):
        order_id = data.draw(st.sampled_from(sorted(self.orders)))
        counter, rupees, first = self.orders[order_id]
        if raised:
            counter = self.counter + 1
        answer = self.bench.order(order_id, counter, amount_mp=rupees * RUPEE_MP)
        assert (answer["result"], answer["balance_mp"]) == ("accepted", first["balance_mp"])

    @precondition(lambda self: self.counter)
    @rule()
    def send_an_old_counter(self):
        answer = self.bench.order("late", self.counter, amount_mp=RUPEE_MP)
        assert answer["result"] == "old"

    @rule(off_s=st.integers(0, 4 * 86400), time_known=st.booleans())
    def cut_the_power(self, off_s, time_known):
        contact, operations = self.bench.contact.closed, self.bench.contact.operations
        self.bench.restart(off_s, time_known)
        self.time_known = time_known
        assert (self.bench.contact.closed, self.bench.contact.operations) == (contact, operations)

    @precondition(lambda self: not self.time_known)
    @rule()
    def gateway_sets_the_time(self):
        assert self.bench.meter.set_time(self.bench.utc_s * 1000)
        self.time_known = True

    @invariant()
    def the_register_that_was_published_never_goes_back(self):
        live = self.bench.meter.live()
        assert live["import_wh"] >= self.published_wh
        assert live["uncommitted_wh"] >= 0
        self.published_wh = live["import_wh"]

    @invariant()
    def the_balance_is_payments_less_energy_times_price(self):
        meter = self.bench.meter
        assert meter.balance_mp() == self.paid_mp - meter.energy.import_wh * PRICE_MP_PER_WH

    @invariant()
    def money_keeps_the_supply(self):
        if self.bench.meter.balance_mp() > 0:
            assert self.bench.contact.closed


MeterMachine.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestMeterMachine = MeterMachine.TestCase
