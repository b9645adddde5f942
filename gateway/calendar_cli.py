"""`bijli calendar ...`: for people who say when a supply may be cut. Nothing of it needs a gateway.

Exit codes: 0 done, 1 refused. Tests: host_tests/gateway/test_calendar_cli.py.
"""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from firmware.core import civil
from firmware.relay.calendar import DAY_MIN, Calendar
from gateway import calendar_files
from gateway.errors import FieldError, GatewayError
from gateway.run_cli import fail

calendar = typer.Typer(help="Write, check and show calendars.", no_args_is_help=True)

Source = Annotated[
    str, typer.Argument(metavar="FILE|NAME", help="File, or name of a ready-made calendar.")
]


@calendar.command("list")
def list_ready_made() -> None:
    """Show the ready-made calendars; gateway/calendars/README.md says what of them is verified."""
    table = Table(box=None, pad_edge=False)
    for name in ("NAME", "ID", "HOLIDAYS"):
        table.add_column(name)
    for name in calendar_files.names():
        document = calendar_files.read(name)
        table.add_row(name, document["id"], str(len(document["holidays"])))
    Console().print(table)


@calendar.command("check")
def check(source: Source) -> None:
    """Check a calendar as gateway and meter do; an error names the field."""
    document = _checked(source)
    holidays = document.get("holidays", [])
    until = f", the last on {holidays[-1]}" if holidays else ""
    typer.echo(
        f"{document['id']}: valid; windows: {len(document['windows'])}, "
        f"happy hours: {len(document.get('happy', []))}, holidays: {len(holidays)}{until}"
    )


@calendar.command("show")
def show(
    source: Source,
    month: Annotated[str, typer.Option("--month", help="As 2026-01.")],
) -> None:
    """Show the hours of each day in which a supply may be cut for want of credit."""
    document = _checked(source)
    try:
        first = datetime.date.fromisoformat(f"{month}-01")
    except ValueError as error:
        raise fail(FieldError("--month", f"{month!r} must be like 2026-01")) from error
    days = Calendar(SimpleNamespace(utc_offset_s=0))
    days.take(document)
    table = Table(box=None, pad_edge=False)
    for name in ("DAY", "", "A CUT IS ALLOWED", ""):
        table.add_column(name)
    date = first
    while date.month == first.month:
        table.add_row(date.isoformat(), date.strftime("%a"), *_hours(days, document, date))
        date += datetime.timedelta(days=1)
    Console().print(table)


def _hours(days: Calendar, document: dict[str, Any], date: datetime.date) -> tuple[str, str]:
    """The spans of a day in words, and why there is none if it is barred as a whole."""
    day = civil.days_from_civil(date.year, date.month, date.day)
    if days.is_barred(day):
        named = date.isoformat() in document.get("holidays", [])
        return "never", "holiday" if named else "second Saturday"
    open_now = False
    spans: list[list[int]] = []
    for minute in range(DAY_MIN):
        was_open, open_now = open_now, days.is_open_at(day, minute)
        if open_now and not was_open:
            spans.append([minute, DAY_MIN])
        elif was_open and not open_now:
            spans[-1][1] = minute
    text = ", ".join(f"{_clock(begin)}-{_clock(end)}" for begin, end in spans)
    return text or "never", ""


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _checked(source: str) -> dict[str, Any]:
    try:
        document = calendar_files.read(source)
        calendar_files.check_calendar(document, source)
    except GatewayError as error:
        raise fail(error) from error
    return document
