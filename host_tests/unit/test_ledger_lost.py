"""Lost records of the ledger: the meter knows, keeps the supply on, takes no credit, resyncs."""

import binascii
import json
import shutil
from types import SimpleNamespace

import pytest

from firmware.storage import errors
from host_tests.fakes.bench import HOUR_S, MIDNIGHT_UTC_S
from host_tests.fakes.documents import rich_tariff, tariff_document

RUPEE_MP = 100000


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(errors, "_fsync", None)


@pytest.fixture
def bench(make_bench):
    bench = make_bench()
    bench.run(2 * HOUR_S, 960, step_s=2)
    bench.order("r-1", 3, amount_mp=50 * RUPEE_MP)
    bench.order("r-2", 4, amount_mp=25 * RUPEE_MP)
    bench.run(HOUR_S, 960, step_s=2)
    return bench


def image(bench):
    return {path.name: path.read_bytes() for path in bench.folder.iterdir()}


def put_back(bench, files):
    """The power fails, and the flash is what it was."""
    bench.meter.journal.close()
    shutil.rmtree(bench.folder)
    bench.folder.mkdir()
    for name, raw in files.items():
        (bench.folder / name).write_bytes(raw)
    bench.boot(bench.utc_s)


def spoil_record(bench, seq):
    """Flips a bit of a record in the log; the power fails."""
    files = image(bench)
    for name, raw in files.items():
        at = 16
        while name.startswith("log-") and at < len(raw):
            end = at + 26 + int.from_bytes(raw[at + 4 : at + 6], "little")
            if int.from_bytes(raw[at + 6 : at + 10], "little") == seq:
                spoilt = bytearray(raw)
                spoilt[at + 30] ^= 1
                put_back(bench, {**files, name: bytes(spoilt)})
                return
            at = end
    raise AssertionError(seq)


def document(bench, **changes):
    """What a gateway that has all records of the meter says in a resync."""
    return {
        **bench.meter.account.state(),
        "import_wh": bench.meter.live()["import_wh"],
        **changes,
    }


def assert_lost(bench):
    bench.run(2)
    live = bench.meter.live()
    assert live["service"] == "ledger_lost"
    assert (live["contact"], bench.contact.closed) == (1, 1)
    assert len(bench.records("event", 1032)) == 1
    before = image(bench), dict(bench.nvs.kept)
    highest = bench.meter.orders.highest
    for kind, members in (
        ("recharge", {"amount_mp": 5}),
        ("tariff", {"document": tariff_document()}),
        ("arrears", {"amount_mp": 5, "share_percent": 50}),
        ("emergency", {"limit_mp": 5}),
    ):
        answer = bench.order("x-" + kind, highest + 1, kind, **members)
        assert (answer["result"], answer["highest"]) == ("resync_needed", highest)
    assert (image(bench), bench.nvs.kept) == before
    assert any("signed resync" in line for line in bench.lines)
    assert "SERVICE ledger_lost" in bench.meter.status_line(True, 0)


def test_a_whole_journal_is_not_lost_over_restarts_and_an_nvs_that_was_erased(bench):
    for erase in (False, True, False):
        if erase:
            bench.nvs.kept.clear()
        bench.restart()
        assert bench.meter.live()["service"] == ""
    assert bench.nvs.kept["ledger"] == bench.meter.journal.ledger_count == 4 + 1  # and a period
    assert bench.nvs.kept["counter"] == 4
    assert bench.nvs.kept["store"] & 0xFFFFFFFF == int(bench.meter.journal.store_id, 16)
    assert not bench.records("event", 1032)


def test_floors_are_in_nvs_when_a_record_of_the_ledger_is(bench):
    count = bench.nvs.kept["ledger"]
    bench.order("r-3", 5, amount_mp=RUPEE_MP)
    assert bench.nvs.kept["ledger"] == count + 1
    assert bench.nvs.kept["counter"] == 5
    assert bench.nvs.kept["seq"] == bench.meter.journal.last_seq
    assert bench.nvs.kept["wh"] == bench.records("credit")[-1]["import_wh"]


def test_an_erased_journal_is_lost_and_gives_no_opening_credit(bench):
    wh = bench.meter.live()["import_wh"]
    put_back(bench, {})
    assert_lost(bench)
    assert bench.meter.live()["import_wh"] == bench.nvs.kept["wh"] <= wh
    assert not bench.records("credit")
    assert bench.meter.live()["balance_mp"] == 0
    bench.restart()
    assert_lost(bench)


def test_a_journal_of_the_first_format_that_was_erased_is_lost_by_its_counter(bench):
    bench.nvs.kept = {"counter": 4}
    put_back(bench, {})
    assert_lost(bench)


def test_an_older_copy_of_the_flash_is_lost_and_no_old_order_is_taken_again(bench):
    old = image(bench)
    seq = bench.meter.journal.last_seq
    bench.order("r-3", 5, amount_mp=50 * RUPEE_MP)
    bench.run(2 * HOUR_S, 960, step_s=2)
    newest = bench.meter.journal.last_seq
    wh = bench.meter.live()["import_wh"]
    put_back(bench, old)
    assert_lost(bench)
    assert bench.records("event", 1032)[0]["detail"] == 1
    assert bench.order("r-3", 5, amount_mp=50 * RUPEE_MP)["result"] == "resync_needed"
    assert bench.meter.live()["import_wh"] >= wh - 10  # what the last block persisted
    # No number is given to two records.
    assert next(r["seq"] for r in bench.records() if r["seq"] > seq) > newest
    said = document(bench, credits_mp=225 * RUPEE_MP)
    assert bench.order("s-1", 6, "resync", document=said)["result"] == "accepted"
    assert bench.order("r-3", 5, amount_mp=50 * RUPEE_MP)["result"] == "old"


def test_an_older_copy_without_a_ledger_record_in_between_is_not_lost(bench):
    old = image(bench)
    bench.run(HOUR_S, 960, step_s=2)
    newest = bench.meter.journal.last_seq
    put_back(bench, old)
    assert bench.meter.live()["service"] == ""
    assert bench.records("boot")[-1]["seq"] > newest


def test_a_spoilt_record_is_lost_if_it_was_of_the_ledger(bench):
    spoil_record(bench, bench.records("load")[2]["seq"])
    assert bench.meter.live()["service"] == ""
    spoil_record(bench, bench.records("credit")[1]["seq"])
    assert_lost(bench)
    bench.run(HOUR_S, 960, step_s=2)
    bench.restart()
    assert_lost(bench)


def test_the_last_ledger_record_is_missed_by_the_count_in_nvs(bench):
    bench.order("r-3", 5, amount_mp=RUPEE_MP)
    spoil_record(bench, bench.records("credit")[-1]["seq"])
    assert_lost(bench)


def test_nothing_is_cut_while_the_ledger_is_lost(make_bench):
    bench = make_bench(opening_balance_mp=0)
    bench.run(20 * HOUR_S, 960, step_s=2)
    spoil_record(bench, bench.records("credit")[0]["seq"])
    bench.run(72 * HOUR_S, 960, step_s=2)
    assert_lost(bench)
    assert not bench.records("event", 1003)


def test_a_contact_that_was_open_for_want_of_credit_is_closed(make_bench):
    bench = make_bench(opening_balance_mp=0)
    bench.run(36 * HOUR_S, 0, step_s=2)
    assert not bench.contact.closed
    spoil_record(bench, bench.records("credit")[0]["seq"])
    assert_lost(bench)
    assert bench.records("control")[-1]["reason"] == "ledger_lost"


def test_a_contact_that_the_utility_opened_stays_open(bench):
    expires_utc_s = bench.utc_s + HOUR_S
    order = {"state": "disconnected", "expires_utc_s": expires_utc_s}
    assert bench.order("d-1", 5, "relay", **order)["result"] == "accepted"
    bench.run(5)
    spoil_record(bench, bench.records("credit")[0]["seq"])
    live = bench.meter.live()
    assert (live["service"], live["contact"], bench.contact.closed) == ("ledger_lost", 0, 0)
    assert bench.order("d-2", 6, "relay", state="connected")["result"] == "accepted"
    bench.run(2)
    assert bench.contact.closed


@pytest.mark.parametrize("state", ["disconnected", "connected"])
def test_what_the_utility_ordered_last_stands_also_with_an_older_copy_of_the_flash(bench, state):
    def order(number, state):
        members = {"state": state, "expires_utc_s": bench.utc_s + HOUR_S}
        assert bench.order(f"d-{number}", number, "relay", **members)["result"] == "accepted"
        bench.run(10)

    if state == "connected":
        order(5, "disconnected")
    old = image(bench)
    order(6, state)
    put_back(bench, old)
    bench.run(10)
    closed = int(state == "connected")
    assert (bench.meter.live()["service"], bench.contact.closed) == ("ledger_lost", closed)
    assert bench.nvs.kept["by_utility"] == 1 - closed
    bench.restart()
    bench.run(10)
    assert (bench.meter.live()["state"], bench.contact.closed) == (state, closed)
    order(7, "connected")
    assert bench.contact.closed


def test_a_cut_for_tamper_stands_also_with_an_older_copy_of_the_flash(make_bench):
    bench = make_bench(rules={"tamper_cut": 1})
    bench.run(100)
    old = image(bench)
    bench.cover.level = 1
    bench.run(10)
    assert not bench.contact.closed
    put_back(bench, old)
    bench.run(10)
    assert bench.meter.live()["causes"] == ["tamper"]
    assert not bench.contact.closed


def test_a_lifted_order_leaves_no_cut_for_want_of_credit_behind(make_bench):
    bench = make_bench(opening_balance_mp=0)
    bench.run(36 * HOUR_S, 0, step_s=10)
    order = {"state": "disconnected", "expires_utc_s": bench.utc_s + HOUR_S}
    assert bench.order("d-1", 5, "relay", **order)["result"] == "accepted"
    spoil_record(bench, bench.records("credit")[0]["seq"])
    assert not bench.contact.closed
    assert bench.order("d-2", 6, "relay", state="connected")["result"] == "accepted"
    assert_lost(bench)


def test_an_older_copy_does_not_open_a_contact_even_for_a_moment(make_bench):
    bench = make_bench(opening_balance_mp=0)
    bench.run(36 * HOUR_S, 0, step_s=10)
    files = image(bench)
    assert bench.order("r-1", 5, amount_mp=RUPEE_MP)["result"] == "accepted"
    assert bench.contact.closed
    bench.meter.finish_operation()
    moved = []
    coil = lambda closes: SimpleNamespace(value=lambda on: on and moved.append(closes))  # noqa: E731
    bench.contact.coil = coil
    put_back(bench, files)
    assert_lost(bench)
    assert False not in moved


def test_a_resync_ends_it_and_the_meter_is_what_the_document_says(bench):
    put_back(bench, {})
    said = document(
        bench,
        credits_mp=175 * RUPEE_MP,
        closed_mp=3 * RUPEE_MP,
        period_start_wh=2000,
        period_start_utc_s=MIDNIGHT_UTC_S,
        import_wh=5000,
        tariff=tariff_document((None, 700000)),
        usage=None,
    )
    answer = bench.order("s-1", 5, "resync", document=said)
    balance_mp = 172 * RUPEE_MP - 3000 * 700
    assert (answer["result"], answer["balance_mp"]) == ("accepted", balance_mp)
    record = bench.records("resync")[0]
    assert (record["import_wh"], record["balance_mp"], record["document"]) == (
        5000,
        balance_mp,
        said,
    )
    assert len(bench.records("event", 1033)) == 1
    for restart in (False, True):
        if restart:
            bench.restart()
        live = bench.meter.live()
        assert (live["service"], live["balance_mp"], live["import_wh"]) == ("", balance_mp, 5000)
    assert bench.order("s-1", 5, "resync", document=said) == {**answer, "highest": 5}
    assert bench.order("r-9", 6, amount_mp=RUPEE_MP)["result"] == "accepted"
    bench.run(HOUR_S, 960, step_s=2)
    blocks = bench.records("load")
    assert sum(block["energy_wh"] for block in blocks if block["seq"] > record["seq"]) < 1000
    bench.restart()
    assert bench.meter.live()["service"] == ""


def test_closed_periods_of_more_subsidy_than_charges_are_taken(bench):
    put_back(bench, {})
    said = document(bench, credits_mp=0, closed_mp=-7 * RUPEE_MP)
    answer = bench.order("s-1", 5, "resync", document=said)
    assert answer["result"] == "accepted"
    assert bench.meter.account.closed_mp == -7 * RUPEE_MP


def test_a_register_that_is_ahead_of_the_documents_stays(bench):
    put_back(bench, {})
    wh = bench.meter.live()["import_wh"]
    bench.order("s-1", 5, "resync", document=document(bench, import_wh=wh - 1))
    assert bench.meter.live()["import_wh"] == wh


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"credits_mp": "5"}, "credits_mp"),
        ({"credits_mp": 10**15 + 1}, "credits_mp"),
        ({"closed_mp": -(10**15) - 1}, "closed_mp"),
        ({"period_start_wh": 10**6}, "period_start_wh"),
        ({"period_start_utc_s": 2**32}, "period_start_utc_s"),
        ({"import_wh": -1}, "import_wh"),
        ({"arrears_percent": 101}, "arrears_percent"),
        ({"tariff": None}, "document"),
        ({"tariff": {**tariff_document(), "currency": "EUR"}}, "currency"),
        ({"bonus_mp": 5}, "bonus_mp"),
    ],
)
def test_a_resync_with_a_wrong_member_is_refused_by_name(bench, changes, field):
    put_back(bench, {})
    before = bench.meter.live()
    answer = bench.order("s-1", 5, "resync", document=document(bench, **changes))
    assert (answer["result"], answer["field"]) == ("range", field)
    after = bench.meter.live()
    assert (after["service"], after["balance_mp"]) == ("ledger_lost", before["balance_mp"])
    assert bench.order("s-2", 6, "resync", document=document(bench))["result"] == "accepted"


def test_a_resync_gives_back_days_zones_and_the_tariff_that_waits(make_bench):
    bench = make_bench(tariff=rich_tariff(id="rich"), sample_period_ms=60000)
    later = {**rich_tariff(id="later"), "effective_from_utc_s": MIDNIGHT_UTC_S + 4 * 86400}
    assert bench.order("t-1", 1, "tariff", document=later)["result"] == "accepted"
    bench.order("r-1", 2, amount_mp=50 * RUPEE_MP)
    bench.run(43 * HOUR_S, 960, step_s=60)  # until the second evening
    account = bench.meter.account
    said = document(bench)
    assert min(said["usage"]["zone_wh"][:2]) > 0
    assert min(said["usage"]["fixed"]) > 0
    wh = bench.meter.energy.import_wh
    lines = account.open_lines(wh)
    put_back(bench, {})
    assert bench.order("s-1", 5, "resync", document={**said, "import_wh": wh})["result"] == (
        "accepted"
    )
    assert bench.meter.account.open_lines(wh) == lines
    assert bench.meter.account.passive == later
    bench.run(60 * HOUR_S, 960, step_s=60)
    assert bench.meter.live()["tariff"] == "later"


def test_a_resync_whose_zones_have_less_than_the_register_is_refused(make_bench):
    bench = make_bench(tariff=rich_tariff(id="rich"), sample_period_ms=60000)
    bench.run(20 * HOUR_S, 960, step_s=60)
    said = document(bench)
    put_back(bench, {})
    said["usage"]["zone_wh"][0] -= 1
    answer = bench.order("s-1", 5, "resync", document=said)
    assert (answer["result"], answer["field"]) == ("range", "zone_wh")


def test_a_resync_at_an_unknown_time_goes_on_in_the_normal_zone(make_bench):
    bench = make_bench(tariff=rich_tariff(id="rich"), sample_period_ms=60000)
    bench.run(20 * HOUR_S, 960, step_s=60)  # in the evening
    said = document(bench)
    assert said["usage"]["zone"] == 1
    put_back(bench, {})
    bench.restart(time_known=False)
    assert bench.order("s-1", 5, "resync", document=said)["result"] == "accepted"
    before_wh = list(bench.meter.account.usage.zone_wh)
    bench.run(HOUR_S, 960, step_s=60)
    wh = bench.meter.energy.import_wh
    found_wh = bench.meter.account.quantities(wh).zone_wh
    assert found_wh[1:] == before_wh[1:]
    assert found_wh[0] > before_wh[0] + 900


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"at_wh": -1}, "at_wh"),
        ({"at_wh": 10**6}, "at_wh"),
        ({"zone": 4}, "zone"),
        ({"days": 32}, "days"),
        ({"day": None}, "day"),
        ({"whole": 2}, "whole"),
        ({"zone_wh": [0]}, "zone_wh"),
        ({"zone_wh": [0, 0, 0, -1]}, "zone_wh"),
        ({"fixed": [0, 0]}, "fixed"),
        ({"fixed": [0, 0, 2**63]}, "fixed"),
    ],
)
def test_a_resync_with_a_wrong_usage_is_refused_by_name(make_bench, changes, field):
    bench = make_bench(tariff=rich_tariff(id="rich"), sample_period_ms=60000)
    bench.run(600, 0, step_s=60)
    said = document(bench)
    put_back(bench, {})
    wrong = {**said, "usage": {**said["usage"], **changes}}
    answer = bench.order("s-1", 5, "resync", document=wrong)
    assert (answer["result"], answer["field"]) == ("range", field)
    assert bench.order("s-2", 6, "resync", document=said)["result"] == "accepted"


def test_a_resync_that_nobody_needs_is_refused(bench):
    balance_mp = bench.meter.live()["balance_mp"]
    answer = bench.order("s-1", 5, "resync", document=document(bench, credits_mp=0))
    assert (answer["result"], answer["field"]) == ("range", "kind")
    assert bench.meter.live()["balance_mp"] == balance_mp


def test_flipped_bits_and_cut_ends_anywhere_never_stop_a_start(bench):
    clean = image(bench)
    nvs = json.loads(json.dumps(bench.nvs.kept))
    true_mp = bench.meter.account.credits_mp
    for number in range(150):
        name = sorted(clean)[number % len(clean)]
        raw = bytearray(clean[name])
        if number % 4 == 3:
            del raw[(number * 7919) % len(raw) :]
        else:
            raw[(number * 7919) % len(raw)] ^= 1 << number % 8
        bench.nvs.kept = dict(nvs)
        put_back(bench, {**clean, name: bytes(raw)})
        live = bench.meter.live()
        # Either all of the ledger is there, or the meter says that it is not.
        assert live["service"] == "ledger_lost" or bench.meter.account.credits_mp == true_mp
        assert bench.contact.closed
        assert live["import_wh"] >= nvs["wh"]
        assert bench.order("r-2", 9, amount_mp=25 * RUPEE_MP)["result"] != "old"
        assert bench.meter.account.credits_mp <= true_mp


def test_a_log_that_lost_everything_behind_dropped_segments_is_lost_at_once(bench):
    """Nothing is left in it whose digest could be wrong."""
    bench.order("r-3", 5, amount_mp=25 * RUPEE_MP)  # so that no snapshot contains all of it
    bench.meter.journal.close()
    for path in sorted(bench.folder.glob("log-*")):
        renamed = path.with_name("log-%08x" % (bench.meter.journal.last_seq + 1))
        head = bytearray(path.read_bytes()[:16])
        head[8:12] = (bench.meter.journal.last_seq + 1).to_bytes(4, "little")
        head[12:16] = binascii.crc32(bytes(head[:12])).to_bytes(4, "little")
        path.unlink()
        renamed.write_bytes(bytes(head))
    bench.boot(bench.utc_s)
    assert_lost(bench)


def test_the_number_of_an_event_that_went_with_its_flash_is_not_given_again(bench):
    old = image(bench)
    bench.meter.set_time((bench.utc_s + 100) * 1000)  # an event, no record of the ledger
    gone = bench.meter.journal.last_seq
    put_back(bench, old)
    assert all(record["seq"] != gone or record["boot"] == 1 for record in bench.records())
    assert bench.meter.journal.last_seq > gone + 900
