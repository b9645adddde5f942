"""Meter and gateway must agree to the milli-paisa: the same modules on CPython and MicroPython."""

import json
import random
import subprocess
from pathlib import Path

import pytest

from firmware.core import civil, digest, sealing
from firmware.credit import tariff as tariffs
from firmware.credit.charges import Quantities, charge_mp
from firmware.metering.energy import EnergyRegister
from firmware.metering.scale import bus_gain, shunt_gain
from host_tests.fakes.documents import largest_tariff, rich_tariff, tariff_document
from host_tests.fakes.interpreters import micropython

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "scripts" / "same_numbers.py"


def make_cases():
    rng = random.Random(20260105)
    charges = []
    for _ in range(300):
        limits = sorted(rng.sample(range(1, 2000), rng.randrange(0, 11)))
        steps = [(limit, rng.randrange(0, 2_000_000)) for limit in limits]
        document = tariff_document(*steps, (None, rng.randrange(0, 2_000_000)))
        energy_wh = rng.randrange(0, 3_000_000)
        tariff = tariffs.parse(document)
        expected_mp = charge_mp(tariff, Quantities(tariff, energy_wh))
        charges.append((document, energy_wh, expected_mp))
    charges += [(document, 0, 0) for document in (rich_tariff(), largest_tariff())]
    times = []
    for _ in range(300):
        utc_s = rng.randrange(0, 4_102_444_800)
        times.append((utc_s, civil.text(utc_s, 19800), civil.month_start_utc_s(utc_s, 19800)))
    digests = []
    for _ in range(50):
        key, message = rng.randbytes(rng.randrange(100)), rng.randbytes(rng.randrange(200))
        digests.append((list(key), list(message), list(digest.hmac_sha256(key, message))))
    sealed = []
    for _ in range(50):
        key, iv, plain = rng.randbytes(32), rng.randbytes(16), rng.randbytes(rng.randrange(600))
        next_key = sealing.next_key(key, iv + iv)
        sealed.append(
            (list(key), list(iv), list(plain), sealing.seal(key, iv, plain), list(next_key))
        )
    samples = [
        (rng.randrange(0, 6001), rng.randrange(-32000, 32001), rng.randrange(0, 2001))
        for _ in range(3000)
    ]
    register = EnergyRegister(bus_gain(12500), shunt_gain(31250, 100000), 25000, 1)
    register.scale(bus_gain(12500), -37, shunt_gain(31250, 100000), 53)
    for sample in samples:
        register.add(*sample)
    totals = [[c.wh, c.half_mj, c.half_uj] for c in (register.imported, register.exported)]
    return {
        "charges": charges,
        "times": times,
        "digests": digests,
        "sealed": sealed,
        "samples": samples,
        "register": totals,
    }


@pytest.mark.parametrize("bits", [64, 32])
def test_the_same_modules_give_the_same_numbers_on_micropython(bits, tmp_path):
    cases = tmp_path / "cases.json"
    cases.write_text(json.dumps(make_cases()))
    run = subprocess.run(
        [*micropython(bits), "-X", "heapsize=4m", SCRIPT, ROOT, cases],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (run.returncode, run.stdout.strip()) == (0, "OK"), run.stdout + run.stderr
