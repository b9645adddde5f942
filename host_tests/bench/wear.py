"""Row `wear`: erases per block of a household's meter, from MicroPython's littlefs.

`python -m host_tests.bench.wear 365` lives a whole year (some 7 minutes each of the two runs).
"""

from __future__ import annotations

import json
import struct
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from boards.emulated import flashing
from boards.emulated.vm.emu.loads import Appliances
from host_tests.bench.measure import Group, Row, run_script
from host_tests.fakes.documents import meter_config
from toolchain import locate

DAY_WH = 10_000  # 300 kWh in a month of 30 days
CYCLES = 100_000
YEARS_NEEDED = 20
YEAR_DAYS = 365
CHECKPOINT_BYTES = 46  # docs/SPEC.md section 5.2
NVS_ENTRIES_PER_PAGE = 126  # of 32 bytes in a page of 4 kB (ESP-IDF, non-volatile storage)
START_UTC_S = 1_767_551_400  # as UTC_S of vm/parts.py
SHUNT_STEP_UA = 1_250  # primary current of one step of the shunt register, by documents.py
MINUTES_A_DAY = 1_440


def shunt_readings(days: int) -> bytes:
    """The appliances' power minute by minute as readings (u16), scaled to `DAY_WH` on average."""
    load = Appliances(11)
    minutes_ma = []
    for minute in range(days * MINUTES_A_DAY):
        load.at((START_UTC_S + minute * 60) * 1000)
        minutes_ma.append(load.current_ma)
    wanted_ma_min = DAY_WH * days * 60 * 1000 // 230
    total_ma_min = sum(minutes_ma)
    readings = [
        min(32_767, ma * wanted_ma_min * 1000 // (total_ma_min * SHUNT_STEP_UA))
        for ma in minutes_ma
    ]
    return struct.pack(f"<{len(readings)}H", *readings)


def live(folder: Path, days: int, gateway: bool, exact: bool = False) -> dict[str, Any]:
    """What vm/wear.py counted in `days`; `exact`: with a sample each second."""
    config = folder / "config.json"
    config.write_text(json.dumps(meter_config(opening_balance_mp=10**9)))
    series = folder / "shunt.bin"
    series.write_bytes(shunt_readings(days))
    result: dict[str, Any] = run_script(
        "wear.py",
        flashing.build(),
        config,
        series,
        "acked" if gateway else "alone",
        "exact" if exact else "coarse",
        heap="12m",
        timeout_s=300 + 5 * days,
    )
    return result


def summary(result: dict[str, Any]) -> dict[str, float]:
    """The figures of a run, scaled to a year."""
    years = result["days"] / YEAR_DAYS
    erases = result["erases"]
    moving = sum(1 for count in erases if count)
    hottest = max(erases) / years
    return {
        "blocks that the firmware occupies": result["blocks_of_the_firmware"],
        "blocks that took part": moving,
        "erases a year": sum(erases) / years,
        "of them of directories": sum(result["metadata_erases"]) / years,
        "mean of a block a year": sum(erases) / moving / years,
        "hottest block a year": hottest,
        "years of the hottest block": CYCLES / hottest,
        "bytes programmed for each checkpoint or record": result["programmed_bytes"]
        / sum(result["verbs"].values()),
        "checkpoints a year": result["verbs"]["checkpoint"] / years,
        "NVS writes a year": result["nvs_writes"] / years,
        "NVS page erases a year": result["nvs_writes"] / years / NVS_ENTRIES_PER_PAGE,
    }


def wear(quick: bool, folder: Path) -> Group:
    """A household's year, scaled from some days."""
    locate.micropython(32)
    days = 1 if quick else 30
    rows = []
    for gateway, name in ((True, "gateway there"), (False, "gateway away")):
        year = summary(live(folder, days, gateway))
        rows += [
            Row(
                f"{name}, hottest block",
                "erases/year",
                [year["hottest block a year"]],
                "mean of the blocks that took part",
                [year["mean of a block a year"]],
            ),
            Row(
                f"{name}, its life at 100,000 erases",
                "years",
                [year["years of the hottest block"]],
                "needed",
                [YEARS_NEEDED],
            ),
            Row(
                f"{name}, programmed for each",
                "bytes",
                [year["bytes programmed for each checkpoint or record"]],
                "a checkpoint's own bytes",
                [CHECKPOINT_BYTES],
            ),
        ]
    return Group(
        "wear",
        f"The real Meter and Journal for {days} days of a household of 300 kWh a month "
        "(appliances, scaled), on MicroPython's VfsLfs2 over 512 blocks of 4 kB that also hold the "
        "flashed firmware, with default settings and a recharge each five days; scaled to a year. "
        "A short run overstates the hottest block, which is a directory that littlefs moves after "
        "some 50 erases. `python -m host_tests.bench.wear 365` lives the whole year.",
        rows,
    )


def main(days: Annotated[int, typer.Argument()] = YEAR_DAYS) -> None:
    """Lives `days` with and without a gateway and prints the figures of a year."""
    for gateway in (True, False):
        with tempfile.TemporaryDirectory(prefix="bijli-bench-") as folder:
            result = live(Path(folder), days, gateway)
        print(f"gateway {'there' if gateway else 'away'}, {days} days, scaled to a year:")
        for name, value in summary(result).items():
            print(f"  {name}: {value:,.1f}")
        print(f"  erases by verb: {result['erases_by_verb']}")


if __name__ == "__main__":
    typer.run(main)
