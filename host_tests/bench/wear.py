"""Row `wear`: erases per block of a household's meter, from MicroPython's littlefs.

`python -m host_tests.bench.wear 365` lives a whole year (some 7 minutes each of the two runs).
"""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from boards.emulated.vm.emu.loads import Appliances
from host_tests.bench.measure import CONFIG, Group, Row, rom_image, run_script
from toolchain import locate

DAY_WH = 10_000  # 300 kWh in a month of 30 days
CYCLES = 100_000
YEARS_NEEDED = 20
YEAR_DAYS = 365
CHECKPOINT_BYTES = 70  # docs/SPEC.md section 5.2
NVS_ENTRIES_PER_PAGE = 126  # of 32 bytes in a page of 4 kB (ESP-IDF, non-volatile storage)
NVS_PAGES = 5  # that take turns, of a partition of 24 kB
START_UTC_S = 1_767_551_400  # as UTC_S of vm/parts.py
SHUNT_STEP_UA = 1_250  # primary current of one step of the shunt register, by documents.py
MINUTES_A_DAY = 1_440
CASES = {"acked": "gateway there", "full": "gateway away, log full"}


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


def live(folder: Path, days: int, gateway: str, exact: bool = False) -> dict[str, Any]:
    """What vm/wear.py counted in `days`; `gateway`: see CASES; `exact`: a sample each second."""
    rom = rom_image(folder, CONFIG)
    series = folder / "shunt.bin"
    series.write_bytes(shunt_readings(days))
    result: dict[str, Any] = run_script(
        "wear.py",
        rom,
        folder / "flash.bin",
        series,
        gateway,
        "exact" if exact else "coarse",
        heap="12m",
        timeout_s=300 + 10 * days,
    )
    return result


def summary(result: dict[str, Any]) -> dict[str, float]:
    """The figures of a run, scaled to a year."""
    years = result["days"] / YEAR_DAYS
    erases = result["erases"]
    moving = sum(1 for count in erases if count)
    hottest = max(erases) / years
    nvs_pages = result["nvs_writes"] / years / NVS_ENTRIES_PER_PAGE
    return {
        "blocks in use at first": result["blocks_at_first"],
        "blocks in use at last": result["blocks_in_use"],
        "blocks that took part": moving,
        "records lost for want of room": result["lost_records"],
        "checkpoints a year": result["verbs"]["checkpoint"] / years,
        "records a year": result["verbs"]["append"] / years,
        "bytes programmed for each checkpoint or record": result["programmed_bytes"]
        / sum(result["verbs"].values()),
        "erases a year": sum(erases) / years,
        **{f"of them for {name}": n / years for name, n in erases_by_file(result).items()},
        "mean of a block a year": sum(erases) / moving / years,
        "hottest block a year": hottest,
        "years of the hottest block": CYCLES / hottest,
        "NVS writes a year": result["nvs_writes"] / years,
        "NVS page erases a year": nvs_pages,
        "years of an NVS page": CYCLES * NVS_PAGES / nvs_pages,
    }


def erases_by_file(result: dict[str, Any]) -> dict[str, int]:
    """Erases by the file that they were made for, most first."""
    metadata = result["metadata_erases_by_verb"]
    files = {"the folder's directory": sum(metadata.values())}
    for name, *verbs in (
        ("ckpt-a and -b", "checkpoint", "snapshot"),
        ("log", "append"),
        ("others", "files"),
    ):
        files[name] = sum(
            result["erases_by_verb"].get(verb, 0) - metadata.get(verb, 0) for verb in verbs
        )
    return dict(sorted(files.items(), key=lambda item: -item[1]))


def wear(quick: bool, folder: Path) -> Group:
    """A household's year, scaled from some days."""
    locate.micropython(32)
    days = 1 if quick else 30
    rows = []
    for gateway, name in CASES.items():
        year = summary(live(folder / gateway, days, gateway))
        rows += [Row(f"{name}, {what}", unit, [year[key]], base_name, [base])
                 for what, unit, key, base_name, base in (
            ("hottest block", "erases/year", "hottest block a year",
             "mean of the blocks that took part", year["mean of a block a year"]),
            ("its life at 100,000 erases", "years", "years of the hottest block",
             "needed", YEARS_NEEDED),
            ("life of an NVS page", "years", "years of an NVS page", "needed", YEARS_NEEDED),
            ("programmed for each", "bytes", "bytes programmed for each checkpoint or record",
             "a checkpoint's own bytes", CHECKPOINT_BYTES),
        )]  # fmt: skip
    return Group(
        "wear",
        f"The real Meter and Journal for {days} days of a household of 300 kWh a month "
        "(appliances, scaled), on MicroPython's VfsLfs2 over 512 blocks of 4 kB that begin as a "
        "flashed board, with default settings and a recharge each five days; scaled to a year. "
        "`gateway away`: none for so long that the log is at its limit from the beginning. NVS is "
        "counted in entries, 126 of which fill a page. "
        "A short run overstates the hottest block, which is a directory that littlefs moves after "
        "some 50 erases. `python -m host_tests.bench.wear 365` lives the whole year.",
        rows,
    )


def main(days: Annotated[int, typer.Argument()] = YEAR_DAYS) -> None:
    """Lives `days` with and without a gateway and prints the figures of a year."""
    for gateway, name in CASES.items():
        with tempfile.TemporaryDirectory(prefix="bijli-bench-") as folder:
            result = live(Path(folder), days, gateway)
        print(f"{name}, {days} days, scaled to a year:", flush=True)
        for what, value in summary(result).items():
            print(f"  {what}: {value:,.1f}", flush=True)


if __name__ == "__main__":
    typer.run(main)
