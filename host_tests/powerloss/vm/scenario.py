"""The scenario whose every flash operation is a place where power fails.

It is open: a step is a function in `STEPS` with the record types that it brings; every type of
`core.records.RECORDS` must be brought by one, so a new kind of record joins here.
"""

from flash import BLOCK_BYTES, MARK
from session import RUPEE_MP, Session, Truth, Wrong

from firmware.core.records import RECORDS

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


def restarts(session):
    """Power failures with a clock chip and without, a watchdog, an unhandled exception."""
    session.run(120, 900)
    session.restart(off_s=1800)
    session.run(120, 900)
    session.restart(cause="watchdog")
    session.restart(off_s=60, time_known=False)
    session.run(300, 900)
    session.meter.set_time(session.truth.utc_s * 1000 + 5000)
    session.restart(cause="soft", faulted=True)
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
    session.order("r-3", 30, paid_mp=5 * RUPEE_MP, amount_mp=5 * RUPEE_MP)
    session.order("r-4", 31, paid_mp=50 * RUPEE_MP, amount_mp=50 * RUPEE_MP)
    session.run(120, 900)
    session.show()


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


STEPS = (
    # name, function, types of the records that it brings
    ("first boot", first_boot, ("boot", "credit", "tariff")),
    ("time is set", time_is_set, ("event", "period")),
    ("samples", samples, ("block",)),
    ("recharges", recharges, ("credit", "order")),
    ("tariff change", tariff_change, ("tariff", "order")),
    ("month ends", month_ends, ("block", "period")),
    ("other orders", other_orders, ("settings", "arrears", "emergency", "relay", "order")),
    ("restarts", restarts, ("boot", "event")),
    ("credit ends, relay trips", credit_ends, ("event", "relay")),
    ("recharge recloses", recharge_recloses, ("credit", "relay")),
    ("journal is compacted", journal_is_compacted, ("event", "period")),
)

WITHOUT_STEP = ("resync", "fault")
"""Types that no firmware writes yet. It shrinks; a type that is written joins a step above."""


def play(settings, show=None):
    """Plays the scenario on a blank flash; returns the log. Each step begins with a mark.

    Raises Wrong if a step does not bring what it says, or if no step brings a type."""
    log = []
    truth = Truth()
    truth.utc_s = UTC_S
    image = bytearray(b"\xff" * (settings["blocks"] * BLOCK_BYTES))
    session = Session(settings, image, truth, log, show)
    all_brought = set()
    for name, run, types in STEPS:
        log.append((MARK, "step", name))
        seen = len(truth.records)
        run(session)
        brought = {record["type"] for record in truth.records[seen:]}
        all_brought.update(brought)
        for kind in types:
            if kind not in brought:
                raise Wrong("step %s brings no %s" % (name, kind))
        if name == settings.get("only"):
            break
    session.stop()
    session.flash.dead = True
    if not settings.get("only") and set(RECORDS) - all_brought != set(WITHOUT_STEP):
        raise Wrong("brought are only %s" % sorted(all_brought))
    return log
