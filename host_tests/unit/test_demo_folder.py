"""Which folders a demo forgets, and which it leaves alone."""

import contextlib

import pytest

from demo.world import STATE, WorldError, erase
from gateway.folder import lock


@pytest.mark.parametrize("state", [True, False])
def test_a_demo_that_runs_is_not_erased(tmp_path, state):
    data = tmp_path / "gateway"
    data.mkdir()
    if state:
        (tmp_path / STATE).write_text("{}")
    with contextlib.closing(lock(data)):
        with pytest.raises(WorldError, match="another demo is running in"):
            erase(tmp_path)
        assert data.exists()


def test_a_demo_that_ended_is_erased(tmp_path):
    (tmp_path / "gateway").mkdir()
    lock(tmp_path / "gateway").close()
    (tmp_path / STATE).write_text("{}")
    erase(tmp_path)
    assert not tmp_path.exists()


def test_a_folder_of_somebody_else_is_not_erased(tmp_path):
    (tmp_path / "letter").write_text("x")
    with pytest.raises(WorldError, match="is not a demo's folder"):
        erase(tmp_path)
    assert (tmp_path / "letter").exists()
