"""Makes the contact follow what the records say, and tells what it did.

Who decides calls `want` when the decision is on flash. No rule is in here, and nothing is decided:
the contact only moves later than it could
  - while an operation is under way, or ended less than `operation_min_s` ago,
  - on a latching relay, before the second look after a start: a start alone moves nothing,
  - after a power failure, when a street would close as one: by up to `reclose_spread_s`,
  - when it did not follow: again after 5 s, 30 s, then each minute.

What the contact did is seen at its auxiliary contact. A board without one believes its commands,
but current 3 s after an opening says that it did not open.
Tests: host_tests/unit/test_contactor.py, host_tests/property/test_coils.py.
"""

from firmware.core import events
from firmware.core.records import REASONS
from firmware.core.shim import const
from firmware.relay.driver import PULSE_MS

_WITNESS_MS = const(3000)
_RETRY_S = (5, 30, 60)
_START = const(0)  # place in REASONS


class Contactor:
    """driver: a relay.driver.RelayDriver; config: core.config.Config; clock:
    core.wallclock.WallClock; note: function of an event's code and detail that persists it, which
    calls `apply_event`, and is False if it cannot be now; random_s: function of a highest value
    that draws 0 to it, None: closings are not spread.

    `seen` is where the contact last was, 1 closed, 0 open; `operations` how often it has moved;
    `failed` the event of a failure that stands, 0: none; `held_up_ms` the uptime before which a
    start does not close it.
    """

    def __init__(self, driver, config, clock, note, random_s=None):
        self._driver = driver
        self._config = config
        self._clock = clock
        self._note = note
        self._random_s = random_s
        self._wanted = 1
        self._reason = _START  # of the last change of what is wanted
        self._told = None  # where the last event said that it is
        self.failed = 0
        self.operations = 0
        self.seen = 1
        self._commanded = None  # where to, as long as nothing was told of it
        self._because = _START  # the reason of that
        self._believed = None  # without an auxiliary contact; None: to be seen by the current
        self._tries = 0  # since it last was where it shall be
        self._operated = False  # in this boot
        self._moved_up_ms = 0  # when it was last operated, or the boot began
        self.held_up_ms = 0
        self._restores = False  # the boot found it elsewhere than it shall be
        self._looks = False  # from the second look of the boot

    def state(self):
        """The state as a list for a snapshot; `restore` takes it back."""
        return [self._wanted, self._reason, self._told, self.failed, self.operations]

    def restore(self, state):
        """Takes what `state` gave."""
        self._wanted, self._reason, self._told, self.failed, self.operations = state

    def apply_event(self, code, detail):
        """Takes an event: live after it is written, and at recovery."""
        if code in (events.CONNECTED, events.DISCONNECTED):
            self._told = 1 if code == events.CONNECTED else 0
            self.operations += 1
        elif code == events.SWITCH_WELD:
            # Older firmware has one event for both failures; its detail tells which.
            self.failed = events.NOT_CLOSED if detail else code
        elif code == events.NOT_CLOSED:
            self.failed = code
        elif code == events.CONTACT_WORKS:
            self.failed = 0

    def want(self, contact, reason):
        """The contact shall be closed (1) or open (0), as a record says for one of its reasons."""
        if contact != self._wanted:
            self._wanted = contact
            self._reason = REASONS.index(reason)
            self._tries = 0
            self.held_up_ms = 0
            self._restores = False
            # What is still to be told of an operation is told first, by `finish` or `step`.
            if self._looks and self._commanded is None and self._look(None) != contact:
                self._move_if_due()

    def start(self, cause):
        """Begins a boot after a reset for this cause (records.CAUSES); does not write.

        A single coil is set at once. A latching relay is left as it is.
        """
        driver = self._driver
        wanted = self._wanted
        self._moved_up_ms = self._clock.up_ms()
        driver.finish()  # a soft reset may have left a coil driven
        contact = driver.contact()
        power = cause in ("power", "brownout")
        if not driver.latching and (power or (contact is None and cause != "soft")):
            contact = 0  # nothing has held it
        if contact is None:
            contact = 1 - wanted if self._told is None else self._told
        elif self._told is None and contact == wanted:
            self._told = contact
        self._believed = self.seen = contact
        if self._told == wanted:
            self._reason = _START
        self._restores = contact != wanted
        spread_s = self._config.reclose_spread_s
        if wanted and self._restores and power and spread_s and self._random_s is not None:
            self.held_up_ms = self._moved_up_ms + self._random_s(spread_s) * 1000
        elif not driver.latching:
            if self._restores:
                self._operate()
            else:
                driver.operate(wanted)

    def finish(self):
        """Ends the operation, PULSE_MS after it began, and tells what the contact did."""
        self._driver.finish()
        if self._looks:
            self._watch(None)

    def step(self, current_ua):
        """Looks after the contact, about once a second. current_ua: as last measured, None: the
        sensor does not answer."""
        if self._looks:
            self._watch(current_ua)
        self._looks = True

    def interval_s(self):
        """Seconds until it may open, 0: now. A start counts as an operation."""
        left_ms = self._moved_up_ms - self._clock.up_ms() + self._config.operation_min_s * 1000
        return max(0, (left_ms + 999) // 1000)

    def _watch(self, current_ua):
        if self._driver.busy:
            if self._clock.up_ms() - self._moved_up_ms < 10 * PULSE_MS:
                return
            self._driver.finish()  # nobody came
        contact = self._look(current_ua)
        if contact is None:
            return
        self.seen = contact
        if self.failed and contact == (1 if self.failed == events.NOT_CLOSED else 0):
            self._note(events.CONTACT_WORKS, self.failed)
        commanded = self._commanded
        reason = self._because
        if contact == self._wanted:
            self._tries = 0
            self._restores = False
            if commanded is None and contact != self._told:
                commanded = contact  # before the boot
                reason = self._reason
        if contact == commanded:
            if self._note(events.CONNECTED if contact else events.DISCONNECTED, reason):
                self._commanded = None
        elif commanded is not None:
            failure = events.NOT_CLOSED if commanded else events.SWITCH_WELD
            told = self.failed == failure or self._note(failure, commanded)
            if told and commanded != self._wanted:
                self._commanded = None
        if contact != self._wanted:
            self._move_if_due()

    def _look(self, current_ua):
        """Where the contact is, None if that is not known yet."""
        contact = self._driver.contact()
        if contact is not None:
            return contact
        if self._believed is None:
            if self._clock.up_ms() - self._moved_up_ms < _WITNESS_MS:
                return None
            flows = current_ua is not None and current_ua > self._config.creep_ua()
            self._believed = 1 if flows else 0
        return self._believed

    def _move_if_due(self):
        up_ms = self._clock.up_ms()
        since_ms = up_ms - self._moved_up_ms
        if self._tries:
            due = since_ms >= _RETRY_S[min(self._tries, len(_RETRY_S)) - 1] * 1000
        elif up_ms < self.held_up_ms:
            due = False
        else:
            due = self._restores or (self._wanted and not self._operated) or not self.interval_s()
        if due:
            self._operate()

    def _operate(self):
        self._tries += 1
        self._operated = True
        self._moved_up_ms = self._clock.up_ms()
        self._commanded = self._wanted
        self._because = self._reason
        self._believed = 1 if self._wanted else None
        self._driver.operate(self._wanted)
