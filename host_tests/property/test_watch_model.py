"""A watched condition against a tiny model: what the definition says of the samples so far."""

from hypothesis import given
from hypothesis import strategies as st

from firmware.core.events import OCCURRENCES, RESTORATIONS
from firmware.metering.quality import Watches

FIRST = 0  # number of a condition, any of those that samples judge
OCCURRED, RESTORED = OCCURRENCES[FIRST], RESTORATIONS[FIRST]
LEVEL, HYSTERESIS = 100, 20

SAMPLES = st.lists(
    st.tuples(
        # At and beside both limits is where it can go wrong.
        st.sampled_from((0, 79, 80, 81, 99, 100, 101, 102, 150)),
        st.sampled_from((0, 1000, 1000, 1000, 1500, 2500)),  # 0: a gap before it
        st.sampled_from((False, False, False, True)),  # no reading before it
    ),
    max_size=80,
)
PERSIST_MS = st.sampled_from((0, 1, 1000, 2000, 2999, 3000, 10000))


def beyond(value):
    return value > LEVEL


def back(value):
    return value <= LEVEL - HYSTERESIS


def model(samples, persist_ms):
    """(place, code) of each event: all samples of an unbroken stretch of `persist_ms`, none of them
    from before the last event, are beyond the level, or back behind the hysteresis."""
    found = []
    first = 0
    for last in range(len(samples)):
        holds, code = (back, RESTORED) if len(found) % 2 else (beyond, OCCURRED)
        for start in range(first, last + 1):
            stretch = samples[start : last + 1]
            spans_ms = [dt_ms for _value, dt_ms, _failed in stretch[1:]]
            broken = any(not dt_ms or failed for _value, dt_ms, failed in stretch[1:])
            if (
                all(holds(value) for value, _dt_ms, _failed in stretch)
                and not broken
                and sum(spans_ms) >= persist_ms
            ):
                found.append((last, code))
                first = last + 1
                break
    return found


class Watch:
    """One condition of the Watches, fed with samples, all values moved by `offset`."""

    def __init__(self, persist_ms, offset=0):
        self.all = Watches()
        self.persist_ms = persist_ms
        self.offset = offset

    def feed(self, sample):
        value, dt_ms, failed = sample
        if failed:
            self.all.forget_samples()
        value, level = value + self.offset, LEVEL + self.offset
        self.all.add(FIRST, value, level, HYSTERESIS, self.persist_ms, dt_ms)


@given(SAMPLES, PERSIST_MS, st.sampled_from((0, -1000)))
def test_an_event_comes_exactly_when_the_condition_has_lasted(samples, persist_ms, offset):
    """Each event is told as soon as it is due: they alternate, at the places of the model."""
    watch = Watch(persist_ms, offset)
    found = []
    for place, sample in enumerate(samples):
        watch.feed(sample)
        code = watch.all.news()
        if code:
            found.append((place, code))
            watch.all.take(code)
    assert found == model(samples, persist_ms)


@given(SAMPLES, PERSIST_MS, st.lists(st.booleans(), min_size=80, max_size=80))
def test_no_occurrence_is_lost_when_events_must_wait(samples, persist_ms, may_tell):
    """However late they are told: they alternate, and in the end the state is told as it is."""
    watch = Watch(persist_ms)
    found = []
    for sample, may in zip(samples, may_tell, strict=False):
        watch.feed(sample)
        code = watch.all.news()
        if code and may:
            found.append(code)
            watch.all.take(code)
    while watch.all.news():
        found.append(watch.all.news())
        watch.all.take(watch.all.news())
    assert found == [OCCURRED, RESTORED] * (len(found) // 2) + [OCCURRED] * (len(found) % 2)
    events = [code for _place, code in model(samples, persist_ms)]
    assert bool(found) == bool(events)
    assert found[-1:] == events[-1:]
    assert bool(watch.all.standing()) == (found[-1:] == [OCCURRED])


@given(SAMPLES, SAMPLES, PERSIST_MS, st.booleans())
def test_what_was_told_stands_over_a_restart(before, after, persist_ms, caught_up):
    """A new watch takes the events of the journal: none is told twice, each has its end."""
    watch = Watch(persist_ms)
    codes = []
    for sample in before:
        watch.feed(sample)
        code = watch.all.news()
        if code and (caught_up or not codes):
            codes.append(code)
            watch.all.take(code)
    again = Watch(persist_ms)
    for code in codes:
        again.all.take(code)
    assert (again.all.standing(), again.all.news()) == (watch.all.standing(), 0)
    for sample in after:
        again.feed(sample)
        if again.all.news():
            codes.append(again.all.news())
            again.all.take(again.all.news())
    assert codes == [OCCURRED, RESTORED] * (len(codes) // 2) + [OCCURRED] * (len(codes) % 2)
