"""`bijli tariff ...`: for people who write tariffs. Nothing of it needs a gateway.

Exit codes: 0 done, 1 refused. Tests: host_tests/gateway/test_tariff_cli.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from firmware.core import civil
from firmware.credit import charges
from firmware.credit.tariff import TariffError, parse
from gateway import pricing, tariff_files, words
from gateway.errors import FieldError, GatewayError
from gateway.messages import encode_sorted
from gateway.meters import check_tariff
from gateway.run_cli import fail

tariff = typer.Typer(help="Write, check and price tariffs.", no_args_is_help=True)

INDIA_S = 19_800
ENERGY_MAX_KWH = 1_000_000
DECIMALS = 3  # of kWh, kW and h
UNITS = {"Wh": "kWh", "%": "₹", "days": "days", "kW days": "kW days", "": ""}

Source = Annotated[
    str, typer.Argument(metavar="FILE|NAME", help="File, or name of a ready-made tariff.")
]
Kwh = Annotated[str, typer.Option("--kwh", help="Energy of the billing period in kWh.")]
Zone = Annotated[
    list[str] | None,
    typer.Option("--zone", metavar="NAME=KWH", help="Of it in a zone, as peak=40; may repeat."),
]
Days = Annotated[int, typer.Option(min=1, max=31, help="Days of the billing period.")]
Load = Annotated[str, typer.Option("--load-kw", help="Sanctioned load in kW.")]
Supply = Annotated[str, typer.Option("--supply-h", help="Hours of supply on each day, 0 to 24.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@tariff.command("list")
def list_ready_made() -> None:
    """Show the ready-made tariffs; gateway/tariffs/README.md says what of them is verified."""
    table = Table(box=None, pad_edge=False)
    for name in ("NAME", "IN FORCE FROM", "LINES"):
        table.add_column(name)
    for name in tariff_files.names():
        document = tariff_files.read(name)
        lines = ", ".join(line["name"] for line in document["lines"])
        table.add_row(name, _moment(document["effective_from_utc_s"]), lines)
    Console().print(table)


@tariff.command("check")
def check(source: Source) -> None:
    """Check a tariff as gateway and meter do; an error names line and field."""
    document, checked = _checked(source)
    size = len(encode_sorted(document))
    slabs = sum(len(slabs) for line in checked.lines if line[2] == 0 for _limit, slabs in line[4])
    typer.echo(
        f"{checked.id} version {checked.version}: valid, in force from "
        f"{_moment(checked.effective_from_utc_s)}; lines: {len(checked.lines)}, slabs: {slabs}, "
        f"bytes: {size}"
    )
    for name in tariff_files.without_effect(document):
        typer.echo(f"note: {name} has no effect")


@tariff.command("price")
def price(
    source: Source,
    kwh: Kwh,
    zone: Zone = None,
    days: Days = 30,
    load_kw: Load = "1",
    supply_h: Supply = "24",
    as_json: AsJson = False,
) -> None:
    """Show what one billing period costs, line by line, and what the next kWh would cost.

    SUM is what all lines so far come to: of a tariff with a subsidy, say, the energy charge before
    and after it.
    """
    _document, checked = _checked(source)
    try:
        use = _use(kwh, zone or [], days, load_kw, supply_h)
        found = pricing.quantities(checked, use)
    except GatewayError as error:
        raise fail(error) from error
    lines = charges.charge_lines(checked, found)
    next_mp = {
        name: pricing.next_mp(checked, found, pricing.KWH_WH, number)
        for number, name in enumerate(checked.zone_names)
    }
    cliffs = pricing.cliffs(checked, found)
    if as_json:
        members = ("name", "kind", "quantity", "unit", "rate", "amount_mp")
        answer = {
            "tariff": checked.id,
            "version": checked.version,
            "lines": [dict(zip(members, line, strict=True)) for line in lines],
            "total_mp": charges.charge_mp(checked, found),
            "next_kwh_mp": next_mp,
            "cliffs": [{"after_wh": each.total_wh, "kwh_mp": each.kwh_mp} for each in cliffs],
        }
        typer.echo(json.dumps(answer))
        return
    console = Console()
    console.print(_table(lines))
    for name, amount_mp in next_mp.items():
        where = f" in the zone {name}" if len(next_mp) > 1 else ""
        console.print(f"the next kWh{where} costs {words.exact_rupees(amount_mp)} ₹")
    for each in cliffs:
        console.print(
            f"cliff: the kWh after {_kwh(each.total_wh)} kWh costs "
            f"{words.exact_rupees(each.kwh_mp)} ₹"
        )


@tariff.command("plot")
def plot(
    source: Source,
    out: Annotated[Path, typer.Option(help="The picture to write: .png, .svg or .pdf.")],
    to: Annotated[int, typer.Option(min=1, max=10_000, help="Up to so many kWh.")] = 500,
    days: Days = 30,
    load_kw: Load = "1",
    supply_h: Supply = "24",
) -> None:
    """Draw the cost of a billing period and the price of the next kWh over its energy."""
    _document, checked = _checked(source)
    try:
        use = _use("0", [], days, load_kw, supply_h)
        try:
            from gateway import tariff_plot
        except ImportError as error:
            raise GatewayError(
                f"drawing needs matplotlib ({error}): pip install 'bijli[plot]'"
            ) from error
        tariff_plot.draw(checked, pricing.quantities(checked, use), to, out)
    except (GatewayError, OSError, ValueError) as error:
        raise fail(error) from error
    typer.echo(str(out))


def _checked(source: str) -> tuple[dict[str, Any], Any]:
    """The document of a source and the tariff that it is; ends the command if it is none."""
    try:
        document = tariff_files.read(source)
    except GatewayError as error:
        raise fail(error) from error
    try:
        checked = parse(document)
        # Size and kinds of values: it knows no field, so it comes behind.
        check_tariff(document, "document")
    except (TariffError, FieldError) as error:
        raise fail(GatewayError(f"{source}: {error}{_line(document, error.field)}")) from error
    return document, checked


def _line(document: dict[str, Any], field: str) -> str:
    """The name of the line at fault, which is easier to find than its number."""
    if not field.startswith("lines["):
        return ""
    line = document["lines"][int(field[len("lines[") :].partition("]")[0])]
    name = line.get("name") if isinstance(line, dict) else None
    return f" (line {name!r})" if isinstance(name, str) else ""


def _use(kwh: str, zone: list[str], days: int, load_kw: str, supply_h: str) -> pricing.Use:
    zones: dict[str, int] = {}
    for text in zone:
        name, _, amount = text.partition("=")
        if name in zones:
            raise FieldError("--zone", f"{name} must be there once")
        zones[name] = _thousandths(amount, "--zone", ENERGY_MAX_KWH)
    return pricing.Use(
        energy_wh=_thousandths(kwh, "--kwh", ENERGY_MAX_KWH),
        days=days,
        load_w=_thousandths(load_kw, "--load-kw", ENERGY_MAX_KWH),
        supply_min=_thousandths(supply_h, "--supply-h", 24) * 60 // 1000,
        zone_wh=zones,
    )


def _thousandths(text: str, field: str, highest: int) -> int:
    """A decimal text x 1000, exactly. Raises FieldError."""
    whole, dot, fraction = text.partition(".")
    good = (
        (whole + fraction).isascii() and (whole + fraction).isdigit() and whole and len(whole) < 9
    )
    if not good or (dot and not 1 <= len(fraction) <= DECIMALS):
        raise FieldError(field, f"{text!r} must be digits with at most {DECIMALS} decimals")
    value = int(whole) * 1000 + int(fraction.ljust(DECIMALS, "0"))
    if value > highest * 1000:
        raise FieldError(field, f"must be from 0 to {highest}")
    return value


def _table(lines: list[tuple[Any, ...]]) -> Table:
    table = Table(box=None, pad_edge=False, show_footer=True)
    table.add_column("LINE", "total")
    sum_mp = 0
    for name in ("QUANTITY", "RATE", "AMOUNT ₹", "SUM ₹"):
        table.add_column(name, justify="right")
    for name, _kind, quantity, unit, rate, amount_mp in lines:
        sum_mp += amount_mp
        table.add_row(
            name,
            _quantity(quantity, unit),
            _rate(rate, unit),
            words.exact_rupees(amount_mp),
            words.exact_rupees(sum_mp),
        )
    table.columns[-1].footer = words.exact_rupees(sum_mp)
    return table


def _quantity(quantity: int, unit: str) -> str:
    if unit == "Wh":
        return f"{_kwh(quantity)} kWh"
    if unit == "%":
        return f"{words.exact_rupees(quantity)} ₹"
    return f"{quantity} {unit}" if unit else ""


def _rate(rate: int | None, unit: str) -> str:
    if rate is None:
        return ""
    if unit == "%":
        return f"{_decimals(rate, 3)} %"
    return words.exact_rupees(rate) + (" per kWh" if unit == "Wh" else " a month")


def _kwh(energy_wh: int) -> str:
    return _decimals(energy_wh, 3)


def _decimals(value: int, places: int) -> str:
    sign = "-" if value < 0 else ""
    whole, rest = divmod(abs(value), 10**places)
    return f"{sign}{whole}.{rest:0{places}d}".rstrip("0").rstrip(".")


def _moment(utc_s: int) -> str:
    return f"{civil.text(utc_s, INDIA_S)[:16]} IST"
