"""Quality of the supply and power failures, on the real meter and journal."""

import pytest

from firmware import meter as meter_module
from host_tests.fakes.bench import HOUR_S

VOLTS, AMPERES = 240, 4_000_000  # uA


@pytest.fixture
def bench(make_bench):
    return make_bench(sanctioned_load_w=5000)


def story(bench):
    """(code, detail) of the events of quality so far."""
    codes = (7, 8, 9, 10, 67, 68, 215, 216)
    return [(r["code"], r["detail"]) for r in bench.records("event") if r["code"] in codes]


@pytest.mark.parametrize(
    ("volts", "microamperes", "back", "events"),
    [
        (270, AMPERES, (VOLTS, AMPERES), [(7, 264000), (8, 270000)]),
        (180, AMPERES, (VOLTS, AMPERES), [(9, 184000), (10, 180000)]),
        (VOLTS, 38_000_000, (VOLTS, AMPERES), [(67, 37500), (215, 5000), (68, 38000), (216, 9120)]),
        (VOLTS, 25_000_000, (VOLTS, AMPERES), [(215, 5000), (216, 6000)]),
    ],
)
def test_an_event_after_a_minute_and_its_end_after_another(
    bench, volts, microamperes, back, events
):
    began = [event for event in events if event[0] % 2]
    bench.feed(3, VOLTS, AMPERES)
    bench.feed(60, volts, microamperes)
    assert story(bench) == []
    bench.feed(1, volts, microamperes)
    assert story(bench) == began
    for record in bench.records("event")[-len(began) :]:
        assert record["voltage_mv"] == volts * 1000
        assert record["current_ma"] == microamperes // 1000
        assert record["import_wh"] == bench.meter.energy.import_wh
    assert bench.meter.live()["standing"] == [code for code, _detail in began]
    bench.feed(HOUR_S, volts, microamperes, step_s=2)
    bench.feed(60, *back)
    assert story(bench) == began
    bench.feed(1, *back)
    assert [code for code, _detail in story(bench)] == [code for code, _detail in events]
    assert bench.meter.live()["standing"] == []


def test_the_log_says_limit_and_worst_value(bench):
    bench.feed(62, 270, AMPERES)
    bench.feed(70, 281, AMPERES)
    bench.feed(62, VOLTS, AMPERES)
    said = "\n".join(bench.lines)
    assert "event 7 over-voltage (above 264.000 V) kWh=" in said
    assert "event 8 over-voltage is over (up to 281.000 V) kWh=" in said


def test_values_inside_the_hysteresis_end_nothing_and_shorter_ones_begin_nothing(bench):
    for _ in range(5):
        bench.feed(59, 270, AMPERES)
        bench.feed(2, 264, AMPERES)
    assert story(bench) == []
    bench.feed(61, 270, AMPERES)
    bench.feed(200, 262, AMPERES)
    for _ in range(3):
        bench.feed(59, 260, AMPERES)
        bench.feed(2, 261, AMPERES)
    assert story(bench) == [(7, 264000)]


def test_without_supply_or_without_a_sensor_there_is_no_low_voltage(bench):
    bench.feed(HOUR_S, 0, 0, step_s=2)
    bench.fail_samples(200)
    assert bench.meter.energy.voltage_mv == 0
    assert [r["code"] for r in bench.records("event")][-1] == 1010
    bench.feed(40, 180, 0)
    bench.fail_samples(3)  # bridged as energy, and yet nobody has seen what was there
    bench.feed(60, 180, 0)
    bench.feed(HOUR_S, 80, 0, step_s=2)
    assert story(bench) == []
    bench.feed(61, 180, 0)
    bench.feed(HOUR_S, 0, 0, step_s=2)
    assert story(bench) == [(9, 184000)]
    bench.feed(61, VOLTS, 0)
    assert story(bench) == [(9, 184000), (10, 180000)]


def test_what_was_told_is_not_told_again_after_a_restart_and_ends_after_it(bench):
    bench.feed(61, 270, AMPERES)
    bench.restart()
    assert bench.meter.live()["standing"] == [7]
    bench.feed(HOUR_S, 270, AMPERES, step_s=2)
    assert story(bench) == [(7, 264000)]
    bench.restart()  # nobody sees the end
    bench.feed(61, VOLTS, AMPERES)
    assert [code for code, _detail in story(bench)] == [7, 8]
    bench.restart()
    assert bench.meter.live()["standing"] == []
    bench.feed(200, VOLTS, AMPERES)
    assert [code for code, _detail in story(bench)] == [7, 8]


def test_limits_come_by_order_and_count_at_once(bench):
    document = {"over_voltage_mv": 239000, "quality_persist_s": 5, "voltage_hysteresis_mv": 0}
    assert bench.order("s-1", 1, "settings", document=document)["result"] == "accepted"
    bench.feed(7, VOLTS, AMPERES)
    assert story(bench) == [(7, 239000)]
    bench.restart()
    bench.feed(7, 238, AMPERES)
    assert [code for code, _detail in story(bench)] == [7, 8]


def test_a_low_voltage_above_the_over_voltage_is_refused(bench):
    for number, document in enumerate(
        ({"low_voltage_mv": 264000}, {"over_voltage_mv": 184000}, {"over_voltage_mv": 19999}), 1
    ):
        answer = bench.order(f"s-{number}", number, "settings", document=document)
        assert (answer["result"], answer["field"]) == ("range", "over_voltage_mv")
    assert bench.config.over_voltage_mv == 264000
    assert not bench.records("settings")


def test_without_a_sanctioned_load_there_is_no_overload(bench):
    bench.feed(61, VOLTS, 25_000_000)
    bench.order("s-1", 1, "settings", document={"sanctioned_load_w": 0})
    bench.feed(HOUR_S, VOLTS, 25_000_000, step_s=2)
    assert [code for code, _detail in story(bench)] == [215, 216]


def test_a_log_that_takes_no_more_gets_the_occurrence_and_its_end_later(bench, monkeypatch):
    monkeypatch.setattr(meter_module, "_NOTES_MAX", 3)
    bench.restart()
    for _ in range(4):
        bench.feed(61, 270, AMPERES)
        bench.feed(61, VOLTS, AMPERES)
    limited = [code for code, _detail in story(bench)]
    assert len(limited) < 8
    bench.feed(3 * HOUR_S, VOLTS, AMPERES, step_s=2)
    codes = [code for code, _detail in story(bench)]
    assert codes[: len(limited)] == limited
    assert len(codes) > len(limited)
    assert codes == [7, 8] * (len(codes) // 2)
    assert bench.meter.live()["standing"] == []


# --- power failures ------------------------------------------------------------------------------


def failures(bench):
    return [
        (r["code"], r["detail"], r["utc_s"], r["time_valid"])
        for r in bench.records("event")
        if r["code"] in (101, 102, 1023)
    ]


def test_a_power_failure_is_told_from_the_last_moment_on_flash_to_the_start(bench):
    bench.run(HOUR_S, 960)
    bench.meter.stop()
    last_utc_s = bench.utc_s
    assert failures(bench) == []  # a new meter has had none
    bench.restart(off_s=7200)
    assert failures(bench) == [(101, 7200, last_utc_s, 1), (102, 7200, last_utc_s + 7200, 1)]
    assert bench.meter.live()["power_failures"] == 1
    bench.restart(cause="soft")
    assert len(failures(bench)) == 2
    assert bench.meter.live()["power_failures"] == 1
    bench.restart(off_s=60)
    assert bench.meter.live()["power_failures"] == 2
    assert "event 101 power failed" in "\n".join(bench.lines)


def test_a_length_that_was_not_known_is_told_when_the_time_is(bench):
    bench.run(HOUR_S, 960)
    bench.meter.stop()
    last_utc_s = bench.utc_s
    bench.restart(off_s=7200, time_known=False)
    assert failures(bench) == [(101, -1, last_utc_s, 1), (102, -1, last_utc_s, 0)]
    bench.run(300)
    assert len(failures(bench)) == 2
    assert bench.meter.set_time(bench.utc_s * 1000)
    bench.run(HOUR_S)
    assert failures(bench)[2:] == [(1023, 7200, last_utc_s + 7501, 1)]
    bench.restart(off_s=60)
    assert [failure[0] for failure in failures(bench)[3:]] == [101, 102]
