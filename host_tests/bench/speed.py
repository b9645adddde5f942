"""Row `board`: how fast simulated time passes on the emulated board."""

from __future__ import annotations

import time
from pathlib import Path

from boards.emulated import flashing
from boards.emulated.board import EmulatedBoard
from boards.emulated.conductor import Conductor
from host_tests.bench.measure import CONFIG, Group, Row, alternate
from toolchain import locate

START_MS = 1_767_551_400_000
STARTED = "status"  # both programs print it: the firmware once a minute
EMPTY_LOOP = b"""
import asyncio

async def run():
    print("status")
    while True:
        await asyncio.sleep_ms(1000)

asyncio.run(run())
"""


def board(quick: bool, folder: Path) -> Group:
    """The real image beside an empty loop."""
    window_s = 0.3 if quick else 2.0
    runs = 1 if quick else 5
    firmware = flashing.files_of(flashing.build())
    group = Group(
        "board",
        "Simulated seconds for each second of the wall clock, of one emulated board alone on the "
        "clock `max`: the flashed image at 1 Hz with an appliance load and without Wi-Fi (the "
        "uplink looks for it), journal and checkpoints included, over windows of "
        f"{window_s:g} s. The baseline awaits a second again and again and does nothing else.",
    )
    for bits in (32, 64):
        try:
            locate.micropython(bits)
        except locate.ToolMissing as missing:
            group.missing = f"{bits} bits: not measured, {missing}"
            continue
        folders = []
        for name, files in (("firmware", firmware), ("loop", {"main.py": EMPTY_LOOP})):
            folders.append(folder / f"{name}-{bits}")
            flashing.flash_image(folders[-1], files, CONFIG)
        measures = [lambda f=f, b=bits: simulated_per_s(f, b, window_s) for f in folders]
        real, empty = alternate(runs, *measures)
        group.rows.append(
            Row(f"{bits} bits, firmware without link", "s/s", real, "an empty 1 Hz loop", empty)
        )
    return group


def simulated_per_s(folder: Path, bits: int, window_s: float) -> float:
    """One run of a board, measured in the middle of it."""
    settings = {"load": "appliances:11", "seed": 11}
    with Conductor(None, start_ms=START_MS) as conductor:
        parts = EmulatedBoard(folder, "b", conductor.address, settings=settings, bits=bits)
        with parts as running:
            running.set(wifi=False)
            running.wait_for(STARTED)
            began_ms, began_s = conductor.now_ms(), time.monotonic()
            time.sleep(window_s)
            passed_ms, passed_s = conductor.now_ms() - began_ms, time.monotonic() - began_s
    return passed_ms / 1000 / passed_s
