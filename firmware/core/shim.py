"""What differs between MicroPython and CPython, in one place."""

import sys

try:
    from micropython import const
except ImportError:

    def const(value):
        """A compile-time constant on the device, the value itself on the host."""
        return value


def forget(name):
    """Gives back the heap of a module that is needed rarely; the next import reads it again.

    On the host it stays: its exceptions and classes would not be those that a test has imported.
    """
    if sys.implementation.name == "micropython":
        parent, _dot, last = name.rpartition(".")
        del sys.modules[name]
        delattr(sys.modules[parent], last)
