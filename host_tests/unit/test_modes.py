"""Payment modes and arrears at the real meter: what a switch moves, and who may be cut."""

import functools

import pytest

from host_tests.fakes.bench import HOUR_S, MIDNIGHT_UTC_S

RUPEE_MP = 100000
DAY_S = 24 * HOUR_S
WARNINGS = {1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008}


@pytest.fixture
def make_bench(make_bench):
    # A long period, so that a test may run in long steps.
    return functools.partial(make_bench, sample_period_ms=60000)


@pytest.fixture
def bench(make_bench):
    return make_bench()  # 100 rupees at 6.65 a kWh, low below 50


def switch(bench, counter, mode, **members):
    answer = bench.order(f"m-{counter}", counter, "mode", mode=mode, **members)
    assert answer["result"] == "accepted"
    return answer


def codes(bench):
    return [event["code"] for event in bench.records("event")]


def consume(bench, hours, power_w=1200):
    bench.run(hours * HOUR_S, power_w, step_s=60)


def test_in_credit_mode_nobody_is_warned_or_cut_however_much_is_due(bench):
    switch(bench, 1, "credit")
    consume(bench, 5 * 24, 6000)
    live = bench.meter.live()
    assert live["due_mp"] == -live["balance_mp"] > 2000 * RUPEE_MP
    assert (live["mode"], live["credit"], live["state"]) == ("credit", "in_credit", "connected")
    assert not WARNINGS & set(codes(bench))
    assert not bench.records("control")
    assert codes(bench).count(211) == 1
    assert live["earliest_cut_utc_s"] == 0


def test_a_cut_supply_comes_back_at_the_switch_and_a_grace_ends(make_bench):
    bench = make_bench(opening_balance_mp=0)
    consume(bench, 40)
    assert not bench.contact.closed
    balance_mp = bench.meter.balance_mp()
    assert switch(bench, 1, "credit")["balance_mp"] == balance_mp
    assert bench.contact.closed
    relay = bench.records("control")[-1]
    assert (relay["state"], relay["reason"]) == ("connected", "mode")
    bench.restart()
    consume(bench, 60)
    assert bench.contact.closed

    other = make_bench(folder="grace", opening_balance_mp=0)
    consume(other, 2)
    assert other.meter.live()["grace_s"] < DAY_S
    switch(other, 1, "credit")
    live = other.meter.live()
    assert (live["grace_s"], live["earliest_cut_utc_s"]) == (DAY_S, 0)
    consume(other, 60)
    other.restart()
    assert other.contact.closed
    assert 1003 not in codes(other)


def test_an_order_to_disconnect_outlives_the_switch(make_bench):
    bench = make_bench(opening_balance_mp=0)
    consume(bench, 40)
    expires_utc_s = bench.utc_s + 60
    bench.order("d-1", 1, "relay", state="disconnected", expires_utc_s=expires_utc_s)
    switch(bench, 2, "credit")
    assert not bench.contact.closed
    bench.order("d-2", 3, "relay", state="connected")
    assert bench.contact.closed


def test_what_is_due_becomes_arrears_and_for_7_days_nobody_is_cut(bench):
    switch(bench, 1, "credit")
    consume(bench, 24)
    balance_mp = bench.meter.balance_mp()
    assert balance_mp < 0
    answer = switch(bench, 2, "prepayment", share_percent=25, per_day_mp=7)
    switched_s = bench.utc_s
    assert answer["balance_mp"] == 0
    live = bench.meter.live()
    assert (live["balance_mp"], live["arrears_mp"], live["due_mp"]) == (0, -balance_mp, 0)
    record = bench.records("mode")[-1]
    assert (record["amount_mp"], record["share_percent"]) == (-balance_mp, 25)
    event = bench.records("event", 212)[-1]
    assert event["detail"] == switched_s + 7 * DAY_S
    # Without credit the grace begins; the cut waits for the end of the hold and its window.
    bench.run(60)
    assert live["credit"] == "out_of_credit"
    cut_utc_s = bench.meter.live()["earliest_cut_utc_s"]
    assert switched_s + 7 * DAY_S <= cut_utc_s
    consume(bench, 3 * 24, 30)
    bench.restart()
    while bench.contact.closed:
        bench.run(600, 30, step_s=60)
    cut = bench.records("control")[-1]
    assert cut["utc_s"] == pytest.approx(cut_utc_s, abs=60)
    assert cut_utc_s - 8 * DAY_S == MIDNIGHT_UTC_S + 10 * HOUR_S


def test_a_credit_that_is_left_stays_and_nothing_becomes_arrears(bench):
    switch(bench, 1, "credit")
    consume(bench, 2)
    balance_mp = bench.meter.balance_mp()
    assert switch(bench, 2, "prepayment", share_percent=25)["balance_mp"] == balance_mp > 0
    assert bench.meter.live()["arrears_mp"] == 0


def test_with_an_unknown_time_the_7_days_begin_when_it_is_known(make_bench):
    bench = make_bench(opening_balance_mp=0)
    bench.restart(time_known=False)
    switch(bench, 1, "credit")
    switch(bench, 2, "prepayment")
    assert bench.records("event", 212)[-1]["detail"] == 0
    consume(bench, 200, 0)
    bench.restart(time_known=False)
    assert not bench.records("event", 1009)
    assert bench.meter.set_time(bench.utc_s * 1000)
    known_s = bench.utc_s
    bench.run(2)
    assert bench.records("event", 1009)[-1]["detail"] == pytest.approx(known_s + 7 * DAY_S, abs=2)
    consume(bench, 7 * 24 - 1, 0)
    assert bench.contact.closed
    consume(bench, 30, 0)
    assert not bench.contact.closed


def test_a_clock_set_back_by_a_year_does_not_hold_the_cut_for_a_year(make_bench):
    bench = make_bench(opening_balance_mp=0)
    switch(bench, 1, "credit")
    switch(bench, 2, "prepayment")
    bench.order("c-1", 3, "clock", utc_s=bench.utc_s - 365 * DAY_S)
    assert bench.meter.set_time((bench.utc_s - 365 * DAY_S) * 1000)
    bench.utc_s -= 365 * DAY_S
    bench.run(60)
    assert bench.records("event", 1009)[-1]["detail"] == pytest.approx(
        bench.utc_s + 7 * DAY_S, abs=60
    )


def test_the_mode_in_force_ordered_again_changes_nothing(bench):
    bench.run(60, 960)
    balance_mp = bench.meter.balance_mp()
    switch(bench, 1, "prepayment", share_percent=5)
    assert not bench.records("mode")
    assert bench.records("order")[-1]["result"] == "accepted"
    switch(bench, 2, "credit")
    switch(bench, 3, "credit")
    assert len(bench.records("mode")) == 1
    assert bench.meter.balance_mp() == balance_mp


def test_emergency_credit_ends_with_the_switch_and_is_not_granted_in_credit_mode(bench):
    bench.order("e-1", 1, "emergency", limit_mp=500 * RUPEE_MP)
    consume(bench, 24)
    balance_mp = bench.meter.balance_mp()
    assert balance_mp < 0
    switch(bench, 2, "credit")
    live = bench.meter.live()
    assert (live["due_mp"], live["emergency_limit_mp"]) == (-balance_mp, 0)
    answer = bench.order("e-2", 3, "emergency", limit_mp=1)
    assert (answer["result"], answer["field"]) == ("range", "limit_mp")


def test_each_switch_is_told_also_if_power_fails_behind_its_record(bench, monkeypatch):
    class PowerFailed(Exception):
        pass

    def failing(*_arguments, **_named):
        raise PowerFailed

    monkeypatch.setattr(bench.meter, "event", failing)
    with pytest.raises(PowerFailed):
        switch(bench, 1, "credit")
    bench.restart()
    bench.run(2)
    assert codes(bench).count(211) == 1
    assert bench.order("m-1", 1, "mode", mode="credit")["result"] == "accepted"
    assert len(bench.records("mode")) == 1


def test_arrears_at_once_are_taken_from_the_balance_which_may_fall_below_zero(bench):
    bench.order("a-1", 1, "arrears", amount_mp=30 * RUPEE_MP, share_percent=25)
    answer = bench.order("a-2", 2, "arrears", amount_mp=90 * RUPEE_MP, share_percent=0, at_once=1)
    assert answer["balance_mp"] == -20 * RUPEE_MP
    live = bench.meter.live()
    assert (live["balance_mp"], live["arrears_mp"]) == (-20 * RUPEE_MP, 0)
    assert live["aggregated_debt_mp"] == 20 * RUPEE_MP
    bench.restart()
    assert bench.meter.balance_mp() == -20 * RUPEE_MP
    assert bench.records("recovery")[-1]["balance_mp"] == -20 * RUPEE_MP


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"share_percent": 5, "per_day_mp": -1}, "per_day_mp"),
        ({"share_percent": 5, "per_day_mp": 10**10 + 1}, "per_day_mp"),
        ({"share_percent": 5, "at_once": 2}, "at_once"),
        ({"share_percent": 5, "at_once": True}, "at_once"),
        ({"share_percent": 101}, "share_percent"),
    ],
)
def test_a_wrong_member_of_arrears_is_named_and_nothing_changes(bench, members, field):
    answer = bench.order("a-1", 1, "arrears", amount_mp=RUPEE_MP, **members)
    assert (answer["result"], answer["field"]) == ("range", field)
    assert bench.meter.live()["arrears_mp"] == 0


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({}, "mode"),
        ({"mode": "postpaid"}, "mode"),
        ({"mode": "credit", "share_percent": 101}, "share_percent"),
        ({"mode": "credit", "per_day_mp": "5"}, "per_day_mp"),
    ],
)
def test_a_wrong_member_of_a_mode_is_named_and_nothing_changes(bench, members, field):
    answer = bench.order("m-1", 1, "mode", **members)
    assert (answer["result"], answer["field"]) == ("range", field)
    assert bench.meter.live()["mode"] == "prepayment"


def test_each_day_pays_its_part_of_the_arrears_while_there_is_credit(bench):
    answer = bench.order(
        "a-1", 1, "arrears", amount_mp=30 * RUPEE_MP, share_percent=0, per_day_mp=4 * RUPEE_MP
    )
    assert answer["balance_mp"] == 100 * RUPEE_MP
    consume(bench, 25, 0)
    assert bench.meter.live()["arrears_mp"] == 26 * RUPEE_MP
    bench.restart(off_s=3 * DAY_S)  # days without power count as well
    consume(bench, 1, 0)
    live = bench.meter.live()
    assert (live["arrears_mp"], live["balance_mp"]) == (14 * RUPEE_MP, 84 * RUPEE_MP)
    bench.restart(time_known=False)
    consume(bench, 48, 0)
    assert bench.meter.live()["arrears_mp"] == 14 * RUPEE_MP
    assert bench.meter.set_time(bench.utc_s * 1000)
    consume(bench, 1, 0)
    assert bench.meter.live()["arrears_mp"] == 6 * RUPEE_MP
    bench.order("j-1", 2, "adjustment", entry="adjustment", amount_mp=-75 * RUPEE_MP)
    consume(bench, 24, 0)
    live = bench.meter.live()
    assert (live["arrears_mp"], live["balance_mp"]) == (5 * RUPEE_MP, 0)
    consume(bench, 48, 0)
    assert bench.meter.live()["arrears_mp"] == 5 * RUPEE_MP
    assert live["aggregated_debt_mp"] == 5 * RUPEE_MP
    for tally in bench.records("tally"):
        assert tally["balance_mp"] >= 0


def test_without_daily_arrears_a_flat_tariff_writes_no_tallies(bench):
    bench.order("a-1", 1, "arrears", amount_mp=30 * RUPEE_MP, share_percent=10)
    consume(bench, 72, 0)
    assert not bench.records("tally")
