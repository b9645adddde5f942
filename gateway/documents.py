"""Documents in files: ready-made ones in a folder, one for each name, and people's own.

Tests: host_tests/gateway/test_tariff_files.py, test_calendar_cli.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway.errors import FieldError, GatewayError


def names(folder: Path) -> list[str]:
    """The names of the ready-made ones."""
    return sorted(path.stem for path in folder.glob("*.json"))


def read(source: str, folder: Path, what: str) -> dict[str, Any]:
    """The document of a file or of a ready-made `what`, not checked.

    Raises GatewayError, which names the file and the line in it.
    """
    path = Path(source)
    if source in names(folder) and not path.is_file():
        path = folder / f"{source}.json"
    try:
        document = json.loads(path.read_text("utf-8"), object_pairs_hook=_members)
    except FileNotFoundError as error:
        raise GatewayError(
            f"{source}: neither a file nor a ready-made {what}; `bijli {what} list` names those"
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
