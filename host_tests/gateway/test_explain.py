"""Why a balance moved: API and command, from the meter's records, to the milli-paisa."""

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from host_tests.fakes.meter import FakeMeter

DAY_S = 86400
MIDNIGHT_UTC_S = 1_767_292_200  # 2026-01-02 00:00 in India


@pytest.fixture
def meter(bench):
    """One that used 1.5 kWh on 2 January, had a recharge on the 3rd and used 1 kWh on the 4th."""
    made = FakeMeter(bench.register(), utc_s=MIDNIGHT_UTC_S - DAY_S)
    bench.meters.append(made)
    made.utc_s = MIDNIGHT_UTC_S
    made.event(1001)
    for wh in (500, 1000):
        made.import_wh += wh
        made.utc_s += 3600
        made.event(1001)
    made.utc_s = MIDNIGHT_UTC_S + DAY_S
    made.day(MIDNIGHT_UTC_S, 1500)
    made.utc_s += 60
    made.record("arrears", id="A-1", counter=1, amount_mp=1_000_000, share_percent=10)
    made.utc_s += 3600
    made.record("credit", kind="recharge", id="R-1", counter=2, amount_mp=5_000_000)
    made.utc_s = MIDNIGHT_UTC_S + 2 * DAY_S
    made.day(MIDNIGHT_UTC_S + DAY_S, 0)
    made.utc_s += 7200
    made.import_wh += 1000
    made.event(1001)
    made.connect()
    return made


def movements(found):
    return [(m["name"], m["detail"], m["amount_mp"]) for m in found["movements"]]


def test_a_span_is_explained_by_line_and_entry(bench, meter):
    found = bench.get("/api/meters/JH-0001/explain")  # this month
    assert movements(found) == [
        ("energy up to 1 kWh", "1.000 kWh at 6.05", -605_000),
        ("energy above 1 kWh", "1.500 kWh at 8.50", -1_275_000),
        ("opening", "", 10_000_000),
        ("recharge R-1", "", 5_000_000),
        ("arrears taken from it", "", -500_000),
    ]
    assert found["opening_mp"] == 0
    assert found["closing_mp"] == meter.account.balance_mp(meter.import_wh)
    assert found["moved_mp"] == sum(m["amount_mp"] for m in found["movements"])
    assert found["moved_mp"] == found["closing_mp"] - found["opening_mp"]


def test_days_meet(bench, meter):
    closing_mp = None
    for day, expected in enumerate(
        (
            [("energy up to 1 kWh", -605_000), ("energy above 1 kWh", -425_000)],
            [("recharge R-1", 5_000_000), ("arrears taken from it", -500_000)],
            [("energy above 1 kWh", -850_000)],
        )
    ):
        since = MIDNIGHT_UTC_S + day * DAY_S
        path = "/api/meters/JH-0001/explain"
        found = bench.get(path, since=since, until=since + DAY_S)
        shown = [(m["name"], m["amount_mp"]) for m in found["movements"]]
        assert shown == expected
        assert closing_mp in (None, found["opening_mp"])
        closing_mp = found["closing_mp"]


def test_another_journal_is_said(bench, meter):
    balance_mp = meter.account.balance_mp(meter.import_wh)
    meter.lose_ledger()
    meter.flush()
    found = bench.get("/api/meters/JH-0001/explain", since=MIDNIGHT_UTC_S)
    assert ("balance of the journal before", "", -balance_mp) in movements(found)
    assert found["moved_mp"] == sum(m["amount_mp"] for m in found["movements"])


def test_a_span_that_ends_before_it_begins_is_refused(bench, meter):
    response = bench.http.get(
        "/api/meters/JH-0001/explain", params={"since": 2_000_000_000, "until": 1_000}
    )
    assert response.status_code == 422
    assert response.json()["field"] == "until"
    assert bench.http.get("/api/meters/NOBODY/explain").status_code == 404


def test_the_command_shows_the_lines(bench, meter):
    def run(*arguments):
        env = {"BIJLI_GATEWAY": bench.gateway.http_url, "COLUMNS": "160"}
        result = CliRunner().invoke(app, ["explain", "JH-0001", *arguments], env=env)
        return result.exit_code, result.output

    code, text = run("--since", "2026-01-03", "--until", "2026-01-04")
    assert code == 0, text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0].startswith("JH-0001 from 2026-01-03 00:00:00 +05:30 to 2026-01-04")
    assert lines[2:] == [
        "opening balance 89.70000",
        "2026-01-03 01:01:00 recharge R-1 50.00000",
        "2026-01-03 01:01:00 arrears taken from it -5.00000",
        "closing balance 134.70000",
        "moved in all 45.00000",
    ]
    assert run("--since", "yesterday") == (
        1,
        "bijli: --since: must be a date like 2026-01-05\n",
    )
