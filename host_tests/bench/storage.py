"""Rows `journal` and `boot`: what flash costs, on MicroPython's littlefs."""

from __future__ import annotations

import shutil
from pathlib import Path

from host_tests.bench.measure import (
    CONFIG,
    Group,
    Row,
    ScriptFailed,
    alternate,
    column,
    config_file,
    rom_image,
    run_script,
)
from toolchain import locate

DAYS = 35
ESP32_HEAP = "110k"
HEAP_KB = (16, 512)  # where the smallest heap is looked for


def journal(quick: bool, folder: Path) -> Group:
    """A record and a checkpoint beside a file that is rewritten."""
    locate.micropython(32)
    runs = (2, 20) if quick else (12, 100)
    result = run_script("journal.py", rom_image(folder), folder / "flash.bin", *runs)
    rows = [
        Row(
            f"{name}, {what}",
            unit,
            column(result[key], member),
            "small JSON file, rewritten and renamed",
            column(result["rewrite"], member),
        )
        for key, name in (("append", "a load record"), ("checkpoint", "a checkpoint"))
        for member, what, unit in (
            ("us", "time", "us"),
            ("erases", "wear", "erases"),
            ("written", "programmed", "bytes"),
        )
    ]
    return Group(
        "journal",
        "Journal.append of a load record and Journal.checkpoint (with the snapshots that fall "
        "due), each on flash on return, by MicroPython's VfsLfs2 with 4 kB blocks over a device in "
        "Python: the counts are the chip's, the times are not (erasing a block takes an ESP32 some "
        "40 ms). The baseline keeps only the latest state, in 90 bytes: so small a file littlefs "
        "keeps within the directory and erases hardly anything for it.",
        rows,
    )


def boot(quick: bool, folder: Path) -> Group:
    """A start with 35 days on flash beside one without."""
    locate.micropython(32)
    config = config_file(folder)
    boards = [folder / "full", folder / "empty"]
    for board in boards:
        rom_image(board, CONFIG)
    records = history(boards[0], config, 2 if quick else DAYS)
    history(boards[1], config, 0)

    def start(board: Path, heap: str = "4m") -> dict[str, float]:
        copy = folder / "flash.bin"
        shutil.copy(board / "flash.bin", copy)
        result: dict[str, float] = run_script("boot.py", board / "rom.bin", copy, heap=heap)
        return result

    def smallest_heap_kb(board: Path) -> float:
        low, high = HEAP_KB
        while low < high:
            middle = (low + high) // 2
            try:
                start(board, f"{middle}k")
                high = middle
            except ScriptFailed as error:
                if "MemoryError" not in str(error) and "memory" not in str(error):
                    raise
                low = middle + 1
        return low - round(start(board)["own"] / 1024)

    full, empty = alternate(3 if quick else 15, *(lambda b=b: start(b) for b in boards))
    name = f"with {records:,} records"
    rows = [
        Row(f"{name}, {what}", unit, column(full, key), "an empty meter", column(empty, key))
        for key, what, unit in (
            ("ms", "time", "ms"),
            ("read", "read from flash", "bytes"),
            ("heap", "in use after it", "bytes"),
        )
    ]
    for what, unit, measured in (
        ("free of an ESP32's heap", "bytes", lambda board: start(board, ESP32_HEAP)["free"]),
        ("least heap that boots", "kB", smallest_heap_kb),
    ):
        figures = [[measured(board)] for board in boards]
        rows.append(Row(f"{name}, {what}", unit, figures[0], "an empty meter", figures[1]))
    return Group(
        "boot",
        "The flashed firmware from `import firmware.main` until the watchdog starts and metering "
        "begins, run from the ROM partition on the 32-bit MicroPython with 4 MB of heap, "
        "littlefs over a device in Python; the image holds "
        f"{2 if quick else DAYS} days of half hours, two events a day and a recharge every "
        "five days, none acknowledged. `free` is what is left of the 110 kB that an ESP32 leaves "
        "once the meter has started and its link is made; `least heap` is the smallest one that "
        "gets so far, which is the peak. What the script itself takes is left out of both.",
        rows,
    )


def history(board: Path, config: Path, days: int) -> int:
    """Have a meter live for `days` on a board's images; returns the number of records."""
    result = run_script("history.py", board / "rom.bin", board / "flash.bin", config, days)
    return int(result["records"])
