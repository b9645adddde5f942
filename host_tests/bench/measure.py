"""Rows of the table, and what the groups of rows share."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boards.emulated import flashing
from host_tests.fakes.documents import meter_config
from toolchain import locate

ROOT = locate.project_root()
SCRIPTS = Path(__file__).parent / "vm"
TIMEOUT_S = 300
CONFIG = meter_config(opening_balance_mp=10**9)
"""Of a meter with money for years, so that none is cut off while it is measured."""


@dataclass
class Row:
    """One line: a figure and its baseline, both in `unit`, one value for each run.

    The n-th value of the one was measured right beside the n-th of the other.
    """

    name: str
    unit: str
    figure: list[float]
    baseline_name: str
    baseline: list[float]

    def ratio(self) -> float | None:
        """Median of figure / baseline of the runs that stand side by side; None without one."""
        pairs = zip(self.figure, self.baseline, strict=False)
        ratios = [figure / baseline for figure, baseline in pairs if baseline]
        return statistics.median(ratios) if ratios else None


@dataclass
class Group:
    """Rows that are measured together. `what`: a sentence or more on what and how."""

    name: str
    what: str
    rows: list[Row] = field(default_factory=list)
    missing: str = ""
    """Why there are no rows, or not all."""


Measure = Callable[[bool, Path], Group]
"""(quick, a folder for its files) -> the group. Raises locate.ToolMissing."""


def alternate(runs: int, *measures: Callable[[], Any]) -> list[list[Any]]:
    """Calls the measures in turn, `runs` times; returns the results of each."""
    results: list[list[Any]] = [[] for _ in measures]
    for _ in range(runs):
        for i, measure in enumerate(measures):
            results[i].append(measure())
    return results


def column(dicts: list[dict[str, float]], key: str) -> list[float]:
    """One member of each."""
    return [values[key] for values in dicts]


def rom_image(folder: Path, config: Mapping[str, Any] | None = None) -> Path:
    """Flash a board's images into `folder`, `flash.bin` beside what is returned: the image of the
    ROM partition, from which the scripts of vm/ run the firmware."""
    flashing.flash_image(folder, flashing.files_of(flashing.build()), config)
    return folder / "rom.bin"


def config_file(folder: Path) -> Path:
    """CONFIG as a file in `folder`."""
    path = folder / "config.json"
    path.write_text(json.dumps(CONFIG))
    return path


def run_script(
    script: str, *arguments: object, bits: int = 32, heap: str = "4m", timeout_s: int = TIMEOUT_S
) -> Any:
    """The JSON that a script of vm/ prints last, run on MicroPython."""
    done = subprocess.run(
        [*locate.micropython(bits), "-X", f"heapsize={heap}", SCRIPTS / script]
        + [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode != 0:
        raise ScriptFailed(f"{script}: {done.stdout}{done.stderr}".rstrip())
    return json.loads(done.stdout.splitlines()[-1])


class ScriptFailed(Exception):
    """A script of vm/ ended with an error; the text is its output."""
