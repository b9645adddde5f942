"""A flash or NVS that refuses: metering goes on, nothing is done or said that is not on flash."""

import errno
import functools

import pytest

from firmware.core import trace
from firmware.credit.account import Account
from firmware.storage import errors, faults
from host_tests.fakes.bench import HOUR_S, MIDNIGHT_UTC_S, NVS
from host_tests.fakes.documents import tariff_document

RUPEE_MP = 100000


@pytest.fixture
def make_bench(make_bench, flash):
    # A long period, so that a test may run in long steps.
    yield functools.partial(make_bench, sample_period_ms=60000)
    flash.refuses = None


@pytest.fixture
def bench(make_bench):
    bench = make_bench()
    bench.run(HOUR_S, 960, step_s=10)
    return bench


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_metering_goes_on_in_memory_and_comes_back_by_itself(bench, flash, number):
    before = bench.meter.live()
    flash.refuses = number
    bench.run(2 * HOUR_S + 600, 960, step_s=10)
    live = bench.meter.live()
    assert live["service"] == "storage"
    assert live["import_wh"] == before["import_wh"]
    assert 2000 < live["uncommitted_wh"] < 2200
    assert "SERVICE storage" in bench.meter.status_line(True, 0)
    flash.refuses = None
    bench.run(120, 960, step_s=10)
    live = bench.meter.live()
    assert (live["service"], live["uncommitted_wh"] < 20) == ("", True)
    began, ended = bench.records("event", 1034)[0], bench.records("event", 1035)[0]
    assert began["detail"] == number
    assert ended["detail"] == pytest.approx(2 * HOUR_S + 600, abs=700)
    bench.run(HOUR_S, 960, step_s=10)
    total = 0
    for block in bench.records("load"):
        total += block["energy_wh"]
        assert block["import_wh"] == total
        assert block["utc_s"] == pytest.approx(block["start_utc_s"] + 1800, abs=20)
    assert len(bench.records("load")) == 8
    wh = bench.meter.live()["import_wh"]
    bench.restart()
    assert bench.meter.live()["import_wh"] == wh
    assert bench.meter.live()["service"] == ""


def zoned():
    """A tariff with an evening zone from 18:00 to 22:00, and 31 rupees a month collected daily."""
    document = tariff_document()
    document["zones"] = [{"name": "peak", "from_min": 1080, "to_min": 1320}]
    document["lines"] += [
        {
            "name": "time",
            "shape": "time_of_day",
            "percent_x1000": {"peak": 50000},
            "of": ["energy"],
        },
        {
            "name": "rent",
            "shape": "fixed",
            "per": "connection",
            "rate_mp": 31 * RUPEE_MP,
            "collect": "daily",
        },
    ]
    return document


def test_a_recharge_closes_though_the_warning_behind_it_cannot_be_written(make_bench, flash):
    """What it pays leaves so little that a warning is due in the same second."""
    bench = make_bench(opening_balance_mp=0)
    bench.run(36 * HOUR_S, 60, step_s=30)
    assert not bench.contact.closed
    flash.refuses, flash.writes = errno.EIO, 1
    amount_mp = 2 * RUPEE_MP - bench.meter.balance_mp()
    bench.order("r-1", 1, amount_mp=amount_mp)
    bench.run(2, 0)
    assert bench.meter.balance_mp() == 2 * RUPEE_MP
    assert bench.records()[-1]["type"] == "credit"
    assert bench.contact.closed


@pytest.mark.parametrize(("hours", "days"), [(4, 1), (60, 3)])
def test_days_and_zones_stay_where_they_were(make_bench, flash, hours, days):
    bench = make_bench(MIDNIGHT_UTC_S + 21 * HOUR_S, tariff=zoned())
    bench.run(1800, 600, step_s=60)
    flash.refuses = errno.EIO
    bench.run(hours * HOUR_S - 1800, 600, step_s=60)
    assert bench.meter.live()["service"] == "storage"
    flash.refuses = None
    bench.run(300, 0, step_s=60)
    assert bench.meter.live()["service"] == ""
    tallies = bench.records("tally")
    assert [t["zone"] for t in tallies[:3]] == [1, 0, 0]
    # One hour of the first evening, and whole ones as long as there is room to hold their ends.
    evenings_wh = 600 + 2400 * (hours // 24)
    usage = bench.meter.account.usage
    assert usage.zone_wh[1] == pytest.approx(evenings_wh, abs=30)
    assert usage.fixed == [days * 31 * RUPEE_MP]
    balance_mp = bench.meter.balance_mp()
    bench.restart()
    assert bench.meter.balance_mp() == balance_mp


@pytest.mark.parametrize(("before_s", "days"), [(600, 1), (4 * 24 * HOUR_S, 5)])
def test_a_period_ends_with_its_last_day_though_the_flash_refuses(
    make_bench, flash, before_s, days
):
    month_utc_s = MIDNIGHT_UTC_S + 27 * 24 * HOUR_S  # 1 February
    bench = make_bench(month_utc_s - before_s - HOUR_S, tariff=zoned())
    bench.run(HOUR_S + before_s % HOUR_S - 60, 600, step_s=60)
    flash.refuses = errno.EIO
    bench.run(before_s + HOUR_S, 600, step_s=60)
    flash.refuses = None
    bench.run(300, 0, step_s=60)
    assert bench.meter.live()["service"] == ""
    tally, period = [r for r in bench.records() if r["type"] in ("tally", "period")][-3:-1]
    assert (tally["type"], tally["import_wh"]) == ("tally", period["end_wh"])
    account = Account()
    for record in bench.records():
        if record["seq"] == period["seq"]:
            break
        account.apply(record)
    assert account.usage.fixed == [days * 31 * RUPEE_MP]
    assert period["charge_mp"] == account.period_charge_mp(period["end_wh"])
    assert bench.meter.account.usage.fixed == [0]


def test_a_period_that_is_not_over_after_all_ends_where_it_does(make_bench, flash):
    month_utc_s = MIDNIGHT_UTC_S + 27 * 24 * HOUR_S
    bench = make_bench(month_utc_s - 600, tariff=zoned())
    bench.run(300, 600, step_s=60)
    flash.refuses = errno.EIO
    bench.run(600, 600, step_s=60)
    assert bench.meter.set_time((bench.utc_s - 3 * HOUR_S) * 1000)
    flash.refuses = None
    bench.run(2 * HOUR_S, 600, step_s=60)
    wh = bench.meter.energy.import_wh
    bench.run(HOUR_S, 600, step_s=60)
    (period,) = [r for r in bench.records("period") if r["start_utc_s"]]
    assert period["end_wh"] > wh


def test_flash_is_tried_once_a_minute_and_not_more(bench, flash):
    flash.refuses = errno.EIO
    tries = []
    refuse = flash.fsync
    errors._fsync = lambda descriptor: tries.append(1) or refuse(descriptor)
    bench.run(HOUR_S, 960, step_s=1)
    assert 55 <= len(tries) <= 62


def test_of_many_blocks_the_last_eight_are_kept_and_the_loss_is_told(bench, flash):
    flash.refuses = errno.EIO
    bench.run(7 * HOUR_S, 960, step_s=10)
    flash.refuses = None
    bench.run(120, 960, step_s=10)
    starts = [block["start_utc_s"] for block in bench.records("load")]
    assert starts == [MIDNIGHT_UTC_S + 1800 * n for n in (0, 1, *range(8, 16))]
    assert any("lost 6 records" in line for line in bench.lines)


def test_an_order_is_not_answered_and_taken_once_when_it_comes_again(bench, flash):
    balance_mp = bench.meter.live()["balance_mp"]
    flash.refuses = errno.EIO
    assert bench.order("r-1", 1, amount_mp=5 * RUPEE_MP) is None
    assert bench.meter.live()["balance_mp"] == balance_mp
    assert bench.order("r-1", 1, amount_mp=5 * RUPEE_MP) is None
    flash.refuses = None
    bench.run(60, 0, step_s=10)
    balance_mp = bench.meter.live()["balance_mp"]
    answer = bench.order("r-1", 1, amount_mp=5 * RUPEE_MP)
    assert (answer["result"], answer["balance_mp"]) == ("accepted", balance_mp + 5 * RUPEE_MP)
    bench.restart()
    assert len(bench.records("credit")) == 2


def test_no_cut_while_the_flash_refuses_and_it_follows(make_bench, flash):
    bench = make_bench(opening_balance_mp=0)
    bench.run(33 * HOUR_S, 0, step_s=10)
    assert bench.contact.closed
    flash.refuses = errno.EIO
    bench.run(2 * HOUR_S, 0, step_s=10)
    assert bench.contact.closed and bench.meter.live()["contact"] == 1
    flash.refuses = None
    bench.run(120, 0, step_s=10)
    assert not bench.contact.closed
    assert bench.records("control")[-1]["contact"] == 0


def refuse_after_one_record(bench, flash):
    """The flash takes one more record; returns the journal's own `append`."""
    append = bench.meter.journal.append

    def once(name, *arguments):
        seq = append(name, *arguments)
        flash.refuses = errno.EIO
        return seq

    bench.meter.journal.append = once
    return append


def test_a_recharge_on_flash_recloses_though_the_relays_record_is_refused(make_bench, flash):
    bench = make_bench(opening_balance_mp=0)
    bench.run(36 * HOUR_S, 0, step_s=10)
    assert not bench.contact.closed
    append = refuse_after_one_record(bench, flash)
    assert bench.order("r-1", 1, amount_mp=5 * RUPEE_MP) is None
    bench.meter.journal.append = append
    assert bench.contact.closed
    assert bench.meter.live()["contact"] == 0  # not on flash, not said
    bench.run(HOUR_S, 0, step_s=10)
    assert bench.contact.closed
    flash.refuses = None
    bench.run(120, 0, step_s=10)
    assert bench.contact.closed and bench.meter.live()["contact"] == 1
    assert bench.order("r-1", 1, amount_mp=5 * RUPEE_MP)["result"] == "accepted"
    assert not bench.records("event", 253)
    assert sum(entry["amount_mp"] for entry in bench.records("credit")) == 5 * RUPEE_MP


def test_a_power_cut_meanwhile_comes_to_the_same(make_bench, flash):
    bench = make_bench(opening_balance_mp=0)
    bench.run(36 * HOUR_S, 0, step_s=10)
    refuse_after_one_record(bench, flash)
    bench.order("r-1", 1, amount_mp=5 * RUPEE_MP)
    flash.refuses = None
    bench.restart()
    bench.run(10, 0)
    assert bench.contact.closed


def test_an_nvs_that_refuses_holds_the_answer_back(bench):
    def refuse():
        raise OSError(-0x1105)

    bench.nvs.commit = refuse
    assert bench.order("r-1", 1, amount_mp=5 * RUPEE_MP) is None
    assert bench.order("r-1", 1, amount_mp=5 * RUPEE_MP) is None
    assert bench.meter.live()["service"] == "storage"
    del bench.nvs.commit
    bench.run(120, 0, step_s=10)
    assert bench.nvs.kept["counter"] == 1
    assert bench.order("r-1", 1, amount_mp=5 * RUPEE_MP)["result"] == "accepted"
    assert len(bench.records("credit")) == 2


def test_a_start_on_a_flash_that_refuses_is_made_up_for(make_bench, flash):
    bench = make_bench()
    bench.run(HOUR_S, 960, step_s=10)
    bench.meter.journal.close()
    flash.refuses = errno.ENOSPC
    bench.boot(bench.utc_s)
    bench.run(HOUR_S, 960, step_s=10)
    live = bench.meter.live()
    assert (live["service"], live["contact"]) == ("storage", 1)
    assert live["uncommitted_wh"] > 900
    flash.refuses = None
    bench.run(120, 960, step_s=10)
    assert len(bench.records("boot")) == 2
    assert bench.meter.live()["service"] == ""


def test_a_new_meter_on_a_flash_that_refuses_opens_its_account_once(make_bench, flash):
    flash.refuses = errno.EIO
    bench = make_bench()
    bench.run(HOUR_S, 960, step_s=10)
    assert bench.meter.live()["balance_mp"] == 0
    flash.refuses = None
    bench.run(120, 960, step_s=10)
    bench.restart()
    assert [entry["kind"] for entry in bench.records("credit")] == ["opening"]
    assert len(bench.records("tariff")) == 1


def test_a_record_that_did_not_reach_the_state_restarts_the_meter_and_counts(bench, monkeypatch):
    def no_memory(record):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(bench.meter.orders, "apply", no_memory)
        with pytest.raises(MemoryError):
            bench.order("r-1", 1, amount_mp=5 * RUPEE_MP)
    with pytest.raises(RuntimeError):
        bench.run(10, 0, step_s=10)
    bench.meter.stop()  # must not hide the record behind a snapshot
    bench.restart()
    assert bench.records("credit")[-1]["id"] == "r-1"
    assert bench.meter.account.credits_mp == 105 * RUPEE_MP


def test_no_memory_is_ridden_out_and_then_restarts(bench, monkeypatch):
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(bench.meter.journal, "append", no_memory)
    monkeypatch.setattr(bench.meter.journal, "checkpoint", no_memory)
    monkeypatch.setattr(bench.meter.journal, "snapshot", no_memory)
    with pytest.raises(MemoryError):
        bench.run(HOUR_S, 960, step_s=10)
    assert bench.meter.live()["service"] == "storage"


def test_memory_that_ends_behind_a_record_does_not_write_it_twice(make_bench, flash):
    flash.refuses = errno.EIO
    bench = make_bench()
    flash.refuses = None

    def no_memory():
        if bench.meter.journal.last_seq == 4:  # the opening credit is on flash
            bench.meter._changed = lambda: None
            raise MemoryError

    bench.meter._changed = no_memory
    bench.run(200, 0, step_s=10)
    assert [record["kind"] for record in bench.records("credit")] == ["opening"]
    assert len(bench.records("tariff")) == 1
    assert bench.meter.account.credits_mp == 100 * RUPEE_MP


def test_a_stop_at_the_console_loses_nothing(bench):
    bench.run(30, 960)
    live = bench.meter.live()
    bench.meter.stop()
    bench.restart(cause="soft")
    after = bench.meter.live()
    assert after["import_wh"] == live["import_wh"] + live["uncommitted_wh"] > live["import_wh"]


def test_a_flapping_sensor_does_not_fill_the_journal(bench):
    seq = bench.meter.journal.last_seq
    for _ in range(2000):
        for _ in range(13):
            bench.pass_ms(10000)
            bench.meter.sample_failed(10000, 1)
        bench.meter.tick(130000)
        bench.meter.sample(6000, 0, 130000)
        bench.meter.tick(0)
    hours = 2000 * 130 // 3600
    notes = [r for r in bench.records("event") if r["seq"] > seq]
    assert len(notes) <= 300 + 4 * (hours + 1)
    gaps_ms = sum(r["detail"] for r in notes if r["code"] == 1012)
    assert gaps_ms >= 1990 * 130000 - 900000


def test_a_fault_is_kept_and_becomes_a_record_once(bench):
    nvs = NVS()
    assert faults.kept(nvs) is None
    faults.keep(nvs, "IndexError", "x" * 50 + "meter.py:12", 77, MIDNIGHT_UTC_S)
    kept = faults.kept(nvs)
    assert kept == ("IndexError", "x" * 25 + "meter.py:12", 77, MIDNIGHT_UTC_S)
    bench.meter.journal.close()
    bench.fault = kept
    bench.boot(bench.utc_s)
    record = bench.records("fault")[0]
    assert (record["kind"], record["place"], record["at_up_s"], record["at_utc_s"]) == kept
    faults.forget(nvs)
    faults.forget(nvs)
    assert faults.kept(nvs) is None


@pytest.mark.parametrize("blob", [b"", b"\0" * 8, b"\1" * 30, b"\xff" * 81, b"12345678a\0"])
def test_a_fault_that_cannot_be_read_is_none(blob):
    nvs = NVS()
    nvs.kept["exception"] = blob
    assert faults.kept(nvs) is None


def test_a_watchdog_reset_is_a_fault(bench):
    bench.restart(cause="watchdog")
    assert [r["kind"] for r in bench.records("fault")] == ["watchdog"]


def test_the_place_is_the_innermost_line_inside_the_firmware():
    try:
        errors.sync(None)
    except AttributeError as error:
        shown = trace.text(error)
    assert trace.place(shown).startswith("storage/errors.py:")
    assert trace.place('Traceback\n  File "/lib/x.py", line 3, in f\nKeyError: 3\n') == "unknown"
    of_the_chip = (
        'Traceback (most recent call last):\n  File "firmware/meter.py", line 12, in tick\n'
        '  File "asyncio/core.py", line 1, in run\nKeyError: 3\n'
    )
    assert trace.place(of_the_chip) == "meter.py:12"
