"""A sample of `make powerloss`, and bugs that it must find."""

import pytest

from host_tests.fakes.interpreters import micropython
from host_tests.powerloss.__main__ import SHORT, SMALL, merge, run

# The step in whose cuts the planted bug shows.
PLANTED = {
    "late-sync": "samples",
    "act-first": "recharge recloses",
    "blind-start": "time is set",
    "last-id-only": "recharges",
    "seldom-checkpoints": "samples",
}


@pytest.fixture(autouse=True)
def interpreter():
    micropython(32)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SHORT))
def test_every_cut_of_a_sample_is_survived(name):
    results, failures, others = run(SHORT[name], 2)
    assert not failures, (failures[:3], others[:20])
    rows = merge(results)
    tried = sum(row[2].total() for row in rows)
    assert tried == sum(row[3] for row in rows)
    assert tried > {"small files": 250, "upgrade": 50, "real sizes": 50}[name]
    assert sum(row[2]["nested"] for row in rows) > 5


@pytest.mark.slow
@pytest.mark.parametrize("bug", sorted(PLANTED))
def test_a_planted_bug_is_found(bug):
    part = {**SMALL, "every": 11, "nested": 10**6, "nested_every": 1, "only": PLANTED[bug]}
    _, failures, _ = run(part, plant=bug)
    assert failures
