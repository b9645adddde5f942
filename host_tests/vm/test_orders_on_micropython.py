"""Orders of the rarer kinds at a meter on MicroPython."""

import json
import subprocess
from pathlib import Path

import pytest

from firmware.core import sealing
from host_tests.fakes.documents import KEY_HEX, meter_config
from host_tests.fakes.interpreters import micropython

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "scripts" / "orders.py"


@pytest.mark.parametrize("bits", [64, 32])
def test_rare_orders_are_executed(bits, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(meter_config()))
    plain = json.dumps({"broker": {"host": "b.example"}}).encode()
    sealed = sealing.seal(bytes.fromhex(KEY_HEX), bytes(16), plain)
    run = subprocess.run(
        [*micropython(bits), "-X", "heapsize=4m", SCRIPT, ROOT, config, tmp_path, sealed],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    result = json.loads(run.stdout)
    rare = [
        ["settings", "accepted"],
        ["settings", "range"],
        ["relay", "accepted"],
        ["relay", "accepted"],
        ["link", "accepted"],
        ["key", "accepted"],
    ]
    assert result["answers"] == [*rare, *rare, ["recharge", "accepted"], ["recharge", None]]
    assert (result["chosen"], result["host"]) == (True, "b.example")
