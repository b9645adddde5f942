"""The gateway as a whole: records and recharges through real broker, database and HTTP."""

import sqlite3

import pytest

from gateway.errors import StartError, StoreError
from gateway.service import Gateway


def test_records_are_stored_acknowledged_and_readable(bench):
    meter = bench.meter()
    for _ in range(40):
        meter.block(100)
    meter.event(1001, 5_000_000)
    meter.flush()
    readings = bench.get("/api/meters/JH-0001/readings", limit=1000)
    assert len(readings) == 40
    assert readings[0]["import_wh"] == 4000
    events = bench.get("/api/meters/JH-0001/events")
    assert events[0]["text"] == "low credit: below 50.00 rupees"
    balance = bench.get("/api/meters/JH-0001/balance")
    assert balance["agree"] is True
    assert balance["recomputed_mp"] == 10_000_000 - 605_000 - 3 * 850_000
    assert [line["quantity"] for line in balance["open_period"]["lines"]] == [1000, 3000]
    assert bench.get("/api/health")["gaps"] == 0


def test_recharge_goes_through_its_states(bench):
    meter = bench.meter(connect=False)
    made = bench.recharge().json()
    assert made["state"] == "queued"
    meter.connect()
    done = bench.recharge_is(made["id"], "confirmed")
    assert done["balance_mp"] == 15_000_000
    assert list(done["times"]) == ["queued_utc_ms", "sent_utc_ms", "confirmed_utc_ms"]
    # The answer may come before the record of the ledger entry.
    balance = "/api/meters/JH-0001/balance"
    bench.until(lambda: bench.get(balance)["by_meter"]["balance_mp"] == 15_000_000)
    assert bench.get("/api/health")["status"] == "ok"


def test_history_survives_a_restart(bench, make_bench):
    meter = bench.meter()
    meter.block(100)
    meter.flush()
    bench.recharge()
    bench.until(lambda: bench.get("/api/meters/JH-0001/recharges")[0]["state"] == "confirmed")
    bench.stop()
    again = make_bench().start()
    meter.wait_for(lambda: meter.connected)
    meter.block(100)
    meter.flush()
    assert len(again.get("/api/meters/JH-0001/readings")) == 2
    assert again.get("/api/meters/JH-0001/recharges")[0]["state"] == "confirmed"
    assert again.get("/api/meters/JH-0001/balance")["agree"] is True


def test_second_gateway_on_one_folder_is_refused(bench, make_bench):
    with pytest.raises(StartError, match="another gateway"):
        make_bench().start()


def test_vanished_database_is_an_error(bench, make_bench):
    bench.register()
    bench.stop()
    for name in ("gateway.sqlite", "gateway.sqlite-wal", "gateway.sqlite-shm"):
        (bench.folder / name).unlink(missing_ok=True)
    with pytest.raises(StoreError, match="is missing"):
        make_bench().start()
    assert not (bench.folder / "gateway.sqlite").exists()


def test_empty_database_is_an_error(bench, make_bench):
    bench.stop()
    (bench.folder / "gateway.sqlite").write_bytes(b"")
    with pytest.raises(StoreError, match="is empty"):
        make_bench().start()


def test_lost_secret_is_an_error(bench, make_bench):
    bench.register()
    bench.stop()
    (bench.folder / "secret" / "meter-keys.secret").unlink()
    with pytest.raises(StoreError, match="secret file"):
        make_bench().start()


def test_files_are_private_and_hold_no_secret(bench):
    document = bench.register()
    secrets = (document["key"].encode(), document["broker"]["password"].encode())
    bench.stop()
    for path in bench.folder.rglob("*"):
        if path.is_file():
            assert not any(secret in path.read_bytes() for secret in secrets), path
    for name in ("broker/passwords", "broker/acl", "broker/mosquitto.conf"):
        assert (bench.folder / name).stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(bench.folder / "gateway.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_listening_beyond_loopback_needs_a_token(make_bench):
    bench = make_bench(http_host="0.0.0.0")
    with pytest.raises(StartError, match="token"):
        bench.start()


def test_failed_start_leaves_nothing(make_bench, clock):
    bench = make_bench(broker_host="0.0.0.0")
    with pytest.raises(StartError, match="meter-broker-host"):
        Gateway(bench.settings, clock).start()
    assert not clock.workers


def test_a_database_of_the_first_schema_is_upgraded(bench, make_bench):
    """What a gateway 0.1.0 left: meters get their next key and password, recharges their ids."""
    meter = bench.meter()
    first = bench.recharge(key="a").json()["id"]
    bench.recharge_is(first, "confirmed")
    bench.stop()
    with sqlite3.connect(bench.folder / "gateway.sqlite") as database:
        database.execute("DROP TABLE account_changes")
        database.execute("DROP INDEX orders_by_key")
        for table, columns in (
            ("orders", "idempotency_key request_digest secret_sealed balance_mp expires_utc_s"),
            ("orders", "key_generation"),
            ("meters", "key_generation key_next_sealed key_old_sealed key_unsure"),
            ("meters", "broker_generation broker_next_hash"),
        ):
            for column in columns.split():
                database.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        database.execute("UPDATE alembic_version SET version_num = '0001'")
        # Its recharges had random ids.
        database.execute("PRAGMA foreign_keys=OFF")
        for table, column in (
            ("orders", "id"),
            ("recharges", "id"),
            ("recharge_events", "recharge"),
        ):
            database.execute(f"UPDATE {table} SET {column} = 'r-random'")
    again = make_bench().start()
    meter.wait_for(lambda: meter.connected)
    assert again.recharge(key="a").json()["id"] == "r-random"
    again.recharge_is(again.recharge(key="b").json()["id"], "confirmed")
    order = again.http.post(
        "/api/meters/JH-0001/orders", json={"kind": "key"}, headers={"Idempotency-Key": "k"}
    ).json()["id"]
    again.until(lambda: again.get(f"/api/orders/{order}")["state"] == "done")
    again.recharge_is(again.recharge(key="c").json()["id"], "confirmed")
    assert meter.forged == 0
