"""What chip models stand on in tests: a clock moved by hand, a circuit of two numbers, a bus."""

import errno
import os

TICKS_MASK = 0x3FFFFFFF


class Clock:
    """emu.clock for models: moved by `pass_ms`."""

    def __init__(self, start_ms=1_790_000_000_000):
        self._now_ms = start_ms
        self._start_ms = start_ms

    def now_ms(self):
        return self._now_ms

    @property
    def ticks(self):
        return (self._now_ms - self._start_ms) & TICKS_MASK

    def pass_ms(self, ms):
        self._now_ms += ms


class TwoVoltages:
    """emu.circuit as the INA219 sees it: two voltages, changed by `set` now or by `plan` later."""

    def __init__(self, clock, shunt_uv=0, bus_mv=0):
        self._clock = clock
        self.version = 0
        self.shunt_uv = shunt_uv
        self.bus_mv = bus_mv
        self.sampler = None
        self._changes = []

    @property
    def until_ms(self):
        return self._changes[0][0] if self._changes else 1 << 62

    def advance(self, t_ms):
        while t_ms >= self.until_ms:
            _, self.shunt_uv, self.bus_mv = self._changes.pop(0)
            self.version += 1

    def plan(self, *changes):
        """Changes to come: (ms, shunt_uv, bus_mv), earliest first."""
        self._changes = list(changes)
        self.sampler.disturb()

    def set(self, shunt_uv, bus_mv):
        self.sampler.catch_up(self._clock.now_ms())
        self.shunt_uv = shunt_uv
        self.bus_mv = bus_mv
        self.version += 1
        self.sampler.disturb()


class BlinkaBus:
    """busio.I2C of CircuitPython as far as adafruit_bus_device uses it, over chip models.

    After each transfer `transfer_ms` pass on `clock`.
    """

    def __init__(self, chips, clock, transfer_ms=0):
        self._chips = chips
        self._clock = clock
        self._transfer_ms = transfer_ms

    def try_lock(self):
        return True

    def unlock(self):
        pass

    def _chip(self, address):
        if address not in self._chips:
            raise OSError(121, "Remote I/O error")
        return self._chips[address]

    def writeto(self, address, buffer, *, start=0, end=None):
        self._chip(address).write(bytes(buffer[start:end]))
        self._clock.pass_ms(self._transfer_ms)

    def readfrom_into(self, address, buffer, *, start=0, end=None):
        part = bytearray(len(buffer[start:end]))
        self._chip(address).read_into(part)
        buffer[start : start + len(part)] = part
        self._clock.pass_ms(self._transfer_ms)

    def writeto_then_readfrom(
        self, address, out_buffer, in_buffer, *, out_start=0, out_end=None, in_start=0, in_end=None
    ):
        self.writeto(address, out_buffer, start=out_start, end=out_end)
        self.readfrom_into(address, in_buffer, start=in_start, end=in_end)


class MachineBus:
    """machine.I2C over chip models. `error`: the errno of every transfer, None: it works."""

    def __init__(self, chips):
        self._chips = chips
        self.error = None
        self.reads = []  # numbers of the registers that were read

    def _chip(self, address):
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        if address not in self._chips:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return self._chips[address]

    def readfrom_mem_into(self, address, register, buffer):
        self.reads.append(register)
        self._chip(address).register_into(register, buffer)

    def writeto_mem(self, address, register, buffer):
        self._chip(address).write(bytes([register]) + bytes(buffer))
