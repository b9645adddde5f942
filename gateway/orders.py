"""Orders and recharges in the database: their states, and what each event does to them.

    queued -> sent -> done | refused        queued -> cancelled | expired

`sent` is stored before the first publication; from then on only the meter ends an order, by its
answer or by the record with the same id, whichever comes first. `old` and `resync_needed` decide
nothing: the same order goes out again, in the second case behind a resync. A recharge is an order
plus what the operator and the utility see of it (`confirmed` for `done`).

The id of an order that was asked for under an idempotency key follows from the key: asked for again
after a restoration from a backup, it is the same order to the meter. All functions run in the
writer's transaction and touch nothing else. Tests: host_tests/gateway/test_orders.py.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from firmware.core import events
from firmware.core.config import ConfigError
from firmware.core.settings import check_settings
from firmware.link import codec
from gateway import tables
from gateway.errors import Conflict, NotFound
from gateway.kinds import Asked, check_length
from gateway.messages import Answer, encode_sorted

log = logging.getLogger("gateway.orders")

OPEN = ("queued", "sent")
RESYNC_NEEDED = "resync_needed"
EXPIRED = "expired"
ID_DIGITS = 32
EVENTS = (events.RESYNCED, events.CHANGE_WORKS)
"""Codes that say something about orders."""
NEW_KEY = 1
"""`detail` of the event about a change: 0 link settings, 1 key."""


class Open(NamedTuple):
    """An order that is not ended: what `gateway.desk` needs to publish it."""

    id: str
    meter: str
    kind: str
    members: dict[str, Any]
    secret_sealed: bytes | None
    counter: int
    key_generation: int
    attempts: int


def order_id(prefix: str, idempotency_key: str = "") -> str:
    """The id that belongs to a key; a random one without a key."""
    if not idempotency_key:
        return prefix + secrets.token_hex(ID_DIGITS // 2)
    digest = hashlib.sha256(f"{prefix}\0{idempotency_key}".encode())
    return prefix + digest.hexdigest()[:ID_DIGITS]


def create_order(
    connection: Connection,
    meter: str,
    asked: Asked,
    secret_sealed: bytes | None,
    idempotency_key: str,
    now_utc_ms: int,
) -> tuple[str, bool]:
    """Queue an order; returns its id and whether it is new.

    The same key with the same request gives the first one's id. Raises Conflict for another
    request under the key or where only one may be open, FieldError if it is too long to be sent.
    """
    # Members that follow from the moment of asking do not make another request of it.
    same = {name: value for name, value in asked.members.items() if "generation" not in name}
    digest = hashlib.sha256(encode_sorted([meter, asked.kind, same])).hexdigest()
    found = order_id("o-", idempotency_key)
    table = tables.orders
    if idempotency_key:
        known = connection.execute(
            sa.select(table.c.request_digest).where(table.c.idempotency_key == idempotency_key)
        ).first()
        if known is not None:
            if known.request_digest != digest:
                raise Conflict("Idempotency-Key", "was used before with another request")
            return found, False
    if asked.kind in ("key", "link", "resync"):
        open_one = sa.select(table.c.id).where(
            table.c.meter == meter, table.c.kind == asked.kind, table.c.state.in_(OPEN)
        )
        if connection.execute(open_one).first():
            raise Conflict("kind", f"an order {asked.kind} of this meter is still open")
    enqueue(connection, found, meter, asked, now_utc_ms, secret_sealed, idempotency_key, digest)
    return found, True


def enqueue(
    connection: Connection,
    order_id: str,
    meter: str,
    asked: Asked,
    now_utc_ms: int,
    secret_sealed: bytes | None = None,
    idempotency_key: str = "",
    digest: str = "",
) -> None:
    """Put an order at the end of its meter's queue. Raises FieldError if it is too long."""
    check_length(meter, order_id, asked)
    connection.execute(
        sa.insert(tables.orders),
        {
            "id": order_id,
            "meter": meter,
            "kind": asked.kind,
            "members": json.dumps(asked.members),
            "secret_sealed": secret_sealed,
            "expires_utc_s": asked.expires_utc_s,
            "state": "queued",
            "counter": 0,
            "key_generation": 0,
            "attempts": 0,
            "result": "",
            "field": "",
            "idempotency_key": idempotency_key or None,
            "request_digest": digest,
            "created_utc_ms": now_utc_ms,
        },
    )


def recharge_digest(meter: str, amount_mp: int) -> str:
    """What tells one request for a recharge from another."""
    return hashlib.sha256(f"{meter}\0{amount_mp}".encode()).hexdigest()


def create_recharge(
    connection: Connection, meter: str, amount_mp: int, idempotency_key: str, now_utc_ms: int
) -> tuple[str, bool]:
    """Queue a recharge of `amount_mp`; returns its id and whether it is new.

    The same key with the same request gives the first one's id. Raises Conflict for another
    request under the key, NotFound for an unknown meter.
    """
    table = tables.recharges
    digest = recharge_digest(meter, amount_mp)
    found = order_id("r-", idempotency_key)
    known = connection.execute(
        sa.select(*table.c["id", "request_digest"]).where(
            (table.c.idempotency_key == idempotency_key) | (table.c.id == found)
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
    enqueue(connection, found, meter, Asked("recharge", {"amount_mp": amount_mp}), now_utc_ms)
    _insert_recharge(connection, found, meter, amount_mp, idempotency_key, "queued", now_utc_ms)
    return found, True


def _insert_recharge(
    connection: Connection,
    recharge: str,
    meter: str,
    amount_mp: int,
    idempotency_key: str,
    state: str,
    now_utc_ms: int,
) -> None:
    connection.execute(
        sa.insert(tables.recharges),
        {
            "id": recharge,
            "meter": meter,
            "idempotency_key": idempotency_key,
            "request_digest": recharge_digest(meter, amount_mp),
            "amount_mp": amount_mp,
            "state": state,
            "code": "",
            "field": "",
        },
    )
    _event(connection, recharge, state, now_utc_ms)


def cancel_recharge(connection: Connection, recharge: str, now_utc_ms: int) -> None:
    """Cancel a recharge that was never published. Raises NotFound, or Conflict once it was."""
    order = _order(connection, recharge)
    if order is None or order.kind != "recharge":
        raise NotFound("recharge", recharge)
    cancel(connection, recharge, now_utc_ms)


def cancel(connection: Connection, order: str, now_utc_ms: int) -> None:
    """Cancel an order that was never published. Raises NotFound, or Conflict once it was."""
    row = _order(connection, order)
    if row is None:
        raise NotFound("order", order)
    if row.state == "cancelled":
        return
    if row.state != "queued":
        raise Conflict("state", "was sent to the meter: only the meter's answer ends it")
    _end_order(connection, order, "cancelled", "", "", now_utc_ms)
    if row.kind == "recharge":
        _set_recharge(connection, order, "cancelled", now_utc_ms)


def next_open(connection: Connection, meter: str) -> Open | None:
    """The order whose turn it is: the oldest of the meter that is not ended.

    A resync goes first, and what waits for one does not hold up the others.
    """
    table = tables.orders
    row = connection.execute(
        sa.select(table)
        .where(table.c.meter == meter, table.c.state.in_(OPEN), table.c.result != RESYNC_NEEDED)
        .order_by(table.c.kind != "resync", table.c.position)
        .limit(1)
    ).first()
    return None if row is None else _open(row)


def open_counts(connection: Connection) -> dict[str, int]:
    """Number of orders not ended, by meter."""
    return _counts(connection, sa.true())


def blocked_counts(connection: Connection) -> dict[str, int]:
    """Number of orders that wait for a resync, by meter."""
    return _counts(connection, tables.orders.c.result == RESYNC_NEEDED)


def _counts(connection: Connection, where: sa.ColumnElement[bool]) -> dict[str, int]:
    table = tables.orders
    rows = connection.execute(
        sa.select(table.c.meter, sa.func.count())
        .where(table.c.state.in_(OPEN), where)
        .group_by(table.c.meter)
    )
    return {row[0]: row[1] for row in rows}


def next_expiry_ms(connection: Connection) -> int | None:
    """When the first order that waits to be sent expires, UTC ms."""
    table = tables.orders
    utc_s = connection.execute(
        sa.select(sa.func.min(table.c.expires_utc_s)).where(table.c.state == "queued")
    ).scalar()
    return None if utc_s is None else (utc_s + 1) * 1000


def expire(connection: Connection, now_utc_ms: int) -> list[str]:
    """End orders that expired before they were sent; returns their ids."""
    table = tables.orders
    rows = connection.execute(
        sa.select(table.c.id).where(
            table.c.state == "queued", table.c.expires_utc_s < now_utc_ms // 1000
        )
    ).all()
    for row in rows:
        _end_order(connection, row.id, "cancelled", EXPIRED, "", now_utc_ms)
    return [str(row.id) for row in rows]


def give_up_open(connection: Connection, result: str, now_utc_ms: int) -> None:
    """End what is open as `cancelled` with a result: nobody knows what the meter did with it.

    If the meter's record comes after all, it counts.
    """
    table = tables.orders
    for row in connection.execute(sa.select(table).where(table.c.state.in_(OPEN))).all():
        _end_order(connection, row.id, "cancelled", result, "", now_utc_ms)
        if row.kind == "recharge":
            _set_recharge(connection, row.id, "cancelled", now_utc_ms, code=result)


def mark_sent(
    connection: Connection, order_id: str, key_generation: int, now_utc_ms: int
) -> Open | None:
    """Note one more publication, under a key; None if the order is ended meanwhile.

    It gets a counter if it has none, and another one under another key: the counter in the answer
    then tells which key the meter has.
    """
    row = _order(connection, order_id)
    if row is None or row.state not in OPEN:
        return None
    counter = row.counter
    if counter == 0 or key_generation != row.key_generation:
        counter = _take_counter(connection, row.meter)
    connection.execute(
        sa.update(tables.orders)
        .where(tables.orders.c.id == order_id)
        .values(
            state="sent",
            counter=counter,
            key_generation=key_generation,
            attempts=row.attempts + 1,
            sent_utc_ms=row.sent_utc_ms or now_utc_ms,
        )
    )
    if row.state == "queued" and row.kind == "recharge":
        _set_recharge(connection, order_id, "sent", now_utc_ms)
    return _open(row)._replace(
        counter=counter, key_generation=key_generation, attempts=row.attempts + 1
    )


def take_answer(connection: Connection, meter: str, answer: Answer, now_utc_ms: int) -> bool:
    """Apply a meter's answer; False if it changes nothing (known already, or out of date).

    Raises codec.CodecError if no such order was ever sent to this meter.
    """
    row = _order(connection, answer.id)
    if row is None or row.meter != meter or row.sent_utc_ms is None:
        raise codec.CodecError("id", "names no order that was sent to this meter")
    if row.state != "sent":
        return False
    latest = answer.counter == row.counter
    if latest:
        _prove_key(connection, meter, row.key_generation)
    if answer.result in ("old", RESYNC_NEEDED):
        if not latest:  # about an earlier publication
            return False
        _raise_counter(connection, meter, answer.highest)
        blocked = answer.result == RESYNC_NEEDED
        _send_anew(connection, answer.id, RESYNC_NEEDED if blocked else "")
        log.warning(
            "%s: order %s (counter %d) is answered %s, the meter is at %d",
            meter,
            answer.id,
            answer.counter,
            answer.result,
            answer.highest,
        )
        return True
    _finish(connection, row, answer.result, answer.field, answer.balance_mp, now_utc_ms)
    return True


def take_record(
    connection: Connection, meter: str, store: str, record: dict[str, Any], now_utc_ms: int
) -> str | None:
    """Apply what a meter's record says about orders; returns the id of the order it changed.

    A lost answer is made up for by the record, which is as good. For an event the records before
    it must be in the database.
    """
    kind = record["type"]
    if kind == "event":
        _take_event(connection, meter, store, record)
        return None
    if kind == "settings":
        _take_settings(connection, meter, record["document"])
    if kind == "credit" and record["kind"] == "recharge":
        return _take_credit(connection, meter, record, now_utc_ms)
    row = _order(connection, record["id"])
    if row is None or row.meter != meter:
        return None
    _raise_counter(connection, meter, record["counter"])
    if row.state in ("done", "refused"):
        return None
    if row.state != "sent":
        # The meter's journal is the truth, whatever we thought; after a restoration from a
        # backup this is an order that was sent meanwhile.
        log.warning("%s: order %s was %s and is in its journal", meter, row.id, row.state)
    if record["counter"] == row.counter:
        _prove_key(connection, meter, row.key_generation)
    result = record.get("result", "accepted")
    _finish(connection, row, result, "", record["balance_mp"], now_utc_ms)
    return str(row.id)


def _take_credit(
    connection: Connection, meter: str, record: dict[str, Any], now_utc_ms: int
) -> str | None:
    table = tables.recharges
    row = connection.execute(sa.select(table).where(table.c.id == record["id"])).first()
    _raise_counter(connection, meter, record["counter"])
    if row is None:
        return _take_unknown_credit(connection, meter, record, now_utc_ms)
    if row.meter != meter:
        return None
    if row.amount_mp != record["amount_mp"]:
        log.error(
            "%s: recharge %s is %d mp here and %d mp in the meter's ledger",
            meter,
            row.id,
            row.amount_mp,
            record["amount_mp"],
        )
    if row.state == "confirmed":
        return None
    if row.state != "sent":
        # The ledger is the truth about the meter's balance, whatever we thought.
        log.error("%s: recharge %s was %s and is in the meter's ledger", meter, row.id, row.state)
    order = _order(connection, row.id)
    assert order is not None  # a foreign key ties them
    if record["counter"] == order.counter:
        _prove_key(connection, meter, order.key_generation)
    _finish(connection, order, "accepted", "", record["balance_mp"], now_utc_ms)
    return str(row.id)


def _take_unknown_credit(
    connection: Connection, meter: str, record: dict[str, Any], now_utc_ms: int
) -> str | None:
    """A recharge of ours that is not in the database: it was made after the backup we live on."""
    recharge, amount_mp = record["id"], record["amount_mp"]
    if not recharge.startswith("r-") or not record["counter"] or amount_mp < 1:
        return None
    if _order(connection, recharge) is not None:
        return None
    log.warning("%s: recharge %s was not known here, taken from its ledger", meter, recharge)
    asked = Asked("recharge", {"amount_mp": amount_mp})
    enqueue(connection, recharge, meter, asked, now_utc_ms)
    connection.execute(
        sa.update(tables.orders)
        .where(tables.orders.c.id == recharge)
        .values(state="sent", counter=record["counter"], sent_utc_ms=now_utc_ms)
    )
    _insert_recharge(connection, recharge, meter, amount_mp, recharge, "sent", now_utc_ms)
    row = _order(connection, recharge)
    assert row is not None  # made right above
    _finish(connection, row, "accepted", "", record["balance_mp"], now_utc_ms)
    return str(recharge)


def _finish(
    connection: Connection,
    row: Row[Any],
    result: str,
    field: str,
    balance_mp: int | None,
    now_utc_ms: int,
) -> None:
    """The meter has decided."""
    accepted = result == "accepted"
    _end_order(
        connection, row.id, "done" if accepted else "refused", result, field, now_utc_ms, balance_mp
    )
    if row.kind == "recharge":
        _set_recharge(
            connection,
            row.id,
            "confirmed" if accepted else "refused",
            now_utc_ms,
            balance_mp=balance_mp,
            code="" if accepted else result,
            field=field,
        )
    elif accepted and row.kind == "key":
        _change_key(connection, row.meter, json.loads(row.members)["generation"])
    elif accepted and row.kind == "resync":
        _unblock(connection, row.meter)


def _take_event(connection: Connection, meter: str, store: str, record: dict[str, Any]) -> None:
    code = record["code"]
    if code == events.RESYNCED:
        _unblock(connection, meter)
    elif code == events.CHANGE_WORKS and record["detail"] == NEW_KEY:
        _drop_old_key(connection, meter)
    elif code == events.CHANGE_WORKS:
        _take_broker_password(connection, meter, store, record["seq"])


def _take_settings(connection: Connection, meter: str, document: dict[str, Any]) -> None:
    """Keep what the meter says that it has, if a meter can have it: records are not signed."""
    try:
        check_settings(document)
    except ConfigError as error:
        log.error("%s: settings in its ledger are impossible: %s", meter, repr(str(error))[:200])
        return
    table = tables.meters
    text = connection.execute(sa.select(table.c.settings).where(table.c.id == meter)).scalar_one()
    settings = json.loads(text)
    for name, value in document.items():
        place = settings["rules"] if name in settings["rules"] else settings
        place[name] = value
    row = {"settings": json.dumps(settings, sort_keys=True)}
    if "sanctioned_load_w" in document:
        row["sanctioned_load_w"] = document["sanctioned_load_w"]
    connection.execute(sa.update(table).where(table.c.id == meter).values(row))


def _send_anew(connection: Connection, order: str, result: str) -> None:
    """Have an open order sent under a new counter; `result` says what it waits for."""
    connection.execute(
        sa.update(tables.orders).where(tables.orders.c.id == order).values(counter=0, result=result)
    )
    connection.execute(
        sa.update(tables.recharges).where(tables.recharges.c.id == order).values(code=result)
    )


def _unblock(connection: Connection, meter: str) -> None:
    """The meter takes credit again: send what it could not take."""
    table = tables.orders
    for row in connection.execute(
        sa.select(table.c.id).where(
            table.c.meter == meter, table.c.state == "sent", table.c.result == RESYNC_NEEDED
        )
    ).all():
        _send_anew(connection, row.id, "")


def _key_row(connection: Connection, meter: str) -> Any:
    table = tables.meters
    return connection.execute(
        sa.select(
            *table.c["key_generation", "key_sealed", "key_old_sealed", "key_next_sealed"],
            table.c.key_unsure,
        ).where(table.c.id == meter)
    ).one()


def _set_key(connection: Connection, meter: str, **values: Any) -> None:
    table = tables.meters
    connection.execute(sa.update(table).where(table.c.id == meter).values(**values))


def _change_key(connection: Connection, meter: str, generation: int) -> None:
    """The meter has put the key of `generation` on its flash: sign with it from now on.

    The old one is kept until the new one is proven to be in use.
    """
    row = _key_row(connection, meter)
    if row.key_generation + 1 != generation:
        return  # proven already, by an answer under the new key
    _set_key(
        connection,
        meter,
        key_generation=generation,
        key_old_sealed=row.key_sealed,
        key_sealed=row.key_next_sealed,
        key_next_sealed=None,
    )
    log.info("%s: signing with the key of generation %d", meter, generation)


def _prove_key(connection: Connection, meter: str, generation: int) -> None:
    """The meter answered what was signed with the key of `generation`: it is the present one."""
    row = _key_row(connection, meter)
    if generation == row.key_generation:
        if row.key_old_sealed is not None or row.key_unsure:
            _set_key(connection, meter, key_old_sealed=None, key_unsure=0)
    elif generation == row.key_generation + 1:
        _change_key(connection, meter, generation)
        _set_key(connection, meter, key_old_sealed=None, key_unsure=0)
    elif generation == row.key_generation - 1 and row.key_old_sealed is not None:
        log.warning("%s: still has the key of generation %d", meter, generation)
        _set_key(
            connection,
            meter,
            key_generation=generation,
            key_sealed=row.key_old_sealed,
            key_old_sealed=None,
            key_next_sealed=row.key_sealed,
            key_unsure=0,
        )


def _drop_old_key(connection: Connection, meter: str) -> None:
    """The meter says that it uses its new key (an event of a change that we know of)."""
    _set_key(connection, meter, key_old_sealed=None)


def _take_broker_password(connection: Connection, meter: str, store: str, seq: int) -> None:
    """The meter's new link settings work: if they had a new password, the old one is dropped.

    They are those of the last order `link` in its journal before the event `seq`, not of one that
    was sent since. With records missing in between that is not known, and both passwords stay.
    """
    table = tables.records
    row = connection.execute(
        sa.select(table.c.seq, tables.orders.c.members)
        .join(tables.orders, tables.orders.c.id == sa.func.json_extract(table.c.content, "$.id"))
        .where(
            table.c.meter == meter,
            table.c.store == store,
            table.c.seq < seq,
            table.c.type == "order",
            sa.func.json_extract(table.c.content, "$.result") == "accepted",
            tables.orders.c.meter == meter,
            tables.orders.c.kind == "link",
        )
        .order_by(table.c.seq.desc())
        .limit(1)
    ).first()
    if row is None:
        return
    between = sa.select(sa.func.count()).where(
        table.c.meter == meter, table.c.store == store, table.c.seq > row.seq, table.c.seq < seq
    )
    if connection.execute(between).scalar_one() != seq - row.seq - 1:
        return
    generation = json.loads(row.members).get("broker_generation")
    meters = tables.meters
    connection.execute(
        sa.update(meters)
        .where(meters.c.id == meter, meters.c.broker_generation + 1 == generation)
        .values(
            broker_generation=generation,
            broker_hash=meters.c.broker_next_hash,
            broker_next_hash=None,
        )
    )


def order_views(
    connection: Connection, where: sa.ColumnElement[bool], limit: int = 1000
) -> list[dict[str, Any]]:
    """Orders other than recharges, the newest first. Secrets are not in them."""
    table = tables.orders
    rows = connection.execute(
        sa.select(table)
        .where(where, table.c.kind != "recharge")
        .order_by(table.c.position.desc())
        .limit(limit)
    )
    return [
        {
            "id": row.id,
            "meter": row.meter,
            "kind": row.kind,
            "members": json.loads(row.members),
            "state": EXPIRED if row.result == EXPIRED and row.state == "cancelled" else row.state,
            "result": row.result,
            "field": row.field,
            "balance_mp": row.balance_mp,
            "counter": row.counter,
            "attempts": row.attempts,
            "times": {
                f"{name}_utc_ms": utc_ms
                for name, utc_ms in (
                    ("queued", row.created_utc_ms),
                    ("sent", row.sent_utc_ms),
                    ("ended", row.ended_utc_ms),
                )
                if utc_ms is not None
            },
        }
        for row in rows
    ]


def order_view(connection: Connection, order: str) -> dict[str, Any]:
    """One order. Raises NotFound."""
    views = order_views(connection, tables.orders.c.id == order)
    if not views:
        raise NotFound("order", order)
    return views[0]


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
    return Open(
        row.id,
        row.meter,
        row.kind,
        json.loads(row.members),
        row.secret_sealed,
        row.counter,
        row.key_generation,
        row.attempts,
    )


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
    connection: Connection,
    order_id: str,
    state: str,
    result: str,
    field: str,
    now_utc_ms: int,
    balance_mp: int | None = None,
) -> None:
    connection.execute(
        sa.update(tables.orders)
        .where(tables.orders.c.id == order_id)
        .values(
            state=state,
            result=result,
            field=field,
            balance_mp=balance_mp,
            ended_utc_ms=now_utc_ms,
            # What is no longer needed is no longer kept.
            secret_sealed=None,
        )
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
