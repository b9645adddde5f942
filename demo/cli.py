"""`bijli demo run` and `bijli demo check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from boards.emulated.board import BoardError
from boards.emulated.flashing import FlashError
from demo import check as the_check
from demo import live
from demo.world import WorldError
from toolchain import locate

app = typer.Typer(help="The demo and its check.", no_args_is_help=True)

DEMO_FOLDER = ".demo"


@app.command("run")
def run(
    rate: Annotated[
        float,
        typer.Option(
            min=live.RATE_RANGE[0],
            max=live.RATE_RANGE[1],
            help="Simulated seconds per second.",
        ),
    ] = live.RATE,
    reset: Annotated[bool, typer.Option("--reset", help="Forget the last run.")] = False,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="End after so many seconds instead of by Ctrl-C.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder that keeps the demo's state.")] = None,
) -> None:
    """Run broker, gateway, utility and three meters on one fast clock, until Ctrl-C."""
    folder = data or locate.project_root() / DEMO_FOLDER / "live"
    try:
        live.run(folder, rate, reset, seconds, typer.echo)
    except (BoardError, FlashError, WorldError, locate.ToolMissing) as error:
        typer.echo(f"bijli: {error}", err=True)
        raise typer.Exit(1) from error


@app.command("check")
def check(
    data: Annotated[Path | None, typer.Option(help="Folder for the run; emptied first.")] = None,
) -> None:
    """Tell one household's story as fast as events allow, and judge it."""
    folder = data or locate.project_root() / DEMO_FOLDER / "check"
    raise typer.Exit(0 if the_check.run(folder, typer.echo) else 1)
