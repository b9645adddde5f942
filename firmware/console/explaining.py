"""The console's `explain` and `bill`: why the balance moved, and what comes next.

Loaded for one command. The journal is read a record at a time between samples, and what it takes of
the heap does not grow with it. Tests: host_tests/unit/test_explaining.py.
"""

from firmware import outlook
from firmware.console import statements, text
from firmware.console.commands import CommandError
from firmware.core import civil
from firmware.credit.statement import SKIPPED, Explanation


async def explain(console, words):
    """Says why the balance moved: today, in this month, or between the begins of two days."""
    meter = console.meter
    utc_s = meter.clock.utc_s()
    if utc_s is None:
        raise CommandError("explain", "the time is not known yet")
    utc_offset_s = meter.config.utc_offset_s
    since_utc_s, until_utc_s = _moments(meter, words, utc_s)
    explanation = Explanation(since_utc_s, until_utc_s, meter.account.tariff)
    seq = 0
    while not explanation.finished:
        # One at a time: it may hold a long tariff.
        records = meter.journal.records_after(seq, 1, SKIPPED)
        if not records:
            break
        console.free()
        seq = records[0]["seq"]
        explanation.take(records[0])
        records = None
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


async def bill(console, words):
    """Says what today and this month have cost so far, and what is to be expected."""
    if words:
        raise CommandError("bill", "takes nothing behind it")
    meter = console.meter
    account = meter.account
    wh = meter.energy.import_wh
    figures = outlook.figures(meter)
    console.say(_so_far("today", figures["today_wh"], figures["today_mp"]))
    console.say(_so_far("this month", figures["month_wh"], figures["month_mp"]))
    lines = account.open_lines(wh)
    for row in lines:
        console.say(statements.line("  " + row[0], statements.detail(row), row[5]))
    rest_mp = figures["month_mp"] - sum([row[5] for row in lines])
    if rest_mp:
        console.say(statements.line("  not in these lines", "", rest_mp))
    console.say(statements.line("balance", _days_left(figures["days_left"]), meter.balance_mp()))
    if figures["projected_mp"] >= 0:
        console.say(statements.line("the whole month", "as the last days", figures["projected_mp"]))
    console.say(statements.line("the next kWh", "", figures["next_kwh_mp"]))
    ahead = outlook.cliff(account, wh)
    if ahead:
        how = "after %s kWh more" % text.fixed(ahead[0], 1000, 3)
        console.say(statements.line("earlier kWh become dearer", how, ahead[1]))


def _so_far(what, wh, amount_mp):
    return statements.line(what, text.fixed(wh, 1000, 3) + " kWh", amount_mp)


def _days_left(days):
    return "days left: " + (str(days) if days >= 0 else "not known yet")


def _moments(meter, words, utc_s):
    utc_offset_s = meter.config.utc_offset_s
    if not words:
        return utc_s - (utc_s + utc_offset_s) % civil.DAY_S, utc_s + 1
    if words == ["month"]:
        return meter.billing.month_start_utc_s(utc_s), utc_s + 1
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
