"""Days, zones and held tariffs of a meter, on the bench: the records and what they cost."""

from firmware.core import civil
from firmware.credit.account import Account
from host_tests.fakes.bench import HOUR_S, MIDNIGHT_UTC_S
from host_tests.fakes.documents import tariff_document

RUPEE_MP = 100000
DAY_S = 86400
OFFSET_S = 19800
DAY = (MIDNIGHT_UTC_S + OFFSET_S) // DAY_S  # 2026-01-05
PEAK = {"name": "peak", "from_min": 1080, "to_min": 1320}  # 18:00 to 22:00


def fixed(name, rupees, collect, **more):
    """A fixed line per connection and month."""
    return {
        "name": name,
        "shape": "fixed",
        "per": "connection",
        "rate_mp": rupees * RUPEE_MP,
        "collect": collect,
        **more,
    }


def rich(*lines, version=2, **members):
    """Energy at 5 rupees, 8 above 100 kWh, and more lines."""
    slabs = [
        {"up_to_kwh": 100, "rate_mp_per_kwh": 500000},
        {"up_to_kwh": None, "rate_mp_per_kwh": 800000},
    ]
    return {
        "id": "rich",
        "version": version,
        "currency": "INR",
        "effective_from_utc_s": 0,
        **members,
        "lines": [{"name": "energy", "shape": "telescopic", "slabs": slabs}, *lines],
    }


TIME_OF_DAY = {
    "name": "time",
    "shape": "time_of_day",
    "percent_x1000": {"peak": 50000},
    "of": ["energy"],
}


def amounts(bench):
    """{name of a line: its amount in mp} of the open part."""
    lines = bench.meter.account.open_lines(bench.meter.energy.import_wh)
    return {line[0]: line[5] for line in lines}


def assert_records_agree(bench):
    """The records alone give the meter's account, and the balance that each of them states."""
    account = Account()
    for record in bench.records():
        if record["type"] == "period":
            ends = record["end_utc_s"] > record["start_utc_s"] > 0
            charge_mp = account.period_charge_mp(record["end_wh"]) if ends else 0
            assert record["charge_mp"] == charge_mp
        account.apply(record)
        if "import_wh" in record:
            assert record["balance_mp"] == account.balance_mp(record["import_wh"]), record
    assert account.state() == bench.meter.account.state()


def test_a_tariff_without_zones_and_fixed_lines_has_no_tallies(make_bench):
    bench = make_bench()
    bench.run(3 * DAY_S, 300, step_s=60)
    assert not bench.records("tally")
    assert_records_agree(bench)


def test_energy_of_a_zone_costs_what_the_zone_says(make_bench):
    bench = make_bench(tariff=rich(TIME_OF_DAY, zones=[PEAK]), sample_period_ms=60000)
    bench.run(DAY_S, 600, step_s=60)
    tallies = bench.records("tally")
    local = [(t["utc_s"] - MIDNIGHT_UTC_S) // 60 for t in tallies]
    assert local == [1, 1080, 1320, 1440]
    assert [t["zone"] for t in tallies] == [0, 1, 0, 0]
    peak_wh = tallies[2]["import_wh"] - tallies[1]["import_wh"]
    wh = bench.meter.energy.import_wh
    assert abs(peak_wh - 4 * 600) <= 1
    assert amounts(bench) == {
        "energy up to 100 kWh": wh * 500,
        "time peak": (2 * wh * 500 * peak_wh * 50 + wh * 100) // (2 * wh * 100),
    }
    assert_records_agree(bench)


def test_daily_lines_collect_for_each_day_and_by_supply_for_its_minutes(make_bench):
    lines = (fixed("rent", 31, "daily"), fixed("supply", 62, "daily", by_supply=True))
    bench = make_bench(
        tariff=rich(*lines, full_supply_min=1200), sample_period_ms=60000, sanctioned_load_w=1500
    )
    bench.run(DAY_S + 600, 0, step_s=60)
    assert amounts(bench) == {"rent": RUPEE_MP, "supply": 2 * RUPEE_MP}
    # Ten hours of supply in the second day, then none until the fourth.
    bench.run(10 * HOUR_S - 600, 0, step_s=60)
    bench.restart(off_s=2 * DAY_S - 10 * HOUR_S + 600)
    bench.run(120, 0, step_s=60)
    tally = bench.records("tally")[-1]
    assert (tally["day"], tally["load_w"]) == (DAY + 3, 1500)
    assert 585 <= tally["supply_min"] <= 602  # a checkpoint may be 15 min old
    supply_mp = (2 * RUPEE_MP * (1200 + tally["supply_min"]) + 600) // 1200
    assert amounts(bench) == {"rent": 3 * RUPEE_MP, "supply": supply_mp}
    assert_records_agree(bench)


def test_the_cost_of_a_day_has_its_fixed_charge(make_bench):
    bench = make_bench(tariff=rich(fixed("rent", 31, "daily")), sample_period_ms=60000)
    bench.run(2 * DAY_S + 600, 300, step_s=60)
    for day in bench.records("day"):
        assert day["cost_mp"] == RUPEE_MP + day["energy_wh"] * 500
    tally, day = [r for r in bench.records() if r["type"] in ("tally", "day")][1:3]
    assert (tally["type"], day["type"], day["seq"]) == ("tally", "day", tally["seq"] + 1)


def test_a_month_that_ends_without_power_collects_its_days_and_the_next_its_own(make_bench):
    rent, once = fixed("rent", 31, "daily"), fixed("once", 28, "monthly")
    bench = make_bench(
        MIDNIGHT_UTC_S + 24 * DAY_S,  # 29 January
        tariff=rich(rent, once, fixed("late", 31, "first_recharge")),
        sample_period_ms=60000,
    )
    bench.run(600, 300, step_s=60)
    assert amounts(bench)["once"] == 28 * RUPEE_MP * 3 // 31 + 1  # 2.709677 rupees
    bench.restart(off_s=5 * DAY_S)
    bench.run(120, 300, step_s=60)
    closed = bench.records("period")[-1]
    wh = closed["end_wh"] - closed["start_wh"]
    # Three days of January: the rent, the month's, and what no recharge came for.
    assert closed["charge_mp"] == wh * 500 + 3 * RUPEE_MP + 270968 + 3 * RUPEE_MP
    first = bench.records("tally")[-1]
    assert (first["day"], first["period_day"], first["period_days"]) == (DAY + 29, DAY + 27, 28)
    assert amounts(bench)["rent"] == round(2 * 31 * RUPEE_MP / 28)
    assert amounts(bench)["once"] == 28 * RUPEE_MP
    assert "late" not in amounts(bench)
    bench.order("r-1", 1, amount_mp=100 * RUPEE_MP)
    bench.order("r-2", 2, amount_mp=100 * RUPEE_MP)
    assert amounts(bench)["late"] == 31 * RUPEE_MP
    assert_records_agree(bench)


def test_the_billing_period_begins_on_the_day_that_the_tariff_says(make_bench):
    bench = make_bench(tariff=rich(period_start_day=10), sample_period_ms=60000)
    bench.run(5 * DAY_S + 600, 300, step_s=60)
    dated, closed = bench.records("period")
    assert civil.text(dated["end_utc_s"], OFFSET_S) == "2025-12-10 00:00:00"
    assert civil.text(closed["end_utc_s"], OFFSET_S) == "2026-01-10 00:00:00"
    month = bench.records("billing")[0]
    assert civil.text(month["end_utc_s"], OFFSET_S) == "2026-01-10 00:00:00"
    # A step to the month of the open period needs no order, one to before it does.
    assert not bench.meter.set_time((closed["end_utc_s"] - 1) * 1000)


def change_after(bench, days, document, **order):
    """Consumes 96 kWh and orders a tariff on the last minute of so many days."""
    bench.run(HOUR_S, 96000, step_s=60)
    bench.run(days * DAY_S - HOUR_S - 60, 0, step_s=60)
    assert bench.order("t-1", 1, "tariff", document=document, **order)["result"] == "accepted"


def test_slabs_are_carried_on_behind_a_change_of_the_tariff(make_bench):
    bench = make_bench(
        MIDNIGHT_UTC_S - 4 * DAY_S,
        tariff=rich(fixed("rent", 31, "monthly")),
        sample_period_ms=60000,
        opening_balance_mp=2000 * RUPEE_MP,
    )
    change_after(bench, 10, rich(fixed("rent", 62, "monthly"), version=3))
    closed_mp = bench.meter.account.closed_mp
    wh = bench.meter.energy.import_wh
    # 9 of 31 days had passed: the rest of the old rent is given back.
    assert closed_mp == wh * 500 + 9 * RUPEE_MP
    bench.run(HOUR_S, 24000, step_s=60)
    more = bench.meter.energy.import_wh - 100000
    assert amounts(bench) == {
        "energy up to 100 kWh": (100000 - wh) * 500,
        "energy above 100 kWh": more * 800,
        "rent": 22 * 2 * RUPEE_MP,
    }
    assert_records_agree(bench)


def test_slabs_are_cut_by_days_if_the_new_tariff_says_so(make_bench):
    bench = make_bench(
        MIDNIGHT_UTC_S - 4 * DAY_S,
        tariff=rich(),
        sample_period_ms=60000,
        opening_balance_mp=2000 * RUPEE_MP,
    )
    change_after(bench, 10, rich(version=3, on_change="pro_rata"))
    wh = bench.meter.energy.import_wh
    limit_wh = 100000 * 9 // 31
    assert wh > limit_wh
    assert bench.meter.account.closed_mp == limit_wh * 500 + (wh - limit_wh) * 800
    bench.run(HOUR_S, 80400, step_s=60)
    limit_wh = 100000 * 22 // 31
    more = bench.meter.energy.import_wh - wh
    assert bench.meter.account.open_charge_mp(wh + more) == (
        limit_wh * 500 + (more - limit_wh) * 800
    )
    assert_records_agree(bench)


def test_a_tariff_of_the_future_is_held_over_restarts_until_its_time(make_bench):
    bench = make_bench(sample_period_ms=60000)
    at_utc_s = MIDNIGHT_UTC_S + 2 * DAY_S
    document = rich(fixed("rent", 31, "daily"), effective_from_utc_s=at_utc_s)
    assert bench.order("t-1", 1, "tariff", document=document)["result"] == "accepted"
    assert bench.order("t-2", 2, "tariff", document=document)["result"] == "accepted"
    assert len(bench.records("passive")) == 1
    assert bench.meter.live()["tariff"] == "test"
    bench.meter.snapshot()
    bench.restart(off_s=DAY_S)
    bench.run(DAY_S - 120, 300, step_s=60)
    assert bench.meter.live()["tariff"] == "test"
    bench.run(300, 300, step_s=60)
    changed = bench.records("tariff")[-1]
    assert changed["document"] == document
    assert 0 <= changed["utc_s"] - at_utc_s < 60
    assert bench.meter.account.passive is None
    assert bench.records("day")[-1]["seq"] < changed["seq"]  # it ends the old tariff's last day
    assert_records_agree(bench)


def test_a_newer_tariff_replaces_the_one_that_is_held_and_a_late_one_counts_at_once(make_bench):
    bench = make_bench(sample_period_ms=60000)
    bench.run(120, 0, step_s=60)
    soon = MIDNIGHT_UTC_S + HOUR_S
    bench.order("t-1", 1, "tariff", document=rich(version=2, effective_from_utc_s=soon))
    bench.order("t-2", 2, "tariff", document=rich(version=3, effective_from_utc_s=soon + 60))
    late = rich(version=4, effective_from_utc_s=MIDNIGHT_UTC_S - DAY_S)
    bench.order("t-3", 3, "tariff", document=late)
    assert bench.meter.live()["tariff_version"] == 4
    bench.run(2 * HOUR_S, 0, step_s=60)
    versions = [record["document"]["version"] for record in bench.records("tariff")]
    assert versions == [1, 4, 3]


def test_a_held_tariff_begins_with_the_period_and_the_old_one_collects_nothing_in_it(make_bench):
    start_utc_s = MIDNIGHT_UTC_S + 26 * DAY_S  # 31 January
    bench = make_bench(
        start_utc_s, tariff=rich(fixed("rent", 31, "monthly")), sample_period_ms=60000
    )
    new = rich(fixed("rent", 56, "monthly"), version=3, effective_from_utc_s=start_utc_s + DAY_S)
    bench.order("t-1", 1, "tariff", document=new)
    bench.run(DAY_S + 120, 300, step_s=60)
    kinds = [r["type"] for r in bench.records() if r["seq"] >= bench.records("billing")[0]["seq"]]
    assert kinds[:4] == ["billing", "period", "tariff", "tally"]
    assert amounts(bench)["rent"] == 56 * RUPEE_MP
    assert bench.meter.account.closed_mp == bench.records("period")[-1]["charge_mp"]


def test_while_the_time_is_unknown_energy_is_normal_and_days_and_tariffs_wait(make_bench):
    held = MIDNIGHT_UTC_S + 54 * HOUR_S
    bench = make_bench(
        MIDNIGHT_UTC_S + 19 * HOUR_S,
        tariff=rich(TIME_OF_DAY, fixed("rent", 31, "daily"), zones=[PEAK]),
        sample_period_ms=60000,
    )
    bench.run(HOUR_S, 600, step_s=60)
    assert bench.records("tally")[-1]["zone"] == 1
    document = rich(version=3, effective_from_utc_s=held)
    bench.order("t-1", 1, "tariff", document=document)
    bench.restart(off_s=60, time_known=False)
    bench.run(60, 0, step_s=60)
    unknown = bench.records("tally")[-1]
    assert (unknown["zone"], unknown["time_valid"], unknown["day"]) == (0, 0, DAY)
    bench.run(26 * HOUR_S, 600, step_s=60)
    assert bench.records("tally")[-1] == unknown
    assert "rent" not in amounts(bench)
    peak_wh = bench.meter.account.usage.zone_wh[1]
    assert peak_wh == unknown["import_wh"] - bench.records("tally")[0]["import_wh"]
    assert bench.meter.set_time(bench.utc_s * 1000)
    bench.run(120, 0, step_s=60)
    assert amounts(bench)["rent"] == RUPEE_MP
    assert bench.meter.account.usage.zone_wh[1] == peak_wh
    assert len(bench.records("tariff")) == 1
    bench.run(9 * HOUR_S, 0, step_s=60)
    assert bench.meter.live()["tariff_version"] == 3
    assert_records_agree(bench)


def test_a_day_that_the_clock_goes_through_again_counts_once(make_bench):
    bench = make_bench(tariff=rich(fixed("rent", 31, "daily")), sample_period_ms=60000)
    bench.run(DAY_S + HOUR_S, 0, step_s=60)
    assert amounts(bench) == {"rent": RUPEE_MP}
    assert bench.meter.set_time((bench.utc_s - 3 * HOUR_S) * 1000)
    bench.run(4 * HOUR_S, 0, step_s=60)
    assert amounts(bench) == {"rent": RUPEE_MP}
    bench.run(DAY_S, 0, step_s=60)
    assert amounts(bench) == {"rent": 2 * RUPEE_MP}
    assert_records_agree(bench)


def test_behind_a_time_that_was_wrong_days_are_counted_again_and_nothing_is_collected_twice(
    make_bench,
):
    years = 3 * 365 * DAY_S
    bench = make_bench(
        MIDNIGHT_UTC_S + years,
        tariff=rich(fixed("rent", 31, "daily"), fixed("once", 10, "monthly")),
        sample_period_ms=60000,
    )
    bench.run(HOUR_S, 0, step_s=60)
    once_mp = amounts(bench)["once"]
    bench.order("c-1", 1, "clock", utc_s=bench.utc_s - years)
    assert bench.meter.set_time((bench.utc_s - years) * 1000)
    bench.run(2 * DAY_S, 0, step_s=60)
    assert amounts(bench)["rent"] == 2 * RUPEE_MP
    assert amounts(bench)["once"] == once_mp
    assert_records_agree(bench)


def test_a_month_that_a_wrong_time_closed_is_not_charged_again(make_bench):
    wrong_s = 40 * DAY_S  # from 5 January into February
    bench = make_bench(
        MIDNIGHT_UTC_S,
        tariff=rich(
            fixed("rent", 31, "daily"),
            fixed("once", 31, "monthly"),
            fixed("later", 31, "first_recharge"),
        ),
        sample_period_ms=60000,
    )
    bench.run(DAY_S, 0, step_s=60)
    bench.order("c-1", 1, "clock", utc_s=bench.utc_s + wrong_s)
    assert bench.meter.set_time((bench.utc_s + wrong_s) * 1000)
    bench.run(HOUR_S, 0, step_s=60)
    charged_mp = bench.meter.account.closed_mp  # January, to its end
    assert charged_mp == 3 * 27 * RUPEE_MP
    bench.order("c-2", 2, "clock", utc_s=bench.utc_s)
    assert bench.meter.set_time(bench.utc_s * 1000)
    bench.run(2 * DAY_S, 0, step_s=60)
    bench.order("r-1", 3, "recharge", amount_mp=RUPEE_MP)
    bench.run(25 * DAY_S, 0, step_s=600)
    account = bench.meter.account
    assert account.charges_mp(bench.meter.energy.import_wh) - charged_mp == (
        amounts(bench)["once"] + amounts(bench).get("rent", 0)
    )
    assert amounts(bench)["once"] == 31 * RUPEE_MP  # that of the true February
    assert_records_agree(bench)


def test_the_balance_is_not_judged_each_second(make_bench):
    bench = make_bench(opening_balance_mp=30000 * RUPEE_MP)
    judged = []
    meter = bench.meter
    balance_mp = type(meter.account).balance_mp

    def counted(account, wh):
        judged.append(wh)
        return balance_mp(account, wh)

    type(meter.account).balance_mp = counted
    try:
        bench.run(600, 6000)
    finally:
        type(meter.account).balance_mp = balance_mp
    assert meter.energy.import_wh > 900
    assert len(judged) < 25


def test_low_credit_and_its_end_are_met_to_the_watt_hour(make_bench):
    document = tariff_document((1, 400000), (2, 700000), (None, 1100000))
    bench = make_bench(
        opening_balance_mp=3 * RUPEE_MP, rules={"low_credit_mp": 100000}, tariff=document
    )
    bench.run(3600, 6000)
    for code, limit_mp in ((1001, RUPEE_MP), (1002, 0)):
        event = bench.records("event", code)[0]
        assert event["balance_mp"] <= limit_mp
        one_wh_before = bench.meter.account.balance_mp(event["import_wh"] - 2)
        assert one_wh_before > limit_mp
