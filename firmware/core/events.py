"""Event codes: IS 15959 where it has one, ours above 1000. docs/SPEC.md section 4 explains them."""

from firmware.core.shim import const

POWER_FAILED = const(101)
POWER_RESTORED = const(102)
CLOCK_SET = const(151)
POSTPAID = const(211)
PREPAID = const(212)
FORWARDED_ONLY = const(213)
IMPORT_AND_EXPORT = const(214)
COVER_OPEN = const(251)
SWITCH_WELD = const(253)
DISCONNECTED = const(301)
CONNECTED = const(302)
LOW_CREDIT = const(1001)
CREDIT_EXHAUSTED = const(1002)
GRACE_OVER = const(1003)
IN_CREDIT = const(1004)
EMERGENCY_OFFERED = const(1005)
NO_CUT_BEFORE = const(1009)
SENSOR_FAULT = const(1010)
SENSOR_RESTORED = const(1011)
SAMPLE_GAP = const(1012)
TIME_UNKNOWN = const(1021)
TIME_REFUSED = const(1022)
OFF_TIME_KNOWN = const(1023)
CHANGE_WORKS = const(1037)
CHANGE_GIVEN_UP = const(1038)
RECORDS_MISSING = const(1039)
JOURNAL_DAMAGED = const(1031)
LEDGER_LOST = const(1032)
RESYNCED = const(1033)
STORAGE_REFUSES = const(1034)
STORAGE_WRITES = const(1035)
CONFIG_COPY = const(1036)

# Conditions in the order of metering/quality.py and metering/tamper.py: over-voltage, low voltage,
# over-current, overload, reversed current, current past an open contact, magnet, cover. IS 15959
# has no codes for current past an open contact, and none for a cover that is closed.
OCCURRENCES = (7, 9, 67, 215, 51, 1050, 201, 251)
RESTORATIONS = (8, 10, 68, 216, 52, 1051, 202, 1052)
