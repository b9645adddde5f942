"""When a supply is cut for want of credit, and when it is restored: a table and a window.

    in_credit --exhausted--> grace --grace over--> due --window open--> cut
        ^________________________ in credit again _______________________|

Doubt never cuts: while the time is unknown the grace does not run and no window is open. The
grace is a countdown of supplied seconds, so clock steps neither shorten nor lengthen it.

The utility's order to disconnect is a second cause beside it (`CONTROL`): each is lifted by itself
only, and the contact is closed when neither stands.
Tests: host_tests/unit/test_rules.py (the whole table).
"""

from firmware.core.civil import DAY_S

IN_CREDIT = "in_credit"
GRACE = "grace"
DUE = "due"
CUT = "cut"
STATES = (IN_CREDIT, GRACE, DUE, CUT)

# Events of a tick, and what to do on a transition.
POSITIVE = "positive"
EXHAUSTED = "exhausted"
GRACE_OVER = "grace_over"
WINDOW = "window"

BEGIN_GRACE = "begin_grace"
ANNOUNCE_CUT = "announce_cut"
OPEN = "open"
CLOSE = "close"
END_GRACE = "end_grace"

TABLE = {
    (IN_CREDIT, POSITIVE): (IN_CREDIT, None),
    (IN_CREDIT, EXHAUSTED): (GRACE, BEGIN_GRACE),
    (IN_CREDIT, GRACE_OVER): (GRACE, BEGIN_GRACE),
    (IN_CREDIT, WINDOW): (GRACE, BEGIN_GRACE),
    (GRACE, POSITIVE): (IN_CREDIT, END_GRACE),
    (GRACE, EXHAUSTED): (GRACE, None),
    (GRACE, GRACE_OVER): (DUE, ANNOUNCE_CUT),
    (GRACE, WINDOW): (DUE, ANNOUNCE_CUT),
    (DUE, POSITIVE): (IN_CREDIT, END_GRACE),
    (DUE, EXHAUSTED): (DUE, None),
    (DUE, GRACE_OVER): (DUE, None),
    (DUE, WINDOW): (CUT, OPEN),
    (CUT, POSITIVE): (IN_CREDIT, CLOSE),
    (CUT, EXHAUSTED): (CUT, None),
    (CUT, GRACE_OVER): (CUT, None),
    (CUT, WINDOW): (CUT, None),
}

# (cut for want of credit, disconnected by order): (state of the disconnect control, contact, why
# it is open)
CONTROL = {
    (False, False): ("connected", 1, ""),
    (True, False): ("ready_for_reconnection", 0, "credit"),
    (False, True): ("disconnected", 0, "order"),
    (True, True): ("disconnected", 0, "order"),
}


def event(available_mp, grace_left_s, window_open):
    """The one event of this tick. Exactly 0 available is exhausted."""
    if available_mp > 0:
        return POSITIVE
    if grace_left_s > 0:
        return EXHAUSTED
    return WINDOW if window_open else GRACE_OVER


def minute_of_day(utc_s, utc_offset_s):
    """Local minute of the day, 0 to 1439."""
    return (utc_s + utc_offset_s) % DAY_S // 60


def window_open(utc_s, utc_offset_s, start_min, end_min):
    """True while a cut is allowed: start <= local minute < end. `utc_s` None (unknown): never."""
    return utc_s is not None and start_min <= minute_of_day(utc_s, utc_offset_s) < end_min


def next_window_utc_s(utc_s, utc_offset_s, start_min, end_min):
    """The first instant at or after `utc_s` at which a cut is allowed."""
    if window_open(utc_s, utc_offset_s, start_min, end_min):
        return utc_s
    midnight_utc_s = (utc_s + utc_offset_s) // DAY_S * DAY_S - utc_offset_s
    start_utc_s = midnight_utc_s + start_min * 60
    return start_utc_s if start_utc_s > utc_s else start_utc_s + DAY_S
