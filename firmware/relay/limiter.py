"""A limit of load or of current: trips after a while above it, recloses by itself, locks out.

    below --over for long--> tripped --delay--> below
                               | that was one trip too many
                               v
                             locked --lock-out time--> below, and trips are counted anew

Nothing but its own delay recloses it, unless the limit is switched off. A trip counts against the
following ones for `limit_within_s`, and a delay runs on, also behind a restart. The caller writes
what `judge` asks for, and then says so to `apply`: until then it is asked again. When a trip was is
taken from its record, so that a restart does not move it.
Integers below 2**30 only.
Tests: host_tests/unit/test_limiter.py.
"""

from firmware.core.shim import const

TRIP = "trip"
RECLOSE = "reclose"
LOCK = "lock"

POWER = const(0)  # which limit, what it is judged by
CURRENT = const(1)

_LONG_S = const(86400)  # no delay is longer


class Limiter:
    """One limit.

    config: has the settings of core.config.RELAY and `sanctioned_load_w` as attributes, which may
    change. which: POWER, judged in W, or CURRENT, judged in mA.
    """

    def __init__(self, config, which):
        self._config = config
        self._which = which
        self.restore([0, 0])

    def state(self):
        """The state as a list for a snapshot; `restore` takes it back."""
        return [self.stands, self._locked] + self._trips_s

    def restore(self, state):
        """Takes what `state` gave."""
        self.stands, self._locked = state[:2]  # 1: tripped; when it locked out, 0: it did not
        self._trips_s = state[2:]  # the caller's seconds at each trip that counts, rising
        self._lasts_ms = -1  # above the limit, -1: it is not; while tripped: since then

    def judge(self, value, dt_ms, may_trip):
        """What is to be done now: TRIP, RECLOSE, LOCK or None; call it once a second.

        value: W or mA, `dt_ms` after the one before (0: a new stretch); may_trip: False while
        nothing may trip, which then does so as soon as it may if it is still above the limit. The
        time above it begins with the first value that is.
        """
        config = self._config
        if self._which == CURRENT:
            limit = config.trip_current_ma
        elif config.limit_mode == 2:
            limit = config.limit_w or config.sanctioned_load_w
        else:
            limit = 0
        if not self.stands:
            if not limit or value <= limit:
                self._lasts_ms = -1
                return None
            wait_s = config.trip_over_s if self._which == CURRENT else config.limit_over_s
        elif not limit:
            return RECLOSE
        elif self._locked or len(self._trips_s) >= config.limit_attempts:
            wait_s = config.limit_lockout_s
        else:
            wait_s = config.limit_reclose_s
        if self._lasts_ms < 0 or not (dt_ms or self.stands):
            self._lasts_ms = 0
        elif self._lasts_ms < wait_s * 1000:
            self._lasts_ms += dt_ms
        if self._lasts_ms < wait_s * 1000:
            locks = self.stands and not self._locked
            return LOCK if locks and len(self._trips_s) >= config.limit_attempts else None
        if self.stands:
            return RECLOSE
        return TRIP if may_trip else None

    def apply(self, stands, now_s, locked=False):
        """What a record means, live as at recovery: after a control record whether the cause
        stands; after an event of a lock-out (True, now_s, True). now_s: seconds at the record, by
        a count that goes on over restarts."""
        if locked:
            self._locked = now_s
        elif stands and not self.stands:
            self.stands = 1
            since_s = now_s - self._config.limit_within_s
            self._trips_s = [trip_s for trip_s in self._trips_s if trip_s >= since_s] + [now_s]
        elif self.stands and not stands:
            self.stands = 0
            if self._locked:
                self._locked = 0
                self._trips_s = []
        else:
            return
        self._lasts_ms = 0 if self.stands else -1

    def shift(self, from_s, by_s):
        """What was later than `from_s` on that count was `by_s` later still, as is known now."""
        self._trips_s = [trip_s + by_s if trip_s > from_s else trip_s for trip_s in self._trips_s]
        if self._locked > from_s:
            self._locked += by_s

    def resume(self, now_s):
        """Behind a power failure: the delay that runs is as long as that count says."""
        if self.stands:
            lasted_s = now_s - (self._locked or self._trips_s[-1])
            self._lasts_ms = max(self._lasts_ms, min(lasted_s, _LONG_S) * 1000)
