"""Ingest: messages of meters into rows, in the writer's transaction; acknowledgements after it.

Invariants:
- A record is acknowledged to its meter only after the commit that holds it, in the table of records
  or in quarantine.
- An identity (meter, store, boot, seq) is stored once: equal content again is ignored and
  acknowledged, other content goes to quarantine and the first stays.
- Nothing that arrives can stop what follows: what cannot be read goes to quarantine and is
  acknowledged to the broker.
- A gap in `seq` is accepted (the meter has nothing older to send) and stays visible until filled.
Tests: host_tests/gateway/test_ingest.py.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from typing import Any, Protocol, TypeGuard

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from firmware.core.records import ORDERED
from firmware.link import codec
from gateway import orders, tables
from gateway.kinds import Asked
from gateway.live import LiveBoard
from gateway.messages import (
    Live,
    decode_answer,
    decode_live,
    decode_outline,
    decode_up,
    encode_sorted,
)
from gateway.transport import Incoming
from gateway.writer import Effect

log = logging.getLogger("gateway.ingest")

DROPPED_TOPIC = "$SYS/broker/publish/messages/dropped"
SUBSCRIPTIONS = (
    ("bijli/1/+/up", 1),
    ("bijli/1/+/live", 0),
    ("bijli/1/+/link", 1),
    ("bijli/1/+/answer", 1),
    ("bijli/1/+/ask", 0),
    (DROPPED_TOPIC, 0),
)
QUARANTINE_ROWS_MAX = 10_000
QUARANTINE_PAYLOAD_MAX = 16_384


class Listeners(Protocol):
    """Who is told after a commit."""

    def records_stored(self, meter: str) -> None:
        """New records of a meter are in the database."""

    def order_changed(self, meter: str) -> None:
        """An order of a meter ended or must be sent anew."""

    def link_changed(self, meter: str, online: bool, sure: bool) -> None:
        """A meter connected or is gone; not `sure`: the broker only remembers it so."""


class _Group:
    """What one group of messages adds up to until its transaction ends."""

    def __init__(self, now_utc_ms: int) -> None:
        self.now_utc_ms = now_utc_ms
        self.rows: dict[tuple[str, str, int], dict[str, Any]] = {}
        self.stored: dict[str, list[dict[str, Any]]] = {}
        self.acks: dict[tuple[str, str], tuple[int, int]] = {}
        self.orders: dict[str, None] = {}  # meters with an order that changed
        self.changed: dict[str, None] = {}  # ids of orders that changed
        self.links: dict[str, tuple[bool, bool]] = {}  # (online, retained)
        self.heard: set[str] = set()  # meters that said something after that
        self.live: list[tuple[str, Live]] = []

    def store(self, connection: Connection) -> None:
        """Put the records so far into the database, in this transaction."""
        if self.rows:
            connection.execute(sa.insert(tables.records), list(self.rows.values()))
            self.rows.clear()


class Ingest:
    """The writer's handler of messages."""

    def __init__(
        self,
        known: Callable[[str], bool],
        live: LiveBoard,
        listeners: Listeners,
        publish: Callable[[str, bytes, int], bool],
        complete: Callable[[Connection, str], None],
    ) -> None:
        """`known` says whether a meter is registered, `complete` is Meters.complete."""
        self._known = known
        self._complete = complete
        self._live = live
        self._listeners = listeners
        self._publish = publish
        self._highest: dict[tuple[str, str], int] = {}
        self._quarantined: int | None = None
        self.records = 0
        self.duplicates = 0
        self.quarantined = 0
        self.quarantine_full = 0
        self.broker_dropped = 0

    def needs_commit(self, message: Incoming) -> bool:
        """Live values and the broker's counters live in memory; the rest changes rows."""
        return not (message.topic.endswith("/live") or message.topic.startswith("$SYS/"))

    def forget(self) -> None:
        """A transaction was rolled back: read the state of the rows anew when it is needed."""
        self._highest.clear()
        self._quarantined = None

    def handle(
        self, connection: Connection, messages: list[Incoming], now_utc_ms: int
    ) -> list[Effect]:
        """Store a group of messages; returns what to do after the commit, in order."""
        group = _Group(now_utc_ms)
        for message in messages:
            try:
                self._take(connection, group, message)
            except (codec.CodecError, msgspec.DecodeError) as error:
                self._refuse(connection, message, error, now_utc_ms)
        group.store(connection)
        changed = list(group.changed)
        recharges = orders.recharge_views(connection, tables.recharges.c.id.in_(changed))
        others = orders.order_views(connection, tables.orders.c.id.in_(changed))
        return self._effects(group, recharges, others)

    def quarantine(
        self, connection: Connection, message: Incoming, error: Exception, now_utc_ms: int
    ) -> None:
        """Keep a message that made our own code fail."""
        self._keep(
            connection,
            message.topic,
            message.payload,
            "message",
            f"internal error: {type(error).__name__}",
            now_utc_ms,
        )

    def _refuse(
        self,
        connection: Connection,
        message: Incoming,
        error: codec.CodecError | msgspec.DecodeError,
        now_utc_ms: int,
    ) -> bool:
        """Put a message aside; True if it is kept."""
        if not self.needs_commit(message):
            # Nothing is owed for a live value, and a stream of bad ones must not fill the disk.
            self.quarantined += 1
            log.warning("%s refused: %s", message.topic[:80], error)
            return False
        if isinstance(error, codec.CodecError):
            field, reason = error.field, error.why
        else:
            # msgspec ends its text with the place: "... - at `$.records[0]`".
            text, _, place = str(error).partition(" - at `$")
            field, reason = place.strip("`.") or "payload", text
        return self._keep(connection, message.topic, message.payload, field, reason, now_utc_ms)

    def _take(self, connection: Connection, group: _Group, message: Incoming) -> None:
        if message.topic == DROPPED_TOPIC:
            self._note_dropped(message.payload)
            return
        meter, leaf = codec.split_topic(message.topic)
        if not self._known(meter):
            raise codec.CodecError("meter", "is not registered")
        if leaf != "link":
            group.heard.add(meter)
        if leaf == "up":
            self._take_up(connection, group, meter, message)
        elif leaf == "live":
            group.live.append((meter, decode_live(message.payload)))
        elif leaf == "answer":
            answer = decode_answer(message.payload)
            self._complete(connection, meter)
            if orders.take_answer(connection, meter, answer, group.now_utc_ms):
                group.orders[meter] = None
                group.changed[answer.id] = None
        elif leaf == "link":
            if message.payload not in (b"online", b"offline"):
                raise codec.CodecError("link", "must be online or offline")
            group.links[meter] = (message.payload == b"online", message.retained)
            group.heard.discard(meter)
        else:
            raise codec.CodecError("topic", "is not for the gateway")

    def _take_up(
        self, connection: Connection, group: _Group, meter: str, message: Incoming
    ) -> None:
        try:
            batch = decode_up(message.payload)
        except msgspec.DecodeError as error:
            place = _last_identity(message.payload)
            if self._refuse(connection, message, error, group.now_utc_ms) and place:
                # The whole batch is kept as it is: its meter need not send it for ever.
                self._note_ack(group, meter, *place)
            return
        for record in batch.records:
            try:
                codec.check_record(record)
                self._take_record(connection, group, meter, batch.store, record)
            except codec.CodecError as error:
                # Kept as it is, under its identity: also a refused record is safe here, and its
                # meter need not send it for ever.
                content = encode_sorted({"store": batch.store, "record": record})
                if not self._keep(
                    connection, message.topic, content, error.field, error.why, group.now_utc_ms
                ):
                    return  # not kept, so it must stay with the meter, and what follows it
            boot, seq = record.get("boot"), record.get("seq")
            if _is_u32(boot) and _is_u32(seq):
                self._note_ack(group, meter, batch.store, boot, seq)

    @staticmethod
    def _note_ack(group: _Group, meter: str, store: str, boot: int, seq: int) -> None:
        place = (meter, store)
        if seq >= group.acks.get(place, (0, 0))[1]:
            group.acks[place] = (boot, seq)

    def _take_record(
        self,
        connection: Connection,
        group: _Group,
        meter: str,
        store: str,
        record: dict[str, Any],
    ) -> None:
        seq = record["seq"]
        content = encode_sorted(record).decode()
        highest = self._highest_of(connection, meter, store)
        if seq <= highest:
            known = self._content_of(connection, group, meter, store, seq)
            if known == content:
                self.duplicates += 1
                return
            if known is not None:
                raise codec.CodecError("seq", "is stored already with other content")
            _fill_gap(connection, meter, store, seq)
        else:
            if seq > highest + 1:
                log.warning("%s: records %d to %d are missing", meter, highest + 1, seq - 1)
                _open_gap(connection, meter, store, highest + 1, seq - 1, group.now_utc_ms)
                if highest == 0:
                    # A journal that somebody else took the beginning of: another gateway, or we
                    # before a restoration from a backup. The meter keeps it for 35 days.
                    asked = Asked("resend", {"store": store, "seq": 0})
                    new = orders.order_id("o-")
                    orders.enqueue(connection, new, meter, asked, group.now_utc_ms)
                    group.orders[meter] = None
            self._highest[meter, store] = seq
        group.rows[meter, store, seq] = {
            "meter": meter,
            "store": store,
            "boot": record["boot"],
            "seq": seq,
            "type": record["type"],
            "at_utc_s": record["utc_s"] if record["time_valid"] else group.now_utc_ms // 1000,
            "import_wh": record.get("import_wh"),
            "balance_mp": record.get("balance_mp"),
            "received_utc_ms": group.now_utc_ms,
            "content": content,
        }
        group.stored.setdefault(meter, []).append(record)
        self.records += 1
        about_order = record["type"] in ORDERED
        if about_order or (record["type"] == "event" and record["code"] in orders.EVENTS):
            if not about_order:
                group.store(connection)  # what an event means depends on the records before it
            self._complete(connection, meter)
            changed = orders.take_record(connection, meter, store, record, group.now_utc_ms)
            if changed is not None:
                group.changed[changed] = None
            if changed is not None or not about_order:
                group.orders[meter] = None

    def _highest_of(self, connection: Connection, meter: str, store: str) -> int:
        highest = self._highest.get((meter, store))
        if highest is None:
            table = tables.records
            highest = (
                connection.execute(
                    sa.select(sa.func.max(table.c.seq)).where(
                        table.c.meter == meter, table.c.store == store
                    )
                ).scalar()
                or 0
            )
            self._highest[meter, store] = highest
        return highest

    def _content_of(
        self, connection: Connection, group: _Group, meter: str, store: str, seq: int
    ) -> str | None:
        row = group.rows.get((meter, store, seq))
        if row is not None:
            return str(row["content"])
        table = tables.records
        return connection.execute(
            sa.select(table.c.content).where(
                table.c.meter == meter, table.c.store == store, table.c.seq == seq
            )
        ).scalar()

    def _note_dropped(self, payload: bytes) -> None:
        dropped = int(payload) if payload.isdigit() else 0
        if dropped > self.broker_dropped:
            log.error("the broker dropped %d messages so far: queue limits reached", dropped)
        self.broker_dropped = dropped

    def _keep(
        self,
        connection: Connection,
        topic: str,
        payload: bytes,
        field: str,
        reason: str,
        now_utc_ms: int,
    ) -> bool:
        """Put something into quarantine; False if it is full."""
        self.quarantined += 1
        log.warning("quarantine: %s: %s: %s", topic[:80], field, reason)
        table = tables.quarantine
        digest = hashlib.sha256(payload).hexdigest()
        again = connection.execute(
            sa.update(table)
            .where(table.c.topic == topic, table.c.digest == digest)
            .values(times=table.c.times + 1, last_utc_ms=now_utc_ms)
        )
        if again.rowcount:
            return True
        if self._quarantined is None:
            self._quarantined = connection.execute(
                sa.select(sa.func.count()).select_from(table)
            ).scalar_one()
        if self._quarantined >= QUARANTINE_ROWS_MAX:
            self.quarantine_full += 1
            log.error("quarantine is full (%d rows): not kept", QUARANTINE_ROWS_MAX)
            return False
        self._quarantined += 1
        connection.execute(
            sa.insert(table),
            {
                "topic": topic,
                "field": field,
                "reason": reason,
                "digest": digest,
                "payload": payload[:QUARANTINE_PAYLOAD_MAX],
                "times": 1,
                "first_utc_ms": now_utc_ms,
                "last_utc_ms": now_utc_ms,
            },
        )
        return True

    def _effects(
        self, group: _Group, recharges: list[dict[str, Any]], others: list[dict[str, Any]]
    ) -> list[Effect]:
        effects: list[Effect] = []
        now_ms = group.now_utc_ms

        def tell() -> None:
            for meter, (online, retained) in group.links.items():
                self._live.link(meter, online and not retained, now_ms)
                self._listeners.link_changed(meter, online, sure=not retained)
            for meter in group.heard:
                if not self._live.view(meter).get("online"):
                    self._live.link(meter, True, now_ms)
                    self._listeners.link_changed(meter, True, sure=True)
            for meter, records in group.stored.items():
                self._live.records(meter, records, now_ms)
                self._listeners.records_stored(meter)
            for meter, live in group.live:
                self._live.values(meter, live, now_ms)
            for view in recharges:
                log.info(
                    "%s: recharge %s of %d mp %s",
                    view["meter"],
                    view["id"],
                    view["amount_mp"],
                    view["state"],
                )
                self._live.recharge(view)
            for view in others:
                log.info("%s: %s %s %s", view["meter"], view["kind"], view["id"], view["state"])
                self._live.order(view)
            for meter in group.orders:
                self._listeners.order_changed(meter)

        effects.append(tell)
        for (meter, store), (boot, seq) in group.acks.items():
            effects.append(self._ack(meter, store, boot, seq))
        return effects

    def _ack(self, meter: str, store: str, boot: int, seq: int) -> Effect:
        payload = codec.encode({"v": 1, "store": store, "boot": boot, "seq": seq})
        return lambda: self._send_ack(codec.topic(meter, "ack"), payload)

    def _send_ack(self, topic: str, payload: bytes) -> None:
        # Not sent: the meter sends the records again, they are duplicates, and are acknowledged.
        self._publish(topic, payload, 1)


def _is_u32(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 0xFFFFFFFF


def _last_identity(payload: bytes) -> tuple[str, int, int] | None:
    """(store, boot, highest seq) of a batch that is refused as a whole, if that can be read."""
    try:
        batch = decode_outline(payload)
    except msgspec.DecodeError:
        return None
    places = [
        (record["seq"], record["boot"])
        for record in batch.records
        if isinstance(record, dict) and _is_u32(record.get("seq")) and _is_u32(record.get("boot"))
    ]
    if not places:
        return None
    seq, boot = max(places)
    return batch.store, boot, seq


def _open_gap(
    connection: Connection, meter: str, store: str, first: int, last: int, now_utc_ms: int
) -> None:
    connection.execute(
        sa.insert(tables.gaps),
        {
            "meter": meter,
            "store": store,
            "first_seq": first,
            "last_seq": last,
            "seen_utc_ms": now_utc_ms,
        },
    )


def _fill_gap(connection: Connection, meter: str, store: str, seq: int) -> None:
    """Take `seq` out of the gap that it lies in; what is left on both sides stays a gap."""
    table = tables.gaps
    row = connection.execute(
        sa.select(table).where(
            table.c.meter == meter,
            table.c.store == store,
            table.c.first_seq <= seq,
            table.c.last_seq >= seq,
        )
    ).first()
    if row is None:
        return
    connection.execute(
        sa.delete(table).where(
            table.c.meter == meter, table.c.store == store, table.c.first_seq == row.first_seq
        )
    )
    for first, last in ((row.first_seq, seq - 1), (seq + 1, row.last_seq)):
        if first <= last:
            _open_gap(connection, meter, store, first, last, row.seen_utc_ms)


def load_recent(connection: Connection, meter: str, limit: int) -> list[dict[str, Any]]:
    """The newest records of a meter, the oldest first."""
    table = tables.records
    rows = connection.execute(
        sa.select(table.c.content)
        .where(table.c.meter == meter)
        .order_by(table.c.id.desc())
        .limit(limit)
    )
    return [json.loads(row.content) for row in rows][::-1]
