"""The trial of link settings, driven by a clock: old, new, both or neither of them work."""

from itertools import pairwise

import pytest

from firmware.link.rotation import TRIALS_MAX, TRY_S, Rotation

HOUR_S = 3600


def run(rotation, hours, works):
    """(end, changes): 'kept', 'given up' or None, and the (up_s, trying) of each change.

    works(trying, up_s): the gateway is met with these settings at that time.
    """
    changes = []
    for up_s in range(0, hours * HOUR_S, 10):
        if rotation.choose(up_s):
            changes.append((up_s, rotation.trying))
        if works(rotation.trying, up_s):
            if rotation.trying:
                return "kept", changes
            if rotation.given_up():
                return "given up", changes
    return None, changes


def test_new_settings_that_work_are_kept_at_once():
    assert run(Rotation(), 1, lambda trying, up_s: trying) == ("kept", [(0, True)])


def test_new_ones_that_never_work_are_given_up_after_about_a_day():
    end, changes = run(Rotation(), 48, lambda trying, up_s: not trying)
    assert end == "given up"
    assert 21 * HOUR_S < changes[-1][0] < 25 * HOUR_S
    assert sum(trying for _, trying in changes) == TRIALS_MAX
    spans = [after[0] - before[0] for before, after in pairwise(changes)]
    assert set(spans[0::2]) == {TRY_S}
    assert spans[1::2] == sorted(spans[1::2])
    assert (spans[1], max(spans)) == (TRY_S, 2 * HOUR_S)


def test_new_ones_that_work_later_are_found():
    end, changes = run(Rotation(), 48, lambda trying, up_s: not trying or up_s > 10 * HOUR_S)
    assert end == "kept"
    assert changes[-1][0] < 13 * HOUR_S


@pytest.mark.parametrize("which", [True, False])
def test_while_the_gateway_is_met_nowhere_both_are_tried_for_as_long_as_it_takes(which):
    week_s = 7 * 24 * HOUR_S
    end, changes = run(Rotation(), 200, lambda trying, up_s: trying == which and up_s > week_s)
    assert end == ("kept" if which else "given up")
    assert changes[-1][0] - week_s <= 3 * HOUR_S


def test_a_restart_tries_the_new_ones_again_and_counts_on():
    rotation = Rotation(TRIALS_MAX - 1)
    assert rotation.choose(0)
    assert rotation.trying
    assert rotation.choose(TRY_S)
    assert rotation.given_up()
