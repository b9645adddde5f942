"""What must hold on an image that a power cut has left. Each failed check raises `Wrong`.

`judge` boots the image twice with a new meter: the first boot must be old or new, repeats every
order and lives on a little; the second must find what the first left.
"""

import json
import time

from session import BOOT_BOUND_S, UNDECIDED, Session, Wrong

from firmware.core.records import CALIBRATED
from firmware.credit.account import Account
from firmware.relay.arbitration import TEST

_STEP_S = 60


def check(holds, what, *details):
    """Wrong(what) unless it holds."""
    if not holds:
        raise Wrong(what + " " + " ".join(repr(detail) for detail in details))


def judge(settings, image, truth, log, time_known, show=None):
    """Judges the image of a cut (it is written to); `truth` is that of the cut and is changed.

    Returns (flash operations, ms) of the first boot."""
    session = Session(settings, image, truth, log, show)
    before = truth.copy()
    begun_ms = time.ticks_ms()
    mount(session)
    session.mark("off", 60)
    try:
        session.start("power", time_known)
        booted = len(log), time.ticks_diff(time.ticks_ms(), begun_ms)
        adopt(session, before)
        old_or_new(session, before)
        contact_is_kept(session, before)
        causes_are_kept(session)
        link_is_old_or_new(session, before)
        repeat_orders(session, before)
        money(session)
        live_on(session)
        left = truth.copy()
        state = account_state(session.meter)
        session.restart(cause="hard", time_known=time_known)
        old_or_new(session, left)
        causes_are_kept(session)
        check(account_state(session.meter) == state, "account after a restart")
        money(session)
    finally:
        session.stop()
        session.flash.dead = True
    return booted


def mount(session):
    """A good image is mounted as it is; one that never held a record may be blank."""
    try:
        session.mount()
    except OSError as error:
        check(not session.truth.records, "littlefs does not mount", error)
        session.format()
        session.mount()


def adopt(session, before):
    """The record that was under way may be on flash: from here on it is known."""
    known = {record["seq"] for record in session.truth.records}
    for record in session.records():
        if record["seq"] not in known:
            check(record["type"] == before.begun, "a record from nowhere", record)
            session.truth.records.append(record)
            session.truth.records.sort(key=lambda r: r["seq"])
            session.truth.apply(record)


def old_or_new(session, before):
    """Register, records and balance are those before or after what was under way."""
    meter = session.meter
    journal = meter.journal
    records = session.records()
    check(not journal.damaged_bytes, "bytes damaged", journal.damaged_bytes)
    check((meter.service == "ledger_lost") == session.truth.lost, "service", meter.service)
    if before.records:
        check(journal.store_id == before.store_id, "store id", journal.store_id)
        same_records(records, before)
    # Register: not above what was measured, not below what was shown, and at most the bound lost.
    boot = [record for record in records if record["type"] == "boot"][-1]
    wh = boot["import_wh"]
    check(wh <= before.true_wh, "register above the truth", wh, before.true_wh)
    check(wh >= before.shown_wh, "register below what was shown", wh, before.shown_wh)
    tick_wh = before.true_wh - before.register_ago(_STEP_S * 1000 + 60000)
    lost_max = max(10, before.true_wh - before.register_ago(10000)) + tick_wh
    check(wh >= before.true_wh - lost_max, "lost Wh", before.true_wh - wh, lost_max)
    quarter = before.register_ago((BOOT_BOUND_S + 2 * _STEP_S) * 1000)
    check(wh >= quarter, "lost more than 15 minutes", wh, quarter)
    check(meter.live()["import_wh"] >= wh, "live register", meter.live()["import_wh"])
    expected = [0] * len(CALIBRATED), [0] * len(CALIBRATED)  # (those before, those in force)
    calendar = {}
    for record in session.truth.records:
        if record["type"] == "calibration":
            expected = expected[1], [record[name] for name in CALIBRATED]
        elif record["type"] == "calendar":
            calendar = record["document"]
    calibration = meter.calibration
    check(calibration.before == expected[0], "calibration before", calibration.before)
    check(calibration.values == expected[1], "calibration", calibration.values)
    found = meter.control.calendar
    check(found.id == calendar.get("id", ""), "calendar", found.state())
    if before.grace_s is not None and before.begun is None:
        grace_s = meter.live()["grace_s"]
        low, high = before.grace_s - 2 * _STEP_S, before.grace_s + BOOT_BOUND_S + 2 * _STEP_S
        check(low <= grace_s <= high, "grace", grace_s, before.grace_s)


def same_records(records, before):
    """Every record that was on flash is there as it was; at most the one under way is more."""
    known = before.records
    last = known[-1]["seq"]
    check(records and records[0]["seq"] <= last + 1, "records are gone")
    dropped = [r for r in known if r["seq"] < records[0]["seq"] and r["seq"] >= before.first_seq]
    check(
        all(r["seq"] <= before.acked_seq for r in dropped) or before.begun,
        "records were dropped", [r["seq"] for r in dropped],
    )  # fmt: skip
    at = 0
    while known[at]["seq"] < records[0]["seq"]:
        at += 1
    for i, record in enumerate(records):
        if at + i < len(known):
            for member in known[at + i]:
                same = record.get(member) == known[at + i][member]
                check(same, "another record", record, known[at + i])
        else:
            check(record["seq"] == last + 1 + at + i - len(known), "number", record["seq"])
    more = records[len(known) - at :]
    if more and more[0]["boot"] == known[-1]["boot"]:
        check(more[0]["type"] == before.begun, "a record from nowhere", more[0])


def contact_is_kept(session, before):
    """The start does not move the contact; then it goes where the journal says, and not away."""
    check(not before.moved_first, "the contact moved before the decision was on flash")
    check(session.operations == 0, "pulses at boot", session.operations)
    session.look()
    contact = session.truth.decided_contact()
    check(session.truth.contact == contact, "contact", session.truth.contact, contact)
    moved = 1 if before.contact != contact else 0
    check(session.operations == moved, "pulses behind the boot", session.operations)


def causes_are_kept(session):
    """Causes, and how far a want of credit has come, are those of the records."""
    control = session.meter.control
    standing = session.truth.decided_causes()
    check(standing in (None, control.standing), "causes", control.standing, standing)
    check(not control.standing & TEST, "a test outlived a start")
    if session.truth.records[0]["seq"] == 1:
        word = session.truth.credit_word()
        check(control.rule.word == word, "credit rule", control.rule.word, word)


def link_is_old_or_new(session, before):
    """The broker in force is the last that worked, or the one that was about to."""
    credentials = session.meter.credentials
    host = credentials.link_in_force()[2]
    first = json.loads(session.settings["config"])["broker"]["host"]
    check(host in (before.link or first, before.trial), "link", host, before.link, before.trial)


def repeat_orders(session, before):
    """The gateway repeats every order: decided ones repeat their answer, none is applied twice."""
    for order_id in before.messages:
        message = before.messages[order_id]
        first = before.answers.get(order_id)
        answer = session.send(order_id, message)
        check(answer is not None, "the gateway's key is refused", order_id)
        if first is None:
            if order_id in before.undecided:
                continue
            if session.truth.lost and answer["result"] == "resync_needed":
                continue
            check(answer["result"] != "old", "an order is lost for ever", order_id)
            first = answer
            answer = session.send(order_id, message)
        elif answer["result"] in UNDECIDED:
            # Its record is gone: dropped, and long acknowledged, or lost with the ledger.
            lost = session.truth.lost
            check(lost or answer["result"] == "old", "a resync without need", answer)
            gone = session.truth.first_seq > 1 or session.truth.journals
            check(lost or gone, "forgotten order", order_id)
            continue
        for member in ("id", "counter", "result", "balance_mp"):
            check(answer[member] == first[member], "another answer", answer, first)
        check(answer["highest"] >= first["highest"], "counter fell", answer, first)
    check(session.meter.orders.highest >= before.counter, "counter below an answered one")
    ids = [record["id"] for record in session.truth.records if record["type"] == "credit"]
    check(len(ids) == len(set(ids)), "applied twice", ids)


def account_state(meter):
    """The account's totals with the balance."""
    state = meter.account.state()
    state["tariff"] = state["tariff"]["id"]
    return state


def money(session):
    """The balance follows from the records alone, and is never above what was paid."""
    meter = session.meter
    truth = session.truth
    wh = meter.energy.import_wh
    records = session.records()
    check(truth.account.balance_mp(wh) == meter.balance_mp(), "balance", meter.balance_mp())
    check(truth.account.state() == meter.account.state(), "account", meter.account.state())
    if records[0]["seq"] == 1:
        account = Account()
        for record in records:
            account.apply(record)
            if "import_wh" in record:
                stated = account.balance_mp(record["import_wh"])
                check(stated == record["balance_mp"], "stated balance", record, stated)
        check(account.balance_mp(wh) == meter.balance_mp(), "balance of the records")
    most_mp = truth.paid_mp + truth.owed_mp
    check(meter.balance_mp() <= most_mp, "more credit than was paid")
    charged = flat_charges_mp(truth.records, wh)
    if charged is not None:
        check(meter.balance_mp() <= most_mp - charged, "charges are missing")


def flat_charges_mp(records, wh):
    """What `wh` cost, from the tariffs alone; None while none is known, or if one is not flat."""
    total = 0
    begun_wh = rate = None
    for record in records:
        if record["type"] == "tariff":
            if rate is not None:
                total += ((record["import_wh"] - begun_wh) * rate) // 1000
            begun_wh = record["import_wh"]
            lines = record["document"]["lines"]
            slabs = lines[0]["slabs"]
            if len(lines) > 1 or len(slabs) > 1:
                return None
            rate = slabs[0]["rate_mp_per_kwh"]
    return None if rate is None else total + (wh - begun_wh) * rate // 1000


def live_on(session):
    """Metering goes on: the register grows, a record is appended, a recharge is taken once."""
    meter = session.meter
    session.run(_STEP_S, 900, _STEP_S)
    supplied, wh = session.truth.contact, meter.energy.import_wh
    session.run(_STEP_S, 900, _STEP_S)
    if supplied:  # a lock-out that went on without power may end with this step
        check(meter.energy.import_wh > wh, "register stands still")
    counter = meter.orders.highest + 1
    answer = session.order("after-%d" % counter, counter, paid_mp=1000, amount_mp=1000)
    wanted = "closed" if meter.account.closed else "accepted"
    if session.truth.lost:
        wanted = "resync_needed"
    check(answer["result"] == wanted, "a new recharge", answer)
    check(session.truth.contact or not session.truth.lost, "supply is off without a ledger")
    session.show()
