"""What differs between MicroPython and CPython, in one place."""

try:
    from micropython import const
except ImportError:

    def const(value):
        """A compile-time constant on the device, the value itself on the host."""
        return value
