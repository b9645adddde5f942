"""Whatever is asked of a contactor, in whatever order: never both coils, and no coil for long.

Looks, resets, refused writes and a contact that follows or not come as they like.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.core import events
from firmware.relay.driver import PULSE_MS
from host_tests.fakes.relays import OPERATE_MS, Relay, World

LOOK_MS = 1000

STEPS = st.one_of(
    st.tuples(st.just("want"), st.sampled_from([0, 1])),
    st.tuples(st.just("passes"), st.integers(0, 7)),
    st.tuples(st.just("passes"), st.integers(0, 100)),
    st.tuples(st.just("ms"), st.sampled_from([0, 10, 50, 60, 70, 500])),
    st.tuples(st.just("finish"), st.none()),
    st.tuples(st.just("nobody finishes"), st.none()),
    st.tuples(st.just("step"), st.sampled_from([None, 0, 4000000])),
    st.tuples(st.just("start"), st.sampled_from(["power", "soft", "watchdog"])),
    st.tuples(st.just("welded"), st.booleans()),
    st.tuples(st.just("stuck"), st.booleans()),
    st.tuples(st.just("writable"), st.booleans()),
    st.tuples(st.just("may_open"), st.booleans()),
)


@settings(deadline=None, max_examples=100)
@given(
    kind=st.sampled_from(["latching", "single"]),
    aux=st.booleans(),
    closed=st.integers(0, 1),
    minimum_s=st.sampled_from([0, 5, 60]),
    steps=st.lists(STEPS, max_size=30),
)
def test_never_both_coils_and_none_for_longer_than_its_pulse(kind, aux, closed, minimum_s, steps):
    relay = Relay(kind, aux, closed)
    world = World(relay, operation_min_s=minimum_s)
    world.start()
    wanted = 1
    longest_ms = PULSE_MS
    followed = True
    for name, value in steps:
        moves = len(relay.moves)
        if name == "want":
            wanted = value
            world.contactor.want(value, "order")
        elif name == "passes":
            world.passes(value)
        elif name == "ms":
            world.now_ms += value
            relay.passes(value)
            if value > PULSE_MS:
                longest_ms = 2 * LOOK_MS  # the test itself was late
        elif name == "finish":
            # Sooner than anybody does it: the contact does not follow, and nobody can know.
            followed &= all(driven_ms >= OPERATE_MS for driven_ms in relay.drives_ms())
            world.contactor.finish()
        elif name == "nobody finishes":
            world.finishes_ms = None
            longest_ms = 2 * LOOK_MS
        elif name == "step":
            world.contactor.step(value)
        elif name == "start":
            world.start(value, wanted)
            assert kind == "single" or len(relay.moves) == moves, "a start moved the contact"
        else:
            setattr(relay if name in ("welded", "stuck") else world, name, value)
        assert not relay.both
        assert kind == "single" or relay.longest_ms <= longest_ms + 500
        followed &= not (relay.welded or relay.stuck)
    relay.welded = relay.stuck = False
    world.writable = world.may_open = True
    world.passes(130)
    assert relay.coils == [wanted if kind == "single" else 0, 0]
    if aux or followed:
        assert relay.closed == wanted
    if aux:
        # A weld stands until the contact has opened, and the other failure until it has closed.
        assert world.contactor.failed in (0, events.SWITCH_WELD if wanted else events.NOT_CLOSED)
