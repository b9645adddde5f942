"""A limit of load or of current: trips after a while above it, recloses by itself, locks out.

    below --over for long--> tripped --delay--> below
                               | that was one trip too many
                               v
                             locked --lock-out time--> below, and trips are counted anew

Nothing but its own delay recloses it, unless the limit is switched off. A trip counts against the
following ones for `limit_within_s` of supplied time, also behind a restart; a delay that ran begins
anew with the boot. The caller writes what `judge` asks for, and then says so to `apply`: until then
it is asked again. Integers below 2**30 only.
Tests: host_tests/unit/test_limiter.py.
"""

from firmware.core.shim import const

TRIP = "trip"
RECLOSE = "reclose"
LOCK = "lock"

POWER = const(0)  # which limit, what it is judged by
CURRENT = const(1)


class Limiter:
    """One limit.

    config: has the settings of core.config.RELAY and `sanctioned_load_w` as attributes, which may
    change. which: POWER, judged in W, or CURRENT, judged in mA.
    """

    def __init__(self, config, which):
        self._config = config
        self._which = which
        self.stands = 0  # 1: tripped
        self._locked = 0
        self._trips_s = []  # of each trip that counts: supplied seconds, as `_now_s`
        self._now_s = 0
        self._now_ms = 0  # of the second that runs
        self._lasts_ms = 0  # above the limit; while tripped: since then

    def state(self):
        """The state as a list for a snapshot; `restore` takes it back."""
        return [self.stands, self._locked] + [self._now_s - trip_s for trip_s in self._trips_s]

    def restore(self, state):
        """Takes what `state` gave."""
        self.stands, self._locked = state[:2]
        self._now_s = max(state[2:]) if state[2:] else 0
        self._trips_s = [self._now_s - age_s for age_s in state[2:]]
        self._lasts_ms = 0

    def limit(self):
        """The limit in W or mA, 0 for none."""
        config = self._config
        if self._which == CURRENT:
            return config.trip_current_ma
        return (config.limit_w or config.sanctioned_load_w) if config.limit_mode == 2 else 0

    def judge(self, value, dt_ms, may_trip):
        """What is to be done now: TRIP, RECLOSE, LOCK or None; call it once a second.

        value: W or mA, as long as `dt_ms`; may_trip: False while nothing may trip, which then does
        so as soon as it may if it is still above the limit.
        """
        config = self._config
        now_ms = self._now_ms + dt_ms
        self._now_s += now_ms // 1000
        self._now_ms = now_ms % 1000
        limit = self.limit()
        if not self.stands:
            if not limit or value <= limit:
                self._lasts_ms = 0
                return None
            over_s = config.trip_over_s if self._which == CURRENT else config.limit_over_s
            return TRIP if self._lasts(dt_ms, over_s) and may_trip else None
        if not limit:
            return RECLOSE
        if not self._locked and self._counted() >= config.limit_attempts:
            return LOCK
        delay_s = config.limit_lockout_s if self._locked else config.limit_reclose_s
        return RECLOSE if self._lasts(dt_ms, delay_s) else None

    def _lasts(self, dt_ms, long_s):
        """True if it has lasted for `long_s`, now that another `dt_ms` have passed."""
        if self._lasts_ms < long_s * 1000:
            self._lasts_ms += dt_ms
        return self._lasts_ms >= long_s * 1000

    def apply(self, stands, locked=False):
        """What a record means, live as at recovery: after a control record whether the cause
        stands; after an event of a lock-out (True, True)."""
        if locked:
            self._locked = 1
        elif stands and not self.stands:
            self.stands = 1
            self._trips_s.append(self._now_s)
        elif self.stands and not stands:
            self.stands = 0
            if self._locked:
                self._locked = 0
                self._trips_s = []
        else:
            return
        self._lasts_ms = 0

    def _counted(self):
        """How many trips still count; forgets the others."""
        first_s = self._now_s - self._config.limit_within_s
        self._trips_s = [trip_s for trip_s in self._trips_s if trip_s >= first_s]
        return len(self._trips_s)
