"""Makes the contact follow what the records say, and tells what it did.

Who decides calls `want` when the decision is on flash; the contact moves at once, and again each
minute while it does not follow. No rule is in here, and nothing is decided.
Tests: host_tests/unit/test_meter.py, test_storage_faults.py, test_tamper.py.
"""

from firmware.core import events
from firmware.core.shim import const

_RETRY_MS = const(60000)


class Contactor:
    """driver: a relay.driver.RelayDriver; clock: core.wallclock.WallClock; note: function of an
    event's code and detail that persists it, False if it cannot be now."""

    def __init__(self, driver, clock, note):
        self._driver = driver
        self._clock = clock
        self._note = note
        self._wanted = 1
        self._started = False
        self._operated_up_ms = None
        self._told = None  # what the last event said, None: that the contact did not follow
        self.seen = 1  # when the relay last stood still

    def want(self, contact):
        """The contact shall be closed (1) or open (0). Before `start` nothing moves."""
        if contact != self._wanted:
            self._wanted = contact
            if self._started:
                self._operate()

    def start(self):
        """Puts the contact where it shall be; does not write."""
        self._started = True
        if self._driver.contact() != self._wanted:
            self._driver.operate(self._wanted)
        self._told = self._wanted

    def finish(self):
        """Ends the operation, PULSE_MS after it began, and tells what the contact did."""
        self._driver.finish()
        self.step()

    def step(self):
        """Tells once what the contact did; tries again while it does not follow."""
        if self._driver.busy:
            return
        wanted = self._wanted
        contact = self._driver.contact()
        if contact is None:
            contact = wanted
        self.seen = contact
        if contact == wanted:
            if contact != self._told and self._note(
                events.CONNECTED if contact else events.DISCONNECTED, 0
            ):
                self._told = contact
            return
        if self._told is not None and self._note(events.SWITCH_WELD, wanted):
            self._told = None
        if self._operated_up_ms is None or self._clock.up_ms() - self._operated_up_ms >= _RETRY_MS:
            self._operate()

    def _operate(self):
        self._operated_up_ms = self._clock.up_ms()
        self._driver.operate(self._wanted)
