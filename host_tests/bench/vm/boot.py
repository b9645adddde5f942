"""One start of the meter by firmware.main.run, from an image, which is written to.

argv: the ROM partition's image, that of the flash with config.json. Prints one line of JSON.
"""

import gc
import json
import sys
import time

import parts
import vfs

gc.threshold(8192)  # as /main.py
parts.import_from_rom(sys.argv[1])


class Clock:
    def utc_s(self):
        return None  # lost


class Board:
    """A board without a link; the watchdog is what starts when the meter has started."""

    name = "bench"
    unique_id = b"\0"
    reset_cause = "power"
    relay_kind = "latching"
    shunt_uohm = 100000
    pulse_led = None
    aux_contact = parts.Contact()
    relay_close = parts.Coil(aux_contact, 1)
    relay_open = parts.Coil(aux_contact, 0)
    nvs = parts.NVS()
    rtc = Clock()
    wlan = None
    button = cover = magnet = None

    def assume_utc_s(self, utc_s):
        pass

    async def answer(self, awaitable, timeout_s):
        pass

    def watchdog(self, timeout_ms):
        us = time.ticks_diff(time.ticks_us(), began_us)
        read = flash.bytes_read
        kept = parts.heap_bytes() - own
        free = gc.mem_free() + own
        print(json.dumps({"ms": us / 1000, "read": read, "heap": kept, "free": free, "own": own}))
        raise SystemExit


board = Board()
board.make = lambda: board
sys.modules["board"] = board
flash = parts.Flash(sys.argv[2])
vfs.umount("/")
vfs.mount(vfs.VfsLfs2(flash), "/")
flash.count()
own = parts.heap_bytes()  # of this script, which a meter has not
began_us = time.ticks_us()

import firmware.main  # noqa: E402

firmware.main.run()
# It returns only without a meter, for which the configuration of the bench gives no other reason.
print("no memory for the configuration")
sys.exit(1)
