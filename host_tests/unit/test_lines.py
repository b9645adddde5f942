"""Records as lines of the serial log."""

import pytest

from firmware.console import lines
from firmware.core.records import REASONS
from firmware.relay import arbitration

IST_S = 19_800


@pytest.mark.parametrize(
    ("code", "detail", "line"),
    [
        (301, REASONS.index("credit"), "event 301 switch disconnected (credit)"),
        (302, REASONS.index("recharge"), "event 302 switch connected (recharge)"),
        (302, 0, "event 302 switch connected"),
        (302, len(REASONS), "event 302 switch connected"),
        (1002, 86_400, "event 1002 credit exhausted, grace begins (24 h 0 min)"),
        (1061, 5400, "event 1061 time unknown for too long, cut when that is over (1 h 30 min)"),
        (1062, arbitration.LIMITER, "event 1062 tripped too often, locked out (limiter)"),
        (1064, 253, "event 1064 contact follows again (event 253 is over)"),
        (1065, 21_600, "event 1065 no gateway: last grace begins (6 h 0 min)"),
        (1066, 1_767_594_600, "event 1066 gateway is silent (heard last 2026-01-05 12:00:00)"),
        (1066, 0, "event 1066 gateway is silent (never heard)"),
        (1067, 75, "event 1067 gateway is heard again (after 75 s)"),
    ],
)
def test_an_event_says_what_and_why(code, detail, line):
    record = {"type": "event", "code": code, "detail": detail, "import_wh": 1500, "balance_mp": -5}
    assert lines.record_line(record, IST_S) == line + " kWh=1.500 balance=0.00"
