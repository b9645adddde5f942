"""The warnings of one meter: each when its threshold is crossed, and again after a clear recovery.

Invariants
  - What was told follows from the events, live as at recovery: a restart tells nothing twice.
  - In payment mode credit there is none.

docs/SPEC.md section 4.4 is the prose. Tests: host_tests/unit/test_warning.py.
"""

from firmware.core import civil, events
from firmware.core.shim import const

_LOW = const(1)  # bits of `told`
_NIGHT_BEGIN_MIN = const(1320)
_NIGHT_END_MIN = const(420)

# Beeps by the code of the event.
_BEEPS = {
    events.LOW_CREDIT: 2,
    events.EMERGENCY_OFFERED: 3,
    events.CREDIT_EXHAUSTED: 5,
    events.GRACE_OVER: 8,
}


class Warnings:
    """What a Meter has told its consumer, and what is to be sounded."""

    def __init__(self, meter):
        self._meter = meter
        self.told = 0  # bits of thresholds that were told and are not recovered from
        self.offered = False  # the emergency credit was offered
        self.beeps = 0  # to be sounded, unless it is night

    def state(self):
        """The state as a list for a snapshot; `restore` takes it back."""
        return [self.told, self.offered]

    def restore(self, state):
        """Takes what `state` gave."""
        self.told, self.offered = state

    def apply(self, record):
        """Takes a journal record: live after it is written, and at recovery."""
        if record["type"] == "mode":
            self.told = 0
            self.offered = False
        if record["type"] != "event":
            return
        code = record["code"]
        if code == events.LOW_CREDIT:
            self.told |= _LOW
        elif code == events.EMERGENCY_OFFERED:
            self.offered = True

    def judge(self, balance_mp):
        """Tells what a balance has reached; returns the next lower one at which something is to be
        told, None if there is none. Raises StorageError."""
        low_mp = self._meter.config.low_credit_mp
        if balance_mp > low_mp:
            # Hysteresis: the next warning only after a clear recovery.
            if balance_mp > low_mp + low_mp // 10:
                self.told &= ~_LOW
        elif not self.told & _LOW:
            self._tell(events.LOW_CREDIT, low_mp)
        self._offer()
        return low_mp if balance_mp > low_mp else None

    def _offer(self):
        meter = self._meter
        selectable = meter.emergency_word() == "selectable"
        if not selectable:
            self.offered = False
        elif not self.offered:
            self._tell(events.EMERGENCY_OFFERED, meter.config.emergency_limit_mp)

    def _tell(self, code, detail):
        self._meter.event(code, detail)
        self.sound(code)

    def lamp(self, level):
        """Level of the status LED (boards/README.md) with the next sample, behind `level`."""
        if self._meter.is_out_of_credit():
            return 1
        return 1 - level if self.told or self.offered else 0

    def sound(self, code):
        """Has an event sounded as soon as it is not night; many are as loud as the loudest."""
        self.beeps = max(self.beeps, _BEEPS.get(code, 0))

    def take_beeps(self, utc_s):
        """How often to beep now, once; 0 at night. With an unknown time (None) it is day."""
        if utc_s is not None:
            minute = (utc_s + self._meter.config.utc_offset_s) % civil.DAY_S // 60
            if minute >= _NIGHT_BEGIN_MIN or minute < _NIGHT_END_MIN:
                return 0
        beeps = self.beeps
        self.beeps = 0
        return beeps
