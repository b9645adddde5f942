"""Runs vm/fuzz.py: the firmware's parsers on a 32-bit MicroPython with a chip's free heap."""

import json
import subprocess
import tempfile
from pathlib import Path

from boards.emulated import flashing
from host_tests.fakes.documents import meter_config, rich_tariff
from toolchain import locate

PARSERS = 16
HERE = Path(__file__).parent
BENCH_SCRIPTS = HERE.parent / "bench" / "vm"
HEAP = "340k"  # the parsers find some 25 kB of it free, see vm/fuzz.py
HANG_S = 120  # beyond the time that was asked for
GROWN_MAX_BYTES = 512  # whatever the number of inputs


class Hangs(Exception):
    """A parser did not come back; the text says where it was."""


def on_micropython(seed, inputs, seconds, *names):
    """One dict for each parser (none named: all): `parser`, `inputs`, `refused`, ... or `error`."""
    with tempfile.TemporaryDirectory(prefix="bijli-fuzz-") as folder:
        config = Path(folder) / "config.json"
        values = meter_config(opening_balance_mp=10**9, rich_tariff=rich_tariff())
        config.write_text(json.dumps(values))
        command = [*locate.micropython(32), "-X", f"heapsize={HEAP}", HERE / "vm" / "fuzz.py"]
        command += [flashing.build(), BENCH_SCRIPTS, config, Path(folder) / "flash.bin"]
        command += [str(number) for number in (seed, inputs, seconds)]
        try:
            done = subprocess.run(
                [*command, *names],
                capture_output=True,
                text=True,
                timeout=HANG_S + 20 * seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as hangs:
            raise Hangs(f"seed {seed}: {(hangs.stdout or b'')[-200:]}") from hangs
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0:
        said = done.stdout[-500:] + done.stderr[-2000:]
        lines.append({"parser": "the run", "error": f"exit status {done.returncode}: {said}"})
    return lines


def failure(line):
    """What is wrong with a parser's line; None if nothing."""
    if "error" in line:
        return f"{line['error']} at {line.get('number')}: {line.get('input', '')[:2000]}"
    if line.get("grown_bytes", 0) > GROWN_MAX_BYTES:
        return f"grew by {line['grown_bytes']} bytes in {line['inputs']} inputs"
    return None
