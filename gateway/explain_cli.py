"""`bijli explain METER`: why its balance moved, line by line.

Tests: host_tests/gateway/test_explain.py.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from firmware.console import statements
from firmware.console.text import rupees
from gateway.client_cli import DEFAULT_URL, Client, GatewayUrl, Meter, TokenFile, moment
from gateway.errors import FieldError
from gateway.explain import MOVEMENT
from gateway.run_cli import fail

EXACT = 5
"""Decimals of a rupee that show every milli-paisa."""


def explain(
    meter_id: Meter,
    since: Annotated[
        str, typer.Option(help="First day, like 2026-01-05; default: the first of this month.")
    ] = "",
    until: Annotated[str, typer.Option(help="Day before which it ends; default: now.")] = "",
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Show why a meter's balance moved: each line of the charges, each entry of the ledger."""
    client = Client(gateway, token_file)
    offset_s = client.ask("GET", f"/api/meters/{meter_id}")["settings"]["utc_offset_s"]
    span = {
        name: _midnight_utc_s(day, f"--{name}", offset_s)
        for name, day in (("since", since), ("until", until))
        if day
    }
    found = client.ask("GET", f"/api/meters/{meter_id}/explain", params=span)
    console = Console()
    console.print(
        f"{meter_id} from {moment(found['since_utc_s'] * 1000, offset_s)} "
        f"to {moment(found['until_utc_s'] * 1000, offset_s)}",
        highlight=False,
    )
    console.print(_table(found, offset_s))


def _midnight_utc_s(day: str, field: str, offset_s: int) -> int:
    try:
        midnight = datetime.datetime.fromisoformat(day)
        if len(day) != len("2026-01-05"):
            raise ValueError
    except ValueError as error:
        raise fail(FieldError(field, "must be a date like 2026-01-05")) from error
    return int(midnight.replace(tzinfo=datetime.UTC).timestamp()) - offset_s


def _table(found: dict[str, Any], offset_s: int) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("WHAT")
    table.add_column("HOW")
    table.add_column("₹", justify="right")
    table.add_row("opening balance", "", rupees(found["opening_mp"], EXACT))
    for movement in found["movements"]:
        row = [movement[name] for name in MOVEMENT]
        amount = rupees(movement["amount_mp"], EXACT)
        table.add_row(statements.name(row, offset_s), movement["detail"], amount)
    table.add_row("closing balance", "", rupees(found["closing_mp"], EXACT))
    table.add_row("moved in all", "", rupees(found["moved_mp"], EXACT))
    return table
