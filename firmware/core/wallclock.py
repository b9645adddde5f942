"""Uptime and UTC of the meter, from ticks; the time of day may be unknown.

Energy runs on ticks, never on the time of day. All spans are integers of ms. Between two times of
the gateway UTC runs at the rate that drift.py has learnt. A small error is made up slowly: UTC
neither jumps nor goes back for it. Tests: host_tests/unit/test_wallclock.py.
"""

from firmware.core import drift
from firmware.core.drift import RATE_MAX_PPB, SLEW_PPB, STEP_MS
from firmware.core.shim import const

# 2024-01-01 to 2100-01-01: outside, the clock of a chip was not set or has gone mad.
PLAUSIBLE_UTC_S = (1704067200, 4102444800)

_TICKS_MASK = const(0x3FFFFFFF)
_LOOK_MS = const(1000)
_NVS_KEY = "drift_ppb"


class WallClock:
    """`ticks_ms()` counts ms modulo 2**30 (as `time.ticks_ms`); it must be looked at more often
    than every 12 days, which the sampling does. nvs: as esp32.NVS, keeps the crystal's rate over
    restarts; None: it is learnt anew. Attributes without a method are drift.py's."""

    def __init__(self, ticks_ms, nvs=None):
        self._ticks_ms = ticks_ms
        self._last_ticks = ticks_ms()
        self._up_ms = 0
        self._utc_at_boot_ms = None  # with the correction for drift and error as of the last look
        self._look_up_ms = 0
        self._anchor_ms = 0  # what `_utc_at_boot_ms` was at the anchor
        self.anchor_up_ms = 0
        self.owed_ms = 0  # error found then, to be made up slowly
        self.doubt_ms = 0  # how far off the time may have been then
        self.points = []
        self.odd = False  # the last point was left out
        self._nvs = nvs
        self.kept_ppb = 0
        try:
            if nvs:
                self.kept_ppb = nvs.get_i32(_NVS_KEY)
        except OSError:
            pass  # never written
        # ns to add to each second of the ticks
        self.rate_ppb = max(-RATE_MAX_PPB, min(RATE_MAX_PPB, self.kept_ppb))

    def up_ms(self):
        """ms since this boot began."""
        ticks = self._ticks_ms()
        self._up_ms += ticks - self._last_ticks & _TICKS_MASK
        self._last_ticks = ticks
        return self._up_ms

    def up_s(self):
        """Seconds since this boot began."""
        return self.up_ms() // 1000

    def utc_ms(self):
        """UTC ms since 1970, or None while the time is unknown."""
        if self._utc_at_boot_ms is None:
            return None
        up_ms = self.up_ms()
        if up_ms >= self._look_up_ms:
            self._look_up_ms = up_ms + _LOOK_MS
            span_ms = up_ms - self.anchor_up_ms
            most_ppb = span_ms * SLEW_PPB
            owed_ppb = max(-most_ppb, min(most_ppb, self.owed_ms * 1000000000))
            # Divided once: two roundings could take the clock back by a ms.
            correction_ms = (span_ms * self.rate_ppb + owed_ppb) // 1000000000
            self._utc_at_boot_ms = self._anchor_ms + correction_ms
        return self._utc_at_boot_ms + up_ms

    def utc_s(self):
        """UTC seconds since 1970, or None while the time is unknown."""
        utc_ms = self.utc_ms()
        return None if utc_ms is None else utc_ms // 1000

    def set_utc_ms(self, utc_ms):
        """Sets the time; returns the step in ms, or None if the time was unknown."""
        was_ms = self.utc_ms()
        self.points = []
        self.anchor(utc_ms, 0, STEP_MS)  # a clock chip counts whole seconds
        return None if was_ms is None else utc_ms - was_ms

    def sync(self, utc_ms, round_trip_ms):
        """Takes a time of the gateway, uncertain by half of its round trip.

        Returns the step in ms: 0 if the error was below STEP_MS, which is made up slowly; None if
        the time was unknown.
        """
        return drift.sync(self, utc_ms, round_trip_ms)

    def anchor(self, utc_ms, owed_ms, doubt_ms):
        """It is `utc_ms` now, with so much owed and in doubt."""
        up_ms = self.up_ms()
        self._utc_at_boot_ms = self._anchor_ms = utc_ms - up_ms
        self.anchor_up_ms = self._look_up_ms = up_ms
        self.owed_ms = owed_ms
        self.doubt_ms = doubt_ms

    def keep_rate(self):
        """Writes the rate to NVS."""
        self.kept_ppb = self.rate_ppb
        try:
            if self._nvs:
                self._nvs.set_i32(_NVS_KEY, self.rate_ppb)
                self._nvs.commit()
        except OSError:
            pass  # it is learnt anew after a restart
