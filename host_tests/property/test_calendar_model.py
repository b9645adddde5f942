"""Any calendar against one written with `datetime`, minute by minute."""

import datetime
from types import SimpleNamespace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from firmware.core.config import ConfigError
from firmware.relay.calendar import Calendar, check
from host_tests.fakes.relay import allowed

START = datetime.date(2026, 6, 8)
DAYS = 8
IST_S = 19800

minutes = st.integers(0, 1439)
days = st.integers(1, 127)
windows = st.tuples(days, minutes, st.integers(1, 1440)).filter(lambda span: span[1] < span[2])
happy = st.tuples(days, minutes, st.integers(1, 1440)).filter(lambda span: span[1] != span[2])
dates = st.integers(0, DAYS).map(lambda ahead: START + datetime.timedelta(days=ahead))


@settings(deadline=None, max_examples=100)
@given(
    st.lists(windows, min_size=1, max_size=8),
    st.lists(happy, max_size=8),
    st.sets(dates, max_size=5),
    st.integers(0, 1),
    st.integers(0, 3 * 86400),
)
def test_is_open_and_the_next_opening_are_those_of_the_model(spans, happy, holidays, second, s):
    document = {
        "v": 1,
        "id": "any",
        "windows": [list(span) for span in spans],
        "happy": [list(span) for span in happy],
        "holidays": sorted(day.isoformat() for day in holidays),
        "second_saturdays": second,
    }
    try:
        check(document)
    except ConfigError:
        assume(False)
    calendar = Calendar(SimpleNamespace(utc_offset_s=IST_S))
    calendar.take(document)
    now = datetime.datetime.combine(START, datetime.time()) + datetime.timedelta(seconds=s)

    def utc_s(moment):
        return int(moment.replace(tzinfo=datetime.UTC).timestamp()) - IST_S

    assert calendar.is_open(utc_s(now)) is allowed(document, now)
    opens = calendar.next_open_utc_s(utc_s(now))
    if allowed(document, now):
        assert opens == utc_s(now)
        return
    moment = now.replace(second=0) + datetime.timedelta(minutes=1)
    while not allowed(document, moment) and (moment - now).days < DAYS:
        moment += datetime.timedelta(minutes=1)
    if allowed(document, moment):
        assert opens == utc_s(moment)
    else:
        assert opens > utc_s(moment)
