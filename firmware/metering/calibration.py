"""Calibration: the zeros and gains by which a meter's readings are corrected.

Each calibration is one journal record with all values, so undoing it is a record with the values
before. What is accepted is judged in calibrating.py. docs/SPEC.md section 10; tests:
host_tests/unit/test_calibration.py.
"""

from firmware.core.records import CALIBRATED
from firmware.core.shim import const
from firmware.metering.scale import bus_gain, shunt_gain

RANGES_MV = (40, 80, 160, 320)  # of the shunt, by the INA219's PG
RANGE = const(3)  # the one that the meter uses

BUS_ZERO = const(4)  # places in `values`, behind the zeros of the four ranges
VOLTAGE_GAIN = const(5)
CURRENT_GAIN = const(6)


class Calibration:
    """energy: the EnergyRegister that counts by it; config: core.config.Config.

    `values` in the order of core.records.CALIBRATED, `before` those before the last change;
    `number` of changes so far, `utc_s` of the last (0: none, or the time was not known).
    """

    def __init__(self, energy, config, shunt_uohm):
        self._energy = energy
        self._config = config
        self.shunt_uohm = shunt_uohm
        self.values = [0] * len(CALIBRATED)
        self.before = self.values
        self.number = 0
        self.utc_s = 0

    def state(self):
        """For the snapshot."""
        return [self.number, self.utc_s, self.values, self.before]

    def restore(self, state):
        """Takes what `state` gave."""
        self.number, self.utc_s, self.values, self.before = state
        self._scale()

    def apply(self, record):
        """Takes a record "calibration"."""
        self.before = self.values
        self.values = [record[name] for name in CALIBRATED]
        self.number = record["number"]
        self.utc_s = record["utc_s"] if record["time_valid"] else 0
        self._scale()

    def _scale(self):
        config, values = self._config, self.values
        self._energy.scale(
            bus_gain(config.voltage_ratio_x1000, values[VOLTAGE_GAIN]),
            values[BUS_ZERO],
            shunt_gain(config.current_ratio_x1000, self.shunt_uohm, values[CURRENT_GAIN]),
            values[RANGE],
        )
