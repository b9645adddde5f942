"""Ingest: committed before acknowledged, once each, and nothing stops what follows."""

import json
import sqlite3

import pytest
import sqlalchemy as sa

from firmware.link import codec
from host_tests.fakes.documents import rich_tariff


def quarantine(bench):
    return bench.get("/api/quarantine")


def test_a_batch_again_is_acknowledged_and_stored_once(bench):
    meter = bench.meter()
    meter.block(100)
    meter.flush()
    stored = bench.get("/api/meters/JH-0001")["records"]
    meter.acked = 0
    meter.flush()
    assert bench.get("/api/meters/JH-0001")["records"] == stored == 3
    assert bench.get("/api/health")["ingest"]["duplicates"] == 3
    assert quarantine(bench) == []


def test_member_order_does_not_matter_for_equality(bench):
    meter = bench.meter()
    meter.flush()
    turned = [dict(reversed(record.items())) for record in meter.journal]
    count = len(meter.acks)
    meter.send_up(turned)
    meter.wait_for(lambda: len(meter.acks) > count)
    assert quarantine(bench) == []


def test_same_identity_with_other_content_is_quarantined_and_the_first_stays(bench):
    meter = bench.meter()
    record = meter.block(100)
    meter.flush()
    count = len(meter.acks)
    meter.send_up([{**record, "balance_mp": record["balance_mp"] + 1}])
    meter.wait_for(lambda: len(meter.acks) > count)
    assert quarantine(bench)[0]["field"] == "seq"
    reading = bench.get("/api/meters/JH-0001/readings")[0]
    assert reading["balance_mp"] == record["balance_mp"]
    assert bench.get("/api/health")["status"] == "degraded"


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (b"\xff\xfe", "payload"),
        (b"[]", "payload"),
        (b'{"v":1,"store":"9f3a01bc","records":[]}', "records"),
        (b'{"v":2,"store":"9f3a01bc","records":[{}]}', "v"),
        (b'{"v":1,"store":"XYZ","records":[{}]}', "store"),
        (b'{"v":1,"store":"9f3a01bc","records":[{"type":"credit"}]}', "seq"),
        (b'{"v":1,"store":"9f3a01bc","records":[{"type":"nonsense","seq":1,"boot":1}]}', "type"),
        (b"[" * 5000, "payload"),
    ],
)
def test_poison_is_quarantined_and_what_follows_is_stored(bench, payload, field):
    meter = bench.meter()
    meter.send("up", payload)
    meter.block(100)
    meter.flush()
    assert [entry["field"] for entry in quarantine(bench)] == [field]
    assert len(bench.get("/api/meters/JH-0001/readings")) == 1


def test_a_bad_record_does_not_cost_its_neighbours(bench):
    meter = bench.meter()
    good = meter.block(100)
    bad = {**meter.block(100), "energy_wh": "many"}
    after = meter.block(100)
    meter.send_up([*meter.journal[:2], good, bad, after])
    meter.wait_for(lambda: meter.acked == after["seq"])
    entry = quarantine(bench)[0]
    assert entry["field"] == "energy_wh"
    assert "integer from 0 to" in entry["reason"]
    assert json.loads(entry["payload"])["record"] == bad
    # The refused one is a visible gap.
    gaps = bench.get("/api/meters/JH-0001")["gaps"]
    assert [(gap["first_seq"], gap["last_seq"]) for gap in gaps] == [(4, 4)]


def test_repeated_poison_takes_one_row(bench):
    meter = bench.meter()
    for _ in range(5):
        meter.send("up", b"nonsense")
    meter.block(1)
    meter.flush()
    assert [entry["times"] for entry in quarantine(bench)] == [5]


def test_a_batch_that_is_refused_as_a_whole_does_not_come_for_ever(bench):
    """It is kept as it is; acknowledged if it says which records it holds."""
    meter = bench.meter()
    meter.flush()
    for number in range(33):  # one too many
        meter.event(1012, number)
    meter.send_up(meter.journal[2:])
    meter.wait_for(lambda: meter.acked == len(meter.journal))
    assert [entry["field"] for entry in quarantine(bench)] == ["records"]
    count = len(meter.acks)
    # A newer form: not ours to acknowledge. Whoever can read it will.
    meter.send("up", b'{"v":2,"store":"%b","records":[{"seq":99,"boot":1}]}' % meter.store.encode())
    meter.send("up", b"{")
    meter.event(1012, 1)
    meter.flush()
    assert len(meter.acks) == count + 1
    assert len(quarantine(bench)) == 3


def test_what_does_not_fit_into_quarantine_stays_with_the_meter(bench, monkeypatch):
    monkeypatch.setattr("gateway.ingest.QUARANTINE_ROWS_MAX", 1)
    meter = bench.meter()
    meter.flush()
    first, good, second, last = (meter.event(1012, number) for number in range(4))
    first["detail"], second["detail"] = "x", "y"
    meter.send_up([first, good, second, last])
    meter.wait_for(lambda: meter.acked == good["seq"])
    assert "quarantine is full" in " ".join(bench.get("/api/health")["alarms"])
    second["detail"] = 2
    meter.flush()
    assert [entry["reason"][:7] for entry in quarantine(bench)] == ["must be"]


def test_gap_is_visible_until_it_is_filled(bench):
    meter = bench.meter()
    meter.flush()
    for _ in range(5):
        meter.block(100)
    missing = meter.journal[3:6]
    meter.send_up(meter.journal[2:3])
    meter.send_up(meter.journal[6:])
    meter.wait_for(lambda: meter.acked == 7)

    def gaps():
        found = bench.get("/api/meters/JH-0001")["gaps"]
        return [(gap["first_seq"], gap["last_seq"]) for gap in found]

    assert gaps() == [(4, 6)]
    for record, left in zip(
        missing[1:] + missing[:1], ([(4, 4), (6, 6)], [(4, 4)], []), strict=True
    ):
        count = len(meter.acks)
        meter.send_up([record])
        meter.wait_for(lambda before=count: len(meter.acks) > before)
        assert gaps() == left
    assert bench.get("/api/meters/JH-0001/balance")["agree"] is True


def test_a_new_store_of_a_meter_does_not_collide(bench):
    meter = bench.meter()
    meter.flush()
    second = type(meter)(meter.config, store="0badcafe")
    meter.close()
    bench.meters.append(second)
    second.connect()
    second.block(50)
    second.flush()
    assert quarantine(bench) == []
    assert bench.get("/api/meters/JH-0001")["records"] == 5
    assert bench.get("/api/meters/JH-0001/balance")["agree"] is True


def test_wrong_balance_is_found(bench):
    meter = bench.meter()
    record = meter.block(100)
    record["balance_mp"] += 1
    meter.flush()
    balance = bench.get("/api/meters/JH-0001/balance")
    assert balance["agree"] is False
    assert balance["difference_mp"] == 1
    assert balance["first_mismatch"]["seq"] == record["seq"]


def test_a_wrong_charge_of_a_period_is_found(bench):
    meter = bench.meter()
    meter.record("tariff", document=rich_tariff(id="rich"))
    day = {"period_day": 20454, "period_days": 31, "zone": 1, "supply_min": 0, "load_w": 2000}
    meter.record("tally", day=20459, **day)
    meter.block(2500)
    meter.record("tally", day=20460, **{**day, "zone": 0, "supply_min": 700})
    meter.flush()
    assert bench.get("/api/meters/JH-0001/balance")["agree"] is True
    charge_mp = meter.account.period_charge_mp(2500)
    start_utc_s = meter.account.period_start_utc_s
    record = meter.record(
        "period",
        start_utc_s=start_utc_s,
        end_utc_s=start_utc_s + 86400,
        start_wh=0,
        end_wh=2500,
        charge_mp=charge_mp + 1,
        tariff="rich",
        tariff_version=1,
    )
    meter.flush()
    balance = bench.get("/api/meters/JH-0001/balance")
    assert (balance["agree"], balance["difference_mp"]) == (False, 0)
    assert balance["first_mismatch"] == {
        "store": meter.store,
        "seq": record["seq"],
        "by_meter_mp": charge_mp + 1,
        "recomputed_mp": charge_mp,
    }


def test_a_register_that_goes_back_is_an_alarm(bench):
    meter = bench.meter()
    meter.flush()
    meter.send_live(import_wh=500)
    meter.send_live(import_wh=499, power_mw=7)
    bench.until(lambda: bench.gateway.live.view("JH-0001").get("power_mw") == 7)
    view = bench.get("/api/meters/JH-0001")["live"]
    assert view["import_wh"] == 499
    assert view["online"] is True
    assert view["state_words"] == "supply on"
    alarms = bench.get("/api/health")["alarms"]
    assert "JH-0001: the register went back from 500 Wh to 499 Wh" in alarms


def test_export_is_shown_and_may_not_go_back_either(bench):
    meter = bench.meter()
    meter.flush()
    meter.send_live(export_wh=70, uncommitted_export_wh=3)
    meter.send_live(export_wh=60, power_mw=7)
    bench.until(lambda: bench.gateway.live.view("JH-0001").get("power_mw") == 7)
    assert bench.get("/api/meters/JH-0001")["live"]["export_wh"] == 60
    alarms = bench.get("/api/health")["alarms"]
    assert "JH-0001: the register went back from 70 Wh to 60 Wh" in alarms


def test_bad_live_values_are_counted_and_change_nothing(bench):
    meter = bench.meter()
    meter.send_live(state="melted")
    meter.send_live(power_mw=3)
    bench.until(lambda: bench.gateway.live.view("JH-0001").get("power_mw") == 3)
    assert bench.get("/api/health")["ingest"]["quarantined"] == 1
    assert quarantine(bench) == []


def test_time_is_answered_from_the_gateways_clock(bench, clock):
    meter = bench.meter()
    assert meter.ask_time() == clock.now_ms
    clock.advance(12_345)
    assert meter.ask_time() == clock.now_ms


def test_acknowledged_means_committed(bench):
    """What a meter was told is readable by another process at that very moment."""
    meter = bench.meter()
    with sqlite3.connect(f"file:{bench.folder}/gateway.sqlite?mode=ro", uri=True) as database:
        for _ in range(20):
            meter.block(10)
            meter.flush()
            count = database.execute("SELECT max(seq) FROM records").fetchone()[0]
            assert count >= meter.acked


def test_no_puback_and_no_ack_before_the_commit(bench, monkeypatch):
    """With a database that cannot commit, neither broker nor meter is told anything."""
    meter = bench.meter()
    meter.flush()
    acknowledged = []
    transport, writer = bench.gateway.transport, bench.gateway.writer
    monkeypatch.setattr(
        writer,
        "_acknowledge",
        lambda messages: (acknowledged.extend(messages), transport.acknowledge(messages)),
    )
    engine = bench.gateway.store.writer
    failing = {"on": True}

    @sa.event.listens_for(engine, "commit")
    def fail(_connection):
        if failing["on"]:
            raise sa.exc.OperationalError("COMMIT", {}, sqlite3.OperationalError("disk full"))

    meter.block(100)
    count = len(meter.acks)
    meter.flush(wait=False)
    waiting = bench.clock.worker_waits("writer", until=True)
    assert acknowledged == []
    assert len(meter.acks) == count
    # Tried again, still failing, still nothing said; requests are told at once.
    bench.clock.advance(waiting.until_ms - bench.clock.now_ms)
    bench.clock.worker_waits("writer", until=True)
    assert acknowledged == []
    assert bench.recharge().status_code == 503
    failing["on"] = False
    bench.clock.advance(60_000)
    meter.wait_for(lambda: meter.acked == len(meter.journal))
    assert [message.topic for message in acknowledged] == [codec.topic("JH-0001", "up")]
    assert len(bench.get("/api/meters/JH-0001/readings")) == 1
    bench.recharge_is(bench.recharge().json()["id"], "confirmed")


def test_a_fault_in_our_own_code_costs_only_its_message(bench, monkeypatch):
    meter = bench.meter()
    meter.flush()
    ingest = bench.gateway.ingest
    original = ingest._take_record

    def faulty(connection, group, meter_id, store, record):
        if record.get("energy_wh") == 13:
            raise ZeroDivisionError
        original(connection, group, meter_id, store, record)

    monkeypatch.setattr(ingest, "_take_record", faulty)
    meter.send_up([meter.block(13)])
    meter.send_up([meter.block(14)])
    meter.wait_for(lambda: meter.acked == 4)
    assert quarantine(bench)[0]["reason"] == "internal error: ZeroDivisionError"
    assert [r["energy_wh"] for r in bench.get("/api/meters/JH-0001/readings")] == [14]
