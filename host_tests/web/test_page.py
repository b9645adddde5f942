"""The page: self-contained, escapes everything, shows what happens (in a browser if any)."""

import os
import re
import shutil
import subprocess
from importlib import resources

import pytest

from host_tests.gateway.conftest import bench, clock, make_bench  # noqa: F401, fixtures

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PAGE = resources.files("gateway").joinpath("web", "index.html").read_text("utf-8")


def test_nothing_is_loaded_from_elsewhere():
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", PAGE)
    assert "@import" not in PAGE
    assert "url(" not in PAGE


def test_nothing_from_outside_becomes_html():
    for danger in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert danger not in PAGE


def test_the_policy_forbids_the_rest(bench):  # noqa: F811
    response = bench.http.get("/")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy


@pytest.fixture
def browse(bench, tmp_path):  # noqa: F811
    """Opens the page in a browser and returns the text that a person sees."""
    program = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if program is None:
        missing = "no browser (chromium) on this machine"
        if os.environ.get("BIJLI_REQUIRE_BROWSER"):
            pytest.fail(missing)
        pytest.skip(missing)

    def browse():
        done = subprocess.run(
            [
                program,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                f"--user-data-dir={tmp_path}/browser",
                "--virtual-time-budget=3000",
                "--timeout=10000",
                "--dump-dom",
                bench.gateway.http_url,
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        body = done.stdout.split("<main>")[1].split("<script>")[0]
        return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))

    return browse


def test_a_browser_shows_meters_recharges_and_events(bench, browse):  # noqa: F811
    meter = bench.meter(consumer="<img src=x onerror=alert(1)> & Sons")
    meter.block(1500)
    meter.event(1001, 5_000_000)
    meter.flush()
    bench.recharge_is(bench.recharge().json()["id"], "confirmed")
    meter.flush()
    meter.send_live(
        power_mw=412_000, credit="low_credit",
        today_wh=1500, today_mp=1_030_000, days_left=13, next_kwh_mp=850_000,
    )  # fmt: skip
    bench.until(lambda: bench.gateway.live.view("JH-0001").get("power_mw") == 412_000)
    text = browse()
    for words in (
        "JH-0001",
        "online",
        "₹ 139.70",
        "supply on",
        "low credit",
        "412 W",
        "1.500 kWh",
        "₹ 50.00 confirmed by the meter, balance ₹ 139.70",
        "low credit: below 50.00 rupees",
        "&lt;img src=x onerror=alert(1)&gt; &amp; Sons",
        "Today 1.500 kWh, ₹ 10.30",
        "Days left, about 13",
        "Next kWh ₹ 8.50",
        "energy above 1 kWh 0.500 kWh at 8.50 -4.25000",
        "Closing balance 2026-01-05 13:30 139.70000",
    ):
        assert words in text, text


def test_a_browser_shows_orders_service_and_alarms(bench, browse):  # noqa: F811
    meter = bench.meter()
    ids = []
    for number, body in enumerate(
        (
            {"kind": "relay", "state": "connected"},
            {"kind": "arrears", "amount_mp": 5_000_000, "share_percent": 20},
        )
    ):
        answer = bench.http.post(
            "/api/meters/JH-0001/orders", json=body, headers={"Idempotency-Key": str(number)}
        )
        ids.append(answer.json()["id"])
    bench.until(lambda: bench.get(f"/api/orders/{ids[1]}")["state"] == "done")
    meter.send_live(service="ledger_lost", arrears_mp=5_000_000)
    bench.until(lambda: bench.gateway.live.view("JH-0001").get("service"))
    text = browse()
    for words in (
        "Orders",
        "supply on done",
        "arrears of 50.00 rupees, paid by 20 % of each recharge done",
        "ledger lost, needs a resync",
        "bijli meter resync JH-0001",
        "Arrears ₹ 50.00",
    ):
        assert words in text, text


def test_a_browser_shows_payment_mode_debts_and_emergency_credit(bench, browse):  # noqa: F811
    meter = bench.meter()
    meter.send_live(
        balance_mp=-2_500_000, credit="out_of_credit", emergency="selectable",
        amount_to_clear_mp=2_500_001, arrears_mp=700_000,
    )  # fmt: skip
    bench.until(lambda: bench.gateway.live.view("JH-0001").get("emergency") == "selectable")
    text = browse()
    for words in (
        "out of credit",
        "To be in credit ₹ 25.01",
        "Arrears ₹ 7.00",
        "Emergency credit offered: press the button",
    ):
        assert words in text, text
    meter.send_live(balance_mp=-2_500_000, mode="credit", due_mp=2_500_000, arrears_mp=0)
    bench.until(lambda: bench.gateway.live.view("JH-0001").get("mode") == "credit")
    text = browse()
    assert "postpaid" in text
    assert "Amount due ₹ 25.00" in text
    for words in ("in credit", "To be in credit", "Emergency credit"):
        assert words not in text.split("Orders")[0], text


def test_a_browser_shows_the_profiles_by_their_names_in_is_15959(bench, browse):  # noqa: F811
    meter = bench.meter()
    start_s = 1_767_551_400  # 2026-01-05 00:00 in India
    for number in range(3):
        meter.load(1500)
        length_s = 86400 * (1 if number < 2 else 2)
        meter.utc_s = start_s + number * 86400 + length_s
        start = start_s + number * 86400
        meter.day(start, 1500, end_utc_s=start + length_s)
    meter.billing(start_s - 4 * 86400, 31, 4500)
    meter.flush()
    meter.send_live(
        demand_w=940, demand_max_w=3120, demand_max_utc_s=start_s + 43200,
        supply_min=371, power_failures=7,
    )  # fmt: skip
    bench.until(lambda: bench.gateway.live.view("JH-0001").get("demand_w") == 940)
    text = browse()
    for words in (
        "Profiles of JH-0001",
        "Voltage 1.0.12.7.0 230.0 V",
        "Demand so far 1.0.1.4.0 940 W",
        "Maximum demand of the month 1.0.1.6.0 3120 W at 2026-01-05 12:00",
        "Supply today 6 h 11 min",
        "Power failures 0.0.96.7.0 7",
        "Daily profile 1.0.99.2.0",
        "2026-01-05 1.500 6.65 3120 W 2026-01-05 12:00 1350 12 1.500 0.000",
        "2026-01-07 to 2026-01-08 1.500",
        "Billing profile 1.0.98.1.0",
        "2026-01 4.500 3120 W 2026-01-01 12:00 44550 7 4.500 0.000",
    ):
        assert words in text, text


def test_a_browser_shows_a_gateway_without_meters(browse):
    assert "No meter is registered yet" in browse()


def test_a_closed_account_is_shown(bench, browse):  # noqa: F811
    meter = bench.meter()
    meter.send_live(account="A-2", account_status="closed")
    bench.until(lambda: bench.gateway.live.view("JH-0001").get("account_status") == "closed")
    page = browse()
    assert "account closed" in page
    assert "A-2" in page
    assert "in credit" not in page


def test_a_browser_shows_why_a_supply_is_off_and_why_it_stays_on(bench, browse):  # noqa: F811
    off, held = bench.meter(), bench.meter("JH-0002")
    off.event(253)
    off.flush()
    off.send_live(
        state="disconnected", contact=0, reason="order", causes=["order", "credit"],
        operations=17, demand_w=1,
    )  # fmt: skip
    held.send_live(hold="server_down", would_cut=1, credit="out_of_credit", over_load_days=2)
    view = bench.gateway.live.view
    bench.until(lambda: view("JH-0001").get("operations") and view("JH-0002").get("hold"))
    alarm = "JH-0001: the contact did not open"
    bench.until(lambda: alarm in " ".join(bench.get("/api/health")["alarms"]))
    text = browse()
    for words in (
        "supply off by the utility (order of the utility, no credit)",
        "Relay operations 17",
        alarm,
        "No cut now no answer from the gateway",
        "would be cut now, but only warns",
        "Days over load 2",
    ):
        assert words in text, text
