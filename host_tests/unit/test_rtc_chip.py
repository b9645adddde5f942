"""The DS3231 model against the calendar, and the board's driver on top of it."""

import calendar
import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boards.emulated.vm.emu.ds3231 import DS3231, OSF, STATUS
from boards.esp32_devkit import ds3231 as driver
from host_tests.fakes.chips import Clock

UTC = datetime.UTC
LAST_S = int(datetime.datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
FIRST_S = 946_684_800


@pytest.fixture(scope="module", autouse=True)
def calendar_of_micropython():
    """MicroPython's mktime knows no time zone, CPython's does: use calendar.timegm."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver.time, "mktime", calendar.timegm)
        yield


class Bus:
    """machine.I2C with one chip, as far as the driver uses it."""

    def __init__(self, chip):
        self._chip = chip

    def readfrom_mem_into(self, address, register, buf):
        assert address == 0x68
        self._chip.register_into(register, buf)

    def writeto_mem(self, address, register, data):
        assert address == 0x68
        self._chip.write(bytes([register]) + bytes(data))


def read(chip, register, count=1):
    buf = bytearray(count)
    chip.register_into(register, buf)
    return bytes(buf)


def bcd(*numbers):
    return bytes(int(str(number), 16) for number in numbers)


def test_power_up_without_a_battery():
    chip = DS3231(Clock().now_ms)
    assert read(chip, 0, 7) == bcd(0, 0, 0, 1, 1, 1, 0)
    assert read(chip, 0x0E, 2) == bytes([0x1C, 0x88])


@given(
    utc_s=st.integers(FIRST_S, LAST_S),
    passed_ms=st.integers(0, 400 * 86_400_000),
)
def test_it_keeps_the_calendar(utc_s, passed_ms):
    clock = Clock()
    chip = DS3231(clock.now_ms)
    at = datetime.datetime.fromtimestamp(utc_s, UTC)
    weekday = at.isoweekday()
    date = (at.second, at.minute, at.hour, weekday, at.day, at.month, at.year - 2000)
    chip.write(bytes([0]) + bcd(*date))
    assert read(chip, 0, 7) == bcd(*date)
    clock.pass_ms(passed_ms)
    at = datetime.datetime.fromtimestamp(utc_s + passed_ms // 1000, UTC)
    if at.year < 2100:
        expected = bytearray(bcd(at.second, at.minute, at.hour, at.isoweekday(), at.day, at.month))
        assert read(chip, 0, 7) == bytes(expected) + bcd(at.year - 2000)


@given(hour=st.integers(0, 23))
def test_twelve_hour_mode(hour):
    clock = Clock()
    chip = DS3231(clock.now_ms)
    register = 0x40 | (0x20 if hour >= 12 else 0) | bcd((hour + 11) % 12 + 1)[0]
    chip.write(bytes([2, register]))
    assert read(chip, 2)[0] == register
    clock.pass_ms(3_600_000)
    following = (hour + 1) % 24
    expected = 0x40 | (0x20 if following >= 12 else 0) | bcd((following + 11) % 12 + 1)[0]
    assert read(chip, 2)[0] == expected


def test_century_bit_at_the_end_of_2099():
    clock = Clock()
    chip = DS3231(clock.now_ms)
    chip.write(bytes([0]) + bcd(59, 59, 23, 4, 31, 12, 99))
    clock.pass_ms(1000)
    assert read(chip, 4, 3) == bytes([0x01, 0x81, 0x00])


def test_the_stop_flag_can_be_cleared_and_not_set():
    chip = DS3231(Clock().now_ms)
    chip.write(bytes([STATUS, 0xFF]))
    assert read(chip, STATUS)[0] & OSF
    chip.write(bytes([STATUS, 0x08]))
    chip.write(bytes([STATUS, 0xFF]))
    assert read(chip, STATUS)[0] == 0x08


def test_a_battery_keeps_the_time_over_a_power_cut():
    clock = Clock()
    kept = []
    chip = DS3231(clock.now_ms, on_keep=kept.append)
    clock_of_board = driver.DS3231(Bus(chip))
    assert clock_of_board.utc_s() is None
    clock_of_board.set_utc_s(1_790_000_000)
    clock.pass_ms(3 * 86_400_000)
    with_battery = driver.DS3231(Bus(DS3231(clock.now_ms, kept[-1])))
    assert with_battery.utc_s() == 1_790_000_000 + 3 * 86_400
    without = driver.DS3231(Bus(DS3231(clock.now_ms)))
    assert without.utc_s() is None


@given(utc_s=st.integers(FIRST_S, LAST_S))
def test_the_driver_reads_what_it_set(utc_s):
    chip = DS3231(Clock().now_ms)
    clock_of_board = driver.DS3231(Bus(chip))
    clock_of_board.set_utc_s(utc_s)
    assert clock_of_board.utc_s() == utc_s
