"""Changes of accounts: closing, opening, a new tenant, the move to another meter.

    closing -> opening -> done        closing | opening -> refused

Each step is an order to a meter (kind `account`, docs/SPEC.md section 2.4.5). The next one follows
from the meter's record of the one before, and is queued in one transaction with the change's new
state, so a change goes on where it was after a restart. What an account had when it was closed is
taken from the gateway's own recomputation, and only if the meter's record says the same: records
are not signed. Tests: host_tests/gateway/test_accounts.py.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from firmware.credit import life
from firmware.credit.account import Account
from gateway import orders, tables
from gateway.audit import Audit
from gateway.clock import Clock, wait_until
from gateway.errors import Conflict, FieldError, GatewayError, NotFound
from gateway.kinds import Asked
from gateway.live import LiveBoard
from gateway.messages import encode_sorted
from gateway.meters import store_tariff
from gateway.store import Store
from gateway.thread import WorkerThread
from gateway.writer import Writer

log = logging.getLogger("gateway.accounts")

OPEN = ("closing", "opening")
MISMATCH = "mismatch"
"""Result of a change whose meter closed its account with other totals than the gateway's."""
RETRY_MS = 1_000


@dataclass(frozen=True)
class Change:
    """What is asked for. `target` is the meter whose account is opened; of the rest only what the
    kind needs is used.

    tariff: document that the new account begins with, None: that of the meter, or in a replacement
    that of the old meter. totals: those of an old meter that is dead, as the operator saw them.
    """

    kind: str
    meter: str
    target: str
    account: str = ""
    consumer: str = ""
    phone: str | None = None
    balance_mp: int = 0
    reading_wh: int | None = None
    tariff: dict[str, Any] | None = None
    totals: dict[str, Any] | None = None


class Accounts:
    """Owns the worker thread that carries changes on."""

    def __init__(
        self,
        clock: Clock,
        store: Store,
        writer: Writer,
        audit: Audit,
        live: LiveBoard,
        order_changed: Callable[[str], None],
    ) -> None:
        """`order_changed` is told a meter that has new orders."""
        self._clock = clock
        self._store = store
        self._writer = writer
        self._audit = audit
        self._live = live
        self._order_changed = order_changed
        self._lock = threading.Lock()
        self._dirty: set[str] = set()
        with store.reading() as connection:
            self._open = _open_meters(connection)  # meters with a change under way
        self._thread = WorkerThread(clock, "accounts", self._run)
        self._worker, self._stop = self._thread.worker, self._thread.stopping

    def start(self) -> None:
        """Begin, with every change that is under way to be looked at."""
        self._dirty.update(self._open)
        self._thread.start()

    def stop(self) -> None:
        """End; changes under way stay in the database."""
        self._thread.stop()

    def changed(self, meter: str) -> None:
        """A meter has new records, or an order of it ended."""
        with self._lock:
            if meter not in self._open:
                return
            self._dirty.add(meter)
        self._worker.wake()

    def begin(self, asked: Change, key: str) -> tuple[str, bool]:
        """Begin a change; returns its id and whether it is new.

        The same key with the same request gives the first one. Raises Conflict if an account is not
        in the state that the change needs, FieldError for what no meter can take.
        """
        digest = hashlib.sha256(encode_sorted(asdict(asked))).hexdigest()
        found = orders.order_id("a-", key)
        with self._store.reading() as connection:
            known = _row(connection, found)
        if known is not None:
            if known.request_digest != digest:
                raise Conflict("Idempotency-Key", "was used before with another request")
            return found, False
        # Closed by this very change, of which a restored database does not know?
        if self._audit.account_change(asked.meter, _step_order(found, "closed")) is None:
            self._check(asked)
        now_ms = self._clock.utc_ms()
        self._writer.write(lambda c: _create(c, found, asked, key, digest, now_ms))
        with self._lock:
            self._open |= {asked.meter, asked.target}
        self._tell(found)
        for meter in {asked.meter, asked.target}:
            self._order_changed(meter)
        return found, True

    def retry(self, change: str) -> None:
        """Ask a meter again for the step that it refused. Raises NotFound, Conflict."""
        now_ms = self._clock.utc_ms()
        row = self._writer.write(lambda c: _retry(c, change, now_ms))
        with self._lock:
            self._open |= {row.meter, row.target}
        self._tell(change)
        for meter in {row.meter, row.target}:
            self._order_changed(meter)

    def view(self, change: str) -> dict[str, Any]:
        """One change. Raises NotFound."""
        with self._store.reading() as connection:
            row = _row(connection, change)
        if row is None:
            raise NotFound("change of an account", change)
        return self._view(row)

    def views(self, meter: str) -> list[dict[str, Any]]:
        """The changes of a meter, the newest first."""
        table = tables.account_changes
        with self._store.reading() as connection:
            rows = connection.execute(
                sa.select(table)
                .where((table.c.meter == meter) | (table.c.target == meter))
                .order_by(table.c.position.desc())
            ).all()
        return [self._view(row) for row in rows]

    def _view(self, row: Row[Any]) -> dict[str, Any]:
        members = json.loads(row.members)
        closing = json.loads(row.closing) if row.closing else None
        if members["totals"] is not None:  # the old meter was dead: it may have come back
            closing = self._audit.account_change(row.meter, row.close_order)
        return {
            "id": row.id,
            "kind": row.kind,
            "meter": row.meter,
            "target": row.target,
            "account": members["account"],
            "consumer": members["consumer"],
            "consumer_before": members["before"],
            "state": row.state,
            "result": row.result,
            "field": row.field,
            "totals": members["totals"],
            "closing": closing,
            "close_order": row.close_order,
            "open_order": row.open_order,
            "times": {
                f"{name}_utc_ms": utc_ms
                for name, utc_ms in (("begun", row.created_utc_ms), ("ended", row.ended_utc_ms))
                if utc_ms is not None
            },
        }

    def _check(self, asked: Change) -> None:
        account = self._audit.account(asked.meter)
        if asked.kind == "open":
            if not account.closed:
                raise Conflict("meter", "has an account that is not closed")
            return
        if account.closed:
            raise Conflict("meter", "has no open account")
        if asked.kind != "replace":
            return
        if asked.target == asked.meter:
            raise FieldError("target", "must be another meter")
        target = self._audit.account(asked.target)
        if not target.closed and not life.is_fresh(target):
            raise Conflict("target", "has an account of its own to which something was credited")
        if asked.totals is not None and asked.totals != self._audit.totals(asked.meter)[1]:
            raise Conflict("totals", "are not, or no longer, what is known here: look again")

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                meters, self._dirty = self._dirty, set()
            if not meters:
                self._worker.wait(None)
                continue
            try:
                for meter in sorted(meters):
                    self._advance(meter)
            except GatewayError as error:
                log.error("changes of accounts wait: %s", error)
                with self._lock:
                    self._dirty |= meters
                until = self._clock.utc_ms() + RETRY_MS
                wait_until(self._clock, self._worker, until, self._stop)

    def _advance(self, meter: str) -> None:
        """Carry the changes of a meter on as far as its records go."""
        table = tables.account_changes
        with self._store.reading() as connection:
            rows = connection.execute(
                sa.select(table)
                .where(
                    (table.c.meter == meter) | (table.c.target == meter), table.c.state.in_(OPEN)
                )
                .order_by(table.c.position)
            ).all()
        for row in rows:
            if self._step(row):
                self._tell(row.id)
                self._order_changed(row.target)
        with self._store.reading() as connection:
            still = _open_meters(connection)
        with self._lock:
            self._open = still

    def _step(self, row: Row[Any]) -> bool:
        """The next step of a change, if its turn has come."""
        closes = row.state == "closing"
        order = row.close_order if closes else row.open_order
        done = self._audit.account_change(row.meter if closes else row.target, order)
        now_ms = self._clock.utc_ms()
        if done is None:
            return bool(self._writer.write(lambda c: _end_refused(c, row.id, order, now_ms)))
        if closes and not done["agrees"]:
            log.error("%s: closed its account with %s", row.meter, done["document"])
            return bool(self._writer.write(lambda c: _refuse(c, row.id, MISMATCH, "", now_ms)))
        if closes:
            return bool(self._writer.write(lambda c: _closed(c, row.id, done, now_ms)))
        finished = bool(self._writer.write(lambda c: _opened(c, row.id, now_ms)))
        if finished:
            self._live.add_meter(row.target, json.loads(row.members)["consumer"])
        return finished

    def _tell(self, change: str) -> None:
        self._live.account(self.view(change))


def _create(
    connection: Connection, change: str, asked: Change, key: str, digest: str, now_ms: int
) -> None:
    """Queue the first step. Raises Conflict if another change is under way."""
    table = tables.account_changes
    both = (asked.meter, asked.target)
    busy = sa.select(table.c.id).where(
        table.c.meter.in_(both) | table.c.target.in_(both), table.c.state.in_(OPEN)
    )
    if connection.execute(busy).first():
        raise Conflict("meter", "has a change of its account under way")
    members = asdict(asked)
    meters = tables.meters
    of_old = connection.execute(
        sa.select(*meters.c["consumer", "phone"]).where(meters.c.id == asked.meter)
    ).one()
    members.update(before=of_old.consumer, attempts=0)
    if asked.kind in ("replace", "close"):
        members.update(consumer=of_old.consumer, phone=of_old.phone)
    if asked.tariff is not None:
        store_tariff(connection, asked.tariff, now_ms)
    connection.execute(
        sa.insert(table),
        {
            "id": change,
            "kind": asked.kind,
            "meter": asked.meter,
            "target": asked.target,
            "members": json.dumps(members),
            "state": "opening" if asked.kind == "open" else "closing",
            "result": "",
            "field": "",
            "idempotency_key": key,
            "request_digest": digest,
            "created_utc_ms": now_ms,
        },
    )
    if asked.kind != "open":
        _enqueue_closing(connection, change, now_ms)
    if asked.kind == "open" or asked.totals is not None:
        _enqueue_opening(connection, change, now_ms)


def _enqueue_closing(connection: Connection, change: str, now_ms: int) -> None:
    row = _row(connection, change)
    assert row is not None  # made before
    document = {"moved_to": row.target} if row.kind == "replace" else {}
    order = _step_order(change, "closed", json.loads(row.members)["attempts"])
    asked = Asked("account", {"action": "closed", "document": document})
    orders.enqueue(connection, order, row.meter, asked, now_ms)
    _set(connection, change, close_order=order)


def _enqueue_opening(connection: Connection, change: str, now_ms: int) -> None:
    """Queue what opens the new account: its tariff first, then itself, then the tariff that is
    held: its time may have come before the meter gets it."""
    row = _row(connection, change)
    assert row is not None  # made before
    asked = json.loads(row.members)
    document: dict[str, Any] = {"account": asked["account"]}
    if asked["reading_wh"] is not None:
        document["reading_wh"] = asked["reading_wh"]
    if row.kind != "replace":
        document["balance_mp"] = asked["balance_mp"]
        tariff, held = asked["tariff"], None
    else:
        if asked["totals"] is None:
            closing = json.loads(row.closing)["document"]
        else:
            account = Account()
            account.restore(asked["totals"])
            closing = life.moving(account, asked["totals"]["import_wh"], row.target)
        document["moved_from"] = row.meter
        document.update({name: closing[name] for name in closing if name in life.CARRIED})
        tariff = _tariff(connection, closing["tariff"], closing["tariff_version"])
        held = _held_tariff(connection, row.meter, row.created_utc_ms)
    opened = _step_order(change, "opened", asked["attempts"])
    for order, sent in (
        (_step_order(change, "tariff 0", asked["attempts"]), _order_of(tariff)),
        (opened, Asked("account", {"action": "opened", "document": document})),
        (_step_order(change, "tariff 1", asked["attempts"]), _order_of(held)),
    ):
        if sent is not None:
            orders.enqueue(connection, order, row.target, sent, now_ms)
    _set(connection, change, state="opening", open_order=opened)


def _order_of(tariff: dict[str, Any] | None) -> Asked | None:
    return None if tariff is None else Asked("tariff", {"document": tariff})


def _step_order(change: str, step: str, attempts: int = 0) -> str:
    """The id of a step's order. It follows from the change's, so that one that is asked for again
    after a restoration from a backup finds what the meters did for it."""
    return orders.order_id("o-", f"{change} {step} {attempts}")


def _tariff(connection: Connection, name: str, version: int) -> dict[str, Any] | None:
    table = tables.tariffs
    text = connection.execute(
        sa.select(table.c.document).where(table.c.id == name, table.c.version == version)
    ).scalar()
    return None if text is None else dict(json.loads(text))


def _held_tariff(connection: Connection, meter: str, utc_ms: int) -> dict[str, Any] | None:
    """The tariff that a meter held at a time."""
    table = tables.records
    text = connection.execute(
        sa.select(table.c.content)
        .where(table.c.meter == meter, table.c.type == "passive")
        .order_by(table.c.id.desc())
        .limit(1)
    ).scalar()
    document = {} if text is None else json.loads(text)["document"]
    return document if document.get("effective_from_utc_s", 0) * 1000 > utc_ms else None


def _closed(connection: Connection, change: str, closing: dict[str, Any], now_ms: int) -> bool:
    """The account is closed: end the change, or open the next one."""
    row = _row(connection, change)
    if row is None or row.state != "closing":
        return False
    _set(connection, change, closing=json.dumps(closing))
    if row.kind == "close":
        _set(connection, change, state="done", result="", ended_utc_ms=now_ms)
    else:
        _enqueue_opening(connection, change, now_ms)
    return True


def _opened(connection: Connection, change: str, now_ms: int) -> bool:
    """The account is open: the meter is that consumer's now."""
    row = _row(connection, change)
    if row is None or row.state != "opening":
        return False
    asked = json.loads(row.members)
    meters = tables.meters
    connection.execute(
        sa.update(meters)
        .where(meters.c.id == row.target)
        .values(consumer=asked["consumer"], phone=asked["phone"])
    )
    _set(connection, change, state="done", result="", ended_utc_ms=now_ms)
    return True


def _end_refused(connection: Connection, change: str, order: str, now_ms: int) -> bool:
    """End a change whose order came to nothing; False while it is open or was done."""
    table = tables.orders
    ended = connection.execute(sa.select(table).where(table.c.id == order)).one()
    if ended.state not in ("refused", "cancelled"):
        return False
    return _refuse(connection, change, ended.result or ended.state, ended.field, now_ms)


def _refuse(connection: Connection, change: str, result: str, field: str, now_ms: int) -> bool:
    row = _row(connection, change)
    if row is None or row.state not in OPEN:
        return False
    _set(connection, change, state="refused", result=result, field=field, ended_utc_ms=now_ms)
    return True


def _retry(connection: Connection, change: str, now_ms: int) -> Row[Any]:
    row = _row(connection, change)
    if row is None:
        raise NotFound("change of an account", change)
    if row.state != "refused" or row.result == MISMATCH:
        raise Conflict("state", "only a change that a meter refused can be tried again")
    members = json.loads(row.members)
    members["attempts"] += 1
    _set(connection, change, members=json.dumps(members))
    _set(connection, change, state="closing", result="", field="", ended_utc_ms=None)
    if row.open_order is None:
        _enqueue_closing(connection, change, now_ms)
    else:
        _enqueue_opening(connection, change, now_ms)
    return row


def _row(connection: Connection, change: str) -> Row[Any] | None:
    table = tables.account_changes
    return connection.execute(sa.select(table).where(table.c.id == change)).first()


def _set(connection: Connection, change: str, **values: Any) -> None:
    table = tables.account_changes
    connection.execute(sa.update(table).where(table.c.id == change).values(**values))


def _open_meters(connection: Connection) -> set[str]:
    table = tables.account_changes
    rows = connection.execute(
        sa.select(*table.c["meter", "target"]).where(table.c.state.in_(OPEN))
    ).all()
    return {meter for row in rows for meter in row}
