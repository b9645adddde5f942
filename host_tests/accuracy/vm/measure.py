# ruff: noqa: E402, PTH123, SIM115
"""One meter on a bench: sampler, driver, registers and console on a chip with errors.

argv: a folder with the emulator's modules and stand-ins for their peers, the ROM partition's image,
a file for the flash, the meter's configuration, the steps to take in JSON: lists that begin with
the name of a function below. Prints one line of JSON: their results in their order.
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
from emu.loads import Constant, Recorded

parts.import_from_rom(sys.argv[2])
parts.mount(sys.argv[3])

from firmware.console import commands
from firmware.console.terminal import Terminal
from firmware.core.sealing import installer_code
from firmware.metering.energy import HALF_MJ_PER_WH
from firmware.metering.ina219 import INA219
from firmware.metering.sampler import Sampler

ADDRESS = 0x40
SHUNT_UOHM = 100000
PERIOD_MS = 1000
TICK_EVERY_S = 600  # rules and records have no part in this; but a block's sums are bounded
SETTLE_S = 5  # the sampler finds the chip and configures it
CODE_WAIT_S = 30  # after its start the console takes no code


class Clock:
    """Time of chip, circuit and meter, in ms from 0; below 2**29 for six days."""

    ticks = 0

    def now_ms(self):
        return self.ticks

    read = now_ms  # as parts.Ticks


clock = Clock()
with open(sys.argv[5]) as file:
    steps = json.load(file)
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
sensor = INA219(machine.I2C(0, scl=machine.Pin(22), sda=machine.Pin(21)), ADDRESS, SHUNT_UOHM)
sampler = Sampler(sensor, meter)
samples = 0
kept = None  # the chip's configuration


def keep(values):
    global kept
    kept = values


def chip(errors):
    """From now on the chip has these errors."""
    wiring.bus.chips[ADDRESS] = circuit.sampler = Chip(circuit, clock, errors, 0, kept, keep)
    for _ in range(SETTLE_S):
        sample()


def connect(load):
    """Another load, and the first sample of it."""
    circuit.set_load(clock.ticks, load)
    sample()


def sample():
    global samples
    clock.ticks += PERIOD_MS
    sampler.step(PERIOD_MS)
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
    while clock.ticks % 60000:
        sample()
    # Its midnight is now.
    connect(Recorded(open(path, "rb"), clock.ticks, -(clock.ticks // 60000)))
    before = registered_half_uj()
    for _ in range(minutes * 60):
        sample()
    return registered_half_uj() - before


class LabTerminal(Terminal):
    """A person at the meter's console. While a command waits for a sample, the meter takes one."""

    async def pause(self):
        sample()


answers = []
terminal = LabTerminal(meter, sensor, None, answers.append)


def calibrate(voltage_mv, current_ma):
    """A person types what docs/CALIBRATION.md says; returns the console's answers."""
    for _ in range(CODE_WAIT_S):
        sample()
    typed("unlock " + installer_code(meter.config.key))
    connect(Constant(voltage_mv, 0))
    typed("calibrate zero")
    connect(Constant(voltage_mv, current_ma))
    typed("calibrate voltage " + thousandths(voltage_mv))
    typed("calibrate current " + thousandths(current_ma))
    return answers


def typed(line):
    """Has the console do what a line says; an error that it answers is the end."""
    said = len(answers)
    done = commands.run(terminal, line)
    try:
        done.send(None)
        raise RuntimeError(line + ": waits for something else than a sample")
    except StopIteration:
        pass
    for answer in answers[said:]:
        if answer.startswith("error"):
            raise RuntimeError(line + ": " + answer)


def thousandths(value):
    return f"{value // 1000}.{value % 1000:03d}"


STEPS = {
    "chip": chip,
    "constant": constant,
    "starts": starts,
    "replay": replay,
    "calibrate": calibrate,
}
print(json.dumps([STEPS[name](*arguments) for name, *arguments in steps]))
