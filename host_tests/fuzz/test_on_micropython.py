"""The firmware's parsers against mutated inputs on a real 32-bit MicroPython.

`make fuzz` takes longer; `make fuzz FUZZ_ARGS="--seed SEED"` repeats a failure.
"""

import pytest

from host_tests.fakes.interpreters import micropython
from host_tests.fuzz import run

SEED = 20260105
INPUTS = 400


@pytest.fixture(scope="module")
def lines():
    micropython(32)
    return run.on_micropython(SEED, INPUTS, 30)


def test_no_parser_crashes_hangs_or_grows(lines):
    assert [
        (line["parser"], run.failure(line)) for line in lines if run.failure(line) is not None
    ] == []


def test_every_parser_took_all_inputs_and_refused_some(lines):
    assert len(lines) == run.PARSERS
    for line in lines:
        assert line["inputs"] >= INPUTS // 8, line
    # Those that refuse by an exception, or an answer, and do not take everything either.
    for line in lines:
        if line["parser"] not in ("packing.unpack", "journal files", "slots", "link messages"):
            assert 0 < line["refused"] < INPUTS, line
