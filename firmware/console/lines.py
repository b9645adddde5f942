"""A journal record as a line for people."""

from firmware.console.text import fixed, rupees
from firmware.core import civil, events
from firmware.core.records import PROFILES, REASONS
from firmware.relay import arbitration

# Code and words of each event, one a line. It is text because that stays in ROM: a dict of texts
# would take 1 kB of heap.
_WORDS = """
7 over-voltage
8 over-voltage is over
9 low voltage
10 low voltage is over
51 tamper: current flows backwards
52 current flows forwards again
67 over-current
68 over-current is over
101 power failed, here or up to 15 min later
102 power restored
151 clock set
201 tamper: magnet
202 magnet is gone
211 postpaid, no credit cut
212 prepaid
213 forwarded-only mode: a reversed current counts as import
214 import and export mode: a reversed current counts as export
215 overload
216 overload is over
251 tamper: cover open
253 switch weld: contact did not follow the command
301 switch disconnected
302 switch connected
1001 low credit
1002 credit exhausted, grace begins
1003 grace over, cut in the next allowed window
1004 in credit again
1005 emergency credit offered
1006 low credit, left of the last recharge
1007 low credit, it lasts
1008 the next units re-rate the month
1009 no credit cut for now
1010 sensor fault
1011 sensor well again
1012 gap in the samples, not invented
1021 time unknown, no cut
1022 time refused, the step needs an order
1023 length of the power failure known
1031 journal damaged, bytes dropped
1032 ledger records are missing, supply kept on, no recharge taken
1033 resynced, recharges are taken again
1034 flash refused writes
1035 flash takes writes again
1036 configuration unreadable, last good copy in use
1037 a change works, the old is dropped
1038 a change is given up, the old stays
1039 records are missing from the journal
1050 tamper: current flows past the open contact
1051 no current past the contact any more
1052 cover closed
1060 warn only: the supply would be cut now
1061 time unknown for too long, cut when that is over
1062 tripped too often, locked out
1063 contact did not close
1064 contact follows again
1065 no gateway: last grace begins
1066 gateway is silent
1067 gateway is heard again
1068 commissioned
"""

# Events whose detail is a limit or the worst value, in thousandths; the words before it, the unit.
_VALUES = """
7 above V
8 up to V
9 below V
10 down to V
52 up to A
67 above A
68 up to A
1051 up to A
"""

# By the kinds of metering/sampler.py.
_SENSOR_FAULTS = """
1 no answer
2 configuration lost
3 overflow
4 out of range
5 no conversion
6 bus hangs
7 current above the range, counted as its end
"""


def _entry(table, code):
    """The rest of the line of `code` in a table, empty if there is none."""
    begin = table.find("\n%d " % code) + 1
    if not begin:
        return ""
    return table[table.find(" ", begin) + 1 : table.find("\n", begin)]


def event_words(code):
    """What an event is, empty if the code is not known."""
    return _entry(_WORDS, code)


def fault_words(kind):
    """What a sensor's fault is."""
    return _entry(_SENSOR_FAULTS, kind) or "unknown"


def detail(record, utc_offset_s):
    """What an event's `detail` means, in words; empty if it says nothing."""
    code = record["code"]
    value = record["detail"]
    if code == events.LOW_CREDIT:
        return "threshold " + rupees(value)
    if code == events.PERCENT_LEFT:
        return "%d %%" % value
    if code == events.DAYS_LEFT:
        return "%d days" % value
    if code == events.CLIFF_AHEAD:
        return "that costs " + rupees(value)
    if code == events.EMERGENCY_OFFERED:
        return "%s, by button or `emergency`" % rupees(value)
    if code in (events.CREDIT_EXHAUSTED, events.OFFLINE_GRACE, events.UNDATED_CUT):
        return "%d h %d min" % (value // 3600, value // 60 % 60)
    if code == events.GRACE_OVER:
        return "not before " + civil.text(value, utc_offset_s) if value else "when is not known"
    if code == events.NO_CUT_BEFORE or (code == events.PREPAID and value):
        return "no cut before " + civil.text(value, utc_offset_s)
    if code == events.SENSOR_FAULT:
        return fault_words(value)
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
    if code in (events.DISCONNECTED, events.CONNECTED):
        return REASONS[value] if 0 < value < len(REASONS) else ""  # 0 also of older firmware
    if code in (events.COVER_OPEN, events.MAGNET):
        return "cuts the supply" if value else ""
    if code == events.LIMITER_LOCKED:
        return " ".join(arbitration.words(value))
    if code == events.CONTACT_WORKS:
        return "event %d is over" % value
    if code == events.LINK_SILENT:
        return "heard last " + civil.text(value, utc_offset_s) if value else "never heard"
    if code == events.LINK_HEARD:
        return "after %d s" % value
    if code == events.LEDGER_LOST:
        return "%d records" % value if value > 0 else "their number is not known"
    form = _entry(_VALUES, code)
    if form:
        return form[:-1] + fixed(value, 1000, 3) + " " + form[-1]
    if code in (215, 216):
        return ("above %d W" if code == 215 else "up to %d W") % value
    if code == events.OFF_TIME_KNOWN:
        return "%d s" % value
    if code in (events.POWER_FAILED, events.POWER_RESTORED):
        return "off for %d s" % value if value >= 0 else "off for an unknown time"
    return ""


def _tariff(document):
    """(id, version, UTC s from when) of a tariff's document or, in a new record, of its Tariff."""
    if isinstance(document, dict):
        return document["id"], document["version"], document["effective_from_utc_s"]
    return document.id, document.version, document.effective_from_utc_s


def record_line(record, utc_offset_s):
    """One line for a journal record, without its time."""
    kind = record["type"]
    if kind == "event":
        said = "event %d %s" % (record["code"], event_words(record["code"]))
        more = detail(record, utc_offset_s)
        return said + (" (" + more + ")" if more else "") + _standing(record)
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
        return "tariff %s version %d in force" % _tariff(record["document"])[:2]
    if kind == "passive":
        name, version, from_utc_s = _tariff(record["document"])
        return "tariff %s version %d is held until %s" % (
            name,
            version,
            civil.text(from_utc_s, utc_offset_s),
        )
    if kind == "tally":
        return "tally of %s, %d min of supply, zone %d" % (
            civil.text(record["day"] * civil.DAY_S, 0)[:10],
            record["supply_min"],
            record["zone"],
        ) + _standing(record)
    if kind == "period":
        if not record["end_utc_s"] > record["start_utc_s"] > 0:
            return "period dated, nothing closed"
        return "period closed: %d Wh, charge %s" % (
            record["end_wh"] - record["start_wh"],
            rupees(record["charge_mp"], 5),
        )
    if kind in ("relay", "control"):
        return "relay %s, contact to be %s, reason %s" % (
            record["state"],
            "closed" if record["contact"] else "open",
            record["reason"],
        ) + _standing(record)
    if kind == "calendar":
        return "calendar id=%s" % record["id"] + _standing(record)
    if kind == "settings":
        document = record["document"]
        words = ["%s %s" % (name, document[name]) for name in document]
        return "settings %s id=%s" % (", ".join(words), record["id"])
    if kind in ("arrears", "recovery"):
        return "arrears %s%s, id=%s" % (
            rupees(record["amount_mp"]),
            _recovery(record),
            record["id"],
        ) + _standing(record)
    if kind == "mode":
        words = "mode %s, due %s" % (record["mode"], rupees(record["amount_mp"]))
        if record["mode"] == "prepayment":
            words += " to arrears" + _recovery(record)
        return words + ", id=%s" % record["id"] + _standing(record)
    if kind == "emergency":
        words = "emergency credit to -%s id=%s" % (rupees(record["limit_mp"]), record["id"])
        return words + _standing(record)
    if kind == "account":
        document = record["document"]
        words = "account %s %s" % (document["account"], record["action"])
        for name in ("moved_to", "moved_from"):
            if name in document:
                words += ", %s %s" % (name.replace("_", " "), document[name])
        for name in ("refund_mp", "due_mp"):
            if document.get(name):
                words += ", %s %s" % (name[:-3], rupees(document[name]))
        return words + " id=" + record["id"] + _standing(record)
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


def _recovery(record):
    """How arrears are recovered, behind a comma."""
    if record.get("at_once"):
        return ", at once"
    words = ", %d %% of each recharge" % record["share_percent"]
    if record.get("per_day_mp"):
        words += ", %s a day" % rupees(record["per_day_mp"])
    return words


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
