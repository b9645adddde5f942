"""The limits of load and current and the charge of an excess, on the real meter and journal."""

import errno
import functools

import pytest

from firmware.core import events
from firmware.storage.errors import StorageError
from host_tests.fakes.bench import HOUR_S, MIDNIGHT_UTC_S, PowerFailed

DAY_S = 24 * HOUR_S
LOAD_W = 1200
HIGH_W, LOW_W = 2400, 600
LIMITED = {"limit_mode": 2, "limit_w": LOAD_W}
KW_MP = 50_00_000  # 50 rupees
NOON_UTC_S = MIDNIGHT_UTC_S + 26 * DAY_S + 12 * HOUR_S  # 2026-01-31 12:00 in India


def changes(bench):
    """(reason, contact) of the control records."""
    return [(record["reason"], record["contact"]) for record in bench.records("control")]


def codes(bench, *wanted):
    return [r["code"] for r in bench.records("event") if r["code"] in wanted]


@pytest.fixture
def limited(make_bench):
    bench = make_bench(**LIMITED)
    bench.run(60, LOW_W)  # a start trips nothing
    return bench


def test_a_load_above_the_limit_trips_and_recloses_by_itself(limited):
    limited.run(119, HIGH_W)
    assert changes(limited) == []
    limited.run(2, HIGH_W)
    assert changes(limited) == [("limiter", 0)]
    live = limited.meter.live()
    assert (live["state"], live["reason"]) == ("ready_for_reconnection", "limiter")
    assert live["causes"] == ["limiter"]
    assert not limited.contact.closed
    limited.run(118, HIGH_W)
    assert not limited.contact.closed
    limited.run(2, HIGH_W)
    assert limited.contact.closed
    assert changes(limited) == [("limiter", 0), ("ended", 1)]
    assert limited.meter.live()["state"] == "connected"


def test_no_recharge_recloses_it(limited):
    limited.run(121, HIGH_W)
    assert limited.order("r-1", 1, amount_mp=10_00_000)["result"] == "accepted"
    limited.run(60, HIGH_W)
    assert not limited.contact.closed


def test_the_utility_s_order_keeps_it_open_behind_its_end(limited):
    limited.run(121, HIGH_W)
    soon_utc_s = limited.utc_s + 60
    limited.order("d-1", 1, "relay", state="disconnected", expires_utc_s=soon_utc_s)
    limited.run(200, HIGH_W)
    assert changes(limited)[-1] == ("ended", 0)
    assert not limited.contact.closed
    limited.order("d-2", 2, "relay", state="connected")
    limited.run(10, LOW_W)
    assert limited.contact.closed


def test_too_many_trips_lock_out_also_over_a_restart(limited):
    for _ in range(3):
        limited.run(242, HIGH_W)
    limited.restart()
    limited.run(60, LOW_W)
    limited.run(122, HIGH_W)
    assert [reason for reason, _ in changes(limited)] == ["limiter", "ended"] * 3 + ["limiter"]
    event = limited.records("event", 1062)
    assert [record["detail"] for record in event] == [8]
    limited.run(200, HIGH_W)
    limited.restart()
    limited.run(97, HIGH_W)  # the lock-out runs on
    assert not limited.contact.closed
    limited.run(5, HIGH_W)
    assert limited.contact.closed


def test_trips_far_apart_do_not_come_together_over_a_restart(limited):
    for _ in range(4):
        limited.run(242, HIGH_W)
        limited.run(1800, LOW_W)
    limited.restart()
    limited.run(60, LOW_W)
    limited.run(242, HIGH_W)
    assert [reason for reason, _ in changes(limited)] == ["limiter", "ended"] * 5
    assert limited.records("event", 1062) == []


@pytest.fixture
def make_locked(make_bench):
    """Makes a bench that one trip locks out for two hours; it has lived for two minutes."""

    def make(**config):
        bench = make_bench(
            **LIMITED, limit_over_s=10, limit_attempts=1, limit_lockout_s=2 * HOUR_S, **config
        )
        bench.run(120, LOW_W)
        return bench

    return make


def open_for_s(bench, most_s=3 * DAY_S):
    """Seconds until the contact closes; nothing is drawn meanwhile."""
    for passed_s in range(0, most_s, 10):
        if bench.contact.closed:
            return passed_s
        bench.run(10, step_s=10)
    return most_s


@pytest.mark.parametrize("time_known", [True, False])
@pytest.mark.parametrize("every_s", [500, 960, 3000])
def test_a_lock_out_ends_though_the_power_fails_again_and_again(make_locked, time_known, every_s):
    bench = make_locked(sample_period_ms=10_000)
    bench.run(20, HIGH_W, step_s=10)
    tripped_s = bench.utc_s
    while not bench.contact.closed:
        bench.restart(off_s=2, time_known=time_known)
        open_for_s(bench, every_s)
        assert bench.utc_s - tripped_s < 2 * DAY_S
    lasted_s = bench.utc_s - tripped_s
    # Without a time each outage, and what was lived since the last checkpoint, is missing.
    assert 2 * HOUR_S - 20 <= lasted_s <= 2 * HOUR_S + 90 * (1 + 2 * HOUR_S // every_s)


@pytest.mark.parametrize("told_by", ["gateway", "clock chip"])
def test_an_outage_before_a_trip_is_none_of_its_lock_out(make_locked, told_by):
    bench = make_locked()
    bench.meter.snapshot()
    bench.restart(off_s=2 * DAY_S, time_known=False)
    bench.run(100, HIGH_W)
    assert codes(bench, 1062) == [1062]
    tripped_s = bench.utc_s - 100 + bench.records("event", 1062)[0]["up_s"]
    if told_by == "gateway":
        bench.meter.set_time(bench.utc_s * 1000)
    else:
        bench.restart(off_s=10)
    open_for_s(bench)
    assert 2 * HOUR_S <= bench.utc_s - tripped_s <= 2 * HOUR_S + 60


def test_an_outage_counts_once_though_the_power_fails_before_its_end_is_told(make_locked):
    bench = make_locked()
    bench.run(30, HIGH_W)
    locked_s = bench.records("event", 1062)[0]["utc_s"]
    with bench.power_fails_before("event", events.POWER_RESTORED):
        for off_s in (1500, 2, 2, 2):
            with pytest.raises(PowerFailed):
                bench.restart(off_s)
    bench.restart(off_s=2)
    assert not bench.contact.closed
    open_for_s(bench)
    assert 0 <= bench.utc_s - locked_s - 2 * HOUR_S <= 20


def test_a_flash_that_refuses_does_not_keep_a_limit_from_reclosing(make_locked, flash):
    bench = make_locked(trip_current_ma=20_000)
    while bench.contact.closed:
        bench.run(1, HIGH_W)
    flash.refuses = errno.EIO
    assert 2 * HOUR_S <= open_for_s(bench) <= 2 * HOUR_S + 20


def test_a_boot_whose_record_waits_for_the_flash_counts_once(make_locked, flash):
    bench = make_locked()
    bench.run(20, HIGH_W)
    tripped_s = bench.utc_s
    flash.refuses = errno.EIO
    bench.restart(time_known=False)
    bench.run(3000, step_s=10)
    flash.refuses = None
    bench.run(120, step_s=10)
    assert codes(bench, events.STORAGE_WRITES)
    bench.restart(time_known=False)
    open_for_s(bench)
    assert 2 * HOUR_S - 20 <= bench.utc_s - tripped_s <= 2 * HOUR_S + 90


def test_a_gap_in_the_samples_is_no_time_above_the_limit(make_locked):
    bench = make_locked()
    bench.run(1, HIGH_W)
    bench.run(15, HIGH_W, step_s=15)
    assert codes(bench, 1012) == [1012] and bench.contact.closed
    bench.run(9, HIGH_W)
    assert bench.contact.closed
    bench.run(2, HIGH_W)
    assert not bench.contact.closed


def test_a_trip_needs_a_sensor_that_works(limited):
    limited.run(100, HIGH_W)
    limited.fail_samples(300)
    assert changes(limited) == []
    limited.run(100, HIGH_W)
    assert changes(limited) == []
    limited.run(25, HIGH_W)
    assert changes(limited) == [("limiter", 0)]


def test_a_start_trips_nothing(make_bench):
    bench = make_bench(limit_over_s=1, **LIMITED)
    bench.run(55, HIGH_W)
    assert changes(bench) == []
    bench.run(10, HIGH_W)
    assert changes(bench) == [("limiter", 0)]


def test_current_trips_apart_from_load(make_bench):
    bench = make_bench(trip_current_ma=9_000)
    bench.run(60, LOW_W)
    bench.run(12, HIGH_W)
    assert changes(bench) == [("over_current", 0)]
    assert bench.meter.live()["reason"] == "over_current"


def test_a_limit_comes_by_order_and_goes(make_bench):
    bench = make_bench()
    bench.run(300, HIGH_W)
    assert changes(bench) == []
    bench.order("s-1", 1, "settings", document={"limit_mode": 2, "limit_w": LOAD_W})
    bench.run(121, HIGH_W)
    assert changes(bench) == [("limiter", 0)]
    bench.order("s-2", 2, "settings", document={"limit_mode": 0})
    bench.run(6, HIGH_W)
    assert bench.contact.closed


# --- excess load ---------------------------------------------------------------------------------


@pytest.fixture
def make_charged(make_bench):
    # A long period, so that a test may run in long steps.
    return functools.partial(
        make_bench,
        utc_s=NOON_UTC_S,
        sample_period_ms=60000,
        sanctioned_load_w=1000,
        limit_mode=1,
        excess_mp_per_kw=KW_MP,
        opening_balance_mp=10**9,
    )


def to_the_month_s_end(bench, power_w=LOW_W):
    """Runs into the first minutes of February."""
    bench.run(NOON_UTC_S + 12 * HOUR_S - bench.utc_s + 300, power_w, step_s=60)


def to_the_end_of_february(bench):
    """Without power until an hour before it, then into the first minutes of March."""
    bench.restart(off_s=NOON_UTC_S + 12 * HOUR_S + 28 * DAY_S - HOUR_S - bench.utc_s)
    bench.run(HOUR_S + 300, LOW_W, step_s=60)


def entries(bench):
    return [
        (record["id"], record["amount_mp"], record["counter"])
        for record in bench.records("credit")
        if record["kind"] == "adjustment"
    ]


def test_a_month_above_the_sanctioned_load_costs_each_kw_or_part_of_one(make_charged):
    bench = make_charged()
    bench.run(HOUR_S, HIGH_W, step_s=60)
    assert changes(bench) == []
    bench.run(60, 0, step_s=60)
    balance_mp = bench.meter.balance_mp()
    to_the_month_s_end(bench, 0)
    assert entries(bench) == [("excess-2026-01", -2 * KW_MP, 0)]  # 1.4 kW above it
    assert bench.meter.balance_mp() == balance_mp - 2 * KW_MP
    to_the_end_of_february(bench)
    assert len(bench.records("billing")) == 2
    assert len(entries(bench)) == 1  # February was below it


@pytest.mark.parametrize(
    "changed", [{"limit_mode": 0}, {"sanctioned_load_w": 0}, {"excess_mp_per_kw": 0}]
)
def test_without_a_price_a_load_or_the_mode_nothing_is_charged(make_charged, changed):
    bench = make_charged(**changed)
    bench.run(HOUR_S, HIGH_W, step_s=60)
    to_the_month_s_end(bench)
    assert entries(bench) == []


def test_power_that_fails_between_entry_and_month_charges_once(make_charged, monkeypatch):
    bench = make_charged()
    bench.run(HOUR_S, HIGH_W, step_s=60)
    journal = bench.meter.journal
    append = journal.append

    def fail_at_the_month(kind, *arguments):
        if kind == "billing":
            raise StorageError("flash", 5)
        return append(kind, *arguments)

    monkeypatch.setattr(journal, "append", fail_at_the_month)
    to_the_month_s_end(bench)
    assert len(entries(bench)) == 1
    assert bench.records("billing") == []
    bench.restart()
    bench.run(600, LOW_W, step_s=60)
    assert len(bench.records("billing")) == 1
    assert len(entries(bench)) == 1


def test_a_flash_that_refuses_gets_the_entry_later(make_charged, flash):
    bench = make_charged()
    bench.run(HOUR_S, HIGH_W, step_s=60)
    bench.run(11 * HOUR_S - 300, LOW_W, step_s=60)
    flash.refuses = errno.EIO
    bench.run(1200, LOW_W, step_s=60)
    assert entries(bench) == []
    flash.refuses = None
    bench.run(300, LOW_W, step_s=60)
    assert entries(bench) == [("excess-2026-01", -2 * KW_MP, 0)]
    assert len(bench.records("billing")) == 1


def test_a_month_in_which_the_account_changed_is_not_charged(make_charged):
    bench = make_charged()
    bench.run(HOUR_S, HIGH_W, step_s=60)
    assert bench.order("z-1", 1, "account", action="closed", document={})["result"] == "accepted"
    opening = {"account": "A-2", "balance_mp": 10**9}
    opened = bench.order("z-2", 2, "account", action="opened", document=opening)
    assert opened["result"] == "accepted"
    bench.restart()
    to_the_month_s_end(bench)
    assert entries(bench) == []
    bench.run(HOUR_S, HIGH_W, step_s=60)
    to_the_end_of_february(bench)
    assert [entry[0] for entry in entries(bench)] == ["excess-2026-02"]


def a_day_later(bench):
    bench.restart(off_s=DAY_S)
    bench.run(300, LOW_W, step_s=60)


def test_days_above_the_sanctioned_load_are_counted_by_the_month(make_charged):
    bench = make_charged(utc_s=NOON_UTC_S - 2 * DAY_S)
    days = lambda: bench.meter.live()["over_load_days"]  # noqa: E731
    bench.run(HOUR_S, LOW_W, step_s=60)
    assert days() == 0
    bench.run(120, HIGH_W, step_s=60)
    assert days() == 1
    a_day_later(bench)
    assert days() == 1
    bench.run(120, HIGH_W, step_s=60)
    assert days() == 2
    bench.restart()
    assert days() == 2
    a_day_later(bench)
    bench.restart()
    assert days() == 2
    to_the_month_s_end(bench)
    assert days() == 0
