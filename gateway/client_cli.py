"""`bijli meter ...` and `bijli recharge ...`: a person's commands to a running gateway, over HTTP.

Exit codes: 0 done, 1 refused, 3 no gateway there. Tests: host_tests/gateway/test_cli.py.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table

from gateway import auth, calendar_files, tariff_files, words
from gateway.errors import GatewayError
from gateway.run_cli import fail
from gateway.vault import write_private
from toolchain.config_file import with_check

meter = typer.Typer(help="Meters of a running gateway.", no_args_is_help=True)

DEFAULT_URL = "http://127.0.0.1:8080"
REQUEST_TIMEOUT_S = 10
# States of a recharge in which it ends; the first: it is done.
FINAL = ("confirmed", "refused", "cancelled")

GatewayUrl = Annotated[
    str, typer.Option("--gateway", envvar="BIJLI_GATEWAY", help="Address of the gateway.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", envvar="BIJLI_TOKEN_FILE", help="File with the API token."),
]
Meter = Annotated[str, typer.Argument(metavar="METER")]
Key = Annotated[str, typer.Option(help="Idempotency key; give the same one when you try again.")]


class Client:
    """HTTP to the gateway; errors end the command with a sentence and an exit code."""

    def __init__(self, url: str, token_file: Path | None) -> None:
        try:
            token = auth.read_token(token_file)
        except GatewayError as error:
            raise fail(error) from error
        self._url = url
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=REQUEST_TIMEOUT_S,
            trust_env=False,
        )

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """The JSON answer of a request."""
        try:
            response = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise self._absent(error) from error
        if not response.is_success:
            typer.echo(f"bijli: {_reason(response)}", err=True)
            raise typer.Exit(1)
        return response.json()

    def changes(self) -> Iterator[dict[str, Any]]:
        """The gateway's stream of changes."""
        try:
            with self._http.stream("GET", "/api/stream", timeout=None) as response:
                for line in response.iter_lines():
                    if line.startswith("data: "):
                        yield json.loads(line[len("data: ") :])
        except httpx.HTTPError as error:
            raise self._absent(error) from error

    def send(
        self,
        path: str,
        body: dict[str, Any],
        key: str,
        wait: bool,
        final: tuple[str, ...],
        say: Callable[[dict[str, Any]], None],
    ) -> None:
        """Makes an order or a recharge and says each state of it, with `wait` up to one of `final`.

        path: ends with the name that its kind has in the stream of changes; key: the idempotency
        key, "" for a new one. With `wait`, ends the command with 1 unless the first of `final`, in
        which it is done, was reached.
        """
        # The stream begins before the order is made: no state of it can be missed.
        changes = self.changes() if wait else iter(())
        if wait:
            next(changes)
        headers = {"Idempotency-Key": key or f"cli-{secrets.token_hex(12)}"}
        made = self.ask("POST", path, json=body, headers=headers)
        say(made)
        state = made["state"]
        if wait and state not in final:
            for change in changes:
                for view in change[path.rsplit("/", 1)[1]]:
                    if view["id"] == made["id"] and view["state"] != state:
                        state = view["state"]
                        say(view)
                if state in final:
                    break
        if wait and state != final[0]:
            raise typer.Exit(1)

    def _absent(self, error: httpx.HTTPError) -> typer.Exit:
        typer.echo(
            f"bijli: no gateway answers at {self._url} ({type(error).__name__}). "
            "Start one with `bijli gateway run`, or name it with --gateway.",
            err=True,
        )
        return typer.Exit(3)


def _reason(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the gateway answered {response.status_code}"


@meter.command("list")
def list_meters(
    alarms: Annotated[
        bool, typer.Option("--alarms", help="Only meters that need somebody, and why.")
    ] = False,
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Show all meters."""
    if alarms:
        for row in Client(gateway, token_file).ask("GET", "/api/meters", params={"alarm": True}):
            for text in row["alarms"]:
                typer.echo(f"{row['id']}: {text}")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("METER", "CONSUMER", "LINK", "SUPPLY", "CREDIT"):
        table.add_column(name)
    for name in ("W", "kWh", "BALANCE ₹", "OPEN ORDERS"):
        table.add_column(name, justify="right")
    for row in Client(gateway, token_file).ask("GET", "/api/meters"):
        live = row["live"]
        table.add_row(
            row["id"],
            row["consumer"],
            "online" if live.get("online") else "offline",
            live.get("state_words", "-"),
            live.get("credit_words", "-"),
            _number(live.get("power_mw"), 1000, 0),
            _number(live.get("import_wh"), 1000, 3),
            live.get("balance_rupees", "-"),
            str(row["open_orders"]),
        )
    Console().print(table)


@meter.command("show")
def show_meter(
    meter_id: Meter,
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Show one meter: present values, balance and how it comes about, events, recharges."""
    client = Client(gateway, token_file)
    console = Console()
    found = client.ask("GET", f"/api/meters/{meter_id}")
    balance = client.ask("GET", f"/api/meters/{meter_id}/balance")
    live = found["live"]
    offset_s = found["settings"]["utc_offset_s"]
    facts = Table(box=None, show_header=False, pad_edge=False)
    for name, value in (
        ("meter", found["id"]),
        ("consumer", found["consumer"]),
        ("phone", found["phone"] or "-"),
        ("link", "online" if live.get("online") else "offline"),
        ("last seen", moment(live.get("last_seen_utc_ms"), offset_s)),
        ("supply", live.get("state_words", "-")),
        ("off because", ", ".join(live.get("causes_words", [])) or "-"),
        ("no cut because", live.get("hold_words") or "-"),
        ("cut not before", moment(live.get("earliest_cut_utc_s", 0) * 1000, offset_s)),
        ("contact moved", f"{live.get('operations', 0)} times"),
        ("heard gateway", moment(live.get("heard_utc_s", 0) * 1000, offset_s)),
        ("mode", live.get("mode_words", "-")),
        ("credit", live.get("credit_words", "-")),
        ("amount due", _rupees(live.get("due_mp"))),
        ("to be in credit", _rupees(live.get("amount_to_clear_mp"))),
        ("arrears", _rupees(live.get("arrears_mp"))),
        ("emergency credit", live.get("emergency_words", "-")),
        ("account", f"{live.get('account') or 'the first'}, {live.get('account_status') or '-'}"),
        ("power", _number(live.get("power_mw"), 1000, 1) + " W"),
        ("register", _number(live.get("import_wh"), 1000, 3) + " kWh"),
        ("export", _number(live.get("export_wh"), 1000, 3) + " kWh"),
        ("demand", _number(live.get("demand_w"), 1, 0) + " W in this interval"),
        ("maximum demand", _demand(live, offset_s) + " of the month"),
        ("supply today", _number(live.get("supply_min"), 60, 1) + " h"),
        ("power failures", str(live.get("power_failures", "-"))),
        ("service", live.get("service_words") or "-"),
        ("alarms", ", ".join(found["alarms"]) or "-"),
        ("conditions", ", ".join(live.get("standing_words", [])) or "-"),
        ("cover openings", str(live.get("cover_openings", "-"))),
        (
            "tariff",
            live.get("tariff") or f"{found['tariff']['id']} v{found['tariff']['version']}",
        ),
        ("records", f"{found['records']}, {len(found['gaps'])} gaps"),
        ("open orders", str(found["open_orders"])),
    ):
        facts.add_row(name, value)
    if balance["source"] != "none":
        facts.add_row(
            "balance", f"{words.rupees(balance['by_meter']['balance_mp'])} ₹ by the meter"
        )
        agree = {True: "agrees", False: "DOES NOT AGREE", None: "the meter lost its ledger"}[
            balance["agree"]
        ]
        facts.add_row("", f"{words.rupees(balance['recomputed_mp'])} ₹ recomputed: {agree}")
        for line in balance["open_period"]["lines"]:
            facts.add_row("this period", words.charge_line(line))
    console.print(facts)
    recharges = client.ask("GET", f"/api/meters/{meter_id}/recharges", params={"limit": 5})
    if recharges:
        console.print("\nrecharges", style="bold")
    for entry in recharges:
        console.print(
            f"  {words.rupees(entry['amount_mp'])} ₹ {entry['state']} {entry['id']}",
            highlight=False,
        )
    orders = client.ask("GET", f"/api/meters/{meter_id}/orders", params={"limit": 5})
    if orders:
        console.print("\norders", style="bold")
    for entry in orders:
        console.print(f"  {words.order(entry)}: {entry['state']} {entry['id']}", highlight=False)
    days = client.ask("GET", f"/api/meters/{meter_id}/days", params={"limit": 7})
    if days:
        console.print("\ndays", style="bold")
        console.print(_days(days, offset_s))
    events = client.ask("GET", f"/api/meters/{meter_id}/events", params={"limit": 10})
    if events:
        console.print("\nevents", style="bold")
    for event in events:
        console.print(
            f"  {moment(event['at_utc_s'] * 1000, offset_s)}  {event['text']}",
            highlight=False,
            soft_wrap=True,
        )


def _days(days: list[dict[str, Any]], utc_offset_s: int) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("  FROM")
    for name in ("Wh", "COST ₹", "SUPPLY min", "OVER LOAD min", "MAXIMUM DEMAND"):
        table.add_column(name, justify="right")
    for day in days:
        table.add_row(
            "  " + moment(day["start_utc_s"] * 1000, utc_offset_s),
            str(day["energy_wh"]),
            words.rupees(day["cost_mp"]),
            str(day["supply_min"]),
            str(day["over_load_min"]),
            _demand(day, utc_offset_s),
        )
    return table


@meter.command("resync")
def resync_meter(
    meter_id: Meter,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Give a meter that lost its ledger the totals that the gateway knows, after showing them."""
    client = Client(gateway, token_file)
    found = client.ask("GET", f"/api/meters/{meter_id}/resync")
    if not found["needed"]:
        typer.echo(f"bijli: {meter_id} has not lost its ledger", err=True)
        raise typer.Exit(1)
    document = found["document"]
    tariff = document["tariff"]
    for name, value in (
        ("register", f"{document['import_wh'] / 1000:.3f} kWh"),
        ("all credits", f"{words.rupees(document['credits_mp'])} ₹"),
        ("closed periods", f"{words.rupees(document['closed_mp'])} ₹"),
        ("open period from", f"{document['period_start_wh'] / 1000:.3f} kWh"),
        ("arrears", f"{words.rupees(document['arrears_mp'])} ₹"),
        ("tariff", f"{tariff['id']} version {tariff['version']}"),
        ("balance", f"{words.rupees(found['balance_mp'])} ₹"),
        ("orders waiting", str(found["orders_waiting"])),
    ):
        typer.echo(f"{name:17}{value}")
    if not yes and not typer.confirm(f"Give {meter_id} these totals?"):
        raise typer.Exit(1)
    made = client.ask(
        "POST",
        f"/api/meters/{meter_id}/resync",
        json={"document": document},
        headers={"Idempotency-Key": f"cli-{secrets.token_hex(12)}"},
    )
    typer.echo(f"{made['id']} {made['state']}")


@meter.command("add")
def add_meter(
    meter_id: Meter,
    consumer: Annotated[str, typer.Option(help="Name of the consumer.")],
    tariff: Annotated[
        str, typer.Option(metavar="FILE|NAME", help="File, or name of a ready-made tariff.")
    ],
    out: Annotated[
        Path, typer.Option(help="File for the provisioning document (mode 600); - for the screen.")
    ],
    calendar: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NAME",
            help="When it may cut: file, or name of a ready-made calendar. "
            "Left out: the windows of its settings.",
        ),
    ] = None,
    phone: Annotated[str | None, typer.Option(help="Mobile number.")] = None,
    load_w: Annotated[int, typer.Option(help="Sanctioned load in W.")] = 2000,
    opening: Annotated[str, typer.Option(help="Opening balance in rupees.")] = "0",
    wifi_ssid: Annotated[str, typer.Option(help="Network that the meter joins.")] = "bijli",
    wifi_password_file: Annotated[
        Path | None, typer.Option(help="File with its password.", exists=True)
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(help="JSON file with further members of the API's request.", exists=True),
    ] = None,
    replace: Annotated[
        bool, typer.Option(help="Anew, if its document got lost before the meter was ever heard.")
    ] = False,
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Register a meter and write its provisioning document, which is given out only once."""
    if str(out) != "-" and out.exists():
        raise fail(GatewayError(f"{out} exists already; it is not overwritten"))
    try:
        sign, digits = (-1, opening[1:]) if opening.startswith("-") else (1, opening)
        password = wifi_password_file.read_text("utf-8").strip() if wifi_password_file else ""
        body = {
            "id": meter_id,
            "consumer": consumer,
            "phone": phone,
            "sanctioned_load_w": load_w,
            "tariff": tariff_files.read(tariff),
            "calendar": calendar_files.read(calendar) if calendar is not None else None,
            "opening_balance_mp": sign * words.parse_rupees(digits, "--opening"),
            "wifi": {"ssid": wifi_ssid, "password": password},
            "replace": replace,
            **(json.loads(settings.read_text("utf-8")) if settings else {}),
        }
    except (GatewayError, ValueError, OSError) as error:
        raise fail(error) from error
    document = Client(gateway, token_file).ask("POST", "/api/meters", json=body)
    text = json.dumps(document, indent=1) + "\n"
    if str(out) == "-":
        typer.echo(text, nl=False)
    else:
        write_private(out, with_check(text))
        typer.echo(f"{meter_id} registered; flash {out} as /config.json, then remove it", err=True)


@meter.command("installer-code")
def show_installer_code(
    meter_id: Meter,
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Show the code that unlocks calibration at a meter's serial console."""
    typer.echo(
        Client(gateway, token_file).ask("GET", f"/api/meters/{meter_id}/installer-code")["code"]
    )


def recharge(
    meter_id: Meter,
    rupees: Annotated[str, typer.Argument(help="Amount, like 500 or 99.50.")],
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the meter has answered.")
    ] = False,
    key: Key = "",
    gateway: GatewayUrl = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Recharge a meter."""
    path = f"/api/meters/{meter_id}/recharges"
    Client(gateway, token_file).send(path, {"rupees": rupees}, key, wait, FINAL, _say)


def _say(view: dict[str, Any]) -> None:
    text = f"{view['id']} {words.rupees(view['amount_mp'])} rupees {view['state']}"
    if view["state"] == "confirmed" and view["balance_mp"] is not None:
        text += f", balance {words.rupees(view['balance_mp'])} rupees"
    if view["code"]:
        text += f" ({words.refusal(view['code'], view['field'])})"
    typer.echo(text)


def _demand(values: dict[str, Any], utc_offset_s: int) -> str:
    """A maximum demand and when it was, of `live` or of a day: 3120 W at 2026-01-05 13:30:00."""
    if not values.get("demand_max_w"):
        return "-"
    when = moment(values["demand_max_utc_s"] * 1000, utc_offset_s)
    return f"{values['demand_max_w']} W at {when}"


def _rupees(amount_mp: int | None) -> str:
    """An amount that is to be paid, rounded up to a paisa."""
    return f"{words.rupees_up(amount_mp)} ₹" if amount_mp else "-"


def _number(value: int | None, divisor: int, decimals: int) -> str:
    return "-" if value is None else f"{value / divisor:.{decimals}f}"


def moment(utc_ms: int | None, utc_offset_s: int) -> str:
    """A time as the meter's clock shows it: 2026-01-05 13:30:00 +05:30."""
    if not utc_ms:
        return "-"
    sign, (hours, minutes) = "+" if utc_offset_s >= 0 else "-", divmod(abs(utc_offset_s) // 60, 60)
    local = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(utc_ms // 1000 + utc_offset_s))
    return f"{local} {sign}{hours:02d}:{minutes:02d}"
