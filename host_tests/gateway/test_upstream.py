"""Upstream: everything reaches the head-end, in order, once, whatever it answers."""

import httpx
import pytest

from gateway import upstream
from host_tests.fakes.headend import FaultyHeadend


@pytest.fixture
def headend(tmp_path):
    made = FaultyHeadend(tmp_path / "headend")
    yield made
    made.close()


@pytest.fixture
def bench(make_bench, headend):
    return make_bench(headend_url=headend.url).start()


def delivered(bench):
    """True when nothing waits; moves the time on while a retry waits."""
    if bench.gateway.upstream.backlog() == {"records": 0, "recharges": 0}:
        return True
    for worker in list(bench.clock.workers):
        if worker.name == "upstream" and worker.waits and worker.until_ms:
            bench.clock.advance(max(0, worker.until_ms - bench.clock.now_ms))
    return False


def sequence(meter):
    return [(meter.id, meter.store, record["boot"], record["seq"]) for record in meter.journal]


def test_records_and_recharge_states_arrive_in_order(bench, headend):
    meter = bench.meter()
    for _ in range(50):
        meter.block(10)
    meter.flush()
    recharge = bench.recharge().json()["id"]
    bench.recharge_is(recharge, "confirmed")
    meter.wait_for(lambda: meter.acked == len(meter.journal))
    bench.until(lambda: delivered(bench))
    assert headend.identities() == sequence(meter)
    states = [(recharge, state) for state in ("queued", "sent", "confirmed")]
    assert headend.recharges() == states
    shown = httpx.get(headend.url + "/v1/meters", trust_env=False).json()[0]
    assert shown["last"]["balance_mp"] == meter.account.balance_mp(meter.import_wh)
    assert (shown["confirmed_count"], shown["confirmed_mp"]) == (1, 5_000_000)
    page = httpx.get(headend.url, trust_env=False).text
    assert "JH-0001" in page


@pytest.mark.parametrize("fault", [500, 503, 429, 401, 404, ("after", 500), ("after", 504)])
def test_faults_that_are_not_the_datas_are_tried_again(bench, headend, fault):
    headend.fail = lambda number, path, body: fault if number % 3 else None
    meter = bench.meter()
    for _ in range(40):
        meter.block(10)
        meter.flush()
    bench.until(lambda: delivered(bench))
    assert headend.identities() == sequence(meter)
    assert bench.gateway.upstream.rejected() == 0
    assert bench.get("/api/health")["status"] == "ok"


def test_a_head_end_that_is_away_costs_nothing(make_bench, tmp_path):
    away = FaultyHeadend(tmp_path / "headend")
    url = away.url
    bench = make_bench(headend_url=url).start()
    away.close()
    meter = bench.meter()
    for _ in range(10):
        meter.block(10)
    meter.flush()
    bench.until(lambda: bench.gateway.upstream.last_error)
    health = bench.get("/api/health")
    assert health["status"] == "degraded"
    assert health["upstream"]["backlog"]["records"] == 12
    bench.stop()
    back = FaultyHeadend(tmp_path / "headend")
    try:
        again = make_bench(headend_url=back.url).start()
        again.until(lambda: delivered(again))
        assert back.identities() == sequence(meter)
    finally:
        back.close()


def test_backoff_grows_and_is_bounded(bench, headend):
    headend.fail = lambda number, path, body: 500
    bench.meter()
    waits = []
    for _ in range(12):
        worker = bench.clock.worker_waits("upstream", until=True)
        waits.append(worker.until_ms - bench.clock.now_ms)
        bench.clock.advance(waits[-1])
    assert waits[:3] == [1000, 2000, 4000]
    assert waits[-1] == upstream.BACKOFF_MAX_MS


def test_poison_is_set_aside_and_the_rest_goes_on(bench, headend):
    headend.fail = lambda number, path, body: 422 if b'"detail":666' in body else None
    meter = bench.meter(connect=False)
    for number in range(60):
        meter.event(1012, 666 if number in (7, 8, 59) else number)
    meter.connect()
    bench.until(lambda: delivered(bench))
    poisoned = {record["seq"] for record in meter.journal if record.get("detail") == 666}
    assert headend.identities() == [i for i in sequence(meter) if i[3] not in poisoned]
    assert bench.gateway.upstream.rejected() == 3
    assert "refused 3 items" in " ".join(bench.get("/api/health")["alarms"])


def test_the_head_end_refuses_contradictions_and_nonsense(headend):
    record = {"seq": 1, "boot": 1, "type": "boot", "utc_s": 5, "balance_mp": 1, "import_wh": 0}

    def post(record, path="/v1/records", **changes):
        item = {"meter": "JH-0001", "store": "9f3a01bc", "received_utc_ms": 1, "record": record}
        body = {"v": 1, "gateway": "g", "items": [{**item, **changes}]}
        return httpx.post(headend.url + path, json=body, trust_env=False)

    assert post(record).json() == {"stored": 1, "known": 0}
    assert post(record).json() == {"stored": 0, "known": 1}
    assert post({**record, "balance_mp": 2}).status_code == 409
    assert post({**record, "seq": 0}).status_code == 422
    assert post(record, meter="a b").json()["field"] == "meter"
    assert post(record, path="/v1/recharges").status_code == 422
    assert len(headend.identities()) == 1
