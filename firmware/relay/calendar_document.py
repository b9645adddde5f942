"""Calendar documents, checked and taken apart. Loaded while one is read: see core/seldom.py.

Tests: host_tests/unit/test_calendar.py.
"""

from firmware.core.civil import civil_from_days, days_from_civil
from firmware.core.config import ConfigError
from firmware.core.shim import const
from firmware.relay.calendar import DAY_MIN, Calendar

SPANS_MAX = const(8)
HOLIDAYS_MAX = const(40)
ID_MAX = const(24)
_ALL_DAYS = const(127)
_MONDAY = const(20605)  # 2026-06-01: its week has no second Saturday
_MEMBERS = ("v", "id", "windows", "happy", "holidays", "second_saturdays")


def check(document):
    """As `calendar.check`."""
    if not isinstance(document, dict):
        raise ConfigError("calendar", "must be an object")
    for name in document:
        if name not in _MEMBERS:
            raise ConfigError(name, "is no member of a calendar: " + ", ".join(_MEMBERS))
    _integer(document.get("v"), "v", 1, 1)
    name = document.get("id")
    if (
        not isinstance(name, str)
        or not 1 <= len(name) <= ID_MAX
        or not all("!" <= c <= "~" for c in name)
    ):
        raise ConfigError(
            "id", "must be 1 to %d printable ASCII characters without spaces" % ID_MAX
        )
    _spans(document, "windows", 1)
    _spans(document, "happy", 0)
    _holidays(document)
    _integer(document.get("second_saturdays", 0), "second_saturdays", 0, 1)
    calendar = Calendar(None)
    calendar.take(dict(document, holidays=[]))
    if calendar.first_open(_MONDAY, 0, 7) is None:
        raise ConfigError("happy", "must leave a part of the windows in each week")
    return document


def _list(document, field, least, most):
    value = document.get(field, [])
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise ConfigError(field, "must be a list of %d to %d" % (least, most))
    return value


def _integer(value, field, low, high):
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(field, "must be an integer from %d to %d" % (low, high))


def _spans(document, field, least):
    over_midnight = not least
    for i, span in enumerate(_list(document, field, least, SPANS_MAX)):
        at = "%s[%d]" % (field, i)
        if not isinstance(span, list) or len(span) != 3:
            raise ConfigError(at, "must be [days, start_min, end_min]")
        days, start_min, end_min = span
        _integer(days, at + ".days", 1, _ALL_DAYS)
        _integer(start_min, at + ".start_min", 0, DAY_MIN - 1)
        _integer(end_min, at + ".end_min", 1, DAY_MIN)
        if start_min == end_min or (start_min > end_min and not over_midnight):
            raise ConfigError(
                at + ".end_min",
                "must not be start_min" if over_midnight else "must be above start_min",
            )


def _holidays(document):
    last = ""
    for i, text in enumerate(_list(document, "holidays", 0, HOLIDAYS_MAX)):
        at = "holidays[%d]" % i
        if not _is_date(text):
            raise ConfigError(at, "must be a date like 2026-01-26, of 2024 to 2099")
        if text <= last:
            raise ConfigError(at, "must be after the one before")
        last = text


def _is_date(text):
    if not isinstance(text, str) or len(text) != 10 or text[4] + text[7] != "--":
        return False
    numbers = text[:4] + text[5:7] + text[8:]
    if not all("0" <= c <= "9" for c in numbers):
        return False
    date = int(text[:4]), int(text[5:7]), int(text[8:])
    return (
        2024 <= date[0] <= 2099
        and 1 <= date[1] <= 12
        and 1 <= date[2] <= 31
        and civil_from_days(days_from_civil(*date)) == date
    )


def flat(document):
    """A checked document as `Calendar.restore` takes it."""
    return [
        document["id"],
        [number for span in document["windows"] for number in span],
        [number for span in document.get("happy", ()) for number in span],
        [_day_of(text) for text in document.get("holidays", ())],
        document.get("second_saturdays", 0),
    ]


def _day_of(text):
    return days_from_civil(int(text[:4]), int(text[5:7]), int(text[8:]))
