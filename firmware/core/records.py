"""The table of journal records: one home for what is packed on flash, sent, and checked.

Each type has a code (stored, never reused) and its members in order, each with a kind (`members`):

    "u8" "u16" "u32" "i32" "i64"   integer of that range
    "text"                         up to 36 characters of ASCII, length-prefixed on flash
    "json"                         an object, stored as its JSON bytes
    a tuple of texts               one of them, stored as its index

docs/SPEC.md sections 2.1 and 5 say the same in prose. A new type is appended; a type's members
never change.
"""

CAUSES = ("power", "hard", "watchdog", "soft", "brownout", "unknown")
CREDIT_KINDS = ("opening", "recharge", "refund", "adjustment")
STATES = ("connected", "ready_for_reconnection", "disconnected")
LEDGER_LOST = "ledger_lost"
REASONS = (
    "start",
    "credit",
    "recharge",
    "order",
    LEDGER_LOST,
    "mode",
    "limiter",
    "over_current",
    "tamper",
    "test",
    "ended",
    "partial",
    "undone",
    "account",
)
MODES = ("prepayment", "credit")
RESULTS = (
    "accepted",
    "old",
    "range",
    "malformed",
    "unsupported",
    "expired",
    "time_unknown",
    "resync_needed",
    "closed",
)

ACTIONS = ("opened", "closed")
CALIBRATIONS = ("zero", "voltage", "current", "undo")
CALIBRATED = (
    "zero_40_x16",
    "zero_80_x16",
    "zero_160_x16",
    "zero_320_x16",
    "bus_zero_x16",
    "voltage_gain_ppm",
    "current_gain_ppm",
)
"""Values of a calibration: zeros of the shunt by range in mV and of the bus, gains."""

RECORDS = (
    "boot",
    "event",
    "block",
    "credit",
    "tariff",
    "period",
    "relay",
    "order",
    "settings",
    "arrears",
    "emergency",
    "resync",
    "fault",
    "calibration",
    "load",
    "day",
    "billing",
    "tally",
    "passive",
    "recovery",
    "mode",
    "account",
    "control",
    "calendar",
)
"""Types; the code of each is its place, from 1."""

# The members of each type are a line of text, which stays in ROM: tuples would take 3 kB of heap.
# Capitals stand for members that several types have. Only older firmware writes `relay`, which
# `control` replaces, and `arrears`, which `recovery` does; `passive` is a tariff that is held until
# its effective_from_utc_s; behind `settings` are accepted orders, whose record is the answer's.
_MEMBERS = """
boot cause causes firmware text off_s i32 R
event code u16 detail i64 R voltage_mv i32 current_ma i32
block start_utc_s u32 length_s u16 energy_wh u32 voltage_mv i32 current_ma i32 power_max_w i32 \
supply_s u16 R
credit kind credit_kinds O amount_mp i64 R
tariff document json R
period start_utc_s u32 end_utc_s u32 start_wh i64 end_wh i64 charge_mp i64 tariff text \
tariff_version u16 balance_mp i64
relay state states contact u8 reason reasons R
order O kind text result results R
settings O document json R
arrears O amount_mp i64 share_percent u8 R
emergency O limit_mp i64 R
resync O document json R
fault kind text place text at_up_s u32 at_utc_s u32 R
calibration what calibrations number u32 C R
load start_utc_s u32 length_s u16 energy_wh u32 energy_export_wh u32 voltage_mv i32 \
voltage_min_mv i32 voltage_max_mv i32 current_ma i32 current_min_ma i32 current_max_ma i32 \
supply_s u32 over_load_s u32 R
day S over_load_min u32 cost_mp i64 R
billing S power_failures u32 R
tally day u16 period_day u16 period_days u8 zone u8 supply_min u32 load_w u32 R
passive document json R
recovery O amount_mp i64 share_percent u8 per_day_mp i64 at_once u8 R
mode O mode modes amount_mp i64 share_percent u8 per_day_mp i64 R
account O action actions document json R
control state states contact u8 reason reasons standing u16 R
calendar O document json R
"""
_SHARED = {
    "R": "import_wh i64 balance_mp i64",
    "O": "id text counter u32",
    "S": "start_utc_s u32 end_utc_s u32 energy_wh u32 energy_export_wh u32 export_wh i64 "
    "supply_min u32 demand_max_w i32 demand_max_utc_s u32",
}
_ENUMS = {
    "causes": CAUSES,
    "credit_kinds": CREDIT_KINDS,
    "states": STATES,
    "reasons": REASONS,
    "modes": MODES,
    "results": RESULTS,
    "actions": ACTIONS,
    "calibrations": CALIBRATIONS,
}


def code_of(name):
    """The code of a type."""
    return RECORDS.index(name) + 1


def members(name):
    """(member, kind) of each member of a type, in order."""
    begin = _MEMBERS.find("\n" + name + " ") + len(name) + 2
    text = _MEMBERS[begin : _MEMBERS.find("\n", begin)]
    for letter in _SHARED:
        text = text.replace(letter, _SHARED[letter])
    if "C" in text:
        text = text.replace("C", " i32 ".join(CALIBRATED) + " i32")
    words = text.split()
    for place in range(0, len(words), 2):
        form = words[place + 1]
        yield words[place], _ENUMS.get(form, form)


PROFILES = ("block", "load", "day", "billing")
"""Types of the profiles: values by the calendar."""

QUIET = PROFILES + ("tally",)
"""Types that are no news."""

LEDGER = (
    "credit",
    "tariff",
    "period",
    "relay",
    "order",
    "settings",
    "arrears",
    "emergency",
    "resync",
    "calibration",
    "tally",
    "passive",
    "recovery",
    "mode",
    "account",
    "control",
    "calendar",
)
"""Types that are hash-chained: each carries the digest of the one before."""

ORDERED = (
    "credit",
    "order",
    "settings",
    "arrears",
    "emergency",
    "resync",
    "recovery",
    "mode",
    "account",
    "calendar",
)
"""Types whose `id` is that of an order, of which they are the answer."""

RANGES = {
    "u8": (0, 0xFF),
    "u16": (0, 0xFFFF),
    "u32": (0, 0xFFFFFFFF),
    "i32": (-0x80000000, 0x7FFFFFFF),
    "i64": (-0x8000000000000000, 0x7FFFFFFFFFFFFFFF),
}

TEXT_MAX = 36
