"""Meter and gateway charge the same, line by line, on thousands of made-up tariffs and months."""

import json
import random
import subprocess
from pathlib import Path

import pytest

from firmware.credit import charges, tariff
from host_tests.fakes.interpreters import micropython
from host_tests.fakes.tariffs import make_document, make_quantities

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "scripts" / "same_charges.py"
CASES = 3000


def make_case(rng):
    document = make_document(rng.randint)
    members = make_quantities(rng.randint, document)
    asked = {
        "load_w": rng.randint(0, 20_000),
        "minute": rng.randint(0, 1439),
        "spare_mp": rng.randint(0, 2_000_000_000),
    }
    parsed = tariff.parse(document)
    quantities = charges.Quantities(parsed)
    for name, value in members.items():
        setattr(quantities, name, value)
    total_wh = quantities.base_wh + sum(quantities.zone_wh)
    rates_mp = [
        charges.fixed_rate_mp(parsed, index, asked["load_w"]) for index in range(len(parsed.fixed))
    ]
    answers = [
        charges.charge_mp(parsed, quantities),
        charges.charge_lines(parsed, quantities),
        rates_mp,
        charges.next_step_wh(parsed, total_wh, quantities.share),
        charges.max_price_mp_per_kwh(parsed),
        charges.steady_wh(parsed, quantities, asked["spare_mp"]),
        charges.zone_at(parsed, asked["minute"]),
    ]
    return [document, members, asked, answers]


@pytest.mark.parametrize("bits", [64, 32])
def test_thousands_of_charges_are_the_same_on_micropython(bits, tmp_path):
    rng = random.Random(20260105)
    cases = tmp_path / "cases.jsonl"
    cases.write_text("".join(json.dumps(make_case(rng)) + "\n" for _ in range(CASES)))
    run = subprocess.run(
        [*micropython(bits), "-X", "heapsize=1m", SCRIPT, ROOT, cases],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (run.returncode, run.stdout.strip()) == (0, f"{CASES} OK"), run.stdout + run.stderr
