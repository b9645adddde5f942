"""The serial console of a meter on the bench; samples come while a command waits for them."""

import asyncio

from firmware.console import commands
from firmware.console.terminal import CODE_WAIT_S, Terminal
from firmware.core.sealing import installer_code


class Sensor:
    bus_raw, shunt_raw = 5750, -16


class Uplink:
    connected = True

    def waiting(self):
        return 3


class BenchTerminal(Terminal):
    """Samples come while a command waits for them."""

    def __init__(self, bench):
        self.bench = bench
        self.shown = ""
        self.readings = [(5750, 0)]
        super().__init__(bench.meter, Sensor(), Uplink(), self._show)

    def _show(self, text):
        self.shown += text

    async def pause(self):
        self.passes(1)

    async def breathe(self):
        self.passes(1)

    def free(self):  # the host has room
        pass

    def passes(self, seconds):
        for _ in range(seconds):
            self.bench.pass_ms(1000)
            self.bench.utc_s += 1
            reading = self.readings[self.bench.utc_s % len(self.readings)]
            if reading:
                self.bench.meter.sample(*reading, 1000)
            self.bench.meter.tick(1000)

    def type(self, text):
        """Types a line; returns what is shown behind it."""
        self.shown = ""
        for byte in text.encode() + b"\r":
            line = self.take(byte)
            if line is not None:
                self.shown = ""
                asyncio.run(commands.run(self, line))
        return self.shown

    def unlock(self):
        self.passes(CODE_WAIT_S)
        assert "unlocked" in self.type("unlock " + installer_code(self.bench.config.key))
