"""One sample of the largest supported meter, with the heap locked.

argv: the folder of the project, a file for the flash, the meter's configuration. Prints "ok".
"""

import asyncio
import sys

import micropython

sys.path[:0] = [sys.argv[1], sys.argv[1] + "/host_tests/bench/vm"]

import parts

from firmware.metering.ina219 import INA219
from firmware.metering.pulse import Pulse
from firmware.metering.sampler import Sampler
from firmware.metering.scale import bus_gain, shunt_gain

RATIOS = 12500, 32000  # 300 V is 24 V at the sensor, 100 A is 312.5 mV
CNVR = 2
STEPS_MS = 1000, 999, 1500, 2000


class Bus:
    """An INA219's six registers."""

    def __init__(self):
        self.registers = [bytearray(2) for _ in range(6)]

    def readfrom_mem_into(self, address, register, buffer):
        value = self.registers[register]
        buffer[0] = value[0]
        buffer[1] = value[1]

    def writeto_mem(self, address, register, buffer):
        self.registers[register][:] = buffer

    def put(self, bus_raw, shunt_raw):
        self.registers[1][:] = (shunt_raw & 0xFFFF).to_bytes(2, "big")
        self.registers[2][:] = (bus_raw << 3 | CNVR).to_bytes(2, "big")


class Core:
    """Of a meter what the arithmetic of a sample needs: registers, pulses and block."""

    gap_limit_ms = 2000

    def __init__(self, meter):
        self._energy = meter.energy
        self._pulse = meter.pulse
        self._block = meter.profiles.block
        self._pulse = meter.pulse

    def sample(self, bus_raw, shunt_raw, dt_ms, fault):
        self._energy.add(bus_raw, shunt_raw, dt_ms)
        self._pulse.add()
        self._count(dt_ms)

    def _count(self, dt_ms):
        energy = self._energy
        self._block.add(energy.voltage_mv, energy.current_ua, energy.power_mw, dt_ms)


def samples(sampler):
    for _ in range(10):
        for step_ms in STEPS_MS:
            sampler.step(step_ms)


parts.mount(sys.argv[2])
ticks = parts.Ticks()
bus = Bus()
ratios = {"voltage_ratio_x1000": RATIOS[0], "current_ratio_x1000": RATIOS[1]}
for export_counts in (0, 1):
    meter = parts.make_meter(sys.argv[3], ticks, export_counts=export_counts, **ratios)
    meter.start("power", parts.UTC_S)
    meter.pulse = Pulse(meter.energy.imported, 1000, parts.nothing)
    meter.tick(0)
    meter.pulse = Pulse(meter.energy.imported, 1600, asyncio.Event().set)
    sampler = Sampler(INA219(bus, 0x40, 100000), meter)
    core = Sampler(INA219(bus, 0x40, 100000), Core(meter))
    bus.put(0, 0)
    sampler.step(0)
    core.step(0)
    energy = meter.energy
    for zero_x16 in (0, 1000, -1000):
        energy.scale(bus_gain(RATIOS[0]), zero_x16, shunt_gain(RATIOS[1], 100000), -zero_x16)
        # 300 V and 100 A; both ends of the ranges; nothing; below and above the creep threshold.
        for bus_raw in (6000, 7999, 0, 5750):
            for shunt_raw in (31250, -31250, 31999, -31999, 0, 1, -1, 7, -9):
                bus.put(bus_raw, shunt_raw)
                sampler.step(1000)
                core.step(1000)
                meter.profiles.block.clear()
                total = micropython.mem_total()
                samples(core)
                # Not even the frame of a function, which a locked heap would put on the stack.
                total = micropython.mem_total() - total
                assert total == 0, (export_counts, zero_x16, bus_raw, shunt_raw, total)
                before = energy.import_wh + energy.export_wh
                micropython.heap_lock()
                samples(sampler)
                micropython.heap_unlock()
                if bus_raw == 6000 and abs(shunt_raw) == 31250 and not zero_x16:
                    assert energy.voltage_mv == 300000, energy.voltage_mv
                    assert abs(energy.current_ua - 100000000) < 4000, energy.current_ua
                    counted = energy.import_wh + energy.export_wh - before
                    assert abs(counted - 30000 * 55 // 3600) <= 1, counted
                    assert meter.pulse.due or not energy.import_wh
print("ok")
