"""What MicroPython has and CPython has not, in one place."""

try:
    from micropython import const
except ImportError:

    def const(value):
        """A compile-time constant on the device, the value itself on the host."""
        return value
