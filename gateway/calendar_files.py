"""Calendar documents in files: the ready-made ones of `gateway/calendars/`, and people's own.

gateway/calendars/README.md says where the ready-made ones come from and what of them is verified.
Tests: host_tests/gateway/test_calendar_cli.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from firmware.core.config import ConfigError
from firmware.relay.calendar import check
from gateway import documents
from gateway.errors import FieldError

FOLDER = Path(__file__).parent / "calendars"


def names() -> list[str]:
    """The names of the ready-made calendars."""
    return documents.names(FOLDER)


def read(source: str) -> dict[str, Any]:
    """The document of a file or of a ready-made calendar, not checked. Raises GatewayError."""
    return documents.read(source, FOLDER, "calendar")


def check_calendar(document: Any, field: str) -> None:
    """Raises FieldError if the meter would refuse the calendar; `field` is its place."""
    try:
        check(document)
    except ConfigError as error:
        place = field if error.field == "calendar" else f"{field}.{error.field}"
        raise FieldError(place, error.why) from error
