# ruff: noqa: E402, PTH123, SIM115
"""One meter on a bench: driver, registers and Meter.sample on a chip with errors.

argv: a folder with the emulator's modules and stand-ins for their peers, the ROM partition's image,
a file for the flash, the meter's configuration, a plan: JSON with `chip` (errors of the INA219),
and `tests`, each a list that begins with the name of a function below. Prints one line of JSON: the
tests' results in their order.
"""

import json
import sys

BENCH_VM = __file__.rsplit("/", 3)[0] + "/bench/vm"
sys.path[:0] = [sys.argv[1], BENCH_VM]

import emu

emu.settings.update({"load": "constant:12V,0A", "kept": {"contact": True}})
import machine
import parts
from emu import wiring
from emu.circuit import Circuit
from emu.ina219 import INA219 as Chip
from emu.loads import DAY_MS, Constant, Recorded

parts.import_from_rom(sys.argv[2])
parts.mount(sys.argv[3])

from firmware.metering.ina219 import INA219

ADDRESS = 0x40
SHUNT_UOHM = 100000
PERIOD_MS = 1000
TICK_EVERY_S = 600  # rules and records have no part in this; but a block's sums are bounded
HALF_MJ_PER_WH = 7200000


class Clock:
    """Time of chip, circuit and meter, in ms from 0; below 2**29 for six days."""

    ticks = 0

    def now_ms(self):
        return self.ticks

    read = now_ms  # as parts.Ticks


clock = Clock()
with open(sys.argv[5]) as file:
    plan = json.load(file)
meter = parts.make_meter(sys.argv[4], clock)
meter.start("power", parts.UTC_S)
circuit = Circuit(
    Constant(0, 0),
    0,
    meter.config.voltage_ratio_x1000,
    meter.config.current_ratio_x1000,
    SHUNT_UOHM,
    closed=True,
)
chip = wiring.bus.chips[ADDRESS] = Chip(circuit, clock, plan["chip"])
circuit.sampler = chip
sensor = INA219(machine.I2C(0, scl=machine.Pin(22), sda=machine.Pin(21)), ADDRESS, SHUNT_UOHM)
sensor.configure()
samples = 0


def connect(load):
    """Another load, and the first sample of it: a new stretch begins."""
    circuit.set_load(clock.ticks, load)
    clock.ticks += PERIOD_MS
    sensor.read()
    meter.sample(sensor.bus_raw, sensor.shunt_raw, 0)


def sample():
    global samples
    clock.ticks += PERIOD_MS
    sensor.read()
    meter.sample(sensor.bus_raw, sensor.shunt_raw, PERIOD_MS)
    samples += 1
    if samples % TICK_EVERY_S == 0:
        meter.tick(TICK_EVERY_S * 1000)


def registered_half_uj():
    count = meter.energy.imported
    return (count.wh * HALF_MJ_PER_WH + count.half_mj) * 1000 + count.half_uj


def constant(voltage_mv, current_ma, length_s):
    """Energy that a constant load makes in a time, half uJ."""
    connect(Constant(voltage_mv, current_ma))
    before = registered_half_uj()
    for _ in range(length_s):
        sample()
    return registered_half_uj() - before


def starts(voltage_mv, current_ma, limit_s):
    """Seconds until a register at 0 shows its first Wh, -1: not within the limit."""
    connect(Constant(voltage_mv, current_ma))
    end_half_uj = registered_half_uj() + HALF_MJ_PER_WH * 1000
    for second in range(1, limit_s + 1):
        sample()
        if registered_half_uj() >= end_half_uj:
            return second
    return -1


def replay(path, minutes):
    """Energy that a recorded household makes, half uJ.

    What is missed of the first second at the beginning comes again behind the end, as a recording
    begins anew.
    """
    clock.ticks = -(-clock.ticks // DAY_MS) * DAY_MS  # a recording begins at a midnight
    connect(Recorded(open(path, "rb"), clock.ticks, 0))
    before = registered_half_uj()
    for _ in range(minutes * 60):
        sample()
    return registered_half_uj() - before


TESTS = {"constant": constant, "starts": starts, "replay": replay}
print(json.dumps([TESTS[name](*arguments) for name, *arguments in plan["tests"]]))
