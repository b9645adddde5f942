"""The households of the demo and of its check: loads, money, tariffs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolchain import locate

RUPEE_MP = 100_000
IST_S = 19_800
RECORDING = Path("shared") / "data" / "household_minutes.csv"


def recording() -> Path | None:
    """The recorded household beside the project, if it is there."""
    path = locate.project_root().parent / RECORDING
    return path if path.is_file() else None


def slabs(*steps: tuple[int | None, int], name: str, version: int = 1) -> dict[str, Any]:
    """A telescopic tariff of (limit in kWh or None, paise per kWh) steps."""
    return {
        "id": name,
        "version": version,
        "currency": "INR",
        "effective_from_utc_s": 1_577_817_000,
        "lines": [
            {
                "name": "energy",
                "shape": "telescopic",
                "slabs": [
                    {"up_to_kwh": limit, "rate_mp_per_kwh": paise * 1000} for limit, paise in steps
                ],
            }
        ],
    }


# Published tariffs, energy charge only: SBPDCL 2020-21 urban DS-II, JBVNL urban from 1 May 2025.
# The ready-made ones (`bijli tariff list`) have the other lines, too, and other ids.
SBPDCL_URBAN = slabs((100, 605), (200, 685), (300, 770), (None, 850), name="demo-sbpdcl-urban")
JBVNL_URBAN = slabs((None, 685), name="demo-jbvnl-urban")


@dataclass(frozen=True)
class Household:
    """One meter and what is behind it. `load` is the emulated board's text for a load."""

    meter: str
    consumer: str
    load: str
    opening_balance_mp: int
    low_credit_mp: int
    tariff: dict[str, Any] = field(default_factory=lambda: SBPDCL_URBAN)
    sanctioned_load_w: int = 3_000
    sample_period_ms: int = 1_000
    live_period_s: int = 60
    seed: int = 1
    settings: dict[str, int] = field(default_factory=dict)
    """Rules and settings of the metering that are not the default."""
    board: dict[str, Any] = field(default_factory=dict)
    """Further settings of the emulated board, see boards/emulated/vm/emu/wiring.py."""


def demo_households() -> list[Household]:
    """Three households; the first runs out of money early on its first day."""
    return [
        Household(
            "BJ-PATNA-01",
            "Sunita Devi, Patna",
            "appliances:11",
            13 * RUPEE_MP,
            5 * RUPEE_MP,
            sample_period_ms=5_000,
            seed=11,
        ),
        Household(
            "BJ-RANCHI-02",
            "Anil Oraon, Ranchi",
            "appliances:22",
            120 * RUPEE_MP,
            50 * RUPEE_MP,
            JBVNL_URBAN,
            sample_period_ms=5_000,
            seed=22,
        ),
        Household(
            "BJ-DHANBAD-03",
            "Farida Khatun, Dhanbad",
            "appliances:33",
            400 * RUPEE_MP,
            100 * RUPEE_MP,
            sample_period_ms=5_000,
            seed=33,
        ),
    ]


def check_household() -> Household:
    """The household of the check: the recorded one if it is there, else appliances.

    The money lasts into the afternoon of the first day, so that the grace ends on the second
    afternoon, when the window is over, and the cut has to wait for the third morning.
    """
    path = recording()
    if path is not None:
        return Household(
            "BJ-CHECK-01",
            "Recorded household",
            f"csv:{path}",
            200 * RUPEE_MP,
            50 * RUPEE_MP,
            sanctioned_load_w=8_000,
            live_period_s=300,
        )
    return Household(
        "BJ-CHECK-01",
        "Appliances",
        "appliances:5",
        30 * RUPEE_MP,
        10 * RUPEE_MP,
        live_period_s=300,
    )
