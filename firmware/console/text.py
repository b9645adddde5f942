"""Words and figures for people: one home for how an amount, an energy or a record is written."""

from firmware.core import civil


def fixed(value, divisor, digits):
    """`value / divisor` with `digits` decimals, cut off towards zero; divisor a power of ten."""
    scale = 1
    for _ in range(digits):
        scale *= 10
    shown = abs(value) * scale // divisor
    sign = "-" if value < 0 and shown else ""
    return "%s%d.%0*d" % (sign, shown // scale, digits, shown % scale)


def rupees(amount_mp, digits=2):
    """Milli-paise as rupees, `-12.34`."""
    return fixed(amount_mp, 100000, digits)


def when(utc_s, utc_offset_s, up_s):
    """Local time, or the uptime while the time is unknown."""
    if utc_s is None:
        return "+%02d:%02d:%02d (no time)  " % (up_s // 3600, up_s // 60 % 60, up_s % 60)
    return civil.text(utc_s, utc_offset_s)
