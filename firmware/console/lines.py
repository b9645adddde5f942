"""A journal record as a line for people. Loaded for each record: resident it takes 5 kB of heap."""

from firmware.console.text import fixed, rupees
from firmware.core import civil, events
from firmware.core.records import PROFILES

WORDS = {
    events.POWER_RESTORED: "power restored",
    events.CLOCK_SET: "clock set",
    events.SWITCH_WELD: "switch weld: contact did not follow the command",
    events.DISCONNECTED: "switch disconnected",
    events.CONNECTED: "switch connected",
    events.LOW_CREDIT: "low credit",
    events.CREDIT_EXHAUSTED: "credit exhausted, grace begins",
    events.GRACE_OVER: "grace over, cut in the next allowed window",
    events.IN_CREDIT: "in credit again",
    events.SENSOR_FAULT: "sensor fault",
    events.SENSOR_RESTORED: "sensor well again",
    events.SAMPLE_GAP: "gap in the samples, not invented",
    events.TIME_UNKNOWN: "time unknown, no cut",
    events.TIME_REFUSED: "time refused, the step needs an order",
    events.CHANGE_WORKS: "a change works, the old is dropped",
    events.CHANGE_GIVEN_UP: "a change is given up, the old stays",
    events.JOURNAL_DAMAGED: "journal damaged, bytes dropped",
    events.RECORDS_MISSING: "records are missing from the journal",
    events.LEDGER_LOST: "ledger records are missing, supply kept on, no recharge taken",
    events.STORAGE_REFUSES: "flash refused writes",
    events.STORAGE_WRITES: "flash takes writes again",
    events.CONFIG_COPY: "configuration unreadable, last good copy in use",
    events.RESYNCED: "resynced, recharges are taken again",
}

# By the kinds of metering/sampler.py.
SENSOR_FAULTS = (
    "unknown",
    "no answer",
    "configuration lost",
    "overflow",
    "out of range",
    "no conversion",
    "bus hangs",
    "current above the range, counted as its end",
)


def detail(record, utc_offset_s):
    """What an event's `detail` means, in words; empty if it says nothing."""
    code = record["code"]
    value = record["detail"]
    if code == events.LOW_CREDIT:
        return "threshold " + rupees(value)
    if code == events.CREDIT_EXHAUSTED:
        return "%d h %d min of grace" % (value // 3600, value // 60 % 60)
    if code == events.GRACE_OVER:
        return "not before " + civil.text(value, utc_offset_s)
    if code == events.SENSOR_FAULT:
        return SENSOR_FAULTS[value if 0 < value < len(SENSOR_FAULTS) else 0]
    if code == events.SAMPLE_GAP:
        return fixed(value, 1000, 1) + " s"
    if code == events.CLOCK_SET:
        return "step %d s" % value if value else "was unknown"
    if code in (events.CHANGE_WORKS, events.CHANGE_GIVEN_UP):
        return "key" if value else "link settings"
    if code == events.TIME_REFUSED:
        return "%d s" % value
    if code == events.STORAGE_REFUSES:
        return "errno %d" % value
    if code == events.STORAGE_WRITES:
        return "after %d s" % value
    if code == events.LEDGER_LOST:
        return "%d records" % value if value > 0 else "their number is not known"
    if code == events.POWER_RESTORED:
        return "off for %d s" % value if value >= 0 else "off for an unknown time"
    return ""


def record_line(record, utc_offset_s):
    """One line for a journal record, without its time."""
    kind = record["type"]
    if kind == "event":
        words = "event %d %s" % (record["code"], WORDS.get(record["code"], ""))
        more = detail(record, utc_offset_s)
        return words + (" (" + more + ")" if more else "") + _standing(record)
    if kind == "boot":
        return "boot cause=%s firmware=%s" % (record["cause"], record["firmware"]) + _standing(
            record
        )
    if kind in PROFILES:
        return _profile(record, utc_offset_s) + _standing(record)
    if kind == "credit":
        return "credit %s %s id=%s" % (
            record["kind"],
            rupees(record["amount_mp"]),
            record["id"],
        ) + _standing(record)
    if kind == "tariff":
        document = record["document"]
        return "tariff %s version %d in force" % (document["id"], document["version"])
    if kind == "period":
        if not record["end_utc_s"] > record["start_utc_s"] > 0:
            return "period dated, nothing closed"
        return "period closed: %d Wh, charge %s" % (
            record["end_wh"] - record["start_wh"],
            rupees(record["charge_mp"], 5),
        )
    if kind == "relay":
        return "relay %s, contact to be %s, reason %s" % (
            record["state"],
            "closed" if record["contact"] else "open",
            record["reason"],
        ) + _standing(record)
    if kind == "settings":
        document = record["document"]
        words = ["%s %s" % (name, document[name]) for name in document]
        return "settings %s id=%s" % (", ".join(words), record["id"])
    if kind == "arrears":
        return "arrears %s, %d %% of each recharge, id=%s" % (
            rupees(record["amount_mp"]),
            record["share_percent"],
            record["id"],
        ) + _standing(record)
    if kind == "emergency":
        words = "emergency credit to -%s id=%s" % (rupees(record["limit_mp"]), record["id"])
        return words + _standing(record)
    if kind == "resync":
        return "ledger resynced id=%s" % record["id"] + _standing(record)
    if kind == "calibration":
        words = "calibration %d %s: voltage %d ppm, current %d ppm" % (
            record["number"],
            record["what"],
            record["voltage_gain_ppm"],
            record["current_gain_ppm"],
        )
        return words + _standing(record)
    if kind == "fault":
        return "fault %s at %s" % (record["kind"], record["place"])
    return "order %s %s: %s" % (record["kind"], record["id"], record["result"])


def _profile(record, utc_offset_s):
    line = "%s %s" % (record["type"], civil.text(record["start_utc_s"], utc_offset_s))
    if "end_utc_s" in record:
        line += " to " + civil.text(record["end_utc_s"], utc_offset_s)
    line += " %d Wh" % record["energy_wh"]
    if "supply_min" in record:
        line += " in %d min" % record["supply_min"]
    elif record["supply_s"]:  # 0: a power failure took what was counted
        line += " in %d s" % record["supply_s"]
    if record.get("demand_max_w"):
        line += " max %d W at %s" % (
            record["demand_max_w"],
            civil.text(record["demand_max_utc_s"], utc_offset_s),
        )
    return line


def _standing(record):
    return " kWh=%s balance=%s" % (
        fixed(record["import_wh"], 1000, 3),
        rupees(record["balance_mp"]),
    )
