"""The reference energy of a recorded household: the integral of voltage times current.

Independent of the emulated circuit: it reads the same file and integrates in exact fractions. The
values of a row hold through its minute, in place of a missing one holds the last good one.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

MINUTE_MS = 60_000


def read_powers_w(path: Path) -> list[Fraction]:
    """Voltage times current of each minute of a recording with `voltage_v` and `current_a`."""
    powers: list[Fraction] = []
    voltage_v = current_a = Fraction(0)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            voltage_v = _value(row["voltage_v"], voltage_v)
            current_a = _value(row["current_a"], current_a)
            powers.append(voltage_v * current_a)
    return powers


def _value(text: str, last: Fraction) -> Fraction:
    try:
        return Fraction(text)
    except ValueError:
        return last


def energy_wh(
    powers_w: list[Fraction], start_ms: int, supplied_ms: Iterable[tuple[int, int]]
) -> Fraction:
    """Energy in Wh over the `supplied_ms` intervals (from, to) of simulated time.

    start_ms: when the first minute of the recording begins; the recording repeats.
    """
    total = Fraction(0)
    for begin_ms, end_ms in supplied_ms:
        at_ms = begin_ms
        while at_ms < end_ms:
            minute = (at_ms - start_ms) // MINUTE_MS
            next_ms = min(end_ms, start_ms + (minute + 1) * MINUTE_MS)
            total += powers_w[minute % len(powers_w)] * (next_ms - at_ms)
            at_ms = next_ms
    return total / 3_600_000
