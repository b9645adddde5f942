"""Runs on MicroPython: computes again what CPython computed, and a sample with the heap locked.

argv: repository root, JSON file with the cases. Prints OK, or the first difference.
"""

import asyncio
import json
import sys

import micropython

sys.path.insert(0, sys.argv[1])

from firmware.core import civil, digest, sealing
from firmware.credit import charges
from firmware.credit import tariff as tariffs
from firmware.link import codec
from firmware.metering import quality, tamper
from firmware.metering.energy import EnergyRegister
from firmware.metering.profile import Block
from firmware.metering.pulse import Pulse
from firmware.metering.scale import bus_gain, shunt_gain


def check(what, got, expected):
    if got != expected:
        raise ValueError("%s: %r is not %r" % (what, got, expected))


class Limits:
    """As core.config.Config: limits beyond which every other sample is."""

    quality_persist_s = 0
    tamper_persist_s = 0
    over_voltage_mv = 264000
    low_voltage_mv = 184000
    voltage_hysteresis_mv = 4000
    over_current_ma = 45000
    current_hysteresis_ma = 500
    sanctioned_load_w = 5000
    export_counts = 0


def watch_with_the_heap_locked(register):
    """All conditions come and go at full scale, without a byte of heap."""
    watches = quality.Watches()
    pin = Pin()
    micropython.heap_lock()
    try:
        for number in range(400):
            pin.level = number % 2
            register.add((3000, 6000)[pin.level], -32000 * pin.level, 1000)
            quality.judge(watches, Limits, register, 1000)
            tamper.judge(watches, Limits, register, 0, 1000)
            tamper.poll(watches, pin, pin, 1000)
            watches.news()
    finally:
        micropython.heap_unlock()
    codes = []
    while watches.news():
        codes.append(watches.news())
        watches.take(codes[-1])
    check("conditions", codes, [7, 9, 10, 67, 215, 51, 1050])  # the low voltage is over


class Pin:
    def __init__(self):
        self.level = 0

    def value(self):
        return self.level


def main():
    with open(sys.argv[2]) as file:
        cases = json.load(file)
    for document, energy_wh, expected_mp in cases["charges"]:
        tariff = tariffs.parse(codec.check_document(document))
        check("document", tariff.document, document)
        quantities = charges.Quantities(tariff, energy_wh)
        check("charge_mp", charges.charge_mp(tariff, quantities), expected_mp)
        lines = charges.charge_lines(tariff, quantities)
        check("total_mp", charges.total_mp(lines), expected_mp)
    for utc_s, text, start in cases["times"]:
        check("text", civil.text(utc_s, 19800), text)
        check("month", civil.month_start_utc_s(utc_s, 19800), start)
    for key, message, expected in cases["digests"]:
        check("hmac", list(digest.hmac_sha256(bytes(key), bytes(message))), expected)
    for key, iv, plain, expected, next_key in cases["sealed"]:
        key = bytes(key)
        check("seal", sealing.seal(key, bytes(iv), bytes(plain)), expected)
        check("unseal", list(sealing.unseal(key, expected)), plain)
        check("next_key", list(sealing.next_key(key, bytes(iv + iv))), next_key)
    register = EnergyRegister(bus_gain(12500), shunt_gain(31250, 100000), 25000, 1)
    register.scale(bus_gain(12500), -37, shunt_gain(31250, 100000), 53)
    for bus_raw, shunt_raw, dt_ms in cases["samples"]:
        register.add(bus_raw, shunt_raw, dt_ms)
    check(
        "register",
        [[c.wh, c.half_mj, c.half_uj] for c in (register.imported, register.exported)],
        cases["register"],
    )
    watch_with_the_heap_locked(register)
    # Full scale of the largest supported meter, 300 V and 100 A, without a byte of heap.
    bus_raw, shunt_raw = 6000, 32000
    register.scale(bus_gain(12500), -160, shunt_gain(31250, 100000), -480)
    register.add(bus_raw, shunt_raw, 0)
    block = Block()
    block.set_limit(20000)
    due = asyncio.Event()
    pulse = Pulse(register.imported, 1600, due.set)
    micropython.heap_lock()
    try:
        for i in range(3600):
            register.add(bus_raw, shunt_raw if i & 4 else -shunt_raw, 2000)
            block.add(register.voltage_mv, register.current_ua, register.power_mw, 2000)
            block.supplied(2000)
            pulse.add()
    finally:
        micropython.heap_unlock()
    check("pulses are due", due.is_set() and pulse.due > 30000, True)
    check("full scale", (register.voltage_mv, register.current_ua), (300500, 100093750))
    check("block", (block.supply_s, block.over_load_s), (7200, 7200))
    check("figures", block.figures(), (300500, 300500, 300500, 99999, 99906, 100093))
    print("OK")


main()
