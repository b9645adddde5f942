"""`python -m host_tests.accuracy`: table and plot; the exit code is 1 if a limit is not kept."""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from host_tests.accuracy import conditions, plot
from host_tests.accuracy.conditions import Corner
from host_tests.accuracy.run import (
    DATA,
    Amount,
    Bench,
    Errors,
    Household,
    expected_first_wh_s,
    failures,
    starting_range_s,
    within_starting_time,
)
from host_tests.bench import exact
from host_tests.bench.measure import ROOT
from toolchain import locate

EXACT_SAMPLES = 200_000
OUT = ROOT / "build" / "accuracy"
PLAIN_WIDTH = 118  # of the table where there is no terminal
WHAT = (
    "Each chip has errors as large as the datasheet of the INA219A allows (SBOS448G, section 7.5): "
    "offset of the shunt voltage at PGA = /8, errors of current and bus voltage over temperature. "
    "The firmware's sampler, driver and registers run on the 32-bit MicroPython from "
    f"the ROM image, a sample a second, at {conditions.VOLTAGE_MV // 1000} V (no load: 115 %) and "
    f"Ib {conditions.BASIC_MA // 1000} A on 0.1 ohm; a household's 230 V reach the sensor as 23 V, "
    "counted by the chips whose errors add up most. "
    "Calibrated by the console's `calibrate zero`, `voltage` and `current`, at Ib; then the chip "
    f"gets {conditions.WARMTH_K} K warmer and drifts as is typical (the same table). "
    "The limits are those of IEC 62053-21, class 1, for alternating current: this direct-current "
    "test borrows them and proves no conformity."
)
HEADINGS = {50: "0.05 Ib", 100: "0.1 Ib", 500: "0.5 Ib", 1_000: "Ib", 3_000: "Imax"}


def main(
    short: Annotated[bool, typer.Option(help="Two chips, few currents, an hour.")] = False,
) -> None:
    """Test the meter against limits shaped like those of IEC 62053-21, class 1."""
    locate.micropython(32)
    corners = conditions.corners()[:: 7 if short else 1]
    amount = Amount(conditions.CURRENTS_MA, 3_600) if short else Amount(sweep(), conditions.DAY_S)
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    cases = [(corner, state) for corner in corners for state in conditions.STATES]
    with tempfile.TemporaryDirectory(prefix="bijli-accuracy-") as folder:
        bench = Bench(Path(folder), amount)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            results = list(pool.map(lambda case: measured(bench, *case), cases))
    console.print(table(results, amount, bench.households))
    if not bench.households:
        console.print(
            f"No household was replayed: no recordings in {DATA.name} beside the project."
        )
    console.print(WHAT, highlight=False)
    console.print("The arithmetic alone, in short (host_tests.bench.exact is the whole):")
    missed = exact.main(EXACT_SAMPLES)
    OUT.mkdir(parents=True, exist_ok=True)
    for path in plot.draw(results, OUT):
        console.print(f"plot: {path.relative_to(ROOT)}", highlight=False)
    for errors in results:
        if errors.state != conditions.BEFORE:
            for failure in failures(errors):
                console.print(f"NOT KEPT {failure}", highlight=False)
                missed = 1
    verdict = "not every limit is kept" if missed else "every limit is kept after calibration"
    console.print(f"bench-accuracy: {verdict}")
    raise typer.Exit(missed)


def measured(bench: Bench, corner: Corner, state: str) -> Errors:
    """One row of the table; says when it is done."""
    began_s = time.monotonic()
    errors = bench.errors(corner, state)
    took_s = time.monotonic() - began_s
    Console(stderr=True).print(f"{corner.name}, {state}: {took_s:.0f} s", style="dim")
    return errors


def table(results: list[Errors], amount: Amount, households: list[Household]) -> Table:
    """All figures; red where a limit is not kept."""
    shown = Table(title="class-1-shaped DC test: error of the registered energy in %")
    shown.add_column("chip: shunt, I, U")
    shown.add_column("")
    for ma in conditions.CURRENTS_MA:
        shown.add_column(HEADINGS[ma], justify="right")
    shown.add_column(f"0.004 Ib: first\nWh ({hours(expected_first_wh_s())})", justify="right")
    shown.add_column(f"no load\n{amount.no_load_s // 3600} h, mWh", justify="right")
    for home in households:
        shown.add_column(f"{home.name}\n{float(home.wh) / 1000:.3f} kWh", justify="right")
    for errors in results:
        shown.add_row(
            errors.corner.name if errors.state == conditions.BEFORE else "",
            errors.state,
            *(marked(errors.at_ma[ma], conditions.limit(ma)) for ma in conditions.CURRENTS_MA),
            starting(errors.first_wh_s),
            f"[red]{errors.no_load_mwh:.0f}[/]" if errors.no_load_mwh else "0",
            *(replayed(errors, home) for home in households),
        )
    allowed = [f"{conditions.limit(ma):g}" for ma in conditions.CURRENTS_MA]
    shown.add_section()
    shown.add_row(
        "allowed",
        "after",
        *allowed,
        " - ".join(hours(seconds) for seconds in starting_range_s()),
        "0",
        *(f"{conditions.REPLAY_LIMIT}" for _home in households),
    )
    return shown


def marked(error: float, allowed: float | None) -> str:
    """An error in per cent, red if it is not allowed."""
    outside = allowed is not None and abs(error) > allowed
    return f"[red]{error:+.2f}[/]" if outside else f"{error:+.2f}"


def replayed(errors: Errors, home: Household) -> str:
    """The error of a recording."""
    if home.name not in errors.replays:
        return "-"
    return marked(errors.replays[home.name][1], conditions.REPLAY_LIMIT)


def starting(first_wh_s: int | None) -> str:
    """When the first Wh came."""
    if first_wh_s is None:
        return "-"
    text = hours(first_wh_s) if first_wh_s >= 0 else "never"
    return text if within_starting_time(first_wh_s) else f"[red]{text}[/]"


def hours(seconds: int) -> str:
    """`20.8 h`."""
    return f"{seconds / 3600:.1f} h"


def sweep() -> tuple[int, ...]:
    """Currents of the plot in mA: those of the table, and 24 to each decade from 0.004 Ib on."""
    lowest, highest = conditions.STARTING_MA, conditions.MAXIMUM_MA
    steps = range(200)
    between = (round(lowest * 10 ** (step / 24)) for step in steps)
    return tuple(sorted({ma for ma in between if ma <= highest} | {*conditions.CURRENTS_MA}))


if __name__ == "__main__":
    typer.run(main)
