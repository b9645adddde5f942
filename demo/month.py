"""One household's month told line by line: `python -m demo.month`, as fast as events allow.

A tariff with slabs, subsidy, free units, rebate, time of day, fixed charge and duty; arrears, two
recharges, and another version of the tariff in the middle of the month. At the end the meter's own
console and the gateway say why the balance moved: they must agree, and what they say must add up to
what the balance did, to the milli-paisa.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from demo.check import DAY_MS, HOUR_MS, Failed, require
from demo.households import IST_S, RUPEE_MP, Household
from demo.world import World, erase
from firmware.console import statements
from firmware.console.text import rupees
from toolchain import locate

START_MS = 1_767_205_800_000  # Thursday 2026-01-01 00:00 in India
DAYS = 31
STEP_MS = 600_000
ANSWER_MS = 10_000
FOLDER = Path(".demo") / "month"

OPENING_MP = 150 * RUPEE_MP
ARREARS_MP = 120 * RUPEE_MP
ARREARS_PERCENT = 20
RECHARGES = ((6, "400.00"), (20, "250.00"))
"""Of a month of 31 days: the day on which it is made, and rupees."""
CHANGE_DAY = 15


def tariff(
    version: int, effective_from_utc_s: int, *slabs: tuple[int | None, int]
) -> dict[str, Any]:
    """A version of the tariff with slabs of (limit in kWh or None, rate in mp per kWh)."""

    def steps(*entries: tuple[int | None, int]) -> list[dict[str, int | None]]:
        return [{"up_to_kwh": limit, "rate_mp_per_kwh": rate} for limit, rate in entries]

    return {
        "id": "month-demo",
        "version": version,
        "currency": "INR",
        "effective_from_utc_s": effective_from_utc_s,
        "full_supply_min": 1260,
        "zones": [
            {"name": "peak", "from_min": 1080, "to_min": 1320},
            {"name": "night", "from_min": 0, "to_min": 360},
        ],
        "lines": [
            {"name": "energy", "shape": "telescopic", "slabs": steps(*slabs)},
            {
                "name": "subsidy",
                "shape": "telescopic",
                "kind": "subsidy",
                "slabs": steps((100, -330_000), (None, -343_000)),
            },
            {"name": "free units", "shape": "free", "kwh": 30, "of": ["energy", "subsidy"]},
            {"name": "smart meter rebate", "shape": "per_kwh", "rate_mp_per_kwh": -25_000},
            {
                "name": "time of day",
                "shape": "time_of_day",
                "percent_x1000": {"peak": 20_000, "night": -10_000},
                "of": ["energy", "subsidy"],
            },
            {
                "name": "fixed charge",
                "shape": "fixed",
                "per": "kw",
                "rate_mp": 40 * RUPEE_MP,
                "collect": "daily",
                "by_supply": True,
            },
            {
                "name": "duty",
                "shape": "percent",
                "kind": "duty",
                "percent_x1000": 6_000,
                "of": ["energy", "subsidy", "free units", "fixed charge"],
            },
        ],
    }


def household(start_ms: int) -> Household:
    """The household whose month it is."""
    return Household(
        "BJ-MONTH-01",
        "Kamla Devi, Patna",
        "appliances:11",
        OPENING_MP,
        30 * RUPEE_MP,
        tariff(1, start_ms // 1000 - 86_400, (100, 742_000), (None, 895_000)),
        sanctioned_load_w=2_000,
        sample_period_ms=60_000,
        live_period_s=3_600,
        seed=11,
    )


class Month:
    """`days` days from `start_ms`, a midnight in India."""

    def __init__(self, world: World, start_ms: int, days: int, say: Callable[[str], None]) -> None:
        self.world = world
        self.start_ms = start_ms
        self.end_ms = start_ms + days * DAY_MS
        self._days = days
        self._say = say
        self.meter = world.households[0].meter

    def at(self, day: int) -> int:
        """A midnight in proportion to those of a month of 31 days."""
        return self.start_ms + max(1, day * self._days // DAYS) * DAY_MS

    def run(self) -> None:
        """Lives through it and judges what is said of it; Failed if that is not right."""
        change_ms = self.at(CHANGE_DAY)
        self._order(kind="arrears", amount_mp=ARREARS_MP, share_percent=ARREARS_PERCENT)
        self._order(
            kind="tariff", document=tariff(2, change_ms // 1000, (50, 742_000), (None, 810_000))
        )
        for day, amount in RECHARGES:
            self._pass_until(self.at(day) - DAY_MS + 18 * HOUR_MS)
            made = self.world.recharge(self.meter, amount)
            self._pass_until(self.world.now_ms + STEP_MS)
            state = self.world.get(f"/api/recharges/{made['id']}")["state"]
            require(state == "confirmed", f"the recharge of {amount} is confirmed, not {state}")
        self._pass_until(self.end_ms + STEP_MS)
        self._judge()

    def _order(self, **body: Any) -> None:
        key = {"Idempotency-Key": "month-" + body["kind"]}
        made = self.world.post(f"/api/meters/{self.meter}/orders", body, key)
        for _ in range(6):
            self._pass_until(self.world.now_ms + STEP_MS)
            state = self.world.get(f"/api/orders/{made['id']}")["state"]
            if state == "done":
                return
        raise Failed(f"the {body['kind']} order is {state}")

    def _pass_until(self, utc_ms: int) -> None:
        while self.world.now_ms < utc_ms:
            self.world.wait_until(min(utc_ms, self.world.now_ms + DAY_MS))

    def _judge(self) -> None:
        since, until = (day(moment) for moment in (self.start_ms, self.end_ms))
        by_meter = self._ask_console(f"explain {since} {until}")
        found = self.world.get(
            f"/api/meters/{self.meter}/explain",
            since=self.start_ms // 1000,
            until=self.end_ms // 1000,
        )
        rows = [[movement[name] for name in ROW] for movement in found["movements"]]
        by_gateway = list(statements.lines(found["opening_mp"], rows, found["closing_mp"], IST_S))
        self._say(f"{self.meter} at its own console: explain {since} {until}")
        for line in by_meter:
            self._say("  " + line)
        require(by_meter[1:] == by_gateway, f"the gateway says the same, not {by_gateway}")
        self._say("  the gateway says the same, line by line")
        moved_mp = sum(row[5] for row in rows)
        days = self.world.get(f"/api/meters/{self.meter}/days", limit=100)
        last = max(days, key=lambda record: int(record["seq"]))
        require(moved_mp == found["closing_mp"] - found["opening_mp"], "the movements add up")
        require(
            last["end_utc_s"] == self.end_ms // 1000 and found["closing_mp"] == last["balance_mp"],
            "the balance at the end is that of the last day's record",
        )
        answer = self.world.get(f"/api/meters/{self.meter}/balance")
        require(answer["agree"], f"the gateway recomputes the same balance, not {answer}")
        require(
            not [row for row in rows if row[1] in ("unknown", "closing")], "nothing is unexplained"
        )
        self._say(
            f"  {len(rows)} movements add up to {rupees(moved_mp, 5)} rupees, "
            "which is what the balance did, to the milli-paisa"
        )

    def _ask_console(self, line: str) -> list[str]:
        board = self.world.boards[self.meter]
        before = board.line_count
        board.type(line.encode() + b"\r")
        for _ in range(60):
            self.world.wait_until(self.world.now_ms + ANSWER_MS)
            answer = board.lines()[before - board.line_count :]
            answer = [shown for shown in answer if " balance=" not in shown]
            if any(shown.startswith("moved in all") for shown in answer):
                begin = next(n for n, shown in enumerate(answer) if shown.startswith("from "))
                end = next(n for n, shown in enumerate(answer) if shown.startswith("moved"))
                return answer[begin : end + 1]
            require(not any(shown.startswith("error") for shown in answer), f"no {answer}")
        raise Failed("the meter's console does not answer")


ROW = ("name", "kind", "quantity", "unit", "rate", "amount_mp", "utc_s")


def day(utc_ms: int) -> str:
    """The local date of a moment."""
    return f"{datetime.fromtimestamp(utc_ms // 1000 + IST_S, UTC):%Y-%m-%d}"


def run(folder: Path, start_ms: int, days: int, say: Callable[[str], None]) -> bool:
    """Runs it in a fresh world in `folder`; True if all that must hold did. Says every line."""
    began_s = time.monotonic()
    erase(folder)
    world = World(folder, [household(start_ms)], start_ms, None, say)
    passed = False
    try:
        world.start()
        Month(world, start_ms, days, say).run()
        passed = True
        verdict = "demo-month: PASS"
    except Exception as error:
        # Whatever ends the story is the verdict; the details are in the logs.
        verdict = f"demo-month: FAIL: {error or type(error).__name__}"
    finally:
        world.stop()
    took_s = time.monotonic() - began_s
    say(f"  {days} simulated days in {took_s:.1f} s; logs in {folder.name}/")
    say(verdict)
    return passed


if __name__ == "__main__":
    sys.exit(0 if run(locate.project_root() / FOLDER, START_MS, DAYS, print) else 1)
