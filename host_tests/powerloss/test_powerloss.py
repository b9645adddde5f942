"""A sample of `make powerloss`, and bugs that it must find."""

import pytest

from host_tests.fakes.interpreters import micropython
from host_tests.powerloss.__main__ import DAMAGE_SHORT, SHORT, SMALL, damage_rows, merge, run

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
def test_two_runs_write_the_same_bytes_so_a_point_is_found_again():
    part = {**SMALL, "story": "upgrade", "every": 60, "nested": 5, "nested_every": 40}
    first, second = (run(part)[0][0] for _ in range(2))
    assert first["steps"] == second["steps"]
    assert first["checksum"] == second["checksum"]


@pytest.mark.slow
def test_no_damage_gains_credit_replays_an_order_or_keeps_the_meter_from_starting():
    results, failures, others = run(DAMAGE_SHORT, 2, "damage.py")
    assert not failures, (failures[:3], others[:20])
    rows = damage_rows(results)
    assert sum(words.total() for words in rows.values()) > 300
    assert set(rows["erased"]) == {"formatted"}
    assert set(rows["nvs erased"]) == {"harmless"}
    assert rows["rolled back"]["ledger lost"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("bug", sorted(PLANTED))
def test_a_planted_bug_is_found(bug):
    part = {**SMALL, "every": 11, "nested": 10**6, "nested_every": 1, "only": PLANTED[bug]}
    _, failures, _ = run(part, plant=bug)
    assert failures
