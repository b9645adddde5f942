"""The clock seam: every wait, timer, retry and timestamp of the gateway goes through it.

Two implementations outside the tests: `RealClock` here, and
`boards.emulated.sim_clock.ConductedClock` for simulated time. A *worker* is a thread that waits; a
worker that does not wait is busy, and while anybody is busy simulated time stands still. `wake`
marks the worker busy at once, in the caller's thread, so that handing work over loses no time.
`hold=True` says that a peer's answer is awaited: simulated time stands still meanwhile.

`utc_ms` is right in a worker that is not waiting and inside `busy()`; elsewhere simulated time may
be out of date. Network time-outs of single socket operations are real time: they guard against
dead peers and decide nothing. Tests: host_tests/gateway/test_clock.py.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Worker(Protocol):
    """One waiting thread of a clock."""

    def wait(self, until_ms: int | None, hold: bool = False) -> bool:
        """Wait until `wake` or the time `until_ms` (UTC ms; None: for ever).

        True means woken (also by a `wake` before the call, which is used up), False that the time
        has come. After `close` it returns True at once.
        """

    def wake(self) -> None:
        """End the present or the next wait; from any thread."""

    def close(self) -> None:
        """The worker's thread ends: nobody waits for it any more."""


class Clock(Protocol):
    """What the gateway needs to know of time."""

    def utc_ms(self) -> int:
        """UTC milliseconds since 1970-01-01."""

    def worker(self, name: str) -> Worker:
        """A new worker; it counts as busy until it waits."""

    def busy(self) -> AbstractContextManager[None]:
        """While inside, simulated time stands still; for work outside the workers' threads."""

    def close(self) -> None:
        """Leave the clock; simulated time goes on without this process."""


class RealWorker:
    """A worker in real time."""

    def __init__(self, clock: RealClock) -> None:
        self._clock = clock
        self._condition = threading.Condition()
        self._woken = False
        self._closed = False

    def wait(self, until_ms: int | None, hold: bool = False) -> bool:
        with self._condition:
            # The span is fixed when the wait begins: a step of the system's clock does not
            # lengthen a wait.
            timeout_s = None
            if until_ms is not None:
                timeout_s = max(0, until_ms - self._clock.utc_ms()) / 1000
            woken = self._condition.wait_for(lambda: self._woken or self._closed, timeout_s)
            self._woken = False
            return woken

    def wake(self) -> None:
        with self._condition:
            self._woken = True
            self._condition.notify()

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify_all()


class RealClock:
    """The system's clock."""

    def utc_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def worker(self, name: str) -> RealWorker:
        return RealWorker(self)

    @contextmanager
    def busy(self) -> Iterator[None]:
        yield

    def close(self) -> None:
        """Nothing to leave."""


def wait_until(clock: Clock, worker: Worker, until_ms: int, stop: threading.Event) -> None:
    """Wait until `until_ms` whatever wakes the worker, or until `stop` is set (and it is woken)."""
    while not stop.is_set() and clock.utc_ms() < until_ms:
        worker.wait(until_ms)


async def pause_for_eyes(seconds: float) -> None:
    """Real seconds between two pictures for a person at a browser.

    The only wait beside the clock: it limits how often a page is redrawn when simulated time races
    and decides nothing.
    """
    await asyncio.sleep(seconds)
