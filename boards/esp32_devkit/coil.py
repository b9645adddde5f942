"""A coil of a latching relay: driven by the ESP32's RMT, which ends each pulse by itself.

RMT sends one pulse of PULSE_MS and falls back to its idle level 0, whatever the program does
meanwhile. At 80 MHz / 255 a tick is 3.19 us, and the longest pulse of 32,767 ticks 104 ms.
Source: MicroPython 1.25, `esp32.RMT`. Tests: host_tests/vm/test_shims.py,
host_tests/system/test_relays.py.
"""

import esp32
import machine

from firmware.relay.driver import PULSE_MS

_CLOCK_HZ = 80_000_000
_CLOCK_DIV = 255
_TICKS = PULSE_MS * (_CLOCK_HZ // 1000) // _CLOCK_DIV


class Coil:
    """The coil at a pin; `channel` is one of the RMT's, each coil has its own."""

    def __init__(self, number, channel):
        self._number = number
        self._channel = channel
        self._rmt = None
        self.value(0)

    def value(self, level):
        """1 begins a pulse, which ends by itself; 0 ends one that has begun."""
        if self._rmt is not None:
            self._rmt.deinit()
            self._rmt = None
        # Takes the pin from the RMT.
        pin = machine.Pin(self._number, machine.Pin.OUT, value=0)
        if level:
            self._rmt = esp32.RMT(self._channel, pin=pin, clock_div=_CLOCK_DIV)
            self._rmt.write_pulses((_TICKS,))
