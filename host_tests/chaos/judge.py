"""Reads the histories of a chaos run and says what does not agree. Integers only.

Nothing of the product is used to judge it but the reading of a meter's flash: the balance is
recomputed here from the records, with the second opinion on charges of property/bill_model.py.

| invariant | what must hold |
|---|---|
| balance | in every record: credits - closed periods - charges of the open one |
| once | a recharge is in a meter's ledger at most once, and once if anybody calls it confirmed |
| agreed | all three have the same end for every recharge, meter and gateway for every order |
| supply | each cause begins and ends as it may, no cut unwarned; the contact follows in time |
| energy | a register only grows, never beyond what the meter saw, loses at a cut what it may |
| told | a ledger record that is damaged is missed, and a resync gives back the very totals |
| stored | what was acknowledged is stored; flash, gateway and utility hold the same records |
| gaps | no record is missing that the meter has not reported as lost |
| quarantine | nothing was refused: everybody here sends what is right |
| queues | the broker dropped nothing, and no queue overflowed |
| answers | a repeated order gets its first answer again |
| processes | nothing ended, restarted or failed by itself; nothing is left behind |
| drained | after the last fault everything arrives within a time |
"""

import itertools
import json
from collections import defaultdict

from firmware.core import events
from host_tests.property.bill_model import Bill

NJ_PER_WH = 3_600_000_000_000
NJ_PER_WS = 1_000_000_000
CUT_WH = 10
CUT_S = 10
LATE_MAX_WH = 1_000_000  # what a meter may consume while its flash refuses
PER_MILLE = 3  # of the sensor and its sampling
TURN_MS = 120_000  # a gap of two samples is bridged, and a board may be a minute ahead
DECIDED = ("accepted", "range", "malformed", "unsupported", "expired", "time_unknown", "closed")


class Violation(Exception):
    """One thing that does not hold: which invariant, whose, and what was seen."""

    def __init__(self, invariant, meter, text, utc_s=0):
        super().__init__(f"{invariant}: {meter}: {text}" if meter else f"{invariant}: {text}")
        self.invariant = invariant
        self.utc_s = utc_s


class Witness:
    """What went over the wire, as it was sent."""

    def __init__(self):
        self.acked = {}  # (meter, store): highest seq that the gateway called committed
        self.answers = defaultdict(list)  # (meter, order id): answers in the order sent
        self.registers = {}  # (meter, store): (boot, up_s) and highest register told
        self.messages = defaultdict(int)
        self.violations = []

    def watch(self, client, way, packet):
        if way != "to the broker" or not packet.topic.startswith("bijli/1/"):
            return
        meter = packet.topic.split("/")[2]
        self.messages[packet.leaf] += 1
        if packet.leaf == "ack":
            ack = json.loads(packet.payload)
            place = meter, ack["store"]
            self.acked[place] = max(self.acked.get(place, 0), ack["seq"])
        elif packet.leaf == "answer":
            answer = json.loads(packet.payload)
            self.answers[meter, answer["id"]].append(answer)
        elif packet.leaf == "live":
            live = json.loads(packet.payload)
            self._told(meter, live["store"], live)
        elif packet.leaf == "up":
            batch = json.loads(packet.payload)
            for record in batch["records"]:
                if "import_wh" in record:
                    self._told(meter, batch["store"], record)

    def _told(self, meter, store, values):
        """A register was told; what was told at an earlier moment must not be more."""
        moment, wh = (values["boot"], values["up_s"]), values["import_wh"]
        last, before_wh = self.registers.get((meter, store), ((0, 0), 0))
        if moment <= last:
            return  # sent again, or read late from a connection that has ended
        if wh < before_wh:
            text = f"told {wh} Wh after {before_wh} Wh"
            self.violations.append(Violation("energy", meter, text, values["utc_s"]))
        self.registers[meter, store] = moment, max(before_wh, wh)

    def judge(self, forgotten=()):
        """forgotten: ids of orders whose record is damaged. That they are old is still known."""
        found = list(self.violations)
        for (meter, id_), answers in self.answers.items():
            # `old` and `resync_needed` decide nothing; once decided, an order has one answer.
            ends = [(a["result"], a["balance_mp"]) for a in answers]
            while ends and ends[0][0] not in DECIDED:
                ends.pop(0)
            if id_ in forgotten:
                ends = [end for end in ends if end[0] in DECIDED]
            if len(set(ends)) > 1:
                found.append(Violation("answers", meter, f"{id_}: {sorted(set(ends))}"))
        return found


def judge_records(meter, acked, on_flash, at_gateway, at_utility):
    """Compare the records that the three hold; each is a list of (store, record)."""
    found = []

    def by_identity(name, rows):
        known = {}
        for store, record in rows:
            identity = store, record["seq"]
            if identity in known:
                found.append(Violation("stored", meter, f"{name} holds {identity} twice"))
            known[identity] = record
        return known

    flash = by_identity("the flash", on_flash)
    gateway = by_identity("the gateway", at_gateway)
    utility = by_identity("the utility", at_utility)
    for name, have, want in (
        ("the gateway has not what is on flash", gateway, flash),
        ("the utility has not what the gateway has", utility, gateway),
        ("the gateway has not what the utility has", gateway, utility),
    ):
        missing = sorted(set(want) - set(have))
        if missing:
            record = want[missing[0]]
            found.append(
                Violation(
                    "stored", meter, f"{name}: {len(missing)}, {missing[:3]}", record["utc_s"]
                )
            )
        other = [i for i in want if i in have and want[i] != have[i]]
        if other:
            found.append(Violation("stored", meter, f"other content: {other[:3]}"))
    for (whose, store), seq in acked.items():
        if whose == meter:
            missing = [n for n in range(1, seq + 1) if (store, n) not in gateway]
            if missing:
                found.append(
                    Violation(
                        "stored",
                        meter,
                        f"{len(missing)} acknowledged records are not at the gateway: "
                        f"{missing[:3]}",
                    )
                )
    for store in {store for store, _ in gateway}:
        seqs = sorted(seq for other, seq in gateway if other == store)
        missing = set(range(1, seqs[-1] + 1)) - set(seqs)
        if missing:
            found.append(Violation("gaps", meter, f"{len(missing)} records: {sorted(missing)[:3]}"))
    return found


def judge_ledger(meter, records):
    """Recompute the balance of every record of a meter, in order."""
    found = []
    bill = Bill()
    credits_mp = register_wh = blocks_wh = balance_mp = 0
    arrears_mp = share_percent = per_day_mp = arrears_day = emergency_mp = 0
    seen = defaultdict(int)
    moment = 0, 0
    lost = False

    def wrong(invariant, text):
        found.append(Violation(invariant, meter, text, record["utc_s"]))

    for record in records:
        kind = record["type"]
        if "id" in record and record.get("counter", 1):  # 0: by nobody's order
            seen[record["id"]] += 1
        before_mp = credits_mp - bill.charges_mp(record.get("import_wh", register_wh))
        bill.take(record)
        if kind == "credit" and record["kind"] == "recharge":
            # It pays emergency credit taken, then the arrears' share of the rest, then credit.
            taken_mp = min(record["amount_mp"], emergency_mp, max(0, -before_mp))
            share_mp = ((record["amount_mp"] - taken_mp) * share_percent + 50) // 100
            share_mp = min(arrears_mp, share_mp)
            arrears_mp -= share_mp
            credits_mp += record["amount_mp"] - share_mp
            if credits_mp - bill.charges_mp(record["import_wh"]) > 0:
                emergency_mp = 0
        elif kind == "credit":
            credits_mp += record["amount_mp"]
        elif kind == "recovery":
            if not (arrears_mp and per_day_mp):
                arrears_day = 0
            arrears_mp += record["amount_mp"]
            share_percent, per_day_mp = record["share_percent"], record["per_day_mp"]
            if record["at_once"]:
                credits_mp -= arrears_mp
                arrears_mp = 0
        elif kind == "mode" and record["mode"] == "credit":
            emergency_mp = 0
        elif kind == "mode":
            if not (arrears_mp and per_day_mp):
                arrears_day = 0
            due_mp = max(0, -before_mp)
            credits_mp += due_mp
            arrears_mp += due_mp
            share_percent, per_day_mp = record["share_percent"], record["per_day_mp"]
        elif kind == "emergency":
            emergency_mp = record["limit_mp"]
        elif kind == "period" and not record["start_utc_s"]:
            continue  # the period got its date; its end is not the register of that moment
        elif kind == "account" and record["action"] == "opened":
            credits_mp = bill.charges_mp(record["import_wh"]) + record["document"]["balance_mp"]
        elif kind == "account":
            left_mp = credits_mp - bill.charges_mp(record["import_wh"]) - arrears_mp
            ours = (arrears_mp, max(0, left_mp), max(0, -left_mp))
            told = tuple(record["document"][f"{n}_mp"] for n in ("arrears", "refund", "due"))
            if told != ours:
                wrong("balance", f"a closing settles {told}, it is {ours}")
            credits_mp -= arrears_mp + max(0, left_mp)
            arrears_mp = share_percent = per_day_mp = arrears_day = emergency_mp = 0
        elif kind == "tally" and arrears_mp and per_day_mp:
            days = record["day"] - arrears_day
            if arrears_day and days > 0:
                left_mp = max(0, credits_mp - bill.charges_mp(record["import_wh"]))
                paid_mp = min(arrears_mp, days * per_day_mp, left_mp)
                arrears_mp -= paid_mp
                credits_mp -= paid_mp
            if days > 0 or days < -1:
                arrears_day = record["day"]
        elif kind in ("block", "load"):
            blocks_wh += record["energy_wh"]
            if blocks_wh != record["import_wh"]:
                wrong(
                    "energy",
                    f"record {record['seq']}: blocks add up to {blocks_wh} Wh, register "
                    f"{record['import_wh']} Wh",
                )
                blocks_wh = record["import_wh"]
        elif kind == "event" and record["code"] == events.LEDGER_LOST:
            lost = True  # until its resync it does not know its balance
        elif kind == "resync":
            lost = False
            blocks_wh = record["import_wh"]  # the profile begins anew
            ours = {
                "credits_mp": credits_mp,
                "closed_mp": bill.closed_mp,
                "period_start_wh": bill.start_wh,
                "arrears_mp": arrears_mp,
                "emergency_mp": emergency_mp,
            }
            told = {name: record["document"].get(name, 0) for name in ours}
            if told != ours:
                wrong("told", f"resync gives {told}, it is {ours}")
        wh = record.get("import_wh")
        if wh is None:
            # A period that waited for its flash has the month's last register, and the balance of
            # the moment when it was written.
            wh = record["end_wh"]
            if lost:
                wh = max(wh, register_wh)
            else:
                wh = register_of(bill, credits_mp - record["balance_mp"], wh)
        # A block that waited is of an earlier moment.
        waited = (record["boot"], record["up_s"]) < moment
        moment = max(moment, (record["boot"], record["up_s"]))
        if wh < register_wh and not waited:
            wrong("energy", f"record {record['seq']}: {wh} Wh after {register_wh} Wh")
        register_wh = max(register_wh, wh)
        balance_mp = credits_mp - bill.charges_mp(wh)
        if record["balance_mp"] != balance_mp and not lost:
            wrong(
                "balance",
                f"record {record['seq']} ({kind}) says {record['balance_mp']} mp, it is "
                f"{balance_mp} mp",
            )
            break  # every later one would say the same
    for id_, times in seen.items():
        if times > 1:
            found.append(Violation("once", meter, f"{id_} was decided {times} times"))
    return found


def register_of(bill, charges_mp, wh):
    """The register from `wh` on at which the charges are so; `wh` if there is none."""
    low, high = wh, wh + LATE_MAX_WH
    while low < high:
        middle = (low + high) // 2
        if bill.charges_mp(middle) < charges_mp:
            low = middle + 1
        else:
            high = middle
    return low if bill.charges_mp(low) == charges_mp else wh


def judge_damage(meter, damaged, records):
    """damaged: numbers of the ledger records that a bit flip has hit."""
    found = []
    known = [
        record["seq"]
        for record in records
        if record["type"] == "resync" or record.get("code") == events.LEDGER_LOST
    ]
    for seq in damaged:
        if seq > max(known, default=0):
            found.append(Violation("told", meter, f"nobody missed the damaged record {seq}"))
    return found


def judge_orders(meter, records, orders):
    """Compare the ends of a meter's orders with its records; orders: the gateway's rows."""
    found = []
    decided = {record["id"]: record for record in records if record.get("counter")}
    for row in orders:
        record = decided.get(row["id"])
        result = None if record is None else record.get("result", "accepted")
        if row["state"] in ("done", "refused") and row["result"] != result:
            text = f"{row['kind']} {row['id']} is {row['state']} ({row['result']}), its record "
            found.append(Violation("agreed", meter, text + f"says {result}"))
        elif row["state"] == "cancelled" and record is not None:
            found.append(Violation("agreed", meter, f"{row['id']} is cancelled, and was done"))
    return found


def judge_tenants(meter, records, accounts):
    """Each change of the tenant was made, and made once; accounts: the numbers asked for."""
    opened = [
        record["document"]["account"]
        for record in records
        if record["type"] == "account" and record["action"] == "opened"
    ]
    if sorted(opened) != sorted(accounts):
        return [Violation("once", meter, f"opened {sorted(opened)}, asked were {sorted(accounts)}")]
    return []


def judge_recharges(requests, credits, at_gateway, at_utility, refused=()):
    """Compare the ends of all recharges that were ordered.

    requests: {id: (meter, amount_mp)}; credits: {id: (meter, ledger record)}; at_gateway: {id:
    (state, meter, amount_mp, balance_mp)}; at_utility: {id: {state: (meter, amount, balance)}};
    refused: ids of those that a meter without an account may have refused.
    """
    found = []

    def say(invariant, id_, text):
        found.append(Violation(invariant, requests.get(id_, ("",))[0], f"recharge {id_}: {text}"))

    for id_ in set(credits) | set(at_gateway) | set(at_utility):
        if id_ not in requests:
            say("agreed", id_, "nobody ordered it")
    for id_, (meter, amount_mp) in requests.items():
        entry = credits.get(id_)
        row = at_gateway.get(id_)
        told = at_utility.get(id_, {})
        if row is None:
            say("agreed", id_, "the gateway took it and does not know it")
            continue
        state = row[0]
        if state not in ("confirmed", "cancelled") and not (state == "refused" and id_ in refused):
            say("agreed", id_, f"is {state} at the end")
        if (state == "refused") != ("refused" in told):
            say("agreed", id_, f"{state} at the gateway, {sorted(told)} at the utility")
        if (state == "confirmed") != (entry is not None):
            say("once", id_, f"{state} at the gateway, {'' if entry else 'not '}in the ledger")
        if (state == "confirmed") != ("confirmed" in told):
            say("once", id_, f"{state} at the gateway, {sorted(told)} at the utility")
        if row[1:3] != (meter, amount_mp):
            say("agreed", id_, f"ordered {meter} {amount_mp} mp, the gateway has {row[1:3]}")
        if entry is None or "confirmed" not in told:
            continue
        whose, record = entry
        end = whose, record["amount_mp"], record["balance_mp"]
        if end != row[1:]:
            say("agreed", id_, f"in the ledger {end}, at the gateway {row[1:]}")
        if end != told["confirmed"]:
            say("agreed", id_, f"in the ledger {end}, at the utility {told['confirmed']}")
    return found


def judge_energy(meter, truth, records, power_max_w, sample_period_ms):
    """Compare the register at each start with what was consumed until then (`world.Truth`)."""
    found = []
    gaps_ms = defaultdict(int)
    for record in records:
        if record["type"] == "event" and record["code"] == events.SAMPLE_GAP:
            gaps_ms[record["boot"]] += record["detail"]
    for boot, (before, after) in enumerate(itertools.pairwise(truth.starts), 1):
        (nj_0, wh_0, runs_0), (nj_1, wh_1, runs_1) = before, after
        used_nj = nj_1 - nj_0
        lost_nj = used_nj - (wh_1 - wh_0) * NJ_PER_WH
        error_nj = used_nj * PER_MILLE // 1000 + NJ_PER_WH
        turns_nj = truth.turns[boot] * power_max_w * TURN_MS * (NJ_PER_WS // 1000)
        unseen_nj = truth.unseen_nj[boot]
        # A run loses what was consumed before its second sample, and what no checkpoint had.
        blind_ms = (runs_1 - runs_0) * 3 * sample_period_ms + CUT_S * 1000 + gaps_ms[boot]
        blind_ms += truth.unsaved_ms[boot]
        bound_nj = CUT_WH * NJ_PER_WH + power_max_w * blind_ms * (NJ_PER_WS // 1000) + error_nj
        bound_nj += unseen_nj + turns_nj
        if lost_nj > bound_nj:
            found.append(
                Violation(
                    "energy",
                    meter,
                    f"boot {boot} lost {lost_nj // NJ_PER_WH} Wh, may lose "
                    f"{bound_nj // NJ_PER_WH} Wh",
                )
            )
        if lost_nj < unseen_nj - turns_nj - error_nj:
            gained_wh = (unseen_nj - lost_nj) // NJ_PER_WH
            found.append(
                Violation("energy", meter, f"boot {boot} gained {gained_wh} Wh of what it saw")
            )
    return found
