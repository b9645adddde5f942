"""`python -m host_tests.bench [NAME ...]`: one table of figures beside their baselines."""

from __future__ import annotations

import statistics
import tempfile
import time
import traceback
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from host_tests.bench import chain, ingest, link, sampling, speed, storage, wear
from host_tests.bench.measure import Group, Measure, Row
from toolchain import locate

GROUPS: dict[str, Measure] = {
    "sample": sampling.sample,
    "rules": sampling.rules,
    "board": speed.board,
    "journal": storage.journal,
    "boot": storage.boot,
    "wear": wear.wear,
    "ingest": ingest.ingest,
    "backlog": chain.backlog,
    "recharge": chain.recharge,
    "link": link.link,
}
PLAIN_WIDTH = 118  # of the table where there is no terminal


def main(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help=", ".join(GROUPS))
    ] = None,
    quick: Annotated[bool, typer.Option(help="Fewer and shorter runs.")] = False,
) -> None:
    """Measure speed and memory: medians of runs in alternation with a baseline."""
    unknown = sorted(set(names or ()) - set(GROUPS))
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}; there are {', '.join(GROUPS)}")
    progress = Console(stderr=True)
    groups = []
    failed = False
    for name in names or GROUPS:
        began_s = time.monotonic()
        try:
            groups.append(measure(name, quick))
        except Exception as error:
            # The other rows are worth having.
            traceback.print_exc()
            groups.append(Group(name, "", missing=f"failed: {type(error).__name__}: {error}"))
            failed = True
        progress.print(f"{name}: {time.monotonic() - began_s:.0f} s", style="dim")
    show(groups)
    raise typer.Exit(failed)


def measure(name: str, quick: bool) -> Group:
    """One group; without a tool that it needs it says so."""
    with tempfile.TemporaryDirectory(prefix="bijli-bench-") as folder:
        try:
            return GROUPS[name](quick, Path(folder))
        except locate.ToolMissing as missing:
            return Group(name, "", missing=f"not measured, {missing}")


def show(groups: list[Group]) -> None:
    """The table and the sentences below it."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    table = Table(title="median (lowest - highest) of the runs", title_justify="left")
    table.add_column("row")
    table.add_column("figure", justify="right")
    table.add_column("baseline")
    table.add_column("its figure", justify="right")
    table.add_column("ratio", justify="right")
    for group in groups:
        for row in group.rows:
            ratio = row.ratio()
            table.add_row(
                f"[bold]{group.name}[/] {row.name}",
                spread(row, row.figure),
                row.baseline_name,
                spread(row, row.baseline),
                "-" if ratio is None else f"{number(ratio)}",
            )
        if group.missing:
            table.add_row(f"[bold]{group.name}[/]", "-", group.missing, "-", "-")
        table.add_section()
    console.print(table)
    for group in groups:
        if group.what:
            console.print(f"[bold]{group.name}[/]: {group.what}", highlight=False)


def spread(row: Row, values: list[float]) -> str:
    """`12.3 us (11.9 - 14)`."""
    if not values:
        return "-"
    text = f"{number(statistics.median(values))} {row.unit}"
    if len(values) == 1 or min(values) == max(values):
        return text
    return f"{text} ({number(min(values))} - {number(max(values))})"


def number(value: float) -> str:
    """Three digits that count, and all of them before the point."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


if __name__ == "__main__":
    typer.run(main)
