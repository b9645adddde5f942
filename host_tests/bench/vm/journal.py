# ruff: noqa: PTH104, PTH123
"""Appending, checkpointing, and rewriting a small file, on the real littlefs.

argv: the ROM partition's image, a file for the flash, runs, operations a run. Prints one line of
JSON.
"""

import json
import os
import sys
import time

import parts

parts.import_from_rom(sys.argv[1])
RUNS, COUNT = int(sys.argv[3]), int(sys.argv[4])

from firmware.meter import CHECKPOINT_FORMAT  # noqa: E402
from firmware.storage.journal import Journal  # noqa: E402

STATE = {
    "account": {"credits_mp": 12345678900, "charges_mp": 2345678900, "period_start_wh": 123456},
    "credit_state": "in_credit",
    "grace_left_s": 86400,
    "contact": 1,
    "import_wh": 1234567,
    "remainder_half_mj": 1234567,
    "last_utc_s": parts.UTC_S,
}
SMALL = {"import_wh": 1234567, "balance_mp": 9999999999, "grace_s": 86400, "utc_s": parts.UTC_S}

flash = parts.mount(sys.argv[2])
journal = Journal("/flash/data", CHECKPOINT_FORMAT)
journal.open()
journal.begin_boot()
journal.snapshot(STATE)


def append(number):
    journal.append(
        "load",
        {
            "start_utc_s": parts.UTC_S + number,
            "length_s": 1800,
            "energy_wh": 250,
            "energy_export_wh": 0,
            "voltage_mv": 231000,
            "voltage_min_mv": 228000,
            "voltage_max_mv": 234000,
            "current_ma": 2200,
            "current_min_ma": 90,
            "current_max_ma": 9100,
            "supply_s": 1800,
            "over_load_s": 0,
            "import_wh": number,
            "balance_mp": -7000000000 - number,
        },
        parts.UTC_S,
        1,
        number,
    )


def checkpoint(number):
    if journal.snapshot_due:
        journal.snapshot(STATE)
    else:
        journal.checkpoint(
            (number, 1234567, 86400, parts.UTC_S, number, 1234567, 900, 0, 0) + (number,) * 4
        )


def rewrite(number):
    SMALL["import_wh"] = number
    with open("/flash/state.new", "w") as file:
        json.dump(SMALL, file)
    os.rename("/flash/state.new", "/flash/state.json")


def measure(operation, run):
    flash.count()
    began_us = time.ticks_us()
    for number in range(run * COUNT, (run + 1) * COUNT):
        operation(number)
    us = time.ticks_diff(time.ticks_us(), began_us)
    return {
        "us": us / COUNT,
        "erases": flash.erases / COUNT,
        "written": flash.bytes_written / COUNT,
    }


result = {"append": [], "checkpoint": [], "rewrite": []}
for run in range(RUNS):
    result["append"].append(measure(append, run))
    result["checkpoint"].append(measure(checkpoint, run))
    result["rewrite"].append(measure(rewrite, run))
print(json.dumps(result))
