"""Event codes: IS 15959 where it has one, ours above 1000. docs/SPEC.md section 4 explains them."""

from firmware.core.shim import const

POWER_RESTORED = const(102)
CLOCK_SET = const(151)
SWITCH_WELD = const(253)
DISCONNECTED = const(301)
CONNECTED = const(302)
LOW_CREDIT = const(1001)
CREDIT_EXHAUSTED = const(1002)
GRACE_OVER = const(1003)
IN_CREDIT = const(1004)
SENSOR_FAULT = const(1010)
SENSOR_RESTORED = const(1011)
SAMPLE_GAP = const(1012)
TIME_UNKNOWN = const(1021)
TIME_REFUSED = const(1022)
CHANGE_WORKS = const(1037)
CHANGE_GIVEN_UP = const(1038)
RESTARTED_AFTER_FAULT = const(1030)
JOURNAL_DAMAGED = const(1031)
LEDGER_LOST = const(1032)
RESYNCED = const(1033)
