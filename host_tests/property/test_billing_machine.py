"""The meter under tariffs of every shape, against a second opinion of its records.

Days, zones, parts of a billing period and fixed charges come together here: whatever happens, the
balance is what was paid less what bill_model makes of the records, in every record and after each
step, and a restart changes nothing.
"""

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from firmware.credit.account import Account
from host_tests.fakes.bench import HOUR_S, MIDNIGHT_UTC_S
from host_tests.fakes.documents import rich_tariff, tariff_document
from host_tests.property.bench_machine import SETTINGS, BenchMachine
from host_tests.property.bill_model import Bill

DAY_S = 86400
RUPEE_MP = 100000


def fixed(name, rupees, collect, per="connection", **more):
    line = {"name": name, "shape": "fixed", "per": per, "collect": collect, **more}
    return {"rate_mp": rupees * RUPEE_MP, **line}


def cliff():
    """All units at another price above 30 kWh, a band by load, and what waits for a recharge."""
    bands = [{"up_to_kw": 2, "rate_mp": 4_000_000}, {"up_to_kw": None, "rate_mp": 9_000_000}]
    document = tariff_document((30, 350_000), (None, 625_000))
    document["lines"][0]["shape"] = "whole"
    document["lines"] += [
        {**fixed("band", 0, "daily", "band"), "bands": bands},
        fixed("once", 50, "first_recharge", "kw"),
        {"name": "duty", "shape": "percent", "percent_x1000": 6000, "of": ["energy", "once"]},
    ]
    del document["lines"][1]["rate_mp"]
    return document


TARIFFS = (
    tariff_document((20, 500_000), (None, 800_000)),
    rich_tariff(id="rich"),
    {**cliff(), "id": "cliff", "period_start_day": 7},
)


class BillingMachine(BenchMachine):
    @initialize(day=st.integers(20, 35), first=st.integers(0, 2), load_w=st.integers(0, 5000))
    def begin(self, day, first, load_w):
        self.make_bench(
            MIDNIGHT_UTC_S + day * DAY_S + 17 * HOUR_S,
            tariff=TARIFFS[first],
            opening_balance_mp=5000 * RUPEE_MP,
            sample_period_ms=60000,
            sanctioned_load_w=load_w,
            export_counts=1,
        )
        self.counter = 0
        self.bill = Bill()
        self.paid_mp = self.seq = 0
        self.time_known = True

    def order(self, kind, **members):
        self.counter += 1
        answer = self.bench.order(f"{kind}-{self.counter}", self.counter, kind, **members)
        assert answer["result"] == "accepted", answer

    @rule(hours=st.integers(1, 40), power_w=st.sampled_from([0, 60, 900, 3000, -700]))
    def consume(self, hours, power_w):
        self.bench.run(hours * HOUR_S, power_w, step_s=60)

    @rule(rupees=st.integers(1, 3000))
    def recharge(self, rupees):
        self.order("recharge", amount_mp=rupees * RUPEE_MP)

    @rule(
        which=st.integers(0, 2),
        hours=st.integers(-5, 60),
        on_change=st.sampled_from(["carry_on", "pro_rata"]),
    )
    def change_tariff(self, which, hours, on_change):
        self.order(
            "tariff",
            document={
                **TARIFFS[which],
                "version": self.counter + 2,
                "on_change": on_change,
                "effective_from_utc_s": self.bench.utc_s + hours * HOUR_S,
            },
        )

    @rule(load_w=st.integers(0, 5000))
    def change_the_load(self, load_w):
        self.order("settings", document={"sanctioned_load_w": load_w})

    @rule(off_s=st.integers(0, 12 * DAY_S), time_known=st.booleans())
    def cut_the_power(self, off_s, time_known):
        self.bench.restart(off_s, time_known)
        self.time_known = time_known

    @precondition(lambda self: not self.time_known)
    @rule()
    def gateway_sets_the_time(self):
        assert self.bench.meter.set_time(self.bench.utc_s * 1000)
        self.time_known = True

    @precondition(lambda self: self.time_known)
    @rule(minutes=st.integers(-300, 300))
    def correct_the_clock(self, minutes):
        utc_s = self.bench.utc_s + 60 * minutes
        if self.bench.meter.set_time(utc_s * 1000):
            self.bench.utc_s = utc_s

    @rule()
    def take_a_snapshot(self):
        self.bench.meter.snapshot()

    @invariant()
    def the_balance_is_what_was_paid_less_what_the_records_charge(self):
        meter = self.bench.meter
        for record in meter.journal.records_after(self.seq, 10**9):
            self.seq = record["seq"]
            self.bill.take(record)
            if record["type"] == "credit":
                self.paid_mp += record["amount_mp"]
            if "import_wh" in record:
                charged_mp = self.bill.charges_mp(record["import_wh"])
                assert record["balance_mp"] == self.paid_mp - charged_mp, record
        charged_mp = self.bill.charges_mp(meter.energy.import_wh)
        assert meter.balance_mp() == self.paid_mp - charged_mp

    @invariant()
    def a_snapshot_holds_all_of_the_account(self):
        account = Account()
        account.restore(self.bench.meter.account.state())
        wh = self.bench.meter.energy.import_wh
        assert account.state() == self.bench.meter.account.state()
        assert account.open_lines(wh) == self.bench.meter.account.open_lines(wh)


BillingMachine.TestCase.settings = SETTINGS
TestBillingMachine = BillingMachine.TestCase
