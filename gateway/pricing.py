"""What a billing period costs by a tariff: the meter's own charges, for people who write tariffs.

Everything is computed by firmware/credit/charges.py. Tests: host_tests/gateway/test_tariff_cli.py.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from firmware.credit import charges
from gateway.errors import FieldError
from gateway.words import MP_PER_PAISA

KWH_WH = 1000


@dataclass(frozen=True)
class Use:
    """What is used in one whole billing period. zone_wh: of `energy_wh`, by the zone's name."""

    energy_wh: int
    days: int = 30
    load_w: int = 1000
    supply_min: int = 1440
    zone_wh: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Cliff:
    """A total behind which the charge jumps, and what the first kWh behind it costs."""

    total_wh: int
    kwh_mp: int


def quantities(tariff: Any, use: Use) -> Any:
    """The `charges.Quantities` of a use; raises FieldError."""
    zone_wh = [0] * len(charges.Quantities(tariff).zone_wh)
    for name, energy_wh in use.zone_wh.items():
        if name not in tariff.zone_names:
            raise FieldError("zone", f"{name} is none of {', '.join(tariff.zone_names)}")
        zone_wh[tariff.zone_names.index(name)] += energy_wh
    if sum(zone_wh) > use.energy_wh:
        raise FieldError("zone", "the zones must not have more energy than the total")
    zone_wh[0] += use.energy_wh - sum(zone_wh)
    found = charges.Quantities(tariff)
    found.zone_wh = zone_wh
    found.days = use.days
    for index, line in enumerate(tariff.fixed):
        rate_mp_days = charges.fixed_rate_mp(tariff, index, use.load_w) * use.days
        by_supply = line[4]
        full = tariff.full_supply_min
        found.fixed[index] = rate_mp_days * (min(use.supply_min, full) if by_supply else 1)
    return found


def more(found: Any, energy_wh: int, zone: int = 0) -> Any:
    """The same quantities with more energy in one zone."""
    grown = copy.copy(found)
    grown.zone_wh = list(found.zone_wh)
    grown.zone_wh[zone] += energy_wh
    return grown


def next_mp(tariff: Any, found: Any, energy_wh: int, zone: int = 0) -> int:
    """What the next `energy_wh` cost, in one zone."""
    grown = more(found, energy_wh, zone)
    return int(charges.charge_mp(tariff, grown) - charges.charge_mp(tariff, found))


def cliffs(tariff: Any, found: Any) -> list[Cliff]:
    """The cliffs from the present total on, if what comes is used in the normal zone."""
    total_wh = sum(found.zone_wh)
    smooth_mp = charges.max_price_mp_per_kwh(tariff) // KWH_WH + MP_PER_PAISA
    cliffs = []
    step_wh = charges.next_step_wh(tariff, total_wh, found.share)
    while step_wh is not None:
        here = more(found, step_wh - total_wh)
        if abs(next_mp(tariff, here, 1)) > smooth_mp:
            cliffs.append(Cliff(step_wh, next_mp(tariff, here, KWH_WH)))
        step_wh = charges.next_step_wh(tariff, step_wh + 1, found.share)
    return cliffs
