"""Power of the emulated board: cuts at any instant, resets, what survives them, and the CLI."""

import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from boards.emulated import flashing
from boards.emulated.board import BoardError, EmulatedBoard
from boards.emulated.cli import lab_config
from boards.emulated.conductor import Conductor
from boards.emulated.sim_clock import ConductedClock
from host_tests.fakes.interpreters import micropython
from toolchain import locate

START_MS = 1_767_225_600_000

COUNTER = b"""
import os
try:
    n = int(open("count").read())
except OSError:
    n = 0
with open("count", "w") as f:
    f.write(str(n + 1))
print("boot", n + 1)
"""

# Appends numbered lines for ever, each flushed, and says which are on the flash.
WRITER = b"""
import asyncio
async def main():
    n = 0
    with open("journal") as f:
        for line in f:
            if not line.endswith("\\n"):
                break
            n += 1
            assert line == "%08d\\n" % n, line
    print("found", n)
    f = open("journal", "a")
    while True:
        n += 1
        f.write("%08d\\n" % n)
        f.flush()
        print("wrote", n)
        await asyncio.sleep(1)
open("journal", "a").close()
asyncio.run(main())
"""


@pytest.fixture
def conductor():
    with Conductor(start_ms=START_MS) as c:
        yield c


@pytest.fixture
def make_board(conductor, tmp_path):
    with contextlib.ExitStack() as stack:

        def make(files, name="meter", start=True, **options):
            micropython(32)
            folder = tmp_path / name
            flashing.flash_image(folder, files)
            board = EmulatedBoard(folder, name, conductor.address, **options)
            return stack.enter_context(board) if start else board

        yield make


# ---- cuts ----


def test_flash_survives_a_power_cut_and_ram_does_not(make_board):
    board = make_board({"main.py": COUNTER})
    _, number = board.wait_for("^boot 1$")
    board.cut_power()
    assert not board.powered
    board.restore_power()
    board.wait_for("^boot 2$", after=number)


@pytest.mark.slow
def test_no_flushed_record_is_lost_in_thirty_cuts(make_board):
    board = make_board({"main.py": WRITER})
    number = 0
    for i in range(30):
        _, number = board.wait_for("^wrote", after=number)
        board.wait_for("^wrote", after=number + i)
        board.cut_power()
        whole = [line for line in board.lines() if re.fullmatch(r"wrote [0-9]+", line)]
        wrote = int(whole[-2].split()[1])  # the last one may have been cut short
        number = board.line_count
        board.restore_power()
        found, number = board.wait_for("^found", after=number)
        assert int(found.split()[1]) in (wrote + 1, wrote + 2)


@pytest.mark.parametrize("write", [1, 2, 3, 5, 8, 13])
def test_a_cut_in_the_middle_of_a_write_leaves_old_or_new(make_board, tmp_path, conductor, write):
    program = b"""
import os
print("was", repr(open("f").read()) if "f" in os.listdir() else None)
for i in range(20):
    with open("f", "w") as f: f.write("x%d" % i)
    print("is", "x%d" % i)
"""
    board = make_board({"main.py": program}, settings={"cut_at_write": write}, start=False)
    with contextlib.suppress(BoardError), board:
        board.command("ping")  # answered, or cut off
        board.wait_for("^is x19$", timeout_s=1)
    last = [line[3:] for line in board.lines() if line.startswith("is ")]
    done = int(last[-1][1:]) if last else -1
    with EmulatedBoard(tmp_path / "meter", "again", conductor.address) as board:
        was = board.wait_for("^was")[0].split()[1]
    if done < 0:
        assert was in ("None", "''", "'x0'")  # littlefs makes a new file and then fills it
    else:
        assert was in (f"'x{done}'", f"'x{done + 1}'")


# littlefs has no room for a new file's name, then
@pytest.mark.parametrize(
    ("number", "said"), [(errno.EIO, errno.EIO), (errno.ENOSPC, errno.ENAMETOOLONG)]
)
def test_a_flash_that_refuses_says_so_and_keeps_what_it_has(make_board, number, said):
    program = b"""
import os, time
n = 0
while True:
    time.sleep_ms(100)
    n += 1
    try:
        with open("new", "w") as f: f.write(str(n))
        os.rename("new", "f")
        print("wrote", n)
    except OSError as error:
        print("refused", error.errno, "is", open("f").read() == str(last))
        continue
    last = n
"""
    board = make_board({"main.py": program})
    board.wait_for("^wrote 3$")
    board.command("refuse_writes", errno=number)
    _, line = board.wait_for(f"^refused {said} is True$")
    board.command("refuse_writes", errno=0)
    board.wait_for("^wrote", after=line)
    with pytest.raises(BoardError, match="errno: must be"):
        board.command("refuse_writes", errno=1)


def test_without_power_there_is_no_answer(make_board):
    board = make_board({"main.py": COUNTER})
    board.wait_for("^boot 1$")
    board.look()
    board.cut_power()
    with pytest.raises(BoardError, match="no power"):
        board.look()
    board.cut_power()  # again: nothing to do
    board.restore_power()
    board.restore_power()
    assert board.runs == 2


# ---- resets and what survives ----


def test_rtc_runs_through_a_reset_and_not_through_a_power_cut(make_board):
    program = (
        b"import time, machine\n"
        b"print('year', time.gmtime()[0], 'ticks', time.ticks_ms() < 100)\n"
        b"if machine.reset_cause() == machine.PWRON_RESET:\n"
        b"    machine.RTC().datetime((2031, 5, 6, 1, 7, 8, 9, 0))\n"
        b"    time.sleep(5)\n"
        b"    machine.reset()\n"
        b"print(time.gmtime())\n"
    )
    board = make_board({"main.py": program})
    line, number = board.wait_for(r"^\(")
    assert line == "(2031, 5, 6, 7, 8, 14, 1, 126)"
    assert board.lines()[0] == "year 2000 ticks True"
    board.cut_power()
    board.restore_power()
    board.wait_for("^year 2000 ticks True$", after=number)


def test_reset_causes(make_board):
    program = b"""
import machine, sys
causes = {machine.PWRON_RESET: "power", machine.HARD_RESET: "hard",
          machine.WDT_RESET: "watchdog", machine.SOFT_RESET: "soft"}
cause = causes[machine.reset_cause()]
print("cause", cause)
if cause == "power": machine.reset()
if cause == "hard": sys.exit()
if cause == "soft":
    import time
    machine.WDT(timeout=5000)
    time.sleep(60)
"""
    board = make_board({"main.py": program})
    board.wait_for("^cause watchdog$")
    causes = [line for line in board.lines() if line.startswith("cause")]
    assert causes == ["cause power", "cause hard", "cause soft", "cause watchdog"]
    board.reset()
    board.wait_for("^cause soft$", after=4)


def test_what_is_kept_without_power_is_on_disk(make_board, tmp_path):
    program = b"import esp32\nn = esp32.NVS('n')\nn.set_i32('k', 7)\nn.commit()\nprint('kept')"
    board = make_board({"main.py": program})
    board.wait_for("^kept$")
    board.cut_power()
    assert "7" in (tmp_path / "meter" / "hardware.json").read_text()
    assert not (tmp_path / "meter" / "hardware.json.new").exists()


def test_time_stands_still_while_a_board_comes_up(make_board, conductor):
    clock = ConductedClock(conductor.address, "scenario")
    board = make_board({"main.py": b"import time\nprint('at', time.ticks_ms())\ntime.sleep(1e6)"})
    assert clock.utc_ms() == conductor.now_ms() == START_MS
    worker = clock.worker("w")
    worker.wait(START_MS + 5000)
    board.cut_power()
    worker.wait(START_MS + 10_000)
    board.restore_power()
    board.reset()
    assert conductor.now_ms() == START_MS + 10_000
    worker.close()
    clock.close()


# ---- the heap and the chip's limits ----


@pytest.mark.parametrize(("bits", "heap_kb"), [(32, 110), (32, 64), (64, 110)])
def test_the_firmware_has_the_heap_of_the_chip(make_board, bits, heap_kb):
    micropython(bits)
    program = b"import gc\ngc.collect()\nprint('free', gc.mem_free())"
    board = make_board({"main.py": program}, bits=bits, heap_kb=heap_kb)
    free_bytes = int(board.wait_for("^free")[0].split()[1])
    names_bytes = {32: 8_960, 64: 14_080}[bits]  # of the table of names, counted as the firmware's
    models_bytes = 600 * bits // 8  # what the emulator will take for its models
    cap_bytes = heap_kb * 1024 * bits // 32 - names_bytes + models_bytes
    assert cap_bytes - 1024 <= free_bytes <= cap_bytes


def test_the_interpreter_that_was_chosen_is_taken(make_board, monkeypatch):
    chosen = micropython(64)[-1]
    monkeypatch.delenv("MICROPYTHON32", raising=False)
    monkeypatch.setenv("MICROPYTHON", chosen)
    board = make_board({"main.py": b"import sys\nprint('word', sys.maxsize > 1 << 40)"})
    board.wait_for("^word True$")
    monkeypatch.setenv("MICROPYTHON", "no-such-program")
    with pytest.raises(locate.ToolMissing, match=r"\$MICROPYTHON is set to no-such-program"):
        make_board({}, "other")


def test_a_loop_that_only_watches_the_clock_ends(make_board):
    program = (
        b"import time\nt = time.ticks_ms()\n"
        b"while time.ticks_diff(time.ticks_ms(), t) < 3000: pass\nprint('over')"
    )
    make_board({"main.py": program}).wait_for("^over$")


def test_reading_the_clock_allocates_nothing(make_board):
    program = (
        b"import time, micropython\n"
        b"def f():\n    for i in range(100): time.ticks_diff(time.ticks_us(), time.ticks_ms())\n"
        b"micropython.heap_lock()\nf()\nmicropython.heap_unlock()\nprint('fine')"
    )
    make_board({"main.py": program}).wait_for("^fine$")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"bits": 16}, "bits: 32 or 64"),
        ({"heap_kb": 3}, "heap_kb: 32 to 8192"),
        ({"name": "two words"}, "name: "),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, text):
    with pytest.raises(ValueError, match=text):
        EmulatedBoard(tmp_path, options.pop("name", "x"), ("127.0.0.1", 1), **options)


def test_a_setting_that_cannot_be_is_told(make_board):
    board = make_board({"main.py": COUNTER}, settings={"load": "rubbish"}, start=False)
    with pytest.raises(BoardError, match=r"^meter: load: must be "):
        board.start()


# ---- flashing ----


def test_a_meter_starts_while_its_bus_hangs_and_shows_why_it_cannot_start(conductor, tmp_path):
    folder = tmp_path / "meter"
    files = flashing.files_of(flashing.build())
    flashing.flash_image(folder, files, lab_config())
    settings = {"load": "constant:230V,2A"}
    with EmulatedBoard(folder, "meter", conductor.address, settings=settings) as board:
        _, number = board.wait_for(" status V=230.0 ", 30)
        board.set(sensor="hang")
        board.cut_power()
        board.restore_power()  # the clock chip is on the same bus
        _, number = board.wait_for(" status V=0.0 .* relay=closed .* SENSOR FAULT", 30, number)
        board.set(sensor="ok")
        board.wait_for(" status V=230.0 ", 30, number)
    flashing.flash_image(folder, {**files, "firmware/meter.mpy": b"no code"})
    with EmulatedBoard(folder, "meter", conductor.address) as board:
        board.wait_for("^Traceback", 30)


def test_flash_image_follows_the_files_and_leaves_the_meters_own(tmp_path, make_board):
    said = []
    folder = tmp_path / "meter"
    files = {"main.py": COUNTER, "a.txt": b"a", "folder/sub/b.txt": b"b", "firmware/c.mpy": b"c"}
    assert flashing.flash_image(folder, files, {"name": "m"}, say=said.append)
    assert not flashing.flash_image(folder, files, {"name": "other"}, say=said.append)
    assert len(said) == 1 and "3 files written, 0 removed" in said[0]
    del files["folder/sub/b.txt"]
    files["a.txt"] = b"changed"
    assert flashing.flash_image(folder, files, say=said.append)
    assert "1 files written, 1 removed" in said[1]
    board = make_board(files)
    answer = []
    board.console(answer.append)
    board.wait_for("^boot 1$")
    board.type(
        b"\x03\r\nimport os\r\n"
        b"print(os.listdir(), os.listdir('/rom/firmware'), open('config.json').read())\r\n"
    )
    line = board.wait_for(r"^\[.*'c.mpy'\] ")[0]
    assert "folder" not in line  # an empty one could hide a package in the ROM partition
    assert json.loads(line[line.index("{") :]) == {"name": "m"}


def test_the_firmware_runs_from_rom_and_not_from_an_older_copy_on_the_flash(tmp_path, make_board):
    files = {"main.py": b"import firmware.it", "firmware/it.py": b"print('new')"}
    folder = tmp_path / "meter"
    flashing.flash_image(folder, {"main.py": b"", "firmware/it.py": b""})
    board = make_board(files)
    board.wait_for("^new$")
    # As by hand: a file system is searched before the ROM.
    assert flashing.flash_device(board.port, {**files, "firmware/it.py": b"print('newer')"})
    board.wait_for("^newer$")


def test_flash_device_through_the_serial_port(make_board):
    board = make_board({"main.py": COUNTER, "old.py": b"1"})
    board.wait_for("^boot 1$")
    files = {"main.py": b"print('new main')", "lib2/x/y.py": b"Y = 5\n", "firmware/z.py": b""}
    said = []
    assert flashing.flash_device(board.port, files, say=said.append)
    board.wait_for("^new main$")
    assert "2 files written, 1 removed" in said[0]
    assert not flashing.flash_device(board.port, files)


def test_a_chip_without_a_rom_partition_gets_the_firmware_on_its_file_system(make_board):
    board = make_board({"main.py": b"print('old')"}, settings={"rom_partition": False})
    board.wait_for("^old$")
    said = []
    files = {"main.py": b"import firmware.it", "firmware/it.py": b"print(__file__)"}
    assert flashing.flash_device(board.port, files, say=said.append)
    board.wait_for("^/?firmware/it.py$")
    assert "no ROM partition" in said[0]
    assert not flashing.flash_device(board.port, files)


def test_build_compiles_only_what_changed(tmp_path):
    out = flashing.build(tmp_path / "out")
    files = flashing.files_of(out)
    assert {"main.py", "board.mpy", "firmware/main.mpy"} <= set(files)
    times = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    (out / "firmware" / "gone.mpy").write_bytes(b"")
    flashing.build(out)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == times


def test_an_unknown_board_is_told():
    with pytest.raises(flashing.FlashError, match="no board 'nope'; there are: emulated, esp32"):
        flashing.build(board="nope")


# ---- the command line ----


def bijli_board(*arguments, **options):
    command = [sys.executable, "-m", "boards.emulated.cli", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


def children_of(pid):
    """Process ids of the children of all threads of `pid` (none where there is no /proc)."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [child for file in files for child in file.read_text().split()]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_bijli_board_run_and_its_companions(tmp_path, how):
    micropython(32)
    flash, port_file = tmp_path / "f", tmp_path / "port"
    run = bijli_board(
        "run", "--flash", flash, "--port-file", port_file, "--load", "constant:230V,2A"
    )
    for line in run.stdout:
        if "serial port" in line:
            break
    assert Path(port_file.read_text().strip()).exists()
    look = bijli_board("look", "--flash", flash)
    assert "voltage_mv: 230000" in look.communicate(timeout=30)[0]
    knob = bijli_board("set", "wifi=off", "--flash", flash)
    assert "wifi: False" in knob.communicate(timeout=30)[0]
    bad = bijli_board("set", "wifi=perhaps", "--flash", flash)
    assert "wifi: must be" in bad.communicate(timeout=30)[0] and bad.returncode == 1
    for command in ("cut", "restore"):
        process = bijli_board(command, "--flash", flash)
        assert process.communicate(timeout=30)[0] == "" and process.returncode == 0
    pids = children_of(run.pid)
    run.send_signal(how)
    run.communicate(timeout=30)
    assert run.returncode == 0
    assert not port_file.exists() and not (flash / "control").exists()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    late = bijli_board("look", "--flash", flash)
    assert "no board runs in" in late.communicate(timeout=30)[0] and late.returncode == 1


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("--clock", "fast", "real, max, or a number"),
        ("--start", "yesterday", "2026-01-05T08:00"),
        ("--voltage-ratio", "0", "0.001 to 100000"),
        ("--heap-kb", "1", "32 to 8192"),
        ("--bits", "8", "32 or 64"),
        ("--conductor", "nowhere", "HOST:PORT"),
        ("--seed", "-1", "0 to 1073741823"),
        ("--load", "rubbish", "load: must be"),
    ],
)
def test_wrong_values_are_told_with_what_is_allowed(tmp_path, option, value, text):
    micropython(32)
    run = bijli_board(
        "run", "--flash", tmp_path / "f", option, value, env={**os.environ, "COLUMNS": "200"}
    )
    out = run.communicate(timeout=60)[0]
    assert run.returncode != 0
    assert text in out, out


@pytest.mark.parametrize(("battery", "expected"), [(True, START_MS // 1000), (False, None)])
def test_a_clock_chip_that_was_set_before_shows_the_time_if_it_has_a_battery(
    make_board, battery, expected
):
    files = flashing.files_of(flashing.build())
    files["main.py"] = b"import board; print('utc', board.make().rtc.utc_s())"
    board = make_board(files, settings={"rtc_set": True, "rtc_battery": battery})
    assert board.wait_for("^utc ")[0] == f"utc {expected}"
