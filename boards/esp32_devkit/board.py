"""A generic ESP32 development kit as a meter: pins and parts, by the contract of boards/README.md.

Wiring: README.md beside this file. Flashed as board.mpy, together with ds3231.mpy.
"""

import asyncio
import time

import ds3231
import esp32
import machine
import network

_CAUSES = {
    machine.PWRON_RESET: "power",
    machine.HARD_RESET: "hard",
    machine.WDT_RESET: "watchdog",
    machine.SOFT_RESET: "soft",
}

_EPOCH_2000_S = 946_684_800
_IS_SET = b"set"
_YEAR_BUILT = 2025  # an earlier year on the ESP32's own clock: nobody has set it


def set_chip_utc_s(utc_s):
    """Sets the ESP32's own clock."""
    year, month, day, hour, minute, second, weekday = time.gmtime(utc_s - _EPOCH_2000_S)[:7]
    machine.RTC().datetime((year, month, day, weekday, hour, minute, second, 0))


class ChipClock:
    """The ESP32's own clock in place of a DS3231: keeps time over a reset, not over a power cut.

    That it was set, and not only assumed, is in the RTC's memory, which is kept as long.
    """

    def utc_s(self):
        """Seconds since 1970, None if the clock was not set since the power came."""
        if time.gmtime()[0] < _YEAR_BUILT or machine.RTC().memory() != _IS_SET:
            return None
        return time.time() + _EPOCH_2000_S

    def set_utc_s(self, utc_s):
        """Sets the clock."""
        set_chip_utc_s(utc_s)
        machine.RTC().memory(_IS_SET)


class Board:
    """The board's parts; attributes and methods are those of the contract."""

    name = "esp32_devkit"
    ina219_address = 0x40
    shunt_uohm = 100_000
    relay_kind = "single"
    pulse_imp_per_kwh = 1000

    def __init__(self):
        # 100 kHz: the wires to a breakout board are long, and two reads a second need no more.
        self.i2c = machine.I2C(0, scl=machine.Pin(22), sda=machine.Pin(21), freq=100_000)
        # Without `value` the pin keeps its level, and with it the contact.
        self.relay_close = machine.Pin(26, machine.Pin.OUT)
        self.relay_open = None
        self.aux_contact = None
        self.pulse_led = machine.Pin(4, machine.Pin.OUT, value=0)
        self.status_led = machine.Pin(2, machine.Pin.OUT, value=0)
        self.buzzer = machine.Pin(25, machine.Pin.OUT, value=0)
        self.button = machine.Pin(33, machine.Pin.IN, machine.Pin.PULL_DOWN)
        self.cover = machine.Pin(32, machine.Pin.IN, machine.Pin.PULL_DOWN)
        self.magnet = machine.Pin(14, machine.Pin.IN, machine.Pin.PULL_DOWN)
        has_ds3231 = ds3231.ADDRESS in self.i2c.scan()
        self.rtc = ds3231.DS3231(self.i2c) if has_ds3231 else ChipClock()
        self.nvs = esp32.NVS("bijli")
        self.wlan = network.WLAN(network.WLAN.IF_STA)
        self.reset_cause = _CAUSES.get(machine.reset_cause(), "unknown")
        self.unique_id = machine.unique_id()

    def assume_utc_s(self, utc_s):
        """Sets the clock by which TLS judges certificates; the time is no better known by it."""
        set_chip_utc_s(utc_s)

    def watchdog(self, timeout_ms):
        """Starts the watchdog; it cannot be stopped."""
        return machine.WDT(timeout=timeout_ms)

    def reset(self):
        """Restarts the chip."""
        machine.reset()

    async def answer(self, awaitable, timeout_s):
        """Awaits a peer's answer; asyncio.TimeoutError after `timeout_s`."""
        return await asyncio.wait_for(awaitable, timeout_s)


def make():
    """The board. Leaves the relay's contact as it is."""
    return Board()
