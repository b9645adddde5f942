"""Load, day and billing records of a whole meter with its journal, over restarts and odd clocks."""

import errno
from itertools import pairwise

import pytest

from host_tests.fakes.bench import HOUR_S, MIDNIGHT_UTC_S
from host_tests.fakes.documents import tariff_document

DAY_S = 86400
RUPEE_MP = 100000
FEBRUARY_UTC_S = 1769884200  # 2026-02-01 00:00 in India


@pytest.fixture
def bench(make_bench):
    return make_bench(opening_balance_mp=10**9, sample_period_ms=60_000)


def run(bench, hours, power_w=960, step_s=60):
    bench.run(hours * HOUR_S, power_w, step_s)


def test_an_interval_has_energy_means_extremes_and_supply(bench):
    bench.run(600, 960, 60)
    bench.run(600, 0, 60)
    bench.run(660, 2400, 60)
    (load,) = bench.records("load")
    assert (load["start_utc_s"], load["length_s"]) == (MIDNIGHT_UTC_S, 1800)
    # 10 min at 960 W, 10 at none, 10 at 2,400 W; the trapezoid of a step is one sample's
    assert load["energy_wh"] == pytest.approx(160 + 400, abs=25)
    assert (load["voltage_min_mv"], load["voltage_mv"], load["voltage_max_mv"]) == (240000,) * 3
    assert load["current_min_ma"] == 0
    assert load["current_ma"] == pytest.approx((4000 + 10000) / 3, rel=0.05)
    assert load["current_max_ma"] == pytest.approx(10000, abs=5)
    assert load["supply_s"] == 1800
    assert load["over_load_s"] == 0


def test_a_day_is_written_at_local_midnight_and_explains_itself(bench):
    for power_w in (300, 1200, 600):
        run(bench, 8, power_w)
    wh, balance_mp = bench.meter.energy.import_wh, bench.meter.balance_mp()
    run(bench, 1)
    (day,) = bench.records("day")
    assert (day["start_utc_s"], day["end_utc_s"]) == (MIDNIGHT_UTC_S + 60, MIDNIGHT_UTC_S + DAY_S)
    assert day["import_wh"] == pytest.approx(wh, abs=1)
    assert day["cost_mp"] == day["energy_wh"] * 665
    assert day["balance_mp"] == pytest.approx(balance_mp, abs=665)
    assert day["supply_min"] == 1440
    assert day["demand_max_w"] == pytest.approx(1200, abs=8)
    began = MIDNIGHT_UTC_S + 8 * HOUR_S
    assert began + 1800 <= day["demand_max_utc_s"] <= began + 8 * HOUR_S
    loads = bench.records("load")[:48]
    assert max(load["energy_wh"] for load in loads) * 2 == day["demand_max_w"]
    assert sum(load["energy_wh"] for load in loads) == day["import_wh"]


def test_cost_of_a_day_in_which_tariff_and_month_end_is_the_difference_of_the_balances(make_bench):
    slabs = tariff_document((1, 100000), (None, 900000))
    bench = make_bench(FEBRUARY_UTC_S - 30 * HOUR_S, tariff=slabs, sample_period_ms=60_000)
    costs, balances = [], [bench.meter.balance_mp()]
    for number in range(4):
        run(bench, 12)
        document = {**tariff_document((2, 50000), (None, 700000)), "id": f"t-{number}"}
        bench.order(f"t-{number}", number + 1, "tariff", document=document)
        run(bench, 12)
    for day in bench.records("day"):
        costs.append(day["cost_mp"])
        balances.append(day["balance_mp"])
    assert len(costs) == 4
    first_mp = balances[0] - balances[1] - costs[0]
    assert 0 <= first_mp <= 20 * 900  # what the first minute cost, before the first day began
    for number in range(1, 4):
        assert costs[number] == balances[number] - balances[number + 1]
    assert len([record for record in bench.records("period") if record["charge_mp"]]) == 1


def test_off_at_midnight_the_day_is_written_at_the_next_start_with_its_own_midnight(bench):
    run(bench, 23)
    wh = bench.meter.energy.import_wh
    bench.restart(off_s=2 * HOUR_S)
    run(bench, 1)
    (day,) = bench.records("day")
    assert day["end_utc_s"] == MIDNIGHT_UTC_S + DAY_S
    assert wh - 20 <= day["import_wh"] <= wh + 20  # a step of the test is 16 Wh
    assert day["supply_min"] == pytest.approx(23 * 60, abs=16)
    assert bench.meter.profiles.day.start_utc_s == MIDNIGHT_UTC_S + DAY_S


def test_days_without_supply_are_the_span_of_the_day_before_them(bench):
    run(bench, 20)
    bench.restart(off_s=3 * DAY_S)
    run(bench, 1)
    (day,) = bench.records("day")
    assert (day["end_utc_s"] - day["start_utc_s"] + 60) // DAY_S == 3
    assert (day["end_utc_s"] - MIDNIGHT_UTC_S) % DAY_S == 0
    assert day["supply_min"] == pytest.approx(20 * 60, abs=16)
    starts = [load["start_utc_s"] for load in bench.records("load")]
    assert starts == sorted(set(starts))
    assert len(starts) <= 40 + 3


def test_an_unknown_time_closes_nothing_and_its_energy_makes_no_demand(bench):
    run(bench, 20, 300)
    bench.restart(off_s=600, time_known=False)
    run(bench, 10, 6000)
    bench.restart(off_s=60, time_known=False)
    loads = len(bench.records("load"))
    run(bench, 1, 6000)
    assert len(bench.records("load")) == loads
    assert not bench.records("day")
    assert bench.meter.set_time(bench.utc_s * 1000)
    run(bench, 1, 300)
    (undated,) = [load for load in bench.records("load") if load["length_s"] == 0]
    assert undated["energy_wh"] >= 10 * 6000 - 200
    assert undated["supply_s"] >= 10 * HOUR_S
    (day,) = bench.records("day")
    assert day["demand_max_w"] == pytest.approx(300, abs=8)
    # Not a midnight: energy of the time after it is in this day.
    assert day["end_utc_s"] == pytest.approx(bench.utc_s - HOUR_S, abs=61)
    assert bench.meter.profiles.day.start_utc_s == day["end_utc_s"]
    run(bench, 24, 300)
    assert bench.records("day")[-1]["end_utc_s"] == MIDNIGHT_UTC_S + 2 * DAY_S
    total = 0
    for load in bench.records("load"):
        total += load["energy_wh"]
        assert load["import_wh"] == total


def test_a_short_boot_without_the_time_takes_its_interval_out_of_the_demand(bench):
    run(bench, 2, 300)
    bench.run(300, 300, 60)
    bench.restart(off_s=3 * HOUR_S, time_known=False)
    bench.run(600, 300, 60)
    bench.restart(off_s=60)  # the clock chip answers again
    run(bench, 1, 300)
    (undated,) = [load for load in bench.records("load") if load["length_s"] == 0]
    assert undated["supply_s"] <= 1800
    assert undated["start_utc_s"] == MIDNIGHT_UTC_S + 2 * HOUR_S


def test_a_time_that_comes_inside_the_interval_dates_it(bench):
    run(bench, 2)
    bench.run(300, 960, 60)
    bench.restart(off_s=60, time_known=False)
    bench.run(300, 960, 60)
    assert bench.meter.set_time(bench.utc_s * 1000)
    run(bench, 1)
    assert all(load["length_s"] == 1800 for load in bench.records("load"))


def test_a_clock_set_back_inside_an_interval_makes_no_demand_of_it(bench):
    run(bench, 2)
    bench.run(1500, 3000, 60)
    bench.utc_s -= 1200
    assert bench.meter.set_time(bench.utc_s * 1000)
    run(bench, 1, 60)
    odd = [load for load in bench.records("load") if load["length_s"] == 0]
    assert len(odd) == 1
    assert odd[0]["supply_s"] > 1800
    assert bench.meter.live()["demand_max_w"] == pytest.approx(960, abs=40)


def test_a_clock_that_was_a_year_ahead_gives_new_days_under_the_right_time(make_bench):
    bench = make_bench(MIDNIGHT_UTC_S + 365 * DAY_S, sample_period_ms=60_000)
    run(bench, 5)
    bench.utc_s -= 365 * DAY_S
    bench.order("c-1", 1, "clock", utc_s=bench.utc_s)
    assert bench.meter.set_time(bench.utc_s * 1000)
    run(bench, 30)
    wrong, right = bench.records("day")
    assert wrong["end_utc_s"] == wrong["start_utc_s"]
    assert wrong["energy_wh"] > 0
    assert right["start_utc_s"] < MIDNIGHT_UTC_S + 6 * HOUR_S
    assert right["end_utc_s"] == MIDNIGHT_UTC_S + DAY_S
    assert wrong["energy_wh"] + right["energy_wh"] == pytest.approx(right["import_wh"], abs=20)


def test_the_month_keeps_its_maximum_over_power_cuts_and_starts_anew(make_bench):
    bench = make_bench(
        FEBRUARY_UTC_S - 3 * DAY_S, sample_period_ms=60_000, opening_balance_mp=10**9
    )
    run(bench, 10, 300)
    run(bench, 1, 2400)
    most = bench.meter.live()["demand_max_w"]
    when = bench.meter.live()["demand_max_utc_s"]
    assert most == pytest.approx(2400, abs=40)
    for _ in range(4):
        bench.restart(off_s=1800)
        run(bench, 9, 600)
        live = bench.meter.live()
        assert (live["demand_max_w"], live["demand_max_utc_s"]) == (most, when)
    run(bench, 30, 600)
    (month,) = bench.records("billing")
    assert month["end_utc_s"] == FEBRUARY_UTC_S
    assert (month["demand_max_w"], month["demand_max_utc_s"]) == (most, when)
    assert month["power_failures"] == 4
    assert month["supply_min"] == pytest.approx(3 * 1440 - 4 * 30, abs=4 * 16)
    (period,) = [record for record in bench.records("period") if record["charge_mp"]]
    assert month["import_wh"] == period["end_wh"]
    assert bench.meter.live()["demand_max_w"] == pytest.approx(600, abs=8)
    order = [record["type"] for record in bench.records() if record["seq"] > month["seq"] - 3]
    assert order[:4] == ["load", "day", "billing", "period"]


def test_supply_and_overload_of_the_running_interval_survive_a_power_cut(make_bench):
    bench = make_bench(sample_period_ms=10_000, sanctioned_load_w=1000, opening_balance_mp=10**9)
    bench.run(900, 6000, 10)
    assert bench.order("s-1", 1, "settings", document={"live_period_s": 30})
    bench.meter.stop()  # a board that notices the end of the supply
    bench.restart(off_s=300)
    bench.run(660, 300, 10)
    (load,) = bench.records("load")
    assert load["supply_s"] == pytest.approx(1500, abs=10)
    assert load["over_load_s"] == pytest.approx(900, abs=10)


def test_intervals_of_15_minutes_by_order_begin_with_the_next_one_and_never_overlap(bench):
    run(bench, 2)
    bench.run(300, 960, 60)
    answer = bench.order("s-1", 1, "settings", document={"block_min": 15})
    assert answer["result"] == "accepted"
    bench.restart()
    run(bench, 2)
    bench.run(960, 960, 60)  # into the second quarter of a half hour
    assert bench.order("s-2", 2, "settings", document={"block_min": 30})["result"] == "accepted"
    run(bench, 3)
    loads = bench.records("load")
    lengths = [load["length_s"] for load in loads]
    assert lengths[:5] == [1800] * 5
    assert set(lengths[5:13]) == {900}
    assert lengths[-4:] == [1800] * 4
    for before, after in pairwise(loads):
        assert after["start_utc_s"] == before["start_utc_s"] + before["length_s"]
    for load in loads[1:]:
        assert load["energy_wh"] * 3600 / load["length_s"] == pytest.approx(960, abs=70)


@pytest.mark.parametrize("value", [0, 14, 20, 29, 31, 60, "30"])
def test_a_wrong_interval_is_refused_by_order(bench, value):
    answer = bench.order("s-1", 1, "settings", document={"block_min": value})
    assert (answer["result"], answer["field"]) == ("range", "block_min")
    assert bench.config.block_min == 30


def test_days_and_months_wait_for_a_flash_that_refuses_and_keep_their_midnight(make_bench, flash):
    bench = make_bench(FEBRUARY_UTC_S - 30 * HOUR_S, sample_period_ms=60_000)
    run(bench, 29)
    flash.refuses = errno.EIO
    run(bench, 1)
    wh = bench.meter.energy.import_wh
    run(bench, 2)
    flash.refuses = None
    run(bench, 1)
    day, month = bench.records("day")[-1], bench.records("billing")[-1]
    assert day["end_utc_s"] == month["end_utc_s"] == FEBRUARY_UTC_S
    assert day["import_wh"] == month["import_wh"] == pytest.approx(wh, abs=1)
    total = 0
    for load in bench.records("load"):
        total += load["energy_wh"]
        assert load["import_wh"] == total
    state = bench.meter.profiles.state()
    bench.restart()
    again = bench.meter.profiles.state()
    for volatile in ("supply_s", "over_load_s", "power_failures"):
        state.pop(volatile)
        again.pop(volatile)
    assert again == state


def test_an_hour_that_comes_twice_under_a_refusing_flash_is_counted_once(bench, flash):
    run(bench, 5)
    flash.refuses = errno.EIO
    bench.utc_s -= 2 * HOUR_S
    assert bench.meter.set_time(bench.utc_s * 1000)
    run(bench, 1)
    flash.refuses = None
    run(bench, 3)
    loads = bench.records("load")
    assert len([load for load in loads if load["length_s"] == 0]) >= 3
    assert sum(load["energy_wh"] for load in loads) == loads[-1]["import_wh"]


def test_the_log_tells_a_day_in_words(bench):
    run(bench, 25)
    (line,) = [line for line in bench.lines if " day " in line]
    assert "2026-01-05 00:01:00 to 2026-01-06 00:00:00" in line
    assert "in 1440 min max 9" in line
