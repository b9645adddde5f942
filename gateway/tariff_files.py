"""Tariff documents in files: the ready-made ones of `gateway/tariffs/`, and people's own.

gateway/tariffs/README.md says where the ready-made ones come from and what of them is verified.
Tests: host_tests/gateway/test_tariff_files.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway import documents

FOLDER = Path(__file__).parent / "tariffs"

DOCUMENT = (
    *("id", "version", "currency", "effective_from_utc_s", "period_start_day", "on_change"),
    *("full_supply_min", "zones", "lines"),
)
ZONE = ("name", "from_min", "to_min")
SLAB = ("up_to_kwh", "rate_mp_per_kwh")
LINE = ("name", "shape", "kind")
SHAPES = {
    "telescopic": ("slabs",),
    "whole": ("slabs",),
    "by_total": ("classes",),
    "per_kwh": ("rate_mp_per_kwh",),
    "free": ("kwh", "of"),
    "percent": ("percent_x1000", "of"),
    "time_of_day": ("percent_x1000", "of"),
    "fixed": ("per", "rate_mp", "bands", "collect", "by_supply"),
}
"""Members that count, by the shape of the line."""


def names() -> list[str]:
    """The names of the ready-made tariffs."""
    return documents.names(FOLDER)


def read(source: str) -> dict[str, Any]:
    """The document of a file or of a ready-made tariff, not checked. Raises GatewayError."""
    return documents.read(source, FOLDER, "tariff")


def without_effect(document: dict[str, Any]) -> Iterator[str]:
    """The fields of a valid tariff that charge nothing: remarks, or names that were misspelt."""
    yield from _others(document, DOCUMENT, "")
    for number, zone in enumerate(document.get("zones", [])):
        yield from _others(zone, ZONE, f"zones[{number}].")
    for number, line in enumerate(document["lines"]):
        here = f"lines[{number}]."
        yield from _others(line, (*LINE, *SHAPES[line["shape"]]), here)
        yield from _slabs(line, here)
        for place, each in enumerate(line.get("classes", [])):
            yield from _others(each, ("up_to_kwh", "slabs"), f"{here}classes[{place}].")
            yield from _slabs(each, f"{here}classes[{place}].")
        for place, band in enumerate(line.get("bands", [])):
            yield from _others(band, ("up_to_kw", "rate_mp"), f"{here}bands[{place}].")


def _slabs(owner: dict[str, Any], here: str) -> Iterator[str]:
    for place, slab in enumerate(owner.get("slabs", [])):
        yield from _others(slab, SLAB, f"{here}slabs[{place}].")


def _others(given: dict[str, Any], known: tuple[str, ...], here: str) -> Iterator[str]:
    yield from (here + name for name in given if name not in known)
