"""Makes the contact follow what the records say, and tells what it did.

Who decides calls `want` when the decision is on flash. No rule is in here, and nothing is decided:
the contact only moves later than it could
  - while an operation is under way, or ended less than `operation_min_s` ago,
  - on a latching relay, before the second look after a start: a start alone moves nothing,
  - to open it again when it did not follow, while `may_open` says no,
  - after a power failure, when a street would close as one: by up to `reclose_spread_s`,
  - when it did not follow: again after 5 s, 30 s, then each minute.

What the contact did is seen at its auxiliary contact. A board without one believes its commands,
but not over a restart that may have come between a command and its event: a contact that is not
known is operated once more where it shall be closed, which does no harm.
On both the current is the witness of an opening: one that still flows 3 s later says that it did
not open. Without an auxiliary contact and without a reading nobody knows, until there is one.
Tests: host_tests/unit/test_contactor.py, host_tests/property/test_coils.py.
"""

from firmware.core import events
from firmware.core.records import REASONS
from firmware.core.shim import const
from firmware.relay.driver import PULSE_MS

_WITNESS_MS = const(3000)
_RETRY_S = (5, 30, 60)
_START = const(0)  # place in REASONS
_TEST = REASONS.index("test")


class Contactor:
    """driver: a relay.driver.RelayDriver; config: core.config.Config; clock:
    core.wallclock.WallClock; note: function of an event's code and detail that persists it, which
    calls `apply_event`, and is False if it cannot be now; may_open: function that is False while
    the contact must not be opened, though it shall be open; random_s: function of a highest value
    that draws 0 to it, None: closings are not spread.

    `seen` is where the contact last was, 1 closed, 0 open; `operations` how often it has moved;
    `failed` the event of a failure that stands, 0: none; `held_up_ms` the uptime before which a
    start does not close it.
    """

    def __init__(self, driver, config, clock, note, may_open, random_s=None):
        self._driver = driver
        self._config = config
        self._clock = clock
        self._note = note
        self._may_open = may_open
        self._random_s = random_s
        self._wanted = 1
        self._reason = _START  # of the last change of what is wanted
        self._told = None  # where the last event said that it is
        self.failed = 0
        self.operations = 0
        self.seen = 1
        self._commanded = None  # where to, as long as nothing was told of it
        self._because = _START  # the reason of that
        self._opened = False  # the last command was to open; it is proven by the current
        self._believed = None  # behind it, or without an auxiliary contact; None: not yet
        self._asked = False  # to open, which is done whatever the feedback says
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
            is_blind = self._driver.contact() is None
            if is_blind:
                self.doubt()
            self._asked = is_blind if contact else not self._opened
            # What is still to be told of an operation is told first, by `finish` or `step`.
            idle = self._looks and self._commanded is None
            if idle and (self._asked or self._look(None) != contact):
                self._move_if_due()

    def is_undone(self):
        """True at a start that finds an opening asked for, and nobody has seen it."""
        seen = self._told == 0 or (self._driver.latching and self._driver.contact() == 0)
        return not seen and self.failed != events.SWITCH_WELD

    def doubt(self):
        """What was told of the contact is not believed any more."""
        self._told = None

    def start(self, cause):
        """Begins a boot after a reset for this cause (records.CAUSES); does not write.

        A single coil is set at once. A latching relay is left as it is.
        """
        driver = self._driver
        wanted = self._wanted
        self._moved_up_ms = self._clock.up_ms()
        self._asked = False
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
        self._opened = self.failed == events.SWITCH_WELD
        if self._told == wanted:
            self._reason = _START
        self._restores = contact != wanted
        spread_s = self._config.reclose_spread_s
        if wanted and self._restores and power and spread_s and self._random_s is not None:
            self.held_up_ms = self._moved_up_ms + self._random_s(spread_s) * 1000
        elif not driver.latching:
            if not self._restores:
                driver.operate(wanted)
            elif wanted or self._may_open():
                self._operate()

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
        """Seconds until it may open, 0: now. A start counts as an operation, and none does behind
        which the contact did not follow."""
        if self._tries > 1:
            return 0
        left_ms = self._moved_up_ms - self._clock.up_ms() + self._config.operation_min_s * 1000
        return max(0, (left_ms + 999) // 1000)

    def _watch(self, current_ua):
        if self._driver.busy:
            if self._clock.up_ms() - self._moved_up_ms < 10 * PULSE_MS:
                return
            self._driver.finish()  # nobody came
        feedback = self._driver.contact()
        contact = self._look(current_ua)
        if feedback is not None:
            self.seen = feedback
        elif contact is not None:
            self.seen = contact
        if contact is None:
            if self._wanted and (self._since_ms() >= _WITNESS_MS or not self.interval_s()):
                self._commanded = None  # of an opening that nobody has seen
                self._move_if_due()
            return
        if self.failed and contact == (1 if self.failed == events.NOT_CLOSED else 0):
            self._note(events.CONTACT_WORKS, self.failed)
        commanded = self._commanded
        reason = self._because
        if contact == self._wanted:
            self._tries = 0
            self._restores = False
            if commanded is None and contact != self._told and not self._asked:
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
        # What only the current denies may be open: to close it once more does no harm.
        denied = self._wanted and self._opened and not feedback
        if contact != self._wanted or denied or self._asked:
            self._move_if_due()

    def _look(self, current_ua):
        """Where the contact is, None if that is not known yet."""
        contact = self._driver.contact()
        if contact is not None and (contact or not self._opened):
            return contact
        if self._believed is None:
            waited = self._since_ms() >= _WITNESS_MS
            if current_ua is None:
                if waited and contact is not None:
                    self._believed = contact
            elif current_ua <= self._config.creep_ua():
                if waited or contact is not None:
                    self._believed = 0
            elif waited:
                self._believed = 1
        return self._believed

    def _since_ms(self):
        return self._clock.up_ms() - self._moved_up_ms

    def _move_if_due(self):
        wanted = self._wanted
        if self._tries:
            due = self._since_ms() >= _RETRY_S[min(self._tries, len(_RETRY_S)) - 1] * 1000
        elif self._clock.up_ms() < self.held_up_ms:
            due = False
        else:
            due = self._restores or not self.interval_s()
            if wanted and (not self._operated or self._because == _TEST):
                due = True  # a test leaves nobody in the dark
        if due and (wanted or self._may_open()):
            self._operate()
        elif due and self._opened and self._driver.contact() != 0:
            # Else a weld that gives way would open by itself: the armature pulls at it.
            self._commanded = None
            self._drive(1)

    def _operate(self):
        self._tries += 1
        self._operated = True
        self._asked = False
        self._commanded = self._wanted
        self._because = self._reason
        self._drive(self._wanted)

    def _drive(self, contact):
        self._moved_up_ms = self._clock.up_ms()
        self._opened = not contact
        self._believed = 1 if contact else None
        self._driver.operate(contact)
