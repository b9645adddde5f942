"""Runs the tests of one chip on MicroPython and turns energies into errors."""

from __future__ import annotations

import csv
import json
import math
import tempfile
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from host_tests.accuracy import conditions
from host_tests.accuracy.conditions import Corner
from host_tests.bench.measure import ROOT, rom_image, run_script
from host_tests.bench.sampling import emulator
from host_tests.fakes.documents import meter_config

SCRIPT = Path(__file__).parent / "vm" / "measure.py"
DATA = ROOT.parent / "shared" / "data"
TIMEOUT_S = 1_200
POINT_S = 20  # a constant load and no noise: each second is as the first

Step = tuple[Any, ...]
"""Name of a function of vm/measure.py and its arguments."""


@dataclass(frozen=True)
class Scale:
    """How the bench is seen by the meter, and what is on it while it is calibrated."""

    voltage_ratio_x1000: int
    current_ratio_x1000: int
    voltage_mv: int
    basic_ma: int


BENCH = Scale(1_000, 1_000, conditions.VOLTAGE_MV, conditions.BASIC_MA)
# The household's 250 V and 34 A are 25 V and 2.7 A to the sensor.
HOUSEHOLD = Scale(10_000, 12_500, 230_000, 12_500)


@dataclass
class Amount:
    """How much is done: the whole, or a short form for a test."""

    currents_ma: tuple[int, ...]
    no_load_s: int
    starts: bool = True
    replays: bool = True


@dataclass(frozen=True)
class Household:
    """A recording, and its integral of voltage times current."""

    name: str
    path: Path
    minutes: int
    wh: Fraction


@dataclass
class Errors:
    """What one chip's meter did, in a state. Errors in per cent."""

    corner: Corner
    state: str
    at_ma: dict[int, float] = field(default_factory=dict)
    first_wh_s: int | None = None
    """-1: it did not come."""
    no_load_mwh: float = 0.0
    replays: dict[str, tuple[float, float]] = field(default_factory=dict)
    """kWh and error by recording."""


class Bench:
    """What all chips share; `folder` holds its files."""

    def __init__(self, folder: Path, amount: Amount) -> None:
        self._folder = folder
        self._amount = amount
        self._emulator = emulator(folder / "vm")
        self._rom = rom_image(folder)
        self.households = recordings() if amount.replays else []

    def errors(self, corner: Corner, state: str) -> Errors:
        """What one chip makes of the meter in a state of conditions.STATES; a warm one is spared
        what takes long, start and recordings."""
        amount = self._amount
        starts = amount.starts and state != conditions.WARM
        errors = Errors(corner, state)
        steps: list[Step] = [
            ("constant", conditions.VOLTAGE_MV, ma, POINT_S) for ma in amount.currents_ma
        ]
        steps.append(("constant", conditions.NO_LOAD_MV, 0, amount.no_load_s))
        if starts:
            limit_s = 3 * expected_first_wh_s()
            steps.append(("starts", conditions.VOLTAGE_MV, conditions.STARTING_MA, limit_s))
        results = self._measure(errors, BENCH, steps)
        for ma, half_uj in zip(amount.currents_ma, results, strict=False):
            true_half_uj = 2 * conditions.VOLTAGE_MV * ma * POINT_S
            errors.at_ma[ma] = per_cent(Fraction(half_uj, true_half_uj))
        errors.no_load_mwh = results[len(amount.currents_ma)] / 7_200_000
        if starts:
            errors.first_wh_s = results[-1]
        if self.households and corner.replayed and state != conditions.WARM:
            steps = [("replay", str(home.path), home.minutes) for home in self.households]
            results = self._measure(errors, HOUSEHOLD, steps)
            for home, half_uj in zip(self.households, results, strict=True):
                wh = Fraction(half_uj, 7_200_000_000)
                errors.replays[home.name] = (float(wh / 1000), per_cent(wh / home.wh))
        return errors

    def _measure(self, errors: Errors, scale: Scale, steps: list[Step]) -> list[int]:
        """The results of the steps, after those that bring the meter into its state."""
        corner, state = errors.corner, errors.state
        before: list[Step] = [("chip", corner.chip)]
        if state != conditions.BEFORE:
            before.append(("calibrate", scale.voltage_mv, scale.basic_ma))
        if state == conditions.WARM:
            before.append(("chip", corner.warmer()))
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        config = meter_config(
            voltage_ratio_x1000=scale.voltage_ratio_x1000,
            current_ratio_x1000=scale.current_ratio_x1000,
            basic_current_ma=scale.basic_ma,
            opening_balance_mp=10**10,
        )
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "steps.json").write_text(json.dumps(before + steps))
        found: list[int] = run_script(
            str(SCRIPT),
            self._emulator,
            self._rom,
            folder / "flash.bin",
            folder / "config.json",
            folder / "steps.json",
            timeout_s=TIMEOUT_S,
        )
        return found[len(before) :]


def expected_first_wh_s() -> int:
    """When a meter without error would show its first Wh at the starting current."""
    return math.ceil(Fraction(3_600_000_000, conditions.VOLTAGE_MV * conditions.STARTING_MA))


def per_cent(ratio: Fraction) -> float:
    """Error in per cent of measured / true."""
    return float((ratio - 1) * 100)


def recordings() -> list[Household]:
    """The recordings at hand; none where the folder is missing."""
    return [_recording(path) for path in sorted(DATA.glob("household_*.csv"))]


def _recording(path: Path) -> Household:
    """A missing value or row counts as the one before, 230 V and 0 A at first: as the emulated
    household does (boards/emulated/vm/emu/loads.py)."""
    with path.open(newline="") as file:
        rows = {int(row["minute"]): row for row in csv.DictReader(file)}
    length = max(rows) + 1
    volts, amperes, total = Fraction(230), Fraction(0), Fraction(0)
    for minute in range(length):
        row = rows.get(minute, {})
        volts = _number(row.get("voltage_v"), volts)
        amperes = _number(row.get("current_a"), amperes)
        total += volts * amperes / 60
    return Household(path.stem.removesuffix("_minutes"), path, length, total)


def _number(text: str | None, missing: Fraction) -> Fraction:
    try:
        return Fraction(text or "")
    except ValueError:
        return missing


def failures(errors: Errors) -> list[str]:
    """The limits that a meter does not keep."""
    found = [
        f"{error:+.2f} % at {ma / 1000:g} A, allowed are {allowed:g} %"
        for ma, error in errors.at_ma.items()
        if (allowed := conditions.limit(ma)) is not None and abs(error) > allowed
    ]
    if errors.no_load_mwh:
        found.append(f"{errors.no_load_mwh:.0f} mWh without load")
    first_s = errors.first_wh_s
    if first_s is not None and not within_starting_time(first_s):
        found.append(f"first Wh at the starting current after {first_s} s")
    found += [
        f"{name}: {error:+.2f} %, allowed are {conditions.REPLAY_LIMIT} %"
        for name, (_kwh, error) in errors.replays.items()
        if abs(error) > conditions.REPLAY_LIMIT
    ]
    return [f"{errors.corner.name}, {errors.state}: {text}" for text in found]


def within_starting_time(first_wh_s: int) -> bool:
    """Does a meter that showed its first Wh then start, and not too early?"""
    earliest_s, latest_s = starting_range_s()
    return earliest_s <= first_wh_s <= latest_s


def starting_range_s() -> tuple[int, int]:
    """When the first Wh may come at the starting current."""
    expected_s = expected_first_wh_s()
    factor = conditions.STARTING_FACTOR
    return int(expected_s / factor), int(expected_s * factor)
