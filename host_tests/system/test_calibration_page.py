"""docs/CALIBRATION.md, typed at the emulated board: each line and its answer."""

import re

import pytest

from host_tests.fakes.interpreters import micropython
from host_tests.fakes.lab import Lab
from toolchain import locate

PAGE = locate.project_root() / "docs" / "CALIBRATION.md"
# The page's chip: an offset of 20 steps, 1 % too much current, 1 % too little voltage.
CHIP = {"shunt_offset_uv": 200, "shunt_gain_ppm": 10_000, "bus_gain_ppm": -10_000}
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d ")
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
UNLOCK = "unlock 01234567"
MEASURING_S = 20


def script():
    """The page as steps: (`bench`, load) and (`type`, line, its answers)."""
    steps = []
    in_block = False
    for line in PAGE.read_text().splitlines():
        if line.startswith("```"):
            in_block = line == "```console"
        elif line.startswith("<!-- bench "):
            steps.append(("bench", line.split()[2], None))
        elif in_block and line.startswith("> "):
            steps.append(("type", line[2:], []))
        elif in_block:
            steps[-1][2].append(line)
    return steps


@pytest.fixture
def lab(tmp_path):
    micropython(32)
    ratios = {"voltage_ratio_x1000": 1000, "current_ratio_x1000": 1000}
    with Lab(tmp_path, CHIP, "12V,0A", basic_current_ma=1000, **ratios) as made:
        made.passes(60)
        yield made


def test_every_line_of_the_page_is_answered_as_the_page_says(lab):
    typed = 0
    for what, text, answers in script():
        if what == "bench":
            lab.connect(text)
            continue
        typed += 1
        line = "unlock " + lab.code() if text == UNLOCK else text
        said = [said for said in lab.answers(line, MEASURING_S) if not LOG_LINE.match(said)]
        assert [TIME.sub("TIME", s) for s in said] == [TIME.sub("TIME", a) for a in answers], text
    assert typed > 10
