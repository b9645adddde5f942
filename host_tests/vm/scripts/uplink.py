"""Run by test_uplink.py on MicroPython: drains a backlog from the journal through a real broker.

argv: folder with firmware/ (sources or .mpy), port of the broker, folder of the journal, records.
Prints one line of JSON.
"""

import asyncio
import gc
import json
import os
import sys
import time

sys.path.insert(0, sys.argv[1])

from firmware.link import codec
from firmware.link.uplink import Uplink
from firmware.storage.journal import Journal

RECORDS = int(sys.argv[4])


class Config:
    meter, key = "JH-1", bytes(32)
    broker_host, broker_port = "127.0.0.1", int(sys.argv[2])
    broker_user, broker_password, broker_ca = "JH-1", "secret", ""
    wifi_ssid, wifi_password = "home", "secret"
    live_period_s = 1


class Clock:
    begun_ms = time.ticks_ms()

    def up_ms(self):
        return time.ticks_diff(time.ticks_ms(), self.begun_ms)

    def up_s(self):
        return self.up_ms() // 1000


class Meter:
    def __init__(self, journal):
        self.journal = journal
        self.clock = Clock()
        self.credentials = self

    def choose(self, up_s):
        return False

    due = choose

    def verified(self):
        pass

    def heard(self):
        pass

    def open_signed(self, message):
        return codec.open_signed(Config.key, Config.meter, message)

    def handle_order(self, message):
        return {"v": 1, "id": str(message, "utf-8")}

    def live(self):
        return {"v": 1, "power_mw": 5}

    def log(self, line):
        pass


async def answer(awaitable, timeout_s):
    return await asyncio.wait_for(awaitable, timeout_s)


async def main():
    journal = Journal(sys.argv[3], "<Q")
    journal.open()
    journal.begin_boot()
    journal.snapshot({})
    registers = {"import_wh": 2**40, "balance_mp": -(2**40)}
    for number in range(RECORDS):
        fields = {"code": 1, "detail": number, "voltage_mv": 230000, "current_ma": 0}
        fields.update(registers)
        journal.append("event", fields, 1767600000, 1, 1)
    times = []
    config = Config()
    meter = Meter(journal)

    def set_time(utc_ms, round_trip_ms):
        times.append(utc_ms)

    gc.collect()
    before = gc.mem_alloc()
    uplink = Uplink(config, meter, set_time, None, answer, os.urandom)
    task = asyncio.create_task(uplink.run())
    began_ms = time.ticks_ms()
    while uplink.waiting() or not times:
        await asyncio.sleep_ms(20)
    drained_ms = time.ticks_diff(time.ticks_ms(), began_ms)
    gc.collect()
    print(
        json.dumps(
            {
                "utc_ms": times[0],
                "resent": uplink.resent,
                "refused": uplink.refused,
                "drained_ms": drained_ms,
                "uplink_bytes": gc.mem_alloc() - before,
            }
        )
    )
    task.cancel()


asyncio.run(main())
