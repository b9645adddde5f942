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
PULSE_IMP_PER_KWH = 10_000


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
    with Lab(tmp_path, CHIP, "12V,0A", PULSE_IMP_PER_KWH, basic_current_ma=1000, **ratios) as made:
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


@pytest.mark.parametrize("ma", [50, 100, 500, 1000, 3000])
def test_the_check_at_the_pulse_led_finds_a_calibrated_meter_right(lab, ma):
    lab.unlock()
    calibrate(lab)
    lab.connect(f"12V,{ma / 1000}A")
    first, began_s = lab.next_pulse()
    lab.passes(max(1000, 3600 * 10**6 // (PULSE_IMP_PER_KWH * 12 * ma)))
    last, ended_s = lab.next_pulse()
    energy_j = 12 * ma / 1000 * (ended_s - began_s)
    error = ((last - first) * 3_600_000 / PULSE_IMP_PER_KWH / energy_j - 1) * 100
    assert abs(error) < 0.2  # of which 0.1 are the two seconds in a thousand


@pytest.mark.slow
def test_the_checks_without_a_stopwatch(lab):
    """Starting current and no load, for the times that the page says."""
    lab.unlock()
    calibrate(lab)
    lab.connect("12V,0.004A")
    pulse_s = 3600 * 10**6 // (PULSE_IMP_PER_KWH * 12 * 4)
    before = lab.board.look()["pulses"]
    lab.passes(2 * pulse_s + 600)
    assert lab.board.look()["pulses"] - before >= 2
    lab.connect("13.8V,0A")
    before = lab.board.look()["pulses"]
    lab.passes(3 * pulse_s)
    assert lab.board.look()["pulses"] == before
    assert " A=0.0000 " in lab.type("raw", "^calibrated ")


def calibrate(lab):
    lab.type("calibrate zero", "^calibration 1 of", MEASURING_S)
    lab.type("calibrate voltage 12", "^calibration 2 of", MEASURING_S)
    lab.connect("12V,1A")
    lab.type("calibrate current 1", "^calibration 3 of", MEASURING_S)
