"""HMAC-SHA256 (RFC 2104) on the `hashlib` that both interpreters have.

MicroPython's port for the ESP32 has no `hmac` module. Test vectors: RFC 4231.
"""

import hashlib

from firmware.core.shim import const

_BLOCK_BYTES = const(64)


def hmac_sha256(key, *parts):
    """32-byte HMAC of the concatenated `parts` (bytes) under `key` (bytes)."""
    if len(key) > _BLOCK_BYTES:
        key = hashlib.sha256(key).digest()
    key = key + bytes(_BLOCK_BYTES - len(key))
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in key))
    for part in parts:
        inner.update(part)
    outer = hashlib.sha256(bytes(b ^ 0x5C for b in key))
    outer.update(inner.digest())
    return outer.digest()


def same(left, right):
    """True if two byte strings are equal, in a time that does not depend on where they differ."""
    if len(left) != len(right):
        return False
    difference = 0
    for a, b in zip(left, right):
        difference |= a ^ b
    return difference == 0
