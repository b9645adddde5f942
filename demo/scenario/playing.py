"""Plays a story on the emulated board, with broker, gateway and utility, as fast as events allow.

What a person at the bench would see (the contact) is taken from the board; everything else is what
the gateway got to know. Records that were written while nobody could be reached come later, and are
told at their own time. Tests: host_tests/system/test_scenarios.py.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from boards.emulated.board import BoardError
from demo.households import Household
from demo.scenario.reading import AT, CODE, Scenario, Step
from demo.world import World, WorldError, erase
from firmware.core import events
from gateway import words
from gateway.meters import METERING, RULES
from gateway.models import LIMIT_MAX, UTC_S_MAX

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
CATCH_UP_MS = 6 * HOUR_MS
CATCH_UP_STEP_MS = 60_000
CAP_S = 300  # to start twenty boards takes its time, and the simulated one must stand still
QUICK_SAMPLE_S = 60
QUICK_LIVE_S = 900

SHARED = ("server", "utility")
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
    sample_s: int = 1
    """Seconds between two samples in this run."""


class Actor:
    """One meter's part of a story: what happens to it, and what became of it."""

    def __init__(self, scenario: Scenario, world: World) -> None:
        self.scenario = scenario
        self.meter = str(scenario.meter["id"])
        self.told = Told()
        self.world = world
        self._load = scenario.load
        self._made: dict[tuple[str, int], str] = {}
        self._off_since_ms: int | None = None
        self._knobs: dict[str, Any] = {}  # turned while there was no power to turn them
        self._alone = False

    def begin(self) -> None:
        """What the meter is told before anything happens."""
        by_order = {
            name: value
            for name, value in self.scenario.settings.items()
            if name not in RULES and name not in METERING
        }
        if by_order:
            self.order({"kind": "settings", "document": by_order})
        if self.scenario.calendar is not None:
            self.order({"kind": "calendar", "document": self.scenario.calendar})

    def do(self, step: Step) -> None:
        """Has a step of the story happen."""
        what = step.what
        if step.name == "load":
            self._load = what["load"]
            if self._off_since_ms is None:
                self.board.set(load=self._load)
        elif step.name == "knobs":
            self.tell("fault: " + ", ".join(f"{name} {word}" for name, word in what.items()))
            self._turn(what)
        elif step.name == "network":
            self.tell(SPOKEN["network"][what["on"]])
            self._alone = not what["on"]
            self._turn({"wifi": what["on"]})
        elif step.name == "power":
            self._power(what["on"])
        elif step.name == "recharge":
            made = self.world.recharge(self.meter, what["rupees"])
            self._made["recharge", what["number"]] = made["id"]
            self.tell(f"recharge of {what['rupees']} rupees is paid")
        elif step.name == "order":
            self._made["order", what["number"]] = self.order(what["body"])
        elif step.name == "button":
            if what["pressed"]:
                self.tell("the button is pressed")
            self._turn({"button": what["pressed"]})
        elif step.name == "console":
            self._type(what["line"])

    @property
    def board(self) -> Any:
        """The meter's emulated board."""
        return self.world.boards[self.meter]

    def _type(self, line: str) -> None:
        """Somebody types a line at the serial port; without power nobody reads it."""
        if self._off_since_ms is not None:
            self.tell(f"at the console, without power: {line}")
            return
        shown = re.findall(r"`relay test (\d+)`", "\n".join(self.board.lines()))
        if shown:
            line = line.replace(CODE, shown[-1])
        self.tell(f"at the console: {line}")
        self.board.type(line.encode() + b"\r")

    def _turn(self, knobs: dict[str, Any]) -> None:
        if self._off_since_ms is None:
            self.board.set(**knobs)
        else:
            self._knobs.update(knobs)

    def _power(self, on: bool) -> None:
        if on == (self._off_since_ms is None):
            return  # a power cut in a power cut
        now_ms = self.world.now_ms
        self.tell(SPOKEN["power"][on])
        if on:
            self.told.unpowered_ms.append((int(self._off_since_ms or 0), now_ms))
            self._off_since_ms = None
            self.board.restore_power(load=self._load)
            self._turn(self._knobs)
            self._knobs = {}
        else:
            self._off_since_ms = now_ms
            self.board.cut_power()

    def order(self, body: dict[str, Any]) -> str:
        """Orders something of the meter; returns the order's id."""
        made = self.world.post(
            f"/api/meters/{self.meter}/orders", body, {"Idempotency-Key": uuid.uuid4().hex}
        )
        self.tell(f"ordered: {words.order(made)}")
        return str(made["id"])

    def tell(self, text: str) -> None:
        """A line of the timeline."""
        self.told.happened.append((self.world.now_ms, text))

    def observe(self, at_ms: int, is_served: bool) -> None:
        """Takes down what is to be seen now; is_served: the gateway can be asked."""
        seen: dict[str, Any] = {"contact": None, "live": {}}
        if self._off_since_ms is None:
            seen["contact"] = bool(self.board.look()["contact"])
        if is_served:
            seen["live"] = self.world.get(f"/api/meters/{self.meter}")["live"]
        self.told.seen[at_ms] = seen

    def has_told_all(self) -> bool:
        """Nothing waits on the meter any more, or nobody can reach it."""
        if self._off_since_ms is not None or self._alone:
            return True
        live = self.world.get(f"/api/meters/{self.meter}")["live"]
        return bool(live.get("waiting") == 0 and live["meter_utc_s"] * 1000 >= self.scenario.end_ms)

    def finish(self) -> None:
        """Takes the records and what became of orders from the gateway."""
        told = self.told
        if self._off_since_ms is not None:
            told.unpowered_ms.append((self._off_since_ms, self.scenario.end_ms))
        self._collect()
        view = self.world.get(f"/api/meters/{self.meter}")
        told.missing = sum(gap["last_seq"] - gap["first_seq"] + 1 for gap in view["gaps"])
        told.balance = self.world.get(f"/api/meters/{self.meter}/balance")
        for (name, number), made in self._made.items():
            view = self.world.get(f"/api/{name}s/{made}")
            result = view["code"] if name == "recharge" else view["result"]
            told.results[name, number] = result or view["state"]

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
                    found[record["store"], record["seq"]] = record
                if len(page) < LIMIT_MAX or page[-1]["at_utc_s"] + 1 >= until_s:
                    break
                until_s = page[-1]["at_utc_s"] + 1
        self.told.records = sorted(found.values(), key=lambda each: (each["boot"], each["seq"]))
        date(self.told.records)


def date(records: list[dict[str, Any]]) -> None:
    """Sets `at_utc_s` and `at_ms` of records without a time, from others of their boot, if there
    are any; else they stay at the time when they arrived."""
    began_s = {
        record["boot"]: record["at_utc_s"] - record["up_s"]
        for record in records
        # What tells of a power failure has the time from before it.
        if record["time_valid"] and record.get("code") != events.POWER_FAILED
    }
    for record in records:
        if not record["time_valid"] and record["boot"] in began_s:
            record["at_utc_s"] = began_s[record["boot"]] + record["up_s"]
        record["at_ms"] = record["at_utc_s"] * 1000


class Player:
    """One story, or those of a street that share their begin and length, in one world.

    Outages of the server and of the utility are those of the first.
    """

    def __init__(
        self, scenarios: list[Scenario], folder: Path, quick: bool, say: Callable[[str], None]
    ) -> None:
        """quick: a sample a minute, live values each quarter of an hour. Raises WorldError."""
        erase(folder)
        self._say = say
        self._first = scenarios[0]
        self._is_served = True
        self.world = World(
            folder,
            [_household(scenario, seed, quick) for seed, scenario in enumerate(scenarios, 1)],
            self._first.start_ms,
            None,
            say,
            cap_s=CAP_S,
        )
        self.actors = [Actor(scenario, self.world) for scenario in scenarios]
        for actor, household in zip(self.actors, self.world.households, strict=True):
            actor.told.sample_s = household.sample_period_ms // 1000

    def play(self) -> list[Told]:
        """Lives through it. Raises WorldError or BoardError."""
        try:
            self.world.start()
            for actor in self.actors:
                actor.begin()
            for at_ms, action in self._plan():
                self.world.wait_until(at_ms)
                action()
            self._finish()
        finally:
            self.world.stop()
        return [actor.told for actor in self.actors]

    def _plan(self) -> list[tuple[int, Callable[[], None]]]:
        """What is to be done when; what is looked at is looked at before the story goes on."""
        plan: list[tuple[int, int, Callable[[], None]]] = []
        for day in range(1, self._first.days):
            said = partial(self._say, f"day {day} of {self._first.days} is over")
            plan.append((self._first.start_ms + day * DAY_MS, 0, said))
        for actor in self.actors:
            scenario = actor.scenario
            for at_ms in {each.from_ms for each in scenario.expectations if each.kind in AT}:
                plan.append((at_ms, 1, partial(self._observe, actor, at_ms)))
            for step in scenario.steps:
                if step.name not in SHARED:
                    plan.append((step.at_ms, 2, partial(actor.do, step)))
        for step in self._first.steps:
            if step.name in SHARED:
                plan.append((step.at_ms, 2, partial(self._do, step)))
        plan.append((self._first.end_ms, 3, lambda: None))
        return [(at_ms, action) for at_ms, _order, action in sorted(plan, key=lambda e: e[:2])]

    def _observe(self, actor: Actor, at_ms: int) -> None:
        actor.observe(at_ms, self._is_served)

    def _do(self, step: Step) -> None:
        on = step.what["on"]
        self.actors[0].tell(SPOKEN[step.name][on])
        if step.name == "utility":
            (self.world.restart_headend if on else self.world.stop_headend)()
        else:
            (self.world.restart_gateway if on else self.world.stop_gateway)()
            self._is_served = on

    def _finish(self) -> None:
        """Let what waits on the meters arrive."""
        if not self._is_served:
            self.world.restart_gateway()
        until_ms = self.world.now_ms + CATCH_UP_MS
        left = list(self.actors)
        while left and self.world.now_ms < until_ms:
            self.world.wait_until(self.world.now_ms + CATCH_UP_STEP_MS)
            left = [actor for actor in left if not actor.has_told_all()]
        for actor in self.actors:
            actor.finish()


def _household(scenario: Scenario, seed: int, quick: bool) -> Household:
    meter = scenario.meter
    return Household(
        str(meter["id"]),
        str(meter["consumer"]),
        scenario.load,
        int(meter["opening_mp"]),
        scenario.settings.get("low_credit_mp", 5_000_000),
        scenario.tariff,
        sanctioned_load_w=int(meter["sanctioned_load_w"]),
        sample_period_ms=1000 * (QUICK_SAMPLE_S if quick else meter["sample_period_s"]),
        live_period_s=QUICK_LIVE_S if quick else int(meter["live_period_s"]),
        seed=seed,
        settings=scenario.settings,
        board={"relay_kind": meter["relay"]},
    )


FAILURES = (WorldError, BoardError)
