"""Warnings, emergency credit and the bounds of a recharge, at the real meter and journal."""

import functools

import pytest

from host_tests.fakes.bench import HOUR_S, MIDNIGHT_UTC_S

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
