"""Tariffs in a form to charge by.

docs/SPEC.md section 3 describes the document and what each shape charges: document.py checks the
one, charges.py does the other. Tests: host_tests/unit/test_tariff.py.
"""

import json

from firmware.core import seldom
from firmware.core.shim import const

ZONES_MAX = const(4)  # with "normal"
DAY_MIN = const(1440)
NORMAL = "normal"


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
    json: the document as its bytes; a record may carry a Tariff in place of its document.
    growth: kept by charges.py. settled: how often Account.settle made it.
    """

    def __init__(self, document):
        # The largest takes 4.4 kB of heap as a dict, 2.7 kB as text.
        self.json = json.dumps(document, separators=(",", ":")).encode()
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
        self.settled = 0

    @property
    def document(self):
        """The document as it was parsed, a fresh dict."""
        return json.loads(self.json)

    def is_of(self, document):
        """True if it was parsed from this document, with its members in the same order."""
        return self.json == json.dumps(document, separators=(",", ":")).encode()


def is_pro_rata(document):
    """What a checked document, or its Tariff, says about slabs when it comes into force."""
    if isinstance(document, Tariff):
        return document.pro_rata
    return document.get("on_change") == "pro_rata"


def parse(document):
    """The Tariff of a document (a dict as in SPEC section 3); a Tariff is its own.

    Raises TariffError, which names the line and field and the allowed range.
    """
    if isinstance(document, Tariff):
        return document
    from firmware.credit import document as documents

    try:
        return documents.parse(document)
    finally:
        seldom.drop("firmware.credit.document")
