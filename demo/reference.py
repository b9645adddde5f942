"""The reference energy of a household: the integral of voltage times current, in exact fractions.

For a recording it reads the file itself, independent of the emulated circuit. The values of a row
hold through its minute, in place of a missing one holds the last good one. For modelled appliances
it integrates the model.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Protocol

MINUTE_MS = 60_000
MICRO_PER_WH = 3_600_000 * 1_000_000  # mV * mA * ms in a Wh


class Load(Protocol):
    """What a load is: mV and mA that hold from an instant until the next change."""

    voltage_mv: int
    current_ma: int
    until_ms: int

    def at(self, t_ms: int) -> None:
        """Take the values at a simulated time."""


class Recording:
    """A recording with the columns `voltage_v` and `current_a`; it repeats."""

    def __init__(self, path: Path, start_ms: int) -> None:
        """start_ms: when its first minute begins."""
        self._start_ms = start_ms
        self._minutes: list[tuple[Fraction, Fraction]] = []
        voltage_mv = current_ma = Fraction(0)
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                voltage_mv = _milli(row["voltage_v"], voltage_mv)
                current_ma = _milli(row["current_a"], current_ma)
                self._minutes.append((voltage_mv, current_ma))

    def at(self, t_ms: int) -> None:
        """As `Load`."""
        minute = (t_ms - self._start_ms) // MINUTE_MS
        self.voltage_mv, self.current_ma = self._minutes[minute % len(self._minutes)]
        self.until_ms = self._start_ms + (minute + 1) * MINUTE_MS


def _milli(text: str, last: Fraction) -> Fraction:
    try:
        return Fraction(text) * 1000
    except ValueError:
        return last


def energy_wh(load: Load | Recording, supplied_ms: Iterable[tuple[int, int]]) -> Fraction:
    """Energy in Wh over the `supplied_ms` intervals (from, to) of simulated time."""
    total = Fraction(0)
    for begin_ms, end_ms in supplied_ms:
        at_ms = begin_ms
        while at_ms < end_ms:
            load.at(at_ms)
            next_ms = min(end_ms, load.until_ms)
            total += load.voltage_mv * load.current_ma * (next_ms - at_ms)
            at_ms = next_ms
    return total / MICRO_PER_WH
