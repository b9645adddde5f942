"""The picture of a story: power, balance, relay and events over local time."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from demo.households import IST_S
from demo.scenario.judging import is_allowed
from demo.scenario.playing import Told
from demo.scenario.reading import Scenario
from demo.scenario.telling import MP_PER_RUPEE, series
from firmware.core import events
from gateway import words

BLUE, GREEN, ORANGE, RED, GREY = "#1f5fa8", "#2e7d32", "#d9730d", "#b3261e", "#555555"
QUARTER_MS = 900_000

SHOWN = {
    events.LOW_CREDIT: "low credit",
    events.CREDIT_EXHAUSTED: "credit used up",
    events.GRACE_OVER: "grace over",
    events.IN_CREDIT: "in credit",
    events.SWITCH_WELD: "weld",
    events.LINK_SILENT: "gateway silent",
    events.LINK_HEARD: "gateway heard",
    events.OFFLINE_GRACE: "grace after silence",
    events.WOULD_CUT: "would cut",
    events.UNDATED_CUT: "last warning, time unknown",
    events.LIMITER_LOCKED: "limiter locked",
    events.NOT_CLOSED: "did not close",
    events.CONTACT_WORKS: "contact works again",
    events.TIME_UNKNOWN: "time unknown",
    events.SENSOR_FAULT: "sensor fault",
    events.NO_CUT_BEFORE: "no cut for now",
}
ROWS = 6


def draw(scenario: Scenario, told: Told, path: Path) -> None:
    """Writes the picture. ValueError if matplotlib does not know the ending; OSError."""
    found = series(scenario, told)
    figure = Figure(figsize=(13, 9), layout="constrained")
    figure.suptitle(scenario.title, fontsize=12)
    axes = figure.subplots(4, 1, sharex=True, height_ratios=[3, 3, 1, 2])
    _power(axes[0], found["power_w"])
    _balance(axes[1], scenario, told, found["balance_mp"])
    _relay(axes[2], scenario, found)
    _events(axes[3], told)
    for each in axes:
        for from_ms, until_ms in told.unpowered_ms:
            each.axvspan(_local(from_ms), _local(until_ms), color=GREY, alpha=0.25, linewidth=0)
        each.grid(alpha=0.25)
    axes[3].set_xlim(_local(scenario.start_ms), _local(scenario.end_ms))
    locator = dates.AutoDateLocator(minticks=4, maxticks=12)
    axes[3].xaxis.set_major_locator(locator)
    axes[3].xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    figure.savefig(path, dpi=130)


def _local(utc_ms: int) -> Any:
    """matplotlib's number of a moment, in local time."""
    return dates.date2num(
        datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=utc_ms + IST_S * 1000)
    )


def _power(axes: Axes, points: list[list[Any]]) -> None:
    moments: list[int] = []
    watts: list[float] = []
    for at_ms, mean_w in points:
        if len(moments) % 2 == 0 and moments and at_ms > moments[-1]:
            moments += [moments[-1], at_ms]  # of what lies between nothing was told
            watts += [math.nan, math.nan]
        moments.append(at_ms)
        watts.append(mean_w)
    axes.fill_between([_local(at_ms) for at_ms in moments], watts, color=BLUE, alpha=0.6)
    axes.set_title(
        "power, mean of each interval (grey: no power at the meter)", loc="left", fontsize=10
    )
    axes.set_ylabel("W")
    axes.set_ylim(bottom=0)


def _balance(axes: Axes, scenario: Scenario, told: Told, points: list[list[Any]]) -> None:
    axes.plot(
        [_local(at) for at, _ in points],
        [mp / MP_PER_RUPEE for _, mp in points],
        color=GREEN,
        linewidth=1.4,
    )
    floor = scenario.settings.get("floor_mp", 0) / MP_PER_RUPEE
    axes.axhline(floor, color=RED, linewidth=0.8, linestyle="dashed")
    for record in told.records:
        if record["type"] == "credit" and record["kind"] == "recharge":
            axes.annotate(
                f"+{words.rupees(record['amount_mp'])}",
                (_local(record["at_ms"]), record["balance_mp"] / MP_PER_RUPEE),
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
    axes.margins(y=0.15)
    axes.set_title("balance (dashed: where credit ends)", loc="left", fontsize=10)
    axes.set_ylabel("₹")


def _relay(axes: Axes, scenario: Scenario, found: dict[str, list[list[Any]]]) -> None:
    for name, color, style in (("decided", RED, "dotted"), ("moved", ORANGE, "solid")):
        axes.step(
            [_local(at) for at, _ in found[name]],
            [contact for _, contact in found[name]],
            where="post",
            color=color,
            linestyle=style,
            linewidth=1.6,
        )
    start_ms = None
    for at_ms in range(scenario.start_ms, scenario.end_ms + QUARTER_MS, QUARTER_MS):
        is_open = at_ms < scenario.end_ms and is_allowed(scenario, at_ms)
        if is_open and start_ms is None:
            start_ms = at_ms
        elif not is_open and start_ms is not None:
            axes.axvspan(_local(start_ms), _local(at_ms), color=RED, alpha=0.12, linewidth=0)
            start_ms = None
    axes.set_yticks([0, 1], ["open", "closed"])
    axes.set_ylim(-0.3, 1.3)
    axes.set_title(
        "contact (dotted: as decided; red: when a cut is allowed)", loc="left", fontsize=10
    )


def _events(axes: Axes, told: Told) -> None:
    """Names in rows, one below the other, as they may lie close together."""
    found = [
        (record["at_ms"], SHOWN[record["code"]])
        for record in told.records
        if record["type"] == "event" and record["code"] in SHOWN
    ]
    for number, (at_ms, text) in enumerate(found):
        row = number % ROWS
        axes.axvline(_local(at_ms), color=GREY, linewidth=0.5)
        axes.text(
            _local(at_ms), ROWS - 1 - row, " " + text, fontsize=7.5, va="center", clip_on=True
        )
    axes.set_yticks([])
    axes.set_ylim(-0.6, ROWS - 0.4)
    axes.set_title("events", loc="left", fontsize=10)
