"""The supply at the gateway: causes, what holds a cut, alarms, settings of the rules."""

import pytest
from typer.testing import CliRunner

from firmware.console import lines
from firmware.core import config as firmware_config
from firmware.core import events
from firmware.core.records import REASONS
from firmware.relay import arbitration
from gateway import words
from gateway.cli import app

READY = "ready_for_reconnection"
ALARM = "JH-0001: the contact did not open: it may be welded, the supply is still on"


def control(meter, state, reason, standing):
    contact = int(state == "connected")
    meter.record("control", state=state, contact=contact, reason=reason, standing=standing)


def row(bench):
    return bench.get("/api/meters/JH-0001")["live"]


def test_present_values_say_what_stands_and_why_no_cut_happens(bench):
    meter = bench.meter()
    meter.send_live(
        state="disconnected", contact=0, reason="order", causes=["order", "credit"],
        hold="window", operations=17, heard_utc_s=1_767_600_000, would_cut=0,
        calendar="bihar-2026", over_load_days=3,
    )  # fmt: skip
    bench.until(lambda: row(bench).get("operations") == 17)
    live = row(bench)
    assert live["causes"] == ["order", "credit"]
    assert live["causes_words"] == ["order of the utility", "no credit"]
    assert (live["hold"], live["hold_words"]) == ("window", "outside the allowed hours")
    assert (live["heard_utc_s"], live["would_cut"]) == (1_767_600_000, 0)
    assert (live["calendar"], live["over_load_days"]) == ("bihar-2026", 3)
    # A meter of older firmware has none of these.
    meter.send_live(power_mw=7)
    bench.until(lambda: row(bench).get("power_mw") == 7)
    assert (row(bench)["causes_words"], row(bench)["hold_words"]) == ([], "")


def test_words_of_a_later_firmware_are_shown_as_they_are(bench):
    meter = bench.meter()
    meter.send_live(causes=["flood"], hold="flood", power_mw=7)
    bench.until(lambda: row(bench).get("power_mw") == 7)
    assert (row(bench)["causes_words"], row(bench)["hold_words"]) == (["flood"], "flood")


def test_a_control_record_changes_the_row_at_once(bench):
    meter = bench.meter()
    both = arbitration.LIMITER | arbitration.CREDIT
    for state, reason, standing, text, why in (
        ("ready_for_reconnection", "limiter", both, "comes back by itself", "load above its limit"),
        ("ready_for_reconnection", "ended", arbitration.CREDIT, "with a recharge", "no credit"),
        ("disconnected", "tamper", arbitration.TAMPER, "until the utility", "tamper"),
        ("connected", "order", 0, "supply on", ""),
    ):
        control(meter, state, reason, standing)
        meter.flush()
        bench.until(lambda state=state: row(bench).get("state") == state)
        bench.until(lambda text=text: text in row(bench)["state_words"])
        assert row(bench)["reason_words"] == why
        assert row(bench)["contact"] == int(state == "connected")
    assert row(bench)["causes"] == []


@pytest.mark.parametrize(
    ("state", "reason", "standing", "text"),
    [
        ("connected", "recharge", 0, "supply on (recharged)"),
        ("connected", "start", 0, "supply on (at start)"),
        (READY, "credit", 16, "supply off, comes back with a recharge (no credit)"),
        (READY, "test", 32, "supply off, comes back by itself (test of the switch)"),
        ("disconnected", "order", 17, "supply off by the utility (order of the utility)"),
        (
            READY,
            "order",
            16,
            "supply off, comes back with a recharge (no credit); why now: order of the utility",
        ),
    ],
)
def test_a_control_record_in_words(state, reason, standing, text):
    record = {"type": "control", "state": state, "reason": reason, "standing": standing}
    assert words.describe(record) == text


def test_every_cause_and_every_hold_has_words():
    assert set(arbitration.words(arbitration.CAUSES)) <= set(words.REASONS)
    for standing in range(arbitration.CAUSES + 1):
        state, _contact, cause = arbitration.decide(standing)
        assert words.causes({"standing": standing})[:1] == ([cause] if cause else [])
        assert words.supply(state, cause).startswith("supply on" if not standing else "supply off")
    assert words.causes({"standing": 0x40}) == []
    holds = {arbitration.hold_word(1 << bit) for bit in range(14)}
    assert holds <= set(words.HOLDS)
    assert len(holds) == 14


def test_a_contact_event_says_its_reason():
    def text(code, detail):
        return words.describe({"type": "event", "code": code, "detail": detail})

    assert text(301, REASONS.index("credit")) == "contact opened: no credit"
    assert text(302, 0) == "contact closed"  # by firmware that told no reason
    assert text(301, 999) == "contact opened"
    assert text(1062, arbitration.LIMITER).startswith("load above its limit too often")
    assert text(1062, 0).startswith("a limit too often")
    assert "next allowed window" in text(1003, 1_767_600_000)
    assert "is not known" in text(1003, 0)  # it only warns, or the time is unknown
    assert lines.detail({"code": 1003, "detail": 0}, 19800) == "when is not known"


def test_a_welded_contact_is_an_alarm_until_it_works_again(bench, make_bench):
    meter = bench.meter()
    bench.meter("JH-0002")
    meter.event(events.SWITCH_WELD)
    meter.flush()
    bench.until(lambda: ALARM in bench.get("/api/health")["alarms"])
    found = bench.get("/api/meters", alarm=True)
    assert [view["id"] for view in found] == ["JH-0001"]
    assert f"JH-0001: {found[0]['alarms'][0]}" == ALARM
    assert len(bench.get("/api/meters")) == 2
    # It outlives the gateway, and the meter need not say it again.
    bench.stop()
    bench = make_bench(bench.folder).start()
    bench.until(lambda: ALARM in bench.get("/api/health")["alarms"])
    meter.event(events.NOT_CLOSED)
    meter.flush()
    bench.until(lambda: "did not close" in " ".join(bench.get("/api/health")["alarms"]))
    meter.event(events.CONTACT_WORKS, events.NOT_CLOSED)
    meter.flush()
    bench.until(lambda: bench.get("/api/health")["alarms"] == [])
    # Older firmware says both with one event, and that it is over by that of the contact.
    meter.event(events.SWITCH_WELD, 1)
    meter.flush()
    bench.until(lambda: "did not close" in " ".join(bench.get("/api/health")["alarms"]))
    meter.event(events.CONNECTED)
    meter.flush()
    bench.until(lambda: bench.get("/api/health")["alarms"] == [])
    assert bench.get("/api/meters", alarm=True) == []


def test_who_would_be_cut_is_listed_but_is_no_fault(bench):
    meter = bench.meter()
    meter.send_live(would_cut=1)
    bench.until(lambda: row(bench).get("would_cut") == 1)
    found = bench.get("/api/meters", alarm=True)
    assert [view["alarms"] for view in found] == [[words.WOULD_CUT]]
    assert bench.get("/api/health")["status"] == "ok"
    result = CliRunner().invoke(
        app, ["meter", "list", "--alarms"], env={"BIJLI_GATEWAY": bench.gateway.http_url}
    )
    assert result.output == f"JH-0001: {words.WOULD_CUT}\n"
    meter.send_live(would_cut=0)
    bench.until(lambda: row(bench)["would_cut"] == 0)
    assert bench.get("/api/meters", alarm=True) == []


def test_a_meter_that_is_not_in_service_yet_is_put_into_it(bench):
    assert bench.register("JH-0002", commissioning=1)["commissioning"] == 1
    meter = bench.meter()
    assert meter.config["commissioning"] == 0
    result = CliRunner().invoke(
        app,
        ["order", "relay", "JH-0001", "commissioned", "--wait"],
        env={"BIJLI_GATEWAY": bench.gateway.http_url},
    )
    assert result.exit_code == 0, result.output
    assert "put into service: done" in result.output
    assert [order["state"] for order in meter.orders] == ["commissioned"]


def test_every_rule_of_the_relay_can_be_registered_and_ordered(bench):
    tables = (firmware_config.RULES, firmware_config.RELAY)
    lows, highs = {}, {}
    for name, default, low, high in firmware_config.rows(tables):
        lows[name] = default if name.startswith("window_") else low
        highs[name] = default if name.startswith("window_") else high
    meter = bench.meter()
    made = []
    for number, document in enumerate((lows, highs)):
        answer = bench.http.post(
            "/api/meters/JH-0001/orders",
            json={"kind": "settings", "document": document},
            headers={"Idempotency-Key": str(number)},
        )
        assert answer.status_code == 201, answer.text
        made.append(answer.json()["id"])
    for order in made:
        bench.until(lambda order=order: bench.get(f"/api/orders/{order}")["state"] == "done")
    assert [order["document"] for order in meter.orders] == [lows, highs]
