"""The month demo in short: two days around the end of a month, on the emulated board."""

import pytest

from demo import month
from demo.check import DAY_MS
from host_tests.fakes.interpreters import micropython, need
from toolchain import locate


@pytest.mark.slow
def test_meter_and_gateway_explain_the_same_to_the_milli_paisa(tmp_path):
    micropython(32)
    need(locate.mosquitto)
    said = []
    passed = month.run(tmp_path / "world", month.START_MS + 30 * DAY_MS, 2, said.append)
    assert passed, "\n".join(said)
    shown = "\n".join(said)
    for name in ("energy up to 100 kWh", "energy up to 50 kWh", "subsidy", "free units", "duty",
                 "smart meter rebate", "time of day peak", "fixed charge", "arrears taken",
                 "recharge r-"):  # fmt: skip
        assert name in shown
