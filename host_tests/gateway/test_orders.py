"""Orders: one in flight, until answered, under the same id; recharges exactly once."""

from firmware.link import codec
from gateway.desk import ANSWER_TIMEOUT_MS


def advance_to_the_deadline(bench):
    worker = bench.clock.worker_waits("orders", until=True)
    bench.clock.advance(worker.until_ms - bench.clock.now_ms)


def test_one_order_is_in_flight_and_they_come_in_order(bench):
    meter = bench.meter()
    meter.deaf = True
    ids = [bench.recharge(key=f"k{n}", amount_mp=n).json()["id"] for n in (1, 2, 3)]
    meter.wait_for(lambda: meter.orders)
    worker = bench.clock.worker_waits("orders", until=True)
    assert worker.hold, "time is held while a live meter owes an answer"
    assert [order["id"] for order in meter.orders] == ids[:1]
    meter.deaf = False
    advance_to_the_deadline(bench)
    for recharge in ids:
        bench.recharge_is(recharge, "confirmed")
    assert [order["id"] for order in meter.orders] == [ids[0], *ids]
    assert [order["counter"] for order in meter.orders] == [1, 1, 2, 3]


def test_a_deaf_meter_gets_the_same_order_again_and_stops_holding_the_clock(bench):
    meter = bench.meter()
    meter.deaf = True
    bench.recharge()
    for attempt in (1, 2, 3):
        meter.wait_for(lambda n=attempt: len(meter.orders) >= n)
        worker = bench.clock.worker_waits("orders", until=True)
        assert worker.hold is (attempt <= 2)
        assert worker.until_ms - bench.clock.now_ms == ANSWER_TIMEOUT_MS << (attempt - 1)
        bench.clock.advance(worker.until_ms - bench.clock.now_ms)
    meter.wait_for(lambda: len(meter.orders) >= 4)
    assert len({(order["id"], order["counter"]) for order in meter.orders}) == 1


def test_an_order_waits_for_its_meter_and_goes_out_on_connecting(bench):
    meter = bench.meter(connect=False)
    recharge = bench.recharge().json()["id"]
    assert bench.get("/api/meters/JH-0001")["open_orders"] == 1
    meter.connect()
    bench.recharge_is(recharge, "confirmed")


def test_a_reconnect_publishes_again_without_waiting(bench):
    meter = bench.meter()
    meter.deaf = True
    recharge = bench.recharge().json()["id"]
    meter.wait_for(lambda: meter.orders)
    meter.vanish()
    bench.until(lambda: not bench.gateway.live.view("JH-0001")["online"])
    assert not bench.clock.worker_waits("orders").hold, "a meter that is gone holds nothing"
    meter.deaf = False
    meter.connect()
    bench.recharge_is(recharge, "confirmed")
    assert {order["counter"] for order in meter.orders} == {1}


def test_old_counter_sends_the_same_id_anew(bench):
    meter = bench.meter()
    meter.highest = 41
    recharge = bench.recharge().json()["id"]
    done = bench.recharge_is(recharge, "confirmed")
    assert done["counter"] == 42
    assert [(order["id"], order["counter"]) for order in meter.orders] == [
        (recharge, 1),
        (recharge, 42),
    ]
    assert meter.account.credits_mp == 15_000_000


def test_refusal_ends_it_with_its_code(bench):
    meter = bench.meter()
    meter._decide = lambda order: {
        "v": 1,
        "id": order["id"],
        "counter": order["counter"],
        "result": "range",
        "field": "amount_mp",
        "balance_mp": 0,
        "highest": 0,
    }
    refused = bench.recharge_is(bench.recharge().json()["id"], "refused")
    assert (refused["code"], refused["field"]) == ("range", "amount_mp")


def test_the_credit_record_confirms_when_the_answer_is_lost(bench):
    meter = bench.meter()
    meter.deaf = True
    recharge = bench.recharge().json()["id"]
    meter.wait_for(lambda: meter.orders)
    meter.record(
        "credit",
        kind="recharge",
        id=recharge,
        counter=1,
        amount_mp=5_000_000,
    )
    meter.flush()
    done = bench.recharge_is(recharge, "confirmed")
    assert done["balance_mp"] == 15_000_000
    assert bench.get("/api/meters/JH-0001")["open_orders"] == 0
    # The late answer changes nothing.
    meter.send(
        "answer",
        codec.encode(
            {
                "v": 1,
                "id": recharge,
                "counter": 1,
                "result": "accepted",
                "balance_mp": 1,
                "highest": 1,
            }
        ),
    )
    meter.block(1)
    meter.flush()
    assert bench.get(f"/api/recharges/{recharge}") == done


def test_answers_to_nothing_are_quarantined(bench):
    meter = bench.meter()
    meter.send(
        "answer",
        codec.encode(
            {
                "v": 1,
                "id": "r-unknown",
                "counter": 1,
                "result": "accepted",
                "balance_mp": 1,
            }
        ),
    )
    meter.block(1)
    meter.flush()
    assert bench.get("/api/quarantine")[0]["field"] == "id"


def test_another_meters_answer_confirms_nothing(bench):
    first, second = bench.meter("JH-0001"), bench.meter("JH-0002")
    first.deaf = True
    recharge = bench.recharge(meter="JH-0001").json()["id"]
    first.wait_for(lambda: first.orders)
    second.send(
        "answer",
        codec.encode(
            {
                "v": 1,
                "id": recharge,
                "counter": 1,
                "result": "accepted",
                "balance_mp": 1,
            }
        ),
    )
    second.record("credit", kind="recharge", id=recharge, counter=1, amount_mp=5_000_000)
    second.flush()
    assert bench.get(f"/api/recharges/{recharge}")["state"] == "sent"


def test_orders_survive_a_restart(bench, make_bench):
    meter = bench.meter()
    meter.deaf = True
    sent = bench.recharge(key="a").json()["id"]
    queued = bench.recharge(key="b").json()["id"]
    meter.wait_for(lambda: meter.orders)
    bench.stop()
    meter.deaf = False
    again = make_bench().start()
    for recharge in (sent, queued):
        again.recharge_is(recharge, "confirmed")
    assert meter.account.credits_mp == 20_000_000
    assert again.get(f"/api/recharges/{sent}")["attempts"] >= 2


def test_cancel_only_before_the_first_publication(bench):
    meter = bench.meter(connect=False)
    first = bench.recharge(key="a").json()["id"]
    answer = bench.http.delete(f"/api/recharges/{first}")
    assert answer.status_code == 200
    assert answer.json()["state"] == "cancelled"
    assert bench.http.delete(f"/api/recharges/{first}").json()["state"] == "cancelled"
    meter.deaf = True
    second = bench.recharge(key="b").json()["id"]
    meter.connect()
    meter.wait_for(lambda: meter.orders)
    refused = bench.http.delete(f"/api/recharges/{second}")
    assert refused.status_code == 409
    assert [order["id"] for order in meter.orders] == [second]


def test_tariff_order(bench):
    meter = bench.meter()
    document = {**meter.config["tariff"], "version": 2}
    answer = bench.http.post("/api/meters/JH-0001/tariff", json={"document": document})
    assert answer.status_code == 202
    meter.wait_for(lambda: meter.account.tariff.version == 2)
    bench.until(lambda: bench.get("/api/meters/JH-0001")["open_orders"] == 0)
    assert bench.get("/api/meters/JH-0001/balance")["agree"] is True


def test_a_meter_whose_orders_cannot_be_sent_does_not_hold_up_the_others(bench):
    first, second = bench.meter("AA-0001"), bench.meter("ZZ-0001")
    for meter in (first, second):
        meter.flush()
    # Whoever has taken its broker password out of a meter can say this in its name.
    first.record("credit", kind="recharge", id="x", counter=codec.COUNTER_MAX, amount_mp=1)
    first.flush()
    bench.recharge(meter="AA-0001", key="a")
    fine = bench.recharge(meter="ZZ-0001", key="b").json()["id"]
    bench.recharge_is(fine, "confirmed")
