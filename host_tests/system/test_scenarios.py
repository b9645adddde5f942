"""A shipped story on the emulated board, as a person runs it."""

import json

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from host_tests.fakes.interpreters import micropython, need
from toolchain import locate

STORY = """
title = "An hour's grace"
start = 2026-01-05T08:00:00
days = 1
tariff = "sbpdcl-urban-2020"
[meter]
opening_rupees = "9.00"
[settings]
grace_s = 3600
low_credit_mp = 500_000
[[load]]
constant = "230V,4A"
[[console]]
at = "day 1 08:30"
line = "relay"
[[console]]
at = "day 1 08:32"
line = "relay test"
[[console]]
at = "day 1 08:32:20"
line = "relay test CODE"
[[recharge]]
at = "day 1 12:00"
rupees = "300.00"
[[expect]]
event = 301
from = "day 1 08:30"
until = "day 1 08:36"
count = 1
[[expect]]
cuts = 1
from = "day 1 10:00"
until = "day 1 13:00"
[[expect]]
contact = "open"
at = "day 1 11:59"
[[expect]]
reclosed_within_s = 1
[[expect]]
contact = "closed"
at = "day 1 12:01"
[[expect]]
cuts = 2
"""


@pytest.mark.slow
def test_a_story_is_told_judged_and_drawn(tmp_path):
    """The last expectation is wrong: the run must say so, and fail."""
    micropython(32)
    need(locate.mosquitto)
    path, out, picture = (tmp_path / name for name in ("short.toml", "out.json", "out.png"))
    path.write_text(STORY)
    arguments = ["--quick", "--json", str(out), "--plot", str(picture)]
    arguments += ["--data", str(tmp_path / "world")]
    found = CliRunner().invoke(app, ["scenario", "run", str(path), *arguments])
    assert found.exit_code == 1, found.output
    assert "FAIL cuts 2" in found.output and found.output.count("FAIL") == 2
    assert found.output.rstrip().endswith("scenario short: FAIL")
    told = json.loads(out.read_text())
    assert [verdict["passed"] for verdict in told["verdicts"]] == [True] * 15 + [False]
    decided, moved = ([value for _, value in told["series"][name]] for name in ("decided", "moved"))
    assert decided == [1, 0, 1, 0, 1, 1]
    assert moved == [0, 1, 0, 1, 0, 1, 1]  # the relay was delivered open
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_file_that_cannot_be_played_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('title = "Mine"\nstart = 2026-01-05T00:00:00\ndays = 4000\n')
    found = CliRunner().invoke(app, ["scenario", "run", str(path)])
    assert found.exit_code == 2
    assert "mine.toml: days: must be an integer from 1 to 400" in found.output
