"""When a supply may be cut for want of credit: windows of the week, happy hours, holidays.

The settings give one window on some weekdays; a `calendar` document replaces it. All of it is local
time by the stored offset, in whole minutes: from a start, and not any more at an end.

Invariants
  - An unknown time is never open.
  - Happy hours and holidays win over every window.

docs/SPEC.md section 2.9 describes the document. Tests: host_tests/unit/test_calendar.py,
host_tests/property/test_calendar_model.py.
"""

from firmware.core import seldom
from firmware.core.civil import DAY_S, civil_from_days
from firmware.core.shim import const

_SATURDAY = const(5)  # weekdays are counted from Monday, 0; bit 0 of `days` is Monday
DAY_MIN = const(1440)
_AHEAD_DAYS = const(400)


def check(document):
    """Returns a document if all is right; else ConfigError names the member and what is allowed."""
    from firmware.relay import calendar_document

    try:
        return calendar_document.check(document)
    finally:
        seldom.drop("firmware.relay.calendar_document")


def weekday(day):
    """0 for Monday to 6, of a count of days since 1970-01-01, which was a Thursday."""
    return (day + 3) % 7


def covers(spans, day, minute):
    """True if one of some spans covers a local minute of a day since 1970.

    spans: days, start and end of each, one behind the other; with its end before its start a span
    goes on behind midnight, into a day that `days` need not name.
    """
    today = 1 << weekday(day)
    yesterday = 1 << weekday(day - 1)
    for i in range(0, len(spans), 3):
        days, start_min, end_min = spans[i : i + 3]
        if start_min < end_min:
            if days & today and start_min <= minute < end_min:
                return True
        elif (days & today and minute >= start_min) or (days & yesterday and minute < end_min):
            return True
    return False


class Calendar:
    """The windows of one meter.

    config: has `utc_offset_s`, and `window_days`, `window_start_min`, `window_end_min` for as long
    as no document is taken; they may change.
    """

    def __init__(self, config):
        self._config = config
        self.take(None)

    def take(self, document, ordered=0):
        """Takes a checked document; None or an empty one: back to the settings. ordered: 1 if an
        order gave it, which goes before the configuration's."""
        self._ordered = ordered
        if not document:
            self._set(["", [], [], [], 0])
            return
        from firmware.relay import calendar_document

        try:
            self._set(calendar_document.flat(document))
        finally:
            seldom.drop("firmware.relay.calendar_document")

    def state(self):
        """The state as a list for a snapshot; `restore` takes it back."""
        return [
            self.id,
            self._windows,
            self._happy,
            self._holidays,
            self._second_saturdays,
            self._ordered,
        ]

    def restore(self, state):
        """Takes what `state` gave, if an order was behind it: the configuration's is as it is."""
        if state[5:] != [0]:  # older ones do not tell
            self._ordered = 1
            self._set(state)

    def _set(self, state):
        # Small integers in flat lists: as a dict with its texts the longest takes 2.3 kB of heap.
        self.id, self._windows, self._happy, self._holidays = state[:4]  # "": by the settings
        self._second_saturdays = state[4]

    def is_open(self, utc_s):
        """True while a cut is allowed. `utc_s` None (unknown): never."""
        if utc_s is None:
            return False
        local_s = utc_s + self._config.utc_offset_s
        return self.is_open_at(local_s // DAY_S, local_s % DAY_S // 60)

    def is_open_at(self, day, minute):
        """As `is_open`, of a local minute (0 to 1439) of a day since 1970."""
        return (
            covers(self._spans(), day, minute)
            and not covers(self._happy, day, minute)
            and not self.is_barred(day)
        )

    def is_barred(self, day):
        """True on a holiday, and on a second Saturday if those are barred."""
        if day in self._holidays:
            return True
        if not self._second_saturdays or weekday(day) != _SATURDAY:
            return False
        return 8 <= civil_from_days(day)[2] <= 14

    def next_open_utc_s(self, utc_s):
        """The first instant at or after `utc_s` at which a cut is allowed, None if there is none
        within 400 days."""
        if self.is_open(utc_s):
            return utc_s
        offset_s = self._config.utc_offset_s
        local_s = utc_s + offset_s
        first = self.first_open(local_s // DAY_S, local_s % DAY_S // 60 + 1, _AHEAD_DAYS)
        return None if first is None else first[0] * DAY_S + first[1] * 60 - offset_s

    def first_open(self, day, minute, days):
        """(day, minute) of the first local time from a minute (0 to 1440) of a day since 1970 on
        at which a window opens, in so many days; None if there is none."""
        # Nothing opens but where a window begins or happy hours end.
        minutes = []
        for spans, place in ((self._spans(), 1), (self._happy, 2)):
            for i in range(place, len(spans), 3):
                minutes.append(spans[i])
        minutes.sort()
        for ahead in range(days):
            if not self.is_barred(day + ahead):
                for opening in minutes:
                    if opening >= minute and self.is_open_at(day + ahead, opening):
                        return day + ahead, opening
            minute = 0
        return None

    def _spans(self):
        config = self._config
        return self._windows or (
            config.window_days,
            config.window_start_min,
            config.window_end_min,
        )
