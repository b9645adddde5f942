"""The HTTP API: idempotency, bounds, problem+json, provisioning."""

import json
import threading

import pytest

from firmware.core.config import Config
from gateway.meters import METERING
from host_tests.fakes.meter import FakeMeter
from host_tests.gateway.conftest import TARIFF


def refused(response, status, field):
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/problem+json")
    body = response.json()
    assert body["field"] == field
    assert body["status"] == status
    return body.get("allowed", "")


def recharge(bench, body, key="k-1", meter="JH-0001"):
    headers = {} if key is None else {"Idempotency-Key": key}
    return bench.http.post(f"/api/meters/{meter}/recharges", json=body, headers=headers)


CALENDAR = {"v": 1, "id": "nightly", "windows": [[127, 120, 180]]}


def test_provisioning_document_is_what_the_firmware_takes_and_is_given_once(bench):
    document = bench.register(
        phone="+919876543210",
        sanctioned_load_w=3000,
        opening_balance_mp=-5_000,
        wifi={"ssid": "home", "password": "12345678"},
        live_period_s=5,
        rules={"low_credit_mp": 1, "window_start_min": 0},
        metering={"over_voltage_mv": 260000},
        calendar=CALENDAR,
    )
    checked = Config(document)
    assert checked.calendar == CALENDAR
    assert (checked.over_voltage_mv, checked.low_voltage_mv) == (260000, 184000)
    assert (checked.live_period_s, checked.low_credit_mp, checked.grace_s) == (5, 1, 86400)
    assert (checked.block_min, checked.sanctioned_load_w) == (30, 3000)
    made_utc_ms = bench.get("/api/meters/JH-0001")["created_utc_ms"]
    assert document["made_utc_s"] == made_utc_ms // 1000
    assert set(document) == {
        "v",
        "meter",
        "made_utc_s",
        "key",
        "wifi",
        "broker",
        "utc_offset_s",
        "voltage_ratio_x1000",
        "current_ratio_x1000",
        "basic_current_ma",
        "sample_period_ms",
        "live_period_s",
        "block_min",
        "sanctioned_load_w",
        "export_counts",
        "commissioning",
        *METERING,
        "opening_balance_mp",
        "tariff",
        "rules",
        "calendar",
    }
    assert len(bytes.fromhex(document["key"])) == 32
    shown = json.dumps([bench.get("/api/meters"), bench.get("/api/meters/JH-0001")])
    assert document["key"] not in shown
    assert document["broker"]["password"] not in shown


@pytest.mark.parametrize(
    ("change", "field", "allowed"),
    [
        ({"id": "a b"}, "id", "1 to 24 characters of A-Z a-z 0-9 - _"),
        ({"id": "x" * 25}, "id", "1 to 24"),
        ({"id": None}, "id", "string"),
        ({"consumer": ""}, "consumer", "1 to 80"),
        ({"consumer": "a\nb"}, "consumer", "printable"),
        ({"phone": "12"}, "phone", "10 to 15 digits"),
        ({"sanctioned_load_w": 99}, "sanctioned_load_w", "from 100 to 100000"),
        ({"sanctioned_load_w": 1.5}, "sanctioned_load_w", "from 100 to 100000"),
        ({"sanctioned_load_w": True}, "sanctioned_load_w", "from 100 to 100000"),
        ({"block_min": 20}, "block_min", "15 or 30"),
        ({"opening_balance_mp": 10**11}, "opening_balance_mp", "to 10000000000"),
        ({"tariff": {**TARIFF, "version": 0}}, "tariff.version", "from 1 to 65535"),
        ({"tariff": {**TARIFF, "lines": []}}, "tariff.lines", "must be a list of 1 to 12"),
        ({"live_period_s": 0}, "live_period_s", "from 1 to 86400"),
        ({"rules": {"grace_s": -1}}, "grace_s", "from 0 to"),
        ({"metering": {"low_voltage_mv": 264000}}, "over_voltage_mv", "above low_voltage_mv"),
        ({"metering": {"sanctioned_load_w": 5}}, "metering.sanctioned_load_w", "creep_ppm"),
        ({"metering": {"humidity": 5}}, "metering.humidity", "creep_ppm"),
        ({"wifi": {"ssid": ""}}, "ssid", "1 to 32"),
        ({"calendar": {**CALENDAR, "windows": []}}, "calendar.windows", "a list of 1 to 8"),
        ({"surprise": 1}, "surprise", "not permitted"),
    ],
)
def test_bad_registration_names_field_and_range_and_changes_nothing(bench, change, field, allowed):
    body = {"id": "JH-0009", "consumer": "Asha", "tariff": TARIFF, **change}
    assert allowed in refused(bench.http.post("/api/meters", json=body), 422, field)
    assert bench.get("/api/meters") == []


def test_a_meter_is_registered_once_and_a_tariff_version_never_changes(bench):
    bench.register()
    body = {"id": "JH-0001", "consumer": "Asha", "tariff": TARIFF}
    refused(bench.http.post("/api/meters", json=body), 409, "id")
    other = {**TARIFF, "effective_from_utc_s": 1}
    body = {"id": "JH-0002", "consumer": "Asha", "tariff": other}
    refused(bench.http.post("/api/meters", json=body), 409, "tariff")
    assert [meter["id"] for meter in bench.get("/api/meters")] == ["JH-0001"]


def test_same_key_same_body_is_one_recharge(bench):
    bench.register()
    first = recharge(bench, {"rupees": "50"})
    again = recharge(bench, {"amount_mp": 5_000_000})
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    refused(recharge(bench, {"rupees": "50.01"}), 409, "Idempotency-Key")
    bench.register("JH-0002")
    refused(recharge(bench, {"rupees": "50"}, meter="JH-0002"), 409, "Idempotency-Key")
    assert len(bench.get("/api/meters/JH-0001/recharges")) == 1


def test_many_at_once_with_one_key_are_one_recharge(bench):
    meter = bench.meter()
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(bench.recharge().json()["id"]))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 20
    assert len(set(answers)) == 1
    bench.recharge_is(answers[0], "confirmed")
    assert meter.account.credits_mp == 15_000_000


@pytest.mark.parametrize(
    ("body", "field", "allowed"),
    [
        ({}, "amount_mp", "exactly one of"),
        ({"amount_mp": 1, "rupees": "1"}, "amount_mp", "exactly one of"),
        ({"amount_mp": 0}, "amount_mp", "from 1 to 10000000000"),
        ({"amount_mp": -5}, "amount_mp", "from 1 to 10000000000"),
        ({"amount_mp": 10_000_000_001}, "amount_mp", "from 1 to 10000000000"),
        ({"amount_mp": 1.0}, "amount_mp", "from 1 to 10000000000"),
        ({"amount_mp": "5"}, "amount_mp", "from 1 to 10000000000"),
        ({"rupees": "1.005"}, "rupees", "at most 2 decimals"),
        ({"rupees": "-1"}, "rupees", "at most 2 decimals"),
        ({"rupees": "1e3"}, "rupees", "at most 2 decimals"),
        ({"rupees": "1."}, "rupees", "at most 2 decimals"),
        ({"rupees": "\u0665"}, "rupees", "at most 2 decimals"),
        ({"rupees": "0"}, "rupees", "0.01 to 100000.00"),
        ({"rupees": "100000.01"}, "rupees", "0.01 to 100000.00"),
        ({"rupees": 5}, "rupees", "string"),
    ],
)
def test_bad_amounts_are_refused(bench, body, field, allowed):
    bench.register()
    assert allowed in refused(recharge(bench, body), 422, field)
    assert bench.get("/api/meters/JH-0001/recharges") == []


def test_bounds_are_inside(bench):
    bench.register()
    assert recharge(bench, {"rupees": "100000.00"}, "a").json()["amount_mp"] == 10_000_000_000
    assert recharge(bench, {"rupees": "0.01"}, "b").json()["amount_mp"] == 1_000
    assert recharge(bench, {"amount_mp": 1}, "c").json()["amount_mp"] == 1


@pytest.mark.parametrize("key", [None, "x" * 65, "a\tb"])
def test_the_idempotency_key_is_required_and_bounded(bench, key):
    bench.register()
    refused(recharge(bench, {"rupees": "1"}, key), 422, "Idempotency-Key")


def test_unknown_things_are_404(bench):
    refused(bench.http.get("/api/meters/JH-404"), 404, "meter")
    refused(bench.http.get("/api/meters/JH-404/balance"), 404, "meter")
    refused(recharge(bench, {"rupees": "1"}, meter="JH-404"), 404, "meter")
    refused(bench.http.get("/api/recharges/r-404"), 404, "recharge")
    refused(bench.http.delete("/api/recharges/r-404"), 404, "recharge")
    assert bench.http.get("/nowhere").headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"since": -1}, "since"),
        ({"since": 10, "until": 10}, "until"),
    ],
)
def test_bad_queries_name_the_field(bench, query, field):
    bench.register()
    response = bench.http.get("/api/meters/JH-0001/readings", params=query)
    assert "integer from" in refused(response, 422, field)


def test_readings_by_time(bench):
    meter = bench.meter()
    start_s = meter.utc_s
    meter.block(100)
    meter.block(100)  # as an older firmware wrote it
    meter.load(100)
    meter.load(100)
    meter.flush()
    found = bench.get("/api/meters/JH-0001/readings", since=start_s + 3600, until=start_s + 7200)
    assert [reading["utc_s"] for reading in found] == [start_s + 5400, start_s + 3600]
    assert len(bench.get("/api/meters/JH-0001/readings", limit=1)) == 1


def test_days_and_months_are_profiles_and_no_events(bench):
    meter = bench.meter()
    start_s = 1_767_551_400
    for number in range(3):
        meter.load(1000)
        meter.utc_s = start_s + (number + 1) * 86400
        meter.day(start_s + number * 86400, 1000)
    meter.billing(start_s - 4 * 86400, 31, 3000)
    meter.flush()
    days = bench.get("/api/meters/JH-0001/days", since=start_s, until=start_s + 2 * 86400 + 1)
    assert [(day["end_utc_s"], day["import_wh"]) for day in days] == [
        (start_s + 2 * 86400, 2000),
        (start_s + 86400, 1000),
    ]
    (month,) = bench.get("/api/meters/JH-0001/billing")
    assert (month["demand_max_w"], month["power_failures"]) == (3120, 7)
    kinds = {event["type"] for event in bench.get("/api/meters/JH-0001/events")}
    assert not kinds & {"load", "day", "billing"}


def test_body_that_is_no_json(bench):
    response = bench.http.post(
        "/api/meters", content=b"{nonsense", headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"


def test_openapi_describes_everything(bench):
    document = bench.get("/openapi.json")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
    amount = document["components"]["schemas"]["NewRecharge"]["properties"]["amount_mp"]
    assert amount["anyOf"][0]["maximum"] == 10_000_000_000
    assert document["components"]["schemas"]["NewRecharge"]["examples"]


def test_stream_sends_everything_first_and_changes_after(bench):
    meter = bench.meter()
    with bench.http.stream("GET", "/api/stream") as response:
        lines = (line[6:] for line in response.iter_lines() if line.startswith("data: "))
        first = json.loads(next(lines))
        assert [row["meter"] for row in first["meters"]] == ["JH-0001"]
        meter.send_live(power_mw=4242)
        for line in lines:
            if any(row.get("power_mw") == 4242 for row in json.loads(line)["meters"]):
                break
        state = None
        made = bench.recharge().json()["id"]
        for line in lines:
            for view in json.loads(line)["recharges"]:
                state = view["state"] if view["id"] == made else state
            if state == "confirmed":
                break


def test_a_foreign_host_name_is_refused_without_a_token(bench):
    response = bench.http.get("/api/meters", headers={"Host": "evil.example"})
    assert response.status_code == 403


def test_token(make_bench, tmp_path):
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    bench = make_bench(token_file=token).start()
    assert bench.http.get("/api/meters").status_code == 401
    assert bench.http.get("/").status_code == 200
    right = {"Authorization": "Bearer 0123456789abcdef"}
    assert bench.http.get("/api/meters", headers=right).json() == []
    wrong = {"Authorization": "Bearer 0123456789abcdeg"}
    assert bench.http.get("/api/meters", headers=wrong).status_code == 401


def test_a_meter_is_registered_anew_only_before_it_was_heard(bench):
    """A provisioning document that got lost before it reached the meter."""
    lost = bench.register()
    found = bench.register(replace=True, consumer="Asha Kumari")
    assert found["key"] != lost["key"]
    meter = FakeMeter(lost)
    bench.meters.append(meter)
    bench.until(lambda: meter.connect().refused)
    meter = FakeMeter(found)
    bench.meters.append(meter)
    meter.connect()
    bench.recharge_is(bench.recharge().json()["id"], "confirmed")
    body = {"id": "JH-0001", "consumer": "A", "tariff": meter.config["tariff"], "replace": True}
    assert bench.http.post("/api/meters", json=body).status_code == 409
    assert bench.get("/api/meters/JH-0001")["consumer"] == "Asha Kumari"
