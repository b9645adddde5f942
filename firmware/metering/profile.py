"""Load profile: one interval's means and extremes, and what a day or a month adds up to.

Each sum over samples stays below 2**30 (small integers of an ESP32) and `Block.add` allocates
nothing: at most 2,600 samples of 409 V and 102 A, the most that can be read, go into the means.
Demand is the import of one interval divided by its length: 1 Wh in 30 min is 2 W.
Tests: host_tests/unit/test_profile.py, host_tests/property/test_profiles_model.py.
"""

from firmware.core.shim import const

# An interval has up to 1,800; while the time is unknown it has no end.
_MEAN_SAMPLES = const(2600)
_NO_LIMIT = const(0x3FFFFFFF)


def demand_w(energy_wh, length_s):
    """Mean power in W of an interval; 0 for one without a length."""
    return energy_wh * 3600 // length_s if length_s else 0


class Block:
    """The interval that is being filled.

    `supply_s` and `over_load_s` are stored and go on after a power failure; means and extremes are
    those since the start.
    """

    def __init__(self):
        self._limit_mw = _NO_LIMIT
        self.restore(0, 0)
        self.clear()

    def clear(self):
        """A new one begins. What made no whole second yet is carried into it."""
        self.samples = 0
        self._sum_voltage_mv = 0
        self._sum_current_ma = 0
        self._voltage_min_mv = self._current_min_ma = _NO_LIMIT
        self._voltage_max_mv = self._current_max_ma = 0
        self.supply_s = 0
        self.over_load_s = 0

    def restore(self, supply_s, over_load_s):
        """Takes what was counted before the power failed."""
        self.supply_s = supply_s
        self._supply_ms = 0
        self.over_load_s = over_load_s
        self._over_load_ms = 0

    def set_limit(self, sanctioned_load_w):
        """Counts the time above a load of 0 to 100,000 W; 0: there is none."""
        self._limit_mw = sanctioned_load_w * 1000 or _NO_LIMIT

    def add(self, voltage_mv, current_ua, power_mw, dt_ms):
        """One sample that stands for the `dt_ms` before it. Allocates nothing."""
        current_ma = current_ua // 1000
        if self.samples < _MEAN_SAMPLES:
            self.samples += 1
            self._sum_voltage_mv += voltage_mv
            self._sum_current_ma += current_ma
        if voltage_mv > self._voltage_max_mv:
            self._voltage_max_mv = voltage_mv
        if voltage_mv < self._voltage_min_mv:
            self._voltage_min_mv = voltage_mv
        if current_ma > self._current_max_ma:
            self._current_max_ma = current_ma
        if current_ma < self._current_min_ma:
            self._current_min_ma = current_ma
        if power_mw > self._limit_mw:
            over_ms = self._over_load_ms + dt_ms
            self.over_load_s += over_ms // 1000
            self._over_load_ms = over_ms % 1000

    def supplied(self, dt_ms):
        """The meter had power for `dt_ms`, whatever its sensor says. Allocates nothing."""
        supply_ms = self._supply_ms + dt_ms
        self.supply_s += supply_ms // 1000
        self._supply_ms = supply_ms % 1000

    def figures(self):
        """Mean, lowest and highest voltage in mV, then current in mA; all 0 without samples."""
        samples = self.samples
        if not samples:
            return 0, 0, 0, 0, 0, 0
        return (
            self._sum_voltage_mv // samples,
            self._voltage_min_mv,
            self._voltage_max_mv,
            self._sum_current_ma // samples,
            self._current_min_ma,
            self._current_max_ma,
        )


class Span:
    """A day or a month: where its registers began, and what its intervals add up to."""

    def __init__(self):
        self.restore([0, 0, 0, 0, 0, 0, 0, 0])

    def state(self):
        """All of it as a list for a snapshot; `restore` takes it back."""
        return [
            self.start_utc_s,
            self.start_wh,
            self.start_export_wh,
            self.start_charges_mp,
            self.supply_s,
            self.over_load_s,
            self.demand_max_w,
            self.demand_max_utc_s,
        ]

    def restore(self, state):
        """Takes what `state` gave."""
        self.start_utc_s, self.start_wh, self.start_export_wh, self.start_charges_mp = state[:4]
        self.supply_s, self.over_load_s, self.demand_max_w, self.demand_max_utc_s = state[4:]

    def begin(self, utc_s, import_wh, export_wh, charges_mp):
        """A new one begins. Seconds that made no whole minute yet are carried into it."""
        self.start_utc_s = utc_s
        self.start_from(import_wh, export_wh, charges_mp)
        self.supply_s %= 60
        self.over_load_s %= 60
        self.demand_max_w = 0
        self.demand_max_utc_s = 0

    def start_from(self, import_wh, export_wh, charges_mp):
        """Its energy and its cost are counted from these registers and charges."""
        self.start_wh = import_wh
        self.start_export_wh = export_wh
        self.start_charges_mp = charges_mp

    def add(self, load):
        """Takes a closed interval, a `load` record or one of the older type `block`."""
        self.supply_s += load["supply_s"]
        self.over_load_s += load.get("over_load_s", 0)
        demand = demand_w(load["energy_wh"], load["length_s"])
        if demand > self.demand_max_w:
            self.demand_max_w = demand
            self.demand_max_utc_s = load["start_utc_s"] + load["length_s"]
