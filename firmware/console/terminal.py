"""A person at the serial port while the meter runs: bytes to lines, and who may change money.

Loaded when somebody types, and dropped when nobody has for a while (main.py). The port is shared
with the REPL: Ctrl-C never comes here, it ends the meter and leaves the prompt, as mpremote
expects. Nothing waits: the port is asked whether a byte is there. Bytes are read, not characters:
the rest of half a UTF-8 character would be waited for. What a line does is in commands.py. Tests:
host_tests/unit/test_console.py, host_tests/system/test_console.py.
"""

import asyncio
import gc

from firmware.console import commands
from firmware.core.shim import const

LINE_MAX = const(80)
_BYTES_AT_ONCE = const(128)
_LOOK_MS = const(50)
_SLOW_LOOK_MS = const(1000)
_SLOW_AFTER_MS = const(60000)

UNLOCKED_S = const(600)
# A code is taken no sooner after the start, or after a wrong one: 8 digits last 95 years.
CODE_WAIT_S = const(30)
# Nothing that must be kept is left by then.
_IDLE_MS = const(1000 * UNLOCKED_S)

_SECRET = b"unlock "


class Terminal:
    """meter, sensor, uplink: what the commands are about; write: function of a text."""

    def __init__(self, meter, sensor, uplink, write):
        self.meter = meter
        self.sensor = sensor
        self.uplink = uplink
        self._write = write
        self._line = bytearray()
        self._too_long = False
        self._unlocked_until_s = 0
        self._next_code_s = CODE_WAIT_S
        self.test_code = ""  # begins a test of the contact, until `test_until_s`
        self.test_until_s = 0

    async def serve(self, poller, stdin):
        """Serves the port until nobody has typed for 10 minutes. poller: a select.poll on standard
        input; stdin: its bytes."""
        idle_ms = 0
        while idle_ms < _IDLE_MS:
            for _ in range(_BYTES_AT_ONCE):
                byte = None
                for _ready in poller.ipoll(0):
                    byte = stdin.read(1)
                if not byte:
                    break
                idle_ms = 0
                line = self.take(byte[0])
                if line is not None:
                    await commands.run(self, line)
            pause_ms = _LOOK_MS if idle_ms < _SLOW_AFTER_MS else _SLOW_LOOK_MS
            idle_ms += pause_ms
            await asyncio.sleep_ms(pause_ms)

    def say(self, text):
        """Answers one line."""
        self._write(text + "\n")

    async def pause(self):
        """Waits for about one sample."""
        await asyncio.sleep_ms(self.meter.config.sample_period_ms)

    async def breathe(self):
        """Lets the sampling have its turn."""
        self.free()
        await asyncio.sleep_ms(1)

    def free(self):
        """Frees the heap: what a long command drops bit by bit would leave it in small pieces."""
        self.meter.drop_words()
        gc.collect()

    def unlocked(self):
        """True for UNLOCKED_S after a right code."""
        return self.meter.clock.up_s() < self._unlocked_until_s

    def code_wait_s(self):
        """How long until a code is taken."""
        return max(0, self._next_code_s - self.meter.clock.up_s())

    def judged(self, right):
        """A code was right or wrong."""
        up_s = self.meter.clock.up_s()
        if right:
            self._unlocked_until_s = up_s + UNLOCKED_S
        else:
            self._next_code_s = up_s + CODE_WAIT_S

    def lock(self):
        """Ends `unlocked`."""
        self._unlocked_until_s = 0

    def take(self, byte):
        """One byte (0 to 255) that was typed, which is echoed; returns the line that it ended, or
        None."""
        line = self._line
        if byte in (10, 13):
            if not line:
                return None
            self._write("\n")
            self._line = bytearray()
            if self._too_long:
                self._too_long = False
                self.say("error line: must be at most %d characters" % LINE_MAX)
                return None
            return str(line, "ascii")
        if byte in (8, 127):
            if line:
                self._line = line[:-1]
                self._write("\b \b")
        elif 32 <= byte < 127:
            if len(line) == LINE_MAX:
                self._too_long = True
            else:
                self._write("*" if line.startswith(_SECRET) else chr(byte))
                line.append(byte)
        return None
