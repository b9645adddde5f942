"""What differs between MicroPython and CPython, in one place."""

import sys

try:
    from micropython import const
except ImportError:

    def const(value):
        """A compile-time constant on the device, the value itself on the host."""
        return value


def forget(*names):
    """Gives back the heap of modules that are needed rarely; the next import reads them again.

    On the host they stay: their exceptions and classes would not be those that a test has imported.
    """
    if sys.implementation.name == "micropython":
        for name in names:
            if sys.modules.pop(name, None):
                parent, _dot, last = name.rpartition(".")
                delattr(sys.modules[parent], last)
