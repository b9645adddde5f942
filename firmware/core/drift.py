"""What the gateway's times teach a WallClock: how wrong it is, and how wrong its crystal.

Each time that is not too uncertain gives a point (uptime, UTC less uptime, round trip). The rate is
the median of the slopes between all pairs of the last points (Theil and Sen): up to a quarter of
the points may be wrong and it hardly moves. A point that no crystal can explain is left out; a
second one in a row means that the gateway's clock was set: the points begin anew, the rate stays.

Tests: host_tests/unit/test_wallclock.py.
"""

from firmware.core.shim import const

# From here on an error is a step, and an event.
STEP_MS = const(2000)
RATE_MAX_PPB = const(200000)  # an ESP32's crystal is good for 10 to 40 ppm, with heat and age
SLEW_PPB = const(500000)
ROUND_TRIP_MAX_MS = const(2000)
# How far a learnt rate may be off by the next time: warmth.
_RATE_ERROR_PPB = const(5000)
# Writes to NVS are few: a rate this near is good enough after a restart.
_KEEP_PPB = const(2000)
_POINTS_MIN = const(4)
_POINTS_MAX = const(8)
_APART_MIN_MS = const(900000)


def sync(clock, utc_ms, round_trip_ms):
    """As WallClock.sync."""
    now_ms = clock.utc_ms()
    up_ms = clock.up_ms()
    wrong_ms = round_trip_ms // 2
    if now_ms is None or abs(utc_ms - now_ms) >= STEP_MS:
        clock.points = []  # before and after the step do not belong together
        learn(clock, up_ms, utc_ms, round_trip_ms)
        clock.anchor(utc_ms, 0, wrong_ms)
        return None if now_ms is None else utc_ms - now_ms
    span_ms = up_ms - clock.anchor_up_ms
    most_ms = span_ms * SLEW_PPB // 1000000000
    left_ms = clock.owed_ms - max(-most_ms, min(most_ms, clock.owed_ms))
    error_ppb = _RATE_ERROR_PPB if len(clock.points) >= _POINTS_MIN else RATE_MAX_PPB
    doubt_ms = clock.doubt_ms + abs(left_ms) + span_ms * error_ppb // 1000000000
    learn(clock, up_ms, utc_ms, round_trip_ms)
    # A question that took long tells less than the own clock knows, if both may be right.
    if wrong_ms <= doubt_ms or abs(utc_ms - now_ms) > doubt_ms + wrong_ms:
        left_ms = utc_ms - now_ms
        doubt_ms = wrong_ms
    clock.anchor(now_ms, left_ms, doubt_ms)
    if abs(clock.rate_ppb - clock.kept_ppb) > _KEEP_PPB:
        clock.keep_rate()
    return 0


def learn(clock, up_ms, utc_ms, round_trip_ms):
    """Takes a point in; sets the clock's `rate_ppb`, bounded, and its `points`."""
    if round_trip_ms > ROUND_TRIP_MAX_MS:
        return
    offset_ms = utc_ms - up_ms
    points = clock.points
    if points:
        before_ms, last_ms, last_trip_ms = points[-1]
        span_ms = up_ms - before_ms
        if span_ms < _APART_MIN_MS:
            return
        error_ms = abs(offset_ms - last_ms - span_ms * clock.rate_ppb // 1000000000)
        limit_ms = span_ms * RATE_MAX_PPB // 1000000000
        if error_ms > limit_ms + (round_trip_ms + last_trip_ms) // 2 + 1:
            if not clock.odd:
                clock.odd = True
                return
            points = clock.points = []
    clock.odd = False
    points.append((up_ms, offset_ms, round_trip_ms))
    if len(points) > _POINTS_MAX:
        points.pop(0)
    if len(points) >= _POINTS_MIN:
        slopes = []
        for i in range(len(points)):
            for j in range(i):
                span_ms = points[i][0] - points[j][0]
                slopes.append((points[i][1] - points[j][1]) * 1000000000 // span_ms)
        slopes.sort()
        clock.rate_ppb = max(-RATE_MAX_PPB, min(RATE_MAX_PPB, slopes[len(slopes) // 2]))
