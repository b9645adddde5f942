"""The windows in which a supply may be cut: settings, documents, and what is refused."""

import copy
import datetime
from types import SimpleNamespace

import pytest

from firmware.core.config import ConfigError
from firmware.relay.calendar import Calendar, check

IST_S = 19800
BIHAR = {
    "v": 1,
    "id": "bihar-2026",
    "windows": [[63, 600, 780]],
    "happy": [[127, 1050, 660], [64, 0, 1440]],
    "holidays": ["2026-01-26", "2026-03-04"],
    "second_saturdays": 1,
}


def make(document=None, **settings):
    values = {"window_days": 63, "window_start_min": 600, "window_end_min": 780}
    calendar = Calendar(SimpleNamespace(utc_offset_s=IST_S, **{**values, **settings}))
    calendar.take(check(document) if document else None)
    return calendar


def at(text):
    """UTC seconds of a local time in India."""
    moment = datetime.datetime.fromisoformat(text + "+05:30")
    return int(moment.timestamp())


def local(utc_s):
    return datetime.datetime.fromtimestamp(utc_s + IST_S, datetime.UTC).strftime("%a %m-%d %H:%M")


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-01-05 10:00:00", True),  # a Monday
        ("2026-01-05 09:59:59", False),
        ("2026-01-05 12:59:59", True),
        ("2026-01-05 13:00:00", False),
        ("2026-01-10 11:00:00", True),
        ("2026-01-11 11:00:00", False),  # a Sunday
    ],
)
def test_the_settings_give_one_window(moment, is_open):
    assert make().is_open(at(moment)) is is_open


def test_an_unknown_time_is_never_open():
    assert make().is_open(None) is False
    assert make(BIHAR).is_open(None) is False


def test_each_weekday_has_its_bit():
    for day in range(7):
        calendar = make(window_days=1 << day)
        found = [i for i in range(7) if calendar.is_open(at(f"2026-06-{i + 1:02d} 11:00:00"))]
        assert found == [day]  # 2026-06-01 was a Monday


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-01-05 10:59:59", False),  # happy until 11:00
        ("2026-01-05 11:00:00", True),
        ("2026-01-26 11:30:00", False),  # Republic Day
        ("2026-01-10 11:30:00", False),  # the second Saturday
        ("2026-01-03 11:30:00", True),
        ("2026-01-17 11:30:00", True),
    ],
)
def test_happy_hours_holidays_and_second_saturdays_win(moment, is_open):
    assert make(BIHAR).is_open(at(moment)) is is_open


def test_happy_hours_over_midnight_go_into_the_next_day_only():
    document = {"v": 1, "id": "x", "windows": [[127, 0, 1440]], "happy": [[16, 1320, 120]]}
    calendar = make(document)  # Friday 22:00 to Saturday 02:00
    assert not calendar.is_open(at("2026-06-05 22:00:00"))
    assert not calendar.is_open(at("2026-06-06 01:59:59"))
    for moment in ("2026-06-05 01:00:00", "2026-06-06 02:00:00", "2026-06-06 23:00:00"):
        assert calendar.is_open(at(moment))


@pytest.mark.parametrize(
    ("document", "moment", "opens"),
    [
        (None, "2026-01-05 10:30:00", "Mon 01-05 10:30"),
        (None, "2026-01-05 13:00:00", "Tue 01-06 10:00"),
        (None, "2026-01-10 13:00:00", "Mon 01-12 10:00"),
        (BIHAR, "2026-01-05 08:00:00", "Mon 01-05 11:00"),
        (BIHAR, "2026-01-09 14:00:00", "Mon 01-12 11:00"),
        (BIHAR, "2026-01-24 13:00:00", "Tue 01-27 11:00"),
    ],
)
def test_the_next_opening(document, moment, opens):
    assert local(make(document).next_open_utc_s(at(moment))) == opens


def test_the_next_opening_is_a_whole_minute_and_never_before_now():
    now = at("2026-01-05 09:59:30")
    assert make().next_open_utc_s(now) == at("2026-01-05 10:00:00")
    assert make().next_open_utc_s(at("2026-01-05 10:00:17")) == at("2026-01-05 10:00:17")


def test_40_holidays_in_a_row_are_waited_for():
    sundays = [datetime.date(2026, 6, 7) + datetime.timedelta(days=7 * i) for i in range(40)]
    document = {
        "v": 1,
        "id": "sundays",
        "windows": [[64, 600, 780]],
        "holidays": [day.isoformat() for day in sundays],
    }
    opens = make(document).next_open_utc_s(at("2026-06-01 00:00:00"))
    assert opens == at("2027-03-14 10:00:00")


def test_the_state_is_taken_back():
    calendar = make()
    calendar.take(check(BIHAR), 1)
    restored = make()
    restored.restore(calendar.state())
    assert restored.id == "bihar-2026"
    for day in range(1, 32):
        moment = at(f"2026-01-{day:02d} 09:00:00")
        assert restored.next_open_utc_s(moment) == calendar.next_open_utc_s(moment)
    of_configuration = make()
    of_configuration.restore(make(BIHAR).state())
    assert of_configuration.id == ""
    calendar.take(None)
    assert calendar.id == ""
    assert calendar.state() == make().state()
    assert calendar.is_open(at("2026-01-05 10:30:00"))


def test_members_that_are_left_out_are_empty():
    full = {"happy": [], "holidays": [], "second_saturdays": 0}
    short = {"v": 1, "id": "x", "windows": [[1, 600, 780]]}
    assert make(short).state() == make({**short, **full}).state()


@pytest.mark.parametrize(
    ("change", "field", "why"),
    [
        ({"v": 2}, "v", "from 1 to 1"),
        ({"v": True}, "v", "from 1 to 1"),
        ({"extra": 1}, "extra", "is no member"),
        ({"id": ""}, "id", "1 to 24"),
        ({"id": "two words"}, "id", "without spaces"),
        ({"id": "x" * 25}, "id", "1 to 24"),
        ({"windows": []}, "windows", "a list of 1 to 8"),
        ({"windows": [[63, 600, 780]] * 9}, "windows", "a list of 1 to 8"),
        ({"windows": [[63, 600]]}, "windows[0]", "[days, start_min, end_min]"),
        ({"windows": [[63, 1, 2], [0, 600, 780]]}, "windows[1].days", "from 1 to 127"),
        ({"windows": [[128, 600, 780]]}, "windows[0].days", "from 1 to 127"),
        ({"windows": [[63, 600, 600]]}, "windows[0].end_min", "above start_min"),
        ({"windows": [[63, 700, 600]]}, "windows[0].end_min", "above start_min"),
        ({"windows": [[63, -1, 600]]}, "windows[0].start_min", "from 0 to 1439"),
        ({"windows": [[63, 600, 1441]]}, "windows[0].end_min", "from 1 to 1440"),
        ({"windows": [[63, 600, "780"]]}, "windows[0].end_min", "from 1 to 1440"),
        ({"happy": [[127, 600, 600]]}, "happy[0].end_min", "must not be start_min"),
        ({"happy": [[127, 0, 1440]]}, "happy", "leave a part of the windows"),
        ({"happy": [[1, 0, 1440]] * 9}, "happy", "a list of 0 to 8"),
        ({"holidays": ["2026-02-29"]}, "holidays[0]", "a date like"),
        ({"holidays": ["2026-1-26"]}, "holidays[0]", "a date like"),
        ({"holidays": ["2026-01-26", "2026-01-26"]}, "holidays[1]", "after the one before"),
        ({"holidays": [20605]}, "holidays[0]", "a date like"),
        ({"holidays": ["2023-12-31"]}, "holidays[0]", "of 2024 to 2099"),
        ({"holidays": "2026-01-26"}, "holidays", "a list of 0 to 40"),
        ({"second_saturdays": 2}, "second_saturdays", "from 0 to 1"),
        ({"windows": [[32, 600, 780]], "happy": [[32, 0, 1440]]}, "happy", "leave a part"),
    ],
)
def test_what_is_refused_names_the_member_and_what_is_allowed(change, field, why):
    document = {**copy.deepcopy(BIHAR), **change}
    with pytest.raises(ConfigError) as refusal:
        check(document)
    assert refusal.value.field == field
    assert why in refusal.value.why


@pytest.mark.parametrize("document", [None, 1, [], "x"])
def test_a_calendar_is_an_object(document):
    with pytest.raises(ConfigError) as refusal:
        check(document)
    assert refusal.value.field == "calendar"


def test_only_first_saturdays_and_such_are_still_open_sometime():
    document = dict(BIHAR, windows=[[32, 660, 780]])
    assert local(make(document).next_open_utc_s(at("2026-01-04 00:00:00"))) == "Sat 01-17 11:00"
