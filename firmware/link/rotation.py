"""Which of two link settings to use while new ones are on trial: a state machine without I/O.

    old --due--> new for TRY_S --due--> old for a span that doubles --due--> new ...

It ends when the gateway is met: over the new ones they are kept; over the old ones the new are
given up after TRIALS_MAX trials. So the meter is cut off for good by neither: while the gateway is
met nowhere it goes on trying both. Tests: host_tests/unit/test_rotation.py.
"""

from firmware.core.shim import const

TRY_S = const(300)
TRIALS_MAX = const(15)
_OLD_MAX_S = const(7200)


class Rotation:
    """trials: how often the new settings were tried before a restart."""

    def __init__(self, trials=0):
        self.trials = trials
        self.trying = False  # the new settings are in use
        self._until_up_s = 0

    def due(self, up_s):
        """True when it is time to change to the other settings."""
        return up_s >= self._until_up_s

    def choose(self, up_s):
        """Before a connection: changes to the other settings if it is time; True if it did."""
        if not self.due(up_s):
            return False
        self.trying = not self.trying
        if self.trying:
            self.trials += 1
            span_s = TRY_S
        else:
            span_s = min(_OLD_MAX_S, TRY_S << min(self.trials - 1, 5))
        self._until_up_s = up_s + span_s
        return True

    def given_up(self):
        """True if the gateway, met over the settings in use, ends the trial with the old ones."""
        return not self.trying and self.trials >= TRIALS_MAX
