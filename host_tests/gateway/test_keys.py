"""The change of a meter's key and of its broker password, at every point of it."""

import sqlite3

from host_tests.gateway.test_order_kinds import order_is, send


def keys(bench):
    with sqlite3.connect(f"file:{bench.folder}/gateway.sqlite?mode=ro", uri=True) as database:
        return database.execute(
            "SELECT key_generation, key_old_sealed IS NOT NULL FROM meters"
        ).fetchone()


def test_the_new_key_is_used_after_the_answer_and_the_old_one_dropped(bench):
    meter = bench.meter()
    before = meter.key
    order_is(bench, send(bench, kind="key").json()["id"], "done")
    assert meter.key != before
    assert keys(bench) == (1, 1)
    # The first message under the new key: the meter drops the old one and says so.
    assert meter.ask_time() == bench.clock.now_ms
    assert meter.old_key is None
    meter.flush()
    assert keys(bench) == (1, 0)
    bench.recharge_is(bench.recharge().json()["id"], "confirmed")
    order_is(bench, send(bench, key="b", kind="key").json()["id"], "done")
    bench.recharge_is(bench.recharge(key="c").json()["id"], "confirmed")
    assert keys(bench) == (2, 0)
    assert meter.forged == 0


def test_an_answer_under_the_new_key_is_proof(bench):
    meter = bench.meter()
    meter.send_records = False
    order_is(bench, send(bench, kind="key").json()["id"], "done")
    assert keys(bench) == (1, 1)
    bench.recharge_is(bench.recharge().json()["id"], "confirmed")
    assert keys(bench) == (1, 0)


def test_the_change_survives_a_restart_at_each_point(bench, make_bench):
    """Queued; sent and decided, answer lost; answered; proven."""
    meter = bench.meter(connect=False)
    order = send(bench, kind="key").json()["id"]

    def restart(bench):
        bench.stop()
        return make_bench().start()

    bench = restart(bench)
    meter.answers_lost = 1
    meter.send_records = False
    meter.connect()
    meter.wait_for(lambda: meter.old_key is not None)
    assert bench.get(f"/api/orders/{order}")["state"] == "sent"
    bench = restart(bench)
    order_is(bench, order, "done")
    assert keys(bench) == (1, 1)
    meter.wait_for(lambda: meter.connected)
    bench = restart(bench)
    bench.recharge_is(bench.recharge().json()["id"], "confirmed")
    bench = restart(bench)
    assert keys(bench) == (1, 0)
    bench.recharge_is(bench.recharge(key="b").json()["id"], "confirmed")
    assert meter.forged == 0


def test_a_meter_that_went_back_to_its_old_key_is_found(bench):
    meter = bench.meter()
    old = meter.key
    meter.send_records = False
    order_is(bench, send(bench, kind="key").json()["id"], "done")
    meter.key, meter.old_key = old, None
    recharge = bench.recharge().json()["id"]
    # Two attempts under the new key, then the old one gets its turn.
    for _ in range(2):
        worker = bench.clock.worker_waits("orders", until=True)
        bench.clock.advance(worker.until_ms - bench.clock.now_ms)
    bench.recharge_is(recharge, "confirmed")
    assert meter.forged == 2
    assert keys(bench) == (0, 0)
    order_is(bench, send(bench, key="b", kind="key").json()["id"], "done")
    bench.recharge_is(bench.recharge(key="c").json()["id"], "confirmed")
    assert keys(bench) == (1, 0)


def test_keys_are_nowhere_in_clear(bench, caplog):
    meter = bench.meter()
    known = [meter.key]
    for number in range(2):
        order_is(bench, send(bench, key=f"k{number}", kind="key").json()["id"], "done")
        known.append(meter.key)
        bench.recharge_is(bench.recharge(key=f"r{number}").json()["id"], "confirmed")
    assert len(set(known)) == 3
    bench.stop()
    files = [path for path in bench.folder.rglob("*") if path.is_file()]
    for key in known:
        for path in files:
            content = path.read_bytes()
            assert key not in content and key.hex().encode() not in content, path
        assert key.hex() not in caplog.text


def test_a_new_broker_password_never_locks_the_meter_out(bench):
    """The meter tries old and new by turns: both are taken until the new one is known to work."""
    meter = bench.meter()
    body = {"kind": "link", "broker": {"new_password": True}}
    order_is(bench, send(bench, **body).json()["id"], "done")
    new = meter.link[0]["broker"]
    assert new["user"] == "JH-0001.1"
    old = dict(meter.config["broker"])

    def refused(credentials, records=()):
        other = type(meter)({**meter.config, "broker": {**old, **credentials}}, meter.store)
        other.send_records = False
        other.connect()
        if records:
            other.send_up(records).wait_for_publish(20)
        other.close()
        return other.refused is not None

    meter.close()
    for credentials in (new, {}, new):
        assert not refused(credentials)
    assert not refused(new, [meter.event(1037, 0)])
    bench.until(lambda: refused({}))
    assert not refused(new)
    # Its topics are still its own only.
    rules = (bench.folder / "broker" / "acl").read_text()
    assert "user JH-0001.1\ntopic write bijli/1/JH-0001/up" in rules


def test_a_late_event_of_another_order_drops_no_broker_password(bench):
    """Sent before the order that brought the password, it says nothing about that."""
    meter = bench.meter()
    meter.send_records = False
    wifi = {"ssid": "new", "password": "a secret word"}
    order_is(bench, send(bench, key="a", kind="link", wifi=wifi).json()["id"], "done")
    meter.event(1037, 0)
    second = send(bench, key="b", kind="link", broker={"new_password": True}).json()["id"]
    order_is(bench, second, "done")

    def generation():
        with sqlite3.connect(f"file:{bench.folder}/gateway.sqlite?mode=ro", uri=True) as database:
            return database.execute("SELECT broker_generation FROM meters").fetchone()[0]

    meter.flush()  # with the record of the second order, but its event is still to come
    assert generation() == 0
    meter.event(1037, 0)
    meter.flush(wait=False)  # the broker may throw it out: it is here with the old password
    bench.until(lambda: generation() == 1)


def test_a_change_that_could_not_be_prepared_is_made_up_for(bench):
    """As after a disk that was full when the next generation was to be stored."""
    meter = bench.meter()

    def forget():
        with sqlite3.connect(bench.folder / "gateway.sqlite") as database:
            database.execute("UPDATE meters SET key_next_sealed = NULL, broker_next_hash = NULL")

    forget()
    order_is(bench, send(bench, key="a", kind="key").json()["id"], "done")
    assert keys(bench) == (1, 1)
    bench.recharge_is(bench.recharge().json()["id"], "confirmed")
    forget()
    link = {"kind": "link", "broker": {"new_password": True}}
    order_is(bench, send(bench, key="b", **link).json()["id"], "done")
    meter.event(1037, 0)
    meter.flush(wait=False)
    bench.until(lambda: bench.get("/api/meters/JH-0001")["records"] == len(meter.journal))
    assert bench.get("/api/quarantine") == []
