"""Plays a story on the emulated board, with broker, gateway and utility, as fast as events allow.

What a person at the bench would see (the contact) is taken from the board; everything else is what
the gateway got to know. Records that were written while nobody could be reached come later, and are
told at their own time. Tests: host_tests/system/test_scenarios.py.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boards.emulated.board import BoardError
from demo.households import Household
from demo.scenario.reading import AT, Scenario, Step
from demo.world import World, WorldError, erase
from gateway.meters import METERING, RULES
from gateway.models import LIMIT_MAX, UTC_S_MAX

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
CATCH_UP_MS = 6 * HOUR_MS
CATCH_UP_STEP_MS = 60_000
HOLD_CAP_S = 120  # a slow machine takes its time to start everything
QUICK_SAMPLE_S = 60
QUICK_LIVE_S = 900

SPOKEN = {
    "network": ("the meter's network is away", "the meter's network is back"),
    "server": ("gateway and broker are away", "gateway and broker are back"),
    "utility": ("the utility's server is away", "the utility's server is back"),
    "power": ("power cut", "power is back"),
}


@dataclass
class Told:
    """What became of a story. Times are simulated ms, UTC."""

    records: list[dict[str, Any]] = field(default_factory=list)
    """In the meter's order, each with `at_ms`."""
    happened: list[tuple[int, str]] = field(default_factory=list)
    """What the story did, in words."""
    seen: dict[int, dict[str, Any]] = field(default_factory=dict)
    """By moment: `contact` at the bench (None without power), `live` as last heard."""
    results: dict[tuple[str, int], str] = field(default_factory=dict)
    """By (recharge or order, its number in the file): its result."""
    unpowered_ms: list[tuple[int, int]] = field(default_factory=list)
    balance: dict[str, Any] = field(default_factory=dict)
    """The gateway's comparison with its own recomputation."""
    missing: int = 0
    """Records that others came behind and the gateway did not get."""


class Player:
    """One story in one world. `play` may be called once."""

    def __init__(
        self, scenario: Scenario, folder: Path, quick: bool, say: Callable[[str], None]
    ) -> None:
        """quick: a sample a minute, live values each quarter of an hour. Raises WorldError."""
        erase(folder)
        meter = scenario.meter
        self.scenario = scenario
        self.meter = str(meter["id"])
        self._load = scenario.load
        self._say = say
        self._told = Told()
        self._made: dict[tuple[str, int], str] = {}
        self._away = {"network": False, "server": False, "utility": False}
        self._off_since_ms: int | None = None
        self.world = World(
            folder,
            [
                Household(
                    self.meter,
                    str(meter["consumer"]),
                    scenario.load,
                    int(meter["opening_mp"]),
                    scenario.settings.get("low_credit_mp", 5_000_000),
                    scenario.tariff,
                    sanctioned_load_w=int(meter["sanctioned_load_w"]),
                    sample_period_ms=1000 * (QUICK_SAMPLE_S if quick else meter["sample_period_s"]),
                    live_period_s=QUICK_LIVE_S if quick else int(meter["live_period_s"]),
                    settings=scenario.settings,
                    board={"relay_kind": meter["relay"]},
                )
            ],
            scenario.start_ms,
            None,
            say,
            hold_cap_s=HOLD_CAP_S,
        )

    def play(self) -> Told:
        """Lives through the story. Raises WorldError or BoardError."""
        try:
            self.world.start()
            self._begin()
            for at_ms, action in self._plan():
                self.world.wait_until(at_ms)
                action()
            self._finish()
        finally:
            self.world.stop()
        return self._told

    def _plan(self) -> list[tuple[int, Callable[[], None]]]:
        """What is to be done when; what is looked at is looked at before the story goes on."""
        scenario = self.scenario
        plan: list[tuple[int, int, Callable[[], None]]] = []
        for day in range(1, scenario.days):
            plan.append((scenario.start_ms + day * DAY_MS, 0, self._new_day))
        for at_ms in {e.from_ms for e in scenario.expectations if e.kind in AT}:
            plan.append((at_ms, 1, lambda at_ms=at_ms: self._observe(at_ms)))
        for step in scenario.steps:
            plan.append((step.at_ms, 2, lambda step=step: self._do(step)))
        plan.append((scenario.end_ms, 3, lambda: None))
        return [(at_ms, action) for at_ms, _order, action in sorted(plan, key=lambda e: e[:2])]

    def _begin(self) -> None:
        """What the meter is told before anything happens."""
        by_order = {
            name: value
            for name, value in self.scenario.settings.items()
            if name not in RULES and name not in METERING
        }
        if by_order:
            self._order({"kind": "settings", "document": by_order})
        if self.scenario.calendar is not None:
            self._order({"kind": "calendar", "document": self.scenario.calendar})

    def _do(self, step: Step) -> None:
        what = step.what
        if step.name == "load":
            self._load = what["load"]
            if self._off_since_ms is None:
                self.board.set(load=self._load)
        elif step.name == "knobs":
            self._tell("fault: " + ", ".join(f"{name} {word}" for name, word in what.items()))
            self.board.set(**what)
        elif step.name == "power":
            self._power(what["on"])
        elif step.name == "recharge":
            made = self.world.recharge(self.meter, what["rupees"])
            self._made["recharge", what["number"]] = made["id"]
            self._tell(f"recharge of {what['rupees']} rupees is paid")
        elif step.name == "order":
            self._made["order", what["number"]] = self._order(what["body"])
        else:
            self._away[step.name] = not what["on"]
            self._tell(SPOKEN[step.name][what["on"]])
            getattr(self, "_" + step.name)(what["on"])

    @property
    def board(self) -> Any:
        """The emulated board of the story."""
        return self.world.boards[self.meter]

    def _power(self, on: bool) -> None:
        if on == (self._off_since_ms is None):
            return  # a power cut in a power cut
        now_ms = self.world.now_ms
        self._tell(SPOKEN["power"][on])
        if on:
            self._told.unpowered_ms.append((int(self._off_since_ms or 0), now_ms))
            self._off_since_ms = None
            self.board.restore_power(load=self._load)
        else:
            self._off_since_ms = now_ms
            self.board.cut_power()

    def _network(self, on: bool) -> None:
        self.board.set(wifi=on)

    def _server(self, on: bool) -> None:
        if on:
            self.world.restart_gateway()
        else:
            self.world.stop_gateway()

    def _utility(self, on: bool) -> None:
        if on:
            self.world.restart_headend()
        else:
            self.world.stop_headend()

    def _order(self, body: dict[str, Any]) -> str:
        made = self.world.post(
            f"/api/meters/{self.meter}/orders", body, {"Idempotency-Key": uuid.uuid4().hex}
        )
        self._tell(f"order: {body['kind']}")
        return str(made["id"])

    def _tell(self, text: str) -> None:
        self._told.happened.append((self.world.now_ms, text))

    def _new_day(self) -> None:
        day = (self.world.now_ms - self.scenario.start_ms) // DAY_MS
        self._say(f"day {day} of {self.scenario.days}")

    def _observe(self, at_ms: int) -> None:
        """What is to be seen now; without a gateway what it last said is not asked for."""
        seen: dict[str, Any] = {"contact": None, "live": {}}
        if self._off_since_ms is None:
            seen["contact"] = bool(self.board.look()["contact"])
        if not self._away["server"]:
            seen["live"] = self.world.get(f"/api/meters/{self.meter}")["live"]
        self._told.seen[at_ms] = seen

    def _collect(self) -> None:
        """Take all of the story's records from the gateway, page by page from the newest."""
        found: dict[tuple[str, int], dict[str, Any]] = {}
        for kind in ("events", "readings"):
            until_s = UTC_S_MAX
            while True:
                page = self.world.get(
                    f"/api/meters/{self.meter}/{kind}", until=until_s, limit=LIMIT_MAX
                )
                for record in page:
                    record["at_ms"] = record["at_utc_s"] * 1000
                    found[record["store"], record["seq"]] = record
                if len(page) < LIMIT_MAX or page[-1]["at_utc_s"] + 1 >= until_s:
                    break
                until_s = page[-1]["at_utc_s"] + 1
        self._told.records = sorted(found.values(), key=lambda each: (each["boot"], each["seq"]))

    def _finish(self) -> None:
        """Let what waits on the meter arrive, if somebody can be reached; then judge the books."""
        told = self._told
        if self._off_since_ms is not None:
            told.unpowered_ms.append((self._off_since_ms, self.world.now_ms))
        if self._away["server"]:
            self._server(True)
            self._away["server"] = False
        reachable = self._off_since_ms is None and not self._away["network"]
        until_ms = self.world.now_ms + CATCH_UP_MS
        while reachable and self.world.now_ms < until_ms:
            self.world.wait_until(self.world.now_ms + CATCH_UP_STEP_MS)
            live = self.world.get(f"/api/meters/{self.meter}")["live"]
            if live.get("waiting") == 0 and live["meter_utc_s"] * 1000 >= self.scenario.end_ms:
                break
        self._collect()
        view = self.world.get(f"/api/meters/{self.meter}")
        told.missing = sum(gap["last_seq"] - gap["first_seq"] + 1 for gap in view["gaps"])
        told.balance = self.world.get(f"/api/meters/{self.meter}/balance")
        for (name, number), made in self._made.items():
            view = self.world.get(f"/api/{name}s/{made}")
            told.results[name, number] = (
                view["code"] or view["state"] if name == "recharge" else view["result"]
            ) or view["state"]


FAILURES = (WorldError, BoardError)
