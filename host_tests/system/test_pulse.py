"""The pulse LED of the emulated board against the register, over a simulated day."""

import re

import pytest

from boards.emulated import flashing
from boards.emulated.board import EmulatedBoard
from boards.emulated.cli import lab_config
from boards.emulated.conductor import Conductor
from boards.emulated.sim_clock import ConductedClock
from host_tests.fakes.interpreters import micropython

START_MS = 1_767_600_000_000


@pytest.fixture
def start(tmp_path):
    """start(**settings) -> (board, passes): a meter alone, and what lets so many ms pass."""
    micropython(32)
    with Conductor(start_ms=START_MS) as conductor:
        clock = ConductedClock(conductor.address, "bench")
        worker = clock.worker("bench")
        boards = []

        def begin(**settings):
            folder = tmp_path / "meter"
            flashing.flash_image(folder, flashing.files_of(flashing.build()), lab_config())
            settings = {"rtc_set": True, "load": "constant:230V,2A", **settings}
            boards.append(EmulatedBoard(folder, "meter", conductor.address, settings=settings))
            boards[0].start()
            return boards[0], lambda ms: worker.wait(clock.utc_ms() + ms)

        yield begin
        for board in boards:
            board.stop()
        worker.close()
        clock.close()


def register_wh(board, passes):
    """Register and carried remainder, by the console, in Wh rounded down."""
    after = board.line_count
    board.type(b"status\r")
    passes(2000)
    line, _ = board.wait_for("^status ", 10, after)
    return round(float(line.split("kWh=")[1].split()[0]) * 1000)


@pytest.mark.slow
def test_pulses_of_a_day_are_the_register_within_one(start):
    board, passes = start(load="appliances:3")
    passes(86_400_000)
    board.set(load="constant:230V,0A")
    passes(5000)
    wh = register_wh(board, passes)
    assert wh > 1000
    assert abs(board.look()["pulses"] - wh) <= 1


def test_many_pulses_in_one_sample_are_spaced(start):
    """9.2 kW at 5,000 imp/kWh: 12.8 pulses in each second."""
    board, passes = start(load="constant:230V,40A", pulse_imp_per_kwh=5000)
    passes(600_000)
    began = board.look()
    levels = ""
    for _ in range(400):
        passes(5)
        levels += str(board.look()["pulse_led"])
    runs = re.findall("0+|1+", levels)[1:-1]
    assert len(runs) > 40
    assert min(len(run) for run in runs) >= 5  # of 6 looks in 30 ms
    passes(598_000)
    pulses = board.look()["pulses"] - began["pulses"]
    # The sensor's full scale cuts the current at 40 A: 9.2 kW for 600 s.
    assert abs(pulses - 9200 * 600 * 5000 // 3_600_000) <= 14


def test_a_constant_that_could_not_be_given_stops_the_start_by_name(start):
    board, passes = start(pulse_imp_per_kwh=10_000)
    passes(1000)
    line, _ = board.wait_for("^no meter: ")
    assert "pulse_imp_per_kwh: must be at most 5538" in line
    assert board.look()["pulses"] == 0
