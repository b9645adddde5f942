"""`bijli scenario run FILE` and `bijli scenario list`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from boards.emulated.flashing import FlashError
from demo.scenario import judging, telling
from demo.scenario.playing import FAILURES, Player
from demo.scenario.reading import SHIPPED, ScenarioError, read
from toolchain import locate

app = typer.Typer(help="Stories of a meter from readable files.", no_args_is_help=True)

FOLDER = Path(".demo") / "scenario"


@app.command("list")
def list_shipped() -> None:
    """Name the stories that are shipped."""
    for path in sorted(SHIPPED.glob("*.toml")):
        typer.echo(f"{path.stem:<16} {read(path).title}")


@app.command("run")
def run(
    file: Annotated[str, typer.Argument(help="A file, or the name of a shipped story.")],
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write timeline and verdicts here, too.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw power, balance, relay and events (PNG, SVG, PDF).")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One sample a minute: coarser, and faster.")
    ] = False,
    data: Annotated[Path | None, typer.Option(help="Folder for the run; emptied first.")] = None,
) -> None:
    """Live through a story on the emulated board, and judge it. Exit code 1: it went wrong."""
    path = Path(file)
    if not path.is_file() and (SHIPPED / f"{file}.toml").is_file():
        path = SHIPPED / f"{file}.toml"
    try:
        scenario = read(path)
    except ScenarioError as error:
        typer.echo(f"bijli: {path.name}: {error}", err=True)
        raise typer.Exit(2) from error
    draw = _drawer() if plot is not None else None
    folder = data or locate.project_root() / FOLDER / path.stem
    began_s = time.monotonic()
    try:
        (told,) = Player([scenario], folder, quick, _progress).play()
    except (*FAILURES, FlashError, locate.ToolMissing) as error:
        typer.echo(f"bijli: {error}", err=True)
        raise typer.Exit(1) from error
    verdicts = judging.judge(scenario, told)
    for line in telling.lines(scenario, told, verdicts):
        typer.echo(line)
    try:
        if json_out is not None:
            json_out.write_text(json.dumps(telling.document(scenario, told, verdicts), indent=1))
        if draw is not None:
            draw(scenario, told, plot)
    except (ValueError, OSError) as error:
        typer.echo(f"bijli: {error}", err=True)
        raise typer.Exit(1) from error
    took_s = time.monotonic() - began_s
    typer.echo(f"  {scenario.days} simulated days in {took_s:.0f} s; logs in {folder.name}/")
    passed = all(verdict.passed for verdict in verdicts)
    typer.echo(f"scenario {path.stem}: {'PASS' if passed else 'FAIL'}")
    raise typer.Exit(0 if passed else 1)


def _progress(text: str) -> None:
    """What goes on, for a person who waits."""
    if sys.stderr.isatty():
        typer.echo(text, err=True)


def _drawer() -> Callable[..., None]:
    """What draws; looked for before a run that takes minutes."""
    try:
        from demo.scenario.plot import draw
    except ImportError as error:
        typer.echo("bijli: a plot needs matplotlib: pip install 'bijli[plot]'", err=True)
        raise typer.Exit(1) from error
    return draw
