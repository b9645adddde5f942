#!/usr/bin/env python3
"""Make `.venv` from requirements.lock and install the project into it, editable.

    python3 toolchain/venv.py

Run by `make` with the machine's Python before anything is installed; standard library only.
A set-up that was cut off leaves `.venv/.incomplete`, and the next run begins afresh; a complete
one is brought up to date. Debian's Python comes without pip: it is then taken from Debian's own
package, unpacked into `.tools`, as in `toolchain.fetch`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from toolchain import fetch, locate

PIP_TIMEOUT_S = 1800
"""Some 60 packages over a slow line; pip has shorter time limits of its own for each answer."""

VENV_TIMEOUT_S = 180


class SetupError(Exception):
    """The environment could not be made; the text says why."""


def main() -> int:
    """Make or update the environment; the exit code is 0 if it is complete."""
    root = locate.project_root()
    try:
        make_environment(root, root / ".venv")
    except (SetupError, fetch.FetchError) as error:
        print(f"virtual environment: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("virtual environment: interrupted; the next run begins afresh", file=sys.stderr)
        return fetch.INTERRUPTED
    return 0


def make_environment(root: Path, venv: Path) -> None:
    """Bring `venv` to the state that the lock file names. Raises SetupError or FetchError."""
    python = venv / "bin" / "python"
    incomplete = venv / ".incomplete"
    if incomplete.exists() or not _answers([str(python), "-m", "pip", "--version"]):
        print("virtual environment: creating .venv", flush=True)
        shutil.rmtree(venv, ignore_errors=True)
        venv.mkdir(parents=True)
        incomplete.touch()
        _create(venv, python)
    incomplete.touch()
    print("virtual environment: installing the pinned packages (a minute or two)", flush=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _logged([*pip, "--requirement", str(root / "requirements.lock")], venv, PIP_TIMEOUT_S)
    _logged(
        [*pip, "--no-deps", "--no-build-isolation", "--editable", str(root)], venv, PIP_TIMEOUT_S
    )
    incomplete.unlink()


def _create(venv: Path, python: Path) -> None:
    if importlib.util.find_spec("ensurepip") is not None:
        _logged([sys.executable, "-m", "venv", str(venv)], venv, VENV_TIMEOUT_S)
        return
    wheel = _pip_wheel()
    _logged([sys.executable, "-m", "venv", "--without-pip", str(venv)], venv, VENV_TIMEOUT_S)
    # A wheel is a zip file that Python can run pip from, to install itself.
    _logged(
        [str(python), f"{wheel}/pip", "install", "--quiet", "--no-index", str(wheel)],
        venv,
        VENV_TIMEOUT_S,
    )


def _pip_wheel() -> Path:
    """pip as Debian packages it for exactly this purpose. Raises FetchError."""
    folder = locate.tools_dir() / "pip"
    if not list(folder.glob("pip-*.whl")):
        print("virtual environment: this Python has no pip, fetching it as a package", flush=True)
        try:
            fetch.unpack_files("python3-pip-whl", "usr/share/python-wheels/pip-*.whl", folder)
        except fetch.FetchError as error:
            raise SetupError(
                f"this Python has no pip ({error}); install python3-venv, or name another "
                "Python: make PYTHON=/path/to/python3"
            ) from error
    return sorted(folder.glob("pip-*.whl"))[-1]


def _answers(command: list[str]) -> bool:
    try:
        return (
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=fetch.QUICK_TIMEOUT_S,
            ).returncode
            == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


def _logged(command: list[str], venv: Path, timeout_s: int) -> None:
    """Run a command quietly; show the end of what it said if it fails. Raises SetupError."""
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=timeout_s,
                env={**os.environ, "PIP_REQUIRE_VIRTUALENV": "false"},
            )
        except subprocess.TimeoutExpired as error:
            raise SetupError(f"`{command[1:4]}` did not end within {timeout_s} s") from error
        if done.returncode != 0:
            log.seek(0)
            tail = "\n    ".join(log.read().strip().splitlines()[-15:])
            raise SetupError(f"{' '.join(command[1:5])} ... failed:\n    {tail}")


if __name__ == "__main__":
    sys.exit(main())
