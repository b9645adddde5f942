"""Coil driver: a command goes in, the contact's feedback comes out. No policy, no memory.

Two kinds (boards/README.md): "latching" with two coils, each pulsed for `PULSE_MS` and never both
at once; "single" with one coil that is held while the contact shall be closed.
"""

from firmware.core.shim import const

PULSE_MS = const(60)


class RelayDriver:
    """`close_pin`, `open_pin`, `aux_pin` as in the board contract; `sleep_ms` blocks."""

    def __init__(self, kind, close_pin, open_pin, aux_pin, sleep_ms):
        self._latching = kind == "latching"
        self._close_pin = close_pin
        self._open_pin = open_pin
        self._aux_pin = aux_pin
        self._sleep_ms = sleep_ms

    def operate(self, closed):
        """Moves the contact."""
        if not self._latching:
            self._close_pin.value(1 if closed else 0)
            return
        coil, other = (
            (self._close_pin, self._open_pin) if closed else (self._open_pin, self._close_pin)
        )
        other.value(0)
        coil.value(1)
        try:
            self._sleep_ms(PULSE_MS)
        finally:
            coil.value(0)

    def contact(self):
        """1 closed, 0 open, None when the board has no auxiliary contact."""
        return self._aux_pin.value() if self._aux_pin else None
