"""The meter's second: sample and rules, with what they write.

argv: the ROM partition's image, a file for the flash, the meter's configuration, runs, seconds a
run. Prints one line of JSON.
"""

import gc
import json
import sys
import time
from array import array

import parts

parts.import_from_rom(sys.argv[1])
RUNS, SECONDS = int(sys.argv[4]), int(sys.argv[5])
BUS_RAW, SHUNT_RAW = 5750, 3478  # 230 V and 4.35 A: 1 kW

parts.mount(sys.argv[2])
ticks = parts.Ticks()
meter = parts.make_meter(sys.argv[3], ticks)
meter.start("power", parts.UTC_S)
seconds_us = array("i", [0] * SECONDS)


def sample():
    for _ in range(SECONDS):
        ticks.go_on(1000)
        meter.sample(BUS_RAW, SHUNT_RAW, 1000)


def second():
    for i in range(SECONDS):
        began_us = time.ticks_us()
        ticks.go_on(1000)
        meter.sample(BUS_RAW, SHUNT_RAW, 1000)
        meter.tick(1000)
        seconds_us[i] = time.ticks_diff(time.ticks_us(), began_us)


def measure(measured):
    meter.tick(0)  # what the last run has left to write
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    began_us = time.ticks_us()
    measured()
    us = time.ticks_diff(time.ticks_us(), began_us) / SECONDS
    allocated = (gc.mem_alloc() - before) // SECONDS
    gc.enable()
    return us, allocated


result = {key: [] for key in ("sample_us", "sample_bytes", "mean_us", "mean_bytes", "median_us")}
for run in range(RUNS + 1):
    sample_us, sample_bytes = measure(sample)
    mean_us, mean_bytes = measure(second)
    if run:  # the first one warms caches
        result["sample_us"].append(sample_us)
        result["sample_bytes"].append(sample_bytes)
        result["mean_us"].append(mean_us)
        result["mean_bytes"].append(mean_bytes)
        result["median_us"].append(sorted(seconds_us)[SECONDS // 2])
print(json.dumps(result))
