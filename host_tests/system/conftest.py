"""What the system tests share."""

import pytest

from host_tests.fakes.worlds import MINUTE_MS, Story


@pytest.fixture
def story(tmp_path):
    """A world whose meter has begun to report; tests that need another meter make their own."""
    with Story(tmp_path / "world") as made:
        made.passes(2 * MINUTE_MS + 500)
        yield made
