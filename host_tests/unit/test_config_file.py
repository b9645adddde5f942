"""The configuration's file: damage is never taken for a configuration."""

import json
import subprocess

import pytest

from firmware.core.config import ConfigError, read_document
from host_tests.fakes.documents import meter_config
from host_tests.fakes.interpreters import micropython
from toolchain.config_file import with_check
from toolchain.locate import project_root

FLIP_ALL = """
import sys
sys.path.insert(0, sys.argv[1])
from firmware.core.config import ConfigError, read_document
path = sys.argv[2]
with open(path, "rb") as file:
    sound = file.read()
read_document(path)
taken = 0
for place in range(len(sound)):
    for mask in (1, 2, 4, 8, 16, 32, 64, 128, 255):
        raw = bytearray(sound)
        raw[place] ^= mask
        with open(path, "wb") as file:
            file.write(raw)
        try:
            read_document(path)
            taken += 1
        except ConfigError:
            pass
print("taken", taken)
"""


def test_a_changed_byte_is_never_taken(tmp_path):
    """On MicroPython, whose JSON is not as strict as CPython's."""
    path = tmp_path / "config.json"
    path.write_bytes(with_check(json.dumps(meter_config())))
    script = tmp_path / "flip.py"
    script.write_text(FLIP_ALL)
    run = subprocess.run(
        [*micropython(32), script, project_root(), path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout == "taken 0\n", run.stderr


def test_a_file_without_the_line_is_taken_as_it_is(tmp_path):
    path = tmp_path / "config.json"
    for text in ("{}", '{"a":\n1234567}\n', '{"a": [\n\n1]     }\n', json.dumps({}, indent=9)):
        path.write_text(text)
        assert read_document(str(path)) == json.loads(text)


def test_a_file_that_was_cut_off_or_edited_below_its_line_is_refused(tmp_path):
    path = tmp_path / "config.json"
    sound = with_check('{"a": 1}')
    assert len(sound) == 18
    path.write_bytes(sound)
    assert read_document(str(path)) == {"a": 1}
    for raw in (sound.replace(b"1}", b"2}"), sound[:-1], sound + b"\n", sound[:-9] + b"g" * 8):
        path.write_bytes(raw)
        with pytest.raises(ConfigError, match=r"config\.json"):
            read_document(str(path))
