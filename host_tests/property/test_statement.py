"""Statements over random histories of the real meter: what moved the balance adds up, exactly.

However a history is cut at moments, the statements between them meet, have no movement that the
records do not explain, and end at the meter's own balance.
"""

import itertools
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.credit.statement import Explanation
from host_tests.fakes.bench import MIDNIGHT_UTC_S, Bench
from host_tests.fakes.documents import rich_tariff, tariff_document

DAY_S = 86400
START_UTC_S = MIDNIGHT_UTC_S + 26 * DAY_S  # 2026-01-31: a month ends soon
TARIFFS = (
    tariff_document((1, 500_000), (None, 800_000)),
    rich_tariff(id="rich", period_start_day=1),
    rich_tariff(id="carried", on_change="carry_on", period_start_day=2),
)

ACTIONS = st.one_of(
    st.tuples(st.just("run"), st.integers(1, 1500), st.sampled_from((0, 60, 3000))),
    st.tuples(st.just("recharge"), st.integers(1, 10**8)),
    st.tuples(
        st.just("arrears"),
        st.integers(1, 10**7),
        st.integers(0, 100),
        st.integers(0, 10**6),
        st.integers(0, 1),
    ),
    st.tuples(st.just("mode"), st.sampled_from(("credit", "prepayment")), st.integers(0, 100)),
    st.tuples(st.just("account"), st.sampled_from(("closed", "opened"))),
    st.tuples(st.just("emergency"), st.integers(0, 10**7)),
    st.tuples(st.just("tariff"), st.integers(0, 2), st.integers(2, 60000)),
    st.tuples(st.just("restart"), st.integers(0, 2 * DAY_S), st.booleans()),
    st.tuples(st.just("time")),
)


def act(bench, number, action):
    kind, *values = action
    if kind == "run":
        bench.run(values[0] * 60, values[1], 60)
    elif kind == "recharge":
        bench.order(f"R-{number}", number, amount_mp=values[0])
    elif kind == "arrears":
        names = ("amount_mp", "share_percent", "per_day_mp", "at_once")
        bench.order(f"A-{number}", number, "arrears", **dict(zip(names, values, strict=True)))
    elif kind == "mode":
        bench.order(f"M-{number}", number, "mode", mode=values[0], share_percent=values[1])
    elif kind == "account":
        document = {"account": f"B-{number}", "balance_mp": 777} if values[0] == "opened" else {}
        bench.order(f"B-{number}", number, "account", action=values[0], document=document)
    elif kind == "emergency":
        bench.order(f"E-{number}", number, "emergency", limit_mp=values[0])
    elif kind == "tariff":
        document = {**TARIFFS[values[0]], "version": values[1]}
        bench.order(f"T-{number}", number, "tariff", document=document)
    elif kind == "restart":
        bench.restart(values[0], values[1])
    else:
        bench.meter.set_time(bench.utc_s * 1000)


def explained(records, since_utc_s, until_utc_s, import_wh):
    explanation = Explanation(since_utc_s, until_utc_s)
    for record in records:
        explanation.take(record)
    explanation.end(import_wh)
    return explanation.statement


@settings(max_examples=40, deadline=None)
@given(
    st.lists(ACTIONS, max_size=8),
    st.lists(st.integers(0, 6 * DAY_S), max_size=4),
    st.sampled_from(TARIFFS),
)
def test_movements_between_any_moments_add_up_and_meet(actions, moments, tariff):
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            Path(folder) / "data",
            START_UTC_S,
            tariff=tariff,
            opening_balance_mp=-12345,
            sample_period_ms=60_000,
        )
        for number, action in enumerate(actions, 1):
            act(bench, number, action)
        records = bench.records()
        import_wh, balance_mp = bench.meter.energy.import_wh, bench.meter.balance_mp()
        bench.meter.journal.close()
    marks = sorted({0, 2**32 - 1, *(START_UTC_S + moment for moment in moments)})
    closing_mp = 0
    for since_utc_s, until_utc_s in itertools.pairwise(marks):
        statement = explained(records, since_utc_s, until_utc_s, import_wh)
        assert statement.opening_mp == closing_mp
        closing_mp = statement.closing_mp
        moved_mp = sum(row[5] for row in statement.movements)
        assert moved_mp == closing_mp - statement.opening_mp
        assert not [row for row in statement.movements if row[1] in ("unknown", "closing")]
    assert closing_mp == balance_mp
