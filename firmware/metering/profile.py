"""Block load profile: means and extremes over one interval (30 min), IS 15959 1.0.99.1.0.

Sums stay below 2**30 for 1,800 samples of 300 V and 100 A.
"""


class Block:
    """The interval that is being filled."""

    def __init__(self):
        self.clear()

    def clear(self):
        self.samples = 0
        self.supply_ms = 0
        self._sum_voltage_mv = 0
        self._sum_current_ma = 0
        self.power_max_w = 0

    def add(self, voltage_mv, current_ua, power_mw, dt_ms):
        """One sample that stands for the `dt_ms` before it."""
        self.samples += 1
        self.supply_ms += dt_ms
        self._sum_voltage_mv += voltage_mv
        self._sum_current_ma += current_ua // 1000
        if power_mw // 1000 > self.power_max_w:
            self.power_max_w = power_mw // 1000

    def voltage_mv(self):
        """Mean voltage, 0 without samples."""
        return self._sum_voltage_mv // self.samples if self.samples else 0

    def current_ma(self):
        """Mean current, 0 without samples."""
        return self._sum_current_ma // self.samples if self.samples else 0
