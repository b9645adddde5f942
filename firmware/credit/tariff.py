"""Tariff documents: checked, and kept in a form to charge by.

docs/SPEC.md section 3 describes the document and what each shape charges; charges.py does it. A
document that is refused has changed nothing. Tests: host_tests/unit/test_tariff.py.
"""

import json

from firmware.core.shim import const

LINES_MAX = const(12)
SLABS_MAX = const(24)
BANDS_MAX = const(12)
WINDOWS_MAX = const(8)
ZONES_MAX = const(4)  # with "normal"
LIMIT_MAX_KWH = const(1000000)
LIMIT_MAX_KW = const(1000000)
RATE_MAX_MP_PER_KWH = const(100000000)
FIXED_MAX_MP = 10000000000
PERCENT_MIN_X1000 = const(-100000)
PERCENT_MAX_X1000 = const(1000000)
DAY_MIN = const(1440)
NORMAL = "normal"

KINDS = ("energy", "free", "subsidy", "rebate", "surcharge", "time_of_day", "duty", "fixed")

# Forms of a line: all shapes that price units are classes of slabs.
ENERGY = const(0)
FREE = const(1)
PERCENT = const(2)
TIME_OF_DAY = const(3)
FIXED = const(4)


class TariffError(Exception):
    """A tariff that is refused: `field` is the member at fault, `why` what is allowed."""

    def __init__(self, field, why):
        super().__init__(field + ": " + why)
        self.field = field
        self.why = why


class Tariff:
    """A checked tariff.

    pro_rata: slabs of a period that is split count by days; else they are carried on.
    full_supply_min: minutes of supply from which a day counts whole; 0: it does not matter.
    zones: of each window (number of the zone, first minute, minute after the last).
    zone_names: by number; the first is "normal".
    lines: of each (name, kind, form, of, terms); bit i of `of` is line i. The terms of
        ENERGY are classes of (limit in Wh or None, slabs of (limit in Wh or None, mp per kWh));
        FREE the Wh; PERCENT the percent x 1000; TIME_OF_DAY the same by zone;
        FIXED the index in `fixed`.
    fixed: of each fixed line (index in `lines`, "connection", "kw" or "band", bands of (limit in kW
        or None, mp a month), "daily", "monthly" or "first_recharge", by_supply).
    growth: kept by charges.py.
    """

    def __init__(self, document):
        # A long document takes three times as much heap as its text.
        self._json = json.dumps(document, separators=(",", ":"))
        self.id = document["id"]
        self.version = document["version"]
        self.effective_from_utc_s = document["effective_from_utc_s"]
        self.period_start_day = 1
        self.pro_rata = False
        self.full_supply_min = 0
        self.zones = ()
        self.zone_names = (NORMAL,)
        self.lines = ()
        self.fixed = ()
        self.growth = None

    @property
    def document(self):
        """The document as it was parsed, a fresh dict."""
        return json.loads(self._json)


def parse(document):
    """The Tariff of a document (a dict as in SPEC section 3).

    Raises TariffError, which names the line and field and the allowed range.
    """
    if not isinstance(document, dict):
        raise TariffError("document", "must be an object")
    name = document.get("id")
    if (
        not isinstance(name, str)
        or not 1 <= len(name) <= 24
        or not all("!" <= c <= "~" for c in name)
    ):
        raise TariffError("id", "must be 1 to 24 printable ASCII characters without spaces")
    _integer(document.get("version"), "version", 1, 65535)
    if document.get("currency") != "INR":
        raise TariffError("currency", "must be INR")
    _integer(document.get("effective_from_utc_s"), "effective_from_utc_s", 0, 0xFFFFFFFF)
    tariff = Tariff(document)
    tariff.period_start_day = _integer(
        document.get("period_start_day", 1), "period_start_day", 1, 28
    )
    on_change = _word(document.get("on_change", "carry_on"), "on_change", ("carry_on", "pro_rata"))
    tariff.pro_rata = on_change == "pro_rata"
    if "full_supply_min" in document:
        tariff.full_supply_min = _integer(
            document["full_supply_min"], "full_supply_min", 1, DAY_MIN
        )
    if "zones" in document:
        _take_zones(tariff, document["zones"])
    _take_lines(tariff, document.get("lines"))
    return tariff


def _integer(value, field, low, high):
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise TariffError(field, "must be an integer from %d to %d" % (low, high))
    return value


def _word(value, field, words):
    if value not in words:
        raise TariffError(field, "must be one of " + ", ".join(words))
    return value


def _flag(value, field):
    if not isinstance(value, bool):
        raise TariffError(field, "must be true or false")
    return value


def _name(value, field):
    if (
        not isinstance(value, str)
        or not 1 <= len(value) <= 24
        or not all(" " <= c <= "~" for c in value)
    ):
        raise TariffError(field, "must be 1 to 24 printable ASCII characters")
    return value


def _object(value, field):
    if not isinstance(value, dict):
        raise TariffError(field, "must be an object")
    return value


def _list(value, field, longest, of_what):
    if not isinstance(value, list) or not 1 <= len(value) <= longest:
        raise TariffError(field, "must be a list of 1 to %d %s" % (longest, of_what))
    return value


def _take_zones(tariff, windows):
    names = [NORMAL]
    zones = []
    for number, window in enumerate(_list(windows, "zones", WINDOWS_MAX, "windows")):
        here = "zones[%d]" % number
        _object(window, here)
        name = _name(window.get("name"), here + ".name")
        if name == NORMAL:
            raise TariffError(here + ".name", "must not be normal: that is every other minute")
        from_min = _integer(window.get("from_min"), here + ".from_min", 0, DAY_MIN - 1)
        to_min = _integer(window.get("to_min"), here + ".to_min", from_min + 1, DAY_MIN)
        for other, (_zone, first_min, end_min) in enumerate(zones):
            if from_min < end_min and first_min < to_min:
                raise TariffError(here + ".from_min", "must not overlap zones[%d]" % other)
        if name not in names:
            if len(names) == ZONES_MAX:
                raise TariffError(here + ".name", "must be one of " + ", ".join(names[1:]))
            names.append(name)
        zones.append((names.index(name), from_min, to_min))
    tariff.zones = tuple(zones)
    tariff.zone_names = tuple(names)


def _take_lines(tariff, lines):
    slab_count = 0
    for number, line in enumerate(_list(lines, "lines", LINES_MAX, "lines")):
        here = "lines[%d]" % number
        _object(line, here)
        shape = line.get("shape")
        # A meter of 0.1.0 knew one line only, and asked it for no name.
        name = _name(line.get("name", "energy" if len(lines) == 1 else None), here + ".name")
        for other in tariff.lines:
            if name == other[0]:
                raise TariffError(here + ".name", "must not be that of an earlier line")
        kind = None
        if "kind" in line:
            kind = _word(line["kind"], here + ".kind", KINDS)
        if shape in ("telescopic", "whole", "by_total"):
            kind = kind or "energy"
            taken = (name, kind, ENERGY, 0, _classes(line, shape, here, kind))
            slab_count += sum([len(slabs) for _limit, slabs in taken[4]])
            if slab_count > SLABS_MAX:
                member = ".classes" if shape == "by_total" else ".slabs"
                why = "must be at most %d slabs with those of the earlier lines" % SLABS_MAX
                raise TariffError(here + member, why)
        elif shape == "per_kwh":
            rate = _rate(line, here, kind)
            kind = kind or ("rebate" if rate < 0 else "surcharge")
            taken = (name, kind, ENERGY, 0, ((None, ((None, rate),)),))
        elif shape == "free":
            wh = _integer(line.get("kwh"), here + ".kwh", 1, LIMIT_MAX_KWH) * 1000
            taken = (name, kind or "free", FREE, _of(tariff, line, here, FREE), wh)
        elif shape == "percent":
            field = here + ".percent_x1000"
            percent = _percent(line.get("percent_x1000"), field)
            kind = kind or ("rebate" if percent < 0 else "surcharge")
            taken = (name, kind, PERCENT, _of(tariff, line, here, PERCENT), percent)
        elif shape == "time_of_day":
            percents = _time_of_day(tariff, line, here)
            of = _of(tariff, line, here, TIME_OF_DAY)
            taken = (name, kind or "time_of_day", TIME_OF_DAY, of, percents)
        elif shape == "fixed":
            taken = (name, kind or "fixed", FIXED, 0, len(tariff.fixed))
            tariff.fixed += (_fixed(tariff, line, number, here),)
        else:
            raise TariffError(
                here + ".shape",
                "must be one of telescopic, whole, by_total, per_kwh, free, percent, time_of_day, "
                "fixed",
            )
        tariff.lines += (taken,)


def _steps(entries, where, member, longest, of_what):
    """(place, entry, its limit or None) of each entry of a list whose limits grow."""
    _list(entries, where, longest, of_what)
    below = 0
    for number, entry in enumerate(entries):
        here = "%s[%d]" % (where, number)
        _object(entry, here)
        limit = entry.get(member)
        if number < len(entries) - 1:
            below = _integer(limit, here + "." + member, below + 1, LIMIT_MAX_KWH)
        elif member not in entry or limit is not None:
            raise TariffError(here + "." + member, "must be null in the last of " + of_what)
        yield here, entry, limit


def _in_wh(limit_kwh):
    return None if limit_kwh is None else limit_kwh * 1000


def _rate(entry, here, kind):
    low = 0 if kind == "energy" else -RATE_MAX_MP_PER_KWH
    field = here + ".rate_mp_per_kwh"
    return _integer(entry.get("rate_mp_per_kwh"), field, low, RATE_MAX_MP_PER_KWH)


def _slabs(entries, where, kind):
    slabs = []
    for here, entry, limit in _steps(entries, where, "up_to_kwh", SLABS_MAX, "slabs"):
        slabs.append((_in_wh(limit), _rate(entry, here, kind)))
    return tuple(slabs)


def _classes(line, shape, here, kind):
    if shape == "telescopic":
        return ((None, _slabs(line.get("slabs"), here + ".slabs", kind)),)
    classes = []
    if shape == "whole":
        for limit_wh, rate in _slabs(line.get("slabs"), here + ".slabs", kind):
            classes.append((limit_wh, ((None, rate),)))
        return tuple(classes)
    for place, entry, limit in _steps(
        line.get("classes"), here + ".classes", "up_to_kwh", SLABS_MAX, "classes"
    ):
        classes.append((_in_wh(limit), _slabs(entry.get("slabs"), place + ".slabs", kind)))
    return tuple(classes)


def _of(tariff, line, here, form):
    """The lines that a line is made from, as bits."""
    field = here + ".of"
    fit = 0
    for number, other in enumerate(tariff.lines):
        fits = form == PERCENT or other[2] == ENERGY
        if form == TIME_OF_DAY:
            # A fixed charge divided by little energy would have no highest price by kWh.
            fits = other[2] != FIXED and other[3] & ~fit == 0
        fit |= fits << number
    names = [tariff.lines[number][0] for number in range(len(tariff.lines)) if fit >> number & 1]
    if not names:
        raise TariffError(field, "there is no earlier line that it could be made from")
    if form == FREE and "of" not in line:
        return fit
    mask = 0
    for number, name in enumerate(_list(line.get("of"), field, LINES_MAX, "lines")):
        place = "%s[%d]" % (field, number)
        _word(name, place, names)
        for other, earlier in enumerate(tariff.lines):
            if earlier[0] == name:
                if mask >> other & 1:
                    raise TariffError(place, "must not be named twice")
                mask |= 1 << other
    return mask


def _percent(value, field):
    return _integer(value, field, PERCENT_MIN_X1000, PERCENT_MAX_X1000)


def _time_of_day(tariff, line, here):
    if not tariff.zones:
        raise TariffError(here + ".shape", "must not be time_of_day in a tariff without zones")
    for other in tariff.lines:
        if other[2] == TIME_OF_DAY:
            raise TariffError(here + ".shape", "must not be time_of_day a second time")
    field = here + ".percent_x1000"
    members = _object(line.get("percent_x1000"), field)
    percents = [0] * len(tariff.zone_names)
    for name in members:
        place = field + "." + name
        zone = tariff.zone_names.index(_word(name, place, tariff.zone_names))
        percents[zone] = _percent(members[name], place)
    return tuple(percents)


def _fixed(tariff, line, number, here):
    per = _word(line.get("per"), here + ".per", ("connection", "kw", "band"))
    bands = []
    if per == "band":
        for place, entry, limit in _steps(
            line.get("bands"), here + ".bands", "up_to_kw", BANDS_MAX, "bands"
        ):
            bands.append((limit, _monthly(entry, place)))
    else:
        bands.append((None, _monthly(line, here)))
    collect = _word(line.get("collect"), here + ".collect", ("daily", "monthly", "first_recharge"))
    by_supply = _flag(line.get("by_supply", False), here + ".by_supply")
    if by_supply and collect != "daily":
        raise TariffError(here + ".by_supply", "must be false unless collect is daily")
    if by_supply and not tariff.full_supply_min:
        raise TariffError("full_supply_min", "must be an integer from 1 to 1440 for " + here)
    return number, per, tuple(bands), collect, by_supply


def _monthly(entry, here):
    return _integer(entry.get("rate_mp"), here + ".rate_mp", 0, FIXED_MAX_MP)
