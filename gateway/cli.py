"""The command `bijli`. Sub-commands of other rooms are added below; each room has its own module.

`gateway run` and `headend run` are services; `tariff` and `calendar` work on files alone; the rest
speaks to a running gateway over HTTP.
Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no gateway there.
Tests: host_tests/gateway/test_cli.py.
"""

from __future__ import annotations

import typer

import boards.emulated.cli
import boards.emulated.journal_cli
import demo.cli
import demo.scenario.cli
from gateway import (
    account_cli,
    admin_cli,
    calendar_cli,
    client_cli,
    explain_cli,
    order_cli,
    run_cli,
    tariff_cli,
)

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
app.command("explain")(explain_cli.explain)
app.add_typer(order_cli.order, name="order")
app.add_typer(account_cli.account, name="account")
app.add_typer(tariff_cli.tariff, name="tariff")
app.add_typer(calendar_cli.calendar, name="calendar")
app.add_typer(admin_cli.broker, name="broker")
app.command("backup")(admin_cli.backup)
app.command("restore")(admin_cli.restore)

app.add_typer(boards.emulated.cli.app, name="board")
app.add_typer(boards.emulated.journal_cli.app, name="journal")
app.add_typer(demo.cli.app, name="demo")
app.add_typer(demo.scenario.cli.app, name="scenario")

if __name__ == "__main__":
    app()
