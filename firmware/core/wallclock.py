"""Uptime and UTC of the meter, moved only by `advance`; the time may be unknown.

Energy runs on ticks, never on this clock. All spans are kept in ms as integers.
"""

# 2024-01-01 to 2100-01-01: outside, the clock of a chip was not set or has gone mad.
PLAUSIBLE_UTC_S = (1704067200, 4102444800)


class WallClock:
    """`up_ms` since this boot began, and `utc_s()` once the time has been set."""

    def __init__(self):
        self.up_ms = 0
        self._utc_at_boot_ms = None

    def advance(self, dt_ms):
        """Time goes on by `dt_ms` (>= 0), as measured by ticks."""
        self.up_ms += dt_ms

    def up_s(self):
        """Seconds since this boot began."""
        return self.up_ms // 1000

    def utc_s(self):
        """UTC seconds since 1970, or None while the time is unknown."""
        if self._utc_at_boot_ms is None:
            return None
        return (self._utc_at_boot_ms + self.up_ms) // 1000

    def set_utc_ms(self, utc_ms):
        """Sets the time; returns the step in ms, or None if the time was unknown."""
        at_boot_ms = utc_ms - self.up_ms
        step_ms = None if self._utc_at_boot_ms is None else at_boot_ms - self._utc_at_boot_ms
        self._utc_at_boot_ms = at_boot_ms
        return step_ms
