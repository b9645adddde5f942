"""A meter on a lab's bench, emulated: a person types at its console and changes the load.

No gateway and no broker; the clock stands still unless the test lets time pass.
"""

from boards.emulated import flashing
from boards.emulated.board import EmulatedBoard
from boards.emulated.cli import lab_config
from boards.emulated.conductor import Conductor
from boards.emulated.sim_clock import ConductedClock
from firmware.core.sealing import installer_code

START_MS = 1_767_600_000_000  # Monday 2026-01-05 13:30 in India


class Lab:
    """Use as a context. chip: errors of the INA219; load: as `12V,1A`; config: changes to the
    configuration of boards.emulated.cli.lab_config; pulse_imp_per_kwh: the board's constant;
    board: more of its settings."""

    def __init__(self, folder, chip, load, pulse_imp_per_kwh=1000, board=None, **config):
        self.config = {**lab_config(), **config}
        self._folder = folder
        self._settings = {
            "rtc_set": True,
            "chip": chip,
            "load": "constant:" + load,
            "pulse_imp_per_kwh": pulse_imp_per_kwh,
            **(board or {}),
        }
        for ratio in ("voltage_ratio_x1000", "current_ratio_x1000"):
            if ratio in config:
                self._settings[ratio] = config[ratio]
        flashing.flash_image(folder, flashing.files_of(flashing.build()), self.config)
        self._conductor = Conductor(start_ms=START_MS)

    def __enter__(self):
        self._conductor.start()
        address = self._conductor.address
        self._clock = ConductedClock(address, "person")
        self._person = self._clock.worker("person")
        self.board = EmulatedBoard(self._folder, "meter", address, settings=self._settings, bits=32)
        self.board.start()
        self.passes(5)
        return self

    def __exit__(self, *exc):
        self.board.stop()
        self._person.close()
        self._clock.close()
        self._conductor.stop()

    def passes(self, seconds):
        """Lets so much time pass."""
        self._person.wait(self._clock.utc_ms() + seconds * 1000)

    def connect(self, load):
        """Another load, as `12V,1.5A`; the sensor has seen it on return."""
        self.board.set(load="constant:" + load)
        self.passes(2)

    def next_pulse(self):
        """Lets time pass until the pulse LED begins its next pulse, looked at each second; returns
        (pulses so far, seconds)."""
        before = self.board.look()["pulses"]
        while True:
            self.passes(1)
            look = self.board.look()
            if look["pulses"] != before:
                return look["pulses"], look["now_ms"] // 1000

    def code(self):
        """The installer's code."""
        return installer_code(bytes.fromhex(self.config["key"]))

    def unlock(self):
        self.type("unlock " + self.code(), "^unlocked")

    def type(self, line, answer, seconds=3):
        """Types a line and waits for a line of answer, which is returned."""
        after = self.board.line_count
        self._press(line, seconds)
        return self.board.wait_for(answer, 10, after)[0]

    def answers(self, line, seconds):
        """Types a line; returns all lines that come, without the echo."""
        before = self.board.line_count
        self._press(line, seconds)
        return self.board.lines()[before - self.board.line_count :][1:]

    def _press(self, line, seconds):
        self.board.type(line.encode() + b"\r")
        self.passes(seconds)
