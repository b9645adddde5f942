"""A credit.statement as lines for people, at the meter's console and at the gateway."""

from firmware.console.text import fixed, rupees
from firmware.core import civil

_EXACT = 5  # decimals of a rupee: a milli-paisa


def detail(row):
    """How a movement or a line of a charge comes about: `45.000 kWh at 6.05`; empty if its name
    says it."""
    quantity, unit, rate = row[2:5]
    if unit == "Wh":
        words = fixed(quantity, 1000, 3) + " kWh"
        return words + " at " + _price(rate) if rate is not None else words
    if unit == "%":
        return "%s %% of %s" % (_trimmed(rate, 1000, 3), rupees(quantity))
    if unit == "emergency":
        return rupees(quantity) + " of it repay emergency credit"
    if unit:
        return "%d %s at %s a month" % (quantity, unit, _price(rate))
    return ""


def _price(rate_mp):
    shown = rupees(rate_mp, _EXACT)
    return shown[:-3] if shown.endswith("000") else shown


def _trimmed(value, divisor, digits):
    shown = fixed(value, divisor, digits).rstrip("0")
    return shown[:-1] if shown.endswith(".") else shown


def name(row, utc_offset_s):
    """What moved the balance, with its time if it was at one."""
    return (civil.text(row[6], utc_offset_s) + " " if row[6] else "") + row[0]


def lines(opening_mp, movements, closing_mp, utc_offset_s):
    """Yields the lines of a statement: opening balance, movements, closing balance."""
    yield line("opening balance", "", opening_mp)
    for row in movements:
        yield line(name(row, utc_offset_s), detail(row), row[5])
    yield line("closing balance", "", closing_mp)
    yield line("moved in all", "", closing_mp - opening_mp)


def line(what, how, amount_mp):
    """One line of three columns, the amount in rupees to the milli-paisa."""
    return "%-44s %-28s %16s" % (what, how, rupees(amount_mp, _EXACT))
