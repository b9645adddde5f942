"""The command `bijli`. Sub-commands of other rooms are added below; each room has its own module.

`gateway run` and `headend run` are services; the rest speaks to a running gateway over HTTP.
Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no gateway there.
Tests: host_tests/gateway/test_cli.py.
"""

from __future__ import annotations

import typer

from gateway import client_cli, run_cli

app = typer.Typer(
    name="bijli",
    help="Bijli: an open prepaid electricity meter.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(run_cli.gateway, name="gateway")
app.add_typer(run_cli.headend, name="headend")
app.add_typer(client_cli.meter, name="meter")
app.command("recharge")(client_cli.recharge)

# Development only: these rooms are being written.
try:
    from boards.emulated import cli as board_cli
except ImportError:
    pass
else:
    app.add_typer(board_cli.app, name="board")
try:
    from demo import cli as demo_cli
except ImportError:
    pass
else:
    app.add_typer(demo_cli.app, name="demo")

if __name__ == "__main__":
    app()
