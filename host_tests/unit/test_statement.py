"""Statements: every movement of a balance by line, and moments that meet where a day ends."""

import pytest

from firmware.console import statements
from firmware.credit import life
from firmware.credit import tariff as tariffs
from firmware.credit.account import Account
from firmware.credit.statement import Explanation, Statement
from host_tests.fakes.bench import MIDNIGHT_UTC_S, Bench
from host_tests.fakes.documents import rich_tariff, steps, tariff_of

DAY_S = 86400
START_UTC_S = MIDNIGHT_UTC_S + 25 * DAY_S  # 2026-01-30
RUPEE_MP = 100_000
SLABS = tariff_of(
    {"name": "energy", "shape": "telescopic", "slabs": steps((5, 500_000), (None, 800_000))},
    {"name": "duty", "shape": "percent", "kind": "duty", "percent_x1000": 6000, "of": ["energy"]},
)


@pytest.fixture
def bench(tmp_path):
    made = Bench(
        tmp_path / "data",
        START_UTC_S,
        tariff=SLABS,
        opening_balance_mp=500 * RUPEE_MP,
        sample_period_ms=60_000,
    )
    yield made
    made.meter.journal.close()


def explain(bench, since_utc_s, until_utc_s, records=None, tariff=None):
    explanation = Explanation(since_utc_s, until_utc_s, tariff)
    for record in bench.records() if records is None else records:
        explanation.take(record)
    explanation.end(bench.meter.energy.import_wh)
    return explanation


def assert_adds_up(statement):
    moved_mp = sum(row[5] for row in statement.movements)
    assert moved_mp == statement.closing_mp - statement.opening_mp


def amounts(statement):
    return {row[0]: row[5] for row in statement.movements}


def test_a_statement_from_the_first_record_on_has_every_line_and_entry(bench):
    bench.run(6 * 3600, power_w=999, step_s=60)  # 5.994 kWh
    bench.order("R-1", 1, amount_mp=100 * RUPEE_MP)
    statement = explain(bench, 0, bench.utc_s + 1).statement
    wh = bench.meter.energy.import_wh
    assert 5900 < wh < 6000
    above_mp = (wh - 5000) * 800
    duty_mp = ((2_500_000 + above_mp) * 6 + 50) // 100
    assert amounts(statement) == {
        "energy up to 5 kWh": -2_500_000,
        "energy above 5 kWh": -above_mp,
        "duty": -duty_mp,
        "opening": 500 * RUPEE_MP,
        "recharge R-1": 100 * RUPEE_MP,
    }
    assert statement.opening_mp == 0
    assert statement.closing_mp == bench.meter.balance_mp()
    assert_adds_up(statement)


def test_days_meet_where_the_meter_closed_them(tmp_path):
    """A day of the statement costs what the `day` record says, fixed charge and all, and no
    movement is in two days."""
    rich = rich_tariff(period_start_day=1)
    # What waits for the first recharge is collected by the closing of the period, behind the day.
    lines = [line for line in rich["lines"] if line.get("collect") != "first_recharge"]
    bench = Bench(
        tmp_path / "data",
        START_UTC_S,
        tariff={**rich, "lines": lines},
        opening_balance_mp=500 * RUPEE_MP,
        sample_period_ms=60_000,
    )
    bench.run(3 * DAY_S + 3600, power_w=300, step_s=60)
    days = bench.records("day")
    assert len(days) == 3
    closing_mp = None
    for day in days[1:]:  # the first one began after the start
        statement = explain(bench, day["end_utc_s"] - DAY_S, day["end_utc_s"]).statement
        charged_mp = -sum(row[5] for row in statement.movements if not row[6])
        assert charged_mp == day["cost_mp"]
        assert statement.closing_mp == day["balance_mp"]
        if closing_mp is not None:
            assert statement.opening_mp == closing_mp
        closing_mp = statement.closing_mp
        assert_adds_up(statement)
    bench.meter.journal.close()


def test_a_moment_after_an_outage_lies_before_the_boot(bench):
    bench.run(3600, power_w=600, step_s=60)
    bench.restart(off_s=2 * DAY_S)
    bench.run(3600, power_w=600, step_s=60)
    within_utc_s = START_UTC_S + DAY_S
    before = explain(bench, 0, within_utc_s).statement
    after = explain(bench, within_utc_s, bench.utc_s).statement
    assert before.closing_mp == after.opening_mp == bench.records("boot")[1]["balance_mp"]
    assert sum(row[5] for row in after.movements) == bench.meter.balance_mp() - after.opening_mp


def test_a_recharge_says_what_went_to_arrears_and_to_emergency_credit(bench):
    account = Account()
    records = [
        {"type": "arrears", "amount_mp": 90, "share_percent": 50},
        {"type": "emergency", "limit_mp": 1000},
        {"type": "tariff", "document": SLABS},
        {"type": "credit", "kind": "recharge", "id": "R-1", "amount_mp": 1000},
    ]
    statement = Statement(account, 0)
    judge = Account()
    for place, record in enumerate(records):
        wh = 1 if record["type"] == "credit" else 0
        record = {"utc_s": 100 + place, "time_valid": 1, "import_wh": wh, **record}
        judge.apply(record)
        statement.take({**record, "balance_mp": judge.balance_mp(wh)})
    statement.finish()
    # 1 Wh costs 500 mp and 30 mp of duty: so much is repaid, and half of the rest goes to arrears.
    assert statement.movements == [
        ["energy up to 5 kWh", "energy", 1, "Wh", 500_000, -500, 0],
        ["duty", "duty", 500, "%", 6000, -30, 0],
        ["recharge R-1", "recharge", 530, "emergency", 0, 1000, 103],
        ["arrears taken from it", "arrears", 0, "", 0, -90, 103],
    ]
    assert_adds_up(statement)


def test_periods_and_tariffs_add_up_by_line(bench):
    """The same line of two periods is one movement; another price is another."""
    bench.run(3 * DAY_S, power_w=120, step_s=60)
    dearer = {**SLABS, "version": 2}
    dearer["lines"] = [
        {"name": "energy", "shape": "telescopic", "slabs": steps((5, 600_000), (None, 800_000))},
        SLABS["lines"][1],
    ]
    answer = bench.order("T-2", 1, "tariff", document=dearer)
    assert answer["result"] == "accepted"
    bench.run(10 * 3600, power_w=120, step_s=60)
    statement = explain(bench, 0, bench.utc_s).statement
    assert statement.closing_mp == bench.meter.balance_mp()
    assert_adds_up(statement)
    rates = {(row[0], row[4]) for row in statement.movements}
    assert ("energy up to 5 kWh", 500_000) in rates
    assert ("energy up to 5 kWh", 600_000) in rates
    assert len(rates) == len(statement.movements)


def test_a_journal_whose_begin_is_gone_is_understood_from_its_first_closed_period(bench):
    bench.order("A-1", 1, "arrears", amount_mp=60 * RUPEE_MP, share_percent=50)
    bench.run(2 * DAY_S + 3600, power_w=120, step_s=60)
    bench.order("R-1", 2, amount_mp=100 * RUPEE_MP)
    bench.order("A-2", 3, "arrears", amount_mp=RUPEE_MP, share_percent=40)
    bench.order("R-2", 4, amount_mp=100)
    bench.run(DAY_S, power_w=120, step_s=60)
    (period,) = [r for r in bench.records("period") if r["charge_mp"]]
    tail = [r for r in bench.records() if r["seq"] > period["seq"] - 20]
    tariff = tariffs.parse(SLABS)
    month = explain(bench, period["end_utc_s"], bench.utc_s, tail, tariff)
    whole = explain(bench, period["end_utc_s"], bench.utc_s)
    assert month.statement.movements == whole.statement.movements
    assert month.statement.opening_mp == whole.statement.opening_mp == period["balance_mp"]
    assert_adds_up(month.statement)

    early = explain(bench, period["end_utc_s"] - DAY_S, bench.utc_s, tail, tariff)
    assert early.statement is None
    assert early.known_utc_s == period["utc_s"]
    unknown = explain(bench, period["end_utc_s"], bench.utc_s, tail)
    assert unknown.statement is None
    assert unknown.known_utc_s is None


def test_another_journal_of_a_meter_is_said_and_adds_up(bench):
    bench.run(3600, power_w=600, step_s=60)
    first = bench.records()
    balance_mp = bench.meter.balance_mp()
    explanation = Explanation(0, bench.utc_s + 1)
    for record in first + first:
        explanation.take(record)
    explanation.end(bench.meter.energy.import_wh)
    statement = explanation.statement
    assert ["balance of the journal before", -balance_mp] in [
        [row[0], row[5]] for row in statement.movements
    ]
    assert statement.closing_mp == balance_mp
    assert_adds_up(statement)


def close(bench, counter, **document):
    answer = bench.order(f"C-{counter}", counter, "account", action="closed", document=document)
    assert answer["result"] == "accepted", answer


def open_account(bench, counter, **document):
    document = {"account": f"A-{counter}", "balance_mp": 0, **document}
    answer = bench.order(f"O-{counter}", counter, "account", action="opened", document=document)
    assert answer["result"] == "accepted", answer


def entries(statement):
    return [(row[0], row[1], row[5]) for row in statement.movements if row[6]]


def test_an_account_that_closes_is_settled_line_by_line(bench):
    """The next one on the same meter has no line of it."""
    bench.order("A-1", 1, "arrears", amount_mp=30 * RUPEE_MP, share_percent=0)
    bench.run(2 * 3600, power_w=600, step_s=60)
    balance_mp = bench.meter.balance_mp()
    close(bench, 2)
    statement = explain(bench, 0, bench.utc_s + 1).statement
    assert entries(statement) == [
        ("opening", "opening", 500 * RUPEE_MP),
        ("arrears settled", "arrears", -30 * RUPEE_MP),
        ("refund at the closing", "refund", -(balance_mp - 30 * RUPEE_MP)),
    ]
    assert statement.closing_mp == 0
    assert_adds_up(statement)
    closed_utc_s = bench.utc_s + 1
    bench.run(3600, power_w=600, step_s=60)
    open_account(bench, 3, balance_mp=70 * RUPEE_MP)
    bench.run(3600, power_w=600, step_s=60)
    statement = explain(bench, closed_utc_s, bench.utc_s + 1).statement
    assert entries(statement) == [("account opened", "account", 70 * RUPEE_MP)]
    assert 590 <= statement.movements[0][2] <= 600
    assert statement.closing_mp == bench.meter.balance_mp()
    assert_adds_up(statement)


def test_an_account_that_moves_to_another_meter_goes_on_there(bench, tmp_path):
    bench.run(3 * 3600, power_w=1800, step_s=60)
    balance_mp = bench.meter.balance_mp()
    close(bench, 1, moved_to="JH-0002")
    statement = explain(bench, 0, bench.utc_s + 1).statement
    assert entries(statement)[1:] == [("account moved to JH-0002", "account", -balance_mp)]
    assert statement.closing_mp == 0
    assert_adds_up(statement)
    (moved,) = bench.records("account")

    other = Bench(
        tmp_path / "other",
        bench.utc_s,
        tariff=SLABS,
        opening_balance_mp=0,
        sample_period_ms=60_000,
    )
    other.run(600, power_w=600, step_s=60)
    charged_mp = -other.meter.balance_mp()
    carried = {name: moved["document"][name] for name in life.CARRIED}
    open_account(other, 1, moved_from=bench.config.meter, **carried)
    other.run(3600, power_w=600, step_s=60)
    statement = explain(other, 0, other.utc_s + 1).statement
    assert statement.closing_mp == other.meter.balance_mp()
    # What the new meter had charged before it was the account's is given back with it.
    name = f"account moved from {bench.config.meter}"
    assert entries(statement) == [(name, "account", balance_mp + charged_mp)]
    assert 690 <= {row[0]: row[2] for row in statement.movements}["energy above 5 kWh"] <= 700
    assert_adds_up(statement)
    other.meter.journal.close()


def test_many_entries_become_few(bench):
    for number in range(1, 60):
        bench.order(f"R-{number}", number, amount_mp=number)
    statement = explain(bench, 0, bench.utc_s + 1).statement
    entries = [row for row in statement.movements if row[6]]
    assert len(entries) == 40
    assert sum(row[5] for row in entries) == 500 * RUPEE_MP + sum(range(1, 60))
    assert_adds_up(statement)


def test_lines_for_people():
    rows = [
        ["energy up to 5 kWh", "energy", 4500, "Wh", 605_000, -2_722_500, 0],
        ["rebate", "rebate", 2_722_500, "%", -3500, 95_288, 0],
        ["load", "fixed", 31, "kW days", 4_000_000, -4_000_000, 0],
        ["recharge R-1", "recharge", 1_000_000, "emergency", 0, 5_000_000, MIDNIGHT_UTC_S],
    ]
    shown = list(statements.lines(100, rows, 100 + sum(row[5] for row in rows), 19800))
    assert [" ".join(line.split()) for line in shown] == [
        "opening balance 0.00100",
        "energy up to 5 kWh 4.500 kWh at 6.05 -27.22500",
        "rebate -3.5 % of 27.22 0.95288",
        "load 31 kW days at 40.00 a month -40.00000",
        "2026-01-05 00:00:00 recharge R-1 10.00 of it repay emergency credit 50.00000",
        "closing balance -16.27112",
        "moved in all -16.27212",
    ]
