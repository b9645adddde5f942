"""When a supply is cut for want of credit, and when it is restored: a table of states and events.

    in_credit --exhausted--> grace --grace over--> due --nothing holds it--> cut
        ^ ^______________________|____________________|^____ undone ___________|
        |_____________________ credit again __________________________________|

Invariants
  - Nothing but time moves without `apply_*`: what the caller has persisted, live as at recovery.
  - A cut has an event 1003 before it, and that a full grace; the grace is a countdown of supplied
    seconds, so clock steps neither shorten nor lengthen it.
  - While the time is unknown the grace stands still and nothing is cut; but not for ever: event
    1061 tells the end of that, and from there the grace runs without a time, too.
  - While the server is down nothing is cut below a cap of debt. A full grace follows where the cap
    is reached, and where the silence ends: each once in a want of credit.
  - A share of the debt, paid, restores once, and opens one grace, unless the debt is above its cap.
  - Who was told that a cut would be due, while there were none, has a full grace when there are.

No meter, no clock, no window: the caller says what holds a cut (relay/arbitration.py).
Tests: host_tests/unit/test_credit_rule.py, host_tests/relay (every state that can be reached).
"""

from firmware.core import events
from firmware.core.shim import const
from firmware.relay import arbitration

IN_CREDIT = "in_credit"
GRACE = "grace"
DUE = "due"
CUT = "cut"
STATES = (IN_CREDIT, GRACE, DUE, CUT)

# What is so now, and what follows: the rows and the letters of the table.
_POSITIVE = const(0)
_EXHAUSTED = const(1)
_SHARE_PAID = const(2)
_UNDATED_TOO_LONG = const(3)
_GRACE_OVER = const(4)
_SERVER_GRACE = const(5)
_ONLY_WARN = const(6)
_CUTS_AGAIN = const(7)
_FREE = const(8)

_NOTHING = const("-")
_BEGIN_GRACE = const("b")
_END_GRACE = const("e")
_WARN_UNDATED = const("u")
_ANNOUNCE_CUT = const("a")
_GIVE_GRACE = const("g")
_WOULD_CUT = const("w")
_OPEN = const("o")
_CLOSE = const("c")
_CLOSE_PARTLY = const("p")

# A row for each event, a column for each state.
TABLE = (
    "-eec"  # _POSITIVE
    "b---"  # _EXHAUSTED
    "b--p"  # _SHARE_PAID
    "buu-"  # _UNDATED_TOO_LONG
    "ba--"  # _GRACE_OVER
    "bag-"  # _SERVER_GRACE
    "baw-"  # _ONLY_WARN
    "bab-"  # _CUTS_AGAIN
    "bao-"  # _FREE
)

_UNDATED_WARNING_S = const(3600)
_SWITCHED_S = const(604800)  # undated supply that stands for the days behind a switch
_BACK = const(1)  # a grace was given when the server was heard again
_CAP = const(2)  # one was given at the cap of debt
_DATED_ONLY = arbitration.UNDATED | arbitration.OUTSIDE | arbitration.WARNED


def action_of(state, event):
    """What follows from an event in a state. ValueError if it is no state."""
    return TABLE[event * 4 + STATES.index(state)]


class CreditRule:
    """The credit rule of one meter.

    config: has `grace_s`, `cut_mode`, `debt_cap_mp`, `grace_counts_outage`, `restore_percent`,
    `undated_limit_h`, `undated_debt_cap_mp`, `offline_debt_cap_mp` (docs/SPEC.md section 6).
    """

    def __init__(self, config):
        self._config = config
        self.word = IN_CREDIT
        self._ms = 0  # of a second that is counted
        self.silent = False  # the server, as was told
        self.begun = False  # a grace, and whoever counts its time has not taken note
        self._begin_anew()

    def _begin_anew(self):
        self.word = IN_CREDIT
        self.grace_left_s = self._config.grace_s
        self.undated_s = 0  # supplied without a valid time since the grace began
        self.would_cut = 0  # told for this due
        self._undated_told = 0
        self._partial = 0  # restored by a share of the debt, in this want of credit
        self._given = 0  # for a silence of the server: bits of the graces
        self._unheard = 0  # such a silence was in the present grace or behind it
        self._cut_debt_mp = 0
        self._paid_mp = 0

    def state(self):
        """The state as a list for a snapshot; `restore` takes it back."""
        return [
            self.word,
            self.grace_left_s,
            self.undated_s,
            self.would_cut,
            self._undated_told,
            self._partial,
            self._given,
            self._unheard,
            self.silent,
            self._cut_debt_mp,
            self._paid_mp,
        ]

    def restore(self, state):
        """Takes what `state` gave; of older firmware the first two."""
        self._begin_anew()
        self.word, self.grace_left_s = state[:2]
        if len(state) > 2:
            self.undated_s, self.would_cut, self._undated_told, self._partial = state[2:6]
            self._given, self._unheard, self.silent, self._cut_debt_mp, self._paid_mp = state[6:]

    def run(self, utc_s, dt_ms, supplied):
        """Time passes, `dt_ms` (0 or more) up to `utc_s` (None: unknown); call about once a second.

        supplied: False for time without power or with an open contact.
        """
        if self.word not in (GRACE, DUE) or not (supplied or self._config.grace_counts_outage):
            return
        self._ms += dt_ms
        passed_s = self._ms // 1000
        if not passed_s:
            return
        self._ms -= passed_s * 1000
        if utc_s is None:
            if not supplied:
                return
            self.undated_s += passed_s
        if self.word == GRACE and (utc_s is not None or self._undated_told):
            self.grace_left_s = max(0, self.grace_left_s - passed_s)

    def next(self, has_credit, debt_mp, holds):
        """What is to be done now: None or (action, value). The caller persists it, hands the record
        to `apply_*`, and asks again.

        has_credit: the available credit is above the floor; debt_mp: by how much it is below, at
        least 0; holds: bits of arbitration.py.

        ("event", (code, detail)), its detail None where it is the time of the earliest cut;
        ("cut", None); ("restore", "recharge" or "partial").
        """
        if has_credit and self.word == IN_CREDIT:
            return None
        action = action_of(self.word, self._event(has_credit, debt_mp, holds))
        if action == _NOTHING:
            return None
        config = self._config
        if action == _OPEN:
            return "cut", None
        if action == _CLOSE:
            return "restore", "recharge"
        if action == _CLOSE_PARTLY:
            return "restore", "partial"
        detail = 0
        if action == _BEGIN_GRACE:
            code = events.CREDIT_EXHAUSTED
            detail = config.grace_s
        elif action == _WARN_UNDATED:
            code = events.UNDATED_CUT
            # The undated seconds count as grace, and what is left is at least an hour.
            detail = max(_UNDATED_WARNING_S, self.grace_left_s - self.undated_s)
        elif action == _ANNOUNCE_CUT:
            code = events.GRACE_OVER
            detail = None
        elif action == _GIVE_GRACE:
            code = events.OFFLINE_GRACE
            detail = config.grace_s
        elif action == _WOULD_CUT:
            code = events.WOULD_CUT
        else:
            code = events.IN_CREDIT
        return "event", (code, detail)

    def _event(self, has_credit, debt_mp, holds):
        if has_credit:
            return _POSITIVE
        config = self._config
        if self.word == CUT:
            return _SHARE_PAID if self._share_paid(debt_mp) else _EXHAUSTED
        if self.word == IN_CREDIT:
            return _EXHAUSTED
        if (
            holds & arbitration.UNDATED
            and not self._undated_told
            and self.undated_s > config.undated_limit_h * 3600
            and debt_mp > config.undated_debt_cap_mp
        ):
            return _UNDATED_TOO_LONG
        if self.word == GRACE:
            return _EXHAUSTED if self.grace_left_s > 0 else _GRACE_OVER
        return self._event_of_due(debt_mp, holds)

    def _event_of_due(self, debt_mp, holds):
        left = self.holding(debt_mp, holds)
        if self._unheard and not left & arbitration.SERVER_DOWN and not self._given & self._now():
            return _SERVER_GRACE
        if self.would_cut and not left & arbitration.WARN_ONLY:
            return _CUTS_AGAIN
        if not left:
            return _FREE
        if left == arbitration.WARN_ONLY and not self.would_cut:
            return _ONLY_WARN
        return _GRACE_OVER

    def _now(self):
        """Which grace can be given now for a silence that holds no cut."""
        return _CAP if self.silent else _BACK

    def _share_paid(self, debt_mp):
        percent = self._config.restore_percent
        if self._partial or not percent or not self._paid_mp:
            return False
        if 0 < self._config.debt_cap_mp < debt_mp:
            return False
        return self._paid_mp * 100 >= self._cut_debt_mp * percent

    def holding(self, debt_mp, holds):
        """Those of some holds that keep a cut from beginning, by this rule's own exceptions."""
        config = self._config
        if not config.cut_mode:
            holds |= arbitration.WARN_ONLY
        is_long = self._undated_told and debt_mp > config.undated_debt_cap_mp
        if is_long and holds & arbitration.UNDATED:
            holds &= ~_DATED_ONLY
            if self.undated_s >= _SWITCHED_S:
                holds &= ~arbitration.SWITCHED
        if debt_mp >= config.offline_debt_cap_mp:
            holds &= ~arbitration.SERVER_DOWN
        return holds

    def apply_event(self, code, detail):
        """Takes an event of the journal."""
        if code == events.CREDIT_EXHAUSTED:
            self._begin_anew()
            self._grace(detail)
        elif code == events.UNDATED_CUT:
            self._undated_told = 1
            self._grace(detail)
        elif code == events.OFFLINE_GRACE:
            self._given |= self._now()
            self._unheard = 0
            self._grace(detail)
        elif code == events.GRACE_OVER:
            self.word = DUE
            self.grace_left_s = 0
        elif code == events.WOULD_CUT:
            self.would_cut = 1
        elif code == events.LINK_SILENT:
            self.silent = True
            if self.word in (GRACE, DUE):
                self._unheard = 1
        elif code == events.LINK_HEARD:
            self.silent = False
        elif code == events.IN_CREDIT:
            self._begin_anew()
        elif code == events.LEDGER_LOST:
            self.begin_anew()

    def apply_control(self, reason, standing, owed_mp):
        """Takes a control record; `standing`: the causes after it, `owed_mp`: by how much its
        balance is below zero, at least 0. A cut that is `undone` is due."""
        if reason == "credit":
            self.word = CUT
            self.grace_left_s = self._config.grace_s
            self.would_cut = self._unheard = 0
            self._cut_debt_mp = owed_mp
            self._paid_mp = 0
        elif reason == "partial":
            self._partial = 1
            self._grace(self._config.grace_s)
        elif reason == "undone":
            self.word = DUE
            self.grace_left_s = 0
            self._unheard = 1 if self.silent else 0
        elif self.word == CUT and not standing & arbitration.CREDIT:
            self._begin_anew()

    def apply_recharge(self, amount_mp):
        """Takes a credit record of kind recharge."""
        if self.word == CUT:
            self._paid_mp += amount_mp

    def begin_anew(self):
        """The account is closed, its mode is another, or the ledger is lost: no grace runs any
        more. A cut stands until its control record."""
        if self.word != CUT:
            self._begin_anew()

    def open_account(self):
        """There is another account: what there was is not its own, a cut neither."""
        self._begin_anew()

    def _grace(self, left_s):
        self.word = GRACE
        self.begun = True
        self.grace_left_s = left_s
        self.undated_s = 0  # each grace is a full one, also if no second of it has a time
        self.would_cut = 0
        self._ms = 0
        if self.silent:
            self._unheard = 1

    def earliest_s(self, utc_s):
        """UTC seconds before which grace and debt allow no cut, None if none is in sight. utc_s:
        now, None: unknown."""
        if utc_s is None or self.word not in (GRACE, DUE):
            return None
        left_s = self.grace_left_s
        if self._unheard and not self._given & (_BACK | _CAP if self.silent else _BACK):
            left_s += self._config.grace_s
        return utc_s + left_s
