"""Sampling and metering go on, whatever the network does: the flashed meter on the board.

Time is simulated, so this shows that nothing waits for the network; how long code computes is in
`make bench` (row link).
"""

import contextlib
import re
import socket

import pytest

from boards.emulated import flashing
from boards.emulated.board import EmulatedBoard
from boards.emulated.conductor import Conductor
from host_tests.fakes.documents import meter_config
from host_tests.fakes.interpreters import micropython
from host_tests.fakes.zoo import Zoo

START_MS = 1_767_600_000_000
MINUTES = 5
RATE = 120
POWER_W = 2_300

FAULTS = {
    "name server silent": "link down: dns: no answer",
    "no such name": "link down: dns: code 3",
    "nobody": "link down: ECONNREFUSED",
    "never accepts": "link down: no answer",
    "deaf": "link down: no answer",
    "deaf after SUBACK": "link down: no answer",
    "one byte at a time": "link up",
    "slow": "link up",
}


@pytest.fixture(scope="module")
def zoo():
    with Zoo() as zoo:
        yield zoo


@pytest.fixture(scope="module")
def files():
    micropython(32)
    return flashing.files_of(flashing.build())


def register(line):
    """(second of the day, Wh) of a status line."""
    hour, minute, second, wh = re.search(r"(\d+):(\d+):(\d+) status .*kWh=([\d.]+)", line).groups()
    return int(hour) * 3600 + int(minute) * 60 + int(second), int(wh.replace(".", ""))


@pytest.mark.parametrize("fault", FAULTS)
def test_no_sample_is_lost_by_the_network(fault, zoo, files, tmp_path):
    with contextlib.ExitStack() as stack:
        if fault == "never accepts":
            # The queue of connections is full: nobody answers the SYN.
            full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            port = full.getsockname()[1]
            for _ in range(2):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", port))
        else:
            port = zoo.ports.get(fault, 1)
        config = meter_config()
        config["broker"].update(host="broker.test", port=port)
        flashing.flash_image(tmp_path, files, config)
        settings = {"load": f"constant:230V,{POWER_W // 230}A", "rtc_set": True}
        if fault != "no such name":
            settings["names"] = {"broker.test": "127.0.0.1"}
        # A deaf peer does not stop the world for long.
        conductor = stack.enter_context(Conductor(RATE, start_ms=START_MS, cap_s=0.3))
        board = EmulatedBoard(tmp_path, "JH-0001", conductor.address, settings=settings, bits=32)
        stack.enter_context(board)
        if fault == "name server silent":
            board.set(dns=False)
        board.wait_for(FAULTS[fault], 20)
        last = 0
        for _ in range(MINUTES):
            _line, last = board.wait_for(" status ", 20, after=last)
        lines = [line for line in board.lines() if " status " in line]
        assert not [line for line in board.lines() if "event 1012" in line or "Traceback" in line]
        assert board.look()["contact"]
        # From the first status to the last, every Wh: no sample is missing or late.
        (first_s, first_wh), (last_s, last_wh) = register(lines[0]), register(lines[-1])
        assert last_s - first_s >= (MINUTES - 1) * 60
        assert abs(last_wh - first_wh - POWER_W * (last_s - first_s) // 3600) <= 1
