"""What needs somebody, by meter, in words: for `/api/health`, the page, and the list of meters.

Tests: host_tests/gateway/test_order_kinds.py, test_ingest.py.
"""

from __future__ import annotations

from firmware.core import events
from firmware.core.records import LEDGER_LOST
from gateway import words
from gateway.audit import Audit
from gateway.live import LiveBoard

CONTACT_FAULTS = {
    events.SWITCH_WELD: "the contact did not open: it may be welded, the supply is still on",
    events.NOT_CLOSED: "the contact did not close: the supply is still off",
}


def of_meters(
    meters: list[str], live: LiveBoard, audit: Audit, blocked: dict[str, int]
) -> dict[str, list[str]]:
    """The alarms of each of `meters` that has some; blocked: orders that wait for a resync."""
    lost = {*blocked, *audit.lost}
    contacts, mismatches = audit.contact_faults, audit.mismatches
    found: dict[str, list[str]] = {}
    for meter in meters:
        alarms = []
        service = live.view(meter).get("service", "")
        if service == LEDGER_LOST or (not service and meter in lost):
            alarms.append(
                "lost ledger records and takes no credit "
                f"(orders that wait: {blocked.get(meter, 0)}): bijli meter resync {meter}"
            )
        elif service:
            alarms.append(words.SERVICES[service])
        if meter in contacts:
            alarms.append(CONTACT_FAULTS[contacts[meter]])
        if meter in live.went_back:
            alarms.append(f"the register went back from {live.went_back[meter]}")
        if meter in mismatches:
            alarms.append(f"{mismatches[meter]} records whose balance is not the recomputed one")
        if alarms:
            found[meter] = alarms
    return found
