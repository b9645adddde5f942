"""Signed orders at the real meter and journal: each kind once, refusals without a trace."""

import functools
from itertools import pairwise

import pytest

from firmware.core import config as settings_table
from firmware.link import codec
from host_tests.fakes.bench import HOUR_S, MIDNIGHT_UTC_S
from host_tests.fakes.documents import tariff_document

RUPEE_MP = 100000
DAY_S = 24 * HOUR_S


@pytest.fixture
def make_bench(make_bench):
    # A long period, so that a test may run in long steps.
    return functools.partial(make_bench, sample_period_ms=60000)


@pytest.fixture
def bench(make_bench):
    return make_bench()  # 100 rupees at 6.65 a kWh, low below 50


def exhaust(bench):
    while bench.meter.account.available_mp(bench.meter.balance_mp()) > 0:
        bench.run(10, 6000)


def cut_for_credit(bench):
    exhaust(bench)
    bench.run(48 * HOUR_S, 0, step_s=60)
    assert not bench.contact.closed


def signed(bench, **members):
    payload = codec.encode({"v": 1, "meter": bench.config.meter, **members})
    return codec.sign(bench.config.key, bench.config.meter, payload)


def recharge_message(bench, **changes):
    order = {"id": "r-1", "counter": 1, "kind": "recharge", "amount_mp": 5 * RUPEE_MP, **changes}
    return signed(bench, **order)


def test_the_last_order_is_known_when_an_outage_has_pushed_its_record_out(make_bench):
    sizes = {"segment_bytes": 600, "log_bytes": 2400, "checkpoint_file_bytes": 2000}
    bench = make_bench(journal=sizes)
    first = bench.order("r-1", 1, amount_mp=5 * RUPEE_MP)
    assert first["result"] == "accepted"
    bench.run(48 * HOUR_S, 0, step_s=60)
    assert bench.meter.journal.find_order("r-1") is None
    bench.restart()
    before = bench.meter.account.state()
    again = bench.order("r-1", 7, amount_mp=5 * RUPEE_MP)
    assert (again["result"], again["balance_mp"]) == ("accepted", first["balance_mp"])
    assert bench.meter.account.state() == before


# --- refused without a trace ---------------------------------------------------------------------


def test_a_recharge_with_any_one_bit_wrong_leaves_no_trace(bench):
    message = recharge_message(bench)
    before, state = bench.image(), bench.meter._state()
    for bit in range(8 * len(message)):
        tampered = bytearray(message)
        tampered[bit // 8] ^= 1 << bit % 8
        assert bench.send(bytes(tampered)) is None
    assert bench.meter.orders.refused == 8 * len(message)
    assert bench.image() == before
    assert bench.meter._state() == state
    assert bench.send(message)["result"] == "accepted"


def tampered(bench):
    """(what, message) of what is not an order of this meter's gateway for this meter."""
    message = recharge_message(bench)
    payload, key = message[64:], bench.config.key
    yield "empty", b""
    yield "short", message[:63]
    yield "no payload", message[:64]
    yield from ((f"first {n} bytes", message[:n]) for n in range(65, len(message), 7))
    yield "longer", message + b" "
    yield "oversized", message + bytes(100_000)
    yield "oversized and signed", codec.sign(key, "JH-0001", b"[" * 4_000)
    yield "not hex", b"z" * 64 + payload
    yield "upper case", message[:64].upper() + payload
    yield "other key", codec.sign(bytes(32), "JH-0001", payload)
    yield "empty key", codec.sign(b"", "JH-0001", payload)
    yield "for another meter's topic", codec.sign(key, "JH-0002", payload)
    yield "names another meter", recharge_message(bench, meter="JH-0002")
    yield "names no meter", codec.sign(key, "JH-0001", b'{"v":1}')
    yield "no JSON", codec.sign(key, "JH-0001", b"\xff\x00")
    yield "no object", codec.sign(key, "JH-0001", b"[1]")
    yield "other version", recharge_message(bench, v=2)
    yield "no id", recharge_message(bench, id=None)
    yield "long id", recharge_message(bench, id="x" * 37)


def test_what_the_gateway_did_not_send_is_counted_logged_and_leaves_no_trace(bench):
    bench.order("r-0", 1, amount_mp=RUPEE_MP)
    before, state, lines = bench.image(), bench.meter._state(), len(bench.lines)
    cases = list(tampered(bench))
    for what, message in cases:
        assert bench.send(message) is None, what
    assert bench.image() == before
    assert bench.meter._state() == state
    assert bench.meter.orders.refused == len(cases)
    assert len(bench.lines) - lines == len(cases)
    assert not any(bench.config.key.hex() in line for line in bench.lines)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"counter": 0}, "counter"),
        ({"counter": 2**31}, "counter"),
        ({"counter": "1"}, "counter"),
        ({"kind": None}, "kind"),
        ({"kind": "x" * 17}, "kind"),
    ],
)
def test_a_signed_order_that_cannot_be_read_is_answered_and_leaves_no_trace(bench, change, field):
    before, state = bench.image(), bench.meter._state()
    answer = bench.send(recharge_message(bench, **change))
    assert (answer["id"], answer["result"], answer["field"]) == ("r-1", "malformed", field)
    assert bench.image() == before
    assert bench.meter._state() == state
    assert bench.send(recharge_message(bench))["result"] == "accepted"


def test_a_replayed_counter_leaves_no_trace(bench):
    bench.order("r-1", 5, amount_mp=RUPEE_MP)
    before, state = bench.image(), bench.meter._state()
    for counter in (1, 4, 5):
        assert bench.order("r-2", counter, amount_mp=RUPEE_MP)["result"] == "old"
    bench.order("r-1", 5, amount_mp=RUPEE_MP)
    bench.order("r-1", 6, amount_mp=RUPEE_MP)
    assert bench.image() == before
    assert bench.meter._state() == state


LATER = MIDNIGHT_UTC_S + DAY_S
WRONG = [
    ("nonsense", {}, "unsupported", "kind"),
    ("recharge", {}, "range", "amount_mp"),
    ("settings", {}, "range", "document"),
    ("settings", {"document": []}, "range", "document"),
    ("settings", {"document": {}}, "range", "document"),
    ("settings", {"document": {"grace_s": 5, "key": "00"}}, "range", "key"),
    (
        "settings",
        {"document": {"grace_s": 5, "sample_period_ms": 1000}},
        "range",
        "sample_period_ms",
    ),
    ("settings", {"document": {"grace_s": 5, "live_period_s": 0}}, "range", "live_period_s"),
    ("settings", {"document": {"grace_s": True}}, "range", "grace_s"),
    ("settings", {"document": {"grace_s": 5.0}}, "range", "grace_s"),
    ("settings", {"document": {"window_start_min": 780}}, "range", "window_end_min"),
    ("settings", {"document": {"window_end_min": 600}}, "range", "window_end_min"),
    ("settings", {"document": {"grace_s": 5}, "expires_utc_s": -1}, "range", "expires_utc_s"),
    ("settings", {"document": {"grace_s": 5}, "expires_utc_s": 5}, "expired", None),
    ("relay", {}, "range", "state"),
    ("relay", {"state": "ready_for_reconnection"}, "range", "state"),
    ("relay", {"state": "disconnected"}, "range", "expires_utc_s"),
    ("relay", {"state": "disconnected", "expires_utc_s": "5"}, "range", "expires_utc_s"),
    ("relay", {"state": "disconnected", "expires_utc_s": MIDNIGHT_UTC_S - 1}, "expired", None),
    ("arrears", {"amount_mp": 0, "share_percent": 5}, "range", "amount_mp"),
    ("arrears", {"amount_mp": 5, "share_percent": 101}, "range", "share_percent"),
    ("arrears", {"amount_mp": 5}, "range", "share_percent"),
    ("arrears", {"amount_mp": 5, "share_percent": 5, "at_once": 2}, "range", "at_once"),
    ("mode", {"mode": "postpaid"}, "range", "mode"),
    ("emergency", {"limit_mp": -1}, "range", "limit_mp"),
    ("emergency", {"limit_mp": 10**10 + 1}, "range", "limit_mp"),
    ("clock", {"utc_s": 5}, "range", "utc_s"),
    ("resend", {"store": "00000000", "seq": 0}, "range", "store"),
    ("resend", {"seq": 0}, "range", "store"),
    ("tariff", {"document": tariff_document((None, 1)), "expires_utc_s": 5}, "expired", None),
]


@pytest.mark.parametrize(("kind", "members", "result", "field"), WRONG)
def test_a_wrong_order_changes_the_counter_only_and_is_answered_so_for_ever(
    bench, kind, members, result, field
):
    state, closed = bench.meter._state(), bench.contact.closed
    answer = bench.order("x-1", 1, kind, **members)
    assert (answer["result"], answer.get("field")) == (result, field)
    assert [record["type"] for record in bench.records()][-1] == "order"
    assert {**bench.meter._state(), "highest": 0, "last_order": None} == state
    bench.restart()
    again = bench.order("x-1", 2, kind, **members)
    assert (again["result"], again["balance_mp"]) == (result, answer["balance_mp"])
    assert bench.contact.closed == closed


def test_a_resend_above_the_last_record_is_refused(bench):
    store, last = bench.meter.journal.store_id, bench.meter.journal.last_seq
    answer = bench.order("x-1", 1, "resend", store=store, seq=last + 1)
    assert (answer["result"], answer["field"]) == ("range", "seq")


RIGHT = [
    ("recharge", {"amount_mp": 5 * RUPEE_MP}),
    ("tariff", {"document": tariff_document((None, 700000))}),
    ("settings", {"document": {"grace_s": 5}}),
    ("relay", {"state": "disconnected", "expires_utc_s": LATER}),
    ("relay", {"state": "connected"}),
    ("arrears", {"amount_mp": 5, "share_percent": 5}),
    ("adjustment", {"entry": "adjustment", "amount_mp": -5}),
    ("adjustment", {"entry": "refund", "amount_mp": -5}),
    ("arrears", {"amount_mp": 5, "share_percent": 0, "at_once": 1}),
    ("emergency", {"limit_mp": 5}),
    ("mode", {"mode": "credit"}),
    ("clock", {"utc_s": 1767600000}),
]


@pytest.mark.parametrize(("kind", "members"), RIGHT)
def test_an_order_takes_effect_once_and_its_repetition_repeats_the_answer(bench, kind, members):
    first = bench.order("x-1", 1, kind, **members)
    assert first["result"] == "accepted"
    image, state = bench.image(), bench.meter._state()
    assert bench.order("x-1", 1, kind, **members) == first
    assert bench.image() == image
    bench.restart()
    again = bench.order("x-1", 9, kind, **members)
    assert (again["result"], again["balance_mp"]) == ("accepted", first["balance_mp"])
    assert (again["counter"], again["highest"]) == (9, 1)
    state["last_utc_s"] = bench.meter._state()["last_utc_s"]
    state["profiles"]["power_failures"] += 1
    assert bench.meter._state() == state
    assert all("Error" not in line for line in bench.lines)


class PowerFailed(Exception):
    pass


@pytest.mark.parametrize(
    ("kind", "members"),
    [RIGHT[1], RIGHT[3]],
)
def test_power_that_fails_between_effect_and_answer_leads_to_the_same_end(
    bench, monkeypatch, kind, members
):
    append = bench.meter.append

    def failing(record, fields):
        if record == "order":
            raise PowerFailed
        append(record, fields)

    monkeypatch.setattr(bench.meter, "append", failing)
    members = {**members, "expires_utc_s": bench.utc_s + 60}
    with pytest.raises(PowerFailed):
        bench.order("x-1", 1, kind, **members)
    bench.restart(off_s=600)
    count = len(bench.records("tariff") + bench.records("control"))
    assert bench.order("x-1", 1, kind, **members)["result"] == "accepted"
    assert len(bench.records("tariff") + bench.records("control")) == count


# --- settings ------------------------------------------------------------------------------------


def test_settings_count_at_once_and_win_over_the_configuration_after_a_restart(bench):
    document = {"low_credit_mp": 99 * RUPEE_MP, "window_start_min": 0, "window_end_min": 1440}
    assert bench.order("s-1", 1, "settings", document=document)["result"] == "accepted"
    assert bench.order("s-2", 2, "settings", document={"grace_s": 60})["result"] == "accepted"
    assert bench.records("settings")[0]["document"] == document
    for _ in range(2):
        bench.restart()
        values = {name: getattr(bench.config, name) for name in document}
        assert values == document
        assert bench.meter.live()["grace_s"] == bench.config.grace_s == 60
    exhaust(bench)
    assert bench.records("event", 1001)[0]["detail"] == 99 * RUPEE_MP
    bench.run(70, 0)
    assert not bench.contact.closed  # at night: the window is the whole day now


def test_a_grace_that_runs_goes_on_when_the_setting_changes(bench):
    exhaust(bench)
    bench.run(HOUR_S, 0, step_s=60)
    bench.order("s-1", 1, "settings", document={"grace_s": 60})
    assert bench.meter.live()["grace_s"] > 22 * HOUR_S


def test_settings_of_an_order_and_of_the_configuration_have_the_same_ranges(bench):
    counter = 0
    for name, _default, low, high in settings_table.rows(settings_table.SETTINGS):
        for value in (low - 1, high + 1):
            counter += 1
            answer = bench.order(f"s-{counter}", counter, "settings", document={name: value})
            assert (answer["result"], answer["field"]) == ("range", name)


# --- relay ---------------------------------------------------------------------------------------


def order_off(bench, counter, on=False):
    state = "connected" if on else "disconnected"
    expires = {} if on else {"expires_utc_s": bench.utc_s + 60}
    return bench.order(f"d-{counter}", counter, "relay", state=state, **expires)


def control(bench):
    live = bench.meter.live()
    return live["state"], live["contact"], live["reason"]


def test_a_disconnection_by_order_is_lifted_by_an_order_only(bench):
    assert order_off(bench, 1)["result"] == "accepted"
    assert control(bench) == ("disconnected", 0, "order")
    assert bench.contact.closed  # not so soon after the start
    bench.run(5)
    assert not bench.contact.closed
    bench.order("r-1", 2, amount_mp=1000 * RUPEE_MP)
    bench.run(60)
    bench.restart()
    assert control(bench) == ("disconnected", 0, "order")
    assert not bench.contact.closed
    assert order_off(bench, 3, on=True)["result"] == "accepted"
    assert control(bench) == ("connected", 1, "")
    bench.run(2)
    assert bench.contact.closed
    states = [(r["state"], r["contact"], r["reason"]) for r in bench.records("control")]
    assert states == [("disconnected", 0, "order"), ("connected", 1, "order")]


def test_a_credit_cut_beneath_an_order_stays_and_is_lifted_by_a_recharge_only(bench):
    cut_for_credit(bench)
    operations = bench.contact.operations
    order_off(bench, 1)
    assert control(bench) == ("disconnected", 0, "order")
    order_off(bench, 2, on=True)
    bench.run(60)
    bench.restart()
    assert control(bench) == ("ready_for_reconnection", 0, "credit")
    assert bench.contact.operations == operations
    bench.order("r-1", 3, amount_mp=1000 * RUPEE_MP)
    assert control(bench) == ("connected", 1, "")


def test_an_order_on_a_credit_cut_outlives_the_recharge(bench):
    cut_for_credit(bench)
    order_off(bench, 1)
    bench.order("r-1", 2, amount_mp=1000 * RUPEE_MP)
    bench.restart()
    assert control(bench) == ("disconnected", 0, "order")
    assert not bench.contact.closed
    order_off(bench, 3, on=True)
    assert control(bench) == ("connected", 1, "")


def test_no_record_no_disconnection(bench, monkeypatch):
    append = bench.meter.journal.append

    def failing(kind, *rest):
        if kind == "control":
            raise PowerFailed
        return append(kind, *rest)

    monkeypatch.setattr(bench.meter.journal, "append", failing)
    with pytest.raises(PowerFailed):
        order_off(bench, 1)
    assert bench.contact.closed
    bench.restart()
    assert bench.contact.closed


def test_a_disconnection_needs_the_time_and_connect_and_recharge_do_not(bench):
    bench.restart(time_known=False)
    assert order_off(bench, 1)["result"] == "time_unknown"
    assert bench.contact.closed
    assert bench.order("r-1", 2, amount_mp=5)["result"] == "accepted"
    answer = bench.order("c-1", 3, "relay", state="connected", expires_utc_s=5)
    assert answer["result"] == "accepted"
    assert bench.meter.set_time(bench.utc_s * 1000)
    assert order_off(bench, 1)["result"] == "time_unknown"  # its first answer
    assert order_off(bench, 4)["result"] == "accepted"


def test_the_grace_does_not_run_while_disconnected_by_order(bench):
    exhaust(bench)
    order_off(bench, 1)
    left_s = bench.meter.live()["grace_s"]
    bench.run(2 * HOUR_S, 0, step_s=60)
    assert bench.meter.live()["grace_s"] == left_s


# --- arrears and emergency credit ----------------------------------------------------------------


def test_arrears_take_their_share_of_each_recharge_until_they_are_paid(bench):
    bench.order("a-1", 1, "arrears", amount_mp=30 * RUPEE_MP, share_percent=25)
    answer = bench.order("r-1", 2, amount_mp=100 * RUPEE_MP)
    assert answer["balance_mp"] == 175 * RUPEE_MP
    bench.restart()
    assert bench.meter.live()["arrears_mp"] == 5 * RUPEE_MP
    answer = bench.order("r-2", 3, amount_mp=100 * RUPEE_MP)
    assert answer["balance_mp"] == 270 * RUPEE_MP
    assert bench.records("credit")[-1]["balance_mp"] == 270 * RUPEE_MP
    assert bench.meter.live()["arrears_mp"] == 0


def test_grace_begins_when_the_emergency_credit_is_exhausted_and_a_recharge_ends_it(bench):
    bench.order("e-1", 1, "emergency", limit_mp=20 * RUPEE_MP)
    while bench.meter.balance_mp() > -19 * RUPEE_MP:
        bench.run(10, 6000)
    assert not bench.records("event", 1002)
    assert bench.meter.live()["credit"] == "low_credit"
    bench.restart()
    exhaust(bench)
    begun = bench.records("event", 1002)
    assert len(begun) == 1
    assert begun[0]["balance_mp"] <= -20 * RUPEE_MP
    owed_mp = -bench.meter.balance_mp()
    assert bench.order("r-1", 2, amount_mp=owed_mp)["balance_mp"] == 0
    assert bench.meter.live()["emergency_limit_mp"] == 20 * RUPEE_MP
    assert bench.order("r-2", 3, amount_mp=RUPEE_MP)["balance_mp"] == RUPEE_MP
    assert bench.meter.live()["emergency_limit_mp"] == 0


def test_emergency_credit_brings_a_cut_supply_back(bench):
    cut_for_credit(bench)
    bench.order("e-1", 1, "emergency", limit_mp=50 * RUPEE_MP)
    assert bench.contact.closed
    bench.restart()
    bench.run(60)
    assert control(bench) == ("connected", 1, "")


# --- refund and adjustment -----------------------------------------------------------------------


def test_a_correction_is_an_entry_by_which_the_balance_changes(bench):
    bench.order("a-1", 1, "arrears", amount_mp=30 * RUPEE_MP, share_percent=25)
    for counter, (entry, amount_mp, balance_mp) in enumerate(
        (
            ("adjustment", 12 * RUPEE_MP, 112 * RUPEE_MP),
            ("adjustment", -2 * RUPEE_MP, 110 * RUPEE_MP),
            ("refund", -60 * RUPEE_MP, 50 * RUPEE_MP),
            ("adjustment", -200 * RUPEE_MP, -150 * RUPEE_MP),
        ),
        2,
    ):
        answer = bench.order(
            f"j-{counter}", counter, "adjustment", entry=entry, amount_mp=amount_mp
        )
        assert (answer["result"], answer["balance_mp"]) == ("accepted", balance_mp)
        entered = bench.records("credit")[-1]
        assert (entered["kind"], entered["amount_mp"]) == (entry, amount_mp)
    assert bench.meter.live()["arrears_mp"] == 30 * RUPEE_MP  # only a recharge pays them
    assert bench.meter.live()["credit"] == "out_of_credit"
    bench.restart()
    assert bench.meter.balance_mp() == -150 * RUPEE_MP


# --- clock ---------------------------------------------------------------------------------------


def test_a_large_step_needs_an_order_that_is_used_once(bench):
    far_s = bench.utc_s + 10 * DAY_S
    for _ in range(3):
        assert not bench.meter.set_time(far_s * 1000)
    assert [event["detail"] for event in bench.records("event", 1022)] == [10 * DAY_S]
    assert bench.order("c-1", 1, "clock", utc_s=far_s)["result"] == "accepted"
    bench.pass_ms(HOUR_S * 1000)
    assert not bench.meter.set_time((far_s - 60) * 1000)  # the permitted time has moved on
    assert bench.meter.set_time((far_s + HOUR_S + 60) * 1000)
    assert bench.records("event", 151)[-1]["detail"] == 10 * DAY_S + 60
    assert not bench.meter.set_time(bench.utc_s * 1000)


def test_a_step_into_a_closed_month_needs_an_order(make_bench):
    bench = make_bench(1769884200 - HOUR_S)  # 23:00 on 31 January
    bench.run(2 * HOUR_S, 600, step_s=60)
    assert not bench.meter.set_time((bench.utc_s - 2 * HOUR_S) * 1000)
    assert bench.meter.set_time((bench.utc_s - HOUR_S // 2) * 1000)


def test_the_last_known_time_counts_while_the_time_is_unknown(bench):
    bench.run(60)
    bench.restart(time_known=False)
    assert not bench.meter.set_time((bench.utc_s - 2 * DAY_S) * 1000)
    assert len(bench.records("event", 1022)) == 1
    assert bench.meter.set_time((bench.utc_s + 100 * DAY_S) * 1000)


def test_an_hour_that_comes_twice_gives_blocks_without_length(bench):
    bench.run(5 * HOUR_S, 960, step_s=60)
    assert bench.meter.set_time((bench.utc_s - 2 * HOUR_S) * 1000)
    bench.run(HOUR_S, 960, step_s=60)
    bench.restart()
    bench.utc_s -= 2 * HOUR_S
    assert bench.meter.set_time(bench.utc_s * 1000)
    bench.run(4 * HOUR_S, 960, step_s=60)
    blocks = bench.records("load")
    assert sum(block["energy_wh"] for block in blocks) == blocks[-1]["import_wh"]
    assert blocks[-1]["import_wh"] > 8000
    repeated = [block for block in blocks if block["length_s"] == 0]
    assert 3 <= len(repeated) <= 4
    for before, after in pairwise(blocks):
        assert after["start_utc_s"] == before["start_utc_s"] + before["length_s"]
    assert bench.meter.balance_mp() == 100 * RUPEE_MP - bench.meter.energy.import_wh * 665


def test_a_clock_that_was_wrong_by_a_year_goes_on_under_the_right_time(make_bench):
    """It closed months that had not been; nothing is charged twice, and each month closes again."""
    slabs = tariff_document((1, 100000), (None, 900000))
    true_s = 1769884200 - 2 * DAY_S  # two days to February
    bench = make_bench(true_s + 365 * DAY_S, tariff=slabs)
    bench.run(HOUR_S, 2400, step_s=60)
    wrong_s = bench.utc_s
    bench.order("c-1", 1, "clock", utc_s=wrong_s - 365 * DAY_S)
    assert bench.meter.set_time((wrong_s - 365 * DAY_S) * 1000)
    bench.utc_s -= 365 * DAY_S
    grace_s = bench.meter.live()["grace_s"]
    balance_mp = bench.meter.balance_mp()
    bench.run(60)
    assert bench.meter.balance_mp() == balance_mp
    assert bench.meter.live()["grace_s"] == grace_s
    bench.restart()
    assert bench.meter.live()["time_valid"]
    bench.run(3 * DAY_S, 120, step_s=60)
    closed = [record for record in bench.records("period") if record["charge_mp"]]
    assert [record["end_utc_s"] for record in closed] == [1769884200]
    wh = closed[0]["end_wh"]
    assert closed[0]["start_wh"] == 0
    assert closed[0]["charge_mp"] == 100000 + (wh - 1000) * 900
    blocks = bench.records("load")
    assert sum(block["energy_wh"] for block in blocks) == blocks[-1]["import_wh"]
    late = [block["start_utc_s"] for block in blocks if block["start_utc_s"] < wrong_s - DAY_S]
    assert len(late) >= 2 * 24 * 3
    assert late == sorted(set(late))


# --- resend --------------------------------------------------------------------------------------


def test_a_resend_takes_the_acknowledged_position_back_also_after_a_power_cut(bench):
    journal = bench.meter.journal
    bench.run(2 * HOUR_S, 960, step_s=60)
    journal.acknowledge(journal.last_seq)
    answer = bench.order("b-1", 1, "resend", store=journal.store_id, seq=2)
    assert answer["result"] == "accepted"
    assert journal.acked_seq == 2
    bench.restart()
    assert bench.meter.journal.acked_seq == 2
    bench.meter.journal.acknowledge(3)
    assert bench.order("b-1", 2, "resend", store=journal.store_id, seq=2)["result"] == "accepted"
    assert bench.meter.journal.acked_seq == 3


def test_no_grace_and_an_unknown_time_are_told_though_due_is_reached_at_once(make_bench):
    bench = make_bench(opening_balance_mp=0, rules={"grace_s": 0})
    bench.restart(time_known=False)
    bench.run(60)
    assert len(bench.records("event", 1021)) == 1
    assert bench.contact.closed


def test_every_record_of_an_order_has_words_for_the_serial_log(bench):
    for counter, (kind, members) in enumerate(RIGHT, 1):
        before = len(bench.lines)
        bench.order(f"x-{counter}", counter, kind, **members)
        assert any(f"x-{counter}" in line for line in bench.lines[before:])
    text = "\n".join(bench.lines)
    for words in ("settings grace_s 5 id=", "arrears 0.00, 5 %", "emergency credit to -0.00"):
        assert words in text
