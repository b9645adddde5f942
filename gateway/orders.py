"""Orders and recharges in the database: their states, and what each event does to them.

A recharge is an order of kind `recharge` plus what the operator sees of it:

    queued -> sent -> confirmed | refused        queued -> cancelled

`sent` is stored before the first publication; from then on only the meter ends it, by its answer
or by the `credit` record with the same id, whichever comes first. All functions run in the writer's
transaction and touch nothing else. Tests: host_tests/gateway/test_orders.py.
"""

from __future__ import annotations

import json
import logging
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from firmware.link import codec
from gateway import tables
from gateway.errors import Conflict, NotFound
from gateway.messages import Answer

log = logging.getLogger("gateway.orders")

AMOUNT_MIN_MP = 1
AMOUNT_MAX_MP = codec.AMOUNT_MAX_MP
OPEN = ("queued", "sent")


class Open(NamedTuple):
    """An order that is not ended: what `gateway.desk` needs to publish it."""

    id: str
    meter: str
    kind: str
    members: dict[str, Any]
    counter: int
    attempts: int

    def payload(self) -> bytes:
        """The bytes to sign and send."""
        return codec.encode(
            {
                "v": 1,
                "meter": self.meter,
                "id": self.id,
                "counter": self.counter,
                "kind": self.kind,
                **self.members,
            }
        )


def enqueue(
    connection: Connection,
    order_id: str,
    meter: str,
    kind: str,
    members: dict[str, Any],
    now_utc_ms: int,
) -> None:
    """Put an order at the end of its meter's queue."""
    connection.execute(
        sa.insert(tables.orders),
        {
            "id": order_id,
            "meter": meter,
            "kind": kind,
            "members": json.dumps(members),
            "state": "queued",
            "counter": 0,
            "attempts": 0,
            "result": "",
            "field": "",
            "created_utc_ms": now_utc_ms,
        },
    )


def create_recharge(
    connection: Connection,
    order_id: str,
    meter: str,
    amount_mp: int,
    idempotency_key: str,
    digest: str,
    now_utc_ms: int,
) -> tuple[str, bool]:
    """Queue a recharge of `amount_mp`; returns its id and whether it is new.

    The same key with the same request gives the first one's id. Raises Conflict for another
    request under the key, NotFound for an unknown meter.
    """
    table = tables.recharges
    known = connection.execute(
        sa.select(*table.c["id", "request_digest"]).where(
            table.c.idempotency_key == idempotency_key
        )
    ).first()
    if known is not None:
        if known.request_digest != digest:
            raise Conflict("Idempotency-Key", "was used before with another request")
        return str(known.id), False
    if not connection.execute(
        sa.select(tables.meters.c.id).where(tables.meters.c.id == meter)
    ).first():
        raise NotFound("meter", meter)
    enqueue(connection, order_id, meter, "recharge", {"amount_mp": amount_mp}, now_utc_ms)
    connection.execute(
        sa.insert(table),
        {
            "id": order_id,
            "meter": meter,
            "idempotency_key": idempotency_key,
            "request_digest": digest,
            "amount_mp": amount_mp,
            "state": "queued",
            "code": "",
            "field": "",
        },
    )
    _event(connection, order_id, "queued", now_utc_ms)
    return order_id, True


def cancel_recharge(connection: Connection, recharge: str, now_utc_ms: int) -> None:
    """Cancel a recharge that was never published. Raises NotFound, or Conflict once it was."""
    order = _order(connection, recharge)
    if order is None or order.kind != "recharge":
        raise NotFound("recharge", recharge)
    if order.state == "cancelled":
        return
    if order.state != "queued":
        raise Conflict("state", "was sent to the meter: only the meter's answer ends it")
    _end_order(connection, recharge, "cancelled", "", "", now_utc_ms)
    _set_recharge(connection, recharge, "cancelled", now_utc_ms)


def next_open(connection: Connection, meter: str) -> Open | None:
    """The order whose turn it is: the oldest of the meter that is not ended."""
    table = tables.orders
    row = connection.execute(
        sa.select(table)
        .where(table.c.meter == meter, table.c.state.in_(OPEN))
        .order_by(table.c.position)
        .limit(1)
    ).first()
    return None if row is None else _open(row)


def open_counts(connection: Connection) -> dict[str, int]:
    """Number of orders not ended, by meter."""
    table = tables.orders
    rows = connection.execute(
        sa.select(table.c.meter, sa.func.count())
        .where(table.c.state.in_(OPEN))
        .group_by(table.c.meter)
    )
    return {row[0]: row[1] for row in rows}


def mark_sent(connection: Connection, order_id: str, now_utc_ms: int) -> Open | None:
    """Note one more publication; gives a counter if it has none. None if it is ended meanwhile."""
    row = _order(connection, order_id)
    if row is None or row.state not in OPEN:
        return None
    counter = row.counter
    if counter == 0:
        counter = _take_counter(connection, row.meter)
    connection.execute(
        sa.update(tables.orders)
        .where(tables.orders.c.id == order_id)
        .values(
            state="sent",
            counter=counter,
            attempts=row.attempts + 1,
            sent_utc_ms=row.sent_utc_ms or now_utc_ms,
        )
    )
    if row.state == "queued" and row.kind == "recharge":
        _set_recharge(connection, order_id, "sent", now_utc_ms)
    return _open(row)._replace(counter=counter, attempts=row.attempts + 1)


def take_answer(connection: Connection, meter: str, answer: Answer, now_utc_ms: int) -> bool:
    """Apply a meter's answer; False if it changes nothing (known already, or out of date).

    Raises codec.CodecError if no such order was ever sent to this meter.
    """
    row = _order(connection, answer.id)
    if row is None or row.meter != meter or row.sent_utc_ms is None:
        raise codec.CodecError("id", "names no order that was sent to this meter")
    if row.state != "sent":
        return False
    if answer.result == "old":
        if answer.counter != row.counter:  # about an earlier publication
            return False
        _raise_counter(connection, meter, answer.highest)
        connection.execute(
            sa.update(tables.orders).where(tables.orders.c.id == answer.id).values(counter=0)
        )
        log.warning(
            "%s: order %s had counter %d, the meter is at %d: sent anew",
            meter,
            answer.id,
            answer.counter,
            answer.highest,
        )
        return True
    accepted = answer.result == "accepted"
    state = "done" if accepted else "refused"
    _end_order(connection, answer.id, state, answer.result, answer.field, now_utc_ms)
    if row.kind == "recharge":
        _set_recharge(
            connection,
            answer.id,
            "confirmed" if accepted else "refused",
            now_utc_ms,
            balance_mp=answer.balance_mp,
            code="" if accepted else answer.result,
            field=answer.field,
        )
    return True


def take_credit(
    connection: Connection, meter: str, record: dict[str, Any], now_utc_ms: int
) -> bool:
    """Confirm a recharge by the meter's ledger entry; False if it changes nothing."""
    table = tables.recharges
    row = connection.execute(sa.select(table).where(table.c.id == record["id"])).first()
    if row is None or row.meter != meter:
        # A recharge that this gateway did not make (a token, an earlier gateway): just a record.
        return False
    if row.amount_mp != record["amount_mp"]:
        log.error(
            "%s: recharge %s is %d mp here and %d mp in the meter's ledger",
            meter,
            row.id,
            row.amount_mp,
            record["amount_mp"],
        )
    _raise_counter(connection, meter, record["counter"])
    if row.state == "confirmed":
        return False
    if row.state != "sent":
        # The ledger is the truth about the meter's balance, whatever we thought.
        log.error("%s: recharge %s was %s and is in the meter's ledger", meter, row.id, row.state)
    _end_order(connection, row.id, "done", "accepted", "", now_utc_ms)
    _set_recharge(
        connection, row.id, "confirmed", now_utc_ms, balance_mp=record["balance_mp"], code=""
    )
    return True


def recharge_view(connection: Connection, recharge: str) -> dict[str, Any]:
    """A recharge as the API and the utility see it. Raises NotFound."""
    views = recharge_views(connection, tables.recharges.c.id == recharge)
    if not views:
        raise NotFound("recharge", recharge)
    return views[0]


def recharge_views(
    connection: Connection, where: sa.ColumnElement[bool], limit: int = 1000
) -> list[dict[str, Any]]:
    """Recharges, the newest first."""
    orders, table, events = tables.orders, tables.recharges, tables.recharge_events
    rows = connection.execute(
        sa.select(table, orders.c.counter, orders.c.attempts)
        .join(orders, orders.c.id == table.c.id)
        .where(where)
        .order_by(orders.c.position.desc())
        .limit(limit)
    ).all()
    times: dict[str, dict[str, int]] = {row.id: {} for row in rows}
    for event in connection.execute(
        sa.select(events).where(events.c.recharge.in_(list(times))).order_by(events.c.id)
    ):
        times[event.recharge][f"{event.state}_utc_ms"] = event.utc_ms
    return [
        {
            "id": row.id,
            "meter": row.meter,
            "amount_mp": row.amount_mp,
            "state": row.state,
            "balance_mp": row.balance_mp,
            "code": row.code,
            "field": row.field,
            "counter": row.counter,
            "attempts": row.attempts,
            "times": times[row.id],
        }
        for row in rows
    ]


def _order(connection: Connection, order_id: str) -> Row[Any] | None:
    return connection.execute(
        sa.select(tables.orders).where(tables.orders.c.id == order_id)
    ).first()


def _open(row: Row[Any]) -> Open:
    return Open(row.id, row.meter, row.kind, json.loads(row.members), row.counter, row.attempts)


def _take_counter(connection: Connection, meter: str) -> int:
    table = tables.meters
    connection.execute(
        sa.update(table).where(table.c.id == meter).values(counter=table.c.counter + 1)
    )
    counter = connection.execute(sa.select(table.c.counter).where(table.c.id == meter)).scalar_one()
    if counter > codec.COUNTER_MAX:
        raise Conflict("counter", f"{meter} has used up its order counters: it needs a new key")
    return int(counter)


def _raise_counter(connection: Connection, meter: str, highest: int) -> None:
    table = tables.meters
    connection.execute(
        sa.update(table)
        .where(table.c.id == meter, table.c.counter < highest)
        .values(counter=highest)
    )


def _end_order(
    connection: Connection, order_id: str, state: str, result: str, field: str, now_utc_ms: int
) -> None:
    connection.execute(
        sa.update(tables.orders)
        .where(tables.orders.c.id == order_id)
        .values(state=state, result=result, field=field, ended_utc_ms=now_utc_ms)
    )


def _set_recharge(
    connection: Connection, recharge: str, state: str, now_utc_ms: int, **values: Any
) -> None:
    connection.execute(
        sa.update(tables.recharges)
        .where(tables.recharges.c.id == recharge)
        .values(state=state, **values)
    )
    _event(connection, recharge, state, now_utc_ms)


def _event(connection: Connection, recharge: str, state: str, now_utc_ms: int) -> None:
    connection.execute(
        sa.insert(tables.recharge_events),
        {"recharge": recharge, "state": state, "utc_ms": now_utc_ms},
    )
