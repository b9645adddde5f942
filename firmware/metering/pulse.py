"""Pulse output: one pulse for each 1 / imp_per_kwh of a kWh that the import register counts.

What is due follows from the register itself, so pulses and register agree within one from a start
on, whatever happens to the lamp. Bounds: those of energy.py. Tests: host_tests/unit/test_pulse.py,
host_tests/system/test_pulse.py.
"""

from firmware.core.config import ConfigError
from firmware.core.shim import const
from firmware.metering.energy import HALF_MJ_PER_WH

ON_MS = const(30)  # and as long off, at least
_RATE_MAX_PER_H = const(57600)  # 16 a second, what that allows

_HALF_MJ_PER_KWH = const(7200000000)
_CONSTANT_MIN = const(10)
_CONSTANT_MAX = const(10000)
_BUS_MAX_V = const(26)  # of an INA219
_SHUNT_MAX_UV = const(320000)


def check(imp_per_kwh, config, shunt_uohm):
    """ConfigError if a board's constant is none, or too high for the sensor's largest power."""
    if (
        not _CONSTANT_MIN <= imp_per_kwh <= _CONSTANT_MAX
        or _HALF_MJ_PER_KWH // imp_per_kwh * imp_per_kwh != _HALF_MJ_PER_KWH
    ):
        raise ConfigError(
            "pulse_imp_per_kwh",
            "must be from %d to %d and divide 7,200,000,000" % (_CONSTANT_MIN, _CONSTANT_MAX),
        )
    current_max_ma = _SHUNT_MAX_UV * config.current_ratio_x1000 // shunt_uohm
    power_max_w = _BUS_MAX_V * config.voltage_ratio_x1000 * current_max_ma // 1000000
    if power_max_w * imp_per_kwh > _RATE_MAX_PER_H * 1000:
        raise ConfigError(
            "pulse_imp_per_kwh",
            "must be at most %d: at %d W there would be more than %d pulses an hour"
            % (_RATE_MAX_PER_H * 1000 // power_max_w, power_max_w, _RATE_MAX_PER_H),
        )


class Pulse:
    """The pulses of `count` (metering.energy.Count): `due` are those not given yet; wake: called
    when there are some."""

    def __init__(self, count, imp_per_kwh, wake):
        self._count = count
        self._half_mj_each = _HALF_MJ_PER_KWH // imp_per_kwh
        self._wake = wake
        self.due = 0
        self.align()

    def align(self):
        """The register is somewhere else: no pulses for that."""
        count = self._count
        self._wh = count.wh
        self._half_mj = count.half_mj
        self._rest_half_mj = (count.wh * HALF_MJ_PER_WH + count.half_mj) % self._half_mj_each

    def add(self):
        """The register has counted on. Allocates nothing."""
        count = self._count
        wh = count.wh
        half_mj = count.half_mj
        rest = self._rest_half_mj + half_mj - self._half_mj
        if wh != self._wh:
            rest += (wh - self._wh) * HALF_MJ_PER_WH
            self._wh = wh
        self._half_mj = half_mj
        if rest >= self._half_mj_each:
            self.due += rest // self._half_mj_each
            rest %= self._half_mj_each
            self._wake()
        self._rest_half_mj = rest
