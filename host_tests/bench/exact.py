"""The energy registers against `fractions.Fraction`: python -m host_tests.bench.exact [SAMPLES].

Random samples with jitter, gaps and both directions go into an EnergyRegister, half of them in each
of its two modes, and into Reference, which has the same raw readings, the rule of SPEC section 8
and exact arithmetic. Exit code 0 only if no register differs by anything.
"""

import random
import sys
import time
from fractions import Fraction

from firmware.metering.energy import HALF_MJ_PER_WH, EnergyRegister
from firmware.metering.scale import bus_gain, shunt_gain


class Reference:
    """Import and export in J as exact fractions, computed from the raw readings."""

    def __init__(self, bus, bus_zero_x16, shunt, shunt_zero_x16, creep_ua, exports):
        self._bus = Fraction(bus[0], 2 ** bus[1])
        self._shunt = Fraction(shunt[0], 2 ** shunt[1])
        # A zero is taken off in whole units of the gain, as documented at EnergyRegister.scale.
        self._bus_zero = Fraction(bus_zero_x16 * bus[0] + 8 >> 4, 2 ** bus[1])
        self._shunt_zero = Fraction(shunt_zero_x16 * shunt[0] + 8 >> 4, 2 ** shunt[1])
        self._creep_ua = creep_ua
        self._exports = exports
        self._known = {}
        self._power_mw = 0
        self.import_j = self.export_j = Fraction(0)

    def add(self, bus_raw, shunt_raw, dt_ms):
        """One reading, as EnergyRegister.add."""
        power_mw = self._power(bus_raw, shunt_raw)
        energy_j = Fraction((self._power_mw + power_mw) * dt_ms, 2 * 10**6)
        if energy_j < 0:
            self.export_j -= energy_j
        else:
            self.import_j += energy_j
        self._power_mw = power_mw

    def _power(self, bus_raw, shunt_raw):
        """Signed, in whole mW, of the voltage in whole mV and the current in whole uA."""
        power_mw = self._known.get((bus_raw, shunt_raw))
        if power_mw is None:
            voltage_mv = max(0, nearest(bus_raw * self._bus - self._bus_zero))
            current_ua = shunt_raw * self._shunt - self._shunt_zero
            sign = -1 if current_ua < 0 and self._exports else 1
            current_ua = nearest(abs(current_ua))
            if current_ua < self._creep_ua:
                current_ua = 0
            power_mw = sign * nearest(Fraction(voltage_mv * current_ua, 10**6))
            self._known[bus_raw, shunt_raw] = power_mw
        return power_mw


def nearest(value):
    """The nearest integer of a fraction, a half up."""
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)


def counted_half_mj(count):
    """All that a register holds, in half mJ."""
    return count.wh * HALF_MJ_PER_WH + count.half_mj + Fraction(count.half_uj, 1000)


def prove(samples, exports, seed):
    """Runs so many samples; returns (import Wh, export Wh, difference of both in half mJ)."""
    rng = random.Random(seed)
    bus, shunt = bus_gain(12500), shunt_gain(31250, 100000)  # 300 V and 100 A at full scale
    zeros = rng.randint(-200, 200), rng.randint(-480, 480)
    register = EnergyRegister(bus, shunt, 25000, exports)
    register.scale(bus, zeros[0], shunt, zeros[1])
    reference = Reference(bus, zeros[0], shunt, zeros[1], 25000, exports)
    # Readings repeat, so that the slow exact powers need not be computed ten million times.
    readings = [(rng.randint(0, 6000), rng.randint(-32000, 32000)) for _ in range(5000)]
    readings += [(rng.randint(0, 6000), rng.randint(-60, 60)) for _ in range(500)]
    for _ in range(samples):
        reading = rng.choice(readings)
        # On time, late by some jitter, bridged, or behind a gap that is not.
        dt_ms = rng.choice((1000, 1000, rng.randint(900, 1100), rng.randint(1, 2000), 0))
        register.add(*reading, dt_ms)
        reference.add(*reading, dt_ms)
    difference = abs(counted_half_mj(register.imported) - 2000 * reference.import_j)
    difference += abs(counted_half_mj(register.exported) - 2000 * reference.export_j)
    return register.import_wh, register.export_wh, difference


def main(samples):
    wrong = 0
    print(f"{samples:,} samples up to 300 V and 100 A against fractions.Fraction")
    for exports, mode in ((0, "forwarded only"), (1, "import and export")):
        began_s = time.monotonic()
        import_wh, export_wh, difference = prove(samples // 2, exports, seed=exports)
        wrong += difference
        print(
            f"  {mode}: import {import_wh:,} Wh, export {export_wh:,} Wh, difference {difference} "
            f"({time.monotonic() - began_s:.0f} s)"
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000))
