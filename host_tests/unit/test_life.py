"""Accounts of real meters that are closed, opened, and moved from one meter to another."""

import pytest

from firmware.core.civil import DAY_S
from firmware.credit import life
from firmware.credit.account import Account
from host_tests.chaos import judge
from host_tests.fakes.bench import HOUR_S, MIDNIGHT_UTC_S, Bench, PowerFailed

RUPEE_MP = 100000
# 31 days from the first of January, local time.
JANUARY_UTC_S = MIDNIGHT_UTC_S - 4 * DAY_S

RICH = {
    "id": "rich",
    "version": 1,
    "currency": "INR",
    "effective_from_utc_s": 0,
    "zones": [{"name": "peak", "from_min": 1080, "to_min": 1380}],
    "lines": [
        {
            "name": "energy",
            "shape": "telescopic",
            "slabs": [
                {"up_to_kwh": 5, "rate_mp_per_kwh": 400000},
                {"up_to_kwh": None, "rate_mp_per_kwh": 700000},
            ],
        },
        {
            "name": "subsidy",
            "kind": "subsidy",
            "shape": "by_total",
            "classes": [
                {"up_to_kwh": 8, "slabs": [{"up_to_kwh": None, "rate_mp_per_kwh": -100000}]},
                {"up_to_kwh": None, "slabs": [{"up_to_kwh": None, "rate_mp_per_kwh": 0}]},
            ],
        },
        {
            "name": "evening",
            "shape": "time_of_day",
            "percent_x1000": {"peak": 20000},
            "of": ["energy"],
        },
        {
            "name": "fixed",
            "shape": "fixed",
            "per": "connection",
            "rate_mp": 3100000,
            "collect": "daily",
        },
        {
            "name": "rent",
            "shape": "fixed",
            "per": "connection",
            "rate_mp": 620000,
            "collect": "monthly",
        },
        {
            "name": "service",
            "shape": "fixed",
            "per": "connection",
            "rate_mp": 310000,
            "collect": "first_recharge",
        },
    ],
}


@pytest.fixture
def make_bench(tmp_path):
    made = []

    def make(utc_s=MIDNIGHT_UTC_S, **config):
        folder = tmp_path / str(len(made))
        made.append(Bench(folder, utc_s, sample_period_ms=60000, **config))
        return made[-1]

    yield make
    for bench in made:
        bench.meter.journal.close()


def rich_bench(make_bench, day=1, **more):
    """A meter with every way to charge, from a day of January 2026 on."""
    return make_bench(JANUARY_UTC_S + (day - 1) * DAY_S, tariff=RICH, **more)


def close(bench, counter=50, **document):
    return bench.order(f"c-{counter}", counter, "account", action="closed", document=document)


def open_(bench, counter=60, **document):
    document = {"account": "A-2", "balance_mp": 0, **document}
    return bench.order(f"o-{counter}", counter, "account", action="opened", document=document)


def status(bench):
    live = bench.meter.live()
    return live["account"], live["account_status"]


def audited(bench):
    """Every record's balance follows from the records, also by a second opinion, and so does the
    present one."""
    if not any("usage" in record.get("document", ()) for record in bench.records("account")):
        assert judge.judge_ledger("JH-0001", bench.records()) == []
    account = Account()
    for record in bench.records():
        if record["type"] == "account" and record["action"] == "closed":
            moved_to = record["document"].get("moved_to")
            wh = record["import_wh"]
            recomputed = (
                life.moving(account, wh, moved_to) if moved_to else life.closing(account, wh)
            )
            assert record["document"] == recomputed
        account.apply(record)
        if "import_wh" in record:
            assert record["balance_mp"] == account.balance_mp(record["import_wh"]), record
    assert account.state() == bench.meter.account.state()
    return account


def test_a_closing_charges_to_the_end_and_gives_back_what_is_left(make_bench):
    bench = rich_bench(make_bench)  # 100 rupees
    assert status(bench) == ("", "active")
    bench.run(3 * DAY_S + 5 * HOUR_S, 180, step_s=60)
    bench.order("a-1", 1, "arrears", amount_mp=7 * RUPEE_MP, share_percent=0)
    bench.order("r-1", 2, amount_mp=300 * RUPEE_MP)
    assert close(bench)["balance_mp"] == 0
    (record,) = bench.records("account")
    document = record["document"]
    wh = record["import_wh"]
    assert wh > 10000
    # Three days of the daily line, and of the others what is not for days to come.
    energy_mp = 5 * 400000 + (wh - 5000) * 700
    days_mp = 3 * (3100000 + 620000 + 310000) // 31
    peak_wh = sum(r["energy_wh"] for r in bench.records("load") if in_peak(r))
    peak_mp = (energy_mp * peak_wh * 20000 + wh * 50000) // (wh * 100000)
    assert abs(document["charge_mp"] - energy_mp - days_mp - peak_mp) < 500
    left_mp = 400 * RUPEE_MP - document["charge_mp"]
    assert document == {
        "account": "",
        "charge_mp": document["charge_mp"],
        "balance_mp": left_mp,
        "arrears_mp": 7 * RUPEE_MP,
        "refund_mp": left_mp - 7 * RUPEE_MP,
        "due_mp": 0,
    }
    assert status(bench) == ("", "closed")
    assert bench.meter.live()["arrears_mp"] == 0
    audited(bench)


def in_peak(block):
    return 18 * 60 <= (block["start_utc_s"] + 19800) % DAY_S // 60 < 23 * 60


def test_a_closed_account_charges_nothing_and_is_not_cut(make_bench):
    bench = rich_bench(make_bench, 30, opening_balance_mp=0)
    bench.run(DAY_S // 2, 600, step_s=60)
    assert bench.records("event", 1002)
    due_mp = -close(bench)["balance_mp"]
    assert due_mp == bench.records("account")[0]["document"]["due_mp"] > 0
    events = len(bench.records("event"))
    bench.run(2 * DAY_S, 600, step_s=60)  # into the next month
    bench.restart()
    bench.run(DAY_S, 600, step_s=60)
    assert bench.contact.closed
    assert bench.meter.balance_mp() == -due_mp
    assert bench.meter.live()["earliest_cut_utc_s"] == 0
    assert {e["code"] for e in bench.records("event")[events:]} <= {101, 102}
    assert not [r for r in bench.records("period") if r["charge_mp"]]
    audited(bench)


def test_a_closed_account_takes_corrections_but_no_recharge(make_bench):
    bench = rich_bench(make_bench)
    close(bench)
    for number, (kind, members) in enumerate(
        (
            ("recharge", {"amount_mp": 5}),
            ("arrears", {"amount_mp": 5, "share_percent": 5}),
            ("emergency", {"limit_mp": 5}),
        ),
        51,
    ):
        answer = bench.order(f"x-{number}", number, kind, **members)
        assert answer["result"] == "closed"
        assert bench.order(f"x-{number}", number, kind, **members) == answer
    answer = bench.order("j-1", 55, "adjustment", entry="adjustment", amount_mp=9)
    assert (answer["result"], answer["balance_mp"]) == ("accepted", 9)
    again = close(bench, 56)
    assert (again["result"], again["field"]) == ("range", "action")
    audited(bench)


def test_the_next_tenant_begins_with_nothing_of_the_last(make_bench):
    bench = rich_bench(make_bench, opening_balance_mp=20 * RUPEE_MP)
    bench.order("a-1", 1, "arrears", amount_mp=70 * RUPEE_MP, share_percent=50)
    bench.order("e-1", 2, "emergency", limit_mp=5 * RUPEE_MP)
    bench.run(2 * DAY_S, 1200, step_s=60)
    assert bench.records("event", 1003)
    close(bench)
    bench.run(HOUR_S, 1200, step_s=60)  # nobody's
    wh = bench.meter.energy.import_wh
    assert open_(bench, balance_mp=60 * RUPEE_MP, reading_wh=123)["balance_mp"] == 60 * RUPEE_MP
    assert status(bench) == ("A-2", "active")
    live = bench.meter.live()
    assert (live["arrears_mp"], live["emergency_limit_mp"]) == (0, 0)
    assert (live["credit"], live["grace_s"]) == ("in_credit", bench.config.grace_s)
    bench.restart()
    bench.run(2 * HOUR_S, 600, step_s=60)
    used_wh = bench.meter.energy.import_wh - wh
    assert 0 < used_wh < 5000
    # Slabs and subsidy from the first unit on, rent for the 29 days that are left of the month.
    rent_mp = 29 * 620000 / 31
    assert abs(60 * RUPEE_MP - used_wh * 300 - rent_mp - bench.meter.balance_mp()) <= 1
    audited(bench)


@pytest.fixture
def left_cut(make_bench):
    """A bench whose account was closed while it was cut for want of credit."""
    bench = make_bench()
    while bench.meter.balance_mp() > 0:
        bench.run(10, 6000)
    bench.run(48 * HOUR_S, 0, step_s=60)
    assert not bench.contact.closed
    close(bench)
    bench.run(DAY_S, 0, step_s=60)
    assert not bench.contact.closed
    return bench


@pytest.mark.parametrize("balance_mp", [-RUPEE_MP, 0, RUPEE_MP])
def test_a_cut_is_not_handed_on_to_the_next_account(left_cut, balance_mp):
    bench = left_cut
    warned = len(bench.records("event", 1002))
    assert open_(bench, balance_mp=balance_mp)["result"] == "accepted"
    assert bench.contact.closed
    assert bench.records("control")[-1]["reason"] == "account"
    bench.restart(off_s=60)
    bench.run(23 * HOUR_S, 0, step_s=60)
    assert bench.contact.closed
    assert len(bench.records("event", 1002)) == warned + (balance_mp <= 0)
    bench.run(2 * DAY_S, 0, step_s=60)
    assert bench.contact.closed == (balance_mp > 0)
    audited(bench)


def test_a_power_failure_between_an_opening_and_its_contact_leaves_nobody_in_the_dark(left_cut):
    bench = left_cut
    with bench.power_fails_before("control"), pytest.raises(PowerFailed):
        open_(bench)
    bench.restart()
    bench.run(10)
    assert bench.contact.closed and bench.meter.live()["causes"] == []


def test_the_utility_connects_what_a_closed_account_has_left(left_cut):
    bench = left_cut
    assert bench.order("c-1", 70, "relay", state="connected")["result"] == "accepted"
    assert bench.contact.closed
    bench.restart()
    bench.run(3 * DAY_S, 0, step_s=60)
    assert bench.contact.closed
    assert not bench.order("c-2", 71, "relay", state="connected").get("field")
    assert len([r for r in bench.records("control") if r["reason"] == "order"]) == 1
    audited(bench)


def test_the_new_tenants_grace_is_a_whole_one(make_bench):
    bench = make_bench(opening_balance_mp=0)
    bench.run(30 * HOUR_S, 0, step_s=60)
    assert bench.records("event", 1003)
    close(bench)
    open_(bench)
    bench.run(12 * HOUR_S, 0, step_s=60)  # over the window of that day
    assert bench.contact.closed
    assert len(bench.records("event", 1002)) == 2


def lived(make_bench, day):
    """A bench that paid and consumed for two days."""
    bench = rich_bench(make_bench, day)
    bench.order("r-1", 1, amount_mp=500 * RUPEE_MP)
    bench.order("a-1", 2, "arrears", amount_mp=40 * RUPEE_MP, share_percent=25)
    bench.run(2 * DAY_S, 90, step_s=60)
    return bench


def moved(make_bench, day=1, opened_later_s=0, used_before_wh=0):
    """(a bench whose account moved to a second one, that one, what moved)."""
    old = lived(make_bench, day)
    answer = close(old, moved_to="JH-0002")
    assert (answer["result"], answer["balance_mp"]) == ("accepted", 0)
    document = old.records("account")[0]["document"]
    new = make_bench(old.utc_s, tariff=RICH, opening_balance_mp=0, meter="JH-0002")
    while new.meter.energy.import_wh < used_before_wh:
        new.run(60, 600, step_s=60)
    new.run(opened_later_s, 0, step_s=60)
    carried = {name: document[name] for name in life.CARRIED}
    opening = {"account": "A-7", "moved_from": "JH-0001", **carried}
    answer = new.order("o-1", 1, "account", action="opened", document=opening)
    assert answer["result"] == "accepted", answer
    return old, new, document


def as_if_it_had_stayed(old, new):
    """The balance of an account to which both meters' records happened at one register."""
    account = Account()
    for record in old.records():
        if record["type"] == "account":
            break
        account.apply(record)
    old_wh = record["import_wh"]
    account.usage.run_to(old_wh)
    account.usage.zone = 0  # as what the new meter measured before the opening
    opened = new.records("account")[0]["seq"]
    for record in new.records():
        if record["seq"] > opened:
            account.apply({**record, "import_wh": record["import_wh"] + old_wh})
    return account.balance_mp(old_wh + new.meter.energy.import_wh)


@pytest.mark.parametrize("used_before_wh", [0, 700])
def test_an_account_that_moves_is_charged_as_if_it_had_stayed(make_bench, used_before_wh):
    old, new, document = moved(make_bench, used_before_wh=used_before_wh)
    assert document["balance_mp"] == old.records()[-2]["balance_mp"]
    assert (old.meter.balance_mp(), old.meter.live()["arrears_mp"]) == (0, 0)
    new.run(2 * DAY_S, 180, step_s=60)
    new.order("r-9", 90, amount_mp=20 * RUPEE_MP)
    used_wh = old.meter.energy.import_wh + new.meter.energy.import_wh
    assert used_wh > 12000  # limit of the slab and of the subsidy's class are behind
    assert new.meter.balance_mp() == as_if_it_had_stayed(old, new)
    assert new.meter.live()["arrears_mp"] == 35 * RUPEE_MP
    assert new.meter.live()["account"] == "A-7"
    new.restart()
    audited(old)
    audited(new)


def test_a_month_that_ends_between_the_two_meters_is_closed_once(make_bench):
    old, new, document = moved(make_bench, 29, opened_later_s=2 * DAY_S)
    new.run(300, 30, step_s=60)
    opened = new.records("account")[0]["seq"]
    (closed,) = [r for r in new.records("period") if r["seq"] > opened]
    used_wh = sum(document["usage"]["zone_wh"])
    assert used_wh == old.meter.energy.import_wh
    assert closed["end_utc_s"] == JANUARY_UTC_S + 31 * DAY_S
    assert closed["charge_mp"] > used_wh * 300
    assert new.meter.balance_mp() < document["balance_mp"]
    audited(new)


REFUSED = [
    ("action", {"action": "paused", "document": {}}),
    ("document", {"action": "closed"}),
    ("why", {"action": "closed", "document": {"why": 1}}),
    ("meter", {"action": "closed", "document": {"moved_to": "no meter"}}),
    ("action", {"action": "opened", "document": {"account": "A-2", "balance_mp": 0}}),
]
NOT_OPENED = [
    ("account", {"account": ""}),
    ("account", {"account": "x" * 37}),
    ("balance_mp", {"balance_mp": 10**15 + 1}),
    ("balance_mp", {"balance_mp": None}),
    ("arrears_day", {"arrears_day": 65536}),
    ("reading_wh", {"reading_wh": -1}),
    ("arrears_percent", {"arrears_percent": 101}),
    ("start_wh", {"start_wh": 5}),
    ("usage", {"usage": {}}),
    ("meter", {"moved_from": "a b"}),
    ("tariff_version", {"moved_from": "JH-0003"}),
]


def test_a_refused_change_changes_nothing(make_bench):
    bench = rich_bench(make_bench)
    state = bench.meter.account.state()
    for counter, (field, members) in enumerate(REFUSED, 1):
        answer = bench.order(f"x-{counter}", counter, "account", **members)
        assert (answer["result"], answer["field"]) == ("range", field)
    assert bench.meter.account.state() == state
    close(bench)
    state = bench.meter.account.state()
    for counter, (field, members) in enumerate(NOT_OPENED, 60):
        answer = open_(bench, counter, **members)
        assert (answer["result"], answer["field"]) == ("range", field)
    assert bench.meter.account.state() == state


def test_a_moved_part_must_be_one_of_the_tariff_in_force(make_bench):
    old = rich_bench(make_bench)
    close(old, moved_to="JH-0002")
    document = old.records("account")[0]["document"]
    carried = {name: document[name] for name in life.CARRIED}
    other = make_bench(JANUARY_UTC_S, opening_balance_mp=0)
    flat = {**carried, "tariff": other.meter.account.tariff.id}
    wrong = [("tariff", carried), ("zone_wh", flat)]
    for name, value in (("zone_wh", [1]), ("fixed", [-1, 0, 0]), ("zone", 4), ("day", None)):
        wrong.append((name, {**carried, "usage": {**document["usage"], name: value}}))
    for counter, (field, changed) in enumerate(wrong, 1):
        bench = other if counter <= 2 else rich_bench(make_bench, opening_balance_mp=0)
        answer = open_(bench, counter, moved_from="JH-0001", **changed)
        assert (answer["result"], answer["field"]) == ("range", field)


def test_an_account_with_credit_of_its_own_gives_way_to_none(make_bench):
    old = rich_bench(make_bench)
    close(old, moved_to="JH-0002")
    document = old.records("account")[0]["document"]
    carried = {name: document[name] for name in life.CARRIED}
    new = rich_bench(make_bench)  # 100 rupees of its own
    answer = open_(new, 1, moved_from="JH-0001", **carried)
    assert (answer["result"], answer["field"]) == ("range", "action")
    close(new, 2)
    assert open_(new, 3, moved_from="JH-0001", **carried)["result"] == "accepted"


def test_the_words_of_the_serial_log(make_bench):
    bench = rich_bench(make_bench)
    close(bench)
    open_(bench)
    text = "\n".join(bench.lines)
    assert "account  closed, refund 100.00 id=c-50" in text
    assert "account A-2 opened id=o-60" in text
