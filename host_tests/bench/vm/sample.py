# ruff: noqa: B018, E402, F401
"""One sample as the meter's loop takes it, and two reads by Adafruit's driver.

argv: a folder with the emulator's modules and stand-ins for their peers, the ROM partition's image,
a folder with Adafruit's driver, a file for the flash, the meter's configuration, runs, samples a
run (up to 1,800, as a block has). Prints one line of JSON.
"""

import gc
import json
import sys

import micropython
import utime

sys.path[:0] = [sys.argv[1], sys.argv[3]]
RUNS, SAMPLES = int(sys.argv[6]), int(sys.argv[7])
ADDRESS = 0x40

import emu

emu.settings.update({"load": "constant:230V,30A", "kept": {"contact": True}})
import machine
import parts
from emu import wiring
from emu.ina219 import INA219 as Chip
from parts import heap_bytes

parts.import_from_rom(sys.argv[2])
parts.mount(sys.argv[4])


class Clock:
    """The chip's clock: small integers, so that the model allocates nothing by itself."""

    ticks = 1000

    def now_ms(self):
        return self.ticks


class BusioI2C:
    """`busio.I2C` over `machine.I2C`, at the least cost: allocates nothing for a two-byte register.

    CircuitPython has this in C.
    """

    def __init__(self, i2c):
        self._i2c = i2c
        self._value = bytearray(2)

    def try_lock(self):
        return True

    def unlock(self):
        pass

    def writeto(self, address, buffer, *, start=0, end=None):
        if start or end not in (None, len(buffer)):
            buffer = buffer[start:end]
        self._i2c.writeto(address, buffer)

    def writeto_then_readfrom(
        self, address, out_buffer, in_buffer, *, out_start=0, out_end=None, in_start=0, in_end=None
    ):
        value = self._value
        self._i2c.readfrom_mem_into(address, out_buffer[out_start], value)
        in_buffer[in_start] = value[0]
        in_buffer[in_start + 1] = value[1]


clock = Clock()
wiring.bus.chips[ADDRESS] = Chip(wiring.circuit, clock)
i2c = machine.I2C(0, scl=machine.Pin(22), sda=machine.Pin(21))

before = heap_bytes()
from firmware.metering.energy import EnergyRegister
from firmware.metering.ina219 import INA219
from firmware.metering.profile import Block
from firmware.metering.pulse import Pulse
from firmware.metering.sampler import Sampler
from firmware.metering.scale import bus_gain, shunt_gain

import_ours = heap_bytes() - before
before = heap_bytes()
import adafruit_ina219

import_adafruit = heap_bytes() - before

ticks = parts.Ticks()
meter = parts.make_meter(sys.argv[5], ticks, sample_period_ms=1000)
meter.start("power", parts.UTC_S)
register = meter.energy
meter.pulse = Pulse(register.imported, 1000, parts.nothing)
sampler = Sampler(INA219(i2c, ADDRESS, 100000), meter)
theirs = adafruit_ina219.INA219(BusioI2C(i2c), ADDRESS)
sampler.step(1000)
buffer = bytearray(2)


def sample(count):
    for _ in range(count):
        clock.ticks += 1000
        sampler.step(1000)


class Core:
    """Of a meter the registers alone: integration, carry, creep check and pulse."""

    gap_limit_ms = 2000

    def __init__(self):
        self._energy = register
        self._pulse = meter.pulse

    def sample(self, bus_raw, shunt_raw, dt_ms, fault):
        self._energy.add(bus_raw, shunt_raw, dt_ms)
        self._pulse.add()


core_sampler = Sampler(INA219(i2c, ADDRESS, 100000), Core())


def core(count):
    for _ in range(count):
        clock.ticks += 1000
        core_sampler.step(1000)


def bus_and_current(count):
    for _ in range(count):
        clock.ticks += 1000
        theirs.bus_voltage
        theirs.current


def bus_and_shunt(count):
    for _ in range(count):
        clock.ticks += 1000
        theirs.bus_voltage
        theirs.shunt_voltage


def bus_alone(count):
    for _ in range(count):
        clock.ticks += 1000
        i2c.readfrom_mem_into(ADDRESS, 1, buffer)
        i2c.readfrom_mem_into(ADDRESS, 2, buffer)


def time_us(measured):
    meter.profiles.block.clear()
    gc.collect()
    began_us = utime.ticks_us()
    measured(SAMPLES)
    return utime.ticks_diff(utime.ticks_us(), began_us) / SAMPLES


def allocated_bytes(measured):
    meter.profiles.block.clear()
    gc.collect()
    gc.disable()
    begun = gc.mem_alloc()
    measured(100)
    short = gc.mem_alloc() - begun
    measured(200)
    long = gc.mem_alloc() - begun - short
    gc.enable()
    return (long - short) / 100


# What was read is what is there, or the figures mean nothing.
sample(1)
assert (register.voltage_mv, register.current_ua) == (230000, 30000000), register.__dict__
theirs.current
assert abs(theirs.bus_voltage - 23) < 0.01 and abs(theirs.shunt_voltage - 0.24) < 0.001
micropython.heap_lock()
core(100)
sample(100)
micropython.heap_unlock()

measures = (core, sample, bus_and_current, bus_and_shunt, bus_alone)
for measured in measures:
    time_us(measured)  # the first run warms caches
results = [{"us": [], "bytes": []} for _ in measures]
for _ in range(RUNS):
    for i, measured in enumerate(measures):
        results[i]["us"].append(time_us(measured))
        results[i]["bytes"].append(allocated_bytes(measured))
print(json.dumps({"measures": results, "import": [import_ours, import_adafruit]}))
