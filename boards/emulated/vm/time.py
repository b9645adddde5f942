"""`time` of the emulated ESP32: simulated time, the chip's epoch (2000-01-01) and tick period.

`time()` reads the chip's RTC, which starts at 2000-01-01 with the power and is set by
`machine.RTC`. Reading the ticks does not allocate.
"""

import utime
from emu import clock

_EPOCH_2000_S = 946_684_800
_HALF = 0x20000000
_MASK = 0x3FFFFFFF

if utime.ticks_add(_MASK, 1) == 0:  # 32-bit interpreter: its period is the chip's
    ticks_add = utime.ticks_add
    ticks_diff = utime.ticks_diff
else:

    def ticks_add(ticks, delta):
        return (ticks + delta) & _MASK

    def ticks_diff(end, start):
        return ((end - start + _HALF) & _MASK) - _HALF


def ticks_ms():
    clock.look()
    return clock.ticks


def ticks_us():
    clock.look()
    return clock.ticks_us


ticks_cpu = ticks_us


def time():
    clock.look()
    return (clock.now_ms() + clock.rtc_offset_ms) // 1000 - _EPOCH_2000_S


def time_ns():
    clock.look()
    return (clock.now_ms() + clock.rtc_offset_ms - _EPOCH_2000_S * 1000) * 1_000_000


def sleep(seconds):
    sleep_ms(int(seconds * 1000))


def sleep_ms(ms):
    if ms > 0:
        clock.idle_until(clock.now_ms() + ms)
    else:
        clock.look()


def sleep_us(us):
    # Simulated time has a grain of 1 ms: shorter waits are looks at the clock.
    if us >= 1000:
        clock.idle_until(clock.now_ms() + us // 1000)
    else:
        clock.look()


def gmtime(seconds=None):
    """(year, month, day, hour, minute, second, weekday, yearday) of seconds since 2000."""
    if seconds is None:
        seconds = time()
    days, rest = divmod(int(seconds), 86400)
    weekday = (days + 5) % 7  # 2000-01-01 was a Saturday
    # Civil date by the 400-year cycle with years that begin in March (day 0 = 2000-03-01).
    cycle, day = divmod(days - 60, 146097)
    year = (day - day // 1460 + day // 36524 - day // 146096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    mday = day - (153 * month + 2) // 5 + 1
    month += 3
    year += 2000 + 400 * cycle
    if month > 12:
        month -= 12
        year += 1
    yearday = days - _days_before(year) + 1
    return (year, month, mday, rest // 3600, rest // 60 % 60, rest % 60, weekday, yearday)


localtime = gmtime  # the chip knows no time zone


def mktime(parts):
    """Seconds since 2000 of the first six members of `parts`."""
    year, month, day, hour, minute, second = parts[:6]
    year += (month - 1) // 12
    month = (month - 1) % 12 + 1
    shifted = (month - 3) % 12
    days = _march_days(year, month)
    return (days + (153 * shifted + 2) // 5 + day - 1) * 86400 + hour * 3600 + minute * 60 + second


def _march_days(year, month):
    """Days from 2000-01-01 to the 1st of March that begins the year of `month`."""
    y = year - 1 if month < 3 else year
    return 365 * y + y // 4 - y // 100 + y // 400 - 730425


def _days_before(year):
    """Days from 2000-01-01 to the 1st of January of `year`."""
    y = year - 1
    return 365 * y + y // 4 - y // 100 + y // 400 - 730119
