from itertools import product

import pytest

from firmware.relay import rules

IST_S = 19800
MIDNIGHT_UTC_S = 1767551400  # 2026-01-05 00:00 in India
EVENTS = (rules.POSITIVE, rules.EXHAUSTED, rules.GRACE_OVER, rules.WINDOW)


def test_the_table_is_total_and_closed():
    assert set(rules.TABLE) == set(product(rules.STATES, EVENTS))
    assert {state for state, _ in rules.TABLE.values()} == set(rules.STATES)


def test_the_contact_is_closed_exactly_when_no_cause_stands():
    causes = set(product((False, True), repeat=2))
    assert set(rules.CONTROL) == causes
    for (cut, ordered), (state, contact, reason) in rules.CONTROL.items():
        assert contact == (0 if cut or ordered else 1)
        assert (state == "connected") == (contact == 1)
        assert (state == "disconnected") == ordered
        assert reason == ("order" if ordered else "credit" if cut else "")


def test_only_due_in_an_open_window_opens_and_only_credit_closes():
    opening = {pair for pair, (_, action) in rules.TABLE.items() if action == rules.OPEN}
    assert opening == {(rules.DUE, rules.WINDOW)}
    closing = {pair for pair, (_, action) in rules.TABLE.items() if action == rules.CLOSE}
    assert closing == {(rules.CUT, rules.POSITIVE)}


def test_credit_leads_home_from_everywhere():
    assert all(rules.TABLE[(state, rules.POSITIVE)][0] == rules.IN_CREDIT for state in rules.STATES)


@pytest.mark.parametrize(
    ("balance_mp", "grace_left_s", "window", "expected"),
    [
        (1, 0, True, rules.POSITIVE),
        (0, 5, True, rules.EXHAUSTED),
        (-1, 0, False, rules.GRACE_OVER),
        (-1, 0, True, rules.WINDOW),
    ],
)
def test_event(balance_mp, grace_left_s, window, expected):
    assert rules.event(balance_mp, grace_left_s, window) == expected


def test_the_window_is_open_from_its_first_to_before_its_last_minute_and_never_without_time():
    def is_open(hour, minute, second=0):
        utc_s = MIDNIGHT_UTC_S + hour * 3600 + minute * 60 + second
        return rules.window_open(utc_s, IST_S, 600, 780)

    assert not is_open(9, 59, 59)
    assert is_open(10, 0)
    assert is_open(12, 59, 59)
    assert not is_open(13, 0)
    assert not rules.window_open(None, IST_S, 600, 780)


@pytest.mark.parametrize(
    ("hour", "expected_hour"), [(0, 10), (9, 10), (10, 10), (12, 12), (13, 34), (23, 34)]
)
def test_next_window(hour, expected_hour):
    at = rules.next_window_utc_s(MIDNIGHT_UTC_S + hour * 3600, IST_S, 600, 780)
    assert (at - MIDNIGHT_UTC_S) // 3600 == expected_hour
