"""One sample, and the rules of one second, on the 32-bit MicroPython with the heap locked."""

import json
import subprocess
from pathlib import Path

from host_tests.fakes.documents import meter_config, tariff_document
from host_tests.fakes.interpreters import micropython

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "scripts"


def run(script, folder, **changes):
    """What a script prints."""
    config = folder / "config.json"
    config.write_text(json.dumps(meter_config(**changes)))
    done = subprocess.run(
        [*micropython(32), "-X", "heapsize=4m", SCRIPTS / script, ROOT, folder / "flash", config],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


def test_a_sample_at_full_scale_takes_nothing_from_the_heap(tmp_path):
    """The largest meter. Read, judge, scale, integrate, carry, creep check: no object, no long
    integer."""
    assert run("locked_sample.py", tmp_path, opening_balance_mp=10**9) == "ok\n"


def test_rules_take_nothing_from_the_heap_but_where_a_limit_may_be_crossed(tmp_path):
    """With 15,000 rupees, in the zone of a tariff with slabs and a class that ends."""
    document = tariff_document((1, 600000), (None, 900000))
    document["zones"] = [{"name": "night", "from_min": 0, "to_min": 360}]
    document["lines"] += [
        {
            "name": "time",
            "shape": "time_of_day",
            "percent_x1000": {"night": -20000},
            "of": ["energy"],
        },
        {
            "name": "subsidy",
            "kind": "subsidy",
            "shape": "whole",
            "slabs": [
                {"up_to_kwh": 1, "rate_mp_per_kwh": -200000},
                {"up_to_kwh": None, "rate_mp_per_kwh": 0},
            ],
        },
    ]
    judged = int(run("locked_rules.py", tmp_path, opening_balance_mp=15 * 10**8, tariff=document))
    assert 15 <= judged <= 25
