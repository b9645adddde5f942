"""The picture of a tariff: cost and price of the next kWh over the energy of a billing period."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from firmware.credit import charges
from gateway import pricing
from gateway.words import MP_PER_RUPEE

BLUE, ORANGE, RED, GREY = "#1f5fa8", "#d9730d", "#b3261e", "#555555"


def draw(tariff: Any, nothing_used: Any, to_kwh: int, path: Path) -> None:
    """Writes the picture. nothing_used: the quantities of a period in which no energy is used.

    Raises ValueError if matplotlib does not know the ending of `path`, and OSError.
    """
    costs = [
        charges.charge_mp(tariff, pricing.more(nothing_used, kwh * pricing.KWH_WH)) / MP_PER_RUPEE
        for kwh in range(to_kwh + 2)
    ]
    cliffs = [
        cliff
        for cliff in pricing.cliffs(tariff, nothing_used)
        if cliff.total_wh <= to_kwh * pricing.KWH_WH
    ]
    figure = Figure(figsize=(9, 7.5), layout="constrained")
    figure.suptitle(f"{tariff.id} version {tariff.version}, {nothing_used.days} days", fontsize=12)
    upper, lower = figure.subplots(2, 1, sharex=True)
    _cost(upper, costs[:-1], cliffs)
    _prices(lower, costs, cliffs)
    lower.set_xlim(0, to_kwh)
    figure.savefig(path, dpi=150)


def _cost(axes: Axes, costs: list[float], cliffs: list[pricing.Cliff]) -> None:
    axes.plot(range(len(costs)), costs, color=BLUE, linewidth=1.6)
    for number, cliff in enumerate(cliffs):
        kwh = cliff.total_wh // pricing.KWH_WH
        axes.axvline(kwh, color=RED, linewidth=0.8, linestyle="dashed")
        axes.text(
            kwh,
            0.95 - 0.06 * number,
            f" the kWh after {kwh} costs {cliff.kwh_mp / MP_PER_RUPEE:.2f} ₹ ",
            transform=axes.get_xaxis_transform(),
            ha="left" if kwh < len(costs) // 2 else "right",
            va="top",
            color=RED,
            fontsize=9,
        )
    # Room for the texts above the line.
    axes.set_ylim(top=max(1, max(costs)) * (1.1 + 0.08 * len(cliffs)))
    axes.set_title("cost of the billing period", loc="left", fontsize=11)
    axes.set_ylabel("₹")
    axes.grid(alpha=0.25)


def _prices(axes: Axes, costs: list[float], cliffs: list[pricing.Cliff]) -> None:
    """The price of each kWh as a step from it to the next. A cliff is no price: it is left out."""
    steep = {cliff.total_wh // pricing.KWH_WH for cliff in cliffs}
    prices = [
        float("nan") if kwh in steep else after - before
        for kwh, (before, after) in enumerate(itertools.pairwise(costs))
    ]
    axes.step(range(len(prices)), prices, where="post", color=ORANGE, label="next kWh")
    used = range(1, len(prices))
    means = [costs[kwh] / kwh for kwh in used]
    axes.plot(used, means, color=GREY, linewidth=1, label="mean of all kWh")
    for kwh_at in steep:
        axes.axvline(kwh_at, color=RED, linewidth=0.8, linestyle="dashed")
    told = [price for kwh, price in enumerate(prices) if kwh not in steep]
    highest, lowest = max(told, default=0), min(told, default=0)
    high = max(highest * 1.5, 1)
    axes.set_ylim(min(lowest * 1.15, -high / 30), high)
    axes.set_title("price", loc="left", fontsize=11)
    axes.set_ylabel("₹ per kWh")
    axes.set_xlabel("energy of the billing period, kWh")
    axes.grid(alpha=0.25)
    axes.legend(loc="upper right", fontsize=9, ncols=2)
