"""A part of `make relay-search`, and planted bugs that it must find."""

import pytest

from firmware.relay import arbitration, credit_rule
from firmware.relay.credit_rule import CreditRule
from host_tests.relay.search import SETTINGS, Broken, Search, every_set_of_holds


@pytest.mark.slow
@pytest.mark.parametrize("name", ["as shipped", "warn only"])
def test_every_state_has_its_decision_and_keeps_the_promises(name):
    search = Search(**SETTINGS[name])
    print(f"\n{name}: {len(search.nodes)} states of the rule, {len(search.states)} with causes")
    assert len(search.states) == 32 * len(search.nodes) > 8000
    if name == "warn only":
        assert search.cuts == search.restorations == 0
    else:
        assert search.cuts > 500 and search.restorations > 1000
    assert every_set_of_holds(search, most=5) == 5 * 8192


class ForgetsHolds(CreditRule):
    def holding(self, debt_mp, holds):
        return super().holding(debt_mp, holds) & ~arbitration.SENSOR_FAULT


class LosesTheShare(CreditRule):
    """Its snapshot does not say that a share has restored already."""

    def state(self):
        state = super().state()
        state[5] = 0
        return state


class GivesGraceForEver(CreditRule):
    def state(self):
        state = super().state()
        state[6] = 0
        return state


class CutsBelowTheCap(CreditRule):
    """Behind one grace a silence of the server holds nothing any more."""

    def holding(self, debt_mp, holds):
        left = super().holding(debt_mp, holds)
        return left & ~arbitration.SERVER_DOWN if self._given else left


class RunsWithoutATime(CreditRule):
    def run(self, utc_s, dt_ms, supplied):
        super().run(utc_s or 1, dt_ms, supplied)


class RunsWithoutPower(CreditRule):
    def run(self, utc_s, dt_ms, supplied):
        super().run(utc_s, dt_ms, True)


class SparesTheLastWarning(CreditRule):
    """Behind the limit of an unknown time the grace is over at once."""

    def apply_event(self, code, detail):
        super().apply_event(code, 0 if code == 1061 else detail)


@pytest.mark.parametrize(
    ("rule_class", "why"),
    [
        (ForgetsHolds, "cut while held by sensor_fault"),
        (LosesTheShare, "a second share"),
        (GivesGraceForEver, "a second grace"),
        (CutsBelowTheCap, "cut while held by server_down|a grace below the cap"),
        (RunsWithoutATime, "the grace was not full"),
        (RunsWithoutPower, "the grace was not full"),
        (SparesTheLastWarning, "the grace was not full"),
    ],
)
def test_a_planted_bug_is_found(rule_class, why):
    with pytest.raises(Broken, match=why):
        Search(rule_class, restore_percent=50)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("-ee-b---b--pbuu-ba--bag-baw-bab-bao-", "credit and state"),
        ("-eecb---b--pbuu-ba--bag-baw-bab-ba--", "not cut, though nothing holds it"),
        ("-eecb---b--pbuu-ba--bag-baw-bao-bao-", "cut without a grace behind the mode"),
        ("-eecb---b--pbuu-bao-bag-baw-bab-bao-", "cut while held by|cut without the grace"),
    ],
)
def test_a_wrong_table_is_found(table, why, monkeypatch):
    monkeypatch.setattr(credit_rule, "TABLE", table)
    with pytest.raises(Broken, match=why):
        Search()
