from hypothesis import given
from hypothesis import strategies as st

from firmware.core.wallclock import WallClock


@given(
    st.integers(0, 2**30 - 1),
    st.lists(st.integers(0, 2**29), max_size=20),
    st.integers(1704067200000, 4102444800000),
)
def test_uptime_and_time_follow_the_ticks_over_their_wraps(start, spans_ms, utc_ms):
    ticks = start
    clock = WallClock(lambda: ticks)
    assert clock.utc_s() is None
    passed_ms = 0
    for span_ms in spans_ms:
        ticks = (ticks + span_ms) % 2**30
        passed_ms += span_ms
        assert clock.up_ms() == passed_ms
    assert clock.set_utc_ms(utc_ms) is None
    ticks = (ticks + 12345) % 2**30
    assert clock.utc_s() == (utc_ms + 12345) // 1000
    assert clock.up_s() == (passed_ms + 12345) // 1000
    assert clock.set_utc_ms(utc_ms) == -12345


def test_the_time_that_is_set_is_that_of_this_instant():
    ticks = 0
    clock = WallClock(lambda: ticks)
    ticks = 4321  # nobody has looked since
    clock.set_utc_ms(1704067200000)
    assert clock.utc_s() == 1704067200
