"""What differs between MicroPython and CPython, in one place."""

import sys

try:
    from micropython import const
except ImportError:

    def const(value):
        """A compile-time constant on the device, the value itself on the host."""
        return value


def encoded(text):
    """The bytes of a text in UTF-8. MicroPython has them in it: a copy of a long one may find no
    room in the heap."""
    if sys.implementation.name == "micropython":
        return memoryview(text)  # type: ignore[arg-type]
    return text.encode()


def part(raw, start, end):
    """Bytes `start` to `end` of `raw`, on MicroPython without a copy, which it reads as well."""
    if sys.implementation.name == "micropython":
        return memoryview(raw)[start:end]
    return raw[start:end]
