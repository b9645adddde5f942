"""Driver of the DS3231 real-time clock (Maxim datasheet 19-5170), as the board's `rtc`.

Flashed beside `board.py`. Time is UTC seconds since 1970; the chip holds UTC, 24-hour mode,
years 2000-2099.
"""

import time

ADDRESS = 0x68
_STATUS = 0x0F
_OSF = 0x80  # "oscillator stop flag": the time was lost

# MicroPython's epoch is 2000 on the ESP32 and 1970 elsewhere.
_EPOCH_S = 946_684_800 if time.gmtime(0)[0] == 2000 else 0


class DS3231:
    """The chip on `i2c`; OSError from the bus passes through."""

    def __init__(self, i2c):
        self._i2c = i2c
        self._time = bytearray(7)
        self._status = bytearray(1)

    def utc_s(self):
        """Seconds since 1970, None if the clock has stopped since it was set."""
        self._i2c.readfrom_mem_into(ADDRESS, _STATUS, self._status)
        if self._status[0] & _OSF:
            return None
        self._i2c.readfrom_mem_into(ADDRESS, 0, self._time)
        second, minute, hour, _, day, month, year = [(b >> 4) * 10 + (b & 15) for b in self._time]
        # Bit 7 of the month is the century, which this driver never sets.
        return time.mktime((2000 + year, month, day, hour, minute, second, 0, 0)) + _EPOCH_S

    def set_utc_s(self, utc_s):
        """Sets the clock and declares its time valid."""
        year, month, day, hour, minute, second, weekday = time.gmtime(utc_s - _EPOCH_S)[:7]
        values = (second, minute, hour, weekday + 1, day, month, year - 2000)
        self._i2c.writeto_mem(ADDRESS, 0, bytes([v // 10 << 4 | v % 10 for v in values]))
        self._i2c.readfrom_mem_into(ADDRESS, _STATUS, self._status)
        self._status[0] &= ~_OSF & 0xFF
        self._i2c.writeto_mem(ADDRESS, _STATUS, self._status)
