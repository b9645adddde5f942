"""The emulated board's serial port, driven by PyPI's mpremote as it is."""

import contextlib
import os
import pty
import re
import select
import subprocess
import time

import pytest

from boards.emulated import flashing
from boards.emulated.board import EmulatedBoard
from boards.emulated.conductor import Conductor
from host_tests.fakes.interpreters import micropython
from host_tests.fakes.mpremote import command, mpremote

START_MS = 1_767_225_600_000

# A firmware that never ends: a task per second, and one that reads the console like firmware does.
ENDLESS = b"""
import asyncio, sys
async def console():
    stream = asyncio.StreamReader(sys.stdin)
    while True:
        line = await stream.readline()
        print("console:", line.strip().decode())
async def main():
    asyncio.create_task(console())
    n = 0
    while True:
        await asyncio.sleep(1)
        n += 1
        if n % 3600 == 0:
            print("hours", n // 3600)
print("main runs")
asyncio.run(main())
"""


@pytest.fixture
def conductor():
    with Conductor(start_ms=START_MS) as c:
        yield c


@pytest.fixture
def make_board(conductor, tmp_path):
    """make_board(files={...}, **options of EmulatedBoard) -> a started board."""
    with contextlib.ExitStack() as stack:

        def make(files=None, name="meter", **options):
            bits = options.setdefault("bits", 32)
            micropython(bits)  # skips without it
            folder = tmp_path / name
            if files:
                flashing.flash_image(folder, files)
            board = EmulatedBoard(folder, name, conductor.address, **options)
            return stack.enter_context(board)

        yield make


# ---- running code ----


@pytest.mark.parametrize("bits", [32, 64])
def test_exec_and_eval(make_board, bits):
    board = make_board(bits=bits)
    assert mpremote(board, "exec", "print(1 + 1)") == "2\n"
    assert mpremote(board, "eval", "'a' * 3") == "aaa\n"


def test_a_failing_program_shows_its_traceback_as_the_chip_does(make_board):
    run = mpremote(make_board(), "exec", "import time\ntime.sleep('x')", check=False)
    assert run.returncode == 1
    assert run.stdout.replace("\r", "") == (
        "Traceback (most recent call last):\n"
        '  File "<stdin>", line 2, in <module>\n'
        "ValueError: invalid syntax for integer\n"
    ) or run.stdout.startswith('Traceback (most recent call last):\n  File "<stdin>", line 2')


def test_run_a_long_program_from_a_file(make_board, tmp_path):
    program = tmp_path / "long.py"
    lines = [f"a{i} = {i}  # some comment to make it long" for i in range(500)]
    program.write_text("\n".join(lines) + "\nprint(a499)\n")
    assert mpremote(make_board(heap_kb=256), "run", str(program)) == "499\n"


def test_large_output_arrives_whole(make_board):
    out = mpremote(make_board(), "exec", "for i in range(20000): print(i)")
    assert out.split() == [str(i) for i in range(20000)]


def test_sleeping_takes_simulated_time_only(make_board, conductor):
    board = make_board()
    code = "import time\nt = time.ticks_ms()\ntime.sleep(86400)\nprint(time.ticks_ms() - t)"
    assert mpremote(board, "exec", code) == "86400000\n"


def test_several_commands_in_one_call_share_the_interpreter(make_board):
    assert mpremote(make_board(), "exec", "a = 5", "+", "exec", "print(a)") == "5\n"


def test_soft_reset_clears_and_resume_keeps(make_board):
    board = make_board()
    mpremote(board, "exec", "a = 5")
    assert mpremote(board, "resume", "exec", "print(a)") == "5\n"
    mpremote(board, "soft-reset")
    assert mpremote(board, "resume", "exec", "print('a' in globals())") == "False\n"


def test_hard_reset_runs_main_again(make_board):
    board = make_board({"main.py": b"import machine\nprint('cause', machine.reset_cause())"})
    board.wait_for("^cause 1$")  # PWRON_RESET
    mpremote(board, "reset")
    board.wait_for("^cause 2$")  # HARD_RESET


def test_exec_no_follow_leaves_the_program_running(make_board):
    board = make_board()
    code = "import time\nn = 0\nwhile True: n += 1; time.sleep(1)"
    mpremote(board, "exec", "--no-follow", code)
    assert int(mpremote(board, "resume", "exec", "print(n)")) >= 0


# ---- files ----


def test_files_there_and_back(make_board, tmp_path):
    board = make_board()
    data = bytes(range(256)) * 20
    (tmp_path / "in.bin").write_bytes(data)
    mpremote(board, "fs", "cp", str(tmp_path / "in.bin"), ":out.bin")
    assert mpremote(board, "fs", "ls").split() == ["ls", ":", "5120", "out.bin"]
    mpremote(board, "fs", "cp", ":out.bin", str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == data
    run = subprocess.run(["sha256sum", tmp_path / "in.bin"], capture_output=True, text=True)
    assert run.stdout.split()[0] in mpremote(board, "fs", "sha256sum", "out.bin")
    mpremote(board, "fs", "touch", "empty")
    mpremote(board, "fs", "rm", "out.bin")
    assert mpremote(board, "fs", "ls").split() == ["ls", ":", "0", "empty"]


def test_trees_there_and_back(make_board, tmp_path):
    board = make_board()
    source = tmp_path / "tree"
    (source / "sub" / "deep").mkdir(parents=True)
    (source / "a.py").write_text("a = 1\n")
    (source / "sub" / "deep" / "b.txt").write_text("hello\n")
    mpremote(board, "fs", "cp", "-r", str(source), ":")
    tree = mpremote(board, "fs", "tree")
    assert [line.strip("│├└─ ") for line in tree.splitlines()[1:]] == [
        ":/",
        "tree",
        "a.py",
        "sub",
        "deep",
        "b.txt",
    ]
    assert mpremote(board, "fs", "cat", "tree/sub/deep/b.txt") == "hello\n"
    back = tmp_path / "back"
    back.mkdir()
    mpremote(board, "fs", "cp", "-r", ":tree", str(back))
    assert (back / "tree" / "sub" / "deep" / "b.txt").read_text() == "hello\n"
    mpremote(board, "fs", "mkdir", "other")
    mpremote(board, "fs", "rm", "-r", ":tree")
    assert mpremote(board, "fs", "ls").split() == ["ls", ":", "0", "other/"]
    mpremote(board, "fs", "rmdir", "other")


def test_removing_everything_touches_nothing_of_the_host(make_board):
    board = make_board({"main.py": b"print('here')", "data/log": b"x"})
    emulator = flashing.emulator_files()
    before = sorted(emulator.rglob("*"))
    mpremote(board, "fs", "rm", "-r", ":")
    assert mpremote(board, "fs", "ls") == "ls :\n"
    assert sorted(emulator.rglob("*")) == before
    code = "import os, vfs\nprint(os.listdir('/'), hasattr(vfs, 'VfsPosix'), hasattr(os, 'system'))"
    assert mpremote(board, "exec", code) == "[] False False\n"


def test_df_shows_the_flash_and_nothing_else(make_board):
    lines = mpremote(make_board(), "df").splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"<VfsLfs2> +2097152 +\d+ +\d+ +\d+ /", lines[1])


def test_mount_runs_and_imports_files_of_the_host(make_board, tmp_path):
    (tmp_path / "helper.py").write_text("def f():\n    return 'from the host'\n")
    (tmp_path / "blob").write_bytes(bytes(range(256)) * 8)  # with 0x03, 0x0a and 0x18 in it
    (tmp_path / "prog.py").write_text(
        "import helper\n"
        "print(helper.f())\n"
        "with open('blob', 'rb') as f:\n    data = f.read()\n"
        "print(data == bytes(range(256)) * 8)\n"
        "with open('written', 'wb') as f:\n    f.write(data)\n"
    )
    board = make_board()
    out = mpremote(board, "mount", str(tmp_path), "exec", "import prog")
    assert out.replace("\r", "").splitlines()[1:] == ["from the host", "True"]
    assert (tmp_path / "written").read_bytes() == bytes(range(256)) * 8
    out = mpremote(board, "mount", str(tmp_path), "run", str(tmp_path / "prog.py"))
    assert "from the host" in out


def test_mip_installs_a_local_package(make_board, tmp_path):
    (tmp_path / "thing.py").write_text("NAME = 'thing'\n")
    (tmp_path / "package.json").write_text('{"urls": [["thing.py", "thing.py"]], "version": "1"}')
    board = make_board()
    mpremote(board, "mip", "install", str(tmp_path / "package.json"))
    assert mpremote(board, "exec", "import thing\nprint(thing.NAME)") == "thing\n"


# ---- against a running firmware ----


@pytest.mark.slow
@pytest.mark.parametrize("rate", [None, 1])
def test_thirty_calls_against_an_endless_firmware_never_hang(make_board, conductor, rate):
    conductor.rate = rate
    board = make_board({"main.py": ENDLESS})
    for i in range(30):
        if i % 3 == 0:
            assert mpremote(board, "exec", f"print({i})") == f"{i}\n"
        elif i % 3 == 1:
            assert "main.py" in mpremote(board, "fs", "ls")
        else:
            mpremote(board, "reset")
            board.wait_for("main runs", after=board.line_count - 1)


def test_a_busy_loop_is_interrupted_and_the_bytes_after_it_are_kept(make_board):
    board = make_board({"main.py": b"print('spins')\nwhile True:\n    pass"})
    board.wait_for("spins")
    assert mpremote(board, "resume", "exec", "print(7)") == "7\n"


def test_a_printing_loop_is_interrupted(make_board):
    board = make_board({"main.py": b"i = 0\nwhile True:\n    print('line', i); i += 1"})
    board.wait_for("line 100")
    assert mpremote(board, "exec", "print(7)") == "7\n"


def test_the_firmware_reads_its_console_and_ctrl_c_is_not_data_of_it(make_board, conductor):
    conductor.rate = 1
    board = make_board({"main.py": ENDLESS})
    board.wait_for("main runs")
    board.type(b"hello\n")
    board.wait_for("^console: hello$")
    with Terminal(board) as terminal:
        terminal.type(b"\x03later = 5\rprint(later)\r")
        text = terminal.read_until(b"\r\n5\r\n>>> ")
    assert b"KeyboardInterrupt" in text
    assert not any("later" in line for line in board.lines() if line.startswith("console:"))


def test_a_port_that_nobody_reads_does_not_stop_the_board(make_board):
    board = make_board({"main.py": b"for i in range(200):\n    print('x' * 4000)\nprint('done')"})
    board.wait_for("^done$")


def test_a_stuck_program_with_the_watchdog_armed_is_reset(make_board):
    board = make_board(
        {
            "main.py": b"import machine\n"
            b"print('cause', machine.reset_cause())\n"
            b"if machine.reset_cause() == machine.PWRON_RESET:\n"
            b"    machine.WDT(timeout=8000)\n"
            b"    while True:\n        pass\n"
        }
    )
    board.wait_for("^cause 3$", timeout_s=30)  # WDT_RESET


# ---- the friendly prompt ----


class Terminal:
    """A person's terminal program on the board's port."""

    def __init__(self, board):
        self.port = board.port

    def __enter__(self):
        self.fd = os.open(self.port, os.O_RDWR | os.O_NOCTTY)
        return self

    def __exit__(self, *exc):
        os.close(self.fd)

    def type(self, data):
        os.write(self.fd, data)

    def read_until(self, ending, timeout_s=10):
        data = b""
        deadline_s = time.monotonic() + timeout_s
        while not data.endswith(ending):
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline_s - time.monotonic()))
            assert ready, f"no {ending!r} in {data!r}"
            data += os.read(self.fd, 4096)
        return data


def at_prompt(board):
    terminal = Terminal(board)
    terminal.__enter__()
    terminal.read_until(b">>> ")
    return terminal


def test_friendly_prompt(make_board):
    terminal = at_prompt(make_board())
    terminal.type(b"1 + 1\r")
    assert terminal.read_until(b">>> ") == b"1 + 1\r\n2\r\n>>> "
    terminal.type(b"prinx\x08t('a')\r")
    assert b"\r\na\r\n>>> " in terminal.read_until(b">>> ")
    terminal.type(b"for i in range(2):\rprint(i)\r\r")
    assert b"\r\n0\r\n1\r\n>>> " in terminal.read_until(b">>> ")
    terminal.type(b"x = (1,\r2)\r")
    terminal.read_until(b">>> ")
    terminal.type(b"x\r")
    assert terminal.read_until(b">>> ") == b"x\r\n(1, 2)\r\n>>> "
    terminal.type(b"\x1b[A\r")  # the last line again
    assert b"(1, 2)" in terminal.read_until(b">>> ")
    terminal.type(b"rubbish\x03")
    terminal.read_until(b">>> ")
    terminal.type(b"1/0\r")
    assert b"ZeroDivisionError" in terminal.read_until(b">>> ")
    terminal.type(b"\x05")
    terminal.read_until(b"=== ")
    terminal.type(b"def f():\r  return 9\r\rprint(f())\r\x04")
    assert b"\r\n9\r\n>>> " in terminal.read_until(b">>> ")
    terminal.type(b"\x04")
    assert b"MPY: soft reboot\r\n" in terminal.read_until(b">>> ")
    terminal.type(b"\x01")
    terminal.read_until(b"raw REPL; CTRL-B to exit\r\n>")
    terminal.type(b"\x02")
    assert b"MicroPython v" in terminal.read_until(b">>> ")
    terminal.__exit__()


def test_mpremote_repl(make_board):
    """`mpremote repl` needs a terminal of its own."""
    board = make_board()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(board, "repl"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    terminal = Terminal(board)
    terminal.fd = ours
    terminal.read_until(b"exit this shell\r\n")
    terminal.type(b"\r")
    terminal.read_until(b">>> ")
    terminal.type(b"6 * 7\r")
    assert b"42" in terminal.read_until(b">>> ")
    terminal.type(b"\x1d")
    assert process.wait(10) == 0
    os.close(ours)
