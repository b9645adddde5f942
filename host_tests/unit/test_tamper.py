"""Signs of tampering and the mode of a reversed current, on the real meter and journal."""

import pytest

from host_tests.fakes.bench import HOUR_S

VOLTS, AMPERES = 240, 4_000_000  # uA


@pytest.fixture
def bench(make_bench):
    return make_bench()


def story(bench):
    """(code, detail) of the events of tampering so far."""
    codes = (51, 52, 201, 202, 251, 1050, 1051, 1052)
    return [(r["code"], r["detail"]) for r in bench.records("event") if r["code"] in codes]


def modes(bench):
    return [r["code"] for r in bench.records("event") if r["code"] in (213, 214)]


def cut_off(bench, counter=1):
    expires_utc_s = bench.utc_s + 60
    bench.order(
        f"off-{counter}", counter, "relay", state="disconnected", expires_utc_s=expires_utc_s
    )
    bench.run(5)
    assert not bench.contact.closed


def test_a_reversed_current_is_tamper_where_it_counts_as_import(bench):
    bench.feed(60, VOLTS, AMPERES)
    bench.feed(60, VOLTS, -AMPERES)
    assert story(bench) == []
    bench.feed(1, VOLTS, -AMPERES)
    assert story(bench) == [(51, 0)]
    record = bench.records("event", 51)[0]
    assert (record["voltage_mv"], record["current_ma"]) == (240000, 4000)
    assert record["import_wh"] == bench.meter.energy.import_wh > 0
    bench.feed(100, VOLTS, -2 * AMPERES)
    bench.feed(60, VOLTS, 0)
    bench.feed(1, VOLTS, AMPERES)
    assert story(bench) == [(51, 0), (52, 8000)]
    assert "event 52 current flows forwards again (up to 8.000 A)" in "\n".join(bench.lines)


def test_below_the_creep_threshold_nothing_is_reversed(bench):
    bench.feed(HOUR_S, VOLTS, -22_000, step_s=2)  # creep is 25 mA
    assert story(bench) == []


def test_a_meter_that_counts_export_takes_a_reversed_current_for_what_it_is(make_bench):
    bench = make_bench(export_counts=1, sanctioned_load_w=900)
    bench.feed(HOUR_S, VOLTS, -AMPERES, step_s=2)
    assert story(bench) == []
    assert bench.meter.energy.export_wh == 960 - 1
    assert not bench.records("event", 215)  # what goes out is no load


def test_the_mode_is_told_at_the_first_start_and_when_it_changes(bench):
    assert modes(bench) == [213]
    bench.restart()
    assert modes(bench) == [213]
    values = bench._values
    bench._values = values.replace('"v": 1,', '"v": 1, "export_counts": 1,', 1)
    bench.restart()
    bench.restart()
    assert modes(bench) == [213, 214]
    bench._values = values
    bench.restart()
    assert modes(bench) == [213, 214, 213]


def test_current_past_an_open_contact_is_told_and_counted(bench):
    cut_off(bench)
    bench.feed(60, VOLTS, AMPERES, bypassed=True)
    assert story(bench) == []
    wh = bench.meter.energy.import_wh
    bench.feed(2, VOLTS, AMPERES, bypassed=True)
    assert story(bench) == [(1050, 0)]
    bench.feed(HOUR_S, VOLTS, AMPERES, step_s=2, bypassed=True)
    assert bench.meter.energy.import_wh >= wh + 959
    bench.feed(62, VOLTS, 0)
    assert story(bench) == [(1050, 0), (1051, 4000)]


def test_a_closed_contact_ends_it_and_a_welded_one_is_another_event(bench):
    cut_off(bench)
    bench.feed(70, VOLTS, AMPERES, bypassed=True)
    bench.order("on", 2, "relay", state="connected")
    bench.feed(70, VOLTS, AMPERES)
    assert [code for code, _detail in story(bench)] == [1050, 1051]
    bench.contact.welded = True
    expires_utc_s = bench.utc_s + 60
    bench.order("off-3", 3, "relay", state="disconnected", expires_utc_s=expires_utc_s)
    bench.feed(200, VOLTS, AMPERES)
    assert len(story(bench)) == 2
    assert len(bench.records("event", 253)) == 1


def test_cover_and_magnet_are_told_after_two_looks(bench):
    bench.run(3)
    for switch, began, over in ((bench.cover, 251, 1052), (bench.magnet, 201, 202)):
        before = story(bench)
        switch.level = 1
        bench.run(1)
        assert story(bench) == before
        switch.level = 0
        bench.run(1)
        switch.level = 1
        bench.run(1)
        assert story(bench) == before  # it bounces
        bench.run(1)
        assert story(bench) == [*before, (began, 0)]
        assert bench.meter.live()["standing"] == [began]
        bench.run(100)
        switch.level = 0
        bench.run(2)
        assert story(bench) == [*before, (began, 0), (over, 0)]


def test_openings_of_the_cover_are_counted_for_ever_and_not_told_twice(bench):
    bench.cover.level = 1
    bench.run(2)
    bench.restart()
    bench.run(10)
    assert [code for code, _detail in story(bench)] == [251]
    bench.cover.level = 0
    bench.restart()  # closed while nobody looked
    bench.run(2)
    assert [code for code, _detail in story(bench)] == [251, 1052]
    bench.cover.level = 1
    bench.restart()
    bench.run(2)
    assert bench.meter.live()["cover_openings"] == 2
    bench.restart()
    assert bench.meter.live()["cover_openings"] == 2


def test_the_cover_is_watched_while_the_sensor_is_silent(bench):
    bench.fail_samples(20)
    bench.cover.level = 1
    bench.fail_samples(3)
    assert [code for code, _detail in story(bench)] == [251]


def test_a_sensor_that_stops_ends_no_tamper(bench):
    bench.feed(61, VOLTS, -AMPERES)
    bench.fail_samples(200)
    assert story(bench) == [(51, 0)]
    bench.feed(61, VOLTS, AMPERES)
    assert [code for code, _detail in story(bench)] == [51, 52]
