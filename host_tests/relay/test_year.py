"""A part of `make relay-year`, and planted bugs that its judge must find."""

import pytest

from firmware.core import events
from firmware.relay import arbitration
from firmware.relay.credit_rule import CreditRule
from host_tests.relay import household
from host_tests.relay.year import simulate


@pytest.mark.slow
def test_nobody_of_many_households_is_cut_wrongly_in_months():
    facts, least, wrong = simulate(households=24, days=120, seed=5)
    assert wrong == []
    total = sum(facts.values(), start=type(next(iter(facts.values())))())
    assert total["cuts"] > 50 and total["restorations"] > 50
    assert total[events.OFFLINE_GRACE] and total["by a share"] and total["limiter trips"]
    assert total["power cuts"] == 24 * 17
    assert facts["postpaid"][events.CREDIT_EXHAUSTED] == facts["postpaid"]["cuts"] == 0
    assert facts["warn only"]["cuts"] == 0 < facts["warn only"][events.WOULD_CUT]
    assert min(seconds.get("supplied grace", 86400) for seconds in least.values()) >= 86400


class CutsAnytime(CreditRule):
    def holding(self, debt_mp, holds):
        return super().holding(debt_mp, holds) & ~arbitration.OUTSIDE


class CutsWhileSilent(CreditRule):
    def holding(self, debt_mp, holds):
        return super().holding(debt_mp, holds) & ~arbitration.SERVER_DOWN


class GraceRunsWithoutPower(CreditRule):
    def run(self, utc_s, dt_ms, supplied):
        super().run(utc_s, dt_ms, True)


class RestoresLate(CreditRule):
    def next(self, has_credit, debt_mp, holds):
        step = super().next(has_credit, debt_mp, holds)
        return None if step == ("restore", "recharge") and holds & arbitration.OUTSIDE else step


@pytest.mark.parametrize(
    ("rule_class", "why"),
    [
        (CutsAnytime, "cut outside a window"),
        (CutsWhileSilent, "below the cap while the server is down"),
        (GraceRunsWithoutPower, "a grace that is not full"),
        (RestoresLate, "cut though there is credit"),
    ],
)
def test_a_planted_bug_is_found(rule_class, why, monkeypatch):
    monkeypatch.setattr(household, "CreditRule", rule_class)
    _facts, _least, wrong = simulate(households=24, days=120, seed=2)
    assert any(why in line for line in wrong), wrong
