"""Lets a meter live for days on a flash image: what it finds when it is started again.

argv: the ROM partition's image, that of the flash, the meter's configuration, days (0: started
once). Prints one line of JSON.
"""

import json
import sys

import parts

parts.import_from_rom(sys.argv[1])

DAYS = int(sys.argv[4])
BLOCK_MS, STEP_MS = 1800000, 60000
BUS_RAW, SHUNT_RAW = 5750, 870  # 230 V and 1.09 A: 6 kWh a day

parts.mount(sys.argv[2])
ticks = parts.Ticks()
meter = parts.make_meter(sys.argv[3], ticks, sample_period_ms=STEP_MS)
meter.start("power", parts.UTC_S)

for block in range(DAYS * 48):
    for _ in range(BLOCK_MS // STEP_MS):
        ticks.go_on(STEP_MS)
        meter.sample(BUS_RAW, SHUNT_RAW, STEP_MS)
    meter.tick(BLOCK_MS)
    if block % 48 == 20:  # once a day the sensor is away for a moment: two events
        meter.sample_failed(6000, 1)
    if block % 240 == 100:
        parts.recharge(meter, block, 30000000)
meter.journal.close()
print(json.dumps({"records": meter.journal.last_seq}))
