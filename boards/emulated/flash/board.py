"""The emulated board by the contract of boards/README.md; wiring: boards/emulated/vm/emu/wiring.py.

Flashed as board.mpy, together with ds3231.mpy and coil.mpy. Besides `machine`, `network` and
`esp32` it asks the emulator for what no chip can know: the relay it has been given, and how to hold
the shared clock.
"""

import asyncio
import time

import coil
import ds3231
import emu
import esp32
import machine
import network
from emu import clock

_EPOCH_2000_S = 946_684_800


class Board:
    """The board's parts; attributes and methods are those of the contract."""

    name = "emulated"
    ina219_address = 0x40
    shunt_uohm = 100_000

    def __init__(self):
        self.i2c = machine.I2C(0, scl=machine.Pin(22), sda=machine.Pin(21))
        self.shunt_uohm = emu.settings.get("shunt_uohm", self.shunt_uohm)
        self.relay_kind = emu.settings.get("relay_kind", "latching")
        if self.relay_kind == "latching":
            self.relay_close = coil.Coil(26, 0)
            self.relay_open = coil.Coil(27, 1)
        else:
            # Without `value` the pin keeps its level, and with it the contact.
            self.relay_close = machine.Pin(26, machine.Pin.OUT)
            self.relay_open = None
        has_aux = emu.settings.get("aux_contact", True)
        self.aux_contact = machine.Pin(13, machine.Pin.IN) if has_aux else None
        self.pulse_imp_per_kwh = emu.settings.get("pulse_imp_per_kwh", 1000)
        self.pulse_led = machine.Pin(4, machine.Pin.OUT, value=0)
        self.status_led = machine.Pin(2, machine.Pin.OUT, value=0)
        self.buzzer = machine.Pin(25, machine.Pin.OUT, value=0)
        self.button = machine.Pin(33, machine.Pin.IN, machine.Pin.PULL_DOWN)
        self.cover = machine.Pin(32, machine.Pin.IN, machine.Pin.PULL_DOWN)
        self.magnet = machine.Pin(14, machine.Pin.IN, machine.Pin.PULL_DOWN)
        self.rtc = ds3231.DS3231(self.i2c)
        self.nvs = esp32.NVS("bijli")
        self.wlan = network.WLAN(network.WLAN.IF_STA)
        # The emulator knows causes that `machine.reset_cause()` has no number for.
        self.reset_cause = emu.settings.get("reset_cause", "unknown")
        self.unique_id = machine.unique_id()

    def assume_utc_s(self, utc_s):
        """Sets the chip's clock. (TLS goes by the host's: its certificates are real.)"""
        year, month, day, hour, minute, second, weekday = time.gmtime(utc_s - _EPOCH_2000_S)[:7]
        machine.RTC().datetime((year, month, day, weekday, hour, minute, second, 0))

    def watchdog(self, timeout_ms):
        """Starts the watchdog; it cannot be stopped."""
        return machine.WDT(timeout=timeout_ms)

    def reset(self):
        """Restarts the chip."""
        machine.reset()

    async def answer(self, awaitable, timeout_s):
        """Awaits a peer's answer with the shared clock held: nobody's time moves meanwhile."""
        clock.hold()
        try:
            return await asyncio.wait_for(awaitable, timeout_s)
        finally:
            clock.release()


def make():
    """The board. Leaves the relay's contact as it is."""
    return Board()
