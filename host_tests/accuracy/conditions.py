"""What the meter is tested with and against: the sensor's errors, the bench, the limits."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

# INA219A, datasheet SBOS448G, section 7.5 "Electrical Characteristics", column MAX.
OFFSET_UV = (100, 125, 150, 200)
"""Offset voltage V_OS of the shunt, referred to input, for PGA = /1, /2, /4, /8."""
GAIN_PPM = 10_000
"""Current measurement error over temperature, and bus voltage measurement error over temperature:
1 % each. The datasheet has no offset of the bus voltage: it is within this."""

SHUNT_STEP_UV = 10  # "1 LSB step size", shunt voltage

# The same table, column TYP (it has no MAX): what 25 to 85 degrees add after a calibration.
WARMTH_K = 60
WARM_OFFSET_UV = WARMTH_K // 10  # 0.1 uV/K
WARM_GAIN_PPM = WARMTH_K * 10  # "1 m%/K", current; the bus voltage has none

NOISE_LSB = 16  # of one conversion, so +-1 step is left after averaging 128; not in the datasheet

BEFORE, AFTER, WARM = STATES = ("before", "after", f"+{WARMTH_K} K")
"""Of a meter: not calibrated; calibrated; calibrated, then warmer."""

BASIC_MA = 1_000  # Ib
MAXIMUM_MA = 3_000  # Imax
VOLTAGE_MV = 12_000  # at which the datasheet's figures hold
NO_LOAD_MV = 13_800  # 115 %, as the standard's test of no-load condition
STARTING_MA = 4  # 0.004 Ib
DAY_S = 86_400

# IEC 62053-21, percentage error limits, class 1, power factor 1: (from this current in mA, limit).
LIMITS = ((50, 1.5), (100, 1.0))
CURRENTS_MA = (50, 100, 500, BASIC_MA, MAXIMUM_MA)
REPLAY_LIMIT = 0.3  # our own
STARTING_FACTOR = 1.1  # our own: the standard wants a start, this the first Wh in time, too


@dataclass(frozen=True)
class Corner:
    """One chip: the signs of its errors, and what its model is given."""

    name: str
    """Errors of shunt (PGA = /8), current and voltage."""
    offset: int
    current: int
    chip: dict[str, Any]
    replayed: bool
    """Does it count the recordings? They take long, and the chips whose errors add up most bound
    the others."""

    def warmer(self) -> dict[str, Any]:
        """The same chip after WARMTH_K, drifting to where its errors are."""
        return {
            **self.chip,
            "shunt_offset_uv": [
                uv + self.offset * WARM_OFFSET_UV for uv in self.chip["shunt_offset_uv"]
            ],
            "shunt_gain_ppm": self.chip["shunt_gain_ppm"] + self.current * WARM_GAIN_PPM,
        }


def corners() -> list[Corner]:
    """Every sign of every error at its largest; and noise on offsets between two steps."""
    found = [corner(*signs) for signs in itertools.product((1, -1), repeat=3)]
    return [*found, corner(1, 1, -1, noisy=True), corner(-1, -1, 1, noisy=True)]


def corner(offset: int, current: int, voltage: int, noisy: bool = False) -> Corner:
    """The chip with these signs of its errors."""
    less_uv = SHUNT_STEP_UV // 2 if noisy else 0
    return Corner(
        f"{offset * (OFFSET_UV[-1] - less_uv):+d} uV {current * GAIN_PPM / 10_000:+g} % "
        f"{voltage * GAIN_PPM / 10_000:+g} %{' noisy' if noisy else ''}",
        offset,
        current,
        {
            "shunt_offset_uv": [offset * (uv - less_uv) for uv in OFFSET_UV],
            "shunt_gain_ppm": current * GAIN_PPM,
            "bus_gain_ppm": voltage * GAIN_PPM,
            "noise_lsb": NOISE_LSB if noisy else 0,
        },
        noisy or offset == current == voltage,
    )


def ideal() -> Corner:
    """A chip without errors."""
    chip = {"shunt_offset_uv": [0] * 4, "shunt_gain_ppm": 0, "bus_gain_ppm": 0}
    return Corner("none", 0, 0, chip, True)


def limit(current_ma: float) -> float | None:
    """Per cent allowed at a current; None: the standard has none there."""
    found = None
    for from_ma, per_cent in LIMITS:
        if current_ma >= from_ma:
            found = per_cent
    return found if current_ma <= MAXIMUM_MA else None
