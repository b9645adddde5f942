"""A gateway that is restored from an old backup: everything once, at meter, gateway, head-end."""

import sqlite3

import pytest
from typer.testing import CliRunner

from gateway import backup
from gateway.cli import app
from gateway.errors import StartError, StoreError
from host_tests.fakes.headend import FaultyHeadend
from host_tests.gateway.test_order_kinds import order_is, send


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def destroy(bench):
    bench.stop()
    for name in ("gateway.sqlite", "gateway.sqlite-wal", "gateway.sqlite-shm"):
        (bench.folder / name).unlink(missing_ok=True)


def pass_time(bench):
    """Let retries of orders and deliveries come."""
    for worker in list(bench.clock.workers):
        if worker.name in ("orders", "upstream") and worker.waits and worker.until_ms:
            bench.clock.advance(max(0, worker.until_ms - bench.clock.now_ms))


def test_everything_once_after_a_restoration(make_bench, tmp_path, monkeypatch):
    headend = FaultyHeadend(tmp_path / "headend")
    bench = make_bench(headend_url=headend.url).start()
    meter = bench.meter()
    for _ in range(5):
        meter.block(100)
    meter.flush()
    first = bench.recharge(key="first").json()["id"]
    bench.recharge_is(first, "confirmed")
    # One is under way when the backup is made: the meter has it, the gateway does not know.
    meter.answers_lost = 1
    meter.send_records = False
    under_way = bench.recharge(key="under way").json()["id"]
    meter.wait_for(lambda: under_way in meter.answers)
    file = tmp_path / "backup.sqlite"
    code, text = run("backup", file, "--data", bench.folder)
    assert code == 0, text
    assert file.stat().st_mode & 0o777 == 0o600

    meter.send_records = True
    meter.flush()
    bench.recharge_is(under_way, "confirmed")
    for _ in range(40):
        meter.block(100)
    meter.flush()
    later = bench.recharge(key="later").json()["id"]
    bench.recharge_is(later, "confirmed")
    order_is(bench, send(bench, key="key", kind="key").json()["id"], "done")
    last = bench.recharge(key="last").json()["id"]
    bench.recharge_is(last, "confirmed")
    meter.wait_for(lambda: meter.acked == len(meter.journal))
    bench.until(lambda: bench.gateway.upstream.backlog() == {"records": 0, "recharges": 0})
    known = headend.identities()

    destroy(bench)
    with pytest.raises(StoreError, match="bijli restore"):
        make_bench(headend_url=headend.url).start()
    monkeypatch.setattr("gateway.admin_cli.RealClock", lambda: bench.clock)
    code, text = run("restore", file, "--data", bench.folder)
    assert code == 0, text
    assert "1 meters restored" in text

    try:
        again = make_bench(headend_url=headend.url).start()
        # A client that never heard of its recharge asks again, and so does one that did.
        assert again.recharge(key="later").json()["id"] == later
        for recharge in (first, under_way, later, last):
            again.until(
                lambda r=recharge: (
                    pass_time(again)
                    or again.http.get(f"/api/recharges/{r}").json().get("state") == "confirmed"
                )
            )
        again.until(
            lambda: (
                pass_time(again)
                or again.get("/api/meters/JH-0001")["records"] == len(meter.journal)
            )
        )
        meter.wait_for(lambda: meter.acked == len(meter.journal))
        assert meter.account.credits_mp == 10_000_000 + 4 * 5_000_000
        ledger = [r["id"] for r in meter.journal if r["type"] == "credit"]
        assert ledger == ["opening", first, under_way, later, last]
        shown = {r["id"]: r for r in again.get("/api/meters/JH-0001/recharges")}
        assert set(shown) == {first, under_way, later, last}
        assert again.get("/api/meters/JH-0001/balance")["agree"] is True
        assert again.get("/api/meters/JH-0001")["gaps"] == []
        assert again.get("/api/quarantine") == []
        again.until(
            lambda: (
                pass_time(again)
                or again.gateway.upstream.backlog() == {"records": 0, "recharges": 0}
            )
        )
        assert headend.identities()[: len(known)] == known
        assert sorted(i[3] for i in headend.identities()) == list(range(1, len(meter.journal) + 1))
        assert again.gateway.upstream.rejected() == 0
        confirmed = [r for r, state in headend.recharges() if state == "confirmed"]
        assert sorted(confirmed) == sorted([first, under_way, later, last])
        # New orders go on above everything that was used.
        new = again.recharge(key="new").json()["id"]
        assert again.recharge_is(new, "confirmed")["counter"] > backup.COUNTER_JUMP
    finally:
        headend.close()


def test_a_journal_whose_beginning_is_unknown_is_asked_for(bench):
    meter = bench.meter(connect=False)
    for _ in range(3):
        meter.block(10)
    # Acknowledged by somebody else: an earlier gateway, or this one before its restoration.
    meter.acked = len(meter.journal)
    meter.block(10)
    meter.connect()
    bench.until(lambda: bench.get("/api/meters/JH-0001")["records"] == len(meter.journal))
    assert [order["kind"] for order in meter.orders] == ["resend"]
    bench.until(lambda: bench.get("/api/meters/JH-0001")["gaps"] == [])


def test_restoring_is_refused_without_changing_anything(bench, tmp_path):
    bench.register()
    file = tmp_path / "backup.sqlite"
    backup.back_up(bench.folder, file)
    with pytest.raises(StartError, match="another gateway"):
        backup.restore(bench.folder, file, None, bench.clock.now_ms)
    with pytest.raises(StoreError, match="not overwritten"):
        backup.back_up(bench.folder, file)
    bench.stop()
    now_ms = bench.clock.now_ms
    before = (bench.folder / "gateway.sqlite").read_bytes()
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(file.read_bytes()[:20_000] + bytes(9000) + file.read_bytes()[29_000:])
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE meta (name, value)")
    secret = bench.folder / "secret" / "meter-keys.secret"
    strange = tmp_path / "strange.secret"
    strange.write_bytes(b"A" * 43 + b"=\n")
    for source, secret_file, words in (
        (tmp_path / "none", None, "no backup"),
        (damaged, None, "damaged|no database|malformed"),
        (other, None, "no database of the gateway|restoration failed"),
        (file, tmp_path / "none", "secret file .* is missing"),
        (file, strange, "does not belong to this secret file"),
    ):
        with pytest.raises(StoreError, match=words):
            backup.restore(bench.folder, source, secret_file, now_ms)
        assert (bench.folder / "gateway.sqlite").read_bytes() == before
    assert not (bench.folder / "restore").exists()
    # The one that was there is kept.
    assert "before-restore-1" in backup.restore(bench.folder, file, secret, now_ms)
    assert (bench.folder / "gateway.sqlite.before-restore-1").read_bytes() == before


def test_an_old_backup_sends_nothing_that_its_meter_may_have_forgotten(
    make_bench, tmp_path, monkeypatch
):
    bench = make_bench().start()
    meter = bench.meter()
    meter.answers_lost = 1
    meter.send_records = False
    sent = bench.recharge(key="sent").json()["id"]
    meter.wait_for(lambda: sent in meter.answers)
    waiting = bench.recharge(key="waiting").json()["id"]
    meter.close()
    file = tmp_path / "backup.sqlite"
    backup.back_up(bench.folder, file)
    destroy(bench)
    monkeypatch.setattr("gateway.admin_cli.RealClock", lambda: bench.clock)
    bench.clock.now_ms += (backup.AGE_DAYS_MAX + 1) * backup.DAY_MS
    code, text = run("restore", file, "--data", bench.folder)
    assert code == 1
    assert "is 31 days old, at most 30 are allowed" in text
    assert "--old" in text
    assert not (bench.folder / "gateway.sqlite").exists()
    code, text = run("restore", file, "--data", bench.folder, "--old")
    assert code == 0, text

    again = make_bench().start()
    meter.orders.clear()
    meter.connect()
    again.until(lambda: meter.connected)
    for recharge in (sent, waiting):
        view = again.get(f"/api/recharges/{recharge}")
        assert (view["state"], view["code"]) == ("cancelled", backup.OLD_BACKUP)
    # Asked for again under its key it is the same one, which is over.
    assert again.recharge(key="waiting").json()["id"] == waiting
    new = again.recharge(key="new").json()["id"]
    again.recharge_is(new, "confirmed")
    assert [o["id"] for o in meter.orders if o["kind"] == "recharge"] == [new]
    # The meter's ledger settles the one that it took.
    meter.flush()
    again.recharge_is(sent, "confirmed")
    assert again.get(f"/api/recharges/{waiting}")["state"] == "cancelled"


def test_a_backup_of_days_to_come_is_refused(bench, tmp_path):
    bench.register()
    file = tmp_path / "backup.sqlite"
    backup.back_up(bench.folder, file)
    bench.stop()
    now_ms = bench.clock.now_ms
    with pytest.raises(StoreError, match="is from 3 days after this computer's time"):
        backup.restore(bench.folder, file, None, now_ms - 2 * backup.DAY_MS - 1)
    assert "1 meters restored" in backup.restore(bench.folder, file, None, now_ms - backup.DAY_MS)


def test_a_backup_holds_no_key(bench, tmp_path):
    document = bench.register()
    file = tmp_path / "backup.sqlite"
    backup.back_up(bench.folder, file)
    content = file.read_bytes()
    for secret in (document["key"], document["broker"]["password"]):
        assert secret.encode() not in content
    assert bytes.fromhex(document["key"]) not in content
    sealing = (bench.folder / "secret" / "meter-keys.secret").read_bytes().strip()
    assert sealing not in content


def test_a_backup_of_a_stopped_gateway(bench, tmp_path):
    bench.register()
    bench.stop()
    assert backup.back_up(bench.folder, tmp_path / "b.sqlite") > 0
    with sqlite3.connect(tmp_path / "b.sqlite") as database:
        assert database.execute("SELECT id FROM meters").fetchall() == [("JH-0001",)]
