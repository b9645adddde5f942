"""The order that gives a meter a calendar: what it answers, keeps, and when it then cuts."""

import functools

import pytest

from firmware.core.config import ConfigError
from host_tests.fakes.bench import HOUR_S, MIDNIGHT_UTC_S

DAY_S = 24 * HOUR_S
NIGHTLY = {"v": 1, "id": "nightly", "windows": [[127, 120, 180]]}


@pytest.fixture
def make_bench(make_bench):
    # A long period, so that a test may run in long steps.
    return functools.partial(make_bench, sample_period_ms=60000, rules={"grace_s": 3600})


def cut_utc_s(bench, hours=5):
    """When the supply was cut for want of credit; None if it was not."""
    for _ in range(hours * 60):
        bench.run(60, 600, step_s=60)
        if not bench.contact.closed:
            return bench.records("control")[-1]["utc_s"]
    return None


def give(bench, counter, document, **members):
    return bench.order(f"g-{counter}", counter, "calendar", document=document, **members)


def test_a_calendar_counts_at_once_and_over_a_restart(make_bench):
    bench = make_bench(opening_balance_mp=0)
    bench.run(600, 600, step_s=60)
    assert bench.meter.live()["earliest_cut_utc_s"] == MIDNIGHT_UTC_S + 10 * HOUR_S
    assert give(bench, 1, NIGHTLY)["result"] == "accepted"
    live = bench.meter.live()
    assert live["calendar"] == "nightly"
    assert live["earliest_cut_utc_s"] == MIDNIGHT_UTC_S + 2 * HOUR_S
    bench.restart()
    assert bench.meter.live()["calendar"] == "nightly"
    assert 0 <= cut_utc_s(bench) - MIDNIGHT_UTC_S - 2 * HOUR_S < 120


def test_a_calendar_is_in_the_snapshot(make_bench):
    bench = make_bench()
    give(bench, 1, NIGHTLY)
    bench.meter.snapshot()
    bench.restart()
    assert bench.meter.live()["calendar"] == "nightly"
    assert bench.meter.control.calendar.is_open(MIDNIGHT_UTC_S + 2 * HOUR_S)


def test_null_goes_back_to_the_settings_also_from_the_configuration_s_calendar(make_bench):
    bench = make_bench(calendar=NIGHTLY)
    assert bench.meter.live()["calendar"] == "nightly"
    assert give(bench, 1, None)["result"] == "accepted"
    assert bench.records("calendar")[-1]["document"] == {}
    for _ in range(2):
        assert bench.meter.live()["calendar"] == ""
        bench.meter.snapshot()
        bench.restart()


def test_a_wrong_calendar_is_refused_by_its_field_and_changes_nothing(make_bench):
    bench = make_bench()
    give(bench, 1, NIGHTLY)
    for counter, document, field in (
        (2, {"v": 1, "id": "x", "windows": [[63, 780, 600]]}, "windows[0].end_min"),
        (3, {}, "v"),
        (4, [], "calendar"),
        (5, dict(NIGHTLY, holidays=["2026-02-30"]), "holidays[0]"),
    ):
        answer = give(bench, counter, document)
        assert (answer["result"], answer["field"]) == ("range", field)
        assert bench.meter.live()["calendar"] == "nightly"
    answer = bench.order("g-6", 6, "calendar")
    assert (answer["result"], answer["field"]) == ("range", "v")


def test_an_expired_calendar_is_not_taken(make_bench):
    bench = make_bench()
    answer = give(bench, 1, NIGHTLY, expires_utc_s=bench.utc_s - 1)
    assert answer["result"] == "expired"
    assert bench.meter.live()["calendar"] == ""


def test_a_repeated_order_gets_its_first_answer(make_bench):
    bench = make_bench()
    first = give(bench, 1, NIGHTLY)
    assert give(bench, 1, NIGHTLY) == first
    assert len(bench.records("calendar")) == 1


def test_a_configuration_with_a_wrong_calendar_is_refused(make_bench):
    with pytest.raises(ConfigError) as refusal:
        make_bench(calendar={"v": 1, "id": "x", "windows": []})
    assert refusal.value.field == "windows"
    with pytest.raises(ConfigError) as refusal:
        make_bench(calendar=[])
    assert refusal.value.field == "calendar"


def test_nobody_is_cut_on_a_holiday(make_bench):
    holidays = ["2026-01-06", "2026-01-07"]
    bench = make_bench(
        utc_s=MIDNIGHT_UTC_S + DAY_S,
        opening_balance_mp=0,
        calendar=dict(NIGHTLY, holidays=holidays),
    )
    assert cut_utc_s(bench) is None
    day = MIDNIGHT_UTC_S + 3 * DAY_S
    assert bench.meter.live()["earliest_cut_utc_s"] == day + 2 * HOUR_S
    bench.restart(off_s=day - HOUR_S - bench.utc_s)
    assert 0 <= cut_utc_s(bench) - day - 2 * HOUR_S < 120
