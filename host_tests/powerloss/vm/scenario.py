"""The scenario whose every flash operation is a place where power fails.

It is open: a step is a function in `STEPS` with the record types that it brings; every type of
`core.records.RECORDS` must be brought by one, so a new kind of record joins here.
"""

import json
import os

import vfs
from flash import BLOCK_BYTES, MARK, Flash, mount
from session import FOLDER, MOUNT, RUPEE_MP, Session, Truth, Wrong

from firmware.core.records import RECORDS
from firmware.credit import life
from firmware.credit.account import Account
from firmware.meter import CHECKPOINT_FORMAT
from firmware.metering import calibrating
from firmware.storage.journal import Journal

HOUR_S = 3600
UTC_S = 1769869800  # 2026-01-31 20:00 in India: a month ends soon


def tariff(rate, version):
    """A flat tariff document, mp per kWh."""
    return {
        "id": "flat",
        "version": version,
        "currency": "INR",
        "effective_from_utc_s": 0,
        "lines": [
            {
                "name": "energy",
                "shape": "telescopic",
                "slabs": [{"up_to_kwh": None, "rate_mp_per_kwh": rate}],
            }
        ],
    }


def first_boot(session):
    """A blank flash is formatted; the account opens at an unknown time."""
    session.format()
    session.mount()
    session.start("power", time_known=False)
    session.show()
    session.run(300, 900)


def time_is_set(session):
    session.meter.set_time(session.truth.utc_s * 1000)
    session.run(120, 900)
    session.show()


def samples(session):
    """Checkpoints by energy, by time and by the 10 s rule, and blocks."""
    session.run(900, 900)
    session.show()
    session.run(HOUR_S, 30)
    session.run(40, 18000, step_s=1)
    session.show()


def recharges(session):
    """Taken, repeated, under an old counter, out of range, of an unknown kind."""
    session.order("r-1", 11, paid_mp=100 * RUPEE_MP, amount_mp=100 * RUPEE_MP)
    session.send("r-1", session.truth.messages["r-1"])
    session.order("r-old", 11, amount_mp=RUPEE_MP)
    session.run(60, 900)
    session.order("r-range", 12, amount_mp=0)
    session.order("x-1", 13, "unheard-of")
    session.order("r-2", 14, paid_mp=20 * RUPEE_MP, amount_mp=20 * RUPEE_MP)
    session.run(120, 900)


def tariff_change(session):
    session.order("t-1", 20, "tariff", document=tariff(800000, 2))
    session.run(240, 900)
    session.order("t-2", 21, "tariff", document=tariff(900000, 3), expires_utc_s=1)


def month_ends(session):
    session.run(3 * HOUR_S, 120, step_s=120)
    session.acknowledge(session.meter.journal.last_seq)
    session.run(900, 120, step_s=120)


def other_orders(session):
    """Settings, arrears with a recharge that pays them, emergency credit, the contact by order."""
    session.order("s-1", 22, "settings", document={"low_credit_mp": 4000000, "grace_s": 1800})
    session.order("a-1", 23, "arrears", amount_mp=30 * RUPEE_MP, share_percent=40)
    session.order("r-5", 24, paid_mp=20 * RUPEE_MP, amount_mp=20 * RUPEE_MP)
    session.order("e-1", 25, "emergency", limit_mp=5 * RUPEE_MP)
    soon_utc_s = session.truth.utc_s + 600
    session.order("d-1", 26, "relay", state="disconnected", expires_utc_s=soon_utc_s)
    session.run(120, 900)
    session.order("d-2", 27, "relay", state="connected")
    session.order("c-1", 28, "clock", utc_s=soon_utc_s)
    session.order("q-1", 29, "resend", store=session.meter.journal.store_id, seq=0)
    session.run(120, 900)


def key_and_link(session):
    """A new key, used at once; another broker that works, and one that waits over a restart."""
    session.change_key("k-1", 30, bytes(range(32)))
    session.order("r-7", 31, paid_mp=RUPEE_MP, amount_mp=RUPEE_MP)
    session.change_link("l-1", 32, "b.example")
    session.link_works()
    session.change_link("l-2", 33, "c.example")
    session.restart()
    session.link_works()
    session.change_key("k-2", 34, bytes(range(1, 33)))
    session.restart()
    session.order("r-8", 35, paid_mp=RUPEE_MP, amount_mp=RUPEE_MP)


def corrections(session):
    """Ledger entries that add and that take."""
    session.order("j-1", 36, "adjustment", 7 * RUPEE_MP, entry="adjustment", amount_mp=7 * RUPEE_MP)
    session.order("j-2", 37, "adjustment", entry="refund", amount_mp=-2 * RUPEE_MP)


def calendars(session):
    """A calendar replaces the settings, and another one replaces it."""
    document = {"v": 1, "id": "one", "windows": [[127, 0, 1440]], "holidays": ["2026-02-01"]}
    session.order("g-1", 38, "calendar", document=document)
    session.run(120, 900)
    document = {"v": 1, "id": "two", "windows": [[127, 600, 780]], "happy": [[127, 1050, 630]]}
    session.order("g-2", 39, "calendar", document=document)
    session.restart()
    session.run(60, 900)


def restarts(session):
    """Power failures with a clock chip and without, a watchdog, an unhandled exception."""
    session.run(120, 900)
    session.restart(off_s=1800)
    session.run(120, 900)
    session.restart(cause="watchdog")
    session.restart(off_s=60, time_known=False)
    session.run(300, 900)
    session.meter.set_time(session.truth.utc_s * 1000 + 5000)
    session.crash()
    session.run(60, 900)


def calibrations(session):
    """A gain, a zero, and the zero undone."""
    meter = session.meter
    for what, values in (
        ("current", [0, 0, 0, 0, 0, 0, 1200]),
        ("zero", [0, 0, 0, 5, 0, 0, 1200]),
        ("undo", None),
    ):
        session.run(120, 900)
        fields = calibrating.fields(meter.calibration, what, values or meter.calibration.before)
        meter.append("calibration", fields)
    session.restart()
    session.run(60, 900)


def credit_ends(session):
    """Low credit, grace, and the cut in the window."""
    while session.meter.balance_mp() > 0:
        session.run(120, 18000, step_s=120)
    session.show()
    while session.truth.contact:
        session.run(600, 30, step_s=120)
    session.run(1800, 30, step_s=120)


def recharge_recloses(session):
    session.order("r-3", 40, paid_mp=5 * RUPEE_MP, amount_mp=5 * RUPEE_MP)
    session.order("r-4", 41, paid_mp=50 * RUPEE_MP, amount_mp=50 * RUPEE_MP)
    session.run(120, 900)
    session.show()


def payment_modes(session):
    """Postpaid until an amount is due; then it is arrears, more are placed and taken at once.
    Prepaid until the emergency credit is taken at the button."""
    session.order("m-1", 42, "mode", mode="credit")
    while session.meter.balance_mp() > 0:
        session.run(120, 18000, step_s=120)
    session.show()
    session.restart()
    session.run(120, 900)
    session.order("m-2", 43, "mode", mode="prepayment", share_percent=50, per_day_mp=RUPEE_MP)
    session.order("a-2", 44, "arrears", amount_mp=RUPEE_MP, share_percent=20, per_day_mp=RUPEE_MP)
    session.order("r-9", 45, paid_mp=20 * RUPEE_MP, amount_mp=20 * RUPEE_MP)
    session.run(120, 900)
    session.order("a-3", 46, "arrears", amount_mp=1, share_percent=0, at_once=1)
    session.order("m-3", 47, "mode", mode="prepayment")
    session.run(120, 900)
    session.order("s-2", 48, "settings", document={"emergency_limit_mp": 5 * RUPEE_MP})
    while session.meter.balance_mp() > 0:
        session.run(120, 18000, step_s=120)
    session.meter.take_emergency("button")
    session.show()
    session.run(120, 900)
    session.order("r-12", 49, paid_mp=90 * RUPEE_MP, amount_mp=90 * RUPEE_MP)
    session.run(120, 900)


def rich_tariff(version, **members):
    """A tariff whose charges need days, zones and minutes of supply."""
    fixed = {"shape": "fixed", "per": "connection"}
    document = {
        "id": "rich",
        "version": version,
        "currency": "INR",
        "effective_from_utc_s": 0,
        "full_supply_min": 1260,
        "zones": [
            {"name": ("peak", "night")[i % 2], "from_min": 180 * i, "to_min": 180 * i + 60}
            for i in range(8)
        ],
        "lines": [
            {
                "name": "energy",
                "shape": "telescopic",
                "slabs": [
                    {"up_to_kwh": 3 * version, "rate_mp_per_kwh": 400000},
                    {"up_to_kwh": None, "rate_mp_per_kwh": 700000},
                ],
            },
            {
                "name": "time",
                "shape": "time_of_day",
                "percent_x1000": {"peak": 20000, "night": -10000},
                "of": ["energy"],
            },
            dict(fixed, name="rent", rate_mp=3100000, collect="monthly"),
            dict(fixed, name="supply", rate_mp=6200000, collect="daily", by_supply=True),
            dict(fixed, name="once", rate_mp=1500000, collect="first_recharge"),
        ],
    }
    document.update(members)
    return document


def tallies(session):
    """Zones and days of a tariff, an unknown time in a zone, a tariff that waits for its time."""
    truth = session.truth
    session.order("t-3", 50, "tariff", document=rich_tariff(1))
    session.run(120, 900)
    local_s = (truth.utc_s + 19800) % 86400
    session.restart(off_s=(86400 + 23 * HOUR_S + 3300 - local_s) % 86400)  # 23:55
    session.run(600, 900, step_s=120)  # 0:05, in a zone
    session.restart(off_s=60, time_known=False)
    session.run(120, 900)
    session.meter.set_time(truth.utc_s * 1000)
    session.run(120, 900)
    at_utc_s = truth.utc_s + 100
    document = rich_tariff(2, effective_from_utc_s=at_utc_s, on_change="pro_rata")
    session.order("t-4", 51, "tariff", document=document)
    session.restart()
    session.order("r-10", 52, paid_mp=RUPEE_MP, amount_mp=RUPEE_MP)
    session.run(240, 900)
    session.show()


def accounts(session):
    """An account is closed and the next one opened; it moves to another meter, and one comes."""
    session.order("z-1", 53, "account", action="closed", document={})
    session.run(120, 900)
    session.order("r-11", 54, amount_mp=RUPEE_MP)
    opening = {"account": "A-2", "balance_mp": 30 * RUPEE_MP, "reading_wh": 5}
    session.order("z-2", 55, "account", 30 * RUPEE_MP, action="opened", document=opening)
    session.run(300, 900)
    session.restart()
    session.order("z-3", 56, "account", action="closed", document={"moved_to": "JH-0002"})
    moved = session.truth.records[-1]["document"]
    session.run(120, 900)
    opening = {name: moved[name] for name in life.CARRIED}
    opening.update({"account": "A-3", "moved_from": "JH-0002"})
    session.order("z-4", 57, "account", action="opened", document=opening)
    session.run(120, 900)
    session.show()


def calendar_ends(session):
    session.order("g-3", session.meter.orders.highest + 1, "calendar", document=None)
    session.run(60, 900)


def limits(session):
    """Too much load trips, recloses, and trips again until it is locked out over a restart."""
    document = {"limit_mode": 2, "limit_w": 100, "limit_over_s": 60, "limit_reclose_s": 60}
    document.update({"limit_attempts": 2, "limit_within_s": 3600, "limit_lockout_s": 240})
    session.set(document)
    session.run(600, 900)
    session.restart()
    session.run(600, 900)
    session.set({"limit_mode": 0})
    session.run(180, 900)


def tampers(session):
    """An open cover cuts, also behind a restart, until the utility's order."""
    session.set({"tamper_cut": 1})
    session.open_cover(1)
    session.run(180, 900)
    session.restart()
    session.run(60, 900)
    session.open_cover(0)
    session.send_new("relay", state="connected")
    session.run(120, 900)


def tests_of_the_contact(session):
    """A local test, and one that a restart cuts short."""
    session.run(120, 900)
    session.test_contact()
    session.run(20, 900, step_s=5)
    session.run(60, 900)
    session.test_contact()
    session.restart()
    session.run(120, 900)


def only_warns(session):
    """The credit ends: first it only warns, then it cuts; a share of the debt ends that once."""
    session.restart(off_s=8 * 86400)  # nobody is cut for 7 days after a switch to prepayment
    session.set({"window_start_min": 0, "window_end_min": 1440, "window_days": 127})
    session.set({"cut_mode": 0, "grace_s": 300, "restore_percent": 50, "emergency_limit_mp": 0})
    session.send_new("tariff", document=tariff(800000, 4))
    spend(session)
    session.run(600, 900)
    session.set({"cut_mode": 1})
    session.run(600, 900)  # a grace begins anew
    session.pay(-session.meter.balance_mp() * 3 // 4)
    session.run(120, 900)


def server_is_down(session):
    """Cuts are held while no gateway answers, up to a debt; one more grace is behind it."""
    session.set({"link_silence_h": 1, "offline_debt_cap_mp": 8 * RUPEE_MP, "grace_s": 300})
    session.hears = False
    session.run(HOUR_S + 240, 900, step_s=120)
    spend(session)
    session.run(480, 900)
    while session.truth.contact:
        session.run(120, 18000, step_s=120)
    session.hears = True
    session.run(120, 900)
    session.pay(RUPEE_MP - 2 * session.meter.balance_mp())
    session.run(120, 900)


def time_stays_unknown(session):
    """A cut at an unknown time, behind the loudest warning and another hour."""
    session.set({"undated_limit_h": 0, "undated_debt_cap_mp": 0})
    spend(session)
    session.restart(time_known=False)
    while session.truth.contact:
        session.run(600, 900, step_s=120)
    session.pay(RUPEE_MP - 2 * session.meter.balance_mp())
    session.run(120, 900)
    session.meter.set_time(session.truth.utc_s * 1000)
    session.run(120, 900)


def accounts_that_are_cut(session):
    """The utility connects what a closed account has left; another cut ends with the next one."""
    spend(session)
    while session.truth.contact:
        session.run(600, 900, step_s=120)
    session.send_new("account", action="closed", document={})
    session.run(60, 900)
    session.send_new("relay", state="connected")
    opening = {"account": "A-4", "balance_mp": RUPEE_MP}
    session.send_new("account", RUPEE_MP, action="opened", document=opening)
    while session.truth.contact:
        session.run(600, 900, step_s=120)
    session.send_new("account", action="closed", document={})
    session.restart()
    session.send_new("account", action="opened", document={"account": "A-5", "balance_mp": 0})
    session.run(120, 900)
    session.pay(2 * RUPEE_MP)
    session.run(60, 900)


def spend(session):
    """Pays until there is credit, and uses it up."""
    session.pay(RUPEE_MP + 2 * max(0, -session.meter.balance_mp()))
    while session.meter.balance_mp() > 0:
        session.run(120, 18000, step_s=120)


def journal_is_compacted(session):
    """Five weeks later acknowledged segments are dropped, the orders in them too."""
    fill_log(session, lambda: len(session.segments()) < 2)
    session.acknowledge(session.meter.journal.last_seq)
    session.run(900, 900)
    session.restart(off_s=36 * 86400)
    fill_log(session, lambda: session.truth.first_seq == 1)
    session.run(120, 900)


def fill_log(session, wanted):
    """Makes records while they are wanted: each gap in the samples is an event."""
    while wanted():
        session.run(180, 900, step_s=180)


def ledger_is_lost(session):
    """Somebody erases the flash. NVS knows that there was a ledger; a signed resync ends it."""
    meter = session.meter
    totals = meter.account.state()
    totals["import_wh"] = meter.energy.import_wh
    session.stop()
    session.mark("erased")
    blank = Flash(bytearray(b"\xff" * len(session.flash.image)), [])
    vfs.VfsLfs2.mkfs(blank)
    session.replace(blank.image)
    session.mount()
    session.start()
    session.run(300, 900)
    session.show()
    counter = session.meter.orders.highest + 1
    session.order("r-6", counter, amount_mp=RUPEE_MP)
    session.order("y-1", counter, "resync", document=totals)
    session.order("r-6", counter + 1, paid_mp=RUPEE_MP, amount_mp=RUPEE_MP)
    session.run(600, 900)
    session.show()


def _image_of(folder, size):
    """(image of a flash with the files of a journal, its records, the state of its account)."""
    flash = Flash(bytearray(b"\xff" * size), [])
    vfs.VfsLfs2.mkfs(flash)
    mount(flash, MOUNT)
    os.mkdir(FOLDER)
    for name in sorted(os.listdir(folder)):
        with open(folder + "/" + name, "rb") as source, open(FOLDER + "/" + name, "wb") as copy:
            copy.write(source.read())
    image = bytes(flash.image)
    journal = Journal(FOLDER, CHECKPOINT_FORMAT)
    snapshot, _checkpoint, later = journal.open()
    account = Account()
    if snapshot:
        account.restore(snapshot["account"])
    for record in later:
        account.apply(record)
    records = journal.records_after(0, 100000)
    journal.close()
    vfs.umount(MOUNT)
    return image, records, account.state()


def old_format(name):
    """A step that begins with a flash that firmware 0.1.0 left in format version 1."""

    def step(session):
        folder = session.settings["root"] + "/host_tests/images/" + name
        with open(folder + "/before.json") as file:
            before = json.load(file)
        with open(folder + "/expected.json") as file:
            expected = json.load(file)
        if session.meter is not None:
            session.stop()
        image, records, account = _image_of(folder + "/data", len(session.flash.image))
        session.become(image, before, expected, records, account)
        session.mount()
        session.start()
        balance_mp = session.meter.balance_mp()
        if balance_mp != expected["balance_mp"]:
            raise Wrong("image %s: balance %d" % (name, balance_mp))
        session.run(600, 900)
        counter = session.meter.orders.highest + 1
        session.order("r-new", counter, paid_mp=500 * RUPEE_MP, amount_mp=500 * RUPEE_MP)
        session.run(1800, 900)
        session.restart()
        session.run(300, 900)
        session.show()

    return step


STEPS = (
    # name, function, types of the records that it brings
    ("first boot", first_boot, ("boot", "credit", "tariff")),
    ("time is set", time_is_set, ("event", "period")),
    ("samples", samples, ("load",)),
    ("recharges", recharges, ("credit", "order")),
    ("tariff change", tariff_change, ("tariff", "order")),
    ("month ends", month_ends, ("load", "day", "billing", "period")),
    ("other orders", other_orders, ("settings", "recovery", "emergency", "control", "order")),
    ("key and link", key_and_link, ("order", "event", "credit")),
    ("corrections", corrections, ("credit",)),
    ("calendars", calendars, ("calendar",)),
    ("restarts", restarts, ("boot", "event", "fault")),
    ("calibrations", calibrations, ("calibration",)),
    ("credit ends, relay trips", credit_ends, ("event", "control")),
    ("recharge recloses", recharge_recloses, ("credit", "control")),
    ("payment modes", payment_modes, ("mode", "recovery", "event", "emergency")),
    ("tallies", tallies, ("tally", "passive", "tariff", "credit")),
    ("accounts", accounts, ("account", "order", "tally")),
    ("calendar ends", calendar_ends, ("calendar",)),
    ("limits", limits, ("control", "event")),
    ("tampers", tampers, ("control", "event")),
    ("tests of the contact", tests_of_the_contact, ("control",)),
    ("only warns", only_warns, ("control", "event")),
    ("server is down", server_is_down, ("control", "event")),
    ("time stays unknown", time_stays_unknown, ("control", "event")),
    ("accounts that are cut", accounts_that_are_cut, ("account", "control", "event")),
    ("journal is compacted", journal_is_compacted, ("event", "period")),
    ("ledger is lost", ledger_is_lost, ("event", "resync", "credit")),
)

UPGRADE_STEPS = (
    ("first records", old_format("v1-few"), ("boot", "credit")),
    ("credit is cut", old_format("v1-cut"), ("boot", "credit", "control")),
    ("busy", old_format("v1-busy"), ("boot", "credit", "control")),
)


def play(settings, show=None):
    """Plays the scenario on a blank flash; returns the log. Each step begins with a mark.

    Raises Wrong if a step does not bring what it says, or if no step brings a type."""
    log = []
    truth = Truth()
    truth.utc_s = UTC_S
    image = bytearray(b"\xff" * (settings["blocks"] * BLOCK_BYTES))
    session = Session(settings, image, truth, log, show)
    all_brought = set()
    upgrade = settings.get("story") == "upgrade"
    for name, run, types in UPGRADE_STEPS if upgrade else STEPS:
        begin = len(log)
        log.append((MARK, "step", name))
        run(session)
        brought = {entry[2]["type"] for entry in log[begin:] if entry[:2] == (MARK, "record")}
        all_brought.update(brought)
        for kind in types:
            if kind not in brought:
                raise Wrong("step %s brings no %s" % (name, kind))
        if name == settings.get("only"):
            break
    session.stop()
    session.flash.dead = True
    whole = not upgrade and not settings.get("only")
    # Older firmware wrote these: the other story has blocks.
    if whole and set(RECORDS) - {"block", "arrears", "relay"} != all_brought:
        raise Wrong("brought are only %s" % sorted(all_brought))
    return log
