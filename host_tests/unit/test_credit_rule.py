from itertools import product

import pytest

from firmware.core import events
from firmware.relay import arbitration as a
from firmware.relay import credit_rule
from firmware.relay.credit_rule import CUT, DUE, GRACE, IN_CREDIT, STATES, CreditRule
from host_tests.fakes.relay import rule_config

NOW_UTC_S = 1767591000
DAY_S = 86400
RUPEE_MP = 100000
# What an action makes of the state.
BECOMES = {"b": GRACE, "e": IN_CREDIT, "u": GRACE, "a": DUE, "g": GRACE, "w": DUE}
BECOMES.update({"o": CUT, "c": IN_CREDIT, "p": GRACE})


class Household:
    """A rule whose records are applied as soon as they are asked for, and kept."""

    def __init__(self, **settings):
        self.config = rule_config(**settings)
        self.rule = CreditRule(self.config)
        self.records = []
        self.utc_s = NOW_UTC_S

    def step(self, debt_mp, holds=0):
        """Asks until nothing is left to do; `debt_mp` None: in credit. Returns what was done."""
        done = []
        while True:
            step = self.rule.next(debt_mp is None, debt_mp or 0, holds)
            if step is None:
                return done
            action, value = step
            if action == "event":
                code, detail = value
                self.rule.apply_event(code, detail or 0)
                done.append(code)
            else:
                reason = value or "credit"
                standing = a.CREDIT if action == "cut" else 0
                self.rule.apply_control(reason, standing, debt_mp or 0)
                done.append(reason)
            assert len(done) < 9, done

    def run(self, seconds, dated=True, supplied=True):
        self.utc_s += seconds
        self.rule.run(self.utc_s if dated else None, seconds * 1000, supplied)

    def reboot(self):
        state = self.rule.state()
        self.rule = CreditRule(self.config)
        self.rule.restore(state)


def due(**settings):
    household = Household(**settings)
    assert household.step(0) == [events.CREDIT_EXHAUSTED]
    household.run(household.config.grace_s)
    assert household.step(0, a.OUTSIDE) == [events.GRACE_OVER]
    return household


def cut(debt_mp=0, **settings):
    household = due(**settings)
    assert household.step(debt_mp) == ["credit"]
    return household


def test_the_table_is_total_and_each_action_has_its_place():
    actions = {pair: credit_rule.action_of(*pair) for pair in product(STATES, range(9))}
    assert len(credit_rule.TABLE) == len(actions)
    assert set(actions.values()) == {"-", *BECOMES}
    for (state, event), action in actions.items():
        if action == "o":
            assert (state, event) == (DUE, 8)
        if action in ("c", "p"):
            assert state == CUT
        if state == IN_CREDIT:
            assert action == ("b" if event else "-")  # event 0: credit
        elif not event:
            assert BECOMES[action] == IN_CREDIT
    with pytest.raises(ValueError, match="tuple"):
        credit_rule.action_of("lost", 0)


def test_grace_then_the_first_moment_without_a_hold():
    household = Household()
    assert household.step(None) == []
    assert household.step(0) == [events.CREDIT_EXHAUSTED]
    assert household.rule.grace_left_s == DAY_S
    household.run(DAY_S - 1)
    assert household.step(5) == []
    household.run(1)
    assert household.step(5, a.OUTSIDE) == [events.GRACE_OVER]
    for bit in range(14):
        if 1 << bit not in (a.SERVER_DOWN, a.WARN_ONLY):
            assert household.step(5, 1 << bit) == []
    assert household.step(5) == ["credit"]
    assert household.step(5) == []
    assert household.step(None) == ["recharge"]
    assert household.rule.word == IN_CREDIT


@pytest.mark.parametrize("word", [GRACE, DUE])
def test_credit_ends_a_grace(word):
    household = Household()
    household.step(0)
    if word == DUE:
        household.run(DAY_S)
        household.step(0, a.OUTSIDE)
    assert household.rule.word == word
    assert household.step(None, a.HOLDS) == [events.IN_CREDIT]
    assert household.step(0) == [events.CREDIT_EXHAUSTED]
    assert household.rule.grace_left_s == DAY_S


def test_a_grace_counts_whole_supplied_seconds_with_a_time():
    household = Household()
    household.step(0)
    rule = household.rule
    for _ in range(3):
        rule.run(NOW_UTC_S, 700, True)
    assert rule.grace_left_s == DAY_S - 2
    rule.run(None, 5000, True)
    rule.run(NOW_UTC_S, 5000, False)
    rule.run(None, 5000, False)
    assert (rule.grace_left_s, rule.undated_s) == (DAY_S - 2, 5)


def test_a_grace_that_counts_time_without_power():
    household = Household(grace_counts_outage=1)
    household.step(0)
    household.run(3600, supplied=False)
    assert household.rule.grace_left_s == DAY_S - 3600
    household.run(3600, dated=False, supplied=False)
    assert (household.rule.grace_left_s, household.rule.undated_s) == (DAY_S - 3600, 0)


def test_the_first_grace_is_a_full_one_whatever_the_debt():
    household = Household(debt_cap_mp=100)
    assert household.rule.next(False, 101, 0) == ("event", (1002, DAY_S))


def test_above_its_cap_a_debt_gets_no_second_grace():
    household = cut(200, restore_percent=50, debt_cap_mp=99)
    household.rule.apply_recharge(100)
    assert household.step(100) == []
    household.rule.apply_recharge(1)
    assert household.step(99) == ["partial"]
    assert household.rule.grace_left_s == DAY_S


def test_warn_only_tells_once_what_it_would_have_done():
    household = due(cut_mode=0)
    assert household.step(9, a.OUTSIDE) == []
    assert household.step(9) == [events.WOULD_CUT]
    household.reboot()
    assert household.step(9) == []
    assert household.rule.would_cut == 1
    household.step(None)
    assert household.rule.would_cut == 0
    household.step(0)
    household.run(DAY_S)
    assert household.step(0) == [events.GRACE_OVER, events.WOULD_CUT]


def test_who_was_told_what_would_have_been_done_has_a_full_grace_before_it_is():
    household = due(cut_mode=0)
    assert household.step(9) == [events.WOULD_CUT]
    household.config.cut_mode = 1
    household.reboot()
    assert household.step(9, a.OUTSIDE) == [events.CREDIT_EXHAUSTED]
    household.run(DAY_S - 1)
    assert household.step(9) == []
    household.run(1)
    assert household.step(9) == [events.GRACE_OVER, "credit"]


def undated_household(**settings):
    household = Household(**settings)
    household.step(0, a.UNDATED)
    return household


def test_an_unknown_time_holds_a_cut_but_not_for_ever():
    household = undated_household(undated_limit_h=72, undated_debt_cap_mp=300 * RUPEE_MP)
    holds = a.UNDATED | a.OUTSIDE
    household.run(72 * 3600, dated=False)
    assert household.step(301 * RUPEE_MP, holds) == []
    household.run(1, dated=False)
    assert household.step(300 * RUPEE_MP, holds) == []
    assert household.step(300 * RUPEE_MP + 1, holds) == [events.UNDATED_CUT]
    household.reboot()
    household.run(3599, dated=False)
    assert household.step(301 * RUPEE_MP, holds) == []
    household.run(1, dated=False)
    assert household.step(301 * RUPEE_MP, holds) == [events.GRACE_OVER, "credit"]


@pytest.mark.parametrize("hold", [1 << bit for bit in range(14)])
def test_which_holds_the_end_of_patience_with_an_unknown_time_lifts(hold):
    household = undated_household(undated_limit_h=0, undated_debt_cap_mp=0)
    household.run(DAY_S, dated=False)
    assert household.step(1, a.UNDATED) == [events.UNDATED_CUT]
    household.run(3600, dated=False)
    lifted = hold in (a.UNDATED, a.OUTSIDE, a.WARNED)
    told = [events.WOULD_CUT] if hold == a.WARN_ONLY else []
    expected = [events.GRACE_OVER, *(["credit"] if lifted else told)]
    assert household.step(1, a.UNDATED | hold) == expected


def test_undated_seconds_never_shorten_a_long_grace():
    grace_s = 10 * DAY_S
    household = undated_household(grace_s=grace_s, undated_limit_h=72, undated_debt_cap_mp=0)
    household.run(72 * 3600 + 1, dated=False)
    left_s = grace_s - 72 * 3600 - 1
    assert household.rule.next(False, 1, a.UNDATED) == ("event", (events.UNDATED_CUT, left_s))
    household.step(1, a.UNDATED)
    household.run(left_s - 1, dated=False)
    assert household.step(1, a.UNDATED) == []
    household.run(1, dated=False)
    assert household.step(1, a.UNDATED) == [events.GRACE_OVER, "credit"]


def test_a_debt_below_its_cap_is_held_again():
    household = undated_household(undated_limit_h=0, undated_debt_cap_mp=100)
    household.run(DAY_S, dated=False)
    household.step(101, a.UNDATED)
    household.run(3600, dated=False)
    assert household.step(100, a.UNDATED) == [events.GRACE_OVER]
    assert household.step(101, a.UNDATED) == ["credit"]


def test_a_silent_server_holds_a_cut_up_to_a_debt_then_one_full_grace():
    household = due(offline_debt_cap_mp=300)
    household.rule.apply_event(events.LINK_SILENT, 0)
    assert household.step(299, a.SERVER_DOWN) == []
    assert household.rule.earliest_s(household.utc_s) == household.utc_s + DAY_S
    household.reboot()
    assert household.step(300, a.SERVER_DOWN) == [events.OFFLINE_GRACE]
    assert household.rule.word == GRACE
    household.reboot()
    household.run(DAY_S - 1)
    assert household.step(400, a.SERVER_DOWN) == []
    household.run(1)
    assert household.step(400, a.SERVER_DOWN) == [events.GRACE_OVER, "credit"]


@pytest.mark.parametrize("began_in", [GRACE, DUE])
def test_when_the_server_is_back_there_is_one_full_grace(began_in):
    household = due() if began_in == DUE else Household()
    if began_in == GRACE:
        household.step(0)
    household.rule.apply_event(events.LINK_SILENT, 0)
    household.reboot()
    household.rule.apply_event(events.LINK_HEARD, DAY_S)
    household.run(DAY_S)
    expected = [events.OFFLINE_GRACE]
    assert household.step(5) == ([] if began_in == DUE else [events.GRACE_OVER]) + expected
    household.run(DAY_S)
    assert household.step(5, a.OUTSIDE) == [events.GRACE_OVER]
    # Silent again it is held again, but a silence that ends gives no second grace.
    household.rule.apply_event(events.LINK_SILENT, 0)
    assert household.step(5, a.SERVER_DOWN) == []
    household.rule.apply_event(events.LINK_HEARD, DAY_S)
    assert household.step(5) == ["credit"]
    household.step(None)
    household.step(0)
    household.run(DAY_S)
    assert household.step(0) == [events.GRACE_OVER, "credit"]  # no silence in this want of credit


def test_a_second_silence_holds_to_the_cap_and_gives_the_grace_of_that():
    household = due(offline_debt_cap_mp=300)
    household.rule.apply_event(events.LINK_SILENT, 0)
    household.rule.apply_event(events.LINK_HEARD, DAY_S)
    assert household.step(5) == [events.OFFLINE_GRACE]
    household.rule.apply_event(events.LINK_SILENT, 0)
    household.run(DAY_S)
    assert household.step(299, a.SERVER_DOWN) == [events.GRACE_OVER]
    assert household.step(300, a.SERVER_DOWN) == [events.OFFLINE_GRACE]
    household.run(DAY_S)
    assert household.step(400, a.SERVER_DOWN) == [events.GRACE_OVER, "credit"]


def test_a_grace_that_begins_while_the_server_is_silent_is_not_the_last():
    household = Household()
    household.rule.apply_event(events.LINK_SILENT, 0)
    household.step(0, a.SERVER_DOWN)
    household.rule.apply_event(events.LINK_HEARD, DAY_S)
    household.run(DAY_S)
    assert household.step(0) == [events.GRACE_OVER, events.OFFLINE_GRACE]


def test_a_silence_before_the_want_of_credit_adds_nothing():
    household = Household()
    household.rule.apply_event(events.LINK_SILENT, 0)
    household.rule.apply_event(events.LINK_HEARD, DAY_S)
    household.step(0)
    household.run(DAY_S)
    assert household.step(0) == [events.GRACE_OVER, "credit"]


def test_days_behind_a_switch_are_not_for_ever_without_a_time():
    household = Household(undated_limit_h=1, undated_debt_cap_mp=5)
    household.step(0, a.UNDATED)
    household.run(3601, dated=False)
    holds = a.UNDATED | a.OUTSIDE | a.SWITCHED
    assert household.step(6, holds) == [events.UNDATED_CUT]
    household.run(7 * DAY_S - 1, dated=False)
    assert household.step(6, holds) == [events.GRACE_OVER]
    household.run(1, dated=False)
    assert household.step(6, holds) == ["credit"]


def test_a_share_of_the_debt_restores_once_with_one_grace():
    household = cut(999, restore_percent=50)
    household.rule.apply_recharge(499)
    assert household.step(500) == []
    household.reboot()
    household.rule.apply_recharge(1)  # half of 999, rounded up
    assert household.step(499) == ["partial"]
    assert (household.rule.word, household.rule.grace_left_s) == (GRACE, DAY_S)
    household.run(DAY_S)
    household.reboot()
    assert household.step(499) == [events.GRACE_OVER, "credit"]
    household.rule.apply_recharge(498)
    assert household.step(1) == []
    assert household.step(None) == ["recharge"]
    household.step(0)
    household.run(DAY_S)
    household.step(100)
    household.rule.apply_recharge(50)
    assert household.step(50) == ["partial"]  # once more, as it was in credit between


def test_without_a_share_only_credit_restores():
    household = cut(1000)
    household.rule.apply_recharge(999)
    assert household.step(1) == []


def test_a_recharge_before_the_cut_is_no_share():
    household = due(restore_percent=1)
    household.rule.apply_recharge(1000)
    assert household.step(100) == ["credit"]
    assert household.step(100) == []


def test_a_cut_without_a_debt_is_not_restored_for_nothing():
    household = cut(0, restore_percent=50)
    assert household.step(0) == []
    assert household.step(10) == []


@pytest.mark.parametrize("reason", ["recharge", "mode", "ledger_lost"])
def test_whatever_ends_the_cause_ends_the_cut(reason):
    household = cut(9)
    household.rule.apply_control("order", a.CREDIT | a.ORDER, 9)
    assert household.rule.word == CUT
    household.rule.apply_control(reason, a.ORDER, 9)
    assert household.rule.word == IN_CREDIT


def test_an_order_leaves_a_grace_alone():
    household = due()
    household.rule.apply_control("order", a.ORDER, 0)
    household.rule.apply_control("order", 0, 0)
    assert household.rule.word == DUE


def test_without_a_ledger_it_begins_anew_but_a_cut_stands():
    household = due()
    household.rule.begin_anew()
    assert household.rule.word == IN_CREDIT
    household = cut()
    household.rule.begin_anew()
    assert household.rule.word == CUT
    household.rule.apply_event(events.LEDGER_LOST, 1)
    assert household.rule.word == CUT
    household = due()
    household.rule.apply_event(events.LEDGER_LOST, 1)
    assert household.rule.word == IN_CREDIT


def test_another_account_has_nothing_of_the_last_not_even_its_cut():
    for household in (due(), cut(5)):
        household.rule.open_account()
        household.rule.apply_control("account", 0, 5)
        assert household.step(5) == [events.CREDIT_EXHAUSTED]
        assert household.rule.grace_left_s == DAY_S


def test_older_snapshots_knew_two_members():
    rule = CreditRule(rule_config())
    rule.restore([GRACE, 77])
    assert (rule.word, rule.grace_left_s, rule.undated_s) == (GRACE, 77, 0)


def test_the_earliest_cut():
    household = Household()
    assert household.rule.earliest_s(NOW_UTC_S) is None
    household.step(0)
    household.run(100)
    assert household.rule.earliest_s(NOW_UTC_S) == NOW_UTC_S + DAY_S - 100
    assert household.rule.earliest_s(None) is None
    household.run(DAY_S)
    household.step(0, a.OUTSIDE)
    assert household.rule.earliest_s(NOW_UTC_S) == NOW_UTC_S
    household.step(0)
    assert household.rule.earliest_s(NOW_UTC_S) is None
