"""One start of the meter from an image, which is written to.

argv: the firmware's ROM partition, image, the meter's configuration. Prints one line of JSON.
"""

import gc
import json
import os
import sys
import time

import parts

gc.threshold(8192)  # as /main.py
parts.import_from_rom(sys.argv[1])
own = parts.heap_bytes()  # of this script, which a meter has not

import firmware.main  # noqa: E402
import firmware.meter  # noqa: E402, F401
from firmware.link.uplink import Uplink  # noqa: E402

flash = parts.mount(sys.argv[2])
before = parts.heap_bytes()
flash.count()
began_us = time.ticks_us()
meter = parts.make_meter(sys.argv[3], parts.Ticks())
meter.start("power", None)
us = time.ticks_diff(time.ticks_us(), began_us)
read = flash.bytes_read
kept = parts.heap_bytes() - before
parts.heap_bytes()
uplink = Uplink(meter.config, meter, parts.nothing, None, parts.nothing, os.urandom)
parts.heap_bytes()
print(
    json.dumps(
        {"ms": us / 1000, "read": read, "heap": kept, "free": gc.mem_free() + own, "own": own}
    )
)
