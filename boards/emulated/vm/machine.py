"""`machine` of the emulated ESP32: what MicroPython 1.25 offers there, as far as a meter needs it.

Pins, I2C, RTC, watchdog, timer, PWM and resets act on the models in emu.wiring. Signatures,
constants and errors are the ESP32 port's. Tests: host_tests/vm/test_shims.py.
"""

import emu
from emu import clock, control, wiring

PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5

_CAUSES = {
    "power": PWRON_RESET,
    "brownout": PWRON_RESET,
    "hard": HARD_RESET,
    "watchdog": WDT_RESET,
    "soft": SOFT_RESET,
}
_NO_SUCH_PINS = (20, 24, 28, 29, 30, 31)
_FIRST_INPUT_ONLY = 34
_PINS = 40


class Pin:
    """A pin; `rises` of emu.wiring counts what leaves it."""

    IN = 1
    OUT = 3
    OPEN_DRAIN = 7
    PULL_DOWN = 1
    PULL_UP = 2
    IRQ_RISING = 1
    IRQ_FALLING = 2

    def __init__(self, id, mode=-1, pull=-1, *, value=None, drive=None, hold=None):
        if not 0 <= id < _PINS or id in _NO_SUCH_PINS:
            raise ValueError("invalid pin")
        self.id = id
        self._line = wiring.line(id)
        self._mode = self.IN
        self._handler = None
        self.init(mode, pull, value=value)

    def init(self, mode=-1, pull=-1, *, value=None, drive=None, hold=None):
        """As the constructor; pulls are of no account, every input is driven."""
        if value is not None:
            self._line.drive(1 if value else 0)
        if mode != -1:
            if mode in (self.OUT, self.OPEN_DRAIN) and self.id >= _FIRST_INPUT_ONLY:
                raise ValueError("pin can only be input")
            self._mode = mode

    def value(self, level=None):
        """Level 0 or 1 without argument; with one, drives the pin."""
        if level is None:
            return self._line.read()
        self._line.drive(1 if level else 0)

    __call__ = value

    def on(self):
        """Drives 1."""
        self._line.drive(1)

    def off(self):
        """Drives 0."""
        self._line.drive(0)

    def irq(self, handler=None, trigger=IRQ_FALLING | IRQ_RISING):
        """Calls handler(pin) at edges; the call comes between two steps of the firmware."""
        self._handler = handler
        self._trigger = trigger
        self._line.on_change = self._edge if handler else None

    def _edge(self, level):
        if self._trigger & (self.IRQ_RISING if level else self.IRQ_FALLING):
            self._handler(self)

    def __repr__(self):
        return "Pin(%d)" % self.id


class I2C:
    """The hardware I2C; transfers take no simulated time."""

    def __init__(self, id, *, scl=None, sda=None, freq=400_000, timeout=50_000):
        if id not in (0, 1):
            raise ValueError("I2C(%d) doesn't exist" % id)
        default = (18, 19) if id == 0 else (25, 26)
        self._connect(scl, sda, default)

    def _connect(self, scl, sda, default):
        pins = (scl.id if scl else default[0], sda.id if sda else default[1])
        # On other pins than the board's there is nobody.
        self._bus = wiring.bus if pins == (wiring.SCL, wiring.SDA) else wiring.Bus()

    def _chip(self, addr):
        clock.look()  # a firmware that only asks a chip must see time move, too
        return self._bus.chips.get(addr) or self._bus.fail()

    def scan(self):
        """Addresses that acknowledge, 0x08-0x77; none while the bus is held."""
        clock.look()
        return sorted(self._bus.chips)

    def readfrom_into(self, addr, buf, stop=True):
        """Reads into `buf` from where the chip's pointer stands."""
        self._chip(addr).read_into(buf)

    def readfrom(self, addr, nbytes, stop=True):
        """As `readfrom_into`; returns bytes."""
        buf = bytearray(nbytes)
        self._chip(addr).read_into(buf)
        return bytes(buf)

    def writeto(self, addr, buf, stop=True):
        """Writes; returns the number of bytes acknowledged.

        Without stop a repeated start follows; these chips keep their pointer either way.
        """
        self._chip(addr).write(buf)
        return len(buf)

    def writevto(self, addr, vector, stop=True):
        """Writes several buffers as one."""
        return self.writeto(addr, b"".join([bytes(part) for part in vector]), stop)

    def readfrom_mem_into(self, addr, memaddr, buf, addrsize=8):
        """Writes the register's number, then reads into `buf`."""
        # The meter's sampling path: written out, it takes half the time.
        clock.look()
        chip = self._bus.chips.get(addr) or self._bus.fail()
        chip.register_into(memaddr, buf)

    def readfrom_mem(self, addr, memaddr, nbytes, addrsize=8):
        """As `readfrom_mem_into`; returns bytes."""
        buf = bytearray(nbytes)
        self._chip(addr).register_into(memaddr, buf)
        return bytes(buf)

    def writeto_mem(self, addr, memaddr, buf, addrsize=8):
        """Writes registers from `memaddr` on."""
        self._chip(addr).write(bytes([memaddr]) + bytes(buf))


class SoftI2C(I2C):
    """I2C by software: the same chips at the same pins."""

    def __init__(self, scl, sda, *, freq=400_000, timeout=50_000):
        self._connect(scl, sda, (None, None))


class RTC:
    """The ESP32's own clock: starts at 2000-01-01 with the power, runs on through a reset."""

    def datetime(self, value=None):
        """(year, month, day, weekday, hour, minute, second, microsecond); sets it if given."""
        import time

        if value is None:
            year, month, day, hour, minute, second, weekday, _ = time.gmtime()
            microsecond = (clock.now_ms() + clock.rtc_offset_ms) % 1000 * 1000
            return (year, month, day, weekday, hour, minute, second, microsecond)
        year, month, day, _, hour, minute, second, microsecond = value
        seconds = time.mktime((year, month, day, hour, minute, second, 0, 0))
        ms = clock.EPOCH_2000_MS + seconds * 1000 + microsecond // 1000
        clock.rtc_offset_ms = ms - clock.now_ms()
        control.keep("rtc_offset_ms", clock.rtc_offset_ms, "reset")

    def init(self, value):
        """As `datetime(value)`."""
        self.datetime(value)


class WDT:
    """The watchdog: not fed for `timeout` ms of simulated time, it resets the chip.

    As on the ESP32 it cannot be stopped; a second one takes the place of the first.
    """

    _running = None

    def __init__(self, id=0, timeout=5000):
        if id != 0:
            raise ValueError
        if timeout <= 0:
            raise ValueError("WDT timeout too short")
        if WDT._running:
            clock.cancel(WDT._running._ring)
        WDT._running = self
        self._timeout_ms = timeout
        self._ring = self._due  # one bound method, so that `cancel` finds it
        control.tell("watchdog", timeout_ms=timeout)
        self.feed()
        self._arm(self._deadline_ms)

    def feed(self):
        """Starts the time anew."""
        # The alarm stays where it is and is moved on when it rings: feeding must cost nothing.
        self._deadline_ms = clock.now_ms() + self._timeout_ms

    def _arm(self, ms):
        self._alarm_ms = ms
        clock.at(ms, self._ring)

    def _due(self):
        now_ms = clock.now_ms()
        # Later than planned: the firmware was stopped by the REPL, and the watchdog with it.
        self._deadline_ms += now_ms - self._alarm_ms
        if now_ms < self._deadline_ms:
            self._arm(self._deadline_ms)
        else:
            control.reset("watchdog")


class Timer:
    """A timer of the chip (0-3); the callback comes between two steps of the firmware."""

    ONE_SHOT = 0
    PERIODIC = 1

    def __init__(self, id, **kw):
        if not -1 <= id <= 3:
            raise ValueError("invalid Timer number")
        self._ring = self._due
        if kw:
            self.init(**kw)

    def init(self, *, mode=PERIODIC, freq=-1, period=-1, callback=None):
        """`period` in ms, or `freq` in Hz."""
        self._mode = mode
        self._period_ms = 1000 // freq if freq > 0 else period
        self._callback = callback
        clock.at(clock.now_ms() + self._period_ms, self._ring)

    def deinit(self):
        """Stops it."""
        clock.cancel(self._ring)

    def _due(self):
        if self._mode == self.PERIODIC:
            clock.at(clock.now_ms() + self._period_ms, self._ring)
        if self._callback:
            self._callback(self)


class PWM:
    """Enough for a buzzer: its pin is 1 while the duty is not 0."""

    def __init__(self, dest, *, freq=5000, duty=None, duty_u16=None):
        self._pin = dest
        self._freq = freq
        self._duty_u16 = 0
        if duty is not None:
            duty_u16 = duty << 6
        self.duty_u16(0x8000 if duty_u16 is None else duty_u16)

    def freq(self, value=None):
        """Frequency in Hz."""
        if value is None:
            return self._freq
        self._freq = value

    def duty_u16(self, value=None):
        """Duty, 0-65535."""
        if value is None:
            return self._duty_u16
        self._duty_u16 = value
        self._pin.value(1 if value else 0)

    def duty(self, value=None):
        """Duty, 0-1023."""
        if value is None:
            return self._duty_u16 >> 6
        self.duty_u16(value << 6)

    def deinit(self):
        """Ends it and leaves the pin at 0."""
        self.duty_u16(0)


def reset():
    """Restarts the chip: pins let go, RAM lost."""
    control.reset("hard")


def soft_reset():
    """Restarts the interpreter only: pins stay driven."""
    control.reset("soft")


def reset_cause():
    """One of the *_RESET constants, 0 if unknown."""
    return _CAUSES.get(emu.settings.get("reset_cause", "power"), 0)


def unique_id():
    """Six bytes: the chip's base MAC address."""
    return bytes.fromhex(emu.settings.get("unique_id", "246f28000001"))


_freq_hz = 160_000_000


def freq(hz=None):
    """Clock of the processor in Hz; of no account here."""
    global _freq_hz
    if hz is None:
        return _freq_hz
    if hz not in (20_000_000, 40_000_000, 80_000_000, 160_000_000, 240_000_000):
        raise ValueError("frequency must be 20MHz, 40MHz, 80Mhz, 160MHz or 240MHz")
    _freq_hz = hz


def idle():
    """Lets time pass to whatever comes next, at most 1 ms, as a tick of FreeRTOS."""
    clock.idle_until(clock.now_ms() + 1)


def disable_irq():
    """Interrupts come between two steps of the firmware only: nothing to switch off."""
    return 0


def enable_irq(state):
    """See `disable_irq`."""
