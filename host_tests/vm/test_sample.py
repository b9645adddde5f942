"""One sample on the 32-bit MicroPython with the heap locked, at the largest supported meter."""

import json
import subprocess
from pathlib import Path

from host_tests.fakes.documents import meter_config
from host_tests.fakes.interpreters import micropython

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "scripts" / "locked_sample.py"


def test_a_sample_at_full_scale_takes_nothing_from_the_heap(tmp_path):
    """Read, judge, scale, integrate, carry, creep check: no object, no long integer."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(meter_config(opening_balance_mp=10**9)))
    done = subprocess.run(
        [*micropython(32), "-X", "heapsize=4m", SCRIPT, ROOT, tmp_path / "flash.bin", config],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("ok\n", "")
