"""A clock that stands still until a test moves it; the same seam as `gateway.clock`."""

import threading
from contextlib import contextmanager

START_UTC_MS = 1_767_600_000_000
"""2026-01-05 08:00 UTC."""


class ManualWorker:
    """See gateway.clock.Worker."""

    def __init__(self, clock, name):
        self.name = name
        self._clock = clock
        self.waits = False
        self.hold = False
        self.until_ms = None
        self.woken = False
        self.closed = False

    def wait(self, until_ms, hold=False):
        with self._clock.changed:
            self.waits, self.until_ms, self.hold = True, until_ms, hold
            self._clock.changed.notify_all()
            self._clock.changed.wait_for(
                lambda: (
                    self.woken
                    or self.closed
                    or (until_ms is not None and self._clock.now_ms >= until_ms)
                )
            )
            self.waits = False
            woken, self.woken = self.woken or self.closed, False
            return woken

    def wake(self):
        with self._clock.changed:
            self.woken = True
            self._clock.changed.notify_all()

    def close(self):
        with self._clock.changed:
            self.closed = True
            self._clock.workers.pop(self, None)
            self._clock.changed.notify_all()


class ManualClock:
    """See gateway.clock.Clock. Tests call `advance` and `worker_waits`."""

    def __init__(self, now_ms=START_UTC_MS):
        self.changed = threading.Condition()
        self.now_ms = now_ms
        self.workers = {}

    def utc_ms(self):
        return self.now_ms

    def worker(self, name):
        worker = ManualWorker(self, name)
        with self.changed:
            self.workers[worker] = name
        return worker

    @contextmanager
    def busy(self):
        yield

    def close(self):
        pass

    def advance(self, ms):
        """Move the time on; whoever waited for it runs."""
        with self.changed:
            self.now_ms += ms
            self.changed.notify_all()

    def worker_waits(self, name, until=False, timeout_s=20):
        """Wait until worker `name` waits (`until`: for a time that is to come); returns it."""

        def find():
            for worker in self.workers:
                if (
                    worker.name == name
                    and worker.waits
                    and not worker.woken
                    and (not until or (worker.until_ms or 0) > self.now_ms)
                ):
                    return worker
            return None

        with self.changed:
            found = self.changed.wait_for(find, timeout_s)
        assert found, f"{name} does not wait"
        return found
