"""The console's `explain` and `bill`: why the balance moved, and what comes next.

Loaded for one command. The journal is read in small pieces between samples, and what it takes of
the heap does not grow with it. Tests: host_tests/unit/test_explaining.py.
"""

from firmware.console import statements
from firmware.console.commands import CommandError
from firmware.core import civil
from firmware.core.shim import const
from firmware.credit.statement import Explanation

_PIECE = const(4)  # records read at once


async def explain(console, words):
    """Says why the balance moved: today, in this month, or between the begins of two days."""
    meter = console.meter
    utc_s = meter.clock.utc_s()
    if utc_s is None:
        raise CommandError("explain", "the time is not known yet")
    utc_offset_s = meter.config.utc_offset_s
    since_utc_s, until_utc_s = _moments(words, utc_s, utc_offset_s)
    explanation = Explanation(since_utc_s, until_utc_s, meter.account.tariff)
    seq = 0
    while True:
        records = meter.journal.records_after(seq, _PIECE)
        if not records:
            break
        seq = records[-1]["seq"]
        for record in records:
            explanation.take(record)
        if explanation.finished:
            break
        await console.breathe()
    explanation.end(meter.energy.import_wh)
    statement = explanation.statement
    if statement is None:
        known_utc_s = explanation.known_utc_s
        least = civil.text(known_utc_s, utc_offset_s) if known_utc_s else "a period that begins"
        raise CommandError("explain", "the journal explains nothing before " + least)
    console.say(
        "from %s to %s"
        % (civil.text(since_utc_s, utc_offset_s), civil.text(until_utc_s, utc_offset_s))
    )
    for line in statements.lines(
        statement.opening_mp, statement.movements, statement.closing_mp, utc_offset_s
    ):
        console.say(line)


def _moments(words, utc_s, utc_offset_s):
    if not words:
        return utc_s - (utc_s + utc_offset_s) % civil.DAY_S, utc_s + 1
    if words == ["month"]:
        return civil.month_start_utc_s(utc_s, utc_offset_s), utc_s + 1
    if len(words) > 2:
        raise CommandError("explain", "takes two dates at most")
    moments = [_date(word) * civil.DAY_S - utc_offset_s for word in words]
    since_utc_s, until_utc_s = moments if len(moments) == 2 else (moments[0], utc_s + 1)
    if until_utc_s <= since_utc_s:
        raise CommandError("explain", "the second date must be after the first")
    return since_utc_s, until_utc_s


def _date(word):
    """Days since 1970 of a date like 2026-01-05."""
    parts = word.split("-")
    if [len(part) for part in parts] == [4, 2, 2] and "".join(parts).isdigit():
        date = tuple([int(part) for part in parts])
        if date[0] >= 2000:
            days = civil.days_from_civil(*date)
            if civil.civil_from_days(days) == date:
                return days
    raise CommandError("explain", "must have `month` or dates like 2026-01-05 behind it")
