"""A meter on the bench: the real Meter and Journal, pins and clock that the test moves."""

import contextlib
import json
from pathlib import Path

from firmware.core.config import Config
from firmware.core.wallclock import WallClock
from firmware.link import codec
from firmware.meter import CHECKPOINT_FORMAT, Meter
from firmware.relay.driver import RelayDriver
from firmware.storage.journal import Journal
from firmware.storage.slots import Slots
from host_tests.fakes.documents import meter_config

MIDNIGHT_UTC_S = 1767551400  # Monday 2026-01-05 00:00 in India
HOUR_S = 3600


class PowerFailed(Exception):
    """The power has failed in the middle of what the meter did."""


class Contact:
    """A relay, `latching` with two coils or with a single one, and, if `aux`, an auxiliary contact.
    It outlives the meter."""

    def __init__(self, latching=True, aux=True):
        self.latching = latching
        self.aux = aux
        self.closed = 1
        self.welded = False  # never opens
        self.stuck = False  # never closes
        self.power_fails = False  # as soon as a coil is driven
        self.feedback = None  # what the auxiliary contact says whatever is so; None: it works
        self.operations = 0

    def coil(self, closes):
        contact = self

        class Coil:
            def value(self, level):
                if level or not contact.latching:
                    if contact.power_fails:
                        raise PowerFailed
                    wanted = 1 if closes and level else 0
                    # A single coil is set at each start, which moves nothing.
                    contact.operations += contact.latching or wanted != contact.closed
                    contact.follow(wanted)

        return Coil()

    def follow(self, wanted):
        """Moves it, unless it does not follow."""
        if not (self.stuck if wanted else self.welded):
            self.closed = wanted

    def reset(self):
        """The chip drives nothing."""
        if not self.latching:
            self.follow(0)

    def driver(self):
        """A RelayDriver of it."""
        return RelayDriver(
            "latching" if self.latching else "single",
            self.coil(True),
            self.coil(False) if self.latching else None,
            self if self.aux else None,
            lambda: None,
        )

    def value(self):
        return self.closed if self.feedback is None else self.feedback


class Switch:
    """An input pin that the test drives."""

    def __init__(self):
        self.level = 0

    def value(self):
        return self.level


class NVS:
    """esp32.NVS: uncommitted values are lost with the object."""

    def __init__(self):
        self.kept = {}
        self._pending = {}

    def get_i32(self, key):
        if key not in self.kept:
            raise OSError(-4354)
        return self.kept[key]

    def set_i32(self, key, value):
        assert -(2**31) <= value < 2**31
        self._pending[key] = value

    def get_blob(self, key, buffer):
        blob = self.get_i32(key)
        buffer[: len(blob)] = blob
        return len(blob)

    def set_blob(self, key, value):
        self._pending[key] = bytes(value)

    def erase_key(self, key):
        self.get_i32(key)
        del self.kept[key]

    def commit(self):
        self.kept.update(self._pending)
        self._pending.clear()

    def forget(self):
        """What a power failure leaves of what was not committed: nothing."""
        self._pending.clear()


class Bench:
    """`run()` moves time and feeds constant power; `restart()` is a power cut and a new boot."""

    def __init__(self, folder, utc_s=MIDNIGHT_UTC_S, journal=None, contact=None, **config):
        """journal: sizes other than the Journal's own; contact: a latching one with an auxiliary
        contact, unless it is given."""
        self._begin(folder, utc_s, config, journal)
        self.contact = contact or self.contact
        self.boot(utc_s)

    def _begin(self, folder, utc_s, config, journal=None):
        self.folder = folder
        self._journal = journal or {}
        self._values = json.dumps(meter_config(**config))
        self.contact = Contact()
        self.cover = Switch()
        self.magnet = Switch()
        self.nvs = NVS()
        self.lines = []
        self.utc_s = utc_s
        self.ticks_ms = 2**30 - 5000  # wraps at once
        self.meter = None
        self.gateway_answers = True  # with each reading
        self.fault = None  # of the boot before

    @classmethod
    def of_image(cls, folder, utc_s, contact_closed, nvs, **config):
        """A meter on a folder that another one left, with its contact and its NVS."""
        bench = cls.__new__(cls)
        bench._begin(folder, utc_s, config)
        bench.contact.closed = contact_closed
        bench.nvs.kept.update(nvs)
        bench.boot(utc_s)
        return bench

    def configure(self, **changes):
        """Changes members of config.json for the next start; None takes one out."""
        values = {**json.loads(self._values), **changes}
        self._values = json.dumps({name: each for name, each in values.items() if each is not None})

    def boot(self, rtc_utc_s, cause="power"):
        self.config = Config(json.loads(self._values))  # read at each start
        self.meter = Meter(
            self.config,
            Journal(str(self.folder), CHECKPOINT_FORMAT, **self._journal),
            WallClock(lambda: self.ticks_ms),
            self.contact.driver(),
            self.nvs,
            100000,
            self.lines.append,
            lambda: None,
            Slots(str(self.folder) + "-keep", "secrets"),
            self.cover,
            self.magnet,
        )
        self.meter.start(cause, rtc_utc_s, self.fault)
        self.meter.finish_operation()

    @contextlib.contextmanager
    def power_fails_before(self, kind, code=None):
        """While it lasts no record of this kind, or event of this code, is written any more: the
        power fails at it, also in a boot."""
        append = Meter.append

        def fails(meter, record_kind, fields, *time):
            if record_kind == kind and code in (None, fields.get("code")):
                raise PowerFailed
            append(meter, record_kind, fields, *time)

        Meter.append = fails
        try:
            yield
        finally:
            Meter.append = append

    def restart(self, off_s=0, time_known=True, cause="power"):
        self.meter.journal.close()
        self.nvs.forget()
        self.utc_s += off_s
        if cause != "soft":
            self.contact.reset()
        self.boot(self.utc_s if time_known else None, cause)

    def run(self, seconds, power_w=0, step_s=1):
        """Simulated seconds at 240 V and a power in whole units of 0.3 W, in steps."""
        self.feed(seconds, 240, power_w * 1000000 // 240, step_s)

    def feed(self, seconds, volts, current_ua, step_s=1, bypassed=False):
        """Simulated seconds at a voltage and a current (whole units of 1,250 uA), in steps.

        bypassed: the current flows past the contact, too.
        """
        for _ in range(0, seconds, step_s):
            self.pass_ms(step_s * 1000)
            self.utc_s += step_s
            if self.gateway_answers:
                self.meter.heard()
            flows = self.contact.closed or bypassed
            shunt_raw = current_ua // 1250 if flows else 0
            self.meter.sample(volts * 25, shunt_raw, step_s * 1000)
            self.meter.tick(step_s * 1000)
            self.meter.finish_operation()

    def fail_samples(self, seconds, fault=1):
        """Simulated seconds without a reading."""
        for _ in range(seconds):
            self.pass_ms(1000)
            self.utc_s += 1
            self.meter.sample_failed(1000, fault)
            self.meter.tick(1000)
            self.meter.finish_operation()

    def look(self, times=2):
        """The contactor looks after the contact, as it does in seconds, but no time passes."""
        for _ in range(times):
            self.meter.control.contactor.step(0)
            self.meter.finish_operation()

    def pass_ms(self, span_ms):
        """Ticks go on without a sample."""
        self.ticks_ms = (self.ticks_ms + span_ms) % 2**30

    def order(self, order_id, counter, kind="recharge", key=None, **members):
        payload = codec.encode(
            {
                "v": 1,
                "meter": self.config.meter,
                "id": order_id,
                "counter": counter,
                "kind": kind,
                **members,
            }
        )
        return self.send(codec.sign(key or self.config.key, self.config.meter, payload))

    def send(self, message):
        """What came on the order's topic."""
        answer = self.meter.handle_order(message)
        self.meter.finish_operation()
        return answer

    def image(self):
        """Every byte that the meter keeps: its files and its NVS."""
        folders = (self.folder, Path(str(self.folder) + "-keep"))
        files = {p: p.read_bytes() for f in folders if f.exists() for p in sorted(f.iterdir())}
        return files, dict(self.nvs.kept)

    def records(self, kind=None, code=None):
        return [
            record
            for record in self.meter.journal.records_after(0, 10**9)
            if (kind is None or record["type"] == kind)
            and (code is None or record.get("code") == code)
        ]
