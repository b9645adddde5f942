"""Faults on the emulated board: exceptions, watchdog, no configuration. The supply stays."""

import json
import re

import pytest
from littlefs import LittleFS

from boards.emulated import flashing
from boards.emulated.board import EmulatedBoard
from boards.emulated.cli import lab_config
from boards.emulated.conductor import Conductor
from host_tests.fakes.interpreters import micropython
from toolchain.config_file import with_check

START_MS = 1_767_600_000_000
SETTINGS = {"load": "constant:230V,2A", "rtc_set": True}


@pytest.fixture
def conductor():
    with Conductor(start_ms=START_MS) as conductor:
        yield conductor


@pytest.fixture
def make_board(conductor, tmp_path):
    def make(main=None, **board):
        micropython(32)
        files = flashing.files_of(flashing.build())
        if main:
            files["main.py"] = main
        folder = tmp_path / "meter"
        flashing.flash_image(folder, files, lab_config())
        # Room for what the tests plant; test_heap.py is about the heap.
        settings = {**SETTINGS, **board}
        return EmulatedBoard(folder, "meter", conductor.address, settings=settings, heap_kb=160)

    return make


def change_flash(board, change):
    """Calls `change(file system)` on the flash of a board without power."""
    path = board.folder / "flash.bin"
    fs = LittleFS(block_size=4096, block_count=512, mount=False)
    fs.context.buffer = bytearray(path.read_bytes())
    fs.mount()
    change(fs)
    fs.unmount()
    path.write_bytes(fs.context.buffer)


def test_an_exception_in_the_sampling_is_shown_after_the_restart_and_recorded(make_board):
    main = b"""
from firmware import main, meter
tick = meter.Meter.tick
def failing(self, dt_ms):
    if self.journal.boot == 1 and self.clock.up_s() > 100:
        return self.planted
    tick(self, dt_ms)
meter.Meter.tick = failing
main.run()
"""
    with make_board(main) as board:
        _, number = board.wait_for("^Traceback", 30)
        line, number = board.wait_for("^fault before this boot: ", 30, number)
        assert re.search(r"AttributeError at main.py:[0-9]+, up 1[0-9][0-9] s", line)
        line, number = board.wait_for(" fault AttributeError at main.py:", 30, number)
        _, number = board.wait_for(" status .* relay=closed ", 60, number)
        board.cut_power()
        board.restore_power()
        board.wait_for(" status .* relay=closed ", 60, number)
        text = "\n".join(board.lines())
        assert text.count("fault before this boot") == text.count(" fault Attr") == 1
        # The register was persisted on the way down.
        wh = [int(float(kwh) * 1000) for kwh in re.findall(r"boot cause=.* kWh=([0-9.]+)", text)]
        assert wh[1] >= 12


def test_faults_soon_after_each_start_are_not_met_again_at_once(make_board):
    main = b"""
from firmware import main, meter
def failing(self, dt_ms):
    return self.planted
meter.Meter.tick = failing
main.run()
"""
    with make_board(main) as board:
        number = 0
        for pause_s in (1, 2, 4, 8):
            line, number = board.wait_for("^failed soon after the start", 30, number)
            assert line.endswith(f"again in {pause_s} s")
            _, number = board.wait_for("^fault before this boot: AttributeError", 30, number)


def test_an_exception_in_the_link_leaves_the_sampling_alone(make_board):
    main = b"""
from firmware import main
from firmware.link import uplink
def failing(self):
    raise ValueError("planted")
uplink.Uplink._join = failing
main.run()
"""
    with make_board(main) as board:
        number = 0
        for _ in range(3):
            _, number = board.wait_for(" fault ValueError at link/uplink.py:", 30, number)
        board.wait_for(" status V=230.0 .* relay=closed ", 30, number)
        assert len([line for line in board.lines() if " boot cause=" in line]) == 1


def test_a_watchdog_reset_is_recorded(make_board):
    main = b"""
from firmware import main, meter
tick = meter.Meter.tick
def hanging(self, dt_ms):
    while self.journal.boot == 1 and self.clock.up_s() > 100:
        pass
    tick(self, dt_ms)
meter.Meter.tick = hanging
main.run()
"""
    with make_board(main) as board:
        _, number = board.wait_for("boot cause=watchdog", 60)
        board.wait_for(" fault watchdog at ", 30, number - 1)


def test_without_a_readable_configuration_the_last_good_copy_runs_until_there_is_a_good_one(
    make_board,
):
    with make_board() as board:
        _, number = board.wait_for(" status V=230.0 ", 60)
        board.cut_power()

        def write(raw):
            def change(fs):
                with fs.open("/config.json", "wb") as file:
                    file.write(raw)

            return change

        change_flash(board, write(b'{"v":1,"meter":"LA'))
        board.restore_power()
        _, number = board.wait_for("config.json: bad JSON or CRC; SERVICE", 30, number)
        _, number = board.wait_for("event 1036", 30, number)
        _, number = board.wait_for(" status V=230.0 ", 60, number)
        board.cut_power()
        damaged = bytearray(with_check(json.dumps(lab_config())))
        damaged[damaged.index(b'"key": "') + 8] ^= 1  # still a configuration, with another key
        change_flash(board, write(bytes(damaged)))
        board.restore_power()
        _, number = board.wait_for("config.json: bad JSON or CRC; SERVICE", 30, number)
        _, number = board.wait_for(" status V=230.0 ", 60, number)
        board.cut_power()
        change_flash(board, write(json.dumps({**lab_config(), "live_period_s": 77}).encode()))
        board.restore_power()
        _, number = board.wait_for(" status V=230.0 ", 60, number)
        board.cut_power()
        change_flash(board, lambda fs: fs.remove("/config.json"))
        board.restore_power()
        _, number = board.wait_for("event 1036", 30, number)
        board.wait_for(" status V=230.0 ", 60, number)
        assert "no meter" not in "\n".join(board.lines())


# The meter `begins` a cause in its first boot, 10 s after it.
CAUSE = b"""
from firmware import main, meter
tick = meter.Meter.tick
def beginning(self, dt_ms):
    tick(self, dt_ms)
    if self.journal.boot == 1 and self.clock.up_s() > 10 and not self.control.standing:
        self.control._switch(%d, "%s")
meter.Meter.tick = beginning
"""
# It cannot read its flash, and says where the contact is while it waits for the next start.
NO_JOURNAL = b"""
import machine, time
from firmware import main
from firmware.storage import journal
from firmware.storage.errors import StorageError
def failing(self, store_id):
    raise StorageError("planted", 5)
journal.Journal.open = failing
sleep = time.sleep
def shown(seconds):
    sleep(seconds)
    print("waited, contact %d" % machine.Pin(13).value())
time.sleep = shown
main.run()
"""


@pytest.mark.parametrize(
    ("cause", "reason", "closed"), [(1, "order", False), (2, "tamper", False), (16, "credit", True)]
)
def test_a_single_coil_is_held_when_the_state_cannot_be_read_unless_the_utility_has_it_open(
    make_board, cause, reason, closed
):
    def write_main(fs):
        with fs.open("/main.py", "wb") as file:
            file.write(NO_JOURNAL)

    def lose_config(fs):
        fs.remove("/config.json")
        for name in fs.listdir("/keep"):
            fs.remove("/keep/" + name)

    with make_board(CAUSE % (cause, reason.encode()) + b"main.run()", relay_kind="single") as board:
        _, number = board.wait_for("contact to be open, reason " + reason, 60)
        board.cut_power()
        change_flash(board, write_main)
        board.restore_power()
        for _ in range(3):
            _, number = board.wait_for("^no start, tries again", 30, number)
            line, number = board.wait_for("^waited, contact ", 30, number)
            assert line.endswith(str(int(closed)))
        board.cut_power()
        change_flash(board, lose_config)
        board.restore_power()
        board.wait_for("^no meter", 30, number)
        assert board.look()["relay_close"] == closed


def test_a_program_that_hangs_does_not_leave_a_coil_driven(make_board):
    main = (
        (CAUSE % (1, b"order"))
        + b"""
import machine, time
from firmware.relay import driver
operate = driver.RelayDriver.operate
def hanging(self, closed):
    operate(self, closed)
    if closed:
        return
    levels = ""
    for _ in range(12):
        levels += str(machine.Pin(27).value())
        time.sleep_ms(10)
    print("coil " + levels + " contact %d" % machine.Pin(13).value())
    while True:
        time.ticks_ms()
driver.RelayDriver.operate = hanging
main.run()
"""
    )
    with make_board(main) as board:
        line, number = board.wait_for("^coil ", 60)
        assert re.fullmatch("coil 1{6,7}0+ contact 0", line)
        board.wait_for("boot cause=watchdog", 60, number)


def test_an_exception_behind_a_command_does_not_cut_its_pulse_short(make_board):
    main = (
        (CAUSE % (1, b"order"))
        + b"""
import machine, time
from firmware.relay import driver
operate = driver.RelayDriver.operate
def failing(self, closed):
    operate(self, closed)
    if not closed:
        raise ValueError("planted")
driver.RelayDriver.operate = failing
sleep = time.sleep
def shown(seconds):
    print("waits, coil %d contact %d" % (machine.Pin(27).value(), machine.Pin(13).value()))
    sleep(seconds)
time.sleep = shown
main.run()
"""
    )
    with make_board(main) as board:
        line, number = board.wait_for("^waits, ", 60)
        assert line == "waits, coil 0 contact 0"
        _, number = board.wait_for(" fault ValueError", 60, number)
        board.wait_for(" event 301 ", 60, number)
