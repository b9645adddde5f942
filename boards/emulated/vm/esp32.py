"""`esp32` of the emulated ESP32: NVS, the flash partition for keys and values; RMT, as for a coil.

A value lives in RAM until `commit()`; a reset or power cut before loses it. Committed values are
on the host's disk when `commit()` returns. Errors are OSError(-code, name) with ESP-IDF's codes
(nvs.h), as MicroPython raises them. Tests: host_tests/vm/test_shims.py.
"""

import emu
from emu import clock, control, wiring

_NOT_FOUND = 0x1102
_TYPE_MISMATCH = 0x1103
_INVALID_NAME = 0x1106
_KEY_TOO_LONG = 0x1109
_INVALID_LENGTH = 0x110C
_NAMES = {
    _NOT_FOUND: "ESP_ERR_NVS_NOT_FOUND",
    _TYPE_MISMATCH: "ESP_ERR_NVS_TYPE_MISMATCH",
    _INVALID_NAME: "ESP_ERR_NVS_INVALID_NAME",
    _KEY_TOO_LONG: "ESP_ERR_NVS_KEY_TOO_LONG",
    _INVALID_LENGTH: "ESP_ERR_NVS_INVALID_LENGTH",
}
_NAME_MAX = 15

_spaces = {}


def _fail(code):
    raise OSError(-code, _NAMES[code])


class NVS:
    """One namespace (1-15 characters); every object of it sees the same values.

    A value is an int (i32) or a str of hexadecimal digits (blob), as it is kept in JSON.
    """

    def __init__(self, namespace):
        if not 0 < len(namespace) <= _NAME_MAX:
            _fail(_INVALID_NAME)
        self._key = "nvs:" + namespace
        if namespace not in _spaces:
            _spaces[namespace] = dict((emu.settings.get("kept") or {}).get(self._key) or {})
        self._values = _spaces[namespace]

    def get_i32(self, key):
        """The integer; OSError if there is none."""
        return self._get(key, int)

    def set_i32(self, key, value):
        """Sets an integer of 32 bits, signed."""
        if not -0x80000000 <= value <= 0x7FFFFFFF:
            raise OverflowError("overflow converting long int to machine word")
        self._set(key, value)

    def get_blob(self, key, buffer):
        """Fills `buffer`, returns the length; OSError if there is none or it does not fit."""
        blob = bytes.fromhex(self._get(key, str))
        if len(blob) > len(buffer):
            _fail(_INVALID_LENGTH)
        buffer[: len(blob)] = blob
        return len(blob)

    def set_blob(self, key, value):
        """Sets bytes (a str is taken as UTF-8)."""
        if isinstance(value, str):
            value = value.encode()
        self._set(key, bytes(value).hex())

    def erase_key(self, key):
        """Removes a value of either kind; OSError if there is none."""
        if key not in self._values:
            _fail(_NOT_FOUND)
        del self._values[key]

    def commit(self):
        """Writes what has changed."""
        control.keep(self._key, self._values, "power")

    def _get(self, key, kind):
        value = self._values.get(key)
        if not isinstance(value, kind):
            _fail(_NOT_FOUND)
        return value

    def _set(self, key, value):
        if len(key) > _NAME_MAX:
            _fail(_KEY_TOO_LONG)
        if not key:
            _fail(_INVALID_NAME)
        if key in self._values and not isinstance(self._values[key], type(value)):
            _fail(_TYPE_MISMATCH)
        self._values[key] = value


def raw_temperature():
    """Temperature of the chip in degrees Fahrenheit."""
    return 118


class RMT:
    """A channel that sends pulses by itself: they end on time, whatever the firmware does. Loops
    and carriers are not there; a tick is rounded up to the grain of the clock, 1 ms."""

    PULSE_MAX = 32767
    _channels = []  # those in use

    def __init__(self, id, *, pin, clock_div=8, idle_level=False, tx_carrier=None):
        if not 1 <= clock_div <= 255:
            raise ValueError("clock_div must be between 1 and 255")
        if not 0 <= id <= 7 or id in self._channels or tx_carrier is not None:
            raise ValueError("no such channel, in use, or with a carrier")
        self._channels.append(id)
        self._id = id
        self._line = wiring.line(pin.id)
        self._clock_div = clock_div
        self._idle = 1 if idle_level else 0
        self._next = self._step  # one bound method, so that `cancel` finds it
        self._line.drive(self._idle)

    def write_pulses(self, duration, data=True):
        """Begins a sequence of pulses, `duration` in ticks each, the first at level `data`."""
        for ticks in duration:
            if not 1 <= ticks <= self.PULSE_MAX:
                raise ValueError("duration must be between 1 and 32767")
        self._pulses = list(duration)
        self._level = 1 if data else 0
        self._step()

    def _step(self):
        if not self._pulses:
            self._line.drive(self._idle)
            return
        self._line.drive(self._level)
        self._level = 1 - self._level
        ms = -(-self._pulses.pop(0) * self._clock_div // 80_000)
        clock.at(clock.now_ms() + ms, self._next)

    def deinit(self):
        """Gives the channel back; the pin keeps its level until somebody takes it."""
        clock.cancel(self._next)
        if self._id in self._channels:
            self._channels.remove(self._id)
