"""Words and amounts for people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.console import lines
from firmware.core import events
from firmware.core.records import (
    CAUSES,
    CREDIT_KINDS,
    MODES,
    QUIET,
    REASONS,
    RECORDS,
    RESULTS,
    STATES,
    members,
)
from firmware.metering import ina219, sampler
from gateway import words
from gateway.errors import FieldError


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (("energy", 500, "Wh", 850_000, 425_000), "energy: 0.500 kWh at 8.50 = 4.25 ₹"),
        (("free", 500, "Wh", None, -425_000), "free: 0.500 kWh = -4.25 ₹"),
        (("duty", 41_400_000, "%", 6000, 2_484_000), "duty: 6 % of 414.00 = 24.84 ₹"),
        (("rebate", 100_000, "%", -2500, -2500), "rebate: -2.5 % of 1.00 = -0.03 ₹"),
        (
            ("rent", 12, "days", 10_000_000, 3_870_968),
            "rent: 12 days at 100.00 a month = 38.71 ₹",
        ),
        (("band", 0, "", None, 150_000), "band = 1.50 ₹"),
    ],
)
def test_a_line_of_a_charge(line, text):
    name, quantity, unit, rate, amount_mp = line
    line = {"name": name, "quantity": quantity, "unit": unit, "rate": rate}
    assert words.charge_line({**line, "amount_mp": amount_mp}) == text


@pytest.mark.parametrize(
    ("amount_mp", "text"),
    [
        (0, "0.00"),
        (499, "0.00"),
        (500, "0.01"),
        (-499, "0.00"),
        (-500, "-0.01"),
        (1_234_567, "12.35"),
        (-10_000_000, "-100.00"),
        (10_000_000_000, "100000.00"),
    ],
)
def test_rupees(amount_mp, text):
    assert words.rupees(amount_mp) == text


@given(st.integers(0, 10**9))
def test_rupees_there_and_back(paise):
    assert words.parse_rupees(words.rupees(paise * 1000), "rupees") == paise * 1000


@given(st.text(max_size=12))
def test_whatever_is_typed_is_an_amount_or_a_field_error(text):
    try:
        assert words.parse_rupees(text, "rupees") >= 0
    except FieldError as error:
        assert error.field == "rupees"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "unknown length"), (90, "90 s"), (600, "10 min"), (86400, "24 h"), (9000, "2 h 30 min")],
)
def test_span(seconds, text):
    assert words.span(seconds) == text


def test_a_refused_recharge_says_which_bound_it_was():
    assert "the amount is below the least" in words.refusal("range", "amount_mp")
    assert "the balance would be above" in words.refusal("range", "balance_mp")
    assert words.refusal("range", "") == words.RESULTS["range"]
    assert words.refusal("old_backup", "") == "old_backup"
    assert words.refusal("", "") == ""


def test_every_word_of_the_wire_has_words():
    assert set(words.STATES) == set(STATES)
    assert set(words.CAUSES) == set(CAUSES)
    assert set(REASONS) <= set(words.REASONS)
    assert set(words.RESULTS) == set(RESULTS)
    assert set(words.MODES) == set(MODES)
    base = {"balance_mp": 1, "amount_mp": 1, "reason": "credit", "firmware": "x"}
    for kind in CREDIT_KINDS:
        assert words.describe({**base, "type": "credit", "kind": kind})
    entry = {"type": "credit", "kind": "adjustment", "balance_mp": 0, "amount_mp": -5_000_000}
    assert words.describe({**entry, "id": "excess-2026-01", "counter": 0}) == (
        "load above the sanctioned one in 2026-01: -50.00 rupees, balance 0.00 rupees"
    )
    assert words.describe({**entry, "id": "o-1", "counter": 7}).startswith("adjustment of -50.00")
    for state in STATES:
        assert words.describe({**base, "type": "relay", "state": state})
        assert words.describe({**base, "type": "control", "state": state})
    for cause in CAUSES:
        assert words.describe({**base, "type": "boot", "cause": cause})
    names = [name for name in vars(sampler) if name.isupper() and name[0] != "_"]
    kinds = [getattr(sampler, name) for name in names if not hasattr(ina219, name)]
    assert sorted(words.SENSOR_FAULTS) == sorted(kinds)
    assert "unknown" not in [lines.fault_words(kind) for kind in kinds]
    assert lines.fault_words(1 + max(kinds)) == "unknown"
    codes = [code for code in vars(events).values() if isinstance(code, int)]
    assert len(codes) > 10
    codes += events.OCCURRENCES + events.RESTORATIONS
    assert set(words.STANDING) == set(events.OCCURRENCES)
    for code in codes:
        assert words.describe({"type": "event", "code": code, "detail": 1}) != f"event {code} (1)"
        assert lines.event_words(code), code
    for kind in RECORDS:
        if kind not in (*QUIET, "event", "boot", "credit", "relay", "control"):
            record = {name: {} if form == "json" else 1 for name, form in members(kind)}
            assert words.describe({**record, "type": kind}), kind
    for mode in MODES:
        members_of = {"type": "mode", "mode": mode, "share_percent": 1, "per_day_mp": 1}
        assert words.describe({**base, **members_of})
    assert words.describe({"type": "event", "code": 64000, "detail": 7}) == "event 64000 (7)"
    for kind in QUIET:
        assert words.describe({"type": kind}) == ""
