"""A thread that waits on the clock: started at most once, stopped from outside, waited for.

`run` gets going with `start` and looks at `stopping` whenever its worker wakes.
Tests: whoever uses it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from gateway.clock import Clock


class WorkerThread:
    """Thread, worker and stop flag as one."""

    def __init__(self, clock: Clock, name: str, run: Callable[[], None]) -> None:
        self.worker = clock.worker(name)
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=run, name=name, daemon=True)

    @property
    def started(self) -> bool:
        """True from `start` on."""
        return self._thread.ident is not None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Have `run` return soon."""
        self.stopping.set()
        self.worker.wake()

    def stop(self, timeout_s: float | None = None) -> None:
        """Have `run` return and wait for it (at most `timeout_s` of real time)."""
        self.ask_to_stop()
        if self.started:
            self._thread.join(timeout_s)
        self.worker.close()
