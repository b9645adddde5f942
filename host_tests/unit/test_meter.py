"""The meter as one object, with its real journal: what a consumer and a reviewer would ask."""

import json

import pytest

from firmware.core.config import Config, ConfigError
from firmware.link import codec
from firmware.storage.errors import JournalFull
from firmware.storage.journal import Journal
from host_tests.fakes.bench import HOUR_S, MIDNIGHT_UTC_S
from host_tests.fakes.documents import meter_config, tariff_document

RUPEE_MP = 100000


@pytest.fixture
def bench(make_bench):
    return make_bench()  # 100 rupees at 6.65 a kWh, low below 50


def exhaust(bench):
    """Consumes what is left, at about 6 kW."""
    while bench.meter.balance_mp() > 0:
        bench.run(10, 6000)


def local_hour(utc_s):
    return (utc_s - MIDNIGHT_UTC_S) / HOUR_S


def test_a_day_of_1_kw_is_24_kwh_and_costs_what_the_tariff_says(bench):
    bench.run(24 * HOUR_S, 960, step_s=2)
    wh = bench.meter.energy.import_wh
    assert abs(wh - 23040) <= 1
    assert bench.meter.balance_mp() == 100 * RUPEE_MP - wh * 665


def test_warned_once_per_crossing_then_grace_then_cut_in_the_window_then_reclosed(bench):
    exhaust(bench)
    assert len(bench.records("event", 1001)) == 1
    began = bench.records("event", 1002)[0]
    assert bench.contact.closed
    bench.run(40 * HOUR_S, 300, step_s=2)
    assert not bench.contact.closed
    announced = bench.records("event", 1003)[0]
    assert announced["utc_s"] - began["utc_s"] == pytest.approx(24 * HOUR_S, abs=3)
    cut = bench.records("control")[-1]
    assert (cut["contact"], cut["state"], cut["reason"]) == (0, "ready_for_reconnection", "credit")
    assert cut["utc_s"] == announced["detail"]
    assert local_hour(cut["utc_s"]) % 24 == 10
    answer = bench.order("r-1", 1, amount_mp=200 * RUPEE_MP)
    assert answer["result"] == "accepted"
    assert bench.contact.closed
    assert [event["code"] for event in bench.records("event")][-2:] == [301, 302]
    assert bench.contact.operations == 2


def test_no_cut_outside_the_window_whenever_the_money_ends(make_bench):
    for start_hour in range(0, 24, 3):
        start_utc_s = MIDNIGHT_UTC_S + start_hour * HOUR_S
        bench = make_bench(start_utc_s, f"from-{start_hour}", opening_balance_mp=0)
        bench.run(60 * HOUR_S, 0, step_s=2)
        cut = bench.records("control")[0]
        assert 10 <= local_hour(cut["utc_s"]) % 24 < 13
        assert cut["utc_s"] - bench.records("event", 1002)[0]["utc_s"] >= 24 * HOUR_S


def test_no_cut_and_no_grace_while_the_time_is_unknown(make_bench):
    bench = make_bench(opening_balance_mp=0)
    bench.restart(time_known=False)
    bench.run(72 * HOUR_S, 0, step_s=2)
    assert bench.contact.closed
    assert bench.meter.live()["time_valid"] == 0
    assert len(bench.records("event", 1021)) == 1
    left_s = bench.meter.live()["grace_s"]
    assert left_s >= 24 * HOUR_S - 2
    assert bench.meter.set_time(bench.utc_s * 1000)
    bench.run(48 * HOUR_S, 0, step_s=2)
    assert not bench.contact.closed


def test_a_power_cut_loses_no_recharge_and_at_most_the_energy_since_the_last_checkpoint(bench):
    bench.run(HOUR_S, 960)
    assert bench.order("r-1", 5, amount_mp=10 * RUPEE_MP)["result"] == "accepted"
    bench.run(HOUR_S, 960)
    before = bench.meter.live()
    bench.restart(off_s=600)
    after = bench.meter.live()
    assert after["import_wh"] == before["import_wh"]
    assert before["uncommitted_wh"] <= 10
    assert after["balance_mp"] == before["balance_mp"] + before["uncommitted_wh"] * 665
    assert bench.records("boot")[-1]["off_s"] in range(600, 600 + 901)


def test_grace_survives_restarts_and_does_not_run_without_power(make_bench):
    bench = make_bench(opening_balance_mp=0)
    bench.run(12 * HOUR_S, 0, step_s=2)
    bench.restart(off_s=48 * HOUR_S)
    assert 12 * HOUR_S <= bench.meter.live()["grace_s"] <= 12 * HOUR_S + 900
    bench.run(11 * HOUR_S, 0, step_s=2)
    assert bench.contact.closed


def test_a_cut_meter_stays_cut_over_a_restart_without_moving_the_contact(make_bench):
    bench = make_bench(opening_balance_mp=0)
    bench.run(36 * HOUR_S, 0, step_s=2)
    assert not bench.contact.closed
    operations = bench.contact.operations
    bench.restart(off_s=60)
    bench.run(60)
    assert not bench.contact.closed
    assert bench.contact.operations == operations


def test_a_cut_decided_but_not_done_before_the_power_failed_is_done_at_the_next_start(make_bench):
    bench = make_bench(opening_balance_mp=0)
    bench.run(36 * HOUR_S, 0, step_s=2)
    bench.contact.closed = 1
    bench.restart()
    bench.run(58)
    assert bench.contact.closed
    bench.run(4)
    assert not bench.contact.closed


def test_a_recharge_is_applied_once_and_a_repetition_gets_the_first_answer(bench):
    first = bench.order("r-1", 1, amount_mp=50 * RUPEE_MP)
    bench.run(600, 6000)
    again = bench.order("r-1", 1, amount_mp=50 * RUPEE_MP)
    under_a_new_counter = bench.order("r-1", 9, amount_mp=50 * RUPEE_MP)
    assert again == first
    assert under_a_new_counter["result"] == "accepted"
    assert under_a_new_counter["balance_mp"] == first["balance_mp"]
    assert sum(entry["amount_mp"] for entry in bench.records("credit")) == 150 * RUPEE_MP


def test_repetition_is_recognised_after_a_restart_and_many_other_recharges(bench):
    for number in range(1, 60):
        bench.order(f"r-{number}", number, amount_mp=RUPEE_MP)
    bench.restart()
    assert bench.order("r-1", 100, amount_mp=RUPEE_MP)["result"] == "accepted"
    assert len(bench.records("credit")) == 1 + 59


def test_an_unknown_id_with_a_used_counter_is_old_and_changes_nothing(bench):
    bench.order("r-1", 7, amount_mp=RUPEE_MP)
    before = bench.meter.journal.last_seq
    answer = bench.order("r-2", 7, amount_mp=RUPEE_MP)
    assert (answer["result"], answer["highest"]) == ("old", 7)
    assert bench.meter.journal.last_seq == before


@pytest.mark.parametrize("amount_mp", [0, -1, 10**10 + 1, "5", 1.5, True, None])
def test_an_amount_outside_its_range_is_answered_and_not_credited(bench, amount_mp):
    answer = bench.order("r-1", 1, amount_mp=amount_mp)
    assert (answer["result"], answer["field"]) == ("range", "amount_mp")
    assert bench.meter.balance_mp() == 100 * RUPEE_MP
    assert bench.order("r-1", 2, amount_mp=5)["result"] == "range"  # its first answer


def test_a_forged_order_is_counted_logged_and_leaves_no_trace_on_flash(bench, tmp_path):
    def image():
        return {file.name: file.read_bytes() for file in (tmp_path / "data").iterdir()}

    before = image()
    payload = codec.encode(
        {"v": 1, "meter": "JH-0001", "id": "x", "counter": 1, "kind": "recharge", "amount_mp": 5}
    )
    for message in (codec.sign(bytes(32), "JH-0001", payload), payload, b"", b"\xff" * 64):
        assert bench.meter.handle_order(message) is None
    assert image() == before
    assert bench.meter.orders.refused == 4
    assert not any(bench.config.key.hex() in line for line in bench.lines)


def test_a_new_tariff_prices_what_comes_and_leaves_what_was(bench):
    bench.run(HOUR_S, 960)
    wh = bench.meter.energy.import_wh
    balance_mp = bench.meter.balance_mp()
    document = {**tariff_document((None, 800000)), "id": "dear", "version": 2}
    assert bench.order("t-1", 1, "tariff", document=document)["result"] == "accepted"
    assert bench.meter.balance_mp() == balance_mp
    bench.run(HOUR_S, 960)
    assert bench.meter.balance_mp() == balance_mp - (bench.meter.energy.import_wh - wh) * 800
    bench.restart()
    assert bench.meter.live()["tariff"] == "dear"


def test_the_tariff_in_force_sent_again_closes_no_period(bench):
    document = {**tariff_document((1, 100000), (None, 900000)), "id": "slabs", "version": 2}
    bench.order("t-1", 1, "tariff", document=document)
    bench.run(2 * HOUR_S, 960)
    balance_mp, periods = bench.meter.balance_mp(), len(bench.records("period"))
    assert bench.order("t-2", 2, "tariff", document=document)["result"] == "accepted"
    assert len(bench.records("period")) == periods
    bench.run(HOUR_S, 960)  # goes on in the slab that was reached
    wh = bench.meter.energy.import_wh
    assert balance_mp - bench.meter.balance_mp() >= 950 * 900
    assert wh > 2000


def test_a_new_tariff_in_the_month_is_one_record_and_the_month_still_closes_once(make_bench):
    bench = make_bench(1769884200 - 3 * HOUR_S)  # 21:00 on 31 January
    bench.run(HOUR_S, 2400)
    seq = bench.meter.journal.last_seq
    document = {**tariff_document((1, 100000), (None, 900000)), "id": "slabs", "version": 2}
    bench.order("t-1", 1, "tariff", document=document)
    kinds = [record["type"] for record in bench.records() if record["seq"] > seq]
    assert kinds == ["tally", "tariff", "order"]
    bench.restart()
    bench.run(3 * HOUR_S, 960)
    closed = [record for record in bench.records("period") if record["charge_mp"]]
    assert len(closed) == 1
    assert closed[0]["start_wh"] > 1000  # the first slab was used up before it came into force
    assert closed[0]["charge_mp"] == (closed[0]["end_wh"] - closed[0]["start_wh"]) * 900
    assert closed[0]["start_wh"] == bench.records("tariff")[-1]["import_wh"]


def test_a_wrong_tariff_changes_nothing_but_the_counter(bench):
    document = {**tariff_document(), "currency": "EUR"}
    answer = bench.order("t-1", 1, "tariff", document=document)
    assert (answer["result"], answer["field"]) == ("range", "currency")
    assert bench.meter.live()["tariff_version"] == 1


def test_the_month_closes_its_period_and_the_balance_does_not_jump(make_bench):
    slabs = tariff_document((1, 100000), (None, 900000))
    bench = make_bench(1769884200 - HOUR_S, tariff=slabs)  # 23:00 on 31 January
    bench.run(HOUR_S - 60, 2400)
    before_mp = bench.meter.balance_mp()
    bench.run(120, 0)
    closed = bench.records("period")[-1]
    assert closed["end_utc_s"] == 1769884200
    assert abs(bench.meter.balance_mp() - before_mp) <= 2 * 900
    assert closed["charge_mp"] == 100000 + (closed["end_wh"] - 1000) * 900
    bench.run(HOUR_S, 960)  # the first slab again
    assert bench.meter.account.open_charge_mp(bench.meter.energy.import_wh) <= 960 * 100


def test_blocks_cover_the_register_without_gap_or_overlap_across_restarts(bench):
    for _ in range(6):
        bench.run(1700, 960)
        bench.restart(off_s=130)
    bench.run(4000, 960)
    blocks = bench.records("load")
    total = 0
    for block in blocks:
        total += block["energy_wh"]
        assert block["import_wh"] == total
    starts = [block["start_utc_s"] for block in blocks]
    assert starts == sorted(set(starts))


def test_a_long_gap_is_recorded_and_not_invented(bench):
    bench.run(10, 6000)
    wh = bench.meter.energy.import_wh
    bench.pass_ms(600000)
    bench.meter.sample(6000, 20000, 600000)
    assert bench.meter.energy.import_wh == wh
    assert bench.records("event", 1012)[0]["detail"] == 600000


def test_a_silent_sensor_is_told_once_shows_no_stale_values_and_is_used_again(bench):
    bench.run(10, 6000)
    wh = bench.meter.energy.import_wh
    for _ in range(30):
        bench.pass_ms(1000)
        bench.meter.sample_failed(1000, 1)
        bench.meter.tick(1000)
    assert [event["detail"] for event in bench.records("event", 1010)] == [1]
    assert bench.meter.live()["power_mw"] == 0
    assert "SENSOR FAULT" in bench.meter.status_line(True, 0)
    bench.pass_ms(1000)
    bench.meter.sample(6000, 20000, 31000)
    assert len(bench.records("event", 1011)) == 1
    assert bench.meter.energy.import_wh == wh
    assert "SENSOR FAULT" not in bench.meter.status_line(True, 0)


def test_a_welded_contact_is_told_once_and_tried_again(make_bench):
    bench = make_bench(opening_balance_mp=0)
    bench.contact.welded = True
    bench.run(36 * HOUR_S, 0, step_s=2)
    assert len(bench.records("event", 253)) == 1
    bench.contact.welded = False
    bench.run(120)
    assert not bench.contact.closed
    assert len(bench.records("event", 301)) == 1


def test_a_time_step_above_a_day_is_refused_and_below_is_an_event(bench):
    assert not bench.meter.set_time((bench.utc_s + 90000) * 1000)
    assert bench.meter.set_time((bench.utc_s + 100) * 1000)
    assert bench.records("event", 151)[0]["detail"] == 100


def test_what_the_journal_says_is_what_the_meter_is(bench):
    """Recovery and life apply records by the same method: states are equal after a restart."""
    bench.run(HOUR_S, 960)
    bench.order("r-1", 3, amount_mp=5 * RUPEE_MP)
    exhaust(bench)
    bench.run(900, 0)
    state = bench.meter._state()
    bench.restart(cause="soft")
    recovered = bench.meter._state()
    for volatile in ("last_utc_s", "remainder_half_mj", "import_wh"):
        state.pop(volatile)
        recovered.pop(volatile)
    for kept in (state, recovered):
        kept["control"][1][1] = None  # the grace that is left
        kept["control"][3] = None  # when the gateway was heard
        kept["control"][10:] = []  # the time that has passed
    for volatile in ("supply_s", "over_load_s"):
        state["profiles"].pop(volatile)
        recovered["profiles"].pop(volatile)
    assert recovered == state


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"v": 2}, "v"),
        ({"meter": ""}, "meter"),
        ({"key": "zz" * 32}, "key"),
        ({"key": "00"}, "key"),
        ({"sample_period_ms": 0}, "sample_period_ms"),
        ({"voltage_ratio_x1000": 12501}, "voltage_ratio_x1000"),
        ({"rules": {"window_start_min": 700, "window_end_min": 700}}, "window_end_min"),
        ({"rules": {"grace_s": -1}}, "grace_s"),
        ({"broker": {}}, "host"),
        ({"wifi": None}, "wifi"),
        ({"tariff": []}, "tariff"),
    ],
)
def test_a_wrong_configuration_names_its_member_and_never_the_key(change, field):
    values = json.loads(json.dumps({**meter_config(), **change}))
    with pytest.raises(ConfigError) as refusal:
        Config(values)
    assert refusal.value.field == field
    assert meter_config()["key"] not in str(refusal.value)


def test_a_clock_chip_gone_mad_does_not_keep_the_meter_from_starting(bench):
    bench.run(60)
    bench.meter.journal.close()
    bench.boot(4102444799)  # the end of 2099: off_s would not fit the record's i32
    assert bench.records("boot")[-1]["off_s"] == -1


@pytest.mark.parametrize("days", [-400, -2, 401, 20000])
def test_a_clock_chip_that_does_not_fit_the_flash_is_doubted(bench, days):
    bench.run(2 * HOUR_S, 300, step_s=2)
    periods = bench.records("period")
    bench.meter.journal.close()
    bench.boot(bench.utc_s + days * 86400)
    assert not bench.meter.live()["time_valid"]
    bench.run(60)
    assert bench.meter.set_time(bench.utc_s * 1000)
    bench.run(HOUR_S, 300, step_s=2)
    assert bench.records("period") == periods
    assert bench.records("load")[-1]["utc_s"] == pytest.approx(bench.utc_s, abs=1800)


def test_contact_is_restored_even_if_the_flash_takes_nothing(bench, monkeypatch):
    bench.meter.journal.close()
    bench.contact.closed = 0  # a relay that dropped with the power

    def refuse(self, *record):
        raise JournalFull("append", 28)

    monkeypatch.setattr(Journal, "append", refuse)
    bench.boot(bench.utc_s)
    bench.run(2)
    assert bench.contact.closed
    assert bench.meter.live()["service"] == "storage"


def test_a_tariff_too_long_for_a_record_is_refused_before_anything_is_written(bench):
    document = tariff_document((None, 700000))
    document["more"] = "x" * 3000
    answer = bench.order("t-1", 1, "tariff", document=document)
    assert (answer["result"], answer["field"]) == ("range", "document")
    assert not bench.records("period")
    assert len(bench.records("tariff")) == 1
