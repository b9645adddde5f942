"""Every state that the credit rule and the causes of a cut can reach, not a sample of them.

Time goes by the hour and debt by steps, which are a few: the settings are so small that each limit
is met. At each step every set of holds of `HOLDS` is tried. What must hold is said anew here, from
what was told and how much time has passed, not from the rule's own members.
"""

from typing import NamedTuple

from firmware.core import events
from firmware.relay import arbitration
from firmware.relay.arbitration import (
    CAUSES,
    CREDIT,
    OUTSIDE,
    SENSOR_FAULT,
    SERVER_DOWN,
    TEST,
    UNDATED,
    WARN_ONLY,
    WARNED,
)
from firmware.relay.credit_rule import CUT, DUE, GRACE, IN_CREDIT, CreditRule
from host_tests.fakes.relay import rule_config

HOUR_S = 3600
HOUR_MS = 3600000
GRACE_H = 2
DEBT_MAX = 3
ENOUGH = 9
"""A recharge that is sufficient for every debt."""

NOW_UTC_S = 1767591000
SMALL = {
    "grace_s": GRACE_H * HOUR_S,
    "undated_limit_h": 1,
    "undated_debt_cap_mp": 1,
    "offline_debt_cap_mp": 2,
}
SETTINGS = {
    "as shipped": {},
    "half the debt restores": {"restore_percent": 50},
    "all the debt restores": {"restore_percent": 100},
    "a cap of debt": {"debt_cap_mp": 1, "restore_percent": 50},
    "warn only": {"cut_mode": 0, "restore_percent": 50},
    "outages count": {"grace_counts_outage": 1, "restore_percent": 50},
    "no grace": {"grace_s": 0, "restore_percent": 50},
}

# One of each kind: an unknown time, what its end lifts, what only warns, and what nothing lifts.
# The server's silence is a state of its own, as it begins and ends with an event.
KINDS = (UNDATED, OUTSIDE, WARN_ONLY, SENSOR_FAULT)
HOLDS = tuple(
    sum(bit for place, bit in enumerate(KINDS) if number >> place & 1) for number in range(16)
)

OTHERS = tuple(1 << place for place in range(6) if 1 << place != CREDIT)


class Told(NamedTuple):
    """What a consumer could know, of the present want of credit."""

    silent: bool = False  # the server, now
    unheard: bool = False  # it was, since a grace began
    passed_h: int = 0  # since a grace began: hours that count, up to the grace
    undated_h: int = 0  # since then: hours with power and without a time
    warned: bool = False  # 1003 was told
    undated: bool = False  # 1061 was told
    partials: int = 0
    at_cap: bool = False  # a grace was given at the cap of debt
    at_end: bool = False  # one was given at the end of a silence
    would: bool = False  # 1060 was told since a grace began

    def anew(self):
        """In credit again: nothing of it counts any more."""
        return Told(silent=self.silent)


class Node(NamedTuple):
    """The credit part of a state."""

    rule: tuple
    debt: int | None  # None: in credit
    told: Told


class Broken(AssertionError):
    """A promise is broken."""


def require(holds, *what):
    if not holds:
        raise Broken(" ".join(str(part) for part in what))


class Search:
    """All states under some settings. `cuts`, `restorations`: how many different ones were seen."""

    def __init__(self, rule_class=CreditRule, **settings):
        self.config = rule_config(**{**SMALL, **settings})
        self.grace_h = self.config.grace_s // HOUR_S
        self.rule = rule_class(self.config)
        self.cuts = self.restorations = 0
        self._settled = {}
        self._successors = {}
        self._behind = {}
        self.nodes = self._credit_nodes()
        self.states = self._all_states()

    # --- credit ------------------------------------------------------------------------------

    def _credit_nodes(self):
        first = self._first()
        seen, waiting = {first}, [first]
        while waiting:
            node = waiting.pop()
            for supplied in (True, False):
                for successor in self.successors(node, supplied):
                    if successor not in seen:
                        seen.add(successor)
                        waiting.append(successor)
        return seen

    def successors(self, node, supplied):
        """The nodes that one event of the world leads to, with any holds. supplied: the contact is
        closed."""
        key = (node, supplied)
        if key not in self._successors:
            found = {
                self._step(node, happened, holds)
                for happened in self._events(node, supplied)
                for holds in HOLDS
            }
            self._successors[key] = found
        return self._successors[key]

    def _events(self, node, supplied):
        yield ("hour with power" if supplied else "hour without"), 0
        yield "hour without", 0
        yield "restart", 0
        yield "server heard", 0
        yield "server silent", 0
        yield "another account", 0
        yield "another mode", 0
        if node.debt is None or node.debt < DEBT_MAX:
            yield "consume", 1
        if node.debt is not None:
            for amount in (1, 2, ENOUGH):
                yield "recharge", amount
        if node.rule[0] == CUT:
            yield "power fails before the contact opens", 0

    def _step(self, node, happened, holds):
        rule = self.rule
        rule.restore(list(node.rule))
        debt, told = node.debt, node.told
        what, amount = happened
        if what.startswith("hour"):
            told = self._hour(told, what == "hour with power", holds)
        elif what == "server heard":
            rule.apply_event(events.LINK_HEARD, 0)
            told = told._replace(silent=False)
        elif what == "server silent":
            rule.apply_event(events.LINK_SILENT, 0)
            told = told._replace(silent=True, unheard=told.unheard or rule.word in (GRACE, DUE))
        elif what in ("another account", "another mode"):
            (rule.open_account if what == "another account" else rule.begin_anew)()
            if rule.word == IN_CREDIT:
                told = told.anew()
        elif what == "consume":
            debt = 0 if debt is None else debt + amount
        elif what == "recharge":
            rule.apply_recharge(amount)
            debt = None if amount > debt else debt - amount
        elif what == "power fails before the contact opens":
            rule.apply_control("undone", 0, debt)
            told = told._replace(warned=True, unheard=told.silent)
        moved = rule.word not in (node.rule[0], IN_CREDIT)
        require(not moved or (node.rule[0], rule.word) == (CUT, DUE), what, "moved the state")
        holds |= SERVER_DOWN if told.silent else 0
        key = (self._canonical(), debt, told, holds)
        if key not in self._settled:
            told = self._settle(debt, told, holds)
            require((rule.word == IN_CREDIT) == (debt is None), "credit and state", node, happened)
            self._settled[key] = Node(self._canonical(), debt, told)
        return self._settled[key]

    def _hour(self, told, supplied, holds):
        dated = not holds & UNDATED
        self.rule.run(NOW_UTC_S if dated else None, HOUR_MS, supplied)
        if (dated and (supplied or self.config.grace_counts_outage)) or (supplied and told.undated):
            return told._replace(passed_h=min(told.passed_h + 1, self.grace_h))
        if supplied and self.rule.word in (GRACE, DUE):
            return told._replace(undated_h=min(told.undated_h + 1, self.grace_h))
        return told

    def _canonical(self):
        """The rule's state, without differences that nothing depends on."""
        state = self.rule.state()
        word, left_s, undated_s, *flags, cut_debt, paid = state
        undated_s = min(undated_s, (GRACE_H + 1) * HOUR_S)
        paid = min(paid, max(cut_debt, 1))
        if word != CUT:
            cut_debt = paid = 0
        return (word, left_s, undated_s, *flags, cut_debt, paid)

    def _settle(self, debt, told, holds):
        """Does what the rule wants until it wants nothing, and judges each step."""
        for _ in range(6):
            done = self.decide(debt, told, holds)
            if done is None:
                return told
            told = done
        raise Broken(f"it never comes to rest: {debt} {told} {holds}")

    def decide(self, debt, told, holds):
        """Does and judges the one thing that the rule wants now; returns what is told then, None if
        it wants nothing."""
        rule = self.rule
        word = rule.word
        step = rule.next(debt is None, debt or 0, holds)
        require(rule.word == word, "deciding moved the state")
        if step is None:
            self._must_be_free(debt, told, holds)
            return None
        action, value = step
        if action == "event":
            return self._event(debt, told, holds, *value)
        if action == "cut":
            self._judge_cut(debt, told, holds)
            rule.apply_control("credit", CREDIT, debt)
            return told._replace(warned=False, unheard=False)
        return self._restore(value, debt, told)

    def _event(self, debt, told, holds, code, detail):
        rule = self.rule
        before = rule.word
        rule.apply_event(code, detail or 0)
        if code == events.CREDIT_EXHAUSTED:
            cuts_again = before == DUE and told.would and not holds & WARN_ONLY
            require(before == IN_CREDIT or cuts_again, code, before, told)
            require(rule.word == GRACE and (self.config.cut_mode or not told.would), code)
            require(detail == self.config.grace_s, code, detail)
            return Told(silent=told.silent, unheard=told.silent)
        if code == events.IN_CREDIT:
            require(debt is None and before in (GRACE, DUE) and rule.word == IN_CREDIT, code)
            return told.anew()
        require(debt is not None, code, "in credit")
        if code == events.GRACE_OVER:
            require((before, rule.word) == (GRACE, DUE), code, before)
            self._grace_was_full(told)
            return told._replace(warned=True)
        if code == events.UNDATED_CUT:
            require(holds & UNDATED and rule.word == GRACE and detail >= HOUR_S, code)
            require(not told.undated and debt > self.config.undated_debt_cap_mp, code, told)
            # The undated hours count as well now, but for the last one, which begins.
            passed_h = min(told.passed_h + told.undated_h, max(0, self.grace_h - 1))
            return told._replace(
                undated=True, undated_h=0, warned=False, would=False, passed_h=passed_h
            )
        if code == events.OFFLINE_GRACE:
            require((before, rule.word) == (DUE, GRACE) and told.unheard, code, told)
            require(detail == self.config.grace_s, code, detail)
            told = told._replace(
                passed_h=0, undated_h=0, warned=False, would=False, unheard=told.silent
            )
            if told.silent:
                require(debt >= self.config.offline_debt_cap_mp, "a grace below the cap", debt)
                require(not told.at_cap, "a second grace at the cap", told)
                return told._replace(at_cap=True)
            require(not told.at_end, "a second grace behind a silence", told)
            return told._replace(at_end=True)
        warns = not self.config.cut_mode or holds & WARN_ONLY
        require(code == events.WOULD_CUT and warns, code, holds)
        self._judge_cut(debt, told, holds | WARN_ONLY, WARN_ONLY)
        return told._replace(would=True)

    def _grace_was_full(self, told):
        require(told.passed_h >= self.grace_h, "the grace was not full", told)

    def _judge_cut(self, debt, told, holds, allowed=0):
        """A cut: after a grace and its warning, without credit, and nothing holds it."""
        self.cuts += not allowed
        require(debt is not None, "cut in credit")
        require(self.rule.word == DUE and told.warned, "cut without a warning", told)
        require(allowed or self.config.cut_mode, "cut in the mode that only warns")
        require(not told.would, "cut without a grace behind the mode that only warns")
        self._grace_was_full(told)
        if holds & UNDATED and told.undated and debt > self.config.undated_debt_cap_mp:
            allowed |= UNDATED | OUTSIDE | WARNED
        if told.unheard:
            given = told.at_cap if told.silent else told.at_end
            require(given, "cut without the grace behind a silence", told)
        if debt >= self.config.offline_debt_cap_mp:
            allowed |= SERVER_DOWN
        require(not holds & ~allowed, "cut while held by", arbitration.hold_word(holds & ~allowed))

    def _must_be_free(self, debt, told, holds):
        """Nothing is to be done: a cut that nothing holds is not forgotten."""
        word = self.rule.word
        if word == DUE and not holds:
            require(not self.config.cut_mode, "not cut, though nothing holds it", told)
        if word == GRACE and not holds & UNDATED:
            require(self.rule.grace_left_s, "the grace has no end", told)

    def _restore(self, reason, debt, told):
        self.restorations += 1
        rule = self.rule
        require(rule.word == CUT, "restored without a cut")
        if reason == "partial":
            share = self.config.restore_percent
            cut_debt, paid = rule.state()[-2:]
            require(share and 100 * paid >= share * cut_debt, "a share restored", paid, cut_debt)
            require(paid and not told.partials and debt is not None, "a second share", told)
            cap = self.config.debt_cap_mp
            require(not cap or debt <= cap, "a share restored above the cap of debt", debt)
            rule.apply_control("partial", 0, debt)
            require(rule.grace_left_s == self.config.grace_s, "a share gave no full grace")
            return told._replace(
                partials=1, passed_h=0, undated_h=0, warned=False, unheard=told.silent
            )
        require(reason == "recharge" and debt is None, "restored without credit")
        rule.apply_control("recharge", 0, 0)
        return told.anew()

    # --- with the other causes ---------------------------------------------------------------

    def _all_states(self):
        """(node, other causes) of every state; each is judged."""
        first = (self._first(), 0)
        seen, waiting = {first}, [first]
        while waiting:
            state = waiting.pop()
            self._judge_state(*state)
            for successor in self._reached(*state):
                if successor not in seen:
                    seen.add(successor)
                    waiting.append(successor)
        return seen

    def _first(self):
        return Node(tuple(CreditRule(self.config).state()), None, Told())

    @staticmethod
    def standing(node, others):
        return others | (CREDIT if node.rule[0] == CUT else 0)

    def _reached(self, node, others):
        _state, contact, _reason = arbitration.decide(self.standing(node, others))
        for successor in self.successors(node, contact == 1):
            # A local test is behind a restart no more; one that runs is no matter of credit.
            yield successor, others
            yield successor, others & ~TEST
        for cause in OTHERS:
            if others & cause:
                yield node, others & ~cause
            elif cause != TEST or not self.standing(node, others):
                yield node, others | cause

    def _judge_state(self, node, others):
        standing = self.standing(node, others)
        require(0 <= standing <= CAUSES, "no set of causes", standing)
        _state, contact, reason = arbitration.decide(standing)
        require(contact == (not standing), "the contact", standing)
        require((reason == "") == (not standing), "the reason", standing)
        for paid in self._paid(node):
            left = self.standing(paid, others)
            closed = arbitration.decide(left)[1]
            require(closed == (not others), "a sufficient recharge left", left)

    def _paid(self, node):
        """The nodes behind a sufficient recharge in a cut, with any holds."""
        if node.rule[0] != CUT:
            return ()
        if node not in self._behind:
            self._behind[node] = {self._step(node, ("recharge", ENOUGH), h) for h in HOLDS}
        return self._behind[node]


def every_set_of_holds(search, most=None):
    """Each way to be due, or `most` of them, with each of the 16,384 sets of holds in which the
    server is as it knows; returns how many it judged."""
    ways = [node for node in search.nodes if node.rule[0] == DUE][:most]
    for node in ways:
        for holds in range(arbitration.HOLDS + 1):
            if node.told.silent != bool(holds & SERVER_DOWN):
                continue
            search.rule.restore(list(node.rule))
            search.decide(node.debt, node.told, holds)
    return len(ways) * (arbitration.HOLDS + 1) // 2


def run():
    """Prints a row for each settings; returns the number of all states."""
    titles = ("settings", "rule states", "with causes", "cuts", "restorations", "sets of holds")
    print(f"{titles[0]:<24}" + "".join(f"{title:>15}" for title in titles[1:]))
    total = 0
    for name, settings in SETTINGS.items():
        search = Search(**settings)
        counts = (len(search.nodes), len(search.states), search.cuts, search.restorations)
        counts += (every_set_of_holds(search),)
        print(f"{name:<24}" + "".join(f"{count:>15,}" for count in counts), flush=True)
        total += len(search.states)
    print(f"states {total:,}: each has its decision, and no promise is broken in any")
    return total
