"""`bijli demo run` and `bijli demo check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from demo import check as the_check
from toolchain import locate

app = typer.Typer(help="The demo and its check.", no_args_is_help=True)


@app.command("check")
def check(
    data: Annotated[Path | None, typer.Option(help="Folder for the run; emptied first.")] = None,
) -> None:
    """Tell one household's story as fast as events allow, and judge it."""
    folder = data or locate.project_root() / ".demo" / "check"
    raise typer.Exit(0 if the_check.run(folder, typer.echo) else 1)
