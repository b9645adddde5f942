"""What judges the supply in a chaos run: a good history passes, and each fault in it is found."""

import pytest

from host_tests.chaos.supply import BITS, judge_supply

METER = "BJ-TEST-01"
NOON_UTC_S = 1_770_013_800  # Monday 2026-02-02 12:00 in India
DAY_S = 86_400
ORDERS = {
    "off": {"state": "disconnected", "expires_utc_s": 1},
    "on": {"state": "connected"},
}


class History:
    """Records of one meter, an hour apart; `found` is what the judge says of them."""

    def __init__(self):
        self.records = []
        self.boot = 1
        self.up_s = 1000
        self.utc_s = NOON_UTC_S - 2 * DAY_S
        self.standing = 0

    def add(self, type_, after_s=3600, **members):
        self.up_s += after_s
        self.utc_s += after_s
        self.records.append(
            {
                "type": type_,
                "seq": len(self.records) + 1,
                "boot": self.boot,
                "up_s": self.up_s,
                "utc_s": self.utc_s,
                "time_valid": 1,
                "balance_mp": -100,
                **members,
            }
        )
        return self

    def event(self, code, detail=0, **more):
        return self.add("event", code=code, detail=detail, **more)

    def control(self, reason, standing, **more):
        state = "connected"
        if standing:
            state = "disconnected" if standing & 3 else "ready_for_reconnection"
        members = {"state": state, "contact": int(not standing), "reason": reason}
        return self.add("control", **{"standing": standing, **members, **more})

    def order(self, name, result="accepted", **more):
        return self.add("order", 0, id=name, kind="relay", result=result, **more)

    def settings(self, **document):
        return self.add("settings", document=document)

    def restarts(self):
        self.boot += 1
        self.up_s = 0
        return self

    def warned(self):
        """The credit is exhausted, and its grace of a day is over at noon on Monday."""
        self.event(1002, DAY_S)
        return self.event(1003, 0, after_s=NOON_UTC_S - self.utc_s)

    def cut(self, **more):
        return self.warned().control("credit", BITS["credit"], after_s=60, **more)

    def recharge(self, **more):
        return self.add("credit", kind="recharge", **{"balance_mp": 5, **more})

    def opens(self, after_s=0, **more):
        return self.event(301, 1, after_s=after_s, **more)

    def closes(self, after_s=0):
        return self.event(302, 2, after_s=after_s)

    opened = None

    @property
    def found(self):
        """What is wrong, in words."""
        supply = judge_supply(METER, self.records, ORDERS, self.opened)
        return [str(violation) for violation in supply.found]

    def says(self, text):
        """True if exactly one thing is wrong, and its words have `text`."""
        found = self.found
        return len(found) == 1 and text in found[0]


@pytest.fixture
def history():
    return History()


def test_a_good_history_passes(history):
    history.cut().recharge().control("recharge", 0, after_s=1)
    history.control("order", 1).order("off").control("order", 0).order("on")
    history.settings(limit_mode=2, tamper_cut=3, trip_current_ma=1, limit_reclose_s=60)
    history.control("limiter", 8, after_s=120).control("ended", 0, after_s=60)
    history.control("over_current", 4).control("ended", 0)
    history.control("test", 32).control("ended", 0, after_s=5)
    history.control("tamper", 2).control("order", 0).order("on")
    assert history.found == []
    assert judge_supply(METER, history.records, ORDERS).begun == dict.fromkeys(BITS, 1)


def test_a_contact_that_opens_for_a_cut_when_it_must_not(history):
    assert history.cut().opens().found == []
    assert History().cut().opens(3600).says("opened for a cut outside the window, at Mon 13:01")
    # It is told when the current has been looked at, which may be behind the window's end.
    last = History().warned().control("credit", 16, utc_s=NOON_UTC_S + 3599)
    last.utc_s = NOON_UTC_S + 3599
    assert last.opens(25).found == []
    assert last.opens(25).found == []
    last.records[-2]["utc_s"] += 1
    assert last.says("opened for a cut outside the window, at Mon 13:00")
    assert History().cut().opens(time_valid=0).says("opened for a cut at an unknown time")
    # Again behind one that has slipped closed, and for another cause as well: at any hour.
    assert history.opens(7200).found == []
    ordered = History().cut().control("order", 17).order("off").opens(9 * 3600)
    assert ordered.found == []
    closed = History().cut().opens().recharge().control("recharge", 0, after_s=0).closes()
    closed.event(1004).event(1002, 3600).event(1003, 0)
    again = {"utc_s": NOON_UTC_S, "balance_mp": -1}
    assert closed.control("credit", 16, **again).opens(7200).says("opened for a cut outside")


def test_a_contact_that_opens_for_a_cut_right_behind_a_start(history):
    assert history.cut().restarts().opens(3).says("opened for a cut 3 s after a start")
    # It had opened before the power failed, and could not be told.
    history.opened = {1}
    assert history.found == []
    history.opened = {1, 2}
    assert history.says("opened for a cut 3 s after a start")


def test_what_is_told_late_of_an_opening_is_not_judged():
    assert History().cut().event(1035, after_s=0).opens(7200).found == []
    lost = History().cut()
    lost.opens(7200).records[-1]["seq"] += 1
    assert lost.found == []


def test_a_contact_that_does_not_close(history):
    def paid():
        return History().cut().opens().recharge().control("recharge", 0, after_s=1)

    assert paid().closes(1).found == []
    assert paid().closes(2).says("the contact has not closed by")
    assert paid().event(1012).says("the contact has not closed by")
    # It is told that it does not follow, and closes when it can.
    assert paid().event(1063, 1, after_s=1).event(1064, 1063).closes().found == []
    assert paid().event(1063, 1, after_s=2).says("the contact has not closed by")
    # The end of another cause has it close as well, and another cut keeps it open.
    ordered = History().control("order", 1).order("off").opens().control("order", 0).order("on")
    assert ordered.event(1012).says("the contact has not closed by")
    off = paid().control("order", 1, after_s=1).order("off").event(1012)
    assert off.found == []


def test_a_contact_that_may_close_later(history):
    def restarted(after_s):
        book = History().cut().opens().recharge().control("recharge", 0, after_s=0)
        return book.restarts().closes(after_s)

    assert restarted(60).found == []
    assert restarted(61).says("the contact has not closed by 60 s")

    def soon(after_s):
        book = History().cut().opens().recharge(after_s=1)
        return book.control("recharge", 0, after_s=0).closes(after_s)

    assert soon(25).found == []
    assert soon(27).says("the contact has not closed by")
    refused = History().cut().opens().recharge().control("recharge", 0, after_s=0)
    assert refused.event(1034).event(1035).closes().found == []


def test_causes_that_overlap(history):
    history.cut().control("order", 17).order("off").recharge().control("recharge", 1, after_s=0)
    history.control("order", 0).order("on")
    assert history.found == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"time_valid": 0}, "at an unknown time"),
        ({"utc_s": NOON_UTC_S + 3600}, "outside the window, at Mon 13:00"),
        ({"utc_s": NOON_UTC_S - DAY_S}, "outside the window, at Sun 12:00"),
        ({"up_s": 59}, "59 s after a start"),
        ({"balance_mp": 1}, "with 1 mp left"),
        ({"contact": 1}, "16 stands, and it says ready"),
        ({"state": "disconnected"}, "16 stands, and it says disconnected"),
    ],
)
def test_a_cut_that_must_not_be(history, changes, text):
    assert history.cut(**changes).says(text)


def test_a_calendar_replaces_the_windows_of_the_settings():
    def cut_at(hour, **calendar):
        spoiled = History().add("calendar", 0, document=calendar).warned()
        return spoiled.control("credit", 16, utc_s=NOON_UTC_S + (hour - 12) * 3600)

    evening = {"windows": [[1, 1020, 1200], [126, 0, 60]]}
    assert cut_at(17, **evening).found == []
    assert cut_at(12, **evening).says("outside the window, at Mon 12:00")
    assert cut_at(0, **evening).says("outside the window, at Mon 00:00")
    # Happy hours may run over midnight.
    happy = {"windows": [[127, 0, 1440]], "happy": [[127, 1320, 420]]}
    assert cut_at(8, **happy).found == []
    assert cut_at(23, **happy).says("outside the window")
    assert cut_at(6, **happy).says("outside the window")
    barred = {"windows": [[127, 0, 1440]], "holidays": ["2026-02-02"]}
    assert cut_at(12, **barred).says("outside the window")
    # Without a document the settings count again.
    assert cut_at(12).found == []


def test_a_cut_without_warning_or_in_grace(history):
    assert (
        History().control("credit", 16, utc_s=NOON_UTC_S).says("without its warning, or in grace")
    )
    history.event(1002, DAY_S).control("credit", 16, utc_s=NOON_UTC_S)
    assert history.says("without its warning, or in grace")


def test_a_cut_after_the_credit_came_back(history):
    history.warned().event(1004).control("credit", 16, utc_s=NOON_UTC_S)
    assert history.says("without its warning, or in grace")


def test_a_second_grace_has_to_end_as_well(history):
    history.warned().event(1065, DAY_S, after_s=0).control("credit", 16, after_s=60)
    assert history.says("without its warning, or in grace")


def test_a_grace_that_was_too_short(history):
    assert history.event(1002, DAY_S).event(1003, 0).says("a grace of 86400 s was over in 3600 s")
    # Another boot's seconds are not known.
    again = History()
    again.event(1002, DAY_S).restarts().event(1003, 0)
    assert again.found == []


def test_a_cut_by_mode_account_ledger_and_settings():
    for text, spoil in (
        ("in payment mode credit", lambda h: h.add("mode", 0, mode="credit")),
        ("of a closed account", lambda h: h.add("account", 0, action="closed")),
        ("without a ledger", lambda h: h.event(1032, after_s=0)),
        ("though it only warns", lambda h: h.add("settings", 0, document={"cut_mode": 0})),
        ("with 50 mp left", lambda h: h.add("emergency", 0, limit_mp=150)),
        ("with 900 mp left", lambda h: h.add("settings", 0, document={"floor_mp": -1000})),
    ):
        spoiled = spoil(History().warned()).control("credit", 16, after_s=60)
        assert text in " ".join(spoiled.found), text


def test_a_recharge_that_does_not_close(history):
    assert history.cut().recharge().event(1012).says("a recharge has not ended the cut")
    late = History().cut().recharge().restarts().event(1012, after_s=62)
    assert late.says("a recharge has not ended the cut")
    # It is written as soon as the flash takes it, or was not enough, or another cause stands.
    assert History().cut().recharge().event(1034).event(1012).found == []
    assert History().cut().recharge(balance_mp=0).event(1012).found == []
    other = History().cut().recharge().control("recharge", 0, after_s=1).event(1012)
    assert other.found == []


def test_a_cut_whose_account_is_closed():
    def left():
        return History().cut().add("account", action="closed", document={})

    def opened(history):
        return history.add("account", action="opened", document={})

    assert left().order("on").control("order", 0).found == []
    assert opened(left()).control("account", 0, after_s=1).found == []
    assert opened(left()).event(102).says("another account has not ended the cut")
    assert left().control("account", 0).says("account made 0 of 16")
    assert History().cut().order("on").control("order", 0).says("order made 0 of 16")


def test_a_cause_that_is_forgotten_or_comes_from_nowhere(history):
    history.settings(limit_mode=2)
    assert History().control("order", 1).control("recharge", 0).says("recharge made 0 of 1")
    assert History().control("order", 17).says("order made 17 of 0")
    assert History().cut().control("order", 1).says("order made 1 of 16")
    assert History().control("start", 1).says("start made 1 of 0")
    assert History().control("ended", 0).says("ended made 0 of 0")
    # What a damaged record said of the contact nobody knows; what follows is judged again.
    lost = History().control("order", 1).event(1032).control("test", 32).control("ended", 0)
    assert lost.found == []


def test_a_cause_that_is_not_set_or_too_early(history):
    assert History().control("limiter", 8).says("limiter is not set")
    assert History().control("over_current", 4).says("over_current is not set")
    assert History().control("tamper", 2).says("tamper is not set")
    assert History().control("test", 32, up_s=3).says("test 3 s after a start")
    history.settings(limit_mode=2).control("limiter", 8).control("ended", 0, after_s=60)
    assert history.says("the limiter reclosed after 60 s")


def test_orders_to_the_contact(history):
    assert History().order("off").says("disconnected was accepted, and 0 stands")
    assert History().control("order", 1).order("on").says("connected was accepted, and 1 stands")
    assert History().order("on", "expired").says("to connect was refused: expired")
    assert History().order("off", "expired").found == []
