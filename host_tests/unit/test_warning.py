"""Warnings, emergency credit and the bounds of a recharge, at the real meter and journal."""

import functools

import pytest

from host_tests.fakes.bench import HOUR_S, MIDNIGHT_UTC_S
from host_tests.fakes.documents import tariff_document

RUPEE_MP = 100000
NOON_UTC_S = MIDNIGHT_UTC_S + 12 * HOUR_S


@pytest.fixture
def make_bench(make_bench):
    # A long period, so that a test may run in long steps.
    return functools.partial(make_bench, sample_period_ms=60000)


def rules(**changes):
    return {"rules": {"low_credit_mp": 5 * RUPEE_MP, **changes}}


def codes(bench):
    return [event["code"] for event in bench.records("event") if event["code"] > 1000]


def consume_to(bench, balance_mp):
    while bench.meter.balance_mp() > balance_mp:
        bench.run(10, 6000)


def details(bench, code):
    return [event["detail"] for event in bench.records("event", code)]


# --- rupees, days and per cent -------------------------------------------------------------------


def test_percentages_of_the_last_recharge_are_told_once_each_and_again_after_a_recovery(make_bench):
    bench = make_bench(NOON_UTC_S, **rules(low_credit_mp=0), opening_balance_mp=0)
    bench.order("r-1", 1, amount_mp=100 * RUPEE_MP)
    consume_to(bench, 31 * RUPEE_MP)
    assert details(bench, 1006) == []
    consume_to(bench, 29 * RUPEE_MP)
    assert details(bench, 1006) == [30]
    assert bench.records("event", 1006)[0]["balance_mp"] <= 30 * RUPEE_MP
    bench.restart()
    consume_to(bench, 11 * RUPEE_MP)
    assert details(bench, 1006) == [30]
    consume_to(bench, 1 * RUPEE_MP)
    assert details(bench, 1006) == [30, 10]
    bench.order("r-2", 2, amount_mp=100 * RUPEE_MP)
    consume_to(bench, 2 * RUPEE_MP)
    assert details(bench, 1006) == [30, 10, 30, 10]
    consume_to(bench, 0)
    assert details(bench, 1006) == [30, 10, 30, 10]  # 0 % is event 1002
    assert len(details(bench, 1002)) == 1


def test_a_small_recharge_tells_the_lowest_percentage_only(make_bench):
    bench = make_bench(NOON_UTC_S, **rules(low_credit_mp=0), opening_balance_mp=-95 * RUPEE_MP)
    bench.order("r-1", 1, amount_mp=100 * RUPEE_MP)  # 5 are left
    assert details(bench, 1006) == [10]
    bench.run(60)
    assert details(bench, 1006) == [10]


def test_a_threshold_is_not_told_again_within_its_hysteresis(make_bench):
    bench = make_bench(NOON_UTC_S, **rules(low_credit_mp=50 * RUPEE_MP))
    consume_to(bench, 50 * RUPEE_MP)
    for counter, rupees, told in ((1, 4, 1), (2, 8, 2)):
        bench.order(f"j-{counter}", counter, "adjustment", entry="adjustment",
                    amount_mp=rupees * RUPEE_MP)  # fmt: skip
        bench.run(1)
        consume_to(bench, 50 * RUPEE_MP - 1000)
        assert details(bench, 1001) == [50 * RUPEE_MP] * told


def test_days_left_follow_from_the_last_days(make_bench):
    bench = make_bench(**rules(low_credit_mp=0), opening_balance_mp=100 * RUPEE_MP)
    hours = 0
    while not details(bench, 1007):
        bench.run(HOUR_S, 100, step_s=60)  # 2.4 kWh, 15.96 rupees a day
        hours += 1
        assert hours < 200
    daily_mp = bench.meter.profiles.mean_day()[1]
    told = bench.records("event", 1007)[0]
    assert daily_mp == pytest.approx(16 * RUPEE_MP, abs=RUPEE_MP)
    assert 2 * daily_mp < told["balance_mp"] <= 3 * daily_mp
    assert told["detail"] == told["balance_mp"] // daily_mp
    bench.restart()
    bench.run(5 * HOUR_S, 100, step_s=60)
    assert len(details(bench, 1007)) == 1
    other = make_bench(folder="off", **rules(low_days=0), opening_balance_mp=100 * RUPEE_MP)
    other.run(100 * HOUR_S, 100, step_s=60)
    assert not details(other, 1007)


def test_in_credit_mode_nothing_is_told_and_behind_it_all_of_it_anew(make_bench):
    bench = make_bench(NOON_UTC_S, **rules())
    consume_to(bench, 4 * RUPEE_MP)
    assert len(details(bench, 1001)) == 1
    bench.order("m-1", 1, "mode", mode="credit")
    consume_to(bench, -RUPEE_MP)
    bench.order("m-2", 2, "mode", mode="prepayment")
    bench.run(60)
    assert len(details(bench, 1001)) == 2


# --- cliffs --------------------------------------------------------------------------------------


def cliff_document(limit_kwh=3, **changes):
    """Up to a limit 1 rupee a kWh; beyond it all units cost 5."""
    line = {
        "name": "energy",
        "shape": "whole",
        "slabs": [
            {"up_to_kwh": limit_kwh, "rate_mp_per_kwh": RUPEE_MP},
            {"up_to_kwh": None, "rate_mp_per_kwh": 5 * RUPEE_MP},
        ],
    }
    return {**tariff_document(), "id": "cliff", "lines": [line], **changes}


def consume_kwh(bench, kwh):
    while bench.meter.energy.import_wh < kwh * 1000:
        bench.run(10, 6000)


def test_a_cliff_is_told_before_it_comes_with_what_it_costs(make_bench):
    config = rules(cliff_warn_kwh=1, low_credit_mp=0)
    bench = make_bench(NOON_UTC_S, **config, tariff=cliff_document())
    consume_kwh(bench, 1)
    assert details(bench, 1008) == []
    consume_kwh(bench, 2.2)
    told = bench.records("event", 1008)
    assert [event["detail"] for event in told] == [3 * 4 * RUPEE_MP]
    assert 2000 <= told[0]["import_wh"] <= 2100
    balance_mp = told[0]["balance_mp"]
    bench.restart()
    consume_kwh(bench, 3.2)
    assert len(details(bench, 1008)) == 1
    used_wh = bench.meter.energy.import_wh - told[0]["import_wh"]
    cost_mp = balance_mp - bench.meter.balance_mp()
    assert used_wh * 100 < cost_mp - 8 * RUPEE_MP  # what came before it was re-rated


def test_each_month_has_its_cliff_and_0_tells_none(make_bench):
    february_utc_s = 1769884200
    for kwh, told in ((1, 2), (0, 0)):
        config = rules(cliff_warn_kwh=kwh)
        bench = make_bench(
            february_utc_s - HOUR_S, f"month-{kwh}", **config, tariff=cliff_document(2)
        )
        bench.run(HOUR_S + 60, 2400)
        bench.run(HOUR_S, 2400)
        assert details(bench, 1008) == [2 * 4 * RUPEE_MP] * told


# --- emergency credit --------------------------------------------------------------------------


@pytest.fixture
def offering(make_bench):
    return make_bench(NOON_UTC_S, **rules(emergency_limit_mp=20 * RUPEE_MP))


def word(bench):
    return bench.meter.live()["emergency"]


def test_emergency_credit_is_offered_at_zero_and_taken_once(offering):
    bench = offering
    assert not bench.meter.take_emergency("button")
    assert word(bench) == "none"
    consume_to(bench, 0)
    assert word(bench) == "selectable"
    assert [event["detail"] for event in bench.records("event", 1005)] == [20 * RUPEE_MP]
    bench.restart()
    bench.run(60)
    assert codes(bench).count(1005) == 1
    assert bench.meter.take_emergency("button")
    assert not bench.meter.take_emergency("button")
    taken = bench.records("emergency")
    assert [(r["id"], r["counter"], r["limit_mp"]) for r in taken] == [("button", 0, 20 * RUPEE_MP)]
    assert codes(bench)[-1] == 1004  # the grace that had begun at zero has ended
    live = bench.meter.live()
    assert (live["emergency"], live["credit"]) == ("in_use", "low_credit")
    assert live["grace_s"] == 86400


def test_grace_begins_when_it_is_used_up_and_it_is_paid_back_first_and_offered_again(offering):
    bench = offering
    consume_to(bench, 0)
    bench.meter.take_emergency("console")
    begun = codes(bench).count(1002)
    consume_to(bench, -20 * RUPEE_MP)
    assert word(bench) == "consumed"
    assert codes(bench).count(1002) == begun + 1
    owed_mp = -bench.meter.balance_mp()
    bench.order("a-1", 1, "arrears", amount_mp=10 * RUPEE_MP, share_percent=100)
    clear_mp = bench.meter.live()["amount_to_clear_mp"]
    beyond_mp = owed_mp - 20 * RUPEE_MP  # of it no emergency credit: it comes behind the arrears
    assert clear_mp == 20 * RUPEE_MP + 10 * RUPEE_MP + beyond_mp + 1
    assert bench.order("r-1", 2, amount_mp=clear_mp)["balance_mp"] == 1
    assert word(bench) == "none"
    consume_to(bench, 0)
    assert word(bench) == "selectable"
    assert codes(bench).count(1005) == 2
    assert bench.meter.take_emergency("console")


def test_a_press_brings_a_cut_supply_back(offering):
    bench = offering
    consume_to(bench, 0)
    bench.run(48 * HOUR_S, 0, step_s=60)
    assert not bench.contact.closed
    assert bench.meter.take_emergency("button")
    bench.meter.finish_operation()
    assert bench.contact.closed
    bench.restart()
    assert bench.contact.closed


def test_it_is_not_offered_where_it_would_be_used_up_at_once(offering):
    bench = offering
    bench.order("j-1", 1, "adjustment", entry="adjustment", amount_mp=-120 * RUPEE_MP)
    assert (bench.meter.balance_mp(), word(bench)) == (-20 * RUPEE_MP, "none")
    assert not bench.meter.take_emergency("button")
    bench.order("r-1", 2, amount_mp=1)
    assert word(bench) == "selectable"
    assert len(bench.records("event", 1005)) == 1


@pytest.mark.parametrize("limit_mp", [0, 5])
def test_it_is_not_offered_in_credit_mode_nor_without_a_limit(make_bench, limit_mp):
    bench = make_bench(NOON_UTC_S, **rules(emergency_limit_mp=limit_mp))
    if limit_mp:
        bench.order("m-1", 1, "mode", mode="credit")
    consume_to(bench, 0)
    bench.run(60)
    assert not bench.meter.take_emergency("button")
    assert word(bench) == "none"
    assert 1005 not in codes(bench)


# --- LED and buzzer ----------------------------------------------------------------------------


def test_beeps_of_the_night_come_in_the_morning_and_the_loudest_counts(make_bench):
    bench = make_bench(MIDNIGHT_UTC_S + 23 * HOUR_S, **rules(emergency_limit_mp=RUPEE_MP))
    consume_to(bench, 0)
    warnings = bench.meter.warnings
    assert warnings.take_beeps(MIDNIGHT_UTC_S + 22 * HOUR_S) == 0
    assert warnings.take_beeps(MIDNIGHT_UTC_S + 7 * HOUR_S - 1) == 0
    assert warnings.take_beeps(MIDNIGHT_UTC_S + 7 * HOUR_S) == 5
    assert warnings.take_beeps(NOON_UTC_S) == 0


def test_beeps_are_heard_while_the_time_is_unknown(make_bench):
    bench = make_bench(opening_balance_mp=0)
    bench.restart(time_known=False)
    bench.run(2)
    assert bench.meter.warnings.take_beeps(None) >= 2


def test_the_lamp_is_dark_blinks_or_stays_on(make_bench):
    bench = make_bench(NOON_UTC_S, **rules())

    def lamp():
        bench.run(1)
        levels = [0]
        for _ in range(4):
            levels.append(bench.meter.warnings.lamp(levels[-1]))
        return levels[1:]

    assert lamp() == [0, 0, 0, 0]
    consume_to(bench, 4 * RUPEE_MP)
    assert lamp() == [1, 0, 1, 0]
    consume_to(bench, 0)
    assert lamp() == [1, 1, 1, 1]
    bench.order("m-1", 1, "mode", mode="credit")
    assert lamp() == [0, 0, 0, 0]


# --- bounds of a recharge ----------------------------------------------------------------------


def test_a_recharge_outside_the_bounds_is_refused_for_ever_and_changes_nothing(make_bench):
    bounds = rules(recharge_min_mp=50 * RUPEE_MP, balance_max_mp=300 * RUPEE_MP)
    bench = make_bench(NOON_UTC_S, **bounds)  # 100 rupees
    for counter, rupees, field in ((1, 49, "amount_mp"), (2, 201, "balance_mp")):
        answer = bench.order(f"r-{counter}", counter, amount_mp=rupees * RUPEE_MP)
        assert (answer["result"], answer["field"]) == ("range", field)
        assert answer["balance_mp"] == bench.meter.balance_mp() == 100 * RUPEE_MP
    assert bench.order("r-3", 3, amount_mp=200 * RUPEE_MP)["result"] == "accepted"
    bench.order("s-1", 4, "settings", document={"recharge_min_mp": 0, "balance_max_mp": 0})
    bench.restart()
    for counter, rupees in ((1, 49), (2, 201)):
        again = bench.order(f"r-{counter}", 9, amount_mp=rupees * RUPEE_MP)
        assert (again["result"], again["balance_mp"]) == ("range", 100 * RUPEE_MP)
    assert bench.order("r-5", 10, amount_mp=RUPEE_MP)["balance_mp"] == 301 * RUPEE_MP


def test_what_pays_arrears_does_not_count_for_the_highest_balance(make_bench):
    bench = make_bench(NOON_UTC_S, **rules(balance_max_mp=150 * RUPEE_MP))
    bench.order("a-1", 1, "arrears", amount_mp=50 * RUPEE_MP, share_percent=50)
    assert bench.order("r-1", 2, amount_mp=100 * RUPEE_MP)["balance_mp"] == 150 * RUPEE_MP
