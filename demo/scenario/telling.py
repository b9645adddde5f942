"""A story and its judgement as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from demo.households import IST_S
from demo.scenario.judging import Verdict, switchings
from demo.scenario.playing import Told
from demo.scenario.reading import Scenario, local
from firmware.core import events

DAY_S = 86_400
MP_PER_RUPEE = 100_000


def timeline(scenario: Scenario, told: Told) -> list[dict[str, Any]]:
    """Everything that matters, by its own time: what the story did and what the meter told."""
    lines = [
        {"at_ms": at_ms, "by": "story", "text": text, "code": 0} for at_ms, text in told.happened
    ]
    lines += [
        {
            "at_ms": record["at_ms"],
            "by": "meter",
            "text": record["text"],
            "code": record.get("code", 0),
        }
        for record in told.records
        if record.get("text")
    ]
    # Sorting keeps the order of what has one time: the story acts, then the meter answers.
    lines.sort(key=lambda line: line["at_ms"])
    return [{**line, "day": _day(scenario, line["at_ms"])} for line in lines]


def _day(scenario: Scenario, at_ms: int) -> int:
    first = (scenario.start_ms // 1000 + IST_S) // DAY_S
    return (at_ms // 1000 + IST_S) // DAY_S - first + 1


def series(scenario: Scenario, told: Told) -> dict[str, list[list[Any]]]:
    """What can be drawn: [UTC ms, value] of mean power in W, balance in mp, contact 0 or 1 as
    decided, and as it moved."""
    power = []
    for record in told.records:
        if record["type"] == "load" and record["length_s"]:
            mean_w = record["energy_wh"] * 3600 / record["length_s"]
            power.append([record["start_utc_s"] * 1000, round(mean_w, 1)])
            power.append([(record["start_utc_s"] + record["length_s"]) * 1000, round(mean_w, 1)])
    balance = [[r["at_ms"], r["balance_mp"]] for r in told.records if "balance_mp" in r]
    decided = [[record["at_ms"], record["contact"]] for record in switchings(told)]
    moved = [
        [record["at_ms"], int(record["code"] == events.CONNECTED)]
        for record in told.records
        if record["type"] == "event" and record["code"] in (events.CONNECTED, events.DISCONNECTED)
    ]
    return {
        "power_w": power,
        "balance_mp": balance,
        "decided": _whole(scenario, 1, decided),
        # A relay is delivered open, and the first start of a meter closes it.
        "moved": _whole(scenario, 1 - moved[0][1] if moved else 1, moved),
    }


def _whole(scenario: Scenario, first: int, changes: list[list[Any]]) -> list[list[Any]]:
    """The contact from begin to end, where it is `first`."""
    last = changes[-1][1] if changes else first
    return [[scenario.start_ms, first], *changes, [scenario.end_ms, last]]


def lines(scenario: Scenario, told: Told, verdicts: list[Verdict]) -> Iterator[str]:
    """The story for people."""
    yield scenario.title
    if scenario.about:
        yield "  " + " ".join(scenario.about.split())
    for line in timeline(scenario, told):
        moment = datetime.fromtimestamp(line["at_ms"] // 1000 + IST_S, UTC)
        mark = "*" if line["by"] == "story" else " "
        yield f"  day {line['day']:>2} {moment:%a %d %b %H:%M:%S} {mark} {line['text']}"
    yield "what must hold, and what was seen:"
    for verdict in verdicts:
        mark = "ok  " if verdict.passed else "FAIL"
        where = f"  [{verdict.key}]" if verdict.key and not verdict.passed else ""
        yield f"  {mark} {verdict.text}: {verdict.seen}{where}"


def document(scenario: Scenario, told: Told, verdicts: list[Verdict]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "title": scenario.title,
        "start": local(scenario.start_ms),
        "days": scenario.days,
        "meter": scenario.meter,
        "settings": scenario.settings,
        "passed": all(verdict.passed for verdict in verdicts),
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "timeline": timeline(scenario, told),
        "series": series(scenario, told),
        "unpowered_ms": told.unpowered_ms,
    }
