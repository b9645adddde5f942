"""The commands of a person, against a running gateway."""

import json
import re
import threading

import pytest
from typer.testing import CliRunner

from firmware.core.config import read_document
from firmware.core.sealing import installer_code
from gateway import calendar_files
from gateway.cli import app
from host_tests.fakes.meter import FakeMeter
from host_tests.gateway.conftest import TARIFF


@pytest.fixture
def run(bench):
    """Runs a command against the bench's gateway; returns (exit code, output)."""

    def run(*arguments):
        result = CliRunner().invoke(
            app, [*arguments], env={"BIJLI_GATEWAY": bench.gateway.http_url, "COLUMNS": "160"}
        )
        return result.exit_code, result.output

    return run


@pytest.fixture
def tariff_file(tmp_path):
    path = tmp_path / "tariff.json"
    path.write_text(json.dumps(TARIFF))
    return str(path)


def test_add_list_show_recharge(bench, run, tmp_path, tariff_file):
    out = tmp_path / "config.json"
    code, text = run(
        "meter",
        "add",
        "JH-0001",
        "--consumer",
        "Asha Devi",
        "--tariff",
        tariff_file,
        "--out",
        str(out),
        "--opening",
        "-12.50",
    )
    assert code == 0, text
    assert out.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch("[0-9a-f]{8}", out.read_text().splitlines()[-1])
    config = read_document(str(out))
    assert config["opening_balance_mp"] == -1_250_000
    assert config["key"] not in text
    meter = FakeMeter(config)
    bench.meters.append(meter)
    meter.connect()
    meter.block(1500)
    meter.flush()
    code, text = run("meter", "installer-code", "JH-0001")
    assert text == installer_code(bytes.fromhex(config["key"])) + "\n"
    code, text = run("meter", "list")
    assert code == 0
    assert "JH-0001" in text and "online" in text
    code, text = run("recharge", "JH-0001", "100", "--wait")
    assert code == 0, text
    assert "confirmed, balance 77.20 rupees" in text
    meter.flush()
    code, text = run("meter", "show", "JH-0001")
    assert code == 0, text
    assert "77.20 ₹ recomputed: agrees" in text
    assert "energy above 1 kWh: 0.500 kWh at 8.50 = 4.25 ₹" in text


def test_a_ready_made_tariff_goes_by_its_name(bench, run, tmp_path):
    out = tmp_path / "config.json"
    code, text = run(
        *("meter", "add", "JH-0001", "--consumer", "Asha Devi", "--out", str(out)),
        *("--tariff", "sbpdcl-urban-2020"),
    )
    assert code == 0, text
    assert read_document(str(out))["tariff"]["lines"][0]["slabs"][3]["rate_mp_per_kwh"] == 850_000
    code, text = run("order", "tariff", "JH-0001", "jbvnl-urban-2025")
    assert code == 0, text
    assert "tariff jbvnl-urban-2025 version 1: queued" in text
    code, text = run("order", "tariff", "JH-0001", "no-such")
    assert code == 1
    assert "`bijli tariff list`" in text


def test_a_meter_gets_a_calendar_with_its_configuration(bench, run, tmp_path):
    def add(meter, *more):
        out = tmp_path / f"{meter}.json"
        code, text = run(
            *("meter", "add", meter, "--consumer", "Asha Devi", "--out", str(out)),
            *("--tariff", "sbpdcl-urban-2020", *more),
        )
        return out, code, text

    out, code, text = add("JH-0001", "--calendar", "bihar")
    assert code == 0, text
    assert read_document(str(out))["calendar"] == calendar_files.read("bihar")
    own = tmp_path / "own.json"
    own.write_text(json.dumps({**calendar_files.read("bihar"), "id": "own"}))
    out, code, text = add("JH-0002", "--calendar", str(own))
    assert code == 0, text
    assert read_document(str(out))["calendar"]["id"] == "own"
    out, code, text = add("JH-0003")
    assert code == 0, text
    assert "calendar" not in read_document(str(out))
    own.write_text(json.dumps({**calendar_files.read("bihar"), "windows": [[0, 600, 780]]}))
    for name, words in (("no-such", "`bijli calendar list`"), (str(own), "calendar.windows[0]")):
        out, code, text = add("JH-0004", "--calendar", name)
        assert code == 1
        assert words in text
        assert not out.exists()


def test_wait_follows_a_recharge_until_the_meter_is_there(bench, run):
    meter = bench.meter(connect=False)
    results = []
    thread = threading.Thread(
        target=lambda: results.append(run("recharge", "JH-0001", "1", "--wait"))
    )
    thread.start()
    bench.until(lambda: bench.get("/api/meters/JH-0001/recharges"))
    meter.connect()
    thread.join(20)
    code, text = results[0]
    assert code == 0
    assert [line.split()[3] for line in text.splitlines()] == ["queued", "sent", "confirmed,"] or (
        "confirmed" in text
    )


def test_refusals_say_why(bench, run, tmp_path, tariff_file):
    bench.register()
    for arguments, words in (
        (("recharge", "JH-0001", "1.234"), "at most 2 decimals"),
        (("recharge", "JH-0404", "1"), "no meter 'JH-0404'"),
        (("meter", "show", "JH-0404"), "no meter 'JH-0404'"),
        (
            (
                "meter",
                "add",
                "JH-0001",
                "--consumer",
                "A",
                "--tariff",
                tariff_file,
                "--out",
                str(tmp_path / "c.json"),
            ),
            "registered already",
        ),
        (
            (
                "meter",
                "add",
                "JH-0002",
                "--consumer",
                "A",
                "--tariff",
                tariff_file,
                "--out",
                tariff_file,
            ),
            "not overwritten",
        ),
    ):
        code, text = run(*arguments)
        assert code == 1, text
        assert words in text
    assert not (tmp_path / "c.json").exists()


def test_no_gateway_is_said_clearly():
    result = CliRunner().invoke(app, ["meter", "list", "--gateway", "http://127.0.0.1:1"])
    assert result.exit_code == 3
    assert "no gateway answers at http://127.0.0.1:1" in result.output


def test_no_conductor_is_said_clearly(tmp_path):
    result = CliRunner().invoke(
        app, ["gateway", "run", "--data", str(tmp_path / "g"), "--clock", "127.0.0.1:1"]
    )
    assert result.exit_code == 1
    assert "no conductor" in result.output
    assert not (tmp_path / "g").exists()


def test_orders(bench, run, tmp_path, tariff_file):
    meter = bench.meter()
    password = tmp_path / "password"
    password.write_text("a secret word\n")
    for arguments, words in (
        (("relay", "JH-0001", "disconnected", "--valid-h", "2"), "supply off: done"),
        (("relay", "JH-0001", "connected"), "supply on: done"),
        (("settings", "JH-0001", "grace_s=3600", "low_credit_mp=1"), "grace_s 3600"),
        (
            ("arrears", "JH-0001", "50", "--share", "20", "--per-day", "1.50"),
            "paid by 20 % of each recharge and 1.50 rupees a day: done",
        ),
        (("arrears", "JH-0001", "5", "--at-once"), "5.00 rupees, taken from the balance at once"),
        (("mode", "JH-0001", "credit"), "payment mode postpaid: done"),
        (("mode", "JH-0001", "prepayment", "--share", "40"), "payment mode prepaid: done"),
        (("emergency", "JH-0001", "20"), "emergency credit of 20.00 rupees: done"),
        (("tariff", "JH-0001", tariff_file), "tariff test-slabs version 1: done"),
        (("calendar", "JH-0001", "uttar-pradesh"), "calendar uttar-pradesh-2026: done"),
        (("calendar", "JH-0001", "null"), "calendar by the settings: done"),
        (("clock", "JH-0001"), "allow a large clock step: done"),
        (("resend", "JH-0001", "--store", meter.store, "--seq", "1"), "send records again: done"),
        (
            (
                *("link", "JH-0001", "--wifi-ssid", "new", "--wifi-password-file", str(password)),
                *("--broker-host", "broker.example", "--broker-port", "8883", "--new-password"),
            ),
            "new wifi and broker: done",
        ),
        (("key", "JH-0001"), "new key: done"),
    ):
        code, text = run("order", *arguments, "--wait")
        assert code == 0, text
        assert words in text
        assert "a secret word" not in text
    assert meter.link[0]["wifi"] == {"ssid": "new", "password": "a secret word"}
    assert meter.orders[0]["expires_utc_s"] == bench.clock.now_ms // 1000 + 7200
    code, text = run("order", "list", "JH-0001")
    assert code == 0
    assert len(text.splitlines()) == 15
    assert text.startswith("2026-01-05 13:30:00 +05:30  o-")
    code, text = run("order", "settings", "JH-0001", "grace_s=x")
    assert (code, "grace_s=x: must be NAME=VALUE" in text) == (1, True)
    code, text = run("order", "settings", "JH-0001", "grace_s=-1")
    assert (code, "document.grace_s: must be an integer from 0 to 2592000" in text) == (1, True)
    meter.vanish()
    bench.until(lambda: not bench.gateway.live.view("JH-0001")["online"])
    code, text = run("order", "clock", "JH-0001")
    assert (code, "queued" in text) == (0, True)
    code, text = run("order", "cancel", text.split()[0])
    assert (code, "cancelled" in text) == (0, True)


def test_a_resync_that_is_not_needed(bench, run):
    bench.register()
    code, text = run("meter", "resync", "JH-0001", "--yes")
    assert code == 1
    assert "JH-0001 has not lost its ledger" in text
