"""Rows `journal` and `boot`: what flash costs, on MicroPython's littlefs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from boards.emulated import flashing
from host_tests.bench.measure import Group, Row, ScriptFailed, alternate, column, run_script
from host_tests.fakes.documents import meter_config
from toolchain import locate

DAYS = 35
ESP32_HEAP = "110k"
HEAP_KB = (32, 512)  # where the smallest heap is looked for


def journal(quick: bool, folder: Path) -> Group:
    """A record and a checkpoint beside a file that is rewritten."""
    locate.micropython(32)
    runs = (2, 20) if quick else (12, 100)
    result = run_script("journal.py", flashing.build(), folder / "flash.bin", *runs)
    rows = [
        Row(
            f"{name}, {what}",
            unit,
            column(result[key], member),
            "small JSON file, rewritten and renamed",
            column(result["rewrite"], member),
        )
        for key, name in (("append", "a block record"), ("checkpoint", "a checkpoint"))
        for member, what, unit in (
            ("us", "time", "us"),
            ("erases", "wear", "erases"),
            ("written", "programmed", "bytes"),
        )
    ]
    return Group(
        "journal",
        "Journal.append of a block record and Journal.checkpoint (with the snapshots that fall "
        "due), each on flash on return, by MicroPython's VfsLfs2 with 4 kB blocks over a device in "
        "Python: the counts are the chip's, the times are not (erasing a block takes an ESP32 some "
        "40 ms). The baseline keeps only the latest state, in 90 bytes: so small a file littlefs "
        "keeps within the directory and erases hardly anything for it.",
        rows,
    )


def boot(quick: bool, folder: Path) -> Group:
    """A start with 35 days on flash beside one without."""
    locate.micropython(32)
    rom = folder / "rom.bin"
    rom.write_bytes(flashing.split(flashing.files_of(flashing.build()))[1])
    config = folder / "config.json"
    config.write_text(json.dumps(meter_config(opening_balance_mp=10**9)))
    images = [folder / "full.bin", folder / "empty.bin"]
    records = history(images[0], config, 2 if quick else DAYS)
    history(images[1], config, 0)

    def start(image: Path, heap: str = "4m") -> dict[str, float]:
        copy = folder / "flash.bin"
        shutil.copy(image, copy)
        result: dict[str, float] = run_script("boot.py", rom, copy, config, heap=heap)
        return result

    def smallest_heap_kb(image: Path) -> float:
        low, high = HEAP_KB
        while low < high:
            middle = (low + high) // 2
            try:
                start(image, f"{middle}k")
                high = middle
            except ScriptFailed as error:
                if "MemoryError" not in str(error) and "memory" not in str(error):
                    raise
                low = middle + 1
        return low - round(start(image)["own"] / 1024)

    full, empty = alternate(3 if quick else 15, *(lambda i=i: start(i) for i in images))
    name = f"with {records:,} records"
    rows = [
        Row(f"{name}, {what}", unit, column(full, key), "an empty meter", column(empty, key))
        for key, what, unit in (
            ("ms", "time", "ms"),
            ("read", "read from flash", "bytes"),
            ("heap", "kept", "bytes"),
        )
    ]
    for what, unit, measured in (
        ("free of an ESP32's heap", "bytes", lambda image: start(image, ESP32_HEAP)["free"]),
        ("least heap that boots", "kB", smallest_heap_kb),
    ):
        figures = [[measured(image)] for image in images]
        rows.append(Row(f"{name}, {what}", unit, figures[0], "an empty meter", figures[1]))
    return Group(
        "boot",
        "Making the Meter and Meter.start until it returns, on the 32-bit MicroPython with 4 MB of "
        "heap, run in place from ROM, the data on littlefs over a device in Python; the image "
        f"holds {2 if quick else DAYS} days of half-hour blocks, two events a day, a recharge each "
        "five days, none acknowledged. `free` is what is left of the 110 kB that an ESP32 leaves, "
        "with all modules loaded, the meter started and its link made; `least heap` is the "
        "smallest one that gets so far, which is the peak. What the script itself takes is "
        "left out of both.",
        rows,
    )


def history(image: Path, config: Path, days: int) -> int:
    """Have a meter live for `days` on an image; returns the number of records."""
    result = run_script("history.py", flashing.build(), image, config, days)
    return int(result["records"])
