"""Reads what a meter's records say of its contact: who opened it, when, and whether they might.

Judged are both the decision (record `control`) and the contact (events 301 and 302). Written from
docs/SPEC.md section 2.4.1, with tables of its own: nothing of firmware/relay is used. A meter here
begins connected, with the settings of its configuration at their defaults.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta

from host_tests.chaos.judge import Violation

BITS = {"order": 1, "tamper": 2, "over_current": 4, "limiter": 8, "credit": 16, "test": 32}
BY_UTILITY = BITS["order"] | BITS["tamper"]
BY_ITSELF = BITS["over_current"] | BITS["limiter"] | BITS["test"]
DEFAULTS = {
    "window_start_min": 600,
    "window_end_min": 780,
    "window_days": 63,
    "floor_mp": 0,
    "cut_mode": 1,
    "limit_mode": 0,
    "trip_current_ma": 0,
    "tamper_cut": 0,
    "limit_reclose_s": 120,
    "operation_min_s": 5,
}
IST_S = 19_800
STARTING_S = 60
CLOSES_WITHIN_S = 1
MOVES_WITHIN_S = 2  # a second and the pulse, of an uptime in whole seconds
SAMPLE_S = 20  # of the meters of a run
TELLS_WITHIN_S = SAMPLE_S + 5  # of an opening: its current is looked at
LOOKED_S = 60  # the second look of a start is over by then
GRACE_OVER, IN_CREDIT = 1003, 1004
GRACES = (1002, 1061, 1065)  # events whose detail is the length of a grace that begins
REFUSES, WRITES, LEDGER_LOST = 1034, 1035, 1032
DID_NOT_OPEN, OPENED, CLOSED, DID_NOT_CLOSE, WORKS = 253, 301, 302, 1063, 1064


class Supply:
    """Goes through the records of one meter; `found` are the violations.

    orders: {id: members} of its `relay` orders. opened: the boots in which its contact was seen to
    open; None: where an event says so. An opening that a power failure kept from being told is told
    behind the next start.
    """

    def __init__(self, meter, orders, opened=None):
        self.meter = meter
        self.orders = orders
        self.found = []
        self.standing = 0
        self.begun = Counter()  # causes, by their word
        self._settings = dict(DEFAULTS)
        self._calendar = {}
        self._postpaid = self._closed = self._lost = False
        self._unsure = False  # a record that is lost may have been of the contact
        self._emergency_mp = 0
        self._grace = None  # (boot, up s, length s) of a grace that began
        self._announced = False  # and is over
        self._paid = None  # (boot, up s) of a recharge or an opening that ends a cut
        self._handed_on = False  # a cut of the account before: it has to end
        self._began = {}  # bit: (boot, up s)
        self._opened = opened
        self._is_open = False  # as the events tell
        self._fails = False  # to close, as they tell
        self._late = False  # what the contact does may be told later than it was
        self._operated = None  # (boot, up s)
        self._closes = None  # (boot, up s) of the record that is to close it
        self._seq = None

    def take(self, record):
        """Takes the next record of the journal."""
        kind = record["type"]
        if self._seq is not None and record["seq"] != self._seq + 1:
            self._closes, self._late = None, True  # what is lost may have told of it
        self._seq = record["seq"]
        if self._closes and record.get("code") not in (REFUSES, WRITES):
            self._waits(record)
        if self._paid and kind != "control" and record.get("code") != REFUSES:
            self._overdue(record)
        if kind == "control":
            self._control(record)
        elif kind == "event":
            self._event(record)
        elif kind == "order" and record["id"] in self.orders:
            self._ordered(record)
        elif kind == "settings":
            self._settings.update(record["document"])
        elif kind == "calendar":
            self._calendar = record["document"] or {}
        elif kind == "mode":
            self._postpaid = record["mode"] == "credit"
            if self._postpaid:
                self._emergency_mp, self._announced, self._grace = 0, False, None
        elif kind == "account":
            self._closed = record["action"] == "closed"
            self._handed_on = not self._closed and self.standing & BITS["credit"] != 0
            if self._handed_on:
                self._paid = record["boot"], record["up_s"]
            self._emergency_mp, self._announced, self._grace = 0, False, None
        elif kind == "emergency":
            self._emergency_mp = record["limit_mp"]
        elif kind == "resync":
            self._lost = False
            self._emergency_mp = record["document"].get("emergency_mp", 0)
        elif kind == "credit" and record["kind"] == "recharge":
            if record["balance_mp"] > 0:
                self._emergency_mp = 0
            if self.standing & BITS["credit"] and self._available(record) > 0:
                self._paid = record["boot"], record["up_s"]
                if self.standing == BITS["credit"]:
                    self._shall_close(record)

    def _wrong(self, record, text):
        self.found.append(
            Violation("supply", self.meter, f"record {record['seq']}: {text}", record["utc_s"])
        )

    def _available(self, record):
        """How far the credit of a record is above its end."""
        return record["balance_mp"] + self._emergency_mp - self._settings["floor_mp"]

    def _event(self, record):
        code = record["code"]
        if code == IN_CREDIT:
            self._announced, self._grace = False, None
        elif code in GRACES:
            self._announced, self._grace = False, (record["boot"], record["up_s"], record["detail"])
        elif code == GRACE_OVER:
            self._announced = True
            if self._grace is None:
                self._wrong(record, "a grace is over that did not begin")
            elif self._grace[0] == record["boot"]:
                took_s = record["up_s"] - self._grace[1]
                if took_s < self._grace[2] - CLOSES_WITHIN_S:
                    self._wrong(record, f"a grace of {self._grace[2]} s was over in {took_s} s")
        elif code == LEDGER_LOST:
            self._lost = self._unsure = True
            self._announced, self._grace = False, None
        elif code in (REFUSES, WRITES):
            self._paid = None  # what follows was written later than it was done
            self._closes, self._late = None, True
        elif code in (OPENED, CLOSED, DID_NOT_OPEN, DID_NOT_CLOSE):
            self._contact(record)
        elif code == WORKS:
            self._fails = False

    def _contact(self, record):
        """The contact has moved, or should have."""
        code = record["code"]
        self._operated = record["boot"], record["up_s"]
        if code == OPENED:
            if self.standing == BITS["credit"] and not (self._is_open or self._late):
                self._opens(record)
            self._is_open = True
        elif code == CLOSED:
            self._is_open = False
        if code != DID_NOT_OPEN:
            self._fails = code == DID_NOT_CLOSE
            self._closes = None

    def _opens(self, record):
        """The contact has opened for want of credit, the first time for this cut."""
        starts = record["up_s"] < STARTING_S
        if starts and self._opened is not None and record["boot"] not in self._opened:
            return  # it did so before the power failed
        at = datetime.fromtimestamp(record["utc_s"] + IST_S, UTC)
        moments = (at, at - timedelta(seconds=TELLS_WITHIN_S))
        for wrong, text in (
            (not record["time_valid"], "at an unknown time"),
            (
                not any(self._is_open_at(moment) for moment in moments),
                f"outside the window, at {at:%a %H:%M}",
            ),
            (starts, f"{record['up_s']} s after a start"),
        ):
            if wrong:
                self._wrong(record, f"the contact opened for a cut {text}")

    def _shall_close(self, record):
        """From this record on the contact is to close, if it can."""
        if self._is_open and not self._fails and not self._closes:
            self._closes = record["boot"], record["up_s"]

    def _waits(self, record):
        """Judges how late it is with a record for a contact that is to close."""
        boot, from_up_s = self._closes
        until_up_s = from_up_s + MOVES_WITHIN_S
        if record["boot"] != boot:
            until_up_s = LOOKED_S
        elif from_up_s < LOOKED_S:
            until_up_s = LOOKED_S + MOVES_WITHIN_S
        if self._operated and self._operated[0] == record["boot"]:
            least_s = self._settings["operation_min_s"]
            if from_up_s - self._operated[1] <= least_s:
                least_up_s = self._operated[1] + least_s + SAMPLE_S + MOVES_WITHIN_S
                until_up_s = max(until_up_s, least_up_s)
        if record["boot"] >= boot and record["up_s"] > until_up_s:
            self._closes = None
            self._wrong(record, f"the contact has not closed by {until_up_s} s of the boot")

    def _ordered(self, record):
        """An order to the contact was decided."""
        members = self.orders[record["id"]]
        if record["result"] != "accepted":
            if members["state"] == "connected":
                self._wrong(record, f"to connect was refused: {record['result']}")
            return
        off = members["state"] == "disconnected"
        if not self._unsure and bool(self.standing & BITS["order"]) != off:
            self._wrong(record, f"{members['state']} was accepted, and {self.standing} stands")

    def _control(self, record):
        before, after, reason = self.standing, record["standing"], record["reason"]
        begun, ended = after & ~before, before & ~after
        self.standing = after
        state = "connected"
        if after:
            state = "disconnected" if after & BY_UTILITY else "ready_for_reconnection"
        if (record["state"], record["contact"]) != (state, int(not after)):
            self._wrong(record, f"{after} stands, and it says {record['state']}")
        if not self._unsure and not self._follows(reason, begun, ended):
            self._wrong(record, f"{reason} made {after} of {before}")
        self._unsure = self._late = False
        if after:
            self._closes = None
        else:
            self._shall_close(record)
        for word, bit in BITS.items():
            if begun & bit:
                self._began[bit] = record["boot"], record["up_s"]
                self.begun[word] += 1
        if reason == "credit":
            self._cut(record)
        elif reason in BITS and begun & ~BITS["order"]:
            self._begins(record, reason)
        if ended & BITS["credit"] and reason != "undone":
            self._paid = None
            self._announced, self._grace = False, None
        if ended & BITS["limiter"] and self._settings["limit_mode"] == 2:
            boot, up_s = self._began.get(BITS["limiter"], (0, 0))
            if boot == record["boot"] and record["up_s"] - up_s < (
                self._settings["limit_reclose_s"] - CLOSES_WITHIN_S
            ):
                self._wrong(record, f"the limiter reclosed after {record['up_s'] - up_s} s")

    def _follows(self, reason, begun, ended):
        """True if a change of causes is what its reason may change."""
        if reason in BITS and begun == BITS[reason] and not ended:
            return True
        if reason == "order":
            lifts = BY_UTILITY | (BITS["credit"] if self._closed else 0)
            return not begun and ended & lifts == ended != 0
        if reason == "account" and not self._handed_on:
            return False
        if reason in ("recharge", "mode", "ledger_lost", "partial", "undone", "account"):
            return (begun, ended) == (0, BITS["credit"])
        return reason == "ended" and not begun and ended & BY_ITSELF == ended != 0

    def _begins(self, record, reason):
        settings = self._settings
        allowed = {
            "limiter": settings["limit_mode"] == 2,
            "over_current": settings["trip_current_ma"] > 0,
            "tamper": settings["tamper_cut"] > 0,
        }.get(reason, True)
        if not allowed:
            self._wrong(record, f"{reason} is not set")
        if record["up_s"] < STARTING_S:
            self._wrong(record, f"{reason} {record['up_s']} s after a start")

    def _cut(self, record):
        """A cut for want of credit: everything that must not be at it."""
        settings = self._settings
        at = datetime.fromtimestamp(record["utc_s"] + IST_S, UTC)
        for wrong, text in (
            (not record["time_valid"], "at an unknown time"),
            (not self._is_open_at(at), f"outside the window, at {at:%a %H:%M}"),
            (record["up_s"] < STARTING_S, f"{record['up_s']} s after a start"),
            (self._postpaid, "in payment mode credit"),
            (self._closed, "of a closed account"),
            (self._lost, "without a ledger"),
            (not settings["cut_mode"], "though it only warns"),
            (not self._announced, "without its warning, or in grace"),
            (self._available(record) > 0, f"with {self._available(record)} mp left"),
        ):
            if wrong:
                self._wrong(record, f"a cut {text}")

    def _is_open_at(self, at):
        """True if a cut is allowed at a local time."""
        settings, calendar = self._settings, self._calendar
        minute = at.hour * 60 + at.minute

        def covers(days, start_min, end_min):
            if start_min <= end_min:
                return days >> at.weekday() & 1 and start_min <= minute < end_min
            begun_days = days >> (at.weekday() - 1) % 7
            return (days >> at.weekday() & 1 and minute >= start_min) or (
                begun_days & 1 and minute < end_min
            )

        window = [settings[f"window_{name}"] for name in ("days", "start_min", "end_min")]
        return (
            any(covers(*row) for row in calendar.get("windows", [window]))
            and not any(covers(*row) for row in calendar.get("happy", []))
            and f"{at:%Y-%m-%d}" not in calendar.get("holidays", [])
        )

    def _overdue(self, record):
        """A recharge, or another account, closes within a second; `record` is one behind it."""
        boot, up_s = self._paid
        since_s = record["up_s"] - (up_s if record["boot"] == boot else STARTING_S)
        if record["boot"] >= boot and since_s > CLOSES_WITHIN_S:
            self._paid = None
            by = "another account" if self._handed_on else "a recharge"
            self._wrong(record, f"{by} has not ended the cut")


def judge_supply(meter, records, orders, opened=None):
    """A Supply that has taken the records of a meter, in their order."""
    supply = Supply(meter, orders, opened)
    for record in records:
        supply.take(record)
    return supply
