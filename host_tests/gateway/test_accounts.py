"""Accounts that are closed, opened, passed on and moved: at the gateway, over real orders."""

import sqlite3

from typer.testing import CliRunner

from gateway.cli import app

PRICES = (605, 850)  # mp per Wh below and above 1 kWh


def begin(bench, meter="JH-0001", key="a-1", **body):
    return bench.http.post(
        f"/api/meters/{meter}/accounts", json=body, headers={"Idempotency-Key": key}
    )


def change_is(bench, change, state):
    bench.until(lambda: bench.get(f"/api/account-changes/{change}")["state"] == state)
    return bench.get(f"/api/account-changes/{change}")


def done(bench, *arguments, **body):
    answer = begin(bench, *arguments, **body)
    assert answer.status_code == 201, answer.text
    return change_is(bench, answer.json()["id"], "done")


def shown(bench, meter="JH-0001"):
    return bench.get(f"/api/meters/{meter}/accounts")


def agrees(bench, meter="JH-0001"):
    return bench.get(f"/api/meters/{meter}/balance")["agree"]


TENANT = {
    "kind": "tenant",
    "account": "A-2",
    "consumer": "Birsa Munda",
    "phone": "+919999999999",
    "opening_balance_mp": 2_500_000,
    "reading_wh": 41_000,
}


def test_an_account_is_closed_with_its_final_statement(bench):
    meter = bench.meter()
    meter.block(1500)
    meter.flush()
    assert shown(bench)["status"] == "active"
    change = done(bench, kind="close")
    charge_mp = 1000 * PRICES[0] + 500 * PRICES[1]
    closing = change["closing"]
    assert closing["document"] == {
        "account": "",
        "charge_mp": charge_mp,
        "balance_mp": 10_000_000 - charge_mp,
        "arrears_mp": 0,
        "refund_mp": 10_000_000 - charge_mp,
        "due_mp": 0,
    }
    assert closing["agrees"] is True
    assert sum(line["amount_mp"] for line in closing["lines"]) == charge_mp
    assert [line["quantity"] for line in closing["lines"]] == [1000, 500]
    assert shown(bench)["status"] == "closed"
    assert meter.account.balance_mp(meter.import_wh) == 0
    meter.block(700)
    meter.flush()
    bench.until(lambda: agrees(bench))
    assert bench.get("/api/meters/JH-0001/balance")["recomputed_mp"] == 0
    texts = [event["text"] for event in bench.get("/api/meters/JH-0001/events")]
    assert "account closed: 89.70 rupees are to be refunded" in texts


def test_a_new_tenant_gets_an_account_of_its_own(bench):
    meter = bench.meter()
    meter.block(1500)
    tariff = {**meter.config["tariff"], "version": 2}
    change = done(bench, **TENANT, tariff=tariff)
    assert (change["consumer_before"], change["consumer"]) == ("Asha Devi", "Birsa Munda")
    assert [order["kind"] for order in meter.orders] == ["account", "tariff", "account"]
    assert meter.orders[-1]["document"] == {
        "account": "A-2",
        "balance_mp": 2_500_000,
        "reading_wh": 41_000,
    }
    now = bench.get("/api/meters/JH-0001")
    assert (now["consumer"], now["phone"]) == ("Birsa Munda", "+919999999999")
    assert bench.gateway.live.view("JH-0001")["consumer"] == "Birsa Munda"
    meter.block(500)
    meter.flush()
    bench.until(lambda: agrees(bench))
    assert shown(bench)["account"] == "A-2"
    assert shown(bench)["balance_mp"] == 2_500_000 - 500 * PRICES[0]


def test_the_same_key_is_the_same_change(bench):
    meter = bench.meter(connect=False)
    first = begin(bench, **TENANT)
    again = begin(bench, **TENANT)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert begin(bench, kind="close").status_code == 409
    other = begin(bench, key="b", kind="close")
    assert (other.status_code, other.json()["field"]) == (409, "meter")
    meter.connect()
    change_is(bench, first.json()["id"], "done")
    assert len(meter.orders) == 2
    assert begin(bench, **TENANT).json()["state"] == "done"
    assert len(meter.orders) == 2


REFUSED = [
    ({"kind": "burn"}, 422, "kind"),
    ({**TENANT, "account": ""}, 422, "account"),
    ({**TENANT, "consumer": ""}, 422, "consumer"),
    ({**TENANT, "phone": "12"}, 422, "phone"),
    ({**TENANT, "opening_balance_mp": 10**10 + 1}, 422, "opening_balance_mp"),
    ({**TENANT, "tariff": {"id": "x"}}, 422, "tariff.version"),
    ({**TENANT, "kind": "open"}, 409, "meter"),
    ({"kind": "replace", "account": "A", "target": "JH-0001"}, 422, "target"),
    ({"kind": "replace", "account": "A", "target": "JH-0009"}, 404, "meter"),
    ({"kind": "replace", "account": "A", "target": "JH-0002"}, 409, "target"),
    ({"kind": "replace", "account": "A", "target": "JH-0003", "totals": {}}, 409, "totals"),
]


def test_what_cannot_be_is_refused_before_anything_is_sent(bench):
    bench.register()
    bench.register("JH-0002")
    bench.register("JH-0003", opening_balance_mp=0)
    for body, status, field in REFUSED:
        refused = begin(bench, **body)
        assert (refused.status_code, refused.json()["field"]) == (status, field), body
    assert bench.get("/api/meters/JH-0001/orders") == []
    assert shown(bench)["changes"] == []


def old_and_new(bench):
    """A meter in the middle of a month, and one that shall take its place."""
    old = bench.meter()
    old.block(700)
    old.flush()
    new = bench.meter("JH-0002", opening_balance_mp=0)
    return old, new


REPLACE = {"kind": "replace", "account": "A-1", "target": "JH-0002"}


def moved(bench, old, new):
    """Slabs go on at the new meter, and nothing is charged twice."""
    assert old.account.closed
    assert old.account.balance_mp(old.import_wh) == 0
    assert new.account.number == "A-1"
    new.block(500)
    new.flush()
    expected_mp = 10_000_000 - 1000 * PRICES[0] - 200 * PRICES[1]
    assert new.account.balance_mp(new.import_wh) == expected_mp
    bench.until(lambda: agrees(bench) and agrees(bench, "JH-0002"))
    assert bench.get("/api/meters/JH-0002")["consumer"] == "Asha Devi"


def test_a_replaced_meter_hands_its_account_on(bench):
    old = bench.meter()
    tariff = {**old.config["tariff"], "version": 2}
    bench.http.post("/api/meters/JH-0001/tariff", json={"document": tariff})
    old.wait_for(lambda: old.account.tariff.version == 2)
    bench.until(lambda: bench.get("/api/meters/JH-0001")["open_orders"] == 0)
    old.block(700)
    old.flush()
    new = bench.meter("JH-0002", opening_balance_mp=0)
    done(bench, **REPLACE)
    assert [order["kind"] for order in new.orders] == ["tariff", "account"]
    assert new.account.tariff.version == 2
    moved(bench, old, new)


def test_a_tariff_that_was_held_follows_though_its_time_came_meanwhile(bench, clock):
    old, new = old_and_new(bench)
    now_utc_s = clock.utc_ms() // 1000
    held = {**old.config["tariff"], "version": 2, "effective_from_utc_s": now_utc_s + 60}
    old.record("passive", document=held)
    old.flush()
    new.kinds = ("recharge", "tariff")
    change = begin(bench, **REPLACE).json()["id"]
    change_is(bench, change, "refused")
    new.wait_for(lambda: new.account.tariff.version == 2)
    clock.advance(120_000)
    new.kinds = FakeKinds
    bench.http.post(f"/api/account-changes/{change}/retry")
    change_is(bench, change, "done")
    new.wait_for(lambda: new.account.tariff.version == 2)
    sent = [(order["kind"], order["document"].get("version")) for order in new.orders]
    assert sent == 2 * [("tariff", 1), ("account", None), ("tariff", 2)]


def test_a_replacement_goes_on_after_a_restart_between_its_steps(bench, make_bench):
    old, new = old_and_new(bench)
    new.deaf = True
    change = begin(bench, **REPLACE).json()["id"]
    change_is(bench, change, "opening")
    new.wait_for(lambda: new.orders)
    bench.stop()
    new.deaf = False
    again = make_bench().start()
    change_is(again, change, "done")
    moved(again, old, new)


def test_a_closing_whose_record_comes_while_the_gateway_is_away_is_not_forgotten(bench, make_bench):
    old, new = old_and_new(bench)
    old.send_records = False
    change = begin(bench, **REPLACE).json()["id"]
    bench.until(lambda: bench.get("/api/meters/JH-0001")["open_orders"] == 0)
    assert bench.get(f"/api/account-changes/{change}")["state"] == "closing"
    bench.stop()
    again = make_bench().start()
    again.until(lambda: again.gateway.live.view("JH-0001")["online"])
    old.send_records = True
    old.flush()
    change_is(again, change, "done")
    moved(again, old, new)


def test_a_dead_meter_is_replaced_by_what_the_gateway_knows(bench):
    old, new = old_and_new(bench)
    old.vanish()
    totals = shown(bench)["totals"]
    change = done(bench, **REPLACE, totals=totals)
    assert change["closing"] is None
    new.block(500)
    new.flush()
    expected_mp = 10_000_000 - 1000 * PRICES[0] - 200 * PRICES[1]
    assert new.account.balance_mp(new.import_wh) == expected_mp
    bench.until(lambda: agrees(bench, "JH-0002"))
    # It comes back: it is closed, and says what it had consumed since.
    old.block(10)
    old.connect()
    bench.until(lambda: shown(bench)["status"] == "closed")
    late = shown(bench)["changes"][0]["closing"]["document"]
    assert late["balance_mp"] == 10_000_000 - 710 * PRICES[0]
    assert old.account.balance_mp(old.import_wh) == 0


def test_a_change_that_is_asked_for_again_after_a_restoration_is_the_same(bench, make_bench):
    meter = bench.meter()
    with bench.gateway.store.reading() as connection:
        before = list(connection.connection.iterdump())
    done(bench, **TENANT)
    bench.stop()
    database = bench.folder / "gateway.sqlite"
    for file in database.parent.glob("gateway.sqlite-*"):
        file.unlink()
    database.unlink()
    restored = sqlite3.connect(database)
    restored.executescript("\n".join(before))
    restored.close()
    again = make_bench().start()
    meter.acked = 0
    meter.flush()
    balance_mp = meter.account.balance_mp(meter.import_wh)
    done(again, **TENANT)
    assert meter.account.balance_mp(meter.import_wh) == balance_mp
    assert [record["type"] for record in meter.journal].count("account") == 2
    again.until(lambda: agrees(again))
    assert again.get("/api/meters/JH-0001")["consumer"] == "Birsa Munda"


def test_a_meter_that_refuses_can_be_asked_again(bench):
    old, new = old_and_new(bench)
    new.kinds = ("recharge", "tariff")
    change = begin(bench, **REPLACE).json()["id"]
    refused = change_is(bench, change, "refused")
    assert refused["result"] == "unsupported"
    new.kinds = FakeKinds
    answer = bench.http.post(f"/api/account-changes/{change}/retry")
    assert answer.status_code == 200, answer.text
    change_is(bench, change, "done")
    moved(bench, old, new)
    assert bench.http.post(f"/api/account-changes/{change}/retry").status_code == 409


FakeKinds = ("tariff", "account")


def test_what_a_meter_says_without_ground_moves_no_money(bench):
    old, new = old_and_new(bench)
    honest = old._account_document

    def lying(action, asked):
        return {**honest(action, asked), "balance_mp": 10**9}

    old._account_document = lying
    change = begin(bench, **REPLACE).json()["id"]
    assert change_is(bench, change, "refused")["result"] == "mismatch"
    assert new.orders == []
    assert bench.http.post(f"/api/account-changes/{change}/retry").status_code == 409


def test_the_command_line(bench, tmp_path):
    meter = bench.meter()
    meter.block(100)
    meter.flush()
    bench.meter("JH-0002", opening_balance_mp=0)

    def run(*arguments, code=0):
        result = CliRunner().invoke(
            app, ["account", *arguments, "--gateway", bench.gateway.http_url]
        )
        assert result.exit_code == code, result.output
        return result.output

    assert "account the first: active, balance 99.40 rupees" in run("show", "JH-0001")
    text = run("tenant", "JH-0001", "--account", "A-2", "--consumer", "Birsa Munda", "--wait")
    assert "JH-0001 passes from Asha Devi to Birsa Munda: done" in text
    assert "account closed: 99.40 rupees are to be refunded" in text
    text = run("replace", "JH-0001", "JH-0002", "--account", "A-2", "--yes", "--wait")
    assert "account of JH-0001 moves to JH-0002: done" in text
    text = run("show", "JH-0001")
    assert "account A-2: closed, balance 0.00 rupees" in text
    assert "energy up to 1 kWh: 0.61 rupees" in text
    assert "has no open account" in run("close", "JH-0001", "--yes", code=1)
    run("open", "JH-0001", "--account", "A-3", "--consumer", "C", "--opening", "-5", "--wait")
    assert meter.account.balance_mp(meter.import_wh) == -500_000
