"""From readings and a reference to a calibration, or why not. Loaded when somebody calibrates.

Limits are the INA219A's worst (datasheet SBOS448G section 7.5) with a margin. docs/SPEC.md section
10; tests: host_tests/unit/test_calibration.py.
"""

from firmware.core.records import CALIBRATED
from firmware.core.shim import const
from firmware.metering.calibration import BUS_ZERO, CURRENT_GAIN, RANGES_MV, VOLTAGE_GAIN

SAMPLES = const(16)  # so their sum is their mean in sixteenths

# Offset of the shunt by range: 100, 125, 150 and 200 uV at most, and half as much again.
_ZERO_MAX_UV = (150, 188, 225, 300)
_BUS_ZERO_MAX_MV = const(40)  # above: there is a voltage
# Chip 1 % over temperature, shunt resistor 1 %, divider 2 %.
_GAIN_MAX_PPM = const(50000)
# A step is 0.1 % of it, and a mean of 16 less.
_SHUNT_MIN_UV = const(10000)
_BUS_MIN_MV = const(4000)
_STEADY_ZERO_STEPS = const(8)
_STEADY_PARTS = const(200)  # 0.5 %
_STEADY_MIN_STEPS = const(4)


class CalibrationError(Exception):
    """A calibration that is refused: `field` is what is at fault, `why` what is allowed."""

    def __init__(self, field, why):
        super().__init__(field + ": " + why)
        self.field = field
        self.why = why


class Measurement:
    """SAMPLES readings: sums and extremes."""

    def __init__(self):
        self.count = 0
        self.bus_x16 = self.shunt_x16 = 0
        self.bus_low = self.shunt_low = 0x7FFF
        self.bus_high = self.shunt_high = -0x8000

    def add(self, bus_raw, shunt_raw):
        """Takes one reading; more than SAMPLES are not taken."""
        if self.count < SAMPLES:
            self.count += 1
            self.bus_x16 += bus_raw
            self.shunt_x16 += shunt_raw
            self.bus_low = min(self.bus_low, bus_raw)
            self.bus_high = max(self.bus_high, bus_raw)
            self.shunt_low = min(self.shunt_low, shunt_raw)
            self.shunt_high = max(self.shunt_high, shunt_raw)


def fields(calibration, what, values):
    """Members of the record that puts `values` into force; `what` of core.records.CALIBRATIONS."""
    made = {"what": what, "number": calibration.number + 1}
    for name, value in zip(CALIBRATED, values):
        made[name] = value
    return made


def zero(measured, values, pg):
    """`values` with the zero of the shunt's range `pg`, and that of the bus if it has no voltage.

    A bus below its zero reads 0: only a positive one can be seen.
    """
    limit_uv = _ZERO_MAX_UV[pg]
    shunt_uv = measured.shunt_x16 * 10 // 16
    if not -limit_uv <= shunt_uv <= limit_uv:
        raise CalibrationError(
            "zero",
            "the shunt reads %d uV, a zero of the %d mV range is -%d to %d uV: is there a current?"
            % (shunt_uv, RANGES_MV[pg], limit_uv, limit_uv),
        )
    _steady("zero", measured.shunt_low, measured.shunt_high, _STEADY_ZERO_STEPS)
    values = list(values)
    values[pg] = measured.shunt_x16
    if measured.bus_high * 4 <= _BUS_ZERO_MAX_MV:
        values[BUS_ZERO] = measured.bus_x16
    return values


def voltage(measured, values, reference_mv, ratio_x1000):
    """`values` with the gain at which the voltage is `reference_mv`, primary."""
    _enough("voltage", measured.bus_x16 * 4 // 16, _BUS_MIN_MV, "mV")
    _steady("voltage", measured.bus_low, measured.bus_high, measured.bus_low // _STEADY_PARTS)
    values = list(values)
    # In sixteenths of mV, times 1,000.
    nominal = (measured.bus_x16 - values[BUS_ZERO]) * 4 * ratio_x1000
    values[VOLTAGE_GAIN] = _gain_ppm("voltage", reference_mv * 16000, nominal)
    return values


def current(measured, values, reference_ma, ratio_x1000, shunt_uohm, pg):
    """`values` with the gain at which the current is `reference_ma`, primary."""
    _enough("current", measured.shunt_x16 * 10 // 16, _SHUNT_MIN_UV, "uV")
    _steady("current", measured.shunt_low, measured.shunt_high, measured.shunt_low // _STEADY_PARTS)
    values = list(values)
    # In sixteenths of uA, times the shunt in micro-ohm.
    nominal = (measured.shunt_x16 - values[pg]) * 10000 * ratio_x1000
    values[CURRENT_GAIN] = _gain_ppm("current", reference_ma * 16000 * shunt_uohm, nominal)
    return values


def _enough(field, read, least, unit):
    if read < least:
        raise CalibrationError(
            field, "the sensor reads %d %s, at least %d are needed" % (read, unit, least)
        )


def _steady(field, low, high, limit):
    limit = max(limit, _STEADY_MIN_STEPS)
    if high - low > limit:
        raise CalibrationError(
            field,
            "is not steady: %d steps in %d samples, at most %d" % (high - low, SAMPLES, limit),
        )


def _gain_ppm(field, reference, nominal):
    ppm = (reference * 2000000 + nominal) // (2 * nominal) - 1000000
    if not -_GAIN_MAX_PPM <= ppm <= _GAIN_MAX_PPM:
        raise CalibrationError(
            field,
            "the reference is off by %d ppm, -%d to %d are allowed"
            % (ppm, _GAIN_MAX_PPM, _GAIN_MAX_PPM),
        )
    return ppm
