"""The start of a meter: what is on flash and in NVS becomes its state.

Nothing here may keep a meter from starting: damage is told, a flash that refuses is tried again
later by `Meter.write_queued`. Tests: host_tests/unit/test_meter.py, test_ledger_lost.py,
test_storage_faults.py.
"""

from firmware import VERSION
from firmware.core import events
from firmware.core.records import LEDGER_LOST
from firmware.core.shim import const
from firmware.core.wallclock import PLAUSIBLE_UTC_S
from firmware.storage import floors

_OFF_CREDIBLE_S = const(34560000)  # 400 days without power; beyond, doubt the clock chip
_RTC_BACK_MAX_S = const(86400)  # as far as the gateway may correct it


def start(meter, cause, rtc_utc_s, fault, written, told):
    """As Meter.start."""
    journal = meter.journal
    recovered = recover(meter)
    missing = _take_floors(meter)
    if rtc_utc_s is not None and _is_credible(meter, rtc_utc_s):
        meter.clock.set_utc_ms(rtc_utc_s * 1000)
    else:
        meter.profiles.undated = True
    told_lost = meter.service
    if missing:
        meter.service = LEDGER_LOST
    # Before anything is written: a flash that refuses must not keep the supply off.
    standing = meter.control.standing
    # What the utility ordered is known all the same, but for an NVS that was erased.
    by_utility = meter.floors.get(floors.BY_UTILITY, None) if missing else None
    meter.control.start(cause, by_utility)
    off_s = _off_s(meter)
    journal.begin_boot()
    queue = meter.queue
    if missing and not told_lost:
        # Before any other record or snapshot, which could hide that it is so.
        queue.append((meter.event, (events.LEDGER_LOST, missing)))
    if meter.control.standing != standing:
        queue.append((meter.control.keep_order, ()))
    queue.append((meter.append, ("boot", {"cause": cause, "firmware": VERSION, "off_s": off_s})))
    queue.append((meter.billing.started, ()))
    failed = recovered and cause in ("power", "brownout")
    if failed:
        # At the last moment that is on flash: nobody was there to note the failure itself.
        began_utc_s = meter.last_utc_s or None
        queue.append((meter.event, (events.POWER_FAILED, off_s, began_utc_s, 0)))
    if journal.damaged_bytes:
        queue.append((meter.event, (events.JOURNAL_DAMAGED, journal.damaged_bytes)))
    # Each start finds the old gaps again: only more of them are news.
    if journal.missing_records > meter.missing_told:
        news = journal.missing_records - meter.missing_told
        queue.append((meter.event, (events.RECORDS_MISSING, news)))
    if fault is None and cause == "watchdog":
        fault = ("watchdog", "unknown", 0, meter.last_utc_s)
    if fault:
        queue.append((meter.fault, fault))
    if written:
        queue.append((written, ()))
    for event in told:
        queue.append((meter.event, event))
    if meter.account.tariff is None:
        # In this order, and asked for: power may fail between the two records.
        if journal.find_order("opening") is None and not meter.service:
            opening_mp = meter.config.opening_balance_mp
            queue.append((meter.credit, ("opening", "opening", 0, opening_mp)))
        queue.append((meter.append, ("tariff", {"document": meter.first_tariff})))
    if failed:
        queue.append((meter.event, (events.POWER_RESTORED, off_s)))
        if off_s < 0:
            meter.off_from_utc_s = meter.last_utc_s
    mode = events.IMPORT_AND_EXPORT if meter.config.export_counts else events.FORWARDED_ONLY
    if meter.mode_told != mode:
        queue.append((meter.event, (mode, 0)))
    if meter.service:
        queue.append((meter.control.keep_supplied, ()))
        meter.log(
            "SERVICE: ledger records are missing. The supply is kept on, no recharge is taken. "
            "The gateway must send a signed resync with the totals of this account."
        )
    queue.append((meter.control.end_test, ()))
    queue.append((meter.control.take_back, ()))
    queue.append((meter.snapshot, ()))
    queue.append((meter.keep_floors, ()))
    meter.attempt(meter.write_queued)
    if meter.account.tariff is not None:
        meter.first_tariff = meter.config.tariff = None  # a long one takes some kB of heap


def recover(meter):
    """Opens the journal and brings what it holds into the state; True if there was a snapshot.

    Raises StorageError.
    """
    journal = meter.journal
    snapshot, checkpoint, records = journal.open(meter.floors.store_id())
    if snapshot:
        meter.restore(snapshot)
    for record in records:
        if checkpoint and record["seq"] > journal.checkpoint_seq:
            meter.take_checkpoint(checkpoint)
            checkpoint = None
        meter.apply(record)
    if checkpoint:
        meter.take_checkpoint(checkpoint)
    return bool(snapshot)


def _take_floors(meter):
    """Raises what was recovered to its floors in NVS; returns how many ledger records are missing,
    -1 an unknown number."""
    journal, kept = meter.journal, meter.floors
    meter.orders.highest = max(meter.orders.highest, kept.get(floors.COUNTER))
    wh = kept.get(floors.WH)
    meter.raise_registers(wh, kept.get(floors.EXPORT_WH))
    if kept.store_id() == journal.store_id:
        short = kept.get(floors.LEDGER) - journal.ledger_count
        journal.raise_floors(kept.get(floors.LEDGER), kept.get(floors.SEQ))
        if short > 0:
            return short
        return -1 if journal.ledger_missing else 0
    erased = journal.formatted and (kept.get(floors.COUNTER) or wh)
    another = kept.store_id() is not None
    # Without floors of this journal its end cannot be judged.
    lost = erased or another or journal.ledger_missing or journal.tail_missing
    return -1 if lost else 0


def _is_credible(meter, rtc_utc_s):
    """False: the clock chip does not fit what is on flash, so the gateway is to say the time.

    A period closed in a far future would be the last; a wrong hour could open a window.
    """
    low, high = PLAUSIBLE_UTC_S
    if meter.last_utc_s:
        low = max(low, meter.last_utc_s - _RTC_BACK_MAX_S)
        high = min(high, meter.last_utc_s + _OFF_CREDIBLE_S)
    return low <= rtc_utc_s <= high


def _off_s(meter):
    utc_s = meter.clock.utc_s()
    if utc_s is None or not meter.last_utc_s:
        return -1
    return max(0, utc_s - meter.last_utc_s)
