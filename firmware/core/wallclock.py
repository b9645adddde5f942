"""Uptime and UTC of the meter, from ticks; the time of day may be unknown.

Energy runs on ticks, never on the time of day. All spans are integers of ms.
Tests: host_tests/unit/test_wallclock.py.
"""

from firmware.core.shim import const

# 2024-01-01 to 2100-01-01: outside, the clock of a chip was not set or has gone mad.
PLAUSIBLE_UTC_S = (1704067200, 4102444800)

_TICKS_MASK = const(0x3FFFFFFF)


class WallClock:
    """`ticks_ms()` counts ms modulo 2**30 (as `time.ticks_ms`); it must be looked at more often
    than every 12 days, which the sampling does."""

    def __init__(self, ticks_ms):
        self._ticks_ms = ticks_ms
        self._last_ticks = ticks_ms()
        self._up_ms = 0
        self._utc_at_boot_ms = None

    def up_ms(self):
        """ms since this boot began."""
        ticks = self._ticks_ms()
        self._up_ms += ticks - self._last_ticks & _TICKS_MASK
        self._last_ticks = ticks
        return self._up_ms

    def up_s(self):
        """Seconds since this boot began."""
        return self.up_ms() // 1000

    def utc_s(self):
        """UTC seconds since 1970, or None while the time is unknown."""
        if self._utc_at_boot_ms is None:
            return None
        return (self._utc_at_boot_ms + self.up_ms()) // 1000

    def set_utc_ms(self, utc_ms):
        """Sets the time; returns the step in ms, or None if the time was unknown."""
        at_boot_ms = utc_ms - self.up_ms()
        step_ms = None if self._utc_at_boot_ms is None else at_boot_ms - self._utc_at_boot_ms
        self._utc_at_boot_ms = at_boot_ms
        return step_ms
