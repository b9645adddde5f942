"""Civil dates from UTC seconds, integers only.

Days are counted from 1970-01-01 in the proleptic Gregorian calendar; a local time is UTC plus a
stored offset (India: 19,800 s, no daylight saving). Tested against CPython's `datetime`.
"""

from firmware.core.shim import const

DAY_S = const(86400)


def days_from_civil(year, month, day):
    """Days since 1970-01-01 of a civil date (month 0 to 13: of the years beside, too; day 1-31)."""
    if month <= 2:
        year -= 1
        month += 12
    # Days before the first of `month` in a year that begins in March.
    return (
        365 * year
        + year // 4
        - year // 100
        + year // 400
        + (153 * (month - 3) + 2) // 5
        + day
        - 719469
    )


def civil_from_days(days):
    """(year, month, day) of a count of days since 1970-01-01."""
    days += 719468
    era = days // 146097
    day_of_era = days - era * 146097
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_from_march + 2) // 5 + 1
    month = month_from_march + 3 if month_from_march < 10 else month_from_march - 9
    year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    return year, month, day


def period_of(day, start_day=1):
    """(first day, number of days) of the billing period that contains a count of days since 1970;
    it begins on day 1 to 28 of each month."""
    year, month, day_of_month = civil_from_days(day)
    if day_of_month < start_day:
        month -= 1
    first = days_from_civil(year, month, start_day)
    return first, days_from_civil(year, month + 1, start_day) - first


def month_start_utc_s(utc_s, utc_offset_s, start_day=1):
    """UTC seconds of the first instant of the local billing period that contains `utc_s`; with a
    start day of 1 that is the calendar month."""
    return period_of((utc_s + utc_offset_s) // DAY_S, start_day)[0] * DAY_S - utc_offset_s


def text(utc_s, utc_offset_s):
    """Local time as `2026-01-05 08:00:00`."""
    local_s = utc_s + utc_offset_s
    year, month, day = civil_from_days(local_s // DAY_S)
    second = local_s % DAY_S
    return "%04d-%02d-%02d %02d:%02d:%02d" % (
        year,
        month,
        day,
        second // 3600,
        second // 60 % 60,
        second % 60,
    )
