"""The commands of a person, against a running gateway."""

import json
import threading

import pytest
from typer.testing import CliRunner

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
    config = json.loads(out.read_text())
    assert config["opening_balance_mp"] == -1_250_000
    assert config["key"] not in text
    meter = FakeMeter(config)
    bench.meters.append(meter)
    meter.connect()
    meter.block(1500)
    meter.flush()
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
