"""Run by the launcher on MicroPython: damages the flash at moments of the scenario, boots it.

argv: a file with the settings as JSON, those of cuts.py with `seed`, `flips` (random damages of
each kind at each moment) and `every` (one damage of so many is tried). Prints a line of JSON for
each failure and one at the end.

Whatever the damage, the meter starts, keeps no credit that was not paid, takes no order that was
decided before, and no record comes back with another content. What is missing is told by an event
(1031, 1032 or 1039); a ledger that is not whole is waited for with the supply on.
"""

import gc
import json
import os
import sys

with open(sys.argv[1]) as _file:
    settings = json.load(_file)
sys.path.insert(0, settings["root"])
sys.path.insert(0, settings["root"] + "/host_tests/powerloss/vm")

import vfs
from flash import BLOCK_BYTES, MARK, Draw, Flash, Replay, mount
from judge import account_state, check
from scenario import UTC_S, play
from session import MOUNT, UNDECIDED, Session, Truth, Wrong

from firmware.relay.arbitration import CREDIT

_LOST = 1032
_TELLING = (1031, _LOST, 1039)
_BLANK = b"\xff" * BLOCK_BYTES


# --- what is done to an image: each yields (name, image, nvs) ------------------------------------


def random_places(image, draw, count):
    """Addresses in blocks that are not blank."""
    blocks = []
    for start in range(0, len(image), BLOCK_BYTES):
        if image[start : start + BLOCK_BYTES] != _BLANK:
            blocks.append(start)
    for _ in range(count):
        yield blocks[draw.below(len(blocks))] + draw.below(BLOCK_BYTES)


def flips(image, draw, count):
    for place in random_places(image, draw, count):
        hurt = bytearray(image)
        hurt[place] ^= 1 << draw.below(8)
        yield "bit", hurt
    for place in random_places(image, draw, count // 2):
        hurt = bytearray(image)
        for i in range(place, min(place + 1 + draw.below(64), len(hurt))):
            hurt[i] = draw.below(256)
        yield "burst", hurt
    for place in random_places(image, draw, count // 4):
        start = place // BLOCK_BYTES * BLOCK_BYTES
        for name, byte in (("block-ff", 0xFF), ("block-00", 0)):
            hurt = bytearray(image)
            hurt[start : start + BLOCK_BYTES] = bytes([byte]) * BLOCK_BYTES
            yield name, hurt


def files(image, draw, count):
    """Each file truncated, deleted, and with flipped bits."""
    flash = Flash(bytearray(image), [])
    mount(flash, MOUNT)
    contents = {}
    for folder in os.listdir(MOUNT):
        for name in os.listdir(MOUNT + "/" + folder):
            path = MOUNT + "/" + folder + "/" + name
            with open(path, "rb") as file:
                contents[path] = file.read()
    vfs.umount(MOUNT)
    for name in sorted(contents):
        content = contents[name]
        yield "deleted", _with_file(image, name, None)
        for _ in range(1 + count // 8):
            yield "truncated", _with_file(image, name, content[: draw.below(len(content))])
        for _ in range(1 + count // 4):
            hurt = bytearray(content)
            hurt[draw.below(len(hurt))] ^= 1 << draw.below(8)
            yield "file-bit", _with_file(image, name, hurt)


def _with_file(image, name, content):
    flash = Flash(bytearray(image), [])
    mount(flash, MOUNT)
    if content is None:
        os.remove(name)
    else:
        with open(name, "wb") as file:
            file.write(content)
    vfs.umount(MOUNT)
    return flash.image


# --- what must hold ----------------------------------------------------------------------------


def boot(session):
    """Starts the meter as a board does; returns True if its flash had to be formatted."""
    formatted = False
    try:
        session.mount()
    except OSError:
        formatted = True
        session.format()
        session.mount()
        session.mark("configured")
    session.mark("off", 60)
    session.start("power")
    return formatted


def judge(image, nvs, before, show):
    """Returns what became of the damage: a word for the table."""
    truth = before.copy()
    truth.nvs = dict(nvs)
    truth.journals += 1  # one that is begun anew is not the old one
    session = Session(settings, image, truth, [], show)
    try:
        formatted = boot(session)
        word = same_or_told(session, before, nvs, formatted)
        # A meter at an earlier moment takes what came after it, as it did then.
        repeats = not nvs and word in ("older", "new meter")
        if not (repeats or no_replay(session, before)) or not live_on(session):
            check(not repeats or word == "new meter", "no answer to a new recharge")
            word = "key lost"
        service = session.meter.service
        state = account_state(session.meter)
        session.restart(cause="hard")
        check(session.meter.service == service, "service after a restart", session.meter.service)
        check(account_state(session.meter) == state, "account after a restart")
    finally:
        session.stop()
        session.flash.dead = True
    return word


def same_or_told(session, before, nvs, formatted):
    """Nothing is other than it was without being told."""
    meter = session.meter
    known = {(record["boot"], record["seq"]): record for record in before.records}
    records = session.records()
    new = [record for record in records if (record["boot"], record["seq"]) not in known]
    lost = meter.service == "ledger_lost"
    if meter.journal.store_id == before.store_id:
        for record in records:
            old = known.pop((record["boot"], record["seq"]), None)
            for member in old or ():
                check(record.get(member) == old[member], "another content", record, old)
    told = [r["code"] for r in new if r["type"] == "event" and r["code"] in _TELLING]
    # The oldest that the gateway has may go at any time: nothing is lost, nothing to be told.
    oldest = records[0]["seq"] if records else 0
    missing = [
        r for r in known.values()
        if r["seq"] >= before.first_seq and not r["seq"] < oldest <= before.acked_seq + 1
    ]  # fmt: skip
    check(not lost or before.lost or _LOST in told or said_lost(records), "lost without event")
    account, contact = before.account, before.decided_contact()
    older = not nvs and not told and sound_prefix(records, known, before)
    if older:
        # Without the floors this is a meter at an earlier moment, and nothing can tell.
        account, contact = older.account, older.decided_contact()
    new_meter = not nvs and meter.journal.boot == 1  # nothing is left, and nothing can tell
    if new_meter:
        own = Truth()
        for record in records:
            own._record(record, 1, meter.journal.store_id)
        account, contact = own.account, own.decided_contact()
    session.look()
    wh = meter.energy.import_wh
    check(wh <= before.true_wh, "register above the truth", wh, before.true_wh)
    check(wh >= nvs.get("wh", 0), "register below its floor", wh, nvs.get("wh"))
    if lost:
        most_mp = before.paid_mp + before.owed_mp
        check(meter.balance_mp() <= most_mp, "more credit than was paid")
        check(not meter.control.standing & CREDIT, "a cut for want of credit without a ledger")
        others = meter.control.standing & was_ever(before)
        check(session.truth.contact or others, "supply is off without a ledger")
    else:
        check(not formatted or new_meter, "a formatted flash is no ledger")
        check(not before.lost, "a lost ledger was found again")
        expected = account.balance_mp(wh)
        check(meter.balance_mp() == expected, "balance", meter.balance_mp(), expected)
        check(session.truth.contact == contact, "contact", session.truth.contact)
    if new_meter:
        return "new meter"
    if formatted:
        return "formatted"
    if lost and not before.lost:
        return "ledger lost"
    if told:
        return "told"
    if missing and not older:
        return "untold"
    return "older" if older else "harmless" if wh >= before.shown_wh else "older"


def was_ever(truth):
    """The causes that have stood since the oldest record."""
    causes = 0
    for record in truth.records:
        causes |= record.get("standing", 0) if record["type"] == "control" else 0
    return causes


def said_lost(records):
    """Event 1032 is among the records, and no resync behind it."""
    said = False
    for record in records:
        if record["type"] == "resync":
            said = False
        elif record["type"] == "event" and record["code"] == _LOST:
            said = True
    return said


def sound_prefix(records, missing, before):
    """The truth of the moment up to which all records are there; None if there is none such."""
    last = min([seq for _boot, seq in missing] + [before.records[-1]["seq"] + 1]) - 1
    found = [record["seq"] for record in records]
    if not missing or last not in found or max(missing)[1] != before.records[-1]["seq"]:
        return None
    older = Truth()
    for record in before.records:
        if record["seq"] <= last:
            older._record(record, before.first_seq, before.store_id)
    return older


def no_replay(session, before):
    """Every order of the past comes again: what was decided stays decided. False if the meter has
    lost the key that the gateway signs with."""
    highest = session.meter.orders.highest
    for order_id in before.messages:
        first = before.answers.get(order_id)
        if first is None:
            continue
        answer = session.send(order_id, before.messages[order_id])
        if answer is None:
            return False
        if answer["result"] in UNDECIDED:
            continue
        for member in ("id", "counter", "result", "balance_mp"):
            check(answer[member] == first[member], "another answer", answer, first)
    check(session.meter.orders.highest == highest, "an old order was decided anew")
    return True


def live_on(session):
    """The meter goes on and takes a recharge, unless its account is closed. False if it does not
    know the gateway's key."""
    session.run(120, 900)
    counter = session.meter.orders.highest + 1
    answer = session.order("after", counter, paid_mp=1000, amount_mp=1000)
    if answer is None:
        return False
    wanted = "closed" if session.meter.account.closed else "accepted"
    if session.meter.service:
        wanted = "resync_needed"
    check(answer["result"] == wanted, "a new recharge", answer)
    return True


# --- all of it ---------------------------------------------------------------------------------


def moments(log):
    """(name, image, truth) at the end of each step and in the middle of each."""
    places = [i for i in range(len(log)) if log[i][0] == MARK and log[i][1] == "step"]
    places.append(len(log))
    wanted = {}
    for i in range(1, len(places)):
        name = log[places[i - 1]][2]
        middle = (places[i - 1] + places[i]) // 2
        while middle < places[i] and log[middle][:2] != (MARK, "sample"):
            middle += 1  # between two records
        wanted[middle] = name + ", middle"
        wanted[places[i]] = name
    truth = Truth()
    truth.utc_s = UTC_S
    replay = Replay(b"\xff" * (settings["blocks"] * BLOCK_BYTES), log)
    while True:
        if replay.at in wanted and truth.records:
            yield wanted[replay.at], bytes(replay.image), truth.copy()
        if replay.at == len(log):
            return
        truth.take(log[replay.at])
        replay.step()


def damages(image, truth, older, draw):
    """(name, image, nvs) of everything that is done to one moment."""
    count = settings["flips"]
    for name, hurt in flips(image, draw, count):
        yield name, hurt, truth.nvs
    for name, hurt in files(image, draw, count):
        yield name, hurt, truth.nvs
    for old in older:
        yield "rolled back", bytearray(old), truth.nvs
    yield "erased", bytearray(b"\xff" * len(image)), truth.nvs
    yield "nvs erased", bytearray(image), {}
    for name, hurt in flips(image, draw, count // 4):
        # A flash and an NVS that are both gone are a new meter, and nothing can tell.
        if not name.startswith("block"):
            yield name + ", nvs erased", hurt, {}


def report(point, step, why):
    """A line for the launcher: what was not survived."""
    print(json.dumps({"point": point, "step": step, "why": why}))


def main():
    log = play(settings)
    draw = Draw(settings["seed"])
    mine, shares = settings["share"]
    tally = {}
    failures = number = 0
    older = []
    for moment, image, truth in moments(log):
        if truth.lost or truth.records[0]["seq"] > 1000:
            older = []  # the flash before the ledger was lost is another one's
        for name, hurt, nvs in damages(image, truth, older, draw):
            number += 1
            point = "damage:%d" % number
            if settings.get("point"):
                if settings["point"] != point:
                    continue
            elif number % (shares * settings["every"]) != mine:
                continue
            show = print if settings.get("point") else None
            try:
                word = judge(bytearray(hurt), nvs, truth, show)
                if word == "untold":
                    report(point, moment + ", " + name, "records are gone without an event")
            except Exception as error:
                if not isinstance(error, Wrong):
                    sys.print_exception(error)
                word = "failed"
                failures += 1
                why = "%s: %s" % (type(error).__name__, error)
                report(point, moment + ", " + name, why)
            words = tally.setdefault(name, {})
            words[word] = words.get(word, 0) + 1
            if number % 32 == 0:
                gc.collect()
        older = older[-2:] + [image]
    print(json.dumps({"tally": tally, "failures": failures}))


main()
