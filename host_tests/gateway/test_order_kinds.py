"""Every kind of order: what is asked for, what goes over the air, and what ends it."""

import json

from typer.testing import CliRunner

from gateway import calendar_files
from gateway.cli import app
from host_tests.gateway.test_broker import certificate_files
from host_tests.gateway.test_orders import advance_to_the_deadline

TOMORROW_S = 1_767_600_000 + 86_400
KINDS = (
    ({"kind": "settings", "document": {"grace_s": 3600, "low_credit_mp": 1}}, "settings"),
    ({"kind": "relay", "state": "disconnected", "expires_utc_s": TOMORROW_S}, "order"),
    ({"kind": "relay", "state": "connected"}, "order"),
    ({"kind": "adjustment", "entry": "adjustment", "amount_mp": 700}, "credit"),
    ({"kind": "adjustment", "entry": "refund", "amount_mp": -700}, "credit"),
    ({"kind": "arrears", "amount_mp": 5_000_000, "share_percent": 20}, "recovery"),
    ({"kind": "emergency", "limit_mp": 2_000_000}, "emergency"),
    ({"kind": "key"}, "order"),
    ({"kind": "link", "wifi": {"ssid": "new", "password": "a secret word"}}, "order"),
    ({"kind": "clock"}, "order"),
    ({"kind": "resend", "store": "0badcafe", "seq": 1}, "order"),
    ({"kind": "mode", "mode": "credit"}, "mode"),
    ({"kind": "mode", "mode": "prepayment", "share_percent": 30, "per_day_mp": 5}, "mode"),
    ({"kind": "calendar", "document": calendar_files.read("bihar")}, "calendar"),
    ({"kind": "calendar", "document": None}, "calendar"),
)


def send(bench, meter="JH-0001", key="k-1", **body):
    return bench.http.post(
        f"/api/meters/{meter}/orders", json=body, headers={"Idempotency-Key": key}
    )


def order_is(bench, order, state):
    bench.until(lambda: bench.get(f"/api/orders/{order}")["state"] == state)
    return bench.get(f"/api/orders/{order}")


def test_every_kind_is_answered(bench):
    meter = bench.meter()
    ids = []
    for number, (body, _record) in enumerate(KINDS, 1):
        answer = send(bench, key=f"k{number}", **body)
        assert answer.status_code == 201, answer.text
        ids.append(answer.json()["id"])
        assert answer.headers["location"] == f"/api/orders/{ids[-1]}"
        done = order_is(bench, ids[-1], "done")
        assert (done["kind"], done["result"]) == (body["kind"], "accepted")
        assert done["counter"] == number
        sent = meter.orders[-1]
        for name, value in body.items():
            if name != "wifi":
                assert sent[name] == value
    assert meter.link == [{"wifi": KINDS[8][0]["wifi"]}]
    meter.wait_for(lambda: meter.acked == len(meter.journal))
    assert bench.get("/api/quarantine") == []
    assert [order["id"] for order in bench.get("/api/meters/JH-0001/orders")] == ids[::-1]
    assert bench.get("/api/meters/JH-0001/balance")["agree"] is True


def test_the_record_makes_up_for_a_lost_answer(bench):
    meter = bench.meter()
    for number, (body, record) in enumerate(KINDS):
        meter.answers_lost = 1
        order = send(bench, key=f"k{number}", **body).json()["id"]
        done = order_is(bench, order, "done")
        assert done["balance_mp"] == 10_000_000 + (700 if body.get("amount_mp") == 700 else 0)
        assert [r["type"] for r in meter.journal if r.get("id") == order] == [record]
    assert len(meter.orders) == len(KINDS)


REFUSED = [
    ({"kind": "dance"}, "kind"),
    ({"kind": "relay", "state": "off"}, "state"),
    ({"kind": "relay", "state": "disconnected"}, "expires_utc_s"),
    ({"kind": "relay", "state": "disconnected", "expires_utc_s": 1}, "expires_utc_s"),
    ({"kind": "settings", "document": {}}, "document"),
    ({"kind": "settings", "document": {"grace_s": -1}}, "document.grace_s"),
    ({"kind": "settings", "document": {"window_end_min": 600}}, "document.window_end_min"),
    ({"kind": "settings", "document": {"basic_current_ma": 1}}, "document.basic_current_ma"),
    ({"kind": "arrears", "amount_mp": 0, "share_percent": 1}, "amount_mp"),
    ({"kind": "arrears", "amount_mp": 1, "share_percent": 101}, "share_percent"),
    ({"kind": "adjustment", "entry": "gift", "amount_mp": 1}, "entry"),
    ({"kind": "adjustment", "entry": "adjustment", "amount_mp": 0}, "amount_mp"),
    ({"kind": "adjustment", "entry": "adjustment", "amount_mp": -(10**10) - 1}, "amount_mp"),
    ({"kind": "adjustment", "entry": "refund", "amount_mp": 1}, "amount_mp"),
    ({"kind": "arrears", "amount_mp": 1, "share_percent": 1, "per_day_mp": -1}, "per_day_mp"),
    ({"kind": "arrears", "amount_mp": 1, "share_percent": 1, "at_once": 2}, "at_once"),
    ({"kind": "mode", "mode": "postpaid"}, "mode"),
    ({"kind": "mode", "mode": "prepayment", "share_percent": 101}, "share_percent"),
    ({"kind": "emergency", "limit_mp": -1}, "limit_mp"),
    ({"kind": "link"}, "link"),
    ({"kind": "link", "wifi": {"ssid": "", "password": ""}}, "wifi.ssid"),
    ({"kind": "link", "wifi": {"ssid": "x", "password": "p" * 64}}, "wifi.password"),
    ({"kind": "link", "broker": {}}, "broker"),
    ({"kind": "link", "broker": {"port": 0}}, "broker.port"),
    ({"kind": "link", "broker": {"ca": "nonsense"}}, "broker.ca"),
    ({"kind": "clock", "utc_s": 5}, "utc_s"),
    ({"kind": "resend", "store": "x", "seq": 1}, "store"),
    ({"kind": "tariff", "document": {"id": "x" * 4000}}, "document"),
    ({"kind": "calendar"}, "document"),
    ({"kind": "calendar", "document": {"v": 2}}, "document.v"),
    (
        {"kind": "calendar", "document": {"v": 1, "id": "x", "windows": [[63, 600, 600]]}},
        "document.windows[0].end_min",
    ),
]


def test_a_refusal_names_its_field(bench):
    bench.register()
    for body, field in REFUSED:
        refused = send(bench, **body)
        assert refused.status_code == 422, refused.text
        assert refused.json()["field"] == field
    assert bench.get("/api/meters/JH-0001/orders") == []


def test_the_same_key_is_the_same_order(bench):
    meter = bench.meter(connect=False)
    first = send(bench, kind="emergency", limit_mp=1)
    again = send(bench, kind="emergency", limit_mp=1)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert send(bench, kind="emergency", limit_mp=2).status_code == 409
    meter.connect()
    order_is(bench, first.json()["id"], "done")
    assert len(meter.orders) == 1


def test_only_one_change_of_the_key_at_a_time(bench):
    bench.meter(connect=False)
    assert send(bench, key="a", kind="key").status_code == 201
    second = send(bench, key="b", kind="key")
    assert (second.status_code, second.json()["field"]) == (409, "kind")


def test_cancel_while_it_waits(bench):
    meter = bench.meter(connect=False)
    order = send(bench, kind="clock").json()["id"]
    assert bench.http.delete(f"/api/orders/{order}").json()["state"] == "cancelled"
    sent = send(bench, key="b", kind="clock").json()["id"]
    meter.connect()
    order_is(bench, sent, "done")
    assert bench.http.delete(f"/api/orders/{sent}").status_code == 409
    assert [order["id"] for order in meter.orders] == [sent]
    # What is to be permitted is the time when the order goes out.
    assert meter.orders[0]["utc_s"] == bench.clock.now_ms // 1000


def test_a_disconnection_that_expired_is_never_sent(bench):
    meter = bench.meter(connect=False)
    order = send(bench, kind="relay", state="disconnected", expires_utc_s=TOMORROW_S).json()["id"]
    assert bench.get("/api/meters/JH-0001")["open_orders"] == 1
    advance_to_the_deadline(bench)
    ended = order_is(bench, order, "expired")
    assert (ended["attempts"], ended["result"]) == (0, "expired")
    meter.connect()
    other = send(bench, key="b", kind="clock").json()["id"]
    order_is(bench, other, "done")
    assert [order["id"] for order in meter.orders] == [other]


def test_orders_wait_for_their_meter_over_a_restart(bench, make_bench):
    meter = bench.meter(connect=False)
    body = {"kind": "link", "wifi": {"ssid": "new", "password": "a secret word"}}
    ids = [
        send(bench, key="a", **body).json()["id"],
        send(bench, key="b", kind="settings", document={"live_period_s": 5}).json()["id"],
    ]
    bench.stop()
    again = make_bench().start()
    meter.connect()
    for order in ids:
        order_is(again, order, "done")
    assert meter.link == [{"wifi": body["wifi"]}]
    assert [order["id"] for order in meter.orders] == ids
    # What the meter says that it has is what is shown.
    again.until(lambda: again.get("/api/meters/JH-0001")["settings"]["live_period_s"] == 5)


def test_no_secret_of_an_order_is_stored_or_shown(bench, tmp_path):
    meter = bench.meter(connect=False)
    ca, _key = certificate_files(tmp_path / "ca")
    text = ca.read_text()
    broker = {"host": "broker.example", "port": 8883, "ca": text, "new_password": True}
    wifi = {"ssid": "new", "password": "a secret word"}
    order = send(bench, kind="link", wifi=wifi, broker=broker).json()
    assert order["members"]["broker"]["user"] == "JH-0001.1"
    assert order["members"]["broker"]["ca"].startswith("SHA-256 ")
    for path in bench.folder.rglob("*"):
        if path.is_file():
            assert b"a secret word" not in path.read_bytes(), path
    meter.connect()
    order_is(bench, order["id"], "done")
    sent = meter.link[0]["broker"]
    assert (sent["host"], sent["port"], sent["ca"]) == ("broker.example", 8883, text)
    assert "password" not in order["members"]["broker"]
    assert sent["password"] not in json.dumps(bench.get("/api/meters/JH-0001/orders"))


def test_old_counter_goes_for_every_kind(bench):
    meter = bench.meter()
    meter.highest = 77
    done = order_is(bench, send(bench, kind="emergency", limit_mp=7).json()["id"], "done")
    assert done["counter"] == 78


def test_a_refusal_by_the_meter_ends_it(bench):
    meter = bench.meter()
    meter.kinds = ("recharge",)
    refused = order_is(bench, send(bench, kind="clock").json()["id"], "refused")
    assert refused["result"] == "unsupported"


def test_a_lost_ledger_holds_recharges_but_nothing_else(bench):
    meter = bench.meter()
    meter.ledger_lost = True
    recharge = bench.recharge().json()["id"]
    waiting = lambda: bench.get(f"/api/recharges/{recharge}")["code"] == "resync_needed"  # noqa: E731
    bench.until(waiting)
    assert bench.get(f"/api/recharges/{recharge}")["state"] == "sent"
    alarms = " ".join(bench.get("/api/health")["alarms"])
    assert "bijli meter resync JH-0001" in alarms
    # Its records from before the loss may still be on their way: no totals without them.
    shown = bench.get("/api/meters/JH-0001/resync")
    assert shown["needed"] is True
    body = {"document": shown["document"]}
    key = {"Idempotency-Key": "r"}
    refused = bench.http.post("/api/meters/JH-0001/resync", json=body, headers=key)
    assert (refused.status_code, refused.json()["field"]) == (409, "meter")
    other = send(bench, kind="relay", state="connected").json()["id"]
    order_is(bench, other, "done")
    assert meter.account.credits_mp == 10_000_000
    # The meter says that it takes credit again, for whatever reason.
    meter.ledger_lost = False
    meter.event(1033)
    meter.flush()
    done = bench.recharge_is(recharge, "confirmed")
    assert done["code"] == ""
    assert meter.account.credits_mp == 15_000_000
    assert "resync" not in " ".join(bench.get("/api/health")["alarms"])


def test_a_resync_gives_an_erased_meter_its_totals_back(bench):
    meter = bench.meter()
    meter.block(1500)
    confirmed = bench.recharge(key="a").json()["id"]
    bench.recharge_is(confirmed, "confirmed")
    arrears = send(bench, key="b", kind="arrears", amount_mp=3_000_000, share_percent=50)
    order_is(bench, arrears.json()["id"], "done")
    meter.flush()
    # The answer to this one came, its record did not.
    meter.send_records = False
    answered = bench.recharge(key="c", amount_mp=2_000_000).json()["id"]
    bench.recharge_is(answered, "confirmed")
    refund = {"kind": "adjustment", "entry": "refund", "amount_mp": -500_000}
    order_is(bench, send(bench, key="c2", **refund).json()["id"], "done")
    before = meter.account.state()
    balance_mp = meter.account.balance_mp(meter.import_wh)
    not_needed = bench.get("/api/meters/JH-0001/resync")
    assert not_needed["needed"] is False
    body = {"document": not_needed["document"]}
    key = {"Idempotency-Key": "r"}
    assert bench.http.post("/api/meters/JH-0001/resync", json=body, headers=key).status_code == 409

    meter.lose_ledger()
    meter.send_records = True
    meter.block(200)
    meter.flush()
    bench.until(lambda: bench.get("/api/meters/JH-0001/balance")["ledger_lost"])
    assert bench.get("/api/meters/JH-0001/balance")["agree"] is None
    waits = bench.recharge(key="d", amount_mp=100).json()["id"]
    bench.until(lambda: bench.get(f"/api/recharges/{waits}")["code"] == "resync_needed")
    assert "bijli meter resync JH-0001" in " ".join(bench.get("/api/health")["alarms"])
    shown = bench.get("/api/meters/JH-0001/resync")
    assert shown["needed"] is True
    assert shown["document"] == {**before, "import_wh": 1700}
    assert shown["balance_mp"] == balance_mp - 200 * 850
    wrong = {**shown["document"], "credits_mp": 10**9}
    refused = bench.http.post("/api/meters/JH-0001/resync", json={"document": wrong}, headers=key)
    assert (refused.status_code, refused.json()["field"]) == (409, "document")

    run = CliRunner().invoke(
        app,
        ["meter", "resync", "JH-0001", "--gateway", bench.gateway.http_url],
        input="y\n",
    )
    assert run.exit_code == 0, run.output
    assert "balance          143.00 ₹" in run.output, run.output
    bench.recharge_is(waits, "confirmed")
    meter.wait_for(lambda: meter.acked == len(meter.journal))
    assert meter.account.balance_mp(meter.import_wh) == balance_mp - 200 * 850 + 50
    bench.until(lambda: bench.get("/api/meters/JH-0001/balance")["agree"] is True)
    assert bench.get("/api/health")["alarms"] == []

    # A second loss: what was confirmed before the first resync is in its totals already.
    credits_mp = meter.account.credits_mp
    meter.lose_ledger()
    meter.flush()
    bench.until(lambda: bench.get("/api/meters/JH-0001/balance")["ledger_lost"])
    again = bench.get("/api/meters/JH-0001/resync")["document"]
    assert again["credits_mp"] == credits_mp
