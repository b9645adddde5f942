"""`bijli account ...`: the life of accounts at a running gateway, over HTTP.

Exit codes: 0 done, 1 refused, 3 no gateway there. Tests: host_tests/gateway/test_accounts.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway import tariff_files, words
from gateway.client_cli import DEFAULT_URL, Client, GatewayUrl, Key, Meter, TokenFile, moment
from gateway.errors import GatewayError
from gateway.run_cli import fail

account = typer.Typer(help="Accounts of the meters of a running gateway.", no_args_is_help=True)

# States in which a change ends; the first: it is done.
FINAL = ("done", "refused")

Number = Annotated[str, typer.Option("--account", help="Number of the new account.")]
Consumer = Annotated[str, typer.Option(help="Name of the consumer.")]
Phone = Annotated[str | None, typer.Option(help="Mobile number.")]
Opening = Annotated[str, typer.Option(help="Opening balance in rupees.")]
Reading = Annotated[
    int | None, typer.Option(help="Reading in Wh that statements begin with.", min=0)
]
Tariff = Annotated[
    str | None, typer.Option(help="Another tariff: a file, or the name of a ready-made one.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it is done or refused.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def _begin(
    gateway: str, token_file: Path | None, meter: str, body: dict[str, Any], wait: bool, key: str
) -> None:
    path = f"/api/meters/{meter}/accounts"
    Client(gateway, token_file).send(path, body, key, wait, FINAL, say)


def say(view: dict[str, Any]) -> None:
    """One line about a change, and one about the account that it closed."""
    text = f"{view['id']} {words.account(view)}: {view['state']}"
    if view["result"]:
        text += f" ({words.CHANGES.get(view['result']) or words.RESULTS[view['result']]}"
        text += f", {view['field']})" if view["field"] else ")"
    typer.echo(text)
    closing = view["closing"]
    if closing is not None and view["state"] in FINAL:
        typer.echo(f"  {words.closing(closing['document'])}")


@account.command("show")
def show(meter: Meter, gateway: GatewayUrl = DEFAULT_URL, token_file: TokenFile = None) -> None:
    """Show a meter's account and what became of those before, with their final statements."""
    client = Client(gateway, token_file)
    found = client.ask("GET", f"/api/meters/{meter}/accounts")
    offset_s = client.ask("GET", f"/api/meters/{meter}")["settings"]["utc_offset_s"]
    number = found["account"] or "the first"
    typer.echo(
        f"account {number}: {found['status']}, balance {words.rupees(found['balance_mp'])} rupees"
    )
    for view in found["changes"]:
        typer.echo(moment(view["times"]["begun_utc_ms"], offset_s) + "  ", nl=False)
        say(view)
        closing = view["closing"]
        for line in closing["lines"] if closing is not None else ():
            typer.echo(f"    {line['name']}: {words.rupees(line['amount_mp'])} rupees")


@account.command("close")
def close(
    meter: Meter,
    yes: Yes = False,
    wait: Wait = False,
    key: Key = "",
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Close a meter's account. It charges nothing more, and the supply stays as it is."""
    if not yes and not typer.confirm(f"Close the account of {meter}?"):
        raise typer.Exit(1)
    _begin(gateway, token_file, meter, {"kind": "close"}, wait, key)


def _holder(
    kind: str,
    number: str,
    consumer: str,
    phone: str | None,
    opening: str,
    reading: int | None,
    tariff: str | None,
) -> dict[str, Any]:
    try:
        sign, digits = (-1, opening[1:]) if opening.startswith("-") else (1, opening)
        return {
            "kind": kind,
            "account": number,
            "consumer": consumer,
            "phone": phone,
            "opening_balance_mp": sign * words.parse_rupees(digits, "--opening"),
            "reading_wh": reading,
            "tariff": tariff_files.read(tariff) if tariff else None,
        }
    except GatewayError as error:
        raise fail(error) from error


def _opening(kind: str) -> Callable[..., None]:
    """The command of a change that opens an account for a consumer."""

    def command(
        meter: Meter,
        number: Number,
        consumer: Consumer,
        phone: Phone = None,
        opening: Opening = "0",
        reading: Reading = None,
        tariff: Tariff = None,
        wait: Wait = False,
        key: Key = "",
        gateway: GatewayUrl = DEFAULT_URL,
        token_file: TokenFile = None,
    ) -> None:
        body = _holder(kind, number, consumer, phone, opening, reading, tariff)
        _begin(gateway, token_file, meter, body, wait, key)

    return command


account.command("open", help="Open an account on a meter whose last one is closed.")(
    _opening("open")
)
account.command("tenant", help="Close a meter's account and open one for another consumer.")(
    _opening("tenant")
)


@account.command("replace")
def replace(
    meter: Meter,
    target: Annotated[str, typer.Argument(metavar="NEW-METER")],
    number: Number,
    dead: Annotated[
        bool, typer.Option("--dead", help="The old meter answers no more: take the gateway's word.")
    ] = False,
    yes: Yes = False,
    wait: Wait = False,
    key: Key = "",
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Move a meter's account to another meter, with its balance and what the month has used."""
    body: dict[str, Any] = {"kind": "replace", "account": number, "target": target}
    if dead:
        found = Client(gateway, token_file).ask("GET", f"/api/meters/{meter}/accounts")
        body["totals"] = found["totals"]
        typer.echo(
            f"{meter} at {found['totals']['import_wh'] / 1000:.3f} kWh: balance "
            f"{words.rupees(found['balance_mp'])} rupees, as far as the gateway knows. What it "
            "consumed since is not charged."
        )
    if not yes and not typer.confirm(f"Move the account of {meter} to {target}?"):
        raise typer.Exit(1)
    _begin(gateway, token_file, meter, body, wait, key)


@account.command("retry")
def retry(
    change: Annotated[str, typer.Argument(metavar="CHANGE")],
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Ask a meter again for a step that it refused."""
    say(Client(gateway, token_file).ask("POST", f"/api/account-changes/{change}/retry"))
