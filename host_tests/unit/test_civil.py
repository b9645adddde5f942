import datetime

from hypothesis import given
from hypothesis import strategies as st

from firmware.core import civil

IST_S = 19800
UTC = datetime.UTC


@given(st.dates(datetime.date(1970, 1, 1), datetime.date(2199, 12, 31)))
def test_days_and_dates_agree_with_datetime(date):
    days = (date - datetime.date(1970, 1, 1)).days
    assert civil.days_from_civil(date.year, date.month, date.day) == days
    assert civil.civil_from_days(days) == (date.year, date.month, date.day)


@given(st.integers(0, 4102444800))
def test_month_start_and_text_agree_with_datetime(utc_s):
    zone = datetime.timezone(datetime.timedelta(seconds=IST_S))
    local = datetime.datetime.fromtimestamp(utc_s, zone)
    assert civil.text(utc_s, IST_S) == local.strftime("%Y-%m-%d %H:%M:%S")
    start = local.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    assert civil.month_start_utc_s(utc_s, IST_S) == int(start.timestamp())
