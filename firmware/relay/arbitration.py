"""Who may open the contact, and who wins: one table from all causes to state, contact and reason.

A cause stands until what began it ends; the contact is closed exactly while none stands. Of
several the highest is in force: its word is the reason, and a cause of the utility's keeps a
recharge from closing. States and words are those of DLMS disconnect control.

A hold is a circumstance in which a cause must not begin. It ends no cause that stands.
Tests: host_tests/unit/test_arbitration.py (every set of causes and of holds).
"""

from firmware.core.shim import const

# Causes, the highest first.
ORDER = const(1)
TAMPER = const(2)
OVER_CURRENT = const(4)
LIMITER = const(8)
CREDIT = const(16)
TEST = const(32)
CAUSES = const(63)
"""All of them."""

_WORDS = "order tamper over_current limiter credit test"
BY_UTILITY = const(3)
"""Those that nothing but an order ends."""

COMMISSIONING = const(1)
LEDGER_LOST = const(2)
CREDIT_MODE = const(4)
UNDATED = const(8)
SENSOR_FAULT = const(16)
STARTING = const(32)
UNVERIFIED = const(64)  # an order may be there that cannot be decided: no flash, no memory
SERVER_DOWN = const(128)
SWITCHED = const(256)  # to prepayment, not long ago
WARNED = const(512)  # too recently
ACCOUNT_CLOSED = const(1024)
WARN_ONLY = const(2048)
OUTSIDE = const(4096)  # no window now
INTERVAL = const(8192)  # the minimum time between two operations
HOLDS = const(16383)
"""All of them."""

# Holds by their bits, 1 first, and the same words, the most important first.
_HOLD_WORDS = (
    "commissioning ledger_lost credit_mode time_unknown sensor_fault start order server_down "
    "switched warning closed warn_only window interval"
)
_HOLDS_BY_RANK = (
    "commissioning ledger_lost closed credit_mode start order sensor_fault time_unknown "
    "server_down switched warning warn_only window interval"
)

FORBIDS = {
    ORDER: 0,  # it was verified
    TAMPER: COMMISSIONING | SENSOR_FAULT | STARTING | UNVERIFIED,
    OVER_CURRENT: COMMISSIONING | SENSOR_FAULT | STARTING | INTERVAL,
    LIMITER: COMMISSIONING | SENSOR_FAULT | STARTING | INTERVAL,
    CREDIT: HOLDS,
    TEST: COMMISSIONING
    | LEDGER_LOST
    | SENSOR_FAULT
    | STARTING
    | UNVERIFIED
    | ACCOUNT_CLOSED
    | INTERVAL,
}
"""Cause to the holds in which it must not begin."""


def words(standing):
    """The words of a set of causes, the highest first."""
    return [word for place, word in enumerate(_WORDS.split(" ")) if standing >> place & 1]


def decide(standing):
    """(state, contact, reason) for a set of causes; ValueError if it is none. Contact 1 is closed;
    the reason is the word of the highest cause, "" if none stands."""
    if not 0 <= standing <= CAUSES:
        raise ValueError("standing must be from 0 to 63")
    if not standing:
        return "connected", 1, ""
    state = "disconnected" if standing & BY_UTILITY else "ready_for_reconnection"
    return state, 0, words(standing)[0]


def may_begin(cause, holds):
    """True unless one of the holds forbids a cause to begin. KeyError if it is none."""
    return not FORBIDS[cause] & holds


def hold_word(holds):
    """The most important word of why a cause does not begin, "" if nothing holds it."""
    if holds:
        by_bit = _HOLD_WORDS.split(" ")
        for word in _HOLDS_BY_RANK.split(" "):
            if holds >> by_bit.index(word) & 1:
                return word
    return ""
