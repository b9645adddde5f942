"""How wrong the crystal is, learnt from the gateway's times.

Each time that is not too uncertain gives a point (uptime, UTC less uptime). The rate is the median
of the slopes between all pairs of the last points (Theil and Sen): up to a quarter of the points
may be wrong and it hardly moves. A point that no crystal can explain is left out; a second one in a
row means that the gateway's clock was set, and the points begin anew, with the rate as it is.

Tests: host_tests/unit/test_wallclock.py.
"""

from firmware.core.shim import const

RATE_MAX_PPB = const(200000)  # an ESP32's crystal is good for 10 to 40 ppm, with heat and age
ROUND_TRIP_MAX_MS = const(2000)
_POINTS_MIN = const(4)
_POINTS_MAX = const(8)
_APART_MIN_MS = const(900000)


class Drift:
    """`rate_ppb`: ns to add to each second of the ticks, -RATE_MAX_PPB to RATE_MAX_PPB. `known`:
    it was learnt from `points`, (up_ms, UTC less up_ms, round trip in ms)."""

    def __init__(self, rate_ppb):
        self.rate_ppb = max(-RATE_MAX_PPB, min(RATE_MAX_PPB, rate_ppb))
        self.forget()

    def forget(self):
        """The clock was stepped: points before and after do not belong together."""
        self.points = []
        self.known = self._odd = False

    def add(self, up_ms, utc_ms, round_trip_ms):
        """Takes a time of the gateway in, uncertain by half of its round trip."""
        if round_trip_ms > ROUND_TRIP_MAX_MS:
            return
        offset_ms = utc_ms - up_ms
        points = self.points
        if points:
            before_ms, last_ms, last_trip_ms = points[-1]
            span_ms = up_ms - before_ms
            if span_ms < _APART_MIN_MS:
                return
            error_ms = abs(offset_ms - last_ms - span_ms * self.rate_ppb // 1000000000)
            limit_ms = span_ms * RATE_MAX_PPB // 1000000000
            if error_ms > limit_ms + (round_trip_ms + last_trip_ms) // 2 + 1:
                if not self._odd:
                    self._odd = True
                    return
                self.forget()
                points = self.points
        self._odd = False
        slopes = []
        points.append((up_ms, offset_ms, round_trip_ms))
        if len(points) > _POINTS_MAX:
            points.pop(0)
        for i in range(len(points)):
            for j in range(i):
                span_ms = points[i][0] - points[j][0]
                slopes.append((points[i][1] - points[j][1]) * 1000000000 // span_ms)
        if len(points) >= _POINTS_MIN:
            slopes.sort()
            rate_ppb = slopes[len(slopes) // 2]
            self.rate_ppb = max(-RATE_MAX_PPB, min(RATE_MAX_PPB, rate_ppb))
            self.known = True
