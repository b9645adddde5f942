"""The file of a meter's configuration; `firmware.core.config.read_document` reads it.

Tests: host_tests/unit/test_config_file.py.
"""

from __future__ import annotations

from binascii import crc32


def with_check(text: str) -> bytes:
    """JSON text and behind it a line with its CRC-32, docs/SPEC.md section 6."""
    raw = (text.rstrip() + "\n").encode()
    return raw + b"%08x\n" % crc32(raw)
