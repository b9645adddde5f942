"""Tariff documents in files: the ready-made ones of `gateway/tariffs/`, and people's own.

gateway/tariffs/README.md says where the ready-made ones come from and what of them is verified.
Tests: host_tests/gateway/test_tariff_files.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.errors import FieldError, GatewayError

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
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read(source: str) -> dict[str, Any]:
    """The document of a file or of a ready-made tariff, not checked.

    Raises GatewayError, which names the file and the line in it.
    """
    path = Path(source)
    if source in names() and not path.is_file():
        path = FOLDER / f"{source}.json"
    try:
        document = json.loads(path.read_text("utf-8"), object_pairs_hook=_members)
    except FileNotFoundError as error:
        raise GatewayError(
            f"{source}: neither a file nor a ready-made tariff; `bijli tariff list` names those"
        ) from error
    except json.JSONDecodeError as error:
        raise GatewayError(
            f"{path}, line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    except UnicodeDecodeError as error:
        raise GatewayError(f"{path}: is not text in UTF-8") from error
    except (FieldError, OSError) as error:
        raise GatewayError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise GatewayError(f"{path}: must be an object")
    return document


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        given = [name for name, _value in pairs]
        twice = next(name for name in given if given.count(name) > 1)
        raise FieldError(twice, "must be there once in an object")
    return members


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
