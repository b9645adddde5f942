"""Sensor steps to primary quantities by a gain and a shift, below 2**30 at every step.

A gain is `step * 2**shift`, rounded, with as many bits as leave raw * gain below 2**30, so the
error of the gain itself is below 31 ppm for the current and 8 ppm for the voltage.
"""

from firmware.core.shim import const

_GAIN_LIMIT_BUS = const(131072)  # 13-bit raw, 17-bit gain
_GAIN_LIMIT_SHUNT = const(32768)  # 15-bit raw and sign, 15-bit gain


def _gain(numerator, denominator, limit):
    """(gain, shift) with gain / 2**shift nearest to numerator / denominator and gain < limit."""
    shift = 0
    while shift < 20 and (numerator << shift + 1) + (denominator >> 1) < limit * denominator:
        shift += 1
    return ((numerator << shift) + (denominator >> 1)) // denominator, shift


def bus_gain(voltage_ratio_x1000, ppm=0):
    """(gain, shift) from the 4 mV step of the bus register to primary mV. Ratio 1 to 12.5; ppm: by
    how much a calibration makes it more."""
    return _gain(4 * voltage_ratio_x1000 * (1000000 + ppm), 1000000000, _GAIN_LIMIT_BUS)


def shunt_gain(current_ratio_x1000, shunt_uohm, ppm=0):
    """(gain, shift) from the 10 uV step of the shunt register to primary uA; ppm as above."""
    ratio = 10000 * current_ratio_x1000 * (1000000 + ppm)
    return _gain(ratio, shunt_uohm * 1000000, _GAIN_LIMIT_SHUNT)
