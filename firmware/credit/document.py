"""Tariff documents, checked. Loaded for as long as one is read: see core/seldom.py.

A document that is refused has changed nothing. Tests: host_tests/unit/test_tariff.py.
"""

from firmware.core.shim import const
from firmware.credit.tariff import (
    DAY_MIN,
    ENERGY,
    FIXED,
    FREE,
    NORMAL,
    PERCENT,
    TIME_OF_DAY,
    ZONES_MAX,
    Tariff,
    TariffError,
)

LINES_MAX = const(12)
SLABS_MAX = const(24)
BANDS_MAX = const(12)
WINDOWS_MAX = const(8)
LIMIT_MAX = const(1000000)  # kWh or kW
WH_PER_KWH = const(1000)
RATE_MAX_MP_PER_KWH = const(100000000)
FIXED_MAX_MP = 10000000000
PERCENT_MIN_X1000 = const(-100000)
PERCENT_MAX_X1000 = const(1000000)

_SHAPES = (
    "telescopic",
    "whole",
    "by_total",
    "per_kwh",
    "free",
    "percent",
    "time_of_day",
    "fixed",
)
KINDS = ("energy", "free", "subsidy", "rebate", "surcharge", "time_of_day", "duty", "fixed")


def parse(document):
    """As `tariff.parse`, of a document."""
    # Where in the document we are. It is put into words for an error only: words would be most of
    # what a good document allocates, and leave the heap in pieces.
    at = []
    if not isinstance(document, dict):
        raise _refusal(at, "document", "must be an object")
    _text(at, document, "id", "!", " without spaces")
    _integer(at, document, "version", 1, 65535)
    if document.get("currency") != "INR":
        raise _refusal(at, "currency", "must be INR")
    _integer(at, document, "effective_from_utc_s", 0, 0xFFFFFFFF)
    tariff = Tariff(document)
    if "period_start_day" in document:
        tariff.period_start_day = _integer(at, document, "period_start_day", 1, 28)
    if "on_change" in document:
        on_change = _word(at, document, "on_change", ("carry_on", "pro_rata"))
        tariff.pro_rata = on_change == "pro_rata"
    if "full_supply_min" in document:
        tariff.full_supply_min = _integer(at, document, "full_supply_min", 1, DAY_MIN)
    if "zones" in document:
        _take_zones(at, tariff, document)
    _take_lines(at, tariff, document)
    return tariff


def _refusal(at, member, why):
    """The TariffError of a member of where we are; "": of that itself."""
    field = ""
    for part in at + [member]:
        if isinstance(part, int):
            field += "[%d]" % part
        elif part:
            field += "." + part if field else part
    return TariffError(field, why)


def _integer(at, values, member, low, high):
    value = values.get(member)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _refusal(at, member, "must be an integer from %d to %d" % (low, high))
    return value


def _word(at, values, member, words):
    value = values.get(member)
    if value not in words:
        raise _refusal(at, member, "must be one of " + ", ".join(words))
    return value


def _text(at, values, member, lowest=" ", more=""):
    """A text of characters from `lowest` on; more: what to say of that."""
    text = values.get(member)
    if (
        not isinstance(text, str)
        or not 1 <= len(text) <= 24
        or not all(lowest <= c <= "~" for c in text)
    ):
        raise _refusal(at, member, "must be 1 to 24 printable ASCII characters" + more)
    return text


def _list(at, values, member, longest):
    value = values.get(member)
    if not isinstance(value, list) or not 1 <= len(value) <= longest:
        raise _refusal(at, member, "must be a list of 1 to %d" % longest)
    return value


def _each(at, values, member, longest):
    """Each object of the list `member`; meanwhile we are there."""
    entries = _list(at, values, member, longest)
    at.append(member)
    at.append(0)
    for entry in entries:
        if not isinstance(entry, dict):
            raise _refusal(at, "", "must be an object")
        yield entry
        at[-1] += 1
    at.pop()
    at.pop()


def _steps(at, values, member, longest, limit, unit):
    """(limit in `unit` or None, entry) of each object of a list whose limits grow."""
    above = 0
    for entry in _each(at, values, member, longest):
        if at[-1] < len(values[member]) - 1:
            above = _integer(at, entry, limit, above + 1, LIMIT_MAX)
            yield above * unit, entry
        elif limit not in entry or entry[limit] is not None:
            raise _refusal(at, limit, "must be null in the last one")
        else:
            yield None, entry


def _take_zones(at, tariff, document):
    names = [NORMAL]
    zones = []
    for window in _each(at, document, "zones", WINDOWS_MAX):
        name = _text(at, window, "name")
        if name == NORMAL:
            raise _refusal(at, "name", "must not be normal: that is every other minute")
        from_min = _integer(at, window, "from_min", 0, DAY_MIN - 1)
        to_min = _integer(at, window, "to_min", from_min + 1, DAY_MIN)
        for other, (_zone, first_min, end_min) in enumerate(zones):
            if from_min < end_min and first_min < to_min:
                raise _refusal(at, "from_min", "must not overlap zones[%d]" % other)
        if name not in names:
            if len(names) == ZONES_MAX:
                raise _refusal(at, "name", "must be one of " + ", ".join(names[1:]))
            names.append(name)
        zones.append((names.index(name), from_min, to_min))
    tariff.zones = tuple(zones)
    tariff.zone_names = tuple(names)


def _take_lines(at, tariff, document):
    lines = []
    fixed = []
    slabs_left = SLABS_MAX
    for line in _each(at, document, "lines", LINES_MAX):
        # A meter of 0.1.0 knew one line only, and asked it for no name.
        name = "energy"
        if "name" in line or len(document["lines"]) > 1:
            name = _text(at, line, "name")
        for other in lines:
            if name == other[0]:
                raise _refusal(at, "name", "must not be that of an earlier line")
        kind = _word(at, line, "kind", KINDS) if "kind" in line else None
        shape = _word(at, line, "shape", _SHAPES)
        of = 0
        if shape in ("telescopic", "whole", "by_total"):
            form = ENERGY
            kind = kind or "energy"
            terms = _classes(at, line, shape, kind)
            for _limit, slabs in terms:
                slabs_left -= len(slabs)
            if slabs_left < 0:
                member = "classes" if shape == "by_total" else "slabs"
                raise _refusal(at, member, "must leave at most %d slabs in all lines" % SLABS_MAX)
        elif shape == "per_kwh":
            form = ENERGY
            rate = _rate(at, line, kind)
            kind = kind or ("rebate" if rate < 0 else "surcharge")
            terms = ((None, ((None, rate),)),)
        elif shape == "free":
            form = FREE
            terms = _integer(at, line, "kwh", 1, LIMIT_MAX) * WH_PER_KWH
            of = _of(at, lines, line, FREE)
        elif shape == "percent":
            form = PERCENT
            terms = _integer(at, line, "percent_x1000", PERCENT_MIN_X1000, PERCENT_MAX_X1000)
            kind = kind or ("rebate" if terms < 0 else "surcharge")
            of = _of(at, lines, line, PERCENT)
        elif shape == "time_of_day":
            form = TIME_OF_DAY
            terms = _percents(at, tariff, lines, line)
            of = _of(at, lines, line, TIME_OF_DAY)
        else:
            form = FIXED
            terms = len(fixed)
            fixed.append(_fixed(at, tariff, line))
        lines.append((name, kind or shape, form, of, terms))
    tariff.lines = tuple(lines)
    tariff.fixed = tuple(fixed)


def _rate(at, entry, kind):
    low = 0 if kind == "energy" else -RATE_MAX_MP_PER_KWH
    return _integer(at, entry, "rate_mp_per_kwh", low, RATE_MAX_MP_PER_KWH)


def _slabs(at, values, kind):
    slabs = []
    for limit_wh, slab in _steps(at, values, "slabs", SLABS_MAX, "up_to_kwh", WH_PER_KWH):
        slabs.append((limit_wh, _rate(at, slab, kind)))
    return tuple(slabs)


def _classes(at, line, shape, kind):
    if shape == "telescopic":
        return ((None, _slabs(at, line, kind)),)
    classes = []
    if shape == "whole":
        for limit_wh, rate in _slabs(at, line, kind):
            classes.append((limit_wh, ((None, rate),)))
    else:
        for limit_wh, entry in _steps(at, line, "classes", SLABS_MAX, "up_to_kwh", WH_PER_KWH):
            classes.append((limit_wh, _slabs(at, entry, kind)))
    return tuple(classes)


def _of(at, lines, line, form):
    """The earlier lines that a line is made from, as bits."""
    fit = 0
    for number, other in enumerate(lines):
        fits = form == PERCENT or other[2] == ENERGY
        if form == TIME_OF_DAY:
            # A fixed charge divided by little energy would have no highest price by kWh.
            fits = other[2] != FIXED and other[3] & ~fit == 0
        fit |= fits << number
    if form == FREE and fit and "of" not in line:
        return fit
    names = [other[0] for number, other in enumerate(lines) if fit >> number & 1]
    if not names:
        raise _refusal(at, "of", "there is no earlier line that it could be made from")
    mask = 0
    for place, name in enumerate(_list(at, line, "of", LINES_MAX)):
        if name not in names:
            raise _refusal(at, "of[%d]" % place, "must be one of " + ", ".join(names))
        for number, other in enumerate(lines):
            if other[0] == name:
                if mask >> number & 1:
                    raise _refusal(at, "of[%d]" % place, "must not be named twice")
                mask |= 1 << number
    return mask


def _percents(at, tariff, lines, line):
    """The percentages of a time of day line by zone."""
    if not tariff.zones:
        raise _refusal(at, "shape", "must not be time_of_day in a tariff without zones")
    for other in lines:
        if other[2] == TIME_OF_DAY:
            raise _refusal(at, "shape", "must not be time_of_day a second time")
    members = line.get("percent_x1000")
    if not isinstance(members, dict):
        raise _refusal(at, "percent_x1000", "must be an object")
    percents = [0] * len(tariff.zone_names)
    at.append("percent_x1000")
    for name in members:
        if name not in tariff.zone_names:
            raise _refusal(at, name, "must be named as one of " + ", ".join(tariff.zone_names))
        percent = _integer(at, members, name, PERCENT_MIN_X1000, PERCENT_MAX_X1000)
        percents[tariff.zone_names.index(name)] = percent
    at.pop()
    return tuple(percents)


def _fixed(at, tariff, line):
    per = _word(at, line, "per", ("connection", "kw", "band"))
    if per == "band":
        bands = []
        for limit_kw, band in _steps(at, line, "bands", BANDS_MAX, "up_to_kw", 1):
            bands.append((limit_kw, _integer(at, band, "rate_mp", 0, FIXED_MAX_MP)))
        bands = tuple(bands)
    else:
        bands = ((None, _integer(at, line, "rate_mp", 0, FIXED_MAX_MP)),)
    collect = _word(at, line, "collect", ("daily", "monthly", "first_recharge"))
    by_supply = line.get("by_supply", False)
    if not isinstance(by_supply, bool):
        raise _refusal(at, "by_supply", "must be true or false")
    if by_supply and collect != "daily":
        raise _refusal(at, "by_supply", "must be false unless collect is daily")
    if by_supply and not tariff.full_supply_min:
        why = "must be an integer from 1 to 1440 for lines[%d]" % at[1]
        raise TariffError("full_supply_min", why)
    return at[1], per, bands, collect, by_supply
