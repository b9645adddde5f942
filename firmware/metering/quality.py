"""Conditions of supply and meter that are told when they occur and when they are over.

A condition occurs when it lasts without a break for its persistence time, and is over when the
value has been back behind the hysteresis for as long. Samples that are missing break it; what was
there before them stands. Integers below 2**30, nothing allocated for a sample.
Tests: host_tests/property/test_watch_model.py, host_tests/unit/test_quality.py.
"""

from firmware.core.events import OCCURRENCES, RESTORATIONS
from firmware.core.shim import const

# Numbers of conditions: places in OCCURRENCES. metering/tamper.py has the rest.
_OVER_VOLTAGE = const(0)
_LOW_VOLTAGE = const(1)
_OVER_CURRENT = const(2)
_OVERLOAD = const(3)
_SWITCHES = const(6)  # from here on they are not judged by samples
_COUNT = const(8)

_PRESENT = const(1)  # as the samples say
_TOLD = const(2)  # as the journal's events say
_DUE = const(4)  # occurred, and not told yet


class Watches:
    """All conditions, by number. An occurrence that is over before it could be told is told all the
    same, with its restoration behind it."""

    def __init__(self):
        # Lists, as an object for each condition would take 1 kB of heap.
        self._states = [0] * _COUNT
        self._levels = [0] * _COUNT
        self._worst = [0] * _COUNT
        self._lasts_ms = [-1] * _COUNT  # -1: no change is on its way

    def add(self, number, value, level, hysteresis, persist_ms, dt_ms):
        """One value of a condition that holds above `level`, and not any more at `hysteresis` below
        it; `dt_ms` after the one before (0: a new stretch begins). The limits may change."""
        state = self._states[number]
        if state & _PRESENT:
            turns = value <= level - hysteresis
            if value > self._worst[number]:
                self._worst[number] = value
        else:
            turns = value > level
        lasts_ms = -1
        if turns:
            lasts_ms = self._lasts_ms[number]
            lasts_ms = lasts_ms + dt_ms if lasts_ms >= 0 and dt_ms else 0
            if lasts_ms >= persist_ms:
                lasts_ms = -1
                state ^= _PRESENT
                if state & _PRESENT:
                    self._levels[number] = level
                    self._worst[number] = value
                    if not state & _TOLD:
                        state |= _DUE
                self._states[number] = state
        self._lasts_ms[number] = lasts_ms

    def forget_samples(self):
        """There are no present values: nothing lasts any longer, nothing ends."""
        for number in range(_SWITCHES):
            self._lasts_ms[number] = -1

    def news(self):
        """Code of an event to be told now, 0 for none."""
        for number in range(_COUNT):
            state = self._states[number]
            if state & _TOLD:
                if not state & _PRESENT:
                    return RESTORATIONS[number]
            elif state & _DUE:
                return OCCURRENCES[number]
        return 0

    def detail(self, code):
        """What goes with that event: the limit at an occurrence, the worst value at the end."""
        if code in OCCURRENCES:
            return abs(self._levels[OCCURRENCES.index(code)])
        number = RESTORATIONS.index(code)
        return abs(self._worst[number]) if number < _SWITCHES else 0

    def take(self, code):
        """An event is on flash: live, and at recovery, where it stands for the samples too."""
        if code in OCCURRENCES:
            number = OCCURRENCES.index(code)
            if self._states[number] & _DUE:  # it may be over by now
                self._states[number] ^= _DUE | _TOLD
            else:
                self._states[number] = _PRESENT | _TOLD
        elif code in RESTORATIONS:
            self._states[RESTORATIONS.index(code)] = 0

    def standing(self):
        """Codes of the occurrences that were told and are not over."""
        return [OCCURRENCES[number] for number in range(_COUNT) if self._states[number] & _TOLD]


def judge(watches, config, energy, dt_ms):
    """Judges the supply by the last sample, `dt_ms` after the one before (0: a new stretch)."""
    persist_ms = config.quality_persist_s * 1000
    volts = config.voltage_hysteresis_mv
    voltage_mv = energy.voltage_mv
    watches.add(_OVER_VOLTAGE, voltage_mv, config.over_voltage_mv, volts, persist_ms, dt_ms)
    low_mv = config.low_voltage_mv
    # No mains meter works at half of it: on the bench there is no supply then. The limit itself
    # neither begins nor ends a low voltage.
    seen_mv = voltage_mv if voltage_mv * 2 > low_mv else low_mv
    watches.add(_LOW_VOLTAGE, -seen_mv, -low_mv, max(1, volts), persist_ms, dt_ms)
    level_ma = config.over_current_ma or 3 * config.basic_current_ma
    current_ma = energy.current_ua // 1000
    watches.add(
        _OVER_CURRENT, current_ma, level_ma, config.current_hysteresis_ma, persist_ms, dt_ms
    )
    load_w = config.sanctioned_load_w
    power_w = energy.power_mw // 1000
    if not load_w or (energy.reversed and config.export_counts):
        power_w = -load_w  # no load that could be too high: what stands ends
    watches.add(_OVERLOAD, power_w, load_w, load_w // 20, persist_ms, dt_ms)
