"""`bijli order ...`: orders other than recharges to the meters of a running gateway, over HTTP.

Exit codes: 0 done, 1 refused, 3 no gateway there. Tests: host_tests/gateway/test_cli.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gateway import calendar_files, tariff_files, words
from gateway.client_cli import DEFAULT_URL, Client, GatewayUrl, Key, Meter, TokenFile, moment
from gateway.errors import GatewayError
from gateway.run_cli import fail

order = typer.Typer(help="Orders to the meters of a running gateway.", no_args_is_help=True)

# States in which an order ends; the first: it is done.
FINAL = ("done", "refused", "cancelled", "expired")

Wait = Annotated[bool, typer.Option("--wait", help="Wait until the meter has answered.")]


def _send(
    gateway: str, token_file: Path | None, meter: str, body: dict[str, Any], wait: bool, key: str
) -> None:
    path = f"/api/meters/{meter}/orders"
    Client(gateway, token_file).send(path, body, key, wait, FINAL, say)


def say(view: dict[str, Any]) -> None:
    """One line about an order."""
    text = f"{view['id']} {words.order(view)}: {view['state']}"
    if view["result"] and view["state"] != "done":
        text += f" ({words.RESULTS.get(view['result'], view['result'])}"
        text += f", {view['field']})" if view["field"] else ")"
    typer.echo(text)


@order.command("relay")
def relay(
    meter: Meter,
    state: Annotated[str, typer.Argument(help="connected, disconnected or commissioned")],
    valid_h: Annotated[
        int, typer.Option(min=1, help="Hours after which a disconnection is not done any more.")
    ] = 24,
    wait: Wait = False,
    key: Key = "",
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Switch the supply on or off by order of the utility, or put a new meter into service."""
    body: dict[str, Any] = {"kind": "relay", "state": state}
    if state == "disconnected":
        now_ms = Client(gateway, token_file).ask("GET", "/api/health")["utc_ms"]
        body["expires_utc_s"] = now_ms // 1000 + valid_h * 3600
    _send(gateway, token_file, meter, body, wait, key)


@order.command("settings")
def settings(
    meter: Meter,
    values: Annotated[list[str], typer.Argument(metavar="NAME=VALUE...", help="grace_s=86400 ...")],
    wait: Wait = False,
    key: Key = "",
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Change settings of a meter (low_credit_mp, grace_s, window_start_min, ...)."""
    document: dict[str, int] = {}
    for text in values:
        name, _, value = text.partition("=")
        if not value.lstrip("-").isdigit():
            raise fail(GatewayError(f"{text}: must be NAME=VALUE with an integer"))
        document[name] = int(value)
    _send(gateway, token_file, meter, {"kind": "settings", "document": document}, wait, key)


@order.command("tariff")
def tariff(
    meter: Meter,
    source: Annotated[
        str, typer.Argument(metavar="FILE|NAME", help="File, or name of a ready-made tariff.")
    ],
    wait: Wait = False,
    key: Key = "",
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Give a meter another tariff."""
    try:
        document = tariff_files.read(source)
    except GatewayError as error:
        raise fail(error) from error
    _send(gateway, token_file, meter, {"kind": "tariff", "document": document}, wait, key)


@order.command("calendar")
def calendar(
    meter: Meter,
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|NAME|null",
            help="File, name of a ready-made calendar, or null: by the settings again.",
        ),
    ],
    wait: Wait = False,
    key: Key = "",
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Say when a meter may cut for want of credit."""
    try:
        document = None if source == "null" else calendar_files.read(source)
    except GatewayError as error:
        raise fail(error) from error
    _send(gateway, token_file, meter, {"kind": "calendar", "document": document}, wait, key)


@order.command("arrears")
def arrears(
    meter: Meter,
    rupees: Annotated[str, typer.Argument(help="Amount, like 500 or 99.50.")],
    share: Annotated[int, typer.Option(help="Per cent of each recharge that pays them.")] = 0,
    per_day: Annotated[str, typer.Option(help="Rupees that a positive balance pays a day.")] = "0",
    at_once: Annotated[bool, typer.Option(help="Take all of them from the balance now.")] = False,
    wait: Wait = False,
    key: Key = "",
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Add arrears, and say how all of them are paid."""
    body = {
        "kind": "arrears",
        "amount_mp": _amount(rupees),
        "share_percent": share,
        "per_day_mp": _amount(per_day),
        "at_once": int(at_once),
    }
    _send(gateway, token_file, meter, body, wait, key)


@order.command("refund")
def refund(
    meter: Meter,
    rupees: Annotated[str, typer.Argument(help="Amount that is given back, like 500 or 99.50.")],
    wait: Wait = False,
    key: Key = "",
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Enter money that is given back to the consumer: the balance falls by it."""
    body = {"kind": "adjustment", "entry": "refund", "amount_mp": -_amount(rupees)}
    _send(gateway, token_file, meter, body, wait, key)


@order.command("adjustment")
def adjustment(
    meter: Meter,
    rupees: Annotated[str, typer.Argument(help="Amount, like 500 or 99.50.")],
    take: Annotated[
        bool, typer.Option("--take", help="Take it from the balance instead of adding it.")
    ] = False,
    wait: Wait = False,
    key: Key = "",
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Correct a balance by a ledger entry. Nothing that is entered is ever edited."""
    amount_mp = -_amount(rupees) if take else _amount(rupees)
    body = {"kind": "adjustment", "entry": "adjustment", "amount_mp": amount_mp}
    _send(gateway, token_file, meter, body, wait, key)


@order.command("emergency")
def emergency(
    meter: Meter,
    rupees: Annotated[str, typer.Argument(help="How far below zero the balance may go; 0 ends it")],
    wait: Wait = False,
    key: Key = "",
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Grant emergency credit until the balance is positive again."""
    body = {"kind": "emergency", "limit_mp": _amount(rupees)}
    _send(gateway, token_file, meter, body, wait, key)


@order.command("mode")
def mode(
    meter: Meter,
    mode: Annotated[str, typer.Argument(help="credit (postpaid) or prepayment")],
    share: Annotated[
        int, typer.Option(help="Per cent of each recharge that pays the due, now arrears.")
    ] = 0,
    per_day: Annotated[str, typer.Option(help="Rupees that a positive balance pays a day.")] = "0",
    wait: Wait = False,
    key: Key = "",
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Switch between postpaid (no credit cut at all) and prepaid."""
    body: dict[str, Any] = {"kind": "mode", "mode": mode}
    if mode != "credit":
        body.update(share_percent=share, per_day_mp=_amount(per_day))
    _send(gateway, token_file, meter, body, wait, key)


@order.command("key")
def new_key(
    meter: Meter,
    wait: Wait = False,
    key: Key = "",
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Give a meter a new key. It is derived on both sides and never sent."""
    _send(gateway, token_file, meter, {"kind": "key"}, wait, key)


@order.command("clock")
def clock(
    meter: Meter,
    wait: Wait = False,
    key: Key = "",
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Permit one large step of a meter's clock to the gateway's time."""
    _send(gateway, token_file, meter, {"kind": "clock"}, wait, key)


@order.command("link")
def link(
    meter: Meter,
    wifi_ssid: Annotated[str, typer.Option(help="Network to join.")] = "",
    wifi_password_file: Annotated[
        Path | None, typer.Option(help="File with its password.", exists=True)
    ] = None,
    broker_host: Annotated[str, typer.Option(help="Broker to connect to.")] = "",
    broker_port: Annotated[int, typer.Option(help="Its port; 0: as it is.")] = 0,
    broker_ca: Annotated[
        Path | None, typer.Option(help="Certificate of its authority, PEM.", exists=True)
    ] = None,
    without_tls: Annotated[bool, typer.Option(help="Go back to a broker without TLS.")] = False,
    new_password: Annotated[
        bool, typer.Option(help="Have the gateway make new broker credentials.")
    ] = False,
    wait: Wait = False,
    key: Key = "",
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Change Wi-Fi, broker, authority or broker credentials.

    The meter keeps the old ones until the new ones have worked.
    """
    body: dict[str, Any] = {"kind": "link"}
    try:
        if wifi_ssid:
            password = wifi_password_file.read_text("utf-8").strip() if wifi_password_file else ""
            body["wifi"] = {"ssid": wifi_ssid, "password": password}
        broker: dict[str, Any] = {}
        if broker_host:
            broker["host"] = broker_host
        if broker_port:
            broker["port"] = broker_port
        if broker_ca is not None:
            broker["ca"] = broker_ca.read_text("utf-8")
        elif without_tls:
            broker["ca"] = ""
        if new_password:
            broker["new_password"] = True
    except (ValueError, OSError) as error:
        raise fail(error) from error
    if broker:
        body["broker"] = broker
    _send(gateway, token_file, meter, body, wait, key)


@order.command("resend")
def resend(
    meter: Meter,
    store: Annotated[str, typer.Option(help="The journal's id, 8 hex digits.")],
    seq: Annotated[int, typer.Option(help="Send what is above this number.")] = 0,
    wait: Wait = False,
    key: Key = "",
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Have a meter send records of its journal again (it keeps 35 days)."""
    body = {"kind": "resend", "store": store, "seq": seq}
    _send(gateway, token_file, meter, body, wait, key)


@order.command("list")
def list_orders(
    meter: Meter, gateway: GatewayUrl = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """Show a meter's orders, the newest first."""
    client = Client(gateway, token_file)
    offset_s = client.ask("GET", f"/api/meters/{meter}")["settings"]["utc_offset_s"]
    for view in client.ask("GET", f"/api/meters/{meter}/orders"):
        typer.echo(moment(view["times"]["queued_utc_ms"], offset_s) + "  ", nl=False)
        say(view)


@order.command("cancel")
def cancel(
    order_id: Annotated[str, typer.Argument(metavar="ORDER")],
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Cancel an order that was not sent yet."""
    say(Client(gateway, token_file).ask("DELETE", f"/api/orders/{order_id}"))


def _amount(rupees: str) -> int:
    try:
        return words.parse_rupees(rupees, "rupees")
    except GatewayError as error:
        raise fail(error) from error
