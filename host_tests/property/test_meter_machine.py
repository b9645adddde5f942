"""The meter as a state machine against a tiny model: what must hold after every step.

The model knows the payments, the price (flat, so a charge is Wh times price), what is owed as
arrears, the emergency credit, whether the utility has disconnected, the settings, and the keys.
"""

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from firmware.core import sealing
from host_tests.fakes.bench import HOUR_S, MIDNIGHT_UTC_S
from host_tests.property.bench_machine import SETTINGS, BenchMachine

PRICE_MP_PER_WH = 665
RUPEE_MP = 100000


class MeterMachine(BenchMachine):
    @initialize(hour=st.integers(0, 23), opening=st.integers(-20, 40))
    def begin(self, hour, opening):
        self.make_bench(
            MIDNIGHT_UTC_S + hour * HOUR_S,
            opening_balance_mp=opening * RUPEE_MP,
            sample_period_ms=60000,
            export_counts=1,
            rules={"operation_min_s": 0},
        )
        self.bench.look()
        self.credits_mp = opening * RUPEE_MP
        self.paid_mp = opening * RUPEE_MP
        self.arrears_mp = self.share = self.limit_mp = 0
        self.postpaid = False
        self.hold_utc_s = None  # no credit cut before; 0: not before the time was known
        self.off = False
        self.settings = {}
        self.keys = [self.bench.config.key]
        self.orders = {}
        self.counter = 0
        self.published_wh = self.published_export_wh = 0
        self.time_known = True

    @rule(hours=st.integers(1, 30), power_w=st.sampled_from([0, 60, 900, 5000, -700]))
    def consume(self, hours, power_w):
        contact = self.bench.contact
        for _ in range(hours):
            was_closed = contact.closed
            self.bench.run(HOUR_S, power_w, step_s=60)
            if self.hold_utc_s == 0 and self.time_known:
                self.hold_utc_s = self.bench.utc_s - HOUR_S + 7 * 86400
            if was_closed and not contact.closed:
                self.judge_cut()

    def judge_cut(self):
        """A cut is inside the window, at known time, and after warning and a full grace."""
        cut = self.bench.records("control")[-1]
        assert cut["time_valid"]
        minute = (cut["utc_s"] + 19800) % 86400 // 60
        assert 600 <= minute < 780
        assert cut["balance_mp"] <= -self.limit_mp
        assert not self.postpaid
        assert self.hold_utc_s is None or cut["utc_s"] >= self.hold_utc_s > 0
        begun = self.bench.records("event", 1002)[-1]
        ended = self.bench.records("event", 1004)
        assert not ended or ended[-1]["seq"] < begun["seq"]
        assert cut["seq"] > self.bench.records("event", 1003)[-1]["seq"] > begun["seq"]

    def order(self, kind, **members):
        """Sends a new order; returns its answer."""
        self.counter += 1
        order_id = f"{kind}-{self.counter}"
        answer = self.send(order_id, self.counter, kind, members)
        self.orders[order_id] = (kind, members, answer)
        return answer

    def send(self, order_id, counter, kind, members):
        """Signed under the newest key or, while that was not used yet, under either."""
        use = self.counter % len(self.keys)
        answer = self.bench.order(order_id, counter, kind, key=self.keys[use], **members)
        self.keys = self.keys[use:]
        return answer

    def balance_mp(self):
        return self.credits_mp - self.bench.meter.energy.import_wh * PRICE_MP_PER_WH

    @rule(rupees=st.integers(1, 300))
    def recharge(self, rupees):
        amount_mp = rupees * RUPEE_MP
        taken_mp = min(amount_mp, self.limit_mp, max(0, -self.balance_mp()))
        arrears_mp = min(self.arrears_mp, (2 * (amount_mp - taken_mp) * self.share + 100) // 200)
        answer = self.order("recharge", amount_mp=amount_mp)
        assert answer["result"] == "accepted"
        self.paid_mp += amount_mp
        self.credits_mp += amount_mp - arrears_mp
        self.arrears_mp -= arrears_mp
        if self.balance_mp() > 0:
            self.limit_mp = 0
        assert answer["balance_mp"] == self.balance_mp()

    @rule(rupees=st.integers(1, 100), share=st.integers(0, 100))
    def place_arrears(self, rupees, share):
        answer = self.order("arrears", amount_mp=rupees * RUPEE_MP, share_percent=share)
        assert answer["result"] == "accepted"
        self.arrears_mp += rupees * RUPEE_MP
        self.share = share

    @rule(rupees=st.integers(1, 100))
    def take_arrears_at_once(self, rupees):
        amount_mp = rupees * RUPEE_MP
        answer = self.order("arrears", amount_mp=amount_mp, share_percent=0, at_once=1)
        assert answer["result"] == "accepted"
        self.credits_mp -= self.arrears_mp + amount_mp
        self.arrears_mp = self.share = 0
        assert answer["balance_mp"] == self.balance_mp()

    @rule(postpaid=st.booleans(), share=st.integers(0, 100))
    def switch_the_payment_mode(self, postpaid, share):
        mode = "credit" if postpaid else "prepayment"
        answer = self.order("mode", mode=mode, share_percent=share)
        assert answer["result"] == "accepted"
        if postpaid and not self.postpaid:
            self.limit_mp = 0
            self.hold_utc_s = None
        elif self.postpaid and not postpaid:
            due_mp = max(0, -self.balance_mp())
            self.credits_mp += due_mp
            self.paid_mp += due_mp  # it is owed as arrears instead
            self.arrears_mp += due_mp
            self.share = share
            self.hold_utc_s = self.bench.utc_s + 7 * 86400 if self.time_known else 0
        self.postpaid = postpaid
        assert answer["balance_mp"] == self.balance_mp()

    @rule(rupees=st.integers(0, 100))
    def grant_emergency_credit(self, rupees):
        refused = self.postpaid and rupees
        answer = self.order("emergency", limit_mp=rupees * RUPEE_MP)
        assert answer["result"] == ("range" if refused else "accepted")
        if not refused:
            self.limit_mp = rupees * RUPEE_MP

    @rule(off=st.booleans())
    def switch(self, off):
        expires = {"expires_utc_s": self.bench.utc_s + 60} if off else {}
        answer = self.order("relay", state="disconnected" if off else "connected", **expires)
        if off and not self.off and not self.time_known:
            assert answer["result"] == "time_unknown"
        else:
            assert answer["result"] == "accepted"
            self.off = off

    @rule(console=st.booleans())
    def take_the_emergency_credit(self, console):
        offered_mp = self.settings.get("emergency_limit_mp", 0)
        in_use = self.postpaid or self.limit_mp
        selectable = not in_use and -offered_mp < self.balance_mp() <= 0
        taken = self.bench.meter.take_emergency("console" if console else "button")
        assert taken == selectable
        if taken:
            self.limit_mp = offered_mp

    @rule(low=st.integers(-1, 10**9), live_s=st.integers(1, 86400), offered=st.integers(0, 10**7))
    def change_settings(self, low, live_s, offered):
        document = {"low_credit_mp": low, "live_period_s": live_s, "emergency_limit_mp": offered}
        answer = self.order("settings", document=document)
        assert answer["result"] == ("range" if low < 0 else "accepted")
        if low >= 0:
            self.settings.update(document)

    @rule(salt=st.binary(min_size=32, max_size=32))
    def change_the_key(self, salt):
        assert self.order("key", salt=salt.hex())["result"] == "accepted"
        self.keys = [self.keys[0], sealing.next_key(self.keys[0], salt)]

    @precondition(lambda self: self.time_known)
    @rule(hours=st.integers(-20, 20))
    def permit_a_step_of_the_clock(self, hours):
        assert self.order("clock", utc_s=self.bench.utc_s + hours * HOUR_S)["result"] == "accepted"

    @rule(back=st.integers(0, 20))
    def ask_for_records_again(self, back):
        journal = self.bench.meter.journal
        acked = journal.last_seq
        journal.acknowledge(acked)
        seq = max(0, acked - back)
        assert self.order("resend", store=journal.store_id, seq=seq)["result"] == "accepted"
        assert journal.acked_seq == seq
        assert self.order("resend", store="00000000", seq=seq)["field"] == "store"

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), raised=st.booleans())
    def repeat_an_order(self, data, raised):
        order_id = data.draw(st.sampled_from(sorted(self.orders)))
        kind, members, first = self.orders[order_id]
        counter = self.counter + 1 if raised else first["counter"]
        image = self.bench.image() if len(self.keys) == 1 else None
        answer = self.send(order_id, counter, kind, members)
        assert (answer["result"], answer["balance_mp"]) == (first["result"], first["balance_mp"])
        assert image in (None, self.bench.image())

    @precondition(lambda self: self.counter)
    @rule()
    def send_an_old_counter(self):
        answer = self.send("late", self.counter, "recharge", {"amount_mp": RUPEE_MP})
        assert answer["result"] == "old"

    @rule()
    def forge_an_order(self):
        image = self.bench.image()
        for key in {bytes(32), self.bench.config.key} - set(self.keys):
            members = {"amount_mp": RUPEE_MP}
            assert self.bench.order("forged", 2**31 - 1, "recharge", key=key, **members) is None
        assert self.bench.image() == image

    @rule(off_s=st.integers(0, 4 * 86400), time_known=st.booleans())
    def cut_the_power(self, off_s, time_known):
        self.bench.look()  # nothing is left undone
        contact, operations = self.bench.contact.closed, self.bench.contact.operations
        self.bench.restart(off_s, time_known)
        self.time_known = time_known
        assert (self.bench.contact.closed, self.bench.contact.operations) == (contact, operations)
        self.bench.look()
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
        assert live["export_wh"] >= self.published_export_wh
        assert live["uncommitted_export_wh"] >= 0
        self.published_export_wh = live["export_wh"]

    @invariant()
    def the_balance_is_payments_less_energy_times_price(self):
        meter = self.bench.meter
        assert meter.balance_mp() == self.balance_mp()
        assert self.balance_mp() <= self.paid_mp - meter.energy.import_wh * PRICE_MP_PER_WH
        live = meter.live()
        assert (live["arrears_mp"], live["emergency_limit_mp"]) == (self.arrears_mp, self.limit_mp)
        due_mp = max(0, -self.balance_mp()) if self.postpaid else 0
        assert (live["mode"] == "credit", live["due_mp"]) == (self.postpaid, due_mp)

    @invariant()
    def money_keeps_the_supply_unless_the_utility_has_disconnected(self):
        assert not (self.off and self.bench.contact.closed)
        if (self.postpaid or self.balance_mp() > -self.limit_mp) and not self.off:
            self.bench.look(1)  # an opening is told before the contact closes again
            assert self.bench.contact.closed

    @invariant()
    def settings_by_order_count(self):
        config = self.bench.config
        assert {name: getattr(config, name) for name in self.settings} == self.settings


MeterMachine.TestCase.settings = SETTINGS
TestMeterMachine = MeterMachine.TestCase
