"""Energy registers: the integral of power over the samples, exact, in integers, allocation-free.

Between two samples the trapezoid is taken: (P0 + P1) / 2 * dt. To keep every step below 2**30 (the
ESP32's small integers) the sum of two powers is split into W and mW: W * ms is mJ, and the rest is
carried in uJ, both doubled ("half") so that nothing is ever divided away. 1 Wh = 3,600,000 mJ.
Bounds: 300 V, 100 A, 16 s between samples (beyond it is as exact, and allocates). Tests:
host_tests/property/test_energy_exact.py compares with `fractions.Fraction`: difference 0.
"""

from firmware.core.shim import const

HALF_MJ_PER_WH = const(7200000)


class Count:
    """One register: `wh`, and what has not made a Wh yet: `half_mj` (0 to 7,199,999) and `half_uj`
    (0 to 999). `changed()` is called when it was restored."""

    def __init__(self, changed):
        self._changed = changed
        self.wh = self.half_mj = self.half_uj = 0

    def restore(self, wh, half_mj):
        """Takes a register as it was stored."""
        self.wh = wh
        self.half_mj = half_mj
        self.half_uj = 0
        self._changed()

    def raise_to(self, wh):
        """The register is at least `wh`, as somebody knows."""
        if wh > self.wh:
            self.restore(wh, 0)


class EnergyRegister:
    """The registers `imported` and `exported` of a meter, and the values of its last sample.

    `import_wh` and `export_wh` are their Wh. `voltage_mv`, `current_ua` and `power_mw` are
    magnitudes; `reversed` is 1 if the current flowed backwards. `export_counts` 0: energy counts as
    import whatever its direction. 1: a power that flows backwards is negative; the signed sum of an
    interval's two powers goes into the register of its sign, so import less export is the integral.
    A current below `creep_ua` counts as none.
    """

    def __init__(self, bus_gain, shunt_gain, creep_ua, export_counts=0):
        self.creep_ua = creep_ua
        self._export_counts = export_counts
        self.imported = Count(self._show)
        self.exported = Count(self._show)
        self._show()
        self.scale(bus_gain, 0, shunt_gain, 0)
        self.forget_sample()

    def scale(self, bus_gain, bus_zero_x16, shunt_gain, shunt_zero_x16):
        """Takes gains, as of metering.scale, and zeros: what the sensor's registers read at 0 V and
        at 0 A, in sixteenths of their steps, -1,000 to 1,000."""
        self._bus_gain, self._bus_shift = bus_gain
        bus_zero = bus_zero_x16 * self._bus_gain + 8 >> 4
        self._bus_offset = (1 << self._bus_shift >> 1) - bus_zero
        self._shunt_gain, self._shunt_shift = shunt_gain
        self._shunt_half = 1 << self._shunt_shift >> 1
        self._shunt_zero = shunt_zero_x16 * self._shunt_gain + 8 >> 4

    def _show(self):
        # Not properties: one in its class makes each store into an object search the class first.
        self.import_wh = self.imported.wh
        self.export_wh = self.exported.wh

    def forget_sample(self):
        """There is no present value: the sensor does not answer."""
        self.voltage_mv = 0
        self.current_ua = 0
        self.power_mw = 0
        self.reversed = 0
        self._counted_mw = 0

    def add(self, bus_raw, shunt_raw, dt_ms):
        """One sample, `dt_ms` after the one before (0: there is none, or the gap is too long to be
        bridged: the sample counts as the beginning of a new stretch). Allocates nothing.
        """
        before_mw = self._counted_mw
        self._measure(bus_raw, shunt_raw)
        if dt_ms:
            self._integrate(before_mw + self._counted_mw, dt_ms)

    # Three functions: the frame of one for all would be taken from the heap, see sampler.py.

    def _measure(self, bus_raw, shunt_raw):
        voltage_mv = bus_raw * self._bus_gain + self._bus_offset >> self._bus_shift
        if voltage_mv < 0:
            voltage_mv = 0
        self.voltage_mv = voltage_mv
        current_ua = shunt_raw * self._shunt_gain - self._shunt_zero  # before its shift
        self.reversed = 0
        if current_ua < 0:
            current_ua = -current_ua
            self.reversed = 1
        current_ua = current_ua + self._shunt_half >> self._shunt_shift
        self.current_ua = current_ua
        if current_ua < self.creep_ua:
            self.power_mw = self._counted_mw = self.reversed = 0
            return
        current_ma = current_ua // 1000
        self.power_mw = self._counted_mw = (
            voltage_mv // 1000 * current_ma
            + (voltage_mv % 1000 * current_ma + voltage_mv * (current_ua % 1000) // 1000 + 500)
            // 1000
        )
        if self.reversed and self._export_counts:
            self._counted_mw = -self.power_mw

    def _integrate(self, sum_mw, dt_ms):
        """Counts the sum of an interval's two powers into the register of its sign."""
        count = self.imported
        if sum_mw < 0:
            sum_mw = -sum_mw
            count = self.exported
        half_uj = count.half_uj + sum_mw % 1000 * dt_ms
        half_mj = count.half_mj + sum_mw // 1000 * dt_ms + half_uj // 1000
        count.half_uj = half_uj % 1000
        if half_mj >= HALF_MJ_PER_WH:
            count.wh += half_mj // HALF_MJ_PER_WH
            half_mj %= HALF_MJ_PER_WH
            self._show()
        count.half_mj = half_mj
