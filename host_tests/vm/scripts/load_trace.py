"""Runs on MicroPython: prints a load's values. argv: VM folder, spec, start, step in ms, count."""

import sys

sys.path.insert(0, sys.argv[1])

from emu.loads import load_from

start_ms, step_ms, count = [int(text) for text in sys.argv[3:6]]
load = load_from(sys.argv[2], csv_start_ms=start_ms)
for i in range(count):
    t_ms = start_ms + i * step_ms
    load.at(t_ms)
    print(load.voltage_mv, load.current_ma, load.until_ms - t_ms)
