"""Relays as boards have them, on the emulated board: no auxiliary contact, one coil, a weld."""

import pytest

from host_tests.fakes.interpreters import micropython
from host_tests.fakes.lab import Lab


@pytest.fixture
def make(tmp_path):
    micropython(32)
    made = []

    def lab(board, **rules):
        made.append(Lab(tmp_path / "meter", None, "230V,10A", board=board, rules=rules))
        return made[-1].__enter__()

    yield lab
    for one in made:
        one.__exit__()


def story(lab):
    """The lines of the log that tell of the contact, without their times."""
    words = [line[20:] for line in lab.board.lines()]
    events = ("event 253", "event 301", "event 302", "event 1064")
    return [line.split(" kWh=")[0] for line in words if line.startswith(events)]


def confirm(lab, seconds):
    """Types `relay test` and its code; returns what the console says at the end."""
    code = lab.type("relay test", "^opens the supply").split("`")[1].split()[-1]
    return lab.type("relay test " + code, "^the contact |^error", seconds)


def test_a_weld_is_seen_by_its_current_where_there_is_no_auxiliary_contact(make):
    lab = make({"aux_contact": False})
    lab.passes(60)
    assert "has opened and closed" in confirm(lab, 20)
    assert lab.board.look()["contact"]
    told = story(lab)
    assert [line.split(":")[0].split()[1] for line in told[-2:]] == ["301", "302"]

    lab.board.set(contact="welded")
    assert "did not follow, event 253" in confirm(lab, 20)
    lab.board.set(contact="ok")
    assert "event 253" in lab.type("relay", "^the contact does not follow")
    assert "has opened and closed" in confirm(lab, 20)
    assert any("1064" in line for line in story(lab))


def test_a_single_coil_closes_behind_a_power_failure_when_its_turn_has_come(make):
    lab = make({"relay_kind": "single"}, reclose_spread_s=600)
    waited = 0
    for operations in (1, 2, 3):
        if not lab.board.look()["contact"]:
            waited += 1
            lab.type("relay", f"^relay=closed operations={operations - 1}")
        lab.passes(605)
        assert lab.board.look()["contact"]
        lab.type("relay", f"^relay=closed operations={operations}")
        lab.board.cut_power()
        lab.board.restore_power()
        lab.passes(5)
    assert waited, "three random times of 600 s were all below 6 s"
