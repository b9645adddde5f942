"""The DS3231 real-time clock as seen from its bus (Maxim datasheet 19-5170, table 1).

19 registers: 00h-06h time and calendar in BCD, 07h-0Dh alarms (stored, never raised), 0Eh
control, 0Fh status with OSF, 10h aging, 11h-12h temperature. Address 68h. The chip runs exactly
with the simulated clock from what it was set to. With a battery it runs on without power;
without one it starts at 1 January 2000 with OSF, "oscillator has stopped", set.

Tests: host_tests/unit/test_rtc_chip.py.
"""

ADDRESS = 0x68
CONTROL = 0x0E
STATUS = 0x0F
OSF = 0x80
CONTROL_RESET = 0x1C
STATUS_RESET = 0x88  # OSF and EN32kHz

SET = (0, 0, 0, CONTROL_RESET, 0x08)  # `kept` of a chip that shows the right time

EPOCH_2000_S = 946_684_800
DAY_S = 86_400
CENTURY_DAYS = 36_525  # 2000-01-01 to 2100-01-01, which the chip counts as a leap year
_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class DS3231:
    """One chip; `now_ms()` is simulated milliseconds since the Unix epoch.

    `kept` is what `on_keep(values)` was last given and survived; None is a start without power.
    """

    def __init__(self, now_ms, kept=None, on_keep=None):
        self._now_ms = now_ms
        self._on_keep = on_keep
        self.pointer = 0
        self._registers = bytearray(19)
        if kept:
            # What `now` and the chip differ by, how weekdays and hours are counted, flags.
            self._ahead_ms, self._weekday_ahead, self._hours_12, control, status = kept
        else:
            control, status = CONTROL_RESET, STATUS_RESET
            self._ahead_ms = EPOCH_2000_S * 1000 - now_ms()
            self._weekday_ahead = 0
            self._hours_12 = 0
        self._registers[CONTROL] = control
        self._registers[STATUS] = status
        self._registers[0x11] = 25  # degrees Celsius

    def write(self, data):
        """A write transaction: pointer, then registers; the pointer runs on and wraps."""
        if not data:
            return
        self.pointer = data[0] % 19
        if len(data) == 1:
            return
        self._update()
        set_time = False
        for value in data[1:]:
            if self.pointer == STATUS:
                # OSF can only be cleared; BSY (bit 2) is read-only; A1F, A2F never rise here.
                value = self._registers[STATUS] & value & OSF | value & 0x08
            if self.pointer not in (0x11, 0x12):
                self._registers[self.pointer] = value
            set_time = set_time or self.pointer <= 6
            self.pointer = (self.pointer + 1) % 19
        if set_time:
            self._set()
        if self._on_keep:
            self._on_keep(self.kept())

    def step(self, seconds):
        """The time jumps: somebody set it, or it has gone mad."""
        self._ahead_ms += seconds * 1000
        if self._on_keep:
            self._on_keep(self.kept())

    def kept(self):
        """What a battery keeps alive: a list of integers, for `kept` of the next start."""
        control, status = self._registers[CONTROL], self._registers[STATUS]
        return [self._ahead_ms, self._weekday_ahead, self._hours_12, control, status]

    def register_into(self, pointer, buf):
        """Sets the pointer and reads."""
        self.pointer = pointer % 19
        self.read_into(buf)

    def read_into(self, buf):
        """A read transaction; the time is the one at its start (section "I2C Interface")."""
        self._update()
        for i in range(len(buf)):
            buf[i] = self._registers[self.pointer]
            self.pointer = (self.pointer + 1) % 19

    def _update(self):
        """Time registers from the clock."""
        seconds = (self._now_ms() + self._ahead_ms) // 1000 - EPOCH_2000_S
        days, second = divmod(seconds, DAY_S)
        registers = self._registers
        registers[0] = _bcd(second % 60)
        registers[1] = _bcd(second // 60 % 60)
        hour = second // 3600
        if self._hours_12:
            registers[2] = 0x40 | (0x20 if hour >= 12 else 0) | _bcd((hour + 11) % 12 + 1)
        else:
            registers[2] = _bcd(hour)
        registers[3] = (days + self._weekday_ahead) % 7 + 1
        century, days = divmod(days, CENTURY_DAYS)
        year, month, day = _date(days)
        registers[4] = _bcd(day)
        registers[5] = _bcd(month) | (0x80 if century & 1 else 0)
        registers[6] = _bcd(year)

    def _set(self):
        """Clock from the time registers; writing the seconds restarts the second."""
        registers = self._registers
        hour_register = registers[2]
        self._hours_12 = hour_register & 0x40
        if self._hours_12:
            hour = _number(hour_register & 0x1F) % 12 + (12 if hour_register & 0x20 else 0)
        else:
            hour = _number(hour_register & 0x3F)
        days = _days(
            _number(registers[6]), _number(registers[5] & 0x1F), _number(registers[4] & 0x3F)
        )
        if registers[5] & 0x80:
            days += CENTURY_DAYS
        second = (hour * 60 + _number(registers[1] & 0x7F)) * 60 + _number(registers[0] & 0x7F)
        self._ahead_ms = (EPOCH_2000_S + days * DAY_S + second) * 1000 - self._now_ms()
        self._weekday_ahead = ((registers[3] & 7) - 1 - days) % 7


def _bcd(number):
    return number // 10 << 4 | number % 10


def _number(bcd):
    return (bcd >> 4) * 10 + (bcd & 15)


def _month_days(year, month):
    """Every fourth year of the century is a leap year, as the chip counts."""
    return 29 if month == 2 and year % 4 == 0 else _MONTH_DAYS[month - 1]


def _days(year, month, day):
    """Days since 1 January 2000; year 0-99, impossible months count as 1 or 12."""
    days = year * 365 + (year + 3) // 4 + day - 1
    for before in range(1, max(1, min(12, month))):
        days += _month_days(year, before)
    return days


def _date(days):
    """(year 0-99, month, day) of a day since 1 January 2000."""
    year = days * 4 // 1461
    days -= year * 365 + (year + 3) // 4
    month = 1
    while days >= _month_days(year, month):
        days -= _month_days(year, month)
        month += 1
    return year, month, days + 1
