"""Relays in the zoo: what a Contactor moves, with coils, feedback and faults, and its world."""

from types import SimpleNamespace

from firmware.relay.contactor import Contactor
from firmware.relay.driver import PULSE_MS, RelayDriver

OPERATE_MS = 10


class Relay:
    """Contact and coils. kind: as board.relay_kind; aux: there is an auxiliary contact.

    `welded` never opens, `stuck` never closes; `aux_stuck`: what the auxiliary contact says
    whatever the contact does, None: it works. `coils` are the levels (close, open); `longest_ms`
    how long one was driven at most, `both` whether ever both were; `commands` the coils that were
    driven, 1 to close; `moves` what the contact did.
    """

    def __init__(self, kind="latching", aux=True, closed=1):
        self.kind = kind
        self.aux = aux
        self.closed = closed
        self.welded = self.stuck = False
        self.aux_stuck = None
        self.coils = [0, 0]
        self.driven_ms = [0, 0]
        self.longest_ms = 0
        self.both = False
        self.commands = []
        self.moves = []

    def pins(self):
        """(close, open or None, aux or None) as in the board contract."""
        close, open_ = (SimpleNamespace(value=lambda level, at=at: self._drive(at, level))
                        for at in (0, 1))  # fmt: skip
        aux = SimpleNamespace(value=self._feedback) if self.aux else None
        return close, open_ if self.kind == "latching" else None, aux

    def _feedback(self):
        return self.closed if self.aux_stuck is None else self.aux_stuck

    def _drive(self, at, level):
        self.coils[at] = level
        if level:
            self.commands.append(1 - at)
        self.both |= self.coils == [1, 1]
        self.driven_ms[at] = 0

    def drives_ms(self):
        """For how long each coil that is driven has been."""
        return [ms for ms, level in zip(self.driven_ms, self.coils, strict=True) if level]

    def passes(self, ms):
        """Time passes: what the coils pull at moves."""
        for at in (0, 1):
            if self.coils[at]:
                self.driven_ms[at] += ms
                self.longest_ms = max(self.longest_ms, self.driven_ms[at])
        if self.kind == "latching":
            for at, wanted in ((0, 1), (1, 0)):
                if self.coils[at] and self.driven_ms[at] >= OPERATE_MS:
                    self._follow(wanted)
        else:
            self._follow(self.coils[0])

    def _follow(self, wanted):
        if self.closed != wanted and not (self.stuck if wanted else self.welded):
            self.closed = wanted
            self.moves.append(wanted)

    def power_fails(self):
        """The coils have no power."""
        self.coils = [0, 0]
        if self.kind == "single":
            self._follow(0)


class World:
    """A contactor, its relay and its clock. `told` are the events that it wrote; the load draws
    `current_ua` while the contact is closed or `bypassed`, which is not read by a `blind` sensor.
    """

    def __init__(self, relay, **config):
        self.relay = relay
        self.config = SimpleNamespace(
            **{"operation_min_s": 5, "reclose_spread_s": 0, "creep_ua": lambda: 25000, **config}
        )
        self.now_ms = 0
        self.told = []
        self.writable = True
        self.finishes_ms = None
        self.current_ua = 4000000
        self.drawn_s = []
        self.may_open = True
        self.bypassed = self.blind = False
        self.contactor = self._make()

    def _make(self):
        driver = RelayDriver(self.relay.kind, *self.relay.pins(), self._begun)
        clock = SimpleNamespace(up_ms=lambda: self.now_ms)
        return Contactor(driver, self.config, clock, self._note, lambda: self.may_open, self._draw)

    def _begun(self):
        self.finishes_ms = self.now_ms + PULSE_MS

    def _draw(self, most_s):
        self.drawn_s.append(most_s)
        return most_s // 2

    def _note(self, code, detail):
        if self.writable:
            self.told.append((code, detail))
            self.contactor.apply_event(code, detail)
        return self.writable

    def start(self, cause="power", wanted=1, reason="start"):
        """The boot behind a power failure or a reset; records and snapshot are read."""
        if cause != "soft":
            self.relay.power_fails()
        state = self.contactor.state()
        self.now_ms = 0
        self.finishes_ms = None
        self.contactor = self._make()
        self.contactor.restore(state)
        self.contactor.want(wanted, reason)
        self.contactor.start(cause)

    def passes(self, seconds):
        """Seconds go by, each with a look at the contact."""
        for _ in range(seconds):
            end_ms = self.now_ms + 1000
            while self.now_ms < end_ms:
                then_ms = end_ms
                if self.finishes_ms is not None:
                    then_ms = min(end_ms, max(self.now_ms, self.finishes_ms))
                self.relay.passes(then_ms - self.now_ms)
                self.now_ms = then_ms
                if self.finishes_ms is not None and self.now_ms >= self.finishes_ms:
                    self.finishes_ms = None
                    self.contactor.finish()
            flows = self.relay.closed or self.bypassed
            self.contactor.step(None if self.blind else self.current_ua if flows else 0)
