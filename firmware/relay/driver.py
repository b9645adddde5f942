"""Coil driver: a command goes in, the contact's feedback comes out. No policy, no memory.

Two kinds (boards/README.md): "latching" with two coils, each pulsed for `PULSE_MS` and never both
at once; "single" with one coil that is held while the contact shall be closed. Nothing waits here:
a command begins, `finish` ends it `PULSE_MS` later, and the sampling goes on meanwhile. If nobody
comes to finish it, the board's hardware has ended the pulse all the same.
"""

from firmware.core.shim import const

PULSE_MS = const(60)


class RelayDriver:
    """`close_pin`, `open_pin`, `aux_pin` as in the board contract; `begun()` is called when a
    command begins, so that somebody calls `finish`. `busy`: one has begun and is not finished;
    `commanded`: there has been one."""

    def __init__(self, kind, close_pin, open_pin, aux_pin, begun):
        self.latching = kind == "latching"
        self._close_pin = close_pin
        self._open_pin = open_pin
        self._aux_pin = aux_pin
        self._begun = begun
        self.busy = self.commanded = False

    def operate(self, closed):
        """Begins to move the contact."""
        if self.latching:
            (self._open_pin if closed else self._close_pin).value(0)
            (self._close_pin if closed else self._open_pin).value(1)
        else:
            self._close_pin.value(1 if closed else 0)
        self.busy = self.commanded = True
        self._begun()

    def finish(self):
        """Ends what `operate` began; the contact has moved or never will."""
        if self.latching:
            self._close_pin.value(0)
            self._open_pin.value(0)
        self.busy = False

    def contact(self):
        """1 closed, 0 open, None when the board has no auxiliary contact."""
        return self._aux_pin.value() if self._aux_pin else None
