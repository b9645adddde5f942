"""A month of 20 different households on emulated boards: `python -m demo.street`.

Each has its own load, calendar, settings, power cuts, network failures and habit of paying, all
by the seed. Some have a limit of load, a relay that closes with the street, or no battery in their
clock; some are postpaid, some are switched off by order for hours. Of each is expected what holds
in every story (demo/scenario/judging.py).
Tests: host_tests/unit/test_street.py (the street as it is built), and the run itself.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from demo.households import JBVNL_URBAN, RUPEE_MP, SBPDCL_URBAN
from demo.scenario import judging
from demo.scenario.playing import Player, Told
from demo.scenario.reading import DAY_MS, Scenario, Step
from gateway import calendar_files
from toolchain import locate

START_MS = 1_767_205_800_000  # Thursday 2026-01-01 00:00 in India
FOLDER = Path(".demo") / "street"
HOUR_MS = 3_600_000
MINUTE_MS = 60_000
WEEK_DAYS = 7
HOUSEHOLDS_MAX = 20


def street(households: int, days: int, sample_s: int, seed: int) -> list[Scenario]:
    """The households' stories; the same seed gives the same street."""
    return [
        _story(number, days, sample_s, random.Random(f"{seed}-{number}"))
        for number in range(1, households + 1)
    ]


def _story(number: int, days: int, sample_s: int, rng: random.Random) -> Scenario:
    calendar = rng.choice([None, *calendar_files.names()])
    residents = rng.randint(1, 6)
    return Scenario(
        title=f"household {number}",
        about="",
        start_ms=START_MS,
        days=days,
        meter={
            "id": f"BJ-STREET-{number:02}",
            "consumer": f"Household {number}",
            "opening_mp": rng.randint(10, 120) * RUPEE_MP,
            "sanctioned_load_w": 3_000,
            "sample_period_s": sample_s,
            "live_period_s": 900,
            "relay": rng.choice(("latching", "latching", "single")),
        },
        settings={
            "low_credit_mp": rng.randint(10, 40) * RUPEE_MP,
            "grace_s": rng.choice((0, 21_600, 86_400)),
            "floor_mp": rng.choice((0, 0, -100 * RUPEE_MP)),
            "restore_percent": rng.choice((0, 0, 50)),
            "warned_days": rng.choice((0, 0, 1)),
            "grace_counts_outage": rng.choice((0, 1)),
            "reclose_spread_s": rng.choice((0, 0, 600)),
            "limit_mode": rng.choice((0, 0, 2)),
            "limit_w": rng.choice((800, 1_500)),
        },
        tariff=rng.choice((SBPDCL_URBAN, JBVNL_URBAN)),
        calendar=calendar and calendar_files.read(calendar),
        load=f"appliances:{rng.randint(1, 9_999)},{residents}",
        steps=sorted(_steps(days, residents, rng), key=lambda step: step.at_ms),
        expectations=[],
    )


def _steps(days: int, residents: int, rng: random.Random) -> Iterator[Step]:
    """Each week a power cut and a network failure; recharges of less than a week's need."""
    end_ms = START_MS + days * DAY_MS

    def some_time(day: int) -> int:
        return START_MS + day * DAY_MS + rng.randrange(24 * 60) * MINUTE_MS

    for week in range(0, days, WEEK_DAYS):
        for name, longest_min in (("power", 360), ("network", 2_880)):
            from_ms = some_time(week + rng.randrange(WEEK_DAYS))
            until_ms = from_ms + rng.randint(1, longest_min) * MINUTE_MS
            if until_ms < end_ms - HOUR_MS:
                yield Step(from_ms, name, {"on": False}, name)
                yield Step(until_ms, name, {"on": True}, name)
    day, number = rng.randint(1, 4), 1
    while day < days:
        rupees = rng.randint(10, 40) * (residents + 2)
        what = {"rupees": f"{rupees}.00", "number": number}
        yield Step(some_time(day) - HOUR_MS, "recharge", what, "recharge")
        day, number = day + rng.randint(2, 6), number + 1
    if not rng.randrange(4):
        yield Step(START_MS + MINUTE_MS, "knobs", {"rtc_battery": "off"}, "fault")
    orders: list[tuple[int, dict[str, Any]]] = []
    if not rng.randrange(6):
        orders.append((START_MS + HOUR_MS, {"kind": "mode", "mode": "credit"}))
    if not rng.randrange(4):
        off_ms = some_time(rng.randrange(days)) - HOUR_MS
        expires_utc_s = (off_ms + DAY_MS) // 1000
        off = {"kind": "relay", "state": "disconnected", "expires_utc_s": expires_utc_s}
        orders.append((max(off_ms, START_MS + HOUR_MS), off))
        on_ms = min(off_ms + rng.randint(2, 30) * HOUR_MS, end_ms - HOUR_MS)
        orders.append((on_ms, {"kind": "relay", "state": "connected"}))
    for number, (at_ms, body) in enumerate(orders, 1):
        yield Step(at_ms, "order", {"body": body, "number": number}, "order")


HEAD = (
    "meter          kWh  cuts  outside  in grace  unwarned  reclosed  slowest  least warning  lost"
)


def row(scenario: Scenario, told: Told) -> str:
    """A household's line of the table, under HEAD."""
    found = judging.facts(scenario, told)
    delays = [each.delay_s for each in found.closings if each.delay_s is not None]
    used_wh = max((record.get("import_wh", 0) for record in told.records), default=0)
    slowest = f"{max(delays)} s" if delays else "-"
    warned = f"{min(found.warned_s) / 3600:.1f} h" if found.warned_s else "-"
    return (
        f"{scenario.meter['id']:<13}{used_wh / 1000:6.1f}{len(found.cuts):6}"
        f"{len(found.outside) + len(found.openings_outside):9}"
        f"{len(found.graced):10}{len(found.unwarned):10}"
        f"{len(delays):10}{slowest:>9}{warned:>15}{told.missing:6}"
    )


def run(
    folder: Path,
    scenarios: list[Scenario],
    say: Callable[[str], None],
    progress: Callable[[str], None],
) -> bool:
    """Lives through it in `folder`, which is emptied; True if all that must hold did."""
    began_s = time.monotonic()
    told = Player(scenarios, folder, False, progress).play()
    took_s = time.monotonic() - began_s
    passed = True
    say(HEAD)
    for scenario, each in zip(scenarios, told, strict=True):
        say(row(scenario, each))
        for verdict in judging.judge(scenario, each):
            if not verdict.passed:
                passed = False
                say(f"  FAIL {verdict.text}: {verdict.seen}")
    say(f"{len(scenarios)} households, {scenarios[0].days} days, in {took_s:.0f} s")
    say(f"street: {'PASS' if passed else 'FAIL'}")
    return passed


def main(
    households: Annotated[int, typer.Option(min=1, max=HOUSEHOLDS_MAX)] = HOUSEHOLDS_MAX,
    days: Annotated[int, typer.Option(min=1, max=62)] = 31,
    sample_s: Annotated[int, typer.Option(min=1, max=60, help="Seconds between samples.")] = 10,
    seed: Annotated[int, typer.Option()] = 1,
) -> None:
    """A street of different households; exit code 1 if a rule was broken."""
    scenarios = street(households, days, sample_s, seed)
    passed = run(
        locate.project_root() / FOLDER,
        scenarios,
        typer.echo,
        lambda text: typer.echo(text, err=True),
    )
    raise typer.Exit(0 if passed else 1)


if __name__ == "__main__":
    sys.exit(typer.run(main))
