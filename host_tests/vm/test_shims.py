"""The emulated board's modules and models on real MicroPython, 64 and 32 bit.

The interpreter gets the folder boards/emulated/vm with stand-ins for the two modules that need a
conductor and a supervisor (host_tests/fakes/emu_peers). What it computes is compared with CPython.
"""

import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from boards.emulated.vm.emu.loads import Recorded, load_from
from host_tests.fakes.interpreters import micropython

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "scripts"
START_MS = 1_790_000_000_000
STEP_MS, STEPS = 97_531, 5_000  # five and a half days

CSV = "minute,voltage_v,current_a\n" + "".join(
    f"{m},{230 + m % 11}.{m * 37 % 1000:03},{'?' if m % 9 == 4 else m % 17}.25\n"
    for m in range(400)
)


@pytest.fixture
def vm(tmp_path):
    """A copy of the interpreter's folder with stand-ins for its peers."""
    folder = tmp_path / "vm"
    shutil.copytree(ROOT / "boards" / "emulated" / "vm", folder)
    for peer in (ROOT / "host_tests" / "fakes" / "emu_peers").glob("*.py"):
        shutil.copy(peer, folder / "emu" / peer.name)
    for flashed in (ROOT / "boards" / "emulated" / "flash").glob("*.py"):
        shutil.copy(flashed, folder / flashed.name)
    return folder


def run(bits, script, *arguments):
    """Standard output of a script that must end well."""
    command = [*micropython(bits), "-X", "heapsize=2m", SCRIPTS / script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def trace(load, step_ms, count):
    """Values at `count` instants, as the script prints them."""
    lines = []
    for i in range(count):
        t_ms = START_MS + i * step_ms
        load.at(t_ms)
        lines.append(f"{load.voltage_mv} {load.current_ma} {load.until_ms - t_ms}")
    return lines


@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize("spec", ["appliances:1234567,5", "constant:231.5V,2.004A"])
def test_loads_are_the_same_everywhere(bits, spec, vm):
    seen = run(bits, "load_trace.py", vm, spec, START_MS, STEP_MS, STEPS).splitlines()
    assert seen == trace(load_from(spec), STEP_MS, STEPS)


@pytest.mark.parametrize("bits", [64, 32])
def test_a_recording_is_the_same_everywhere(bits, vm, tmp_path):
    csv = tmp_path / "load.csv"
    csv.write_text(CSV)
    seen = run(bits, "load_trace.py", vm, f"csv:{csv}", START_MS, STEP_MS, STEPS).splitlines()
    with csv.open("rb") as source:
        assert seen == trace(Recorded(source, START_MS, 330), STEP_MS, STEPS)


@pytest.mark.parametrize("bits", [64, 32])
def test_machine_network_esp32_and_the_board(bits, vm):
    assert run(bits, "shims.py", vm, ROOT).splitlines()[-1] == "OK"


def echo_lines(listener):
    """Answers each line of each connection with itself until the peer closes."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # the test is over
        with connection, connection.makefile("rwb") as stream:
            for line in stream:
                stream.write(line)
                stream.flush()


@pytest.mark.parametrize("bits", [64, 32])
def test_sockets_over_a_wifi_that_goes_away(bits, vm):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=echo_lines, args=[listener], daemon=True).start()
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            free_port = reserved.getsockname()[1]
        ports = listener.getsockname()[1], free_port
        assert run(bits, "wifi_sockets.py", vm, *ports).splitlines()[-1] == "OK"
        listener.shutdown(socket.SHUT_RDWR)
