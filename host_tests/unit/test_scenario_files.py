"""A story's file: what is taken, and that each wrong key is named with what it may be."""

import copy
import tomllib
from datetime import datetime

import pytest

from demo.scenario import reading
from demo.scenario.reading import SHIPPED, ScenarioError

GOOD = tomllib.loads(
    """
title = "A story"
start = 2026-01-05T00:00:00
days = 2
tariff = "sbpdcl-urban-2020"
[[load]]
constant = "230V,2A"
[[recharge]]
at = "day 2 18:30"
rupees = "99.50"
[[outage]]
of = "server"
from = "day 1 10:00"
until = "day 1 12:00"
[[expect]]
contact = "open"
at = "2026-01-06 10:00"
"""
)
START_MS = 1_767_551_400_000  # 2026-01-05 00:00 in India
HOUR_MS = 3_600_000


def story(**changes):
    values = copy.deepcopy(GOOD)
    values.update(changes)
    return reading.check(values, SHIPPED)


def refused(**changes):
    with pytest.raises(ScenarioError) as caught:
        story(**changes)
    return caught.value


def test_times_are_local_and_counted_from_the_start():
    found = story()
    assert found.start_ms == START_MS
    assert found.end_ms == START_MS + 48 * HOUR_MS
    (recharge,) = [step for step in found.steps if step.name == "recharge"]
    assert recharge.at_ms == START_MS + 42 * HOUR_MS + HOUR_MS // 2
    assert recharge.what == {"rupees": "99.50", "number": 1}
    assert found.expectations[0].from_ms == START_MS + 34 * HOUR_MS


def test_a_day_counts_from_the_midnight_before_a_start_at_noon():
    found = story(start=datetime(2026, 1, 5, 12), outage=[])
    (recharge,) = [step for step in found.steps if step.name == "recharge"]
    assert recharge.at_ms == START_MS + 42 * HOUR_MS + HOUR_MS // 2


def test_a_pattern_is_repeated_and_ends_where_the_next_load_begins():
    found = story(
        load=[
            {"pattern": [["06:00", "230V,2A"], ["18:00", "off"]]},
            {"from": "day 2 07:00", "household": 3},
        ]
    )
    changes = [
        (step.at_ms - START_MS, step.what["load"]) for step in found.steps if step.name == "load"
    ]
    assert found.load == "constant:230V,0A"
    assert changes == [
        (6 * HOUR_MS, "constant:230V,2A"),
        (18 * HOUR_MS, "constant:230V,0A"),
        (30 * HOUR_MS, "constant:230V,2A"),
        (31 * HOUR_MS, "appliances:3,4"),
    ]


@pytest.mark.parametrize(
    ("changes", "key", "part"),
    [
        ({"days": 0}, "days", "from 1 to 400"),
        ({"start": "monday"}, "start", "2026-01-05T00:00:00"),
        ({"weather": "rain"}, "weather", "is not known"),
        ({"tariff": "no-such"}, "tariff", "neither a file nor a ready-made tariff"),
        ({"tariff": {"id": "x"}}, "tariff", ""),
        ({"meter": {"sample_period_s": 61}}, "meter.sample_period_s", "from 1 to 60"),
        ({"meter": {"relay": "big"}}, "meter.relay", "latching, single"),
        ({"meter": {"opening_rupees": 60}}, "meter.opening_rupees", '"99.50"'),
        ({"settings": {"grace_s": -1}}, "settings.grace_s", "from 0 to 2592000"),
        ({"settings": {"grace_h": 1}}, "settings.grace_h", "is no setting"),
        ({"load": []}, "load", "at least one"),
        ({"load": [{"constant": "230V"}]}, "load[1].load", "constant needs"),
        ({"load": [{"pattern": [["25:00", "off"]]}]}, "load[1].pattern", "rising times"),
        ({"load": [{"from": "day 1 10:00", "household": 1}]}, "load[1].from", "left out"),
        ({"recharge": [{"at": "day 3 18:30", "rupees": "1"}]}, "recharge[1].at", "to 2026-01-07"),
        ({"recharge": [{"at": "day 1 11:00", "rupees": "1"}]}, "recharge[1].at", "server away"),
        ({"recharge": [{"at": "day 2 11:00", "rupees": "0"}]}, "recharge[1].rupees", "0.01"),
        ({"power_cut": [{"from": "day 2 01:00", "until": "day 1 01:00"}]},
         "power_cut[1].until", "after from"),
        ({"outage": [{"of": "moon", "from": "day 1 01:00"}]}, "outage[1].of", "network, server"),
        ({"order": [{"at": "day 2 01:00", "kind": "dance"}]}, "order[1].kind", "relay"),
        ({"fault": [{"at": "day 1 01:00"}]}, "fault[1].contact", "is missing"),
        ({"fault": [{"at": "day 1 01:00", "contact": "tired"}]}, "fault[1].contact", "welded"),
        ({"button": [{"at": "day 4 01:00"}]}, "button[1].at", "to 2026-01-07"),
        ({"button": [{"at": "day 1 01:00", "for": 3}]}, "button[1].for", "is not known"),
        ({"console": [{"at": "day 1 01:00"}]}, "console[1].line", "is missing"),
        ({"console": [{"at": "day 1 01:00", "line": "a\nb"}]}, "console[1].line", "printable"),
        ({"console": [{"at": "day 1 01:00", "line": "x" * 81}]}, "console[1].line", "at most 80"),
        ({"expect": [{"at": "day 1 01:00"}]}, "expect[1].event", "must be there"),
        ({"expect": [{"event": 1, "cuts": 1}]}, "expect[1].event", "must be there"),
        ({"expect": [{"state": "gone", "at": "day 1 01:00"}]}, "expect[1].state", "connected"),
        ({"expect": [{"recharge": 2, "result": "confirmed"}]}, "expect[1].recharge", "from 1 to 1"),
        ({"expect": [{"cuts": 1, "by": "me"}]}, "expect[1].by", "is not known"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_what_it_may_be(changes, key, part):
    error = refused(**changes)
    assert error.key == key
    assert part in error.why


def test_somebody_stands_before_the_meter():
    found = story(
        button=[{"at": "day 1 01:00"}], console=[{"at": "day 1 02:00", "line": "relay test CODE"}]
    )
    assert [
        (step.at_ms - START_MS, step.what)
        for step in found.steps
        if step.name in ("button", "console")
    ] == [
        (HOUR_MS, {"pressed": True}),
        (HOUR_MS + 150_000, {"pressed": False}),
        (2 * HOUR_MS, {"line": "relay test CODE"}),
    ]


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_stories_can_be_played_and_expect_something(path):
    found = reading.read(path)
    assert found.title
    assert len(found.expectations) >= 3


def test_a_file_that_is_no_toml_is_named(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("title = \n")
    with pytest.raises(ScenarioError, match=r"broken\.toml"):
        reading.read(path)
    with pytest.raises(ScenarioError, match=r"none\.toml"):
        reading.read(tmp_path / "none.toml")
