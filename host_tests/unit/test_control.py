"""Causes, holds and their records on a whole meter."""

import pytest

from host_tests.fakes.bench import HOUR_S, MIDNIGHT_UTC_S, Contact, PowerFailed

RUPEE_MP = 100000
DAY_S = 24 * HOUR_S
LATER = MIDNIGHT_UTC_S + 40 * DAY_S


@pytest.fixture
def make(make_bench):
    def made(**config):
        return make_bench(opening_balance_mp=0, sample_period_ms=60000, **config)

    return made


@pytest.fixture
def cut(make):
    """A meter that was cut for want of credit on Tuesday at 10:00."""
    bench = make()
    bench.run(36 * HOUR_S, step_s=30)
    assert not bench.contact.closed
    return bench


@pytest.fixture
def unfinished(make):
    """The same, but the power failed between the record and the pulse."""
    bench = make()
    bench.run(34 * HOUR_S - 60, step_s=30)
    bench.contact.power_fails = True
    with pytest.raises(PowerFailed):
        bench.run(120)
    bench.contact.power_fails = False
    assert bench.records("control")[-1]["reason"] == "credit"
    return bench


def opened_at(bench):
    """Local time, s of the day, of each event 301."""
    return [(event["utc_s"] + 19800) % DAY_S for event in bench.records("event", 301)]


def standing(bench):
    live = bench.meter.live()
    return live["causes"], live["state"], live["contact"]


def hold(bench):
    return bench.meter.live()["hold"]


def switch(bench, counter, state):
    return bench.order(f"s-{counter}", counter, "relay", state=state, expires_utc_s=LATER)


def test_causes_stand_apart_and_the_highest_is_in_force(cut):
    assert standing(cut) == (["credit"], "ready_for_reconnection", 0)
    switch(cut, 1, "disconnected")
    assert standing(cut) == (["order", "credit"], "disconnected", 0)
    cut.order("r-2", 2, amount_mp=5 * RUPEE_MP)
    assert standing(cut) == (["order"], "disconnected", 0)
    assert not cut.contact.closed
    switch(cut, 3, "connected")
    assert standing(cut) == ([], "connected", 1)
    assert cut.contact.closed
    told = [(r["reason"], r["standing"], r["contact"]) for r in cut.records("control")]
    assert told == [("credit", 16, 0), ("order", 17, 0), ("recharge", 1, 0), ("order", 0, 1)]


def test_a_cut_that_a_power_failure_left_undone_waits_for_the_next_window(unfinished):
    bench = unfinished
    bench.restart(off_s=7 * HOUR_S)
    bench.run(16 * HOUR_S, step_s=30)
    assert (hold(bench), bench.contact.closed) == ("window", 1)
    assert standing(bench) == ([], "connected", 1)
    assert "relay=closed hold=window cut>=2026-01-07 10:00:00" in bench.meter.status_line(False, 0)
    bench.run(2 * HOUR_S, step_s=30)
    assert [record["reason"] for record in bench.records("control")] == [
        "credit",
        "undone",
        "credit",
    ]
    assert (hold(bench), bench.contact.closed) == ("", 0)
    assert opened_at(bench) == [pytest.approx(10 * HOUR_S, abs=90)]


def test_a_cut_that_was_left_undone_waits_for_the_start_to_settle(unfinished):
    bench = unfinished
    bench.restart(off_s=60)
    bench.run(58)
    assert (hold(bench), bench.contact.closed) == ("start", 1)
    bench.run(4)
    assert not bench.contact.closed


def test_a_cut_that_was_left_undone_waits_for_the_time(unfinished):
    bench = unfinished
    bench.restart(off_s=60, time_known=False)
    bench.run(600)
    assert (hold(bench), bench.contact.closed) == ("time_unknown", 1)
    bench.meter.set_time(bench.utc_s * 1000)
    bench.run(2)
    assert not bench.contact.closed


def test_a_cut_that_was_left_undone_waits_for_the_sensor(unfinished):
    bench = unfinished
    bench.restart(off_s=60)
    bench.run(2)
    bench.fail_samples(600)
    assert (hold(bench), bench.contact.closed) == ("sensor_fault", 1)
    bench.run(2)
    assert not bench.contact.closed


def test_a_cut_that_was_left_undone_is_done_though_the_time_is_never_known_again(unfinished):
    bench = unfinished
    bench.restart(off_s=60, time_known=False)
    bench.run(80 * HOUR_S, 6000, step_s=30)
    assert len(bench.records("event", 1061)) == 1
    assert not bench.contact.closed


def test_a_cut_that_was_left_undone_and_is_paid_for_is_over(unfinished):
    bench = unfinished
    bench.restart(off_s=60)
    assert bench.order("r-1", 1, amount_mp=RUPEE_MP)["result"] == "accepted"
    bench.run(10)
    assert (standing(bench), bench.contact.closed) == (([], "connected", 1), 1)


def test_an_order_does_not_wait_for_what_a_cut_waits_for_and_leaves_no_cut_behind(unfinished):
    bench = unfinished
    bench.restart(off_s=7 * HOUR_S)
    bench.run(10)
    switch(bench, 1, "disconnected")
    bench.run(2)
    assert not bench.contact.closed
    bench.run(100)
    switch(bench, 2, "connected")
    bench.run(10)
    assert (hold(bench), bench.contact.closed) == ("window", 1)


def test_a_weld_that_gives_way_at_night_opens_in_the_next_window(make):
    bench = make()
    bench.contact.welded = True
    bench.run(37 * HOUR_S - 30, step_s=30)
    assert len(bench.records("event", 253)) == 1
    bench.run(60, step_s=30)
    pulses = bench.contact.operations
    assert pulses > 100
    bench.run(13 * HOUR_S, step_s=30)
    bench.contact.welded = False
    bench.run(8 * HOUR_S - 60, step_s=30)
    assert (hold(bench), bench.contact.closed) == ("window", 1)
    assert "relay=open(credit) fault=253 hold=window" in bench.meter.status_line(True, 0)
    assert bench.contact.operations == pulses
    bench.run(120, step_s=30)
    assert not bench.contact.closed
    assert opened_at(bench) == [pytest.approx(10 * HOUR_S, abs=90)]
    assert len(bench.records("event", 1064)) == 1


def test_a_gateway_that_is_silent_holds_the_cut_to_the_cap_and_then_gives_one_grace(make):
    bench = make(rules={"offline_debt_cap_mp": 10 * RUPEE_MP, "window_days": 127})
    bench.gateway_answers = False
    bench.run(2 * DAY_S, step_s=30)
    silent = bench.records("event", 1066)
    assert len(silent) == 1
    assert silent[0]["utc_s"] == pytest.approx(silent[0]["detail"] + DAY_S, abs=60)
    assert (hold(bench), bench.contact.closed) == ("server_down", 1)
    assert "hold=server_down" in bench.meter.status_line(False, 0)
    bench.run(7 * HOUR_S, 480, step_s=30)
    given = bench.records("event", 1065)
    assert [event["detail"] for event in given] == [DAY_S]
    assert given[0]["balance_mp"] == pytest.approx(-10 * RUPEE_MP, abs=RUPEE_MP)
    bench.run(3 * DAY_S, step_s=30)
    cut = bench.records("control")[0]
    assert cut["utc_s"] >= given[0]["utc_s"] + DAY_S
    assert len(bench.records("event", 1065)) == 1


def test_a_gateway_that_comes_back_is_told_and_one_grace_follows(make):
    bench = make()
    bench.gateway_answers = False
    bench.run(2 * DAY_S, step_s=30)
    bench.restart()
    bench.run(120, step_s=30)
    assert hold(bench) == "server_down"
    bench.gateway_answers = True
    bench.run(60, step_s=30)
    heard = bench.records("event", 1067)
    assert [event["detail"] for event in heard] == [pytest.approx(2 * DAY_S, abs=300)]
    given = bench.records("event", 1065)
    assert len(given) == 1 and bench.meter.live()["grace_s"] == pytest.approx(DAY_S, abs=90)
    bench.run(3 * DAY_S, step_s=30)
    assert bench.records("control")[0]["utc_s"] >= given[0]["utc_s"] + DAY_S


def test_that_a_silence_has_held_a_cut_outlasts_a_restart(make):
    """The silence ends in the grace of event 1061: a full one is still owed behind that."""
    bench = make()
    bench.run(60, step_s=30)
    assert len(bench.records("event", 1002)) == 1
    for code, detail in ((1066, bench.utc_s), (1003, 0), (1061, HOUR_S), (1067, DAY_S)):
        bench.meter.event(code, detail)
    owed_s = bench.meter.control.rule.earliest_s(bench.utc_s)
    assert owed_s == bench.utc_s + HOUR_S + DAY_S
    bench.restart(cause="soft")
    assert bench.meter.control.rule.earliest_s(bench.utc_s) == owed_s
    bench.run(2 * HOUR_S, step_s=30)
    assert len(bench.records("event", 1065)) == 1


def test_a_restart_is_no_silence(make):
    bench = make()
    bench.run(HOUR_S, step_s=30)
    bench.gateway_answers = False
    bench.restart(off_s=3 * DAY_S)
    bench.run(600, step_s=30)
    assert not bench.records("event", 1066)
    bench.gateway_answers = True
    bench.run(600, step_s=30)
    bench.run(2 * DAY_S, step_s=30)
    assert not bench.records("event", 1066)


def test_a_start_behind_a_long_silence_waits_for_the_gateway_before_it_cuts(make):
    bench = make()
    bench.run(12 * HOUR_S, step_s=30)
    bench.gateway_answers = False
    bench.run(13 * HOUR_S, step_s=30)
    bench.restart(off_s=33 * HOUR_S)  # Wednesday, 10:00
    bench.run(890, step_s=10)
    assert (hold(bench), bench.contact.closed) == ("start", 1)
    bench.run(60, step_s=10)
    assert (hold(bench), bench.contact.closed) == ("server_down", 1)
    bench.restart(off_s=60)
    bench.gateway_answers = True
    bench.run(120, step_s=10)
    assert len(bench.records("event", 1065)) == 1


def test_a_start_behind_a_long_silence_cuts_when_the_gateway_answers(make):
    bench = make()
    bench.run(25 * HOUR_S, step_s=30)
    bench.restart(off_s=33 * HOUR_S)
    bench.run(120, step_s=10)
    assert bench.contact.closed == 0


def test_warn_only_tells_once_what_it_would_have_done(make):
    bench = make(rules={"cut_mode": 0})
    bench.run(4 * DAY_S, step_s=60)
    told = bench.records("event", 1060)
    assert len(told) == 1
    assert (told[0]["utc_s"] + 19800) % DAY_S // HOUR_S == 10
    live = bench.meter.live()
    assert (live["would_cut"], live["hold"], live["contact"]) == (1, "warn_only", 1)
    assert live["earliest_cut_utc_s"] == 0
    bench.order("r-1", 1, amount_mp=5 * RUPEE_MP)
    assert bench.meter.live()["would_cut"] == 0


def test_days_behind_the_last_warning(make):
    bench = make(rules={"warned_days": 3, "window_days": 127})
    bench.run(60, step_s=30)
    warned_utc_s = bench.records("event", 1002)[0]["utc_s"]
    earliest_s = bench.meter.live()["earliest_cut_utc_s"]
    assert earliest_s == MIDNIGHT_UTC_S + 3 * DAY_S + 10 * HOUR_S
    bench.run(2 * DAY_S + 11 * HOUR_S, step_s=60)
    assert (hold(bench), bench.contact.closed) == ("warning", 1)
    bench.restart()
    bench.run(DAY_S, step_s=60)
    cut = bench.records("control")[0]
    assert cut["utc_s"] >= warned_utc_s + 3 * DAY_S
    assert cut["utc_s"] == pytest.approx(earliest_s, abs=60)


def test_a_warning_at_an_unknown_time_counts_from_when_it_is_known(make):
    bench = make(rules={"warned_days": 2, "window_days": 127, "grace_s": 0})
    bench.meter.journal.close()
    bench = make(folder="other", utc_s=None, rules={"warned_days": 2, "grace_s": 0})
    bench.utc_s = MIDNIGHT_UTC_S
    bench.run(600, step_s=60)
    assert hold(bench) == "time_unknown"
    bench.meter.set_time(bench.utc_s * 1000)
    known_utc_s = bench.utc_s
    bench.restart()
    bench.run(4 * DAY_S, step_s=60)
    assert bench.records("control")[0]["utc_s"] >= known_utc_s + 2 * DAY_S


def test_a_power_failure_gives_no_date_to_a_warning_at_an_unknown_time(make):
    bench = make(rules={"warned_days": 7, "window_days": 127, "grace_s": 0})
    bench.order("r-1", 1, amount_mp=20 * RUPEE_MP)
    bench.run(120, step_s=60)
    bench.meter.snapshot()
    bench.restart(off_s=10 * DAY_S, time_known=False)
    bench.run(HOUR_S, 12000, step_s=60)
    assert bench.records("event", 1002)[0]["time_valid"] == 0
    bench.restart(off_s=10, time_known=False)
    bench.meter.set_time(bench.utc_s * 1000)
    known_s = bench.utc_s
    bench.run(9 * DAY_S, step_s=60)
    assert bench.records("control")[0]["utc_s"] >= known_s + 7 * DAY_S


def test_credit_ends_at_the_floor(make):
    bench = make(rules={"floor_mp": -3 * RUPEE_MP})
    bench.run(60, step_s=30)
    assert bench.meter.live()["credit"] != "out_of_credit"
    bench.run(2 * HOUR_S, 480, step_s=30)
    told = bench.records("event", 1002)
    assert len(told) == 1 and told[0]["balance_mp"] <= -3 * RUPEE_MP
    assert bench.meter.live()["credit"] == "out_of_credit"
    owed_mp = -3 * RUPEE_MP - bench.meter.balance_mp()
    bench.order("r-1", 1, amount_mp=owed_mp)
    assert not bench.records("event", 1004)
    bench.order("r-2", 2, amount_mp=1)
    assert len(bench.records("event", 1004)) == 1


def test_a_share_of_the_debt_restores_once(make):
    bench = make(rules={"restore_percent": 50, "grace_s": HOUR_S, "window_days": 127})
    bench.run(HOUR_S, 480, step_s=30)
    bench.run(12 * HOUR_S, step_s=30)
    assert not bench.contact.closed
    debt_mp = -bench.meter.balance_mp()
    bench.order("r-1", 1, amount_mp=debt_mp // 2 - 1)
    assert not bench.contact.closed
    bench.restart()
    bench.order("r-2", 2, amount_mp=2)
    bench.look()
    assert bench.contact.closed
    assert bench.records("control")[-1]["reason"] == "partial"
    assert bench.meter.live()["grace_s"] == HOUR_S
    bench.run(24 * HOUR_S, step_s=30)
    assert not bench.contact.closed
    bench.order("r-3", 3, amount_mp=-bench.meter.balance_mp() * 3 // 4)
    assert not bench.contact.closed
    bench.order("r-4", 4, amount_mp=-bench.meter.balance_mp() + 1)
    assert bench.contact.closed


def test_a_long_unknown_time_is_no_free_supply(make):
    bench = make(
        rules={"undated_limit_h": 2, "undated_debt_cap_mp": RUPEE_MP, "grace_s": 3 * HOUR_S}
    )
    bench.restart(time_known=False)
    bench.run(HOUR_S + 600, 480, step_s=60)
    bench.restart(time_known=False)  # does not count anew
    bench.run(HOUR_S, step_s=60)
    told = bench.records("event", 1061)
    assert len(told) == 1 and told[0]["detail"] >= HOUR_S
    assert bench.contact.closed
    bench.run(HOUR_S + 120, step_s=60)
    assert not bench.contact.closed
    assert bench.records("control")[-1]["reason"] == "credit"


def test_a_power_failure_counts_as_grace_only_if_so_set(make):
    for counts in (0, 1):
        bench = make(folder=f"counts-{counts}", rules={"grace_counts_outage": counts})
        bench.run(600, step_s=30)
        left_s = bench.meter.live()["grace_s"]
        bench.restart(off_s=6 * HOUR_S)
        passed_s = left_s - bench.meter.live()["grace_s"]
        assert passed_s == pytest.approx(6 * HOUR_S if counts else 0, abs=900)
        grace_s = bench.meter.live()["grace_s"]
        bench.restart()
        assert bench.meter.live()["grace_s"] == pytest.approx(grace_s, abs=60)


@pytest.mark.parametrize("step_s", [5, 20, 60])
def test_a_grace_that_an_order_begins_between_two_samples_is_a_full_one(make, step_s):
    bench = make(rules={"grace_s": 3600, "window_start_min": 0, "window_end_min": 1440})
    bench.order("r-1", 1, amount_mp=RUPEE_MP)
    bench.run(600, step_s=step_s)
    bench.pass_ms(step_s * 800)
    bench.order("a-1", 2, "adjustment", entry="adjustment", amount_mp=-RUPEE_MP)
    bench.pass_ms(step_s * 200)
    bench.utc_s += step_s
    bench.meter.sample(6000, 0, step_s * 1000)
    bench.meter.tick(step_s * 1000)
    bench.run(3600 + step_s, step_s=step_s)
    begun_s, over_s = (bench.records("event", code)[-1]["utc_s"] for code in (1002, 1003))
    assert 3600 <= over_s - begun_s <= 3600 + step_s


def test_only_time_with_a_closed_contact_is_grace_also_between_two_samples(make):
    bench = make(rules={"grace_s": 3600})
    bench.run(300, step_s=60)
    grace_s = bench.meter.live()["grace_s"]
    for i in range(20):
        switch(bench, 2 * i + 1, "disconnected")
        bench.pass_ms(59_000)
        switch(bench, 2 * i + 2, "connected")
        bench.pass_ms(1000)
        bench.utc_s += 60
        bench.meter.sample(6000, 0, 60_000)
        bench.meter.tick(60_000)
    assert grace_s - 20 <= bench.meter.live()["grace_s"] < grace_s


def test_what_came_before_the_time_was_known_is_no_grace(make):
    bench = make(rules={"grace_s": 3600})
    bench.run(300, step_s=60)
    bench.restart(off_s=60, time_known=False)
    bench.run(300, step_s=60)
    grace_s = bench.meter.live()["grace_s"]
    bench.pass_ms(59_000)
    bench.meter.set_time((bench.utc_s + 59) * 1000)
    bench.pass_ms(1000)
    bench.utc_s += 60
    bench.meter.tick(60_000)
    assert bench.meter.live()["grace_s"] == grace_s


@pytest.mark.parametrize("told_by", ["gateway", "clock chip"])
def test_an_outage_before_a_grace_is_none_of_it(make, told_by):
    bench = make(rules={"grace_counts_outage": 1})
    bench.order("r-1", 1, amount_mp=RUPEE_MP)
    bench.run(120, step_s=60)
    bench.meter.snapshot()
    bench.restart(off_s=2 * DAY_S, time_known=False)
    bench.run(300, 6000, step_s=60)
    assert bench.records("event", 1002)[-1]["time_valid"] == 0
    if told_by == "gateway":
        bench.meter.set_time(bench.utc_s * 1000)
        bench.run(60, step_s=60)
    else:
        bench.restart(off_s=10)
    assert bench.meter.live()["grace_s"] >= DAY_S - 60


def test_an_outage_is_taken_off_a_grace_once(make):
    bench = make(rules={"grace_counts_outage": 1})
    bench.run(300, step_s=60)
    grace_s = bench.meter.live()["grace_s"]
    with bench.power_fails_before("event", 102):
        for off_s in (4 * HOUR_S, 2, 2):
            with pytest.raises(PowerFailed):
                bench.restart(off_s)
    bench.restart(off_s=2)
    assert grace_s - 4 * HOUR_S - 400 <= bench.meter.live()["grace_s"] <= grace_s - 4 * HOUR_S


def test_a_share_of_the_debt_is_one_of_all_that_is_owed(make):
    bench = make(rules={"emergency_limit_mp": 50 * RUPEE_MP, "restore_percent": 50})
    bench.run(60)
    assert bench.meter.take_emergency("button")
    while bench.contact.closed:
        bench.run(60, 900, step_s=60)
    owed_mp = -bench.meter.balance_mp()
    assert owed_mp > 60 * RUPEE_MP
    beyond_mp = owed_mp - 50 * RUPEE_MP
    bench.order("r-1", 1, amount_mp=beyond_mp * 3 // 4)
    assert not bench.contact.closed
    bench.order("r-2", 2, amount_mp=beyond_mp // 4 + RUPEE_MP)  # above its end again
    bench.run(10)
    assert bench.contact.closed


def test_tamper_cuts_if_so_set_and_only_the_utility_lifts_it(make):
    bench = make(rules={"tamper_cut": 1})
    bench.order("r-1", 1, amount_mp=5 * RUPEE_MP)
    bench.magnet.level = 1
    bench.run(90, step_s=1)
    assert bench.contact.closed
    bench.cover.level = 1
    bench.run(10, step_s=1)
    assert standing(bench) == (["tamper"], "disconnected", 0)
    bench.order("r-2", 2, amount_mp=5 * RUPEE_MP)
    bench.cover.level = 0
    bench.run(60, step_s=1)
    bench.restart()
    assert not bench.contact.closed
    bench.cover.level = 1
    bench.run(70, step_s=1)
    switch(bench, 3, "connected")
    bench.run(60, step_s=1)  # still open: it was known
    assert bench.contact.closed
    assert [r["reason"] for r in bench.records("control")] == ["tamper", "order"]


def test_a_cover_that_is_opened_at_the_start_is_cut_for_behind_it_even_after_a_restart(make):
    bench = make(rules={"tamper_cut": 1})
    bench.cover.level = 1
    bench.run(10, step_s=1)
    assert bench.contact.closed and bench.records("event", 251)
    bench.restart()
    bench.cover.level = 0
    bench.run(58, step_s=1)
    assert bench.contact.closed
    bench.run(5, step_s=1)
    assert not bench.contact.closed


@pytest.mark.parametrize("by", ["order", "setting"])
def test_a_cut_for_tamper_that_is_still_to_come_can_be_called_off(make, by):
    bench = make(rules={"tamper_cut": 1})
    bench.run(70)
    bench.fail_samples(300)
    bench.cover.level = 1
    bench.fail_samples(120)
    assert bench.records("event", 251) and bench.contact.closed
    if by == "order":
        assert switch(bench, 1, "connected")["result"] == "accepted"
    else:
        answer = bench.order("s-1", 1, "settings", document={"tamper_cut": 0})
        assert answer["result"] == "accepted"
    bench.cover.level = 0
    bench.run(300)
    assert (standing(bench), bench.contact.closed) == (([], "connected", 1), 1)
    bench.order("s-2", 2, "settings", document={"tamper_cut": 3})
    bench.run(300)
    assert bench.contact.closed  # it is over, and stays so


@pytest.mark.parametrize("by", ["order", "configuration"])
def test_a_cover_that_was_opened_before_it_was_to_be_cut_for_is_not_cut_for(make, by):
    bench = make()
    bench.run(120)
    bench.cover.level = 1
    bench.run(5, step_s=1)
    bench.cover.level = 0
    bench.run(5, step_s=1)
    assert bench.records("event", 251)
    if by == "order":
        bench.order("s-1", 1, "settings", document={"tamper_cut": 1})
    else:
        bench.configure(rules={"tamper_cut": 1})
        bench.restart(off_s=10)
    bench.run(300)
    assert bench.contact.closed and not bench.records("control")
    bench.cover.level = 1
    bench.run(10, step_s=1)
    assert standing(bench)[0] == ["tamper"]


@pytest.mark.parametrize("by", ["order", "console"])
def test_nothing_is_cut_before_the_meter_is_in_service(make, by):
    bench = make(commissioning=1, rules={"tamper_cut": 1})
    bench.cover.level = 1
    bench.run(3 * DAY_S, step_s=60)
    assert (hold(bench), bench.contact.closed) == ("", 1)
    assert not bench.records("event", 1002)  # nobody is there who could be warned
    if by == "order":
        assert switch(bench, 1, "commissioned")["result"] == "accepted"
        assert switch(bench, 2, "commissioned")["result"] == "accepted"
    else:
        bench.meter.control.commission()
    assert len(bench.records("event", 1068)) == 1
    bench.restart()
    bench.run(120, step_s=60)
    assert len(bench.records("event", 1002)) == 1
    bench.run(DAY_S - 120, step_s=60)
    assert bench.contact.closed
    bench.run(DAY_S, step_s=60)
    assert standing(bench)[0] == ["credit"]


@pytest.mark.parametrize("by", ["order", "configuration"])
def test_who_was_only_warned_gets_a_grace_before_the_first_cut(make, by):
    bench = make(rules={"cut_mode": 0, "window_days": 127})
    bench.run(15 * DAY_S + 11 * HOUR_S, step_s=60)
    assert bench.records("event", 1060) and len(bench.records("event", 1002)) == 1
    if by == "order":
        answer = bench.order("s-1", 1, "settings", document={"cut_mode": 1})
        assert answer["result"] == "accepted"
    else:
        bench.configure(rules={"cut_mode": 1, "window_days": 127})
        bench.restart(off_s=5)
    bench.run(60, step_s=60)
    assert len(bench.records("event", 1002)) == 2
    bench.restart(cause="soft")
    bench.run(23 * HOUR_S, step_s=60)
    assert bench.contact.closed
    bench.run(DAY_S, step_s=60)
    assert standing(bench)[0] == ["credit"]


def test_many_short_power_cuts_behind_a_silent_gateway_are_no_free_supply(make):
    bench = make(rules={"offline_debt_cap_mp": 10 * RUPEE_MP, "window_days": 127})
    bench.run(HOUR_S, step_s=30)
    bench.gateway_answers = False
    for _ in range(5 * 24 * 60 // 15):
        bench.run(14 * 60, 480, step_s=30)
        bench.restart(off_s=60)
    assert len(bench.records("event", 1065)) == 1
    assert "credit" in [record["reason"] for record in bench.records("control")]


def test_an_order_that_could_not_be_decided_holds_the_cut_for_a_while(make):
    bench = make()
    bench.run(34 * HOUR_S - 60, step_s=30)
    bench.meter.control.order_lost()
    bench.run(5 * 60, step_s=30)
    assert (hold(bench), bench.contact.closed) == ("order", 1)
    bench.meter.control.order_lost()  # whoever sends nonsense holds it once a day
    bench.run(6 * 60, step_s=30)
    assert not bench.contact.closed


def test_a_broken_sensor_holds_the_cut(make):
    bench = make()
    bench.run(33 * HOUR_S, step_s=30)
    bench.fail_samples(2 * HOUR_S)
    assert (hold(bench), bench.contact.closed) == ("sensor_fault", 1)
    bench.run(120, step_s=30)
    assert not bench.contact.closed


def test_a_start_holds_the_cut_for_a_minute(make):
    bench = make()
    bench.run(33 * HOUR_S, step_s=30)
    bench.restart(off_s=2 * HOUR_S)
    bench.run(58, step_s=1)
    assert (hold(bench), bench.contact.closed) == ("start", 1)
    bench.run(3, step_s=1)
    assert not bench.contact.closed


def test_no_grace_runs_while_a_contact_that_should_be_closed_is_not(make):
    bench = make()
    bench.run(HOUR_S, step_s=30)
    bench.contact.stuck = True
    bench.contact.closed = 0
    bench.run(120, step_s=30)
    assert len(bench.records("event", 1063)) == 1
    left_s = bench.meter.live()["grace_s"]
    bench.run(2 * HOUR_S, step_s=30)
    assert bench.meter.live()["grace_s"] == left_s
    bench.contact.stuck = False
    bench.run(90, step_s=30)
    assert bench.contact.closed
    bench.run(HOUR_S, step_s=30)
    assert left_s - HOUR_S - 90 <= bench.meter.live()["grace_s"] <= left_s - HOUR_S


def test_a_test_that_is_cut_short_by_a_power_failure_has_ended_at_the_next_start(make):
    bench = make()
    bench.order("r-1", 1, amount_mp=5 * RUPEE_MP)
    bench.run(120, step_s=30)
    control = bench.meter.control
    assert control.begin(32, "test") == ""
    assert control.begin(32, "test") == "test"
    bench.meter.finish_operation()
    assert not bench.contact.closed
    bench.restart()
    bench.look()
    assert bench.contact.closed
    assert standing(bench) == ([], "connected", 1)
    bench.run(120, step_s=30)
    assert bench.meter.control.begin(32, "test") == ""
    bench.run(6, step_s=1)
    assert bench.contact.closed
    reasons = [r["reason"] for r in bench.records("control")]
    assert reasons == ["test", "ended", "test", "ended"]


# --- boards of other kinds ------------------------------------------------------------------------

KINDS = [(True, True), (True, False), (False, True), (False, False)]


@pytest.mark.parametrize(("latching", "aux"), KINDS)
@pytest.mark.parametrize(
    ("cause", "off_s"), [("power", 7 * HOUR_S), ("power", 1), ("soft", 1), ("watchdog", 1)]
)
@pytest.mark.parametrize("passed_s", [0, 2, 4])
def test_a_recharge_closes_whenever_the_power_failed_behind_a_cut(
    make, latching, aux, cause, off_s, passed_s
):
    bench = make(contact=Contact(latching, aux))
    bench.run(34 * HOUR_S - 60, step_s=60)
    while bench.contact.closed:
        bench.run(1)
    bench.run(passed_s)
    bench.restart(off_s, cause=cause)
    bench.run(20)
    assert bench.order("r-1", 1, amount_mp=RUPEE_MP)["result"] == "accepted"
    bench.run(1)
    assert bench.contact.closed
    bench.restart(60)
    bench.run(2)
    assert (standing(bench), bench.contact.closed) == (([], "connected", 1), 1)


@pytest.mark.parametrize(("latching", "aux"), KINDS)
@pytest.mark.parametrize("passed_s", [0, 2, 4])
def test_a_test_that_a_power_failure_cut_short_leaves_the_contact_closed(
    make, latching, aux, passed_s
):
    bench = make(contact=Contact(latching, aux))
    bench.run(100)
    assert bench.meter.control.test() == ""
    assert not bench.contact.closed
    bench.run(passed_s)
    bench.restart(1)
    bench.run(3)
    assert (standing(bench), bench.contact.closed) == (([], "connected", 1), 1)


@pytest.mark.parametrize("latching", [True, False])
def test_without_feedback_a_recharge_does_not_wait_for_the_witness_of_the_cut(make, latching):
    bench = make(contact=Contact(latching, aux=False), rules={"operation_min_s": 0})
    bench.run(34 * HOUR_S - 60, step_s=60)
    while bench.contact.closed:
        bench.run(1)
    bench.order("r-1", 1, amount_mp=RUPEE_MP)
    bench.run(1)
    assert bench.contact.closed


# --- clocks, feedback and files that were wrong ---------------------------------------------------


def test_a_warning_in_a_far_future_holds_no_cut_when_the_clock_is_right_again(make):
    right_utc_s = MIDNIGHT_UTC_S + 30 * HOUR_S
    bench = make(utc_s=MIDNIGHT_UTC_S + 3 * 365 * DAY_S)
    bench.run(30 * HOUR_S, step_s=30)
    assert bench.records("event", 1003)
    assert bench.order("c-1", 1, "clock", utc_s=right_utc_s)["result"] == "accepted"
    bench.utc_s = right_utc_s
    assert bench.meter.set_time(right_utc_s * 1000)
    bench.run(30)
    bench.restart(1)  # by its records
    bench.run(29 * HOUR_S, step_s=30)
    assert not bench.contact.closed
    assert opened_at(bench) == [pytest.approx(10 * HOUR_S, abs=90)]


@pytest.mark.parametrize("operation_min_s", [5, 120])
def test_a_broken_wire_of_the_feedback_is_no_free_supply(make, operation_min_s):
    bench = make(rules={"operation_min_s": operation_min_s})
    bench.contact.feedback = 0
    bench.run(3 * DAY_S, 300, step_s=30)
    assert not bench.contact.closed
    assert opened_at(bench)


def test_the_calendar_of_the_configuration_counts_at_each_start_until_one_is_ordered(make):
    def document(name, *holidays):
        window = [[127, 600, 780]]
        return {"v": 1, "id": name, "windows": window, "holidays": list(holidays)}

    def name():
        return bench.meter.live()["calendar"]

    bench = make(calendar=document("first"))
    bench.run(HOUR_S, step_s=30)
    bench.configure(calendar=document("second", "2026-01-06"))
    bench.restart(60)
    assert name() == "second"
    bench.run(36 * HOUR_S, step_s=30)
    assert bench.contact.closed
    bench.configure(calendar=None)
    bench.restart(60)
    assert name() == ""
    bench.order("k-1", 1, "calendar", document=document("ordered"))
    bench.configure(calendar=document("third"))
    bench.restart(60)
    assert name() == "ordered"
    bench.order("k-2", 2, "calendar", document=None)
    bench.meter.snapshot()
    bench.restart(60)
    assert name() == ""


def test_a_silent_gateway_is_told_though_no_boot_is_as_long_as_that(make):
    bench = make(rules={"offline_debt_cap_mp": 1000 * RUPEE_MP, "undated_limit_h": 720})
    bench.run(300, 60, step_s=30)
    bench.gateway_answers = False
    bench.restart(off_s=60, time_known=False)
    for _ in range(3):
        bench.run(20 * HOUR_S, 300, step_s=60)
        bench.restart(off_s=HOUR_S, time_known=False)
    assert len(bench.records("event", 1066)) == 1
