"""The console's `explain`: spans by words and dates, from the journal, while the meter goes on."""

import pytest

from firmware.storage.journal import Journal
from host_tests.fakes.bench import MIDNIGHT_UTC_S, Bench
from host_tests.fakes.console import BenchTerminal
from host_tests.fakes.documents import tariff_document

DAY_S = 86400


@pytest.fixture
def console(tmp_path):
    bench = Bench(
        tmp_path / "data",
        MIDNIGHT_UTC_S + 26 * DAY_S,  # 2026-01-31
        tariff=tariff_document((1, 500_000), (None, 800_000)),
        opening_balance_mp=10_000_000,
        sample_period_ms=60_000,
    )
    bench.run(2 * DAY_S + 3600, 60, 60)
    bench.order("R-1", 1, amount_mp=5_000_000)
    yield BenchTerminal(bench)
    bench.meter.journal.close()


def shown(console, line):
    return [" ".join(row.split()) for row in console.type(line).splitlines()]


def test_today_the_month_and_days_are_explained_and_meet(console):
    today = shown(console, "explain")
    assert today[0].startswith("from 2026-02-02 00:00:00 to 2026-02-02 01:0")
    # One day was 1.44 kWh: the second slab, which the new month has reached as well.
    assert [line.split(" kWh")[0] for line in today[2:3]] == ["energy above 1"]
    assert today[3].endswith("recharge R-1 50.00000")

    month = shown(console, "explain month")
    assert month[0].startswith("from 2026-02-01 00:00:00")
    assert "energy up to 1 kWh 1.000 kWh at 5.00 -5.00000" in month
    first = shown(console, "explain 2026-02-01 2026-02-02")
    assert month[1] == first[1]
    assert first[-2].split()[-1] == today[1].split()[-1]
    whole = shown(console, "explain 2026-01-31")
    assert whole[1] == "opening balance 0.00000"
    assert any(line.endswith("opening 100.00000") for line in whole)
    assert whole[-2] == month[-2]


def test_the_meter_goes_on_meanwhile(console):
    before_s = console.bench.utc_s
    records = len(console.bench.records())
    console.type("explain month")
    assert console.bench.utc_s - before_s >= records


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("explain week", "`month` or dates"),
        ("explain 2026-02-30", "`month` or dates"),
        ("explain 2026-2-3", "`month` or dates"),
        ("explain 2026-02-03 2026-02-03", "after the first"),
        ("explain 2026-02-01 2026-02-02 2026-02-03", "two dates"),
    ],
)
def test_what_is_no_span_is_refused(console, line, why):
    answer = console.type(line)
    assert answer.startswith("error explain: ")
    assert why in answer


def test_without_the_time_nothing_is_explained(console):
    console.bench.restart(time_known=False)
    console.meter = console.bench.meter
    assert console.type("explain") == "error explain: the time is not known yet\n"


def test_what_was_before_the_oldest_record_is_said(console, tmp_path, monkeypatch):
    records_after = Journal.records_after
    (period,) = [r for r in console.bench.records("period") if r["charge_mp"]]
    gone = period["seq"] - 5

    def without_the_oldest(journal, seq, *how):
        return records_after(journal, max(seq, gone), *how)

    whole = shown(console, "explain month")
    monkeypatch.setattr(Journal, "records_after", without_the_oldest)
    assert shown(console, "explain month")[1:3] == whole[1:3]
    answer = console.type("explain 2026-01-31")
    assert answer == "error explain: the journal explains nothing before 2026-02-01 00:00:00\n"
