"""The profiles of a whole meter against a tiny model: what its records add up to.

The model reads the records in their order and keeps sums in plain integers; besides, it knows for
how long the meter was supplied. Power cuts, an unknown time, a clock that goes back, other lengths
of the interval and resends may come at any moment.
"""

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from firmware.core import civil
from host_tests.fakes.bench import HOUR_S
from host_tests.property.bench_machine import SETTINGS, BenchMachine

PRICE_MP_PER_WH = 665
STEP_S = 60
BEGIN_UTC_S = 1769884200 - 5 * 86400  # five days to the end of a month
OFFSET_S = 19800
CUT_LOSS_S = 900 + 2 * STEP_S  # since the last checkpoint


class Model:
    """What the records say, in their order."""

    def __init__(self):
        self.seq = 0
        self.wh = self.charged_wh = 0
        self.end_utc_s = 0
        self.supply_s = 0
        self.undated = []
        self.spans = {"day": None, "billing": None}
        self.sums = {kind: {"supply_s": 0, "over_load_s": 0, "max": (0, 0)} for kind in self.spans}

    def take(self, record):
        assert record["seq"] > self.seq
        self.seq = record["seq"]
        if record["type"] == "load":
            self.take_load(record)
        elif record["type"] in self.spans:
            self.take_span(record)

    def take_load(self, load):
        self.wh += load["energy_wh"]
        assert load["import_wh"] == self.wh
        assert load["start_utc_s"] >= self.end_utc_s
        assert load["length_s"] in (0, 900, 1800)
        end_utc_s = load["start_utc_s"] + load["length_s"]
        if load["length_s"]:
            assert load["start_utc_s"] % load["length_s"] == 0
            self.end_utc_s = end_utc_s
            assert load["supply_s"] <= load["length_s"] + 4 * STEP_S
        self.supply_s += load["supply_s"]
        for sums in self.sums.values():
            sums["supply_s"] += load["supply_s"]
            sums["over_load_s"] += load["over_load_s"]
            if load["length_s"]:
                demand_w = load["energy_wh"] * 3600 // load["length_s"]
                if demand_w > sums["max"][0]:
                    sums["max"] = (demand_w, end_utc_s)

    def take_span(self, span):
        kind = span["type"]
        sums = self.sums[kind]
        before = self.spans[kind]
        if before:
            assert span["start_utc_s"] == before["end_utc_s"]
            assert span["energy_wh"] == span["import_wh"] - before["import_wh"]
        assert span["end_utc_s"] > span["start_utc_s"]
        assert (span["demand_max_w"], span["demand_max_utc_s"]) == sums["max"]
        assert span["supply_min"] == sums["supply_s"] // 60
        sums["supply_s"] %= 60
        sums["max"] = (0, 0)
        if kind == "day":
            assert span["over_load_min"] == sums["over_load_s"] // 60
            assert span["cost_mp"] == span["energy_wh"] * PRICE_MP_PER_WH
        sums["over_load_s"] %= 60
        self.spans[kind] = span


class ProfilesMachine(BenchMachine):
    @initialize(hour=st.integers(0, 100), limit_w=st.sampled_from([0, 500, 2000]))
    def begin(self, hour, limit_w):
        self.make_bench(
            BEGIN_UTC_S + hour * HOUR_S,
            opening_balance_mp=10**10,
            sample_period_ms=STEP_S * 1000,
            sanctioned_load_w=limit_w,
        )
        self.model = Model()
        self.supplied_s = 0
        self.cuts = 0
        self.counter = 0
        self.time_known = True
        self.bench.run(STEP_S, 0, STEP_S)
        self.began_utc_s = self.bench.utc_s

    @rule(
        minutes=st.one_of(st.integers(1, 90), st.integers(300, 2000)),
        power_w=st.sampled_from([0, 60, 900, 5000]),
    )
    def consume(self, minutes, power_w):
        self.bench.run(minutes * 60, power_w, STEP_S)
        self.supplied_s += minutes * 60

    @rule(
        off_s=st.one_of(st.integers(0, 4000), st.integers(40_000, 300_000)),
        time_known=st.booleans(),
    )
    def cut_the_power(self, off_s, time_known):
        self.bench.restart(off_s, time_known)
        self.cuts += 1
        self.time_known = time_known

    @precondition(lambda self: not self.time_known)
    @rule()
    def gateway_sets_the_time(self):
        assert self.bench.meter.set_time(self.bench.utc_s * 1000)
        self.time_known = True

    @precondition(lambda self: self.time_known and self.bench.meter.last_utc_s > 0)
    @rule(minutes=st.integers(1, 300))
    def the_clock_goes_back(self, minutes):
        period_utc_s = self.bench.meter.account.period_start_utc_s
        month_utc_s = civil.month_start_utc_s(period_utc_s, OFFSET_S)
        if self.bench.utc_s - minutes * 60 > month_utc_s:
            self.bench.utc_s -= minutes * 60
            assert self.bench.meter.set_time(self.bench.utc_s * 1000)

    @rule(block_min=st.sampled_from([15, 30]))
    def other_intervals(self, block_min):
        self.counter += 1
        answer = self.bench.order(
            f"s-{self.counter}", self.counter, "settings", document={"block_min": block_min}
        )
        assert answer["result"] == "accepted"

    @invariant()
    def the_records_add_up(self):
        journal = self.bench.meter.journal
        for record in journal.records_after(self.model.seq, 10**9):
            self.model.take(record)
        self.judge_state()
        # Supply is counted but for what a cut loses.
        counted_s = self.model.supply_s + self.bench.meter.profiles.block.supply_s
        assert counted_s <= self.supplied_s + STEP_S
        assert counted_s >= self.supplied_s - self.cuts * CUT_LOSS_S

    def judge_state(self):
        profiles = self.bench.meter.profiles
        for kind, span in (("day", profiles.day), ("billing", profiles.month)):
            sums = self.model.sums[kind]
            assert (span.demand_max_w, span.demand_max_utc_s) == sums["max"]
            assert (span.supply_s, span.over_load_s) == (sums["supply_s"], sums["over_load_s"])
            before = self.model.spans[kind]
            assert span.start_utc_s == (before["end_utc_s"] if before else self.began_utc_s)


ProfilesMachine.TestCase.settings = SETTINGS
TestProfilesMachine = ProfilesMachine.TestCase
