"""Real servers and interpreters for tests; a missing one skips locally and fails in CI."""

import os

import pytest

from toolchain import locate


def need(find, *arguments):
    """The command that `find` locates; skips the test without it, fails it where CI demands it."""
    try:
        return find(*arguments)
    except locate.ToolMissing as missing:
        if os.environ.get("BIJLI_REQUIRE_SERVERS"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))


def micropython(bits):
    """The command of a MicroPython of 32 or 64 bits."""
    return need(locate.micropython, bits)
