"""Why a meter's balance moved between two moments, from its records.

The movements are those of `firmware.credit.statement`, which the meter's own console uses as well.
Tests: host_tests/gateway/test_explain.py.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from firmware.console import statements
from firmware.credit.statement import Explanation
from firmware.credit.tariff import TariffError
from gateway import tables
from gateway.errors import Conflict, FieldError
from gateway.store import Store

MOVEMENT = ("name", "kind", "quantity", "unit", "rate", "amount_mp", "utc_s")
"""Members of a movement, as `statement.Statement.movements` puts them."""

ENTRIES_MAX = 400
_NEAR_S = 86_400
"""So far behind a moment the load profile is looked at, too: a meter with power adds to it sooner.
Elsewhere it moves nothing."""


def explain(
    store: Store, meter: str, since_utc_s: int, until_utc_s: int, import_wh: int
) -> dict[str, Any]:
    """The statement of a meter between two moments; `import_wh`: its newest register.

    Raises FieldError if the account at `since_utc_s` is not known, Conflict if a record cannot be
    read.
    """
    explanation = Explanation(since_utc_s, until_utc_s, None, ENTRIES_MAX)
    table = tables.records
    near = [
        (table.c.at_utc_s >= moment) & (table.c.at_utc_s < moment + _NEAR_S)
        for moment in (since_utc_s, until_utc_s)
    ]
    begun = (
        sa.select(table.c.store, sa.func.min(table.c.id).label("first_id"))
        .where(table.c.meter == meter)
        .group_by(table.c.store)
        .subquery()
    )
    with store.reading() as connection:
        rows = connection.execute(
            sa.select(table.c.content)
            .join(begun, begun.c.store == table.c.store)
            .where(
                table.c.meter == meter,
                table.c.type.not_in(("load", "block")) | near[0] | near[1],
            )
            .order_by(begun.c.first_id, table.c.seq)
        )
        try:
            for row in rows:
                explanation.take(json.loads(row.content))
                if explanation.finished:
                    break
            explanation.end(import_wh)
        except TariffError as error:
            why = f"of a record cannot be read by this gateway: {error}"
            raise Conflict("tariff", why) from error
    statement = explanation.statement
    if statement is None:
        known_utc_s = explanation.known_utc_s
        raise FieldError(
            "since", f"must be {known_utc_s} or later" if known_utc_s else "is before every record"
        )
    return {
        "meter": meter,
        "since_utc_s": since_utc_s,
        "until_utc_s": until_utc_s,
        "opening_mp": statement.opening_mp,
        "closing_mp": statement.closing_mp,
        "moved_mp": statement.closing_mp - statement.opening_mp,
        "movements": [
            {**dict(zip(MOVEMENT, row, strict=True)), "detail": statements.detail(row)}
            for row in statement.movements
        ],
    }
