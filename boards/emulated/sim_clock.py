"""The conducted clock for CPython participants with several threads (gateway, scenario).

One connection and one background thread per clock. The participant is idle when every worker
waits and no `busy()` is open; then time may move. The gateway's real-time clock has the same
methods. Tests: host_tests/system/test_conductor.py.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

SIGN_OF_LIFE_S = 1.0  # of the wall clock; well below the conductor's cap


class ClockGone(ConnectionError):
    """The conductor refused or ended; there is no time to go by any more."""


class Worker:
    """One thread's place in the clock; busy whenever it does not wait. Made by `worker()`."""

    def __init__(self, clock: ConductedClock, name: str) -> None:
        self.name = name
        self._clock = clock
        self._waits = False
        self._until_ms: int | None = None
        self._hold = False
        self._woken = False
        self._closed = False
        # Of its own: whoever is not concerned sleeps on.
        self._called = threading.Condition(clock._changed)

    def wait(self, until_ms: int | None, hold: bool = False) -> bool:
        """Wait for `wake()` (True) or for the simulated time (False; None: never).

        hold: a peer's answer is awaited, so nobody's time may move meanwhile; `until_ms` counts
        only when the conductor passes over a peer that is deaf. A `wake()` before the call is
        not lost. Raises ClockGone.
        """
        return self._clock._wait(self, until_ms, hold)

    def wake(self) -> None:
        """End the `wait()`, from any thread. From now until it waits again time stands still."""
        self._clock._wake(self)

    def _is_due(self) -> bool:
        return self._until_ms is not None and self._until_ms <= self._clock._now_ms

    def close(self) -> None:
        """The thread ends or will not come back: nobody waits for it any more. Idempotent."""
        self._clock._close_worker(self)


class ConductedClock:
    """Participant `name` of the conductor at `address` (host, port).

    While pieces of work end and others go on it says so now and then: who is busy for long because
    there is much to do must not be taken for deaf. wall_s: the wall clock.

    Raises ClockGone if the conductor refuses (the name is taken), OSError if it is not there.
    """

    def __init__(
        self,
        address: tuple[str, int],
        name: str,
        wall_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall_s = wall_s
        self._said_s = wall_s()
        self._socket = socket.create_connection(address, timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(None)
        self._lines = self._socket.makefile("rb")
        self._changed = threading.RLock()
        self._answered = threading.Condition(self._changed)
        self._workers: list[Worker] = []
        self._busy_count = 0
        self._now_ms = 0
        self._last_id = 0
        self._answered_id = -1
        self._idle_sent = False
        self._gone: str | None = None
        self._socket.sendall(f"join {name}\n".encode())
        self._take(self._lines.readline())
        if self._gone is not None:
            self._shut()
            raise ClockGone(self._gone)
        self._thread = threading.Thread(target=self._read, name=f"clock {name}", daemon=True)
        self._thread.start()

    def utc_ms(self) -> int:
        """Simulated ms since the Unix epoch; exact in a busy worker and inside `busy()`."""
        return self._now_ms

    def worker(self, name: str) -> Worker:
        """A new worker, busy until it waits."""
        worker = Worker(self, name)
        with self._changed:
            self._workers.append(worker)
            self._withdraw()
            self._await_answer()
        return worker

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Time stands still meanwhile (a piece of foreign work: an HTTP handler). Nestable."""
        with self._changed:
            self._busy_count += 1
            self._withdraw()
            self._await_answer()
        try:
            yield
        finally:
            with self._changed:
                self._busy_count -= 1
                self._settle()

    def close(self) -> None:
        """Leave for good; waiting workers get ClockGone. Idempotent."""
        with self._changed:
            if self._gone is None:
                self._gone = "the clock was closed"
                self._send("leave")
            self._call_all()
        self._shut()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    # Below here: called with self._changed held, unless said otherwise.

    def _wait(self, worker: Worker, until_ms: int | None, hold: bool) -> bool:
        with self._changed:
            worker._waits, worker._until_ms, worker._hold = True, until_ms, hold
            self._settle()
            while True:
                if self._gone is not None:
                    raise ClockGone(self._gone)
                # Nothing is decided before the conductor has said what time it is.
                if self._is_answered():
                    if worker._woken:
                        worker._waits = worker._woken = False
                        return True
                    if worker._is_due():
                        worker._waits = False
                        return False
                worker._called.wait()

    def _wake(self, worker: Worker) -> None:
        with self._changed:
            worker._woken = True
            if worker._waits:
                self._withdraw()
                if self._is_answered():
                    worker._called.notify()

    def _close_worker(self, worker: Worker) -> None:
        with self._changed:
            if not worker._closed:
                worker._closed = True
                self._workers.remove(worker)
                self._withdraw()
                self._settle()

    def _all_wait(self) -> bool:
        return self._busy_count == 0 and all(
            w._waits and not w._woken and not w._is_due() for w in self._workers
        )

    def _is_answered(self) -> bool:
        """Whether this process knows what time it is: it is busy, and has been told since when."""
        return not self._idle_sent and self._answered_id == self._last_id

    def _call_all(self) -> None:
        self._answered.notify_all()
        for worker in self._workers:
            worker._called.notify_all()

    def _settle(self) -> None:
        """Say `idle` if it is so and has not been said."""
        if self._gone is not None or self._idle_sent:
            return
        if not self._all_wait():
            if self._wall_s() - self._said_s >= SIGN_OF_LIFE_S:
                self._send(f"busy {self._last_id}")
            return
        untils = [w._until_ms for w in self._workers if w._until_ms is not None]
        until = str(min(untils)) if untils else "-"
        hold = any(w._hold for w in self._workers)
        self._last_id += 1
        self._idle_sent = True
        self._send(f"idle {self._last_id} {until} {int(hold)}")

    def _withdraw(self) -> None:
        """Say `busy` if `idle` was said."""
        if self._idle_sent and self._gone is None:
            self._idle_sent = False
            self._last_id += 1
            self._send(f"busy {self._last_id}")

    def _await_answer(self) -> None:
        while self._gone is None and not self._is_answered():
            self._answered.wait()
        if self._gone is not None:
            raise ClockGone(self._gone)

    def _send(self, line: str) -> None:
        self._said_s = self._wall_s()
        try:
            self._socket.sendall(line.encode() + b"\n")
        except OSError:
            self._gone = self._gone or "the conductor is gone"
            self._call_all()

    def _take(self, line: bytes) -> None:
        words = line.decode("ascii", "replace").split()
        if len(words) == 3 and words[0] == "now":
            if int(words[1]) == self._last_id:
                self._now_ms = max(self._now_ms, int(words[2]))
                self._answered_id = self._last_id
                self._idle_sent = False
        else:
            self._gone = self._gone or (" ".join(words) or "the conductor is gone")

    def _read(self) -> None:
        """The background thread (takes self._changed itself)."""
        while True:
            try:
                line = self._lines.readline()
            except (OSError, ValueError):
                line = b""
            with self._changed:
                self._take(line)
                if self._gone is not None:
                    self._call_all()
                    return
                if self._is_answered():
                    self._answered.notify_all()
                    for worker in self._workers:
                        if worker._waits and (worker._woken or worker._is_due()):
                            worker._called.notify()
                    self._settle()

    def _shut(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
