"""The order desk: publishes each meter's orders, one in flight, until the meter has answered.

One worker for all meters. An order goes out when its meter is online, again on every reconnect
and after a time-out, always under the same id and counter. While a live meter owes an answer,
simulated time is held; a meter that stays deaf for `HELD_ATTEMPTS` publications no longer stops the
clock. Tests: host_tests/gateway/test_orders.py.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from firmware.link import codec
from gateway import kinds, orders
from gateway.clock import Clock, wait_until
from gateway.errors import GatewayError, StoreBusy
from gateway.meters import Meters
from gateway.store import Store
from gateway.thread import WorkerThread
from gateway.writer import Writer

log = logging.getLogger("gateway.desk")

ANSWER_TIMEOUT_MS = 10_000
BACKOFF_SHIFT_MAX = 5
"""The time-out doubles with each attempt, up to 320 s."""
HELD_ATTEMPTS = 2
RETRY_MS = 1_000


class Publisher(Protocol):
    """What the desk needs of the transport."""

    def publish(self, topic: str, payload: bytes, qos: int) -> bool:
        """Send; False if there is no connection."""


class Line:
    """What is known of one meter: is it there, and which order waits for its answer."""

    def __init__(self) -> None:
        self.online = False
        self.sure = False  # heard from, and not only remembered by the broker
        self.in_flight = ""
        self.attempts = 0  # since the meter came online
        self.deadline_ms = 0

    def put_down(self) -> None:
        """Nothing is in flight any more."""
        self.in_flight = ""
        self.attempts = 0


class Desk:
    """Owns the worker thread and the lines."""

    def __init__(
        self,
        clock: Clock,
        store: Store,
        writer: Writer,
        publisher: Publisher,
        meters: Meters,
        on_change: Callable[[list[str]], None],
    ) -> None:
        """`on_change` gets the ids of orders that were published or have expired."""
        self._clock = clock
        self._store = store
        self._writer = writer
        self._publisher = publisher
        self._meters = meters
        self._on_change = on_change
        self._lines: dict[str, Line] = {}
        self._changed: set[str] = set()
        self._lock = threading.Lock()
        self._thread = WorkerThread(clock, "orders", self._run)
        self._worker, self._stop = self._thread.worker, self._thread.stopping

    def start(self) -> None:
        """Begin to publish."""
        self._thread.start()

    def stop(self) -> None:
        """End; open orders stay in the database."""
        self._thread.stop()

    def link(self, meter: str, online: bool, sure: bool = True) -> None:
        """A meter connected (again) or is gone; not `sure`: the broker remembers it as connected.

        A broker that was killed remembers what is no longer so: time is not held for that.
        """
        with self._lock:
            line = self._lines.setdefault(meter, Line())
            was_unsure, line.sure = line.online and not line.sure, sure
            if online and was_unsure and sure:
                return  # what was published when it was not sure was published
            line.online = online
            # A new connection may have lost what was under way: publish again at once.
            line.put_down()
            self._changed.add(meter)
        self._worker.wake()

    def changed(self, meter: str) -> None:
        """The meter's orders changed: a new one, an answer, a cancellation."""
        with self._lock:
            self._changed.add(meter)
        self._worker.wake()

    def broker_lost(self) -> None:
        """Nobody can be reached; the links are told anew (retained) after the reconnection."""
        with self._lock:
            for line in self._lines.values():
                line.online = False
                line.put_down()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                until_ms, hold = self._round()
            except GatewayError as error:
                log.error("orders wait: %s", error)
                until = self._clock.utc_ms() + RETRY_MS
                wait_until(self._clock, self._worker, until, self._stop)
                with self._lock:
                    self._changed.update(self._lines)
                continue
            self._worker.wait(until_ms, hold=hold)

    def _round(self) -> tuple[int | None, bool]:
        """Serve every meter whose turn it is; returns until when to wait, and whether to hold."""
        now_ms = self._clock.utc_ms()
        expiry_ms = self._expire(now_ms)
        with self._lock:
            due = {
                meter
                for meter, line in self._lines.items()
                if line.online and line.in_flight and line.deadline_ms <= now_ms
            }
            todo = sorted(self._changed | due)
            self._changed.clear()
        for meter in todo:
            try:
                self._serve(meter, now_ms)
            except StoreBusy:
                raise
            except GatewayError as error:
                # What is wrong with one meter must not stop the others' orders.
                log.error("%s: its orders cannot be sent: %s", meter, error)
                with self._lock:
                    self._lines[meter].put_down()
        with self._lock:
            waiting = [line for line in self._lines.values() if line.online and line.in_flight]
            hold = any(line.sure and line.attempts <= HELD_ATTEMPTS for line in waiting)
        times = [line.deadline_ms for line in waiting]
        if expiry_ms is not None:
            times.append(expiry_ms)
        return min(times, default=None), hold

    def _expire(self, now_ms: int) -> int | None:
        """End what expired before it was sent; returns when the next order does."""
        with self._store.reading() as connection:
            expiry_ms = orders.next_expiry_ms(connection)
        if expiry_ms is None or expiry_ms > now_ms:
            return expiry_ms
        expired = self._writer.write(lambda c: orders.expire(c, now_ms))
        log.warning("%d orders expired before they were sent", len(expired))
        self._on_change(expired)
        with self._store.reading() as connection:
            return orders.next_expiry_ms(connection)

    def _serve(self, meter: str, now_ms: int) -> None:
        with self._lock:
            line = self._lines.setdefault(meter, Line())
            if not line.online:
                return
            in_flight, deadline_ms = line.in_flight, line.deadline_ms
            attempt = line.attempts if in_flight else 0
        with self._store.reading() as connection:
            order = orders.next_open(connection, meter)
        if order is None:
            with self._lock:
                line.put_down()
            return
        # Counter 0: answered `old`, goes out anew at once.
        if order.id == in_flight and order.counter and now_ms < deadline_ms:
            return
        generation, key = self._meters.keys(meter).attempt(attempt)
        wanted = order
        published = self._writer.write(lambda c: orders.mark_sent(c, wanted.id, generation, now_ms))
        if published is None:  # cancelled in between
            self.changed(meter)
            return
        with self._lock:
            if line.in_flight != order.id:
                line.put_down()
            line.in_flight = order.id
            line.attempts += 1
            timeout_ms = ANSWER_TIMEOUT_MS << min(line.attempts - 1, BACKOFF_SHIFT_MAX)
            line.deadline_ms = now_ms + timeout_ms
        message = codec.sign(key, meter, self._payload(published, key, now_ms))
        if self._publisher.publish(codec.topic(meter, "order"), message, 1):
            log.info(
                "%s: %s %s sent (counter %d, attempt %d)",
                meter,
                order.kind,
                order.id,
                published.counter,
                published.attempts,
            )
            self._on_change([order.id])

    def _payload(self, order: orders.Open, key: bytes, now_ms: int) -> bytes:
        """The bytes to sign and send."""
        meters = self._meters
        secret = meters.open(order.secret_sealed) if order.secret_sealed else None
        salt = meters.salt(order.meter, order.members.get("generation", 0))
        members = kinds.wire(order.kind, order.members, secret, key, salt, now_ms)
        return kinds.payload(order.meter, order.id, order.counter, order.kind, members)
