"""Each fault of the sensor on the emulated board: log, events, the way back, and the energy.

docs/SPEC.md section 4.1 has the table. The reference is the model's exact energy.
"""

import re
from datetime import datetime, timedelta, timezone

import pytest

from boards.emulated import flashing
from boards.emulated.board import EmulatedBoard
from boards.emulated.cli import lab_config
from boards.emulated.conductor import Conductor
from boards.emulated.sim_clock import ConductedClock
from host_tests.fakes.interpreters import micropython

START_MS = 1_767_600_000_000
MINUTE_MS = 60_000
INDIA = timezone(timedelta(minutes=330))
LOAD = "constant:230V,10A"
POWER_W = 2300
EVENT = r" event (101[0-2]) [^(]*(\((.*?)\))?"
FAULTS = {
    "absent": "no answer",
    "hang": "bus hangs",
    "stuck": "no conversion",
    "overflow": "overflow",
    "wild": "out of range",
}


class Story:
    """A meter with a constant load, and a clock that the test moves."""

    def __init__(self, folder, conductor):
        files = flashing.files_of(flashing.build())
        flashing.flash_image(folder, files, {**lab_config(), "opening_balance_mp": 10**9})
        self._clock = ConductedClock(conductor.address, "scenario")
        self._worker = self._clock.worker("story")
        self.board = EmulatedBoard(
            folder, "meter", conductor.address, settings={"load": LOAD, "rtc_set": True}
        )

    def __enter__(self):
        self.board.start()
        self.passes(2 * MINUTE_MS + 300)
        return self

    def __exit__(self, *exc):
        self.board.stop()
        self._worker.close()
        self._clock.close()

    def passes(self, ms):
        self._worker.wait(self._clock.utc_ms() + ms)

    def at_a_status_line(self):
        """Lets time pass until one was written; returns (the meter's Wh, the model's Wh)."""
        self.passes(MINUTE_MS - self._clock.utc_ms() % MINUTE_MS + 500)
        local = datetime.fromtimestamp(self._clock.utc_ms() // 1000, INDIA)
        line, _ = self.board.wait_for(f" {local:%H:%M}:0[0-9] status ")
        wh = round(float(re.search(r"kWh=([0-9.]+)", line)[1]) * 1000)
        return wh, self.board.command("energy")["energy_mj"] // 3_600_000

    def status(self):
        return [line for line in self.board.lines() if " status " in line][-1]

    def events(self, count=0):
        """(code, words in brackets) of the sensor's events, in order; waits until there are
        `count`, as the log comes through a pipe."""
        number = 0
        for _ in range(count):
            _, number = self.board.wait_for(EVENT, after=number)
        found = (re.search(EVENT, line) for line in self.board.lines())
        return [(int(match[1]), match[3]) for match in found if match]

    def assert_no_restart(self):
        assert sum(" boot cause=" in line for line in self.board.lines()) == 1


@pytest.fixture
def story(tmp_path):
    micropython(32)
    with Conductor(start_ms=START_MS) as conductor, Story(tmp_path / "m", conductor) as made:
        yield made


@pytest.mark.parametrize("state", FAULTS)
def test_a_fault_is_told_not_counted_and_over_without_a_restart(story, state):
    assert story.events() == []
    story.board.set(sensor=state)
    story.at_a_status_line()
    story.passes(30_000)
    assert story.events(1) == [(1010, FAULTS[state])]
    assert "V=0.0 A=0.000 W=0 " in story.status()
    assert story.status().endswith("SENSOR FAULT")
    story.board.set(sensor="ok")
    wh, model_wh = story.at_a_status_line()
    (_, _), (code, length), (restored, _) = story.events()
    assert (code, restored) == (1012, 1011)
    gap_s = float(length.split()[0])
    assert 88 <= gap_s <= 95
    assert abs(wh - (model_wh - POWER_W * gap_s / 3600)) <= 2
    assert "V=230.0 A=10.000 W=2300 " in story.status()
    story.board.set(load="constant:230V,5A", sensor=state)
    story.passes(20_000)
    story.board.set(load=LOAD, sensor="ok")
    story.passes(10_000)
    assert [code for code, _ in story.events(6)] == [1010, 1012, 1011] * 2
    story.assert_no_restart()


@pytest.mark.parametrize("state", FAULTS)
def test_a_load_that_ends_while_the_sensor_is_at_fault_is_not_invented(story, state):
    wh, model_wh = story.at_a_status_line()
    missed_wh = model_wh - wh
    story.board.set(sensor=state, load="constant:230V,0A")
    story.passes(30_000)
    story.board.set(sensor="ok")
    wh, model_wh = story.at_a_status_line()
    # The last second before, and a sample of a converter that stands still.
    assert -2 <= model_wh - wh - missed_wh <= 2
    story.assert_no_restart()


def test_one_reading_that_fails_is_bridged_and_not_told(story):
    wh, model_wh = story.at_a_status_line()
    missed_wh = model_wh - wh
    for _ in range(5):
        story.board.set(sensor="hang")
        story.passes(1000)
        story.board.set(sensor="ok")
        story.passes(20_000)
    wh, model_wh = story.at_a_status_line()
    assert abs(model_wh - wh - missed_wh) <= 1
    assert story.events() == []


def test_a_chip_that_reset_itself_is_told_and_costs_nothing(story):
    wh, model_wh = story.at_a_status_line()
    missed_wh = model_wh - wh
    for number in range(1, 4):
        story.board.set(sensor="reset")
        story.passes(15_000)
        assert story.events(2 * number) == number * [(1010, "configuration lost"), (1011, None)]
    wh, model_wh = story.at_a_status_line()
    assert abs(model_wh - wh - missed_wh) <= 1
    story.assert_no_restart()


def test_a_current_above_the_range_is_counted_as_its_end_and_told(story):
    wh, _ = story.at_a_status_line()
    story.board.set(load="constant:230V,60A")
    story.passes(MINUTE_MS - 5_000)
    assert story.events(1) == [(1010, "current above the range, counted as its end")]
    story.board.set(load="constant:230V,0A")
    counted_wh = story.at_a_status_line()[0] - wh
    assert story.events(2)[1:] == [(1011, None)]
    assert 230 * 40 * 53 // 3600 <= counted_wh <= 230 * 40 * 57 // 3600 + 7  # 40 A at 32,000 steps
    story.assert_no_restart()
