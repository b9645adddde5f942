"""PyPI's mpremote as it is, at an emulated board's serial port."""

import subprocess
import sys

TIMEOUT_S = 30


def command(board, *arguments):
    """What starts mpremote with these arguments against the board."""
    return [sys.executable, "-m", "mpremote", "connect", board.port, *arguments]


def mpremote(board, *arguments, check=True):
    """Run mpremote against the board; returns what it printed, with check=False the whole run."""
    run = subprocess.run(
        command(board, *arguments), capture_output=True, text=True, timeout=TIMEOUT_S
    )
    if check:
        assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout if check else run
