"""The credit rules of a second in which nothing is crossed, with the heap locked.

argv: the folder of the project, a file for the flash, the meter's configuration: a balance and a
debt that are long integers here. Prints how many of the seconds judged the balance.
"""

import sys

import micropython

sys.path[:0] = [sys.argv[1], sys.argv[1] + "/host_tests/bench/vm"]

import parts

HOUR_S = 3600

parts.mount(sys.argv[2])
ticks = parts.Ticks()
meter = parts.make_meter(sys.argv[3], ticks)
meter.start("power", parts.UTC_S)
utc_s = parts.UTC_S + 60
meter.tick(0)
assert meter.balance_mp() > 0x3FFFFFFF
register = meter.energy.imported
judged = 0
for _second in range(2000):
    register.raise_to(register.wh + 1)
    if register.wh > meter._steady_wh:
        judged += 1
        meter.control.step(utc_s)
    micropython.heap_lock()
    meter.control.step(utc_s)
    micropython.heap_unlock()
print(judged)
