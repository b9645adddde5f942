"""The plot: error over current of every chip, with the limits."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files only

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from host_tests.accuracy import conditions
from host_tests.accuracy.conditions import BEFORE, WARM, WARMTH_K
from host_tests.accuracy.run import Errors

TICKS_MA = (4, 10, 20, *conditions.CURRENTS_MA)
BLUE, ORANGE, RED, GREY = "#1f5fa8", "#d9730d", "#b3261e", "#555555"


def draw(results: list[Errors], folder: Path) -> list[Path]:
    """Writes `accuracy.png` and `accuracy.svg`; returns their paths."""
    halves = (
        ("before calibration", [errors for errors in results if errors.state == BEFORE]),
        ("after calibration", [errors for errors in results if errors.state != BEFORE]),
    )
    figure = Figure(figsize=(9, 4.2 * len(halves) + 0.9), layout="constrained")
    figure.suptitle(
        "Bijli, class-1-shaped DC test: error of the registered energy\n"
        "INA219A at the datasheet's largest errors, "
        f"{conditions.VOLTAGE_MV // 1000} V, Ib {conditions.BASIC_MA // 1000} A, 0.1 ohm",
        fontsize=12,
    )
    panels = figure.subplots(len(halves), 1, squeeze=False)[:, 0]
    for axes, (name, chosen) in zip(panels, halves, strict=True):
        panel(axes, name, chosen)
    panels[-1].set_xlabel("current, A")
    paths = [folder / f"accuracy.{kind}" for kind in ("png", "svg")]
    for path in paths:
        figure.savefig(path, dpi=150)
    return paths


def panel(axes: Axes, name: str, results: list[Errors]) -> None:
    """One half: a line for each chip."""
    labelled = set()
    for errors in results:
        high = errors.corner.offset > 0
        warm = errors.state == WARM
        label = f"chips with a {'positive' if high else 'negative'} offset"
        label += f", {WARMTH_K} K warmer" if warm else ""
        currents = sorted(errors.at_ma)
        axes.plot(
            [ma / 1000 for ma in currents],
            [errors.at_ma[ma] for ma in currents],
            color=BLUE if high else ORANGE,
            linewidth=1.1,
            linestyle="dotted" if warm else "solid",
            label=None if label in labelled else label,
        )
        labelled.add(label)
    xs, ys = [], []
    ends_ma = [*(ma for ma, _per_cent in conditions.LIMITS[1:]), conditions.MAXIMUM_MA]
    for (ma, per_cent), end_ma in zip(conditions.LIMITS, ends_ma, strict=True):
        xs += [ma / 1000, end_ma / 1000]
        ys += [per_cent, per_cent]
    for sign in (1, -1):
        axes.plot(
            xs,
            [sign * y for y in ys],
            color=RED,
            linewidth=2,
            label="limits of IEC 62053-21, class 1" if sign > 0 else None,
        )
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xticks([ma / 1000 for ma in TICKS_MA], [f"{ma / 1000:g}" for ma in TICKS_MA])
    axes.set_xticks([], minor=True)
    axes.set_xlim(TICKS_MA[0] / 1000 * 0.93, TICKS_MA[-1] / 1000 * 1.07)
    largest = max(
        abs(error) for errors in results for ma, error in errors.at_ma.items() if ma >= 50
    )
    reach = 1.6 * max(largest, conditions.LIMITS[0][1])
    axes.set_ylim(-reach, reach)
    axes.set_title(name, loc="left", fontsize=11)
    axes.set_ylabel("error, %")
    axes.grid(alpha=0.25)
    axes.legend(loc="upper right", fontsize=8, ncols=2)
