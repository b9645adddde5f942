"""The warnings of one meter: each when its threshold is crossed, and again after a clear recovery.

Invariants
  - What was told follows from the events, live as at recovery: a restart tells nothing twice.
  - In payment mode credit there is none.

docs/SPEC.md section 4.3 is the prose. Tests: host_tests/unit/test_warning.py.
"""

from firmware import outlook
from firmware.core import civil, events
from firmware.core.shim import const

# Bits of `told`; below them those of the three percentages.
_LOW = const(8)
_DAYS = const(16)
_NIGHT_BEGIN_MIN = const(1320)
_NIGHT_END_MIN = const(420)

# Beeps by the code of the event.
_BEEPS = {
    events.LOW_CREDIT: 2,
    events.PERCENT_LEFT: 2,
    events.DAYS_LEFT: 2,
    events.EMERGENCY_OFFERED: 3,
    events.CLIFF_AHEAD: 4,
    events.CREDIT_EXHAUSTED: 5,
    events.OFFLINE_GRACE: 5,
    events.GRACE_OVER: 8,
    events.UNDATED_CUT: 10,
}


class Warnings:
    """What a Meter has told its consumer, and what is to be sounded."""

    def __init__(self, meter):
        self._meter = meter
        self.told = 0  # bits of thresholds that were told and are not recovered from
        self.offered = False  # the emergency credit was offered
        self._cliff_wh = 0  # register at the cliff that was told
        self.beeps = 0  # to be sounded, unless it is night

    def state(self):
        """The state as a list for a snapshot; `restore` takes it back."""
        return [self.told, self.offered, self._cliff_wh]

    def restore(self, state, low_warned):
        """Takes what `state` gave; None: older firmware knew only if low credit was told."""
        if state is None:
            state = [_LOW if low_warned else 0, False, 0]
        self.told, self.offered, self._cliff_wh = state

    def apply(self, record):
        """Takes a journal record: live after it is written, and at recovery."""
        if record["type"] in ("mode", "account"):
            self.told = 0
            self.offered = False
        if record["type"] != "event":
            return
        code = record["code"]
        if code == events.LOW_CREDIT:
            self.told |= _LOW
        elif code == events.DAYS_LEFT:
            self.told |= _DAYS
        elif code == events.PERCENT_LEFT:
            for percent, bit in self._percents():
                if percent >= record["detail"]:
                    self.told |= bit
        elif code == events.CLIFF_AHEAD:
            ahead = outlook.cliff(self._meter.account, record["import_wh"])
            self._cliff_wh = record["import_wh"] + ahead[0] if ahead else 0
        elif code == events.EMERGENCY_OFFERED:
            self.offered = True

    def judge(self, balance_mp):
        """Tells what a balance has reached; returns the next lower one at which something is to be
        told, None if there is none. Raises StorageError."""
        next_mp = None
        for bit, code, detail, limit_mp in self._thresholds(balance_mp):
            if balance_mp > limit_mp:
                # Hysteresis: the next warning only after a clear recovery.
                if balance_mp > limit_mp + limit_mp // 10:
                    self.told &= ~bit
                if next_mp is None or limit_mp > next_mp:
                    next_mp = limit_mp
            elif not self.told & bit:
                self._tell(code, detail)
        self._offer()
        self._look_ahead()
        return next_mp

    def _thresholds(self, balance_mp):
        """(bit, event, its detail, mp) of each threshold."""
        meter = self._meter
        config = meter.config
        rows = [(_LOW, events.LOW_CREDIT, config.low_credit_mp, config.low_credit_mp)]
        daily_mp = meter.profiles.mean_day()[1]
        if daily_mp > 0 and config.low_days:
            days = max(0, balance_mp // daily_mp)
            rows.append((_DAYS, events.DAYS_LEFT, days, config.low_days * daily_mp))
        recharge_mp = meter.account.last_recharge_mp
        if recharge_mp:
            # The lowest first: it says what the higher ones would.
            for percent, bit in self._percents():
                rows.append((bit, events.PERCENT_LEFT, percent, recharge_mp * percent // 100))
        return rows

    def _percents(self):
        """(per cent of the last recharge, bit), rising. One of 0 is told by CREDIT_EXHAUSTED."""
        config = self._meter.config
        percents = (config.warn_percent_1, config.warn_percent_2, config.warn_percent_3)
        return sorted([(percent, 1 << i) for i, percent in enumerate(percents) if percent])

    def _look_ahead(self):
        meter = self._meter
        warn_wh = meter.config.cliff_warn_kwh * 1000
        if not warn_wh:
            return
        wh = meter.energy.import_wh
        ahead = outlook.cliff(meter.account, wh)
        if ahead and ahead[0] <= warn_wh and wh + ahead[0] != self._cliff_wh:
            self._tell(events.CLIFF_AHEAD, ahead[1])

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
