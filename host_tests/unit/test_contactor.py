"""The contactor: the contact follows, is told, is tried again, and moves no more than it may."""

from itertools import pairwise

import pytest

from firmware.core.records import REASONS
from host_tests.fakes.relays import Relay, World

CREDIT, RECHARGE, ORDER = (REASONS.index(word) for word in ("credit", "recharge", "order"))
KINDS = [("latching", True), ("latching", False), ("single", True), ("single", False)]


def started(kind="latching", aux=True, **config):
    """A world half a minute behind its first start, contact closed; nothing is told of that."""
    world = World(Relay(kind, aux), **config)
    world.start()
    world.passes(30)
    assert world.relay.closed
    world.told.clear()
    world.relay.moves.clear()
    world.contactor.operations = 0
    return world


def test_a_latching_contact_that_is_right_is_left_alone():
    world = World(Relay())
    world.start()
    world.passes(100)
    assert (world.relay.moves, world.relay.longest_ms, world.told) == ([], 0, [])


@pytest.mark.parametrize(("kind", "aux"), KINDS)
def test_the_contact_follows_and_is_told_with_the_reason(kind, aux):
    world = started(kind, aux)
    world.contactor.want(0, "credit")
    world.passes(10)
    assert (world.relay.closed, world.contactor.seen) == (0, 0)
    world.contactor.want(1, "recharge")
    world.passes(1)
    assert (world.relay.closed, world.contactor.seen) == (1, 1)
    assert world.told == [(301, CREDIT), (302, RECHARGE)]
    assert world.contactor.operations == 2
    assert world.relay.moves == [0, 1]


def test_it_moves_at_once_and_not_with_the_next_look():
    world = started()
    world.contactor.want(0, "order")
    assert world.relay.coils == [0, 1]


@pytest.mark.parametrize(("kind", "aux"), KINDS)
def test_the_minimum_time_lies_between_two_operations(kind, aux):
    world = started(kind, aux, operation_min_s=20)
    world.contactor.want(0, "limiter")
    world.passes(1)
    assert world.contactor.interval_s() == 19
    world.contactor.want(1, "ended")
    world.passes(18)
    assert not world.relay.closed
    world.passes(2)
    assert world.relay.closed
    assert [code for code, _reason in world.told] == [301, 302]


def test_the_closing_behind_a_test_does_not_wait_for_the_minimum_time():
    world = started(operation_min_s=600)
    world.passes(600)
    world.contactor.want(0, "test")
    world.passes(5)
    assert not world.relay.closed
    world.contactor.want(1, "ended")
    world.passes(1)
    assert world.relay.closed
    world.contactor.want(0, "limiter")
    world.passes(590)
    assert world.relay.closed
    world.passes(20)
    assert not world.relay.closed


def test_a_change_of_mind_in_the_minimum_time_moves_nothing():
    world = started(operation_min_s=20)
    world.contactor.want(0, "limiter")
    world.passes(1)
    world.contactor.want(1, "ended")
    world.passes(5)
    world.contactor.want(0, "credit")
    world.passes(60)
    assert world.told == [(301, REASONS.index("limiter"))]


def test_an_opening_that_is_undone_in_its_pulse_is_told_with_its_own_reason():
    world = started()
    world.contactor.want(0, "credit")
    world.contactor.want(1, "recharge")
    world.passes(10)
    assert world.told == [(301, CREDIT), (302, RECHARGE)]


def test_a_start_counts_for_an_opening_but_not_for_a_closing():
    world = World(Relay(closed=0))
    world.start(wanted=0, reason="credit")
    world.passes(2)
    assert world.contactor.interval_s() == 3
    world.contactor.want(1, "recharge")
    world.passes(1)
    assert world.relay.closed

    world = World(Relay())
    world.start()
    world.passes(2)
    world.contactor.want(0, "order")
    world.passes(2)
    assert world.relay.closed
    world.passes(2)
    assert not world.relay.closed


@pytest.mark.parametrize("aux", [True, False])
def test_a_latching_relay_is_not_pulsed_at_boot_but_later_where_it_must(aux):
    world = started("latching", aux)
    world.contactor.want(0, "credit")
    world.start("power", 0, "credit")  # before the pulse has done anything
    assert world.relay.closed
    world.now_ms += 1000
    world.contactor.step(world.current_ua)
    assert world.relay.coils == [0, 0]
    world.passes(10)
    assert world.relay.moves == [0]
    assert world.told == [(301, CREDIT)]


def test_without_feedback_what_was_confirmed_before_the_boot_is_left_alone():
    world = started("latching", False)
    world.contactor.want(0, "credit")
    world.passes(10)
    moves, driven_ms = list(world.relay.moves), world.relay.longest_ms
    world.relay.longest_ms = 0
    world.start("power", 0)
    world.passes(100)
    assert (world.relay.moves, world.relay.longest_ms) == (moves, 0) and driven_ms


def test_an_event_that_the_power_cut_took_is_told_behind_it():
    world = started()
    world.writable = False
    world.contactor.want(0, "credit")
    world.passes(1)
    world.writable = True
    world.start("power", 0)
    world.passes(3)
    assert world.told == [(301, CREDIT)]
    assert world.contactor.operations == 1


@pytest.mark.parametrize(
    ("cause", "aux", "moves"),
    [
        ("power", True, [0, 1]),
        ("power", False, [0, 1]),
        ("watchdog", True, [0, 1]),
        ("soft", True, []),
        ("soft", False, []),
    ],
)
def test_a_single_coil_is_set_before_anything_else(cause, aux, moves):
    world = started("single", aux)
    world.start(cause)
    assert world.relay.coils[0] == 1
    world.passes(3)
    assert world.relay.moves == moves
    assert world.told == ([(302, REASONS.index("start"))] if moves else [])


def test_a_single_coil_that_shall_be_open_is_left_so():
    world = started("single")
    world.contactor.want(0, "order")
    world.passes(10)
    world.start("power", 0)
    world.passes(100)
    assert world.relay.moves == [0]


@pytest.mark.parametrize(("kind", "aux"), KINDS)
@pytest.mark.parametrize("cause", ["power", "brownout"])
def test_behind_a_power_failure_a_closing_is_spread(kind, aux, cause):
    world = World(Relay(kind, aux, closed=0), reclose_spread_s=600)
    world.start(cause)
    assert world.drawn_s == [600]
    world.passes(299)
    assert not world.relay.closed
    assert world.contactor.held_up_ms == 300000
    world.passes(2)
    assert world.relay.closed


@pytest.mark.parametrize("cause", ["watchdog", "soft", "hard"])
def test_behind_another_reset_it_is_not(cause):
    world = World(Relay("single", closed=0), reclose_spread_s=600)
    world.start(cause)
    world.passes(2)
    assert world.relay.closed


def test_a_recharge_does_not_wait_for_the_street():
    world = World(Relay("single", closed=0), reclose_spread_s=600)
    world.start("power", 0, "credit")
    world.passes(10)
    world.contactor.want(1, "recharge")
    world.passes(1)
    assert world.relay.closed


@pytest.mark.parametrize("aux", [True, False])
def test_a_welded_contact_is_told_once_tried_again_and_told_when_it_works(aux):
    world = started("latching", aux)
    world.relay.welded = True
    world.contactor.want(0, "credit")
    pulses = []
    for second in range(200):
        before = world.relay.coils[1] or world.contactor._driver.busy
        world.passes(1)
        if not before and world.contactor._driver.busy:
            pulses.append(second)
    assert world.told == [(253, 0)]
    assert (world.contactor.failed, world.contactor.seen) == (253, 1)
    assert [later - earlier for earlier, later in pairwise(pulses)] == [30, 60, 60]
    assert 4 <= pulses[0] <= 5
    world.relay.welded = False
    world.passes(70)
    assert sorted(world.told[1:]) == [(301, CREDIT), (1064, 253)]
    assert (world.contactor.failed, world.contactor.seen) == (0, 0)


@pytest.mark.parametrize(("kind", "aux"), KINDS)
def test_what_was_left_closed_is_opened_when_it_may_be(kind, aux):
    world = started(kind, aux)
    world.may_open = False
    world.contactor.want(0, "credit")
    world.start("soft", 0, "credit")
    world.passes(200)
    assert (world.relay.closed, world.contactor.seen, world.told) == (1, 1, [])
    world.may_open = True
    world.passes(10)
    assert world.told == [(301, CREDIT)]


@pytest.mark.parametrize("aux", [True, False])
def test_a_weld_is_tried_again_when_it_may_open(aux):
    world = started("latching", aux)
    world.relay.welded = True
    world.contactor.want(0, "credit")
    world.passes(10)
    world.may_open = world.relay.welded = False
    world.passes(600)
    assert (world.relay.closed, world.told) == (1, [(253, 0)])
    world.may_open = True
    world.passes(5)
    assert sorted(world.told[1:]) == [(301, CREDIT), (1064, 253)]


def test_a_weld_that_may_not_be_opened_is_held_closed():
    """Its armature pulls at it: it would open when it gives way."""
    world = started()
    world.relay.welded = True
    world.contactor.want(0, "credit")
    world.passes(200)
    world.may_open = False
    world.relay.commands.clear()
    world.passes(600)
    assert world.relay.commands == [1]
    world.start("power", 0, "credit")
    world.relay.commands.clear()
    world.passes(600)
    assert world.relay.commands == [1]
    assert world.told == [(253, 0)]


def test_what_may_not_be_opened_is_closed_at_once():
    world = started()
    world.contactor.want(0, "credit")
    world.passes(10)
    world.may_open = False
    world.contactor.want(1, "recharge")
    world.passes(1)
    assert world.relay.closed


def test_an_auxiliary_contact_that_stands_still_does_not_hide_a_weld():
    world = started()
    world.relay.welded = True
    world.relay.aux_stuck = 0
    world.contactor.want(0, "credit")
    world.passes(200)
    assert world.told == [(253, 0)]
    world.passes(100)
    world.relay.welded = False
    world.passes(61)
    assert sorted(world.told[1:]) == [(301, CREDIT), (1064, 253)]
    assert not world.relay.closed


@pytest.mark.parametrize("aux", [True, False])
def test_a_contact_that_was_open_behind_a_bypass_is_closed_by_a_recharge(aux):
    world = started("latching", aux)
    world.bypassed = True
    world.contactor.want(0, "credit")
    world.passes(10)
    assert (world.relay.closed, world.told) == (0, [(253, 0)])
    world.contactor.want(1, "recharge")
    world.passes(5)
    assert world.relay.closed
    assert world.told == [(253, 0), (302, RECHARGE)]


@pytest.mark.parametrize("again", [False, True])
def test_without_feedback_and_reading_nobody_knows_until_there_is_one(again):
    world = started("latching", False)
    world.blind = True
    world.relay.welded = again
    world.contactor.want(0, "credit")
    world.passes(100)
    assert (world.told, world.contactor.seen) == ([], 1)
    world.blind = False
    world.passes(2)
    assert world.told == [(253, 0) if again else (301, CREDIT)]


def test_without_feedback_and_reading_a_recharge_closes():
    world = started("latching", False)
    world.blind = True
    world.contactor.want(0, "credit")
    world.passes(100)
    assert not world.relay.closed
    world.contactor.want(1, "recharge")
    world.passes(2)
    assert world.relay.closed
    assert world.told == [(302, RECHARGE)]


def test_with_feedback_a_sensor_that_is_dead_is_not_asked():
    world = started()
    world.blind = True
    world.contactor.want(0, "order")
    world.passes(5)
    assert world.told == [(301, ORDER)]


def test_a_contact_that_does_not_close_is_another_event():
    world = started()
    world.contactor.want(0, "credit")
    world.passes(10)
    world.relay.stuck = True
    world.contactor.want(1, "recharge")
    world.passes(300)
    assert world.told == [(301, CREDIT), (1063, 1)]
    world.relay.stuck = False
    world.passes(61)
    assert sorted(world.told[2:]) == [(302, RECHARGE), (1064, 1063)]


def test_without_feedback_no_current_says_nothing_about_a_closing():
    world = started("latching", False)
    world.contactor.want(0, "credit")
    world.passes(10)
    world.relay.stuck = True
    world.contactor.want(1, "recharge")
    world.passes(300)
    assert world.told == [(301, CREDIT), (302, RECHARGE)]


def test_without_feedback_and_without_load_the_command_is_believed():
    world = started("latching", False)
    world.current_ua = 25000  # the creep threshold
    world.relay.welded = True
    world.contactor.want(0, "credit")
    world.passes(10)
    assert world.told == [(301, CREDIT)]


def test_a_weld_stands_over_a_recharge_and_a_restart_until_the_contact_has_opened():
    world = started()
    world.relay.welded = True
    world.contactor.want(0, "credit")
    world.passes(3)
    world.contactor.want(1, "recharge")
    world.passes(100)
    world.start("power", 1)
    world.passes(10)
    world.contactor.want(0, "order")
    world.passes(100)
    assert world.told == [(253, 0)]
    world.relay.welded = False
    world.passes(60)
    assert world.told == [(253, 0), (1064, 253), (301, ORDER)]


def test_what_cannot_be_written_is_told_later_and_nothing_twice():
    world = started()
    world.writable = False
    world.contactor.want(0, "credit")
    world.passes(10)
    assert not world.relay.closed
    world.writable = True
    world.passes(10)
    assert world.told == [(301, CREDIT)]


def test_a_contact_that_opens_by_itself_is_closed_again_and_that_is_told():
    world = started()
    world.relay.closed = 0
    world.passes(2)
    assert world.relay.closed
    assert world.told == [(302, REASONS.index("start"))]


def test_events_of_older_firmware_are_understood():
    contactor = started().contactor
    contactor.apply_event(253, 1)
    assert contactor.failed == 1063
    contactor.apply_event(253, 0)
    assert contactor.failed == 253


def test_a_pulse_that_nobody_ends_is_ended_by_the_next_look():
    world = started()
    world.contactor.want(0, "credit")
    world.finishes_ms = None
    world.passes(1)
    assert world.relay.coils == [0, 0]
