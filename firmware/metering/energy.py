"""Energy register: the integral of power over the samples, exact, in integers, allocation-free.

Between two samples the trapezoid is taken: (P0 + P1) / 2 * dt. To keep every step below 2**30 (the
ESP32's small integers) the sum of two powers is split into W and mW: W * ms is mJ, and the rest is
carried in uJ, both doubled ("half") so that nothing is ever divided away. 1 Wh = 3,600,000 mJ.
Bounds: 300 V, 100 A, 2 s between samples. Tests: host_tests/property/test_energy_exact.py compares
with `fractions.Fraction`: difference 0.
"""

from firmware.core.shim import const

HALF_MJ_PER_WH = const(7200000)


class EnergyRegister:
    """Import register of a meter that counts current in both directions as import.

    `import_wh` is the register, `remainder_half_mj` (0 to 7,199,999) and `remainder_half_uj` (0 to
    999) what has not made a Wh yet. `voltage_mv`, `current_ua`, `power_mw` are those of the last
    sample.
    """

    def __init__(self, bus_gain, shunt_gain, creep_ua):
        self._bus_gain, self._bus_shift = bus_gain
        self._bus_half = 1 << self._bus_shift >> 1
        self._shunt_gain, self._shunt_shift = shunt_gain
        self._shunt_half = 1 << self._shunt_shift >> 1
        self._creep_ua = creep_ua
        self.import_wh = 0
        self.remainder_half_mj = 0
        self.remainder_half_uj = 0
        self.voltage_mv = 0
        self.current_ua = 0
        self.power_mw = 0

    def restore(self, import_wh, remainder_half_mj):
        """Takes a register as it was stored."""
        self.import_wh = import_wh
        self.remainder_half_mj = remainder_half_mj
        self.remainder_half_uj = 0

    def forget_sample(self):
        """There is no present value: the sensor does not answer."""
        self.voltage_mv = 0
        self.current_ua = 0
        self.power_mw = 0

    def add(self, bus_raw, shunt_raw, dt_ms):
        """One sample, `dt_ms` after the one before (0: there is none, or the gap is too long to be
        bridged: the sample counts as the beginning of a new stretch). Allocates nothing.
        """
        voltage_mv = bus_raw * self._bus_gain + self._bus_half >> self._bus_shift
        if shunt_raw < 0:
            shunt_raw = -shunt_raw
        current_ua = shunt_raw * self._shunt_gain + self._shunt_half >> self._shunt_shift
        if current_ua < self._creep_ua:
            power_mw = 0
        else:
            current_ma = current_ua // 1000
            power_mw = (
                voltage_mv // 1000 * current_ma
                + (voltage_mv % 1000 * current_ma + voltage_mv * (current_ua % 1000) // 1000 + 500)
                // 1000
            )
        if dt_ms:
            sum_mw = self.power_mw + power_mw
            half_uj = self.remainder_half_uj + sum_mw % 1000 * dt_ms
            half_mj = self.remainder_half_mj + sum_mw // 1000 * dt_ms + half_uj // 1000
            self.remainder_half_uj = half_uj % 1000
            if half_mj >= HALF_MJ_PER_WH:
                self.import_wh += half_mj // HALF_MJ_PER_WH
                half_mj %= HALF_MJ_PER_WH
            self.remainder_half_mj = half_mj
        self.voltage_mv = voltage_mv
        self.current_ua = current_ua
        self.power_mw = power_mw
