"""Find the MicroPython interpreters and the mosquitto programs.

Order: the environment variable, then PATH, then the project's own `.tools/bin`. A variable that is
set is obeyed or is an error, never passed over: whoever sets MICROPYTHON wants that interpreter.
Every MicroPython is run once before it is handed out, because only running shows its version and
the size of its words. Standard library only. Tests: `pytest host_tests/unit/test_toolchain.py`.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

MICROPYTHON_MIN = (1, 24)
"""Oldest version whose `.mpy` format, `tls` and littlefs the firmware relies on."""

PROBE_TIMEOUT_S = 20
"""A start takes 5 ms; the margin is for a loaded Raspberry Pi with a cold SD card."""

WORD32_MAX = 2**31 - 1

SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin")
"""Debian puts mosquitto into /usr/sbin, which an ordinary user's PATH leaves out."""

# Printed by MicroPython only: CPython cannot index sys.implementation and ends with an error.
_PROBE = "import sys;i=sys.implementation;print('probe',i[0],i[1][0],i[1][1],i[1][2],sys.maxsize)"


class ToolMissing(Exception):
    """A program that the project needs was not found, or the one found cannot be used.

    `name` is the program, `how_to_get` a sentence for the person at the terminal.
    """

    def __init__(self, name: str, how_to_get: str) -> None:
        super().__init__(f"{name}: {how_to_get}")
        self.name = name
        self.how_to_get = how_to_get


class Interpreter(NamedTuple):
    """What a MicroPython said about itself when it was run."""

    version: tuple[int, int, int]
    bits: int

    @property
    def version_text(self) -> str:
        return ".".join(str(part) for part in self.version)


def project_root() -> Path:
    """The folder that holds `toolchain/`."""
    return Path(__file__).resolve().parent.parent


def tools_dir() -> Path:
    """Where fetched tools live: $BIJLI_TOOLS, else `.tools` in the project's folder."""
    override = os.environ.get("BIJLI_TOOLS")
    return Path(override).resolve() if override else project_root() / ".tools"


def micropython(bits: int = 64) -> list[str]:
    """The command that starts MicroPython, to be followed by its arguments.

    `bits=64` means this machine's ordinary interpreter (on a 32-bit system that one has 32 bits);
    `bits=32` means one with the ESP32's word size, and its `sys.maxsize` is checked.

    Raises ToolMissing where there is none, where $MICROPYTHON (or $MICROPYTHON32) names one that
    does not do, and ValueError for any other number of bits.
    """
    if bits not in (32, 64):
        raise ValueError(f"bits is 32 or 64, not {bits}")
    name = "micropython" if bits == 64 else "micropython32"
    variable = name.upper()
    chosen = os.environ.get(variable)
    if chosen:
        path = shutil.which(chosen)
        fault = unusable(path, bits) if path else "there is no such program"
        if path is None or fault:
            raise ToolMissing(name, f"${variable} is set to {chosen}, but {fault}")
        return [path]
    faults = []
    for path in _candidates(("micropython32", "micropython") if bits == 32 else ("micropython",)):
        fault = unusable(path, bits)
        if fault is None:
            return [path]
        faults.append(f"{path}: {fault}")
    raise ToolMissing(name, _how_to_get_micropython(bits, faults))


def mosquitto() -> list[str]:
    """The command that starts the broker. Raises ToolMissing."""
    return _program("mosquitto")


def mosquitto_passwd() -> list[str]:
    """The command that writes the broker's password file. Raises ToolMissing."""
    return _program("mosquitto_passwd")


def unusable(path: str, bits: int = 64) -> str | None:
    """Why the program at `path` cannot serve as MicroPython of that size; None if it can."""
    try:
        found = probe(path)
    except ToolMissing as missing:
        return missing.how_to_get
    if found.version[:2] < MICROPYTHON_MIN:
        return f"its version is {found.version_text}, {_minimum()} or newer is needed"
    if bits == 32 and found.bits != 32:
        return f"it has {found.bits} bits, 32 are needed"
    return None


def probe(path: str) -> Interpreter:
    """Run the MicroPython at `path` and return what it is.

    The answer is remembered for as long as the file does not change. Raises ToolMissing if it
    does not start, does not answer in time, or is not MicroPython.
    """
    try:
        changed_ns = Path(path).stat().st_mtime_ns
    except OSError as error:
        raise ToolMissing(path, f"it cannot be read ({error.strerror})") from error
    return _probe(path, changed_ns)


@functools.lru_cache(maxsize=32)
def _probe(path: str, _changed_ns: int) -> Interpreter:
    try:
        done = subprocess.run(
            [path, "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolMissing(path, f"it did not answer within {PROBE_TIMEOUT_S} s") from error
    except OSError as error:
        raise ToolMissing(path, f"it does not start ({error.strerror})") from error
    found = parse_probe(done.stdout)
    if done.returncode != 0 or found is None:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ToolMissing(
            path, f"it is not a working MicroPython ({said[-1] if said else 'silent'})"
        )
    return found


def parse_probe(output: str) -> Interpreter | None:
    """What a probe printed, or None if that is not a MicroPython's answer."""
    for line in output.splitlines():
        words = line.split()
        if len(words) == 6 and words[:2] == ["probe", "micropython"]:
            try:
                major, minor, patch, maxsize = (int(word) for word in words[2:])
            except ValueError:
                return None
            return Interpreter((major, minor, patch), 32 if maxsize <= WORD32_MAX else 64)
    return None


def _program(name: str) -> list[str]:
    variable = name.upper()
    chosen = os.environ.get(variable)
    if chosen:
        path = shutil.which(chosen)
        if path is None:
            raise ToolMissing(name, f"${variable} is set to {chosen}, but there is no such program")
        return [path]
    for path in _candidates((name,)):
        return [path]
    raise ToolMissing(
        name,
        "not found; install mosquitto (apt-get install mosquitto, brew install mosquitto), "
        "or on Debian let `python3 toolchain/fetch.py mosquitto` fetch it",
    )


def _candidates(names: tuple[str, ...]) -> list[str]:
    """Executables of these names on PATH, in the system's sbin folders, and in `.tools/bin`."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    system = os.pathsep.join([*folders, *SYSTEM_FOLDERS])
    found = []
    for where in (system, str(tools_dir() / "bin")):
        found += [path for name in names if (path := shutil.which(name, path=where))]
    return found


def _minimum() -> str:
    return ".".join(str(part) for part in MICROPYTHON_MIN)


def _how_to_get_micropython(bits: int, faults: list[str]) -> str:
    if bits == 32:
        advice = (
            "no 32-bit MicroPython; on Debian 12 or newer `python3 toolchain/fetch.py "
            "micropython32` fetches it, elsewhere set MICROPYTHON32 to one"
        )
    else:
        advice = (
            "not found; on Debian 12 or newer and Raspberry Pi OS `python3 toolchain/fetch.py "
            f"micropython` fetches it, elsewhere install MicroPython {_minimum()} or newer "
            "(e.g. brew install micropython) or set MICROPYTHON"
        )
    return "; ".join([advice, *faults])
