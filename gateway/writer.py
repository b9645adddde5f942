"""The one writer thread: group commit for messages and jobs, effects after the commit.

Everything that writes goes through here. What is waiting when the thread looks is done in one
transaction; only after its commit are messages acknowledged, futures answered and others told.
If the commit fails (disk full), messages are kept and tried again; jobs are told so at once.
Tests: host_tests/gateway/test_ingest.py.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.clock import Clock, wait_until
from gateway.errors import GatewayError, StoreBusy
from gateway.store import Store
from gateway.thread import WorkerThread
from gateway.transport import Incoming

log = logging.getLogger("gateway.writer")

GROUP_MAX = 1_000
"""Messages and jobs in one transaction: bounds its length and the memory it takes."""
QUEUE_MAX = 20_000
"""Waiting messages; above it the network thread waits, so the broker queues instead of us."""
BACKOFF_MIN_MS = 1_000
BACKOFF_MAX_MS = 30_000

CANNOT_WRITE = "the database cannot be written"

T = TypeVar("T")
Effect = Callable[[], None]


class Handler(Protocol):
    """Stores messages (`gateway.ingest.Ingest`)."""

    def needs_commit(self, message: Incoming) -> bool:
        """False for values that live in memory only."""

    def handle(
        self, connection: Connection, messages: list[Incoming], now_utc_ms: int
    ) -> list[Effect]:
        """Store messages; what it returns is called in order after the commit."""

    def quarantine(
        self, connection: Connection, message: Incoming, error: Exception, now_utc_ms: int
    ) -> None:
        """Store a message that `handle` failed on."""

    def forget(self) -> None:
        """The transaction was rolled back: drop everything known from it."""


class Job:
    """A function that writes, with its result to come."""

    def __init__(self, work: Callable[[Connection], Any]) -> None:
        self.work = work
        self.future: Future[Any] = Future()


class Writer:
    """Owns the thread and the queue."""

    def __init__(self, clock: Clock, store: Store) -> None:
        self._clock = clock
        self._store = store
        self._queue: deque[Incoming | Job] = deque()
        self._room = threading.Condition()
        self._handler: Handler | None = None
        self._acknowledge: Callable[[list[Incoming]], None] = lambda messages: None
        self._failing = False
        self._jobs_lock = threading.Lock()
        self.dropped_live = 0
        self.commit_failures = 0
        self._thread = WorkerThread(clock, "writer", self._run)
        self._worker, self._stop = self._thread.worker, self._thread.stopping

    def start(
        self,
        handler: Handler | None = None,
        acknowledge: Callable[[list[Incoming]], None] | None = None,
    ) -> None:
        """Begin. `acknowledge` gets the committed messages of QoS 1."""
        self._handler = handler
        if acknowledge is not None:
            self._acknowledge = acknowledge
        self._thread.start()

    def stop(self) -> None:
        """Finish what is waiting, then end."""
        self._thread.ask_to_stop()
        with self._room:
            self._room.notify_all()
        self._thread.stop()

    @property
    def waiting(self) -> int:
        """Messages and jobs not yet taken up."""
        return len(self._queue)

    def put(self, message: Incoming) -> None:
        """Queue a message; from the network thread.

        At the bound a message of QoS 0 is dropped and counted, one of QoS 1 waits for room: the
        broker keeps what we do not read.
        """
        if len(self._queue) >= QUEUE_MAX:
            if message.qos == 0:
                self.dropped_live += 1
                return
            with self._room:
                self._room.wait_for(lambda: len(self._queue) < QUEUE_MAX or self._stop.is_set())
        self._queue.append(message)
        self._worker.wake()

    def submit(self, work: Callable[[Connection], T]) -> Future[T]:
        """Have `work(connection)` done in the writer's transaction.

        The future has its result after the commit. A GatewayError that `work` raises undoes what it
        did and is the future's exception; StoreBusy if the database cannot be written.
        """
        job = Job(work)
        with self._jobs_lock:
            if self._stop.is_set():
                job.future.set_exception(StoreBusy("the gateway is stopping"))
            elif self._failing:
                job.future.set_exception(StoreBusy(CANNOT_WRITE))
            else:
                self._queue.append(job)
                self._worker.wake()
        return job.future

    def write(self, work: Callable[[Connection], T]) -> T:
        """`submit` and wait for the result."""
        return self.submit(work).result()

    def _run(self) -> None:
        while True:
            group = self._take()
            if group:
                self._store_group(group)
            elif self._stop.is_set():
                return
            else:
                self._worker.wait(None)

    def _take(self) -> list[Incoming | Job]:
        group: list[Incoming | Job] = []
        while self._queue and len(group) < GROUP_MAX:
            group.append(self._queue.popleft())
        if group:
            with self._room:
                self._room.notify_all()
        return group

    def _store_group(self, group: list[Incoming | Job]) -> None:
        backoff_ms = BACKOFF_MIN_MS
        while group:
            try:
                effects = self._transaction(group)
            except sa.exc.DBAPIError as error:
                self.commit_failures += 1
                log.error("the database cannot be written: %s", error.orig)
                if self._handler is not None:
                    self._handler.forget()
                group = self._refuse_jobs(group)
                if self._stop.is_set():
                    return
                wait_until(self._clock, self._worker, self._clock.utc_ms() + backoff_ms, self._stop)
                backoff_ms = min(backoff_ms * 2, BACKOFF_MAX_MS)
            else:
                self._failing = False
                for effect in effects:
                    _call(effect)
                return
        self._failing = False  # only jobs were in it: the next one tries anew

    def _refuse_jobs(self, group: list[Incoming | Job]) -> list[Incoming | Job]:
        """Tell everybody who waits that nothing can be written; gives back the messages.

        Messages stay ours and unacknowledged until they are stored. Until then new jobs are
        refused at once: a person gets an error, not silence.
        """
        messages: list[Incoming | Job] = [item for item in group if isinstance(item, Incoming)]
        with self._jobs_lock:
            self._failing = True
            for item in [*group, *self._queue.copy()]:
                if isinstance(item, Job) and not item.future.done():
                    item.future.set_exception(StoreBusy(CANNOT_WRITE))
        return messages

    def _transaction(self, group: list[Incoming | Job]) -> list[Effect]:
        """Do a group in one transaction; the effects wait for its end."""
        handler = self._handler
        if handler is not None and not any(
            isinstance(item, Job) or handler.needs_commit(item) for item in group
        ):
            with self._store.reading() as connection:
                messages = [item for item in group if isinstance(item, Incoming)]
                return handler.handle(connection, messages, self._clock.utc_ms())
        effects: list[Effect] = []
        answers: list[Effect] = []
        with self._store.writer.begin() as connection:
            position = 0
            while position < len(group):
                item = group[position]
                if isinstance(item, Job):
                    if not item.future.done():  # refused while it waited
                        answers.append(_do(connection, item))
                    position += 1
                    continue
                messages = []
                while position < len(group):
                    following = group[position]
                    if isinstance(following, Job):
                        break
                    messages.append(following)
                    position += 1
                effects += self._do_messages(connection, messages)
        # The transaction is committed. Others are woken before a meter hears anything, so that in
        # simulated time nothing can slip between; answers to API calls come last.
        committed = [item for item in group if isinstance(item, Incoming) and item.qos]
        return [lambda: self._acknowledge(committed), *effects, *answers]

    def _do_messages(self, connection: Connection, messages: list[Incoming]) -> list[Effect]:
        assert self._handler is not None  # messages come only after start with a handler
        now_ms = self._clock.utc_ms()
        try:
            with connection.begin_nested():
                return self._handler.handle(connection, messages, now_ms)
        except sa.exc.OperationalError:
            raise
        except Exception as error:
            # One message that our code cannot take must not stop the others: one by one, and the
            # culprit goes to quarantine.
            log.exception("storing %d messages failed, trying one by one", len(messages))
            self._handler.forget()
            if len(messages) > 1:
                effects: list[Effect] = []
                for message in messages:
                    effects += self._do_messages(connection, [message])
                return effects
            self._handler.quarantine(connection, messages[0], error, now_ms)
            return []


def _call(effect: Effect) -> None:
    try:
        effect()
    except Exception:
        # What is stored is stored; a fault in telling others must not end the writer.
        log.exception("an effect of a commit failed")


def _do(connection: Connection, job: Job) -> Effect:
    try:
        with connection.begin_nested():
            result = job.work(connection)
    except sa.exc.OperationalError:
        raise
    except GatewayError as error:
        refusal = error
        return lambda: job.future.set_exception(refusal)
    except Exception as error:
        log.exception("a write failed")
        failure = error
        return lambda: job.future.set_exception(failure)
    return lambda: job.future.set_result(result)
