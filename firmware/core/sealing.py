"""What follows from a meter's key: the next key, the installer's code, settings that only the meter
can read.

Shared with the gateway; docs/SPEC.md sections 2.7 and 2.8 say the same in prose. No function
here shows a secret in an error. Tests: host_tests/unit/test_sealing.py and, on MicroPython,
host_tests/vm/test_same_numbers.py.
"""

import binascii

from firmware.core.digest import hmac_sha256
from firmware.core.shim import const

try:
    from cryptolib import aes
except ImportError:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    def aes(key, mode, iv):
        """As MicroPython's `cryptolib.aes`, for CBC."""
        return _Aes(Cipher(algorithms.AES(key), modes.CBC(iv)))

    class _Aes:
        def __init__(self, cipher):
            self._cipher = cipher

        def encrypt(self, data):
            return self._cipher.encryptor().update(data)

        def decrypt(self, data):
            return self._cipher.decryptor().update(data)


SEALED_MAX = const(3600)  # hex digits: with the rest of the order it fits a message
SALT_BYTES = const(32)
CODE_DIGITS = const(8)

_CBC = const(2)
_BLOCK_BYTES = const(16)


class SealError(Exception):
    """A sealed text that this key did not make, or that was damaged."""


def next_key(key, salt):
    """The key (32 bytes) that follows `key` by a change with `salt` (32 bytes)."""
    return hmac_sha256(key, b"bijli key\0", salt)


def _sealing_key(key):
    return hmac_sha256(key, b"bijli link")


def installer_code(key):
    """The code (CODE_DIGITS digits) that unlocks the console of the meter with `key`."""
    raw = hmac_sha256(key, b"bijli installer")
    number = int.from_bytes(raw[:6], "big") % 10**CODE_DIGITS
    return "%0*d" % (CODE_DIGITS, number)


def seal(key, iv, plain):
    """`plain` (bytes) for the meter with `key`, as hex digits; `iv`: 16 bytes, random each time."""
    pad = _BLOCK_BYTES - len(plain) % _BLOCK_BYTES
    cipher = aes(_sealing_key(key), _CBC, iv)
    return str(binascii.hexlify(iv + cipher.encrypt(plain + bytes([pad]) * pad)), "ascii")


def unseal(key, sealed):
    """The bytes in `sealed` (hex digits); SealError if it is not what `seal` makes under `key`."""
    try:
        raw = binascii.unhexlify(sealed)
    except (ValueError, TypeError):
        raise SealError("must be hex digits")
    if len(raw) < 2 * _BLOCK_BYTES or len(raw) % _BLOCK_BYTES or len(sealed) > SEALED_MAX:
        raise SealError("must be at most %d hex digits of whole blocks" % SEALED_MAX)
    cipher = aes(_sealing_key(key), _CBC, raw[:_BLOCK_BYTES])
    plain = cipher.decrypt(raw[_BLOCK_BYTES:])
    pad = plain[-1]
    if not 1 <= pad <= _BLOCK_BYTES or plain[-pad:] != bytes([pad]) * pad:
        raise SealError("is not for this meter's key")
    return plain[:-pad]
