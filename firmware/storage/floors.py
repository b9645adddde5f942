"""Floors in a second place: what the journal must at least hold, in the chip's NVS.

A journal that was damaged, erased or put back to an old copy shows less than its floors, and the
meter knows that ledger records are missing. An NVS that was erased is filled again. docs/SPEC.md
section 5.6 is the prose. Tests: host_tests/unit/test_ledger_lost.py.

Wear: NVS writes entries of 32 bytes into pages of 4,096 (126 entries) and erases a page when it is
full. Each record takes one to three entries, a half hour two: 35,300 a year, counted by the bench
row `wear`, 280 page erases over the 5 pages that a usual partition has in turn, 56 a year each;
100,000 cycles last 1,700 years.
"""

from firmware.core.shim import const
from firmware.storage.errors import fault

COUNTER = "counter"
LEDGER = "ledger"
STORE = "store"
WH = "wh"
EXPORT_WH = "export_wh"
SEQ = "seq"
# No floor, but kept with them: the utility's causes of an open contact, for a start that finds no
# state or a ledger that is not whole.
BY_UTILITY = "by_utility"
_I32_MAX = const(0x7FFFFFFF)


class Floors:
    """nvs: as esp32.NVS. Values are integers of 0 to 2**31 - 1; `store` is the id's 32 bits."""

    def __init__(self, nvs):
        self._nvs = nvs
        self._values = {}
        for key in (COUNTER, LEDGER, STORE, WH, EXPORT_WH, SEQ, BY_UTILITY):
            try:
                self._values[key] = nvs.get_i32(key)
            except OSError:  # never written, or erased
                pass

    def get(self, key, none=0):
        """A floor; `none` if there is none."""
        return self._values.get(key, none)

    def store_id(self):
        """The journal's id as 8 hex digits; None if there is none."""
        if STORE in self._values:
            return "%08x" % (self._values[STORE] & 0xFFFFFFFF)
        return None

    def keep(self, values):
        """Writes those of `values` that have changed. On flash on return; raises StorageError."""
        changed = {}
        for key in values:
            value = values[key]
            if key == STORE:
                value = int(value, 16)
                value -= (value >> 31) << 32  # signed, as NVS keeps it
            else:
                value = min(value, _I32_MAX)
            if self._values.get(key) != value:
                changed[key] = value
        if not changed:
            return
        try:
            # The store last: floors of another one must not be taken for this one's.
            for key in sorted(changed, key=lambda key: key == STORE):
                self._nvs.set_i32(key, changed[key])
            self._nvs.commit()
        except OSError as error:
            raise fault("NVS write", error)
        self._values.update(changed)
