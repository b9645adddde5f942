"""What the page shows: present values of the meters, recent events, recharges. In memory only.

Everything carries a version that grows with each change, so that a stream sends only what is new.
A register that goes back is shown as it is said, and is an alarm (SPEC 2.2).
Tests: host_tests/gateway/test_ingest.py, test_live_board.py.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from gateway import words
from gateway.messages import Live

log = logging.getLogger("gateway.live")

RECENT_EVENTS = 50
RECENT_ORDERS = 20


def _causes_words(causes: list[str]) -> list[str]:
    return [words.REASONS.get(cause, cause) for cause in causes]


class LiveBoard:
    """Thread-safe; `on_change` of the listeners is called outside the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version = 0
        self._meters: dict[str, dict[str, Any]] = {}
        self._values: dict[str, Live] = {}
        self._events: deque[dict[str, Any]] = deque(maxlen=RECENT_EVENTS)
        self._recharges: dict[str, dict[str, Any]] = {}
        self._orders: dict[str, dict[str, Any]] = {}
        self._accounts: dict[str, dict[str, Any]] = {}
        self.went_back: dict[str, str] = {}  # meter to what was seen
        self._listeners: list[Callable[[], None]] = []

    def listen(self, on_change: Callable[[], None]) -> Callable[[], None]:
        """Have `on_change` called at each change; returns what ends it."""
        with self._lock:
            self._listeners.append(on_change)

        def end() -> None:
            with self._lock:
                self._listeners.remove(on_change)

        return end

    def add_meter(self, meter: str, consumer: str) -> None:
        """A meter is registered."""
        self._change(meter, {"meter": meter, "consumer": consumer})

    def link(self, meter: str, online: bool, now_utc_ms: int) -> None:
        """A meter said that it is there, or the broker that it is gone."""
        change: dict[str, Any] = {"online": online}
        if online:
            change["last_seen_utc_ms"] = now_utc_ms
        self._change(meter, change)

    def values(self, meter: str, live: Live, now_utc_ms: int) -> None:
        """Present values arrived."""
        before = self._values.get(meter)
        if (
            before is not None
            and before.store == live.store
            and (before.boot, before.up_s) <= (live.boot, live.up_s)
        ):
            for name, was_wh, is_wh in (
                ("register", before.import_wh, live.import_wh),
                ("export register", before.export_wh, live.export_wh),
            ):
                if is_wh < was_wh:
                    self.went_back[meter] = f"{was_wh} Wh to {is_wh} Wh"
                    log.error("%s: the %s went back from %s", meter, name, self.went_back[meter])
        self._values[meter] = live
        self._change(
            meter,
            {
                "last_seen_utc_ms": now_utc_ms,
                "power_mw": live.power_mw,
                "voltage_mv": live.voltage_mv,
                "current_ma": live.current_ma,
                "import_wh": live.import_wh,
                "export_wh": live.export_wh,
                "demand_w": live.demand_w,
                "demand_max_w": live.demand_max_w,
                "demand_max_utc_s": live.demand_max_utc_s,
                "supply_min": live.supply_min,
                "power_failures": live.power_failures,
                "balance_mp": live.balance_mp,
                "balance_rupees": words.rupees(live.balance_mp),
                "state": live.state,
                "state_words": words.supply(live.state, live.reason),
                "contact": live.contact,
                "reason_words": words.REASONS.get(live.reason, live.reason),
                "causes": live.causes,
                "causes_words": _causes_words(live.causes),
                "hold": live.hold,
                "hold_words": words.HOLDS.get(live.hold, live.hold),
                "would_cut": live.would_cut,
                "operations": live.operations,
                "heard_utc_s": live.heard_utc_s,
                "calendar": live.calendar,
                "over_load_days": live.over_load_days,
                "service": live.service,
                "service_words": words.SERVICES[live.service],
                "standing_words": [
                    words.STANDING.get(code, f"event {code}") for code in live.standing
                ],
                "cover_openings": live.cover_openings,
                "today_wh": live.today_wh,
                "today_rupees": words.rupees(live.today_mp),
                "month_wh": live.month_wh,
                "month_rupees": words.rupees(live.month_mp),
                "days_left": live.days_left,
                "projected_rupees": words.rupees(live.projected_mp)
                if live.projected_mp >= 0
                else "",
                "next_kwh_rupees": words.rupees(live.next_kwh_mp),
                "account": live.account,
                "account_status": live.account_status,
                "credit": live.credit,
                "credit_words": words.CREDITS[live.credit],
                "mode": live.mode,
                "mode_words": words.MODES[live.mode],
                "due_mp": live.due_mp,
                "due_rupees": words.rupees(live.due_mp),
                "amount_to_clear_mp": live.amount_to_clear_mp,
                "amount_to_clear_rupees": words.rupees_up(live.amount_to_clear_mp),
                "aggregated_debt_mp": live.aggregated_debt_mp,
                "last_recharge_mp": live.last_recharge_mp,
                "arrears_mp": live.arrears_mp,
                "arrears_rupees": words.rupees(live.arrears_mp),
                "emergency": live.emergency,
                "emergency_words": words.EMERGENCIES[live.emergency],
                "emergency_rupees": words.rupees(live.emergency_limit_mp),
                "emergency_limit_mp": live.emergency_limit_mp,
                "grace_s": live.grace_s,
                "earliest_cut_utc_s": live.earliest_cut_utc_s,
                "tariff": f"{live.tariff} v{live.tariff_version}",
                "waiting": live.waiting,
                "firmware": live.firmware,
                "time_valid": live.time_valid,
                "meter_utc_s": live.utc_s,
            },
        )

    def records(self, meter: str, new: list[dict[str, Any]], now_utc_ms: int) -> None:
        """Records were committed."""
        change: dict[str, Any] = {"last_seen_utc_ms": now_utc_ms}
        live = self._values.get(meter)
        for record in new:
            self._add_event(meter, record)
            # Records of a backlog are older than the live values that overtook them.
            if live and (record["boot"], record["up_s"]) < (live.boot, live.up_s):
                continue
            if "import_wh" in record and "balance_mp" in record:
                change["balance_mp"] = record["balance_mp"]
                change["balance_rupees"] = words.rupees(record["balance_mp"])
                change["import_wh"] = record["import_wh"]
            if record["type"] in ("relay", "control"):
                causes = words.causes(record)
                cause = causes[0] if causes else ""
                change.update(
                    state=record["state"],
                    state_words=words.supply(record["state"], cause),
                    contact=record["contact"],
                    reason_words=words.REASONS[cause],
                    causes=causes,
                    causes_words=_causes_words(causes),
                )
        self._change(meter, change)

    def restore(self, meter: str, records: list[dict[str, Any]]) -> None:
        """After a start: the newest records of a meter from the database, the oldest first."""
        for record in records:
            self._add_event(meter, record)
        latest = next((r for r in reversed(records) if "balance_mp" in r), None)
        change: dict[str, Any] = {}
        if latest is not None:
            change["balance_mp"] = latest["balance_mp"]
            change["balance_rupees"] = words.rupees(latest["balance_mp"])
            if "import_wh" in latest:
                change["import_wh"] = latest["import_wh"]
        self._change(meter, change)

    def _add_event(self, meter: str, record: dict[str, Any]) -> None:
        text = words.describe(record)
        if text:
            with self._lock:
                self._version += 1
                self._events.append(
                    {
                        "version": self._version,
                        "meter": meter,
                        "utc_s": record["utc_s"],
                        "time_valid": record["time_valid"],
                        "text": text,
                    }
                )

    def recharge(self, view: dict[str, Any]) -> None:
        """A recharge is new or changed its state."""
        balance_mp = view["balance_mp"]
        self._renew(
            self._recharges,
            {
                **view,
                "amount_rupees": words.rupees(view["amount_mp"]),
                "code_words": words.refusal(view["code"], view["field"]),
                "balance_rupees": None if balance_mp is None else words.rupees(balance_mp),
            },
        )

    def order(self, view: dict[str, Any]) -> None:
        """An order other than a recharge is new or changed its state."""
        self._renew(self._orders, {**view, "text": words.order(view)})

    def account(self, view: dict[str, Any]) -> None:
        """A change of an account has begun or went on."""
        self._renew(self._accounts, {**view, "text": words.account(view)}, may_go_back=True)

    def _renew(
        self, recent: dict[str, dict[str, Any]], view: dict[str, Any], *, may_go_back: bool = False
    ) -> None:
        """may_go_back: False if `times` of what is told only grows."""
        with self._lock:
            before = recent.get(view["id"])
            if before and not may_go_back and len(view["times"]) < len(before["times"]):
                return  # it was read in another thread before the change that is told already
            self._version += 1
            recent.pop(view["id"], None)
            recent[view["id"]] = {**view, "version": self._version}
            while len(recent) > RECENT_ORDERS:
                del recent[next(iter(recent))]
        self._tell()

    def last_values(self, meter: str) -> Live | None:
        """The last present values since the start of the gateway."""
        return self._values.get(meter)

    def view(self, meter: str) -> dict[str, Any]:
        """A meter's row, empty if it is not known."""
        with self._lock:
            return dict(self._meters.get(meter, {}))

    def since(self, version: int) -> tuple[int, dict[str, Any]]:
        """(present version, what changed after `version`); 0 gives everything."""
        with self._lock:
            return self._version, {
                "meters": [m for m in self._meters.values() if m["version"] > version],
                "events": [e for e in self._events if e["version"] > version],
                "recharges": [r for r in self._recharges.values() if r["version"] > version],
                "orders": [o for o in self._orders.values() if o["version"] > version],
                "accounts": [a for a in self._accounts.values() if a["version"] > version],
            }

    def _change(self, meter: str, change: dict[str, Any]) -> None:
        with self._lock:
            self._version += 1
            before = self._meters.get(meter, {"meter": meter, "online": False})
            # A new dict each time: what was handed out stays as it was.
            self._meters[meter] = {**before, **change, "version": self._version}
        self._tell()

    def wake_listeners(self) -> None:
        """Have all listeners look, though nothing changed: the gateway is stopping."""
        self._tell()

    def _tell(self) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for on_change in listeners:
            on_change()
