"""The short chaos run, and tests of what judges it: a history with one fault must not pass."""

import copy
import itertools
import json

import pytest

from demo.households import JBVNL_URBAN
from host_tests.chaos import faults, judge, mutants
from host_tests.chaos.network import PUBLISH, read_packet
from host_tests.chaos.run import Plan, Run
from host_tests.chaos.world import Truth
from host_tests.fakes.interpreters import need
from toolchain import locate

METER = "BJ-TEST-01"
STORE = "9f3a01bc"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_short_run(tmp_path):
    need(locate.mosquitto)
    run = Run(20, 30, 30, tmp_path / "run")
    found = run.go()
    assert not found, "\n".join([*map(str, found), run.table(), *run.near(found[0])])
    assert run.faults.total() >= 30
    assert len(run.requests) >= 30


# --- the plan ------------------------------------------------------------------------------------


def test_a_seed_is_a_plan():
    def first(seed):
        return [(name, ms) for name, _, ms in itertools.islice(Plan(seed, 50, 50).steps(), 200)]

    assert first(1) == first(1) != first(2)


def test_a_long_plan_has_every_fault_and_operation_often():
    names = [name for name, _, _ in itertools.islice(Plan(1, 1_000, 1_000).steps(), 2_200)]
    assert names.count("recharge") >= 1_000
    for name in (*faults.FAULTS, *faults.OPERATIONS):
        assert names.count(name) >= 3, name


def test_a_plan_of_some_faults_has_no_others():
    steps = itertools.islice(Plan(1, 5, 5, ["gateway: killed"]).steps(), 100)
    # behind the plan recharges go on, so that faults at a message find one
    assert {name for name, _, _ in steps} & set(faults.FAULTS) == {"gateway: killed"}


# --- the mutants ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_still_fits(mutant, tmp_path):
    for name, _, _ in mutant.patches:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((locate.project_root() / name).read_text("utf-8"), "utf-8")
    mutants.plant(mutant, tmp_path)
    assert set(mutant.faults) <= set(faults.FAULTS)
    for name, _, _ in mutant.patches:
        if name.endswith(".py"):
            compile((tmp_path / name).read_text("utf-8"), name, "exec")


# --- the judge -----------------------------------------------------------------------------------


def history():
    """A good history: (records of one meter, recharges ordered, at the gateway, at the utility)."""
    price = JBVNL_URBAN["lines"][0]["slabs"][0]["rate_mp_per_kwh"] // 1_000
    paid = [("opening", 5_000_000), ("r-1", 1_000_000), ("r-2", 2_000_000)]
    members = [{"type": "boot"}]
    for id_, amount_mp in paid:
        kind = "opening" if id_ == "opening" else "recharge"
        members.append({"type": "credit", "kind": kind, "id": id_, "amount_mp": amount_mp})
    members.insert(2, {"type": "tariff", "document": JBVNL_URBAN})
    members += [{"type": "block", "energy_wh": wh} for wh in (30, 0, 12)]
    records = []
    credits_mp = wh = 0
    for seq, record in enumerate(members, 1):
        wh += record.get("energy_wh", 0)
        credits_mp += record.get("amount_mp", 0)
        balance_mp = credits_mp - price * wh
        records.append(
            {
                "seq": seq,
                "boot": 1,
                "utc_s": seq,
                "up_s": seq,
                "import_wh": wh,
                "balance_mp": balance_mp,
                **record,
            }
        )
    ledger = {r["id"]: (METER, r) for r in records if r.get("kind") == "recharge"}
    ends = {id_: (METER, r["amount_mp"], r["balance_mp"]) for id_, (_, r) in ledger.items()}
    return (
        records,
        {id_: (METER, r["amount_mp"]) for id_, (_, r) in ledger.items()},
        {id_: ("confirmed", *end) for id_, end in ends.items()},
        {id_: {"sent": (METER, 1, None), "confirmed": end} for id_, end in ends.items()},
        ledger,
    )


def invariants(records=None, flash=None, gateway=None, utility=None, acked=8, **changed):
    """The invariants that a changed history breaks."""
    good, requests, at_gateway, at_utility, ledger = history()
    records = good if records is None else records
    rows = [
        [(STORE, record) for record in (records if some is None else some)]
        for some in (flash, gateway, utility)
    ]
    found = judge.judge_records(METER, {(METER, STORE): acked}, *rows)
    found += judge.judge_ledger(METER, records)
    found += judge.judge_recharges(
        changed.get("requests", requests),
        changed.get("ledger", ledger),
        changed.get("at_gateway", at_gateway),
        changed.get("at_utility", at_utility),
        changed.get("refused", ()),
    )
    return {violation.invariant for violation in found}


def changed(seq, **members):
    records = copy.deepcopy(history()[0])
    records[seq - 1].update(members)
    return records


def without(*seqs):
    return [record for record in history()[0] if record["seq"] not in seqs]


def test_a_good_history_passes():
    assert invariants() == set()


def test_a_period_that_got_its_date_closes_nothing():
    records = history()[0]
    dated = {"type": "period", "start_utc_s": 0, "end_utc_s": 9, "end_wh": 0, "charge_mp": 0}
    records.append({"seq": 9, "boot": 1, "utc_s": 9, "up_s": 9, **dated, "balance_mp": 1})
    assert invariants(records) == set()


def ledger(*members):
    """What the judge says of the ledger of a good history with more records behind it."""
    records = history()[0]
    for record in members:
        seq = len(records) + 1
        records.append({"seq": seq, "boot": 1, "utc_s": seq, "up_s": seq, **record})
    return [violation.invariant for violation in judge.judge_ledger(METER, records)]


def balance_mp(wh):
    return 8_000_000 - wh * (JBVNL_URBAN["lines"][0]["slabs"][0]["rate_mp_per_kwh"] // 1_000)


def event(code, wh, mp=None):
    mp = balance_mp(wh) if mp is None else mp
    return {"type": "event", "code": code, "import_wh": wh, "balance_mp": mp}


def test_what_waited_for_a_flash_is_of_an_earlier_moment():
    block = {"type": "block", "import_wh": 50, "energy_wh": 8, "balance_mp": balance_mp(50)}
    assert ledger(event(1034, 60), {**block, "up_s": 8}) == []
    assert ledger(event(1034, 60), block) == ["energy"]


def test_a_period_that_waited_has_the_register_of_the_months_end():
    period = {"type": "period", "start_utc_s": 1, "end_utc_s": 9, "end_wh": 50}
    assert ledger(event(1034, 60), {**period, "balance_mp": balance_mp(60)}) == []
    assert ledger(event(1034, 60), {**period, "balance_mp": balance_mp(55)}) == ["energy"]
    assert "balance" in ledger(event(1034, 60), {**period, "balance_mp": balance_mp(60) - 1})


def resync(**changes):
    totals = {"credits_mp": 8_000_000, "closed_mp": 0, "period_start_wh": 0, **changes}
    return {"type": "resync", "document": totals, "import_wh": 42, "balance_mp": balance_mp(42)}


def test_a_lost_ledger_knows_no_balance_until_its_resync():
    assert ledger(event(1032, 42, 0), resync()) == []
    assert ledger(event(1032, 42, 0), resync(credits_mp=7_000_000)) == ["told"]
    assert ledger(event(1032, 42, 0), resync(), event(1033, 42, 0)) == ["balance"]


def test_a_damaged_ledger_record_that_nobody_missed():
    def missed(*records):
        return [violation.invariant for violation in judge.judge_damage(METER, [5], records)]

    assert missed({"seq": 9, **event(1032, 42)}) == []
    assert missed({"seq": 9, **resync()}) == []
    assert missed({"seq": 4, **event(1032, 42)}) == ["told"]


def test_a_wrong_balance():
    assert invariants(changed(7, balance_mp=1)) == {"balance"}


def test_a_recharge_applied_twice():
    assert invariants(changed(5, id="r-1")) == {"once"}


def test_a_register_that_goes_back():
    assert "energy" in invariants(changed(7, import_wh=29, energy_wh=-1))


def test_energy_in_no_block():
    assert "energy" in invariants(changed(7, energy_wh=1))


def test_a_record_that_the_gateway_lacks():
    assert invariants(gateway=without(8), acked=7) == {"stored"}
    assert invariants(gateway=without(8), flash=without(8), utility=without(8)) == {"stored"}


def test_a_record_that_the_utility_lacks_or_has_otherwise():
    assert invariants(utility=without(4)) == {"stored"}
    assert invariants(utility=changed(8, utc_s=1)) == {"stored"}
    assert invariants(utility=[*history()[0], history()[0][3]]) == {"stored"}


def test_a_gap():
    records = without(8)
    del records[5]
    assert "gaps" in invariants(flash=records, gateway=records, utility=records, acked=5)


def test_a_recharge_that_only_the_gateway_calls_confirmed():
    ledger = history()[4]
    del ledger["r-2"]
    assert invariants(ledger=ledger) == {"once"}


def test_a_recharge_that_is_still_under_way():
    _, _, at_gateway, _, _ = history()
    at_gateway["r-1"] = ("sent", *at_gateway["r-1"][1:])
    assert invariants(at_gateway=at_gateway) == {"agreed", "once"}


def test_a_recharge_that_nobody_ordered_or_that_the_gateway_forgot():
    _, requests, _, _, _ = history()
    assert invariants(requests={"r-1": requests["r-1"]}) == {"agreed"}
    assert invariants(requests={**requests, "r-3": (METER, 1)}) == {"agreed"}


def test_balances_that_differ():
    _, _, _, at_utility, _ = history()
    at_utility["r-1"]["confirmed"] = (METER, 1_000_000, 1)
    assert invariants(at_utility=at_utility) == {"agreed"}


def test_a_recharge_that_was_refused():
    _, _, at_gateway, at_utility, ledger = history()
    del ledger["r-2"]
    at_gateway["r-2"] = ("refused", METER, 2_000_000, None)
    at_utility["r-2"] = {"sent": (METER, 1, None), "refused": (METER, 2_000_000, None)}
    ends = {"at_gateway": at_gateway, "at_utility": at_utility, "ledger": ledger}
    assert invariants(**ends) == {"agreed"}
    assert invariants(**ends, refused={"r-2"}) == set()  # its account was closed
    del at_utility["r-2"]["refused"]
    assert invariants(**ends, refused={"r-2"}) == {"agreed"}


def test_orders_whose_end_is_not_that_of_their_record():
    def judged(state, result, *records):
        row = {"id": "o-1", "kind": "relay", "state": state, "result": result}
        return [v.invariant for v in judge.judge_orders(METER, records, [row])]

    refusal = {"type": "order", "id": "o-1", "counter": 3, "result": "expired"}
    taken = {"type": "settings", "id": "o-1", "counter": 3}
    assert judged("refused", "expired", refusal) == judged("done", "accepted", taken) == []
    assert judged("done", "accepted", refusal) == judged("done", "accepted") == ["agreed"]
    assert judged("cancelled", "", taken) == ["agreed"]
    assert judged("cancelled", "") == []


def test_a_tenant_who_never_moved_in_or_twice():
    def opened(number):
        return {"type": "account", "action": "opened", "document": {"account": number}}

    def judged(*accounts):
        records = [{"type": "account", "action": "closed", "document": {}}, opened("A-2")]
        return [v.invariant for v in judge.judge_tenants(METER, records, set(accounts))]

    assert judged("A-2") == []
    assert judged("A-2", "A-3") == judged() == ["once"]
    twice = [opened("A-2"), opened("A-2")]
    assert judge.judge_tenants(METER, twice, {"A-2"})


def energy(consumed_wh, register_wh):
    """Boot 1 from nothing: what the judge says of a run with 20 s between samples at 100 W."""
    truth = Truth()
    truth.started(0)
    truth.ended({"energy_mj": consumed_wh * 3_600_000, "energy_rest_nj": 0})
    truth.started(register_wh)
    return [v.invariant for v in judge.judge_energy(METER, truth, [], 100, 20_000)]


def test_energy_lost_at_a_cut():
    assert energy(1_000, 990) == []
    assert energy(1_000, 960) == ["energy"]


def test_energy_out_of_nothing():
    assert energy(1_000, 1_003) == []
    assert energy(1_000, 1_010) == ["energy"]


def test_energy_that_the_sensor_could_not_see():
    """Of 1,000 Wh it was silent for 400: it must not count them, and may miss what it saw."""

    def judged(register_wh):
        truth = Truth()
        truth.started(0)
        truth.sensor(False, {"energy_mj": 500 * 3_600_000, "energy_rest_nj": 0})
        truth.sensor(True, {"energy_mj": 900 * 3_600_000, "energy_rest_nj": 0})
        truth.ended({"energy_mj": 1_000 * 3_600_000, "energy_rest_nj": 0})
        truth.started(register_wh)
        return [v.invariant for v in judge.judge_energy(METER, truth, [], 100, 20_000)]

    assert judged(600) == judged(590) == []
    assert judged(620) == judged(560) == ["energy"]


def test_energy_of_a_silence_over_a_cut_is_that_of_each_boot():
    truth = Truth()
    truth.started(0)
    truth.sensor(False, {"energy_mj": 500, "energy_rest_nj": 0})
    truth.ended({"energy_mj": 700, "energy_rest_nj": 0})
    truth.started(0)
    truth.sensor(True, {"energy_mj": 40, "energy_rest_nj": 0})
    assert truth.unseen_nj == {1: 200_000_000, 2: 40_000_000}


class Message:
    def __init__(self, leaf, **members):
        self.leaf = leaf
        self.topic = f"bijli/1/{METER}/{leaf}"
        self.payload = json.dumps({"store": STORE, **members})


def witnessed(*messages, forgotten=()):
    witness = judge.Witness()
    for message in messages:
        witness.watch(METER, "to the broker", message)
    return [violation.invariant for violation in witness.judge(forgotten)]


def test_another_answer_to_the_same_order():
    def answer(result, balance_mp=5):
        return Message("answer", id="r-1", result=result, balance_mp=balance_mp)

    # its record is damaged: that it is old is known, what it was answered is not
    assert witnessed(answer("accepted"), answer("old"), forgotten=["r-1"]) == []
    assert witnessed(answer("old"), answer("accepted"), answer("accepted")) == []
    assert witnessed(answer("accepted"), answer("accepted", 6)) == ["answers"]
    assert witnessed(answer("accepted"), answer("old")) == ["answers"]


def test_a_register_told_and_then_taken_back():
    def live(boot, up_s, wh):
        return Message("live", boot=boot, up_s=up_s, import_wh=wh, utc_s=0)

    assert witnessed(live(1, 9, 10), live(2, 1, 10), live(1, 8, 9)) == []
    assert witnessed(live(1, 9, 10), live(2, 1, 9)) == ["energy"]
    boot = {"boot": 2, "up_s": 0, "import_wh": 9, "utc_s": 0}
    assert witnessed(live(1, 9, 10), Message("up", records=[boot])) == ["energy"]


# --- packets -------------------------------------------------------------------------------------


def test_packets_are_taken_apart():
    topic = b"bijli/1/BJ-TEST-01/up"
    payload = b"x" * 200
    body = len(topic).to_bytes(2, "big") + topic + b"\0\7" + payload
    data = b"\x32" + bytes([len(body) & 0x7F | 0x80, len(body) >> 7]) + body + b"\xc0\0"
    rest = memoryview(data)

    def read(n):
        nonlocal rest
        piece, rest = bytes(rest[:n]), rest[n:]
        if len(piece) < n:
            raise EOFError
        return piece

    packet = read_packet(read)
    assert (packet.kind, packet.leaf, packet.qos) == (PUBLISH, "up", 1)
    assert packet.payload == payload
    assert packet.raw == data[:-2]
    assert packet.again()[0] == 0x3A
    assert read_packet(read).raw == b"\xc0\0"
    with pytest.raises(EOFError):
        read_packet(read)
