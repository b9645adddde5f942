"""Upstream: records and recharge states to the utility's head-end, in order, until it has them.

Two streams, each with a cursor that moves only after the head-end answered 2xx for what lies before
it; a repeated delivery is recognised there by identity. Answers that say "this content is wrong"
(400, 409, 413, 422) split the batch until the one item is found, which is set aside and reported;
every other answer, and silence, is tried again for ever with backoff: it is not the data's fault.
Tests: host_tests/gateway/test_upstream.py.
"""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import dataclass
from typing import Any

import httpx
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Connection

from gateway import orders, tables
from gateway.clock import Clock, wait_until
from gateway.errors import GatewayError
from gateway.messages import encode_sorted
from gateway.store import Store
from gateway.thread import WorkerThread
from gateway.writer import Writer

log = logging.getLogger("gateway.upstream")

BATCH_MAX = 500
POISON_STATUS = (400, 409, 413, 422)
REQUEST_TIMEOUT_S = 10
BACKOFF_MIN_MS = 1_000
BACKOFF_MAX_MS = 300_000
REASON_MAX = 300

RECORDS = "records"
RECHARGES = "recharges"


@dataclass(frozen=True)
class Item:
    """One thing to deliver: its place in the stream and its JSON form."""

    id: int
    body: dict[str, Any]


class Unreachable(GatewayError):
    """The head-end did not take a batch for a reason that is not in the batch."""


class Poison(GatewayError):
    """The head-end refused the content of a batch."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason


class Upstream:
    """Owns the worker thread, the HTTP client and the cursors."""

    def __init__(
        self,
        clock: Clock,
        store: Store,
        writer: Writer,
        url: str,
        gateway_id: str,
        token: str = "",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`url` is the head-end's base address; `transport` replaces the network in tests."""
        self._clock = clock
        self._store = store
        self._writer = writer
        self._gateway_id = gateway_id
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(
            base_url=url,
            headers=headers,
            timeout=REQUEST_TIMEOUT_S,
            transport=transport,
            trust_env=False,  # a proxy variable of the shell must not swallow meter data
        )
        self._news = threading.Event()
        self.last_error = ""
        self.last_success_utc_ms: int | None = None
        self._thread = WorkerThread(clock, "upstream", self._run)
        self._worker, self._stop = self._thread.worker, self._thread.stopping

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is not delivered stays in the database."""
        self._thread.ask_to_stop()
        self._client.close()
        # A request under way ends with its time-out; nobody needs to wait for it.
        self._thread.stop(timeout_s=1)

    def wake(self) -> None:
        """There is something new."""
        self._news.set()
        self._worker.wake()

    def backlog(self) -> dict[str, int]:
        """Items not yet delivered, by stream."""
        with self._store.reading() as connection:
            return {
                stream: _count_after(connection, stream, _cursor(connection, stream))
                for stream in (RECORDS, RECHARGES)
            }

    def rejected(self) -> int:
        """Items that the head-end refused."""
        with self._store.reading() as connection:
            query = sa.select(sa.func.count()).select_from(tables.upstream_rejected)
            return int(connection.execute(query).scalar_one())

    def _run(self) -> None:
        backoff_ms = BACKOFF_MIN_MS
        while not self._stop.is_set():
            self._news.clear()
            try:
                while self._deliver(RECORDS) + self._deliver(RECHARGES):
                    backoff_ms = BACKOFF_MIN_MS
                    if self._stop.is_set():
                        return
            except GatewayError as error:
                if self._stop.is_set():
                    return
                if str(error) != self.last_error:
                    log.warning("head-end: %s; trying again", error)
                self.last_error = str(error)
                until_ms = self._clock.utc_ms() + backoff_ms
                wait_until(self._clock, self._worker, until_ms, self._stop)
                backoff_ms = min(backoff_ms * 2, BACKOFF_MAX_MS)
                continue
            if not self._news.is_set():
                self._worker.wait(None)

    def _deliver(self, stream: str) -> int:
        """Deliver the next batch of a stream; returns how many items it moved on."""
        with self._store.reading() as connection:
            items = _items(connection, stream, _cursor(connection, stream))
        if items:
            self._send(stream, items)
        return len(items)

    def _send(self, stream: str, items: list[Item]) -> None:
        try:
            self._post(stream, items)
        except Poison as poison:
            if len(items) > 1:
                middle = len(items) // 2
                self._send(stream, items[:middle])
                self._send(stream, items[middle:])
                return
            log.error("head-end refused %s %d: %s", stream, items[0].id, poison)
            self._move(stream, items[0].id, poison)
        else:
            self._move(stream, items[-1].id, None)

    def _post(self, stream: str, items: list[Item]) -> None:
        now_ms = self._clock.utc_ms()
        body = encode_sorted(
            {
                "v": 1,
                "gateway": self._gateway_id,
                "sent_utc_ms": now_ms,
                "items": [item.body for item in items],
            }
        )
        try:
            response = self._client.post(
                f"/v1/{stream}", content=body, headers={"Content-Type": "application/json"}
            )
        except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: closed by `stop`
            raise Unreachable(f"no answer ({type(error).__name__})") from error
        if response.status_code in POISON_STATUS:
            raise Poison(response.status_code, response.text[:REASON_MAX])
        if not response.is_success:
            raise Unreachable(f"answered {response.status_code}")
        if self.last_error:
            log.info("head-end takes records again")
        self.last_error = ""
        self.last_success_utc_ms = now_ms

    def _move(self, stream: str, last_id: int, poison: Poison | None) -> None:
        now_ms = self._clock.utc_ms()

        def work(connection: Connection) -> None:
            values = {"last_id": last_id, "moved_utc_ms": now_ms}
            connection.execute(
                insert(tables.upstream_cursor)
                .values(stream=stream, **values)
                .on_conflict_do_update(index_elements=["stream"], set_=values)
            )
            if poison is not None:
                connection.execute(
                    insert(tables.upstream_rejected)
                    .values(
                        stream=stream,
                        item=last_id,
                        status=poison.status,
                        reason=poison.reason,
                        utc_ms=now_ms,
                    )
                    .on_conflict_do_nothing()
                )

        self._writer.write(work)


def _cursor(connection: Connection, stream: str) -> int:
    table = tables.upstream_cursor
    query = sa.select(table.c.last_id).where(table.c.stream == stream)
    return int(connection.execute(query).scalar() or 0)


def _count_after(connection: Connection, stream: str, last_id: int) -> int:
    table = tables.records if stream == RECORDS else tables.recharge_events
    query = sa.select(sa.func.count()).select_from(table).where(table.c.id > last_id)
    return int(connection.execute(query).scalar_one())


def _items(connection: Connection, stream: str, after: int) -> list[Item]:
    if stream == RECORDS:
        return _record_items(connection, after)
    return _recharge_items(connection, after)


def _record_items(connection: Connection, after: int) -> list[Item]:
    table = tables.records
    rows = connection.execute(
        sa.select(*table.c["id", "meter", "store", "received_utc_ms", "content"])
        .where(table.c.id > after)
        .order_by(table.c.id)
        .limit(BATCH_MAX)
    )
    return [
        Item(
            row.id,
            {
                "meter": row.meter,
                "store": row.store,
                "received_utc_ms": row.received_utc_ms,
                "record": json.loads(row.content),
            },
        )
        for row in rows
    ]


def _recharge_items(connection: Connection, after: int) -> list[Item]:
    table = tables.recharge_events
    rows = connection.execute(
        sa.select(table).where(table.c.id > after).order_by(table.c.id).limit(BATCH_MAX)
    ).all()
    views = {
        view["id"]: view
        for view in orders.recharge_views(
            connection, tables.recharges.c.id.in_({row.recharge for row in rows})
        )
    }
    items = []
    for row in rows:
        view = views[row.recharge]
        final = row.state == view["state"]
        items.append(
            Item(
                row.id,
                {
                    "recharge": row.recharge,
                    "meter": view["meter"],
                    "amount_mp": view["amount_mp"],
                    "state": row.state,
                    "utc_ms": row.utc_ms,
                    "balance_mp": view["balance_mp"] if final else None,
                    "code": view["code"] if final else "",
                },
            )
        )
    return items
