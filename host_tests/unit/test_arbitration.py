import pytest

from firmware.relay import arbitration as a

ORDERED = (a.ORDER, a.TAMPER, a.OVER_CURRENT, a.LIMITER, a.CREDIT, a.TEST)
WORDS = ("order", "tamper", "over_current", "limiter", "credit", "test")
HOLDS = {
    "commissioning": a.COMMISSIONING,
    "ledger_lost": a.LEDGER_LOST,
    "closed": a.ACCOUNT_CLOSED,
    "credit_mode": a.CREDIT_MODE,
    "start": a.STARTING,
    "order": a.UNVERIFIED,
    "sensor_fault": a.SENSOR_FAULT,
    "time_unknown": a.UNDATED,
    "server_down": a.SERVER_DOWN,
    "switched": a.SWITCHED,
    "warning": a.WARNED,
    "warn_only": a.WARN_ONLY,
    "window": a.OUTSIDE,
    "interval": a.INTERVAL,
}


@pytest.mark.parametrize("standing", range(64))
def test_every_set_of_causes_has_its_decision(standing):
    state, contact, reason = a.decide(standing)
    highest = [word for bit, word in zip(ORDERED, WORDS, strict=True) if standing & bit]
    assert contact == (0 if standing else 1)
    assert reason == (highest[0] if highest else "")
    assert a.words(standing) == highest
    expected = "ready_for_reconnection" if standing else "connected"
    if standing & (a.ORDER | a.TAMPER):  # which only the utility ends
        expected = "disconnected"
    assert state == expected


@pytest.mark.parametrize("standing", [-1, 64, 1 << 20])
def test_no_set_of_causes(standing):
    with pytest.raises(ValueError, match="from 0 to 63"):
        a.decide(standing)


def test_which_hold_forbids_which_cause():
    always = {"commissioning", "start"}
    limits = always | {"sensor_fault", "interval"}
    forbidden = {
        a.ORDER: set(),
        a.TAMPER: always | {"sensor_fault", "order"},
        a.OVER_CURRENT: limits,
        a.LIMITER: limits,
        a.CREDIT: set(HOLDS),
        a.TEST: limits | {"ledger_lost", "order", "closed"},
    }
    assert set(a.FORBIDS) == set(ORDERED)
    for cause in ORDERED:
        assert a.may_begin(cause, 0)
        for word, hold in HOLDS.items():
            assert a.may_begin(cause, hold) == (word not in forbidden[cause]), (cause, word)


def test_no_cut_for_credit_in_any_set_of_holds():
    assert sum(HOLDS.values()) == a.HOLDS
    for holds in range(1, a.HOLDS + 1):
        assert not a.may_begin(a.CREDIT, holds)
        assert a.may_begin(a.ORDER, holds)


def test_no_cause():
    with pytest.raises(KeyError):
        a.may_begin(3, 0)


def test_the_most_important_word_of_every_set_of_holds():
    assert a.hold_word(0) == ""
    for holds in range(1, a.HOLDS + 1):
        assert a.hold_word(holds) == next(word for word, bit in HOLDS.items() if holds & bit)
