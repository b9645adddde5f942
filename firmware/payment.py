"""The payment mode of one meter: tells each switch, and holds the credit cut behind one.

The account (credit/account.py) knows the mode; in payment mode credit no rule of credit applies.
Behind a switch to prepayment nobody is cut for want of credit for 7 days, which begin when the time
is known. docs/SPEC.md section 2.4.3 is the prose. Tests: host_tests/unit/test_modes.py.
"""

from firmware.core import events
from firmware.core.shim import const

_HOLD_S = const(604800)
_HOLD_MAX_S = const(691200)  # longer, and the clock was set back: the hold begins anew
_WHEN_KNOWN = const(1)  # for a time before which no cut is: it waits for the clock


class Payment:
    """What a Meter does about its payment mode."""

    def __init__(self, meter):
        self._meter = meter
        self._told = events.PREPAID  # each meter begins so
        self._no_cut_before_utc_s = 0  # 0: any time will do

    def state(self):
        """The state as a list for a snapshot; `restore` takes it back."""
        return [self._told, self._no_cut_before_utc_s]

    def restore(self, state):
        """Takes what `state` gave."""
        self._told, self._no_cut_before_utc_s = state

    def apply(self, record):
        """Takes a journal record: live after it is written, and at recovery."""
        kind = record["type"]
        if kind == "mode":
            self._no_cut_before_utc_s = 0
            if record["mode"] == "prepayment":
                self._no_cut_before_utc_s = _WHEN_KNOWN
                if record["time_valid"]:
                    self._no_cut_before_utc_s = record["utc_s"] + _HOLD_S
        elif kind == "event":
            if record["code"] in (events.POSTPAID, events.PREPAID):
                self._told = record["code"]
            elif record["code"] == events.NO_CUT_BEFORE:
                self._no_cut_before_utc_s = record["detail"]

    def step(self, utc_s):
        """Writes the event of a switch, and when cuts begin as soon as that is known.

        utc_s: the time or None. Raises StorageError.
        """
        meter = self._meter
        before_utc_s = self._no_cut_before_utc_s
        code = events.POSTPAID if meter.account.postpaid else events.PREPAID
        if code != self._told:
            meter.event(code, 0 if before_utc_s == _WHEN_KNOWN else before_utc_s)
        if utc_s is None or not before_utc_s:
            return
        if before_utc_s == _WHEN_KNOWN or before_utc_s - utc_s > _HOLD_MAX_S:
            meter.event(events.NO_CUT_BEFORE, utc_s + _HOLD_S)
        elif utc_s >= before_utc_s:
            self._no_cut_before_utc_s = 0

    def holds(self):
        """True while there is no credit cut because of a switch."""
        return self._no_cut_before_utc_s != 0

    def earliest_utc_s(self, utc_s):
        """`utc_s`, or the first moment behind it that a switch leaves to a credit cut."""
        return max(utc_s, self._no_cut_before_utc_s)
