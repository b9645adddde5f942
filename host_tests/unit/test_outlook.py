"""Estimates for the consumer: days left, the whole month, the next kWh, cliffs."""

import pytest

from firmware import outlook
from firmware.credit.account import Account
from host_tests.fakes.bench import Bench
from host_tests.fakes.console import BenchTerminal
from host_tests.fakes.documents import steps, tariff_of

DAY_S = 86400
RUPEE_MP = 100_000
FIXED = {
    "name": "fixed",
    "shape": "fixed",
    "per": "connection",
    "rate_mp": 31 * RUPEE_MP,
    "collect": "daily",
}
TARIFF = tariff_of(
    {"name": "energy", "shape": "telescopic", "slabs": steps((20, 500_000), (None, 800_000))},
    FIXED,
)


@pytest.fixture
def bench(tmp_path):
    """On 5 January at midnight."""
    made = Bench(
        tmp_path / "data",
        tariff=TARIFF,
        opening_balance_mp=100 * RUPEE_MP,
        sample_period_ms=60_000,
    )
    yield made
    made.meter.journal.close()


def test_before_the_first_day_is_closed_little_is_known(bench):
    bench.run(3600, 600, 60)
    live = bench.meter.live()
    assert live["days_left"] == live["projected_mp"] == -1
    # Both begin with the first minute.
    assert live["today_wh"] == live["month_wh"] == bench.meter.energy.import_wh - 5
    assert live["next_kwh_mp"] == 500_000


def test_days_left_and_the_month_follow_from_the_last_days(bench):
    """2.4 kWh a day at 5.00 and 1.00 a day fixed are 13.00 a day."""
    bench.run(2 * DAY_S + 600, 102, 60)
    live = bench.meter.live()
    daily_mp = sum(day["cost_mp"] for day in bench.records("day")) // 2
    assert live["days_left"] == live["balance_mp"] // daily_mp
    assert live["today_wh"] == bench.meter.energy.import_wh - bench.records("day")[1]["import_wh"]
    assert live["month_mp"] == 100 * RUPEE_MP - live["balance_mp"]
    # To the end of January: 25 days, the fixed charge of each, and 20 kWh at the lower price.
    rest_wh = bench.meter.profiles.mean_day()[0] * (25 * DAY_S - 600) // DAY_S
    total_wh = live["month_wh"] + rest_wh
    energy_mp = 20_000 * 500 + (total_wh - 20_000) * 800
    assert live["projected_mp"] == energy_mp + 27 * RUPEE_MP


def test_a_closed_account_will_be_charged_nothing_more(bench):
    bench.run(2 * DAY_S + 600, 102, 60)
    bench.order("c-1", 1, "account", action="closed", document={})
    live = bench.meter.live()
    assert live["projected_mp"] == live["month_mp"] > 0
    assert live["next_kwh_mp"] == 0


def test_only_the_last_seven_days_count(bench):
    bench.run(2 * DAY_S, 0, 60)
    bench.run(7 * DAY_S + 60, 300, 60)
    days = bench.records("day")
    assert len(days) == 9
    wh, cost_mp = bench.meter.profiles.mean_day()
    assert wh == sum(day["energy_wh"] for day in days[2:]) // 7
    assert cost_mp == sum(day["cost_mp"] for day in days[2:]) // 7


def test_the_estimates_survive_a_restart(bench):
    bench.run(2 * DAY_S + 600, 300, 60)
    names = ("today_mp", "month_wh", "month_mp", "days_left", "next_kwh_mp")
    bench.meter.stop()
    before = bench.meter.live()
    bench.restart()
    after = bench.meter.live()
    assert [after[name] for name in names] == [before[name] for name in names]


def account_of(*lines):
    account = Account()
    account.apply({"type": "tariff", "document": tariff_of(*lines), "import_wh": 0, "utc_s": 0,
                   "time_valid": 0})  # fmt: skip
    return account


def test_a_cliff_is_where_earlier_units_become_dearer():
    whole = {
        "name": "energy",
        "shape": "whole",
        "slabs": steps((200, 350_000), (400, 420_000), (None, 625_000)),
    }
    account = account_of(whole)
    assert outlook.cliff(account, 150_000) == (50_000, 200_000 * 70)
    assert outlook.cliff(account, 200_000) == (0, 200_000 * 70)
    assert outlook.cliff(account, 200_001) == (199_999, 400_000 * 205)
    assert outlook.cliff(account, 400_001) is None


def test_a_step_that_makes_nothing_dearer_is_no_cliff():
    assert outlook.cliff(account_of(TARIFF["lines"][0]), 0) is None
    falling = {"name": "energy", "shape": "whole", "slabs": steps((10, 500_000), (None, 400_000))}
    assert outlook.cliff(account_of(falling), 0) is None
    subsidy = {
        "name": "subsidy",
        "shape": "by_total",
        "kind": "subsidy",
        "classes": [
            {"up_to_kwh": 10, "slabs": steps((None, -100_000))},
            {"up_to_kwh": 20, "slabs": steps((None, -100_000))},
            {"up_to_kwh": None, "slabs": steps((None, 0))},
        ],
    }
    assert outlook.cliff(account_of(TARIFF["lines"][0], subsidy), 5_000) == (15_000, 20_000 * 100)
    assert outlook.cliff(Account(), 0) is None


def test_the_bill_at_the_console(bench):
    bench.run(2 * DAY_S + 600, 300, 60)
    console = BenchTerminal(bench)
    lines = [" ".join(line.split()) for line in console.type("bill").splitlines()]
    live = bench.meter.live()
    words = {line.rsplit(" ", 1)[0]: line.rsplit(" ", 1)[1] for line in lines}
    month = f"this month {live['month_wh'] / 1000:.3f} kWh"
    assert round(float(words[month]) * RUPEE_MP) == live["month_mp"]
    assert round(float(words["the next kWh"]) * RUPEE_MP) == live["next_kwh_mp"]
    assert f"balance days left: {live['days_left']}" in words
    rows = lines[2 : lines.index(next(line for line in lines if line.startswith("balance")))]
    assert sum(round(float(row.split()[-1]) * RUPEE_MP) for row in rows) == live["month_mp"]
    assert console.type("bill now").startswith("error bill: takes nothing behind it")
