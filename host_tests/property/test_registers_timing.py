"""The registers of a whole meter under any timing: late samples, gaps, clock steps, power cuts."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.metering.scale import bus_gain, shunt_gain
from host_tests.bench.exact import Reference, counted_half_mj
from host_tests.fakes.bench import Bench

readings = st.tuples(
    st.just("sample"), st.integers(0, 6250), st.integers(-26880, 26880), st.integers(1, 3000)
)
happenings = st.lists(
    st.one_of(
        readings,
        readings,
        readings,
        st.tuples(st.just("clock"), st.integers(-80000, 80000)),
        st.tuples(st.just("cut"), st.integers(0, 90000)),
    ),
    min_size=5,
    max_size=60,
)


@settings(max_examples=40, deadline=None)
@given(happenings, st.integers(0, 1))
def test_registers_are_the_integral_and_what_is_published_never_goes_back(story, exports):
    gains = bus_gain(10000), 0, shunt_gain(12500, 100000), 0
    with tempfile.TemporaryDirectory() as folder:
        # The ticks of the bench wrap after 5 s.
        bench = Bench(Path(folder) / "data", export_counts=exports)
        reference = Reference(*gains, 25000, exports)
        began = 0, 0
        published = [0, 0]
        first = True
        for what, *values in story:
            if what == "sample":
                bus_raw, shunt_raw, dt_ms = values
                bench.pass_ms(dt_ms)
                bench.meter.sample(bus_raw, shunt_raw, 0 if first else dt_ms)
                # A gap of more than 2 s is not bridged.
                reference.add(bus_raw, shunt_raw, 0 if first or dt_ms > 2000 else dt_ms)
                first = False
                bench.meter.tick(dt_ms)
            elif what == "clock":
                bench.utc_s += values[0]
                bench.meter.set_time(bench.utc_s * 1000)
            else:
                bench.restart(values[0])
                counts = bench.meter.energy.imported, bench.meter.energy.exported
                began = counted_half_mj(counts[0]), counted_half_mj(counts[1])
                reference = Reference(*gains, 25000, exports)
                first = True
            counts = bench.meter.energy.imported, bench.meter.energy.exported
            assert counted_half_mj(counts[0]) - began[0] == 2000 * reference.import_j
            assert counted_half_mj(counts[1]) - began[1] == 2000 * reference.export_j
            live = bench.meter.live()
            now = [live["import_wh"], live["export_wh"]]
            assert now[0] >= published[0] and now[1] >= published[1]
            assert live["uncommitted_wh"] == counts[0].wh - now[0] >= 0
            assert live["uncommitted_export_wh"] == counts[1].wh - now[1] >= 0
            published = now
        bench.meter.journal.close()
