"""Tariff documents and the charge lines that they give.

A charge is a pure function of the period's energy and the tariff: each slab is one line, rounded
once, half up, to a milli-paisa, and the total is the sum of the lines, so that any deduction can
be explained line by line. docs/SPEC.md section 3 describes the document.
Tests: host_tests/unit/test_tariff.py.
"""

SLABS_MAX = 12
LIMIT_MAX_KWH = 1000000
RATE_MAX_MP_PER_KWH = 100000000


class TariffError(Exception):
    """A tariff that is refused: `field` is the member at fault, `why` what is allowed."""

    def __init__(self, field, why):
        super().__init__(field + ": " + why)
        self.field = field
        self.why = why


class Tariff:
    """A checked tariff: `slabs` is a tuple of (upper limit in Wh or None, rate in mp per kWh)."""

    def __init__(self, document, slabs):
        self.document = document
        self.id = document["id"]
        self.version = document["version"]
        self.effective_from_utc_s = document["effective_from_utc_s"]
        self.slabs = slabs


def _integer(value, field, low, high):
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise TariffError(field, "must be an integer from %d to %d" % (low, high))
    return value


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
    lines = document.get("lines")
    if not isinstance(lines, list) or len(lines) != 1:
        raise TariffError("lines", "must be a list of exactly one line")
    line = lines[0]
    if not isinstance(line, dict) or line.get("shape") != "telescopic":
        raise TariffError("lines[0].shape", "must be telescopic")
    return Tariff(document, _parse_slabs(line.get("slabs")))


def _parse_slabs(entries):
    where = "lines[0].slabs"
    if not isinstance(entries, list) or not 1 <= len(entries) <= SLABS_MAX:
        raise TariffError(where, "must be a list of 1 to %d slabs" % SLABS_MAX)
    slabs = []
    below_kwh = 0
    for number, entry in enumerate(entries):
        here = "%s[%d]" % (where, number)
        if not isinstance(entry, dict):
            raise TariffError(here, "must be an object")
        rate = _integer(
            entry.get("rate_mp_per_kwh"), here + ".rate_mp_per_kwh", 0, RATE_MAX_MP_PER_KWH
        )
        if number == len(entries) - 1:
            if "up_to_kwh" not in entry or entry["up_to_kwh"] is not None:
                raise TariffError(here + ".up_to_kwh", "must be null in the last slab")
            slabs.append((None, rate))
        else:
            limit = entry.get("up_to_kwh")
            _integer(limit, here + ".up_to_kwh", below_kwh + 1, LIMIT_MAX_KWH)
            slabs.append((limit * 1000, rate))
            below_kwh = limit
    return tuple(slabs)


def charge_lines(tariff, energy_wh):
    """The lines of the charge for `energy_wh` (>= 0) in one billing period.

    Each is (name, energy in Wh, rate in mp per kWh, amount in mp); slabs not reached give none.
    """
    lines = []
    below_wh = 0
    for limit_wh, rate in tariff.slabs:
        if energy_wh <= below_wh:
            break
        upper_wh = energy_wh if limit_wh is None else min(energy_wh, limit_wh)
        in_slab_wh = upper_wh - below_wh
        above = (
            "up to %d kWh" % (limit_wh // 1000) if limit_wh else "above %d kWh" % (below_wh // 1000)
        )
        lines.append(("energy " + above, in_slab_wh, rate, (in_slab_wh * rate + 500) // 1000))
        below_wh = upper_wh
    return lines


def charge_mp(tariff, energy_wh):
    """The sum of the charge lines in mp, without building them."""
    total_mp = 0
    below_wh = 0
    for limit_wh, rate in tariff.slabs:
        if energy_wh <= below_wh:
            break
        upper_wh = energy_wh if limit_wh is None else min(energy_wh, limit_wh)
        total_mp += ((upper_wh - below_wh) * rate + 500) // 1000
        below_wh = upper_wh
    return total_mp


def total_mp(lines):
    """The sum of charge lines in mp."""
    return sum(line[3] for line in lines)
