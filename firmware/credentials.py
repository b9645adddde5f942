"""The keys and the link settings in use, and their changes by order, step by step.

Invariants
  - What is in force stays until what replaces it has worked.
  - Each step is on flash before it counts. Nothing here shows a secret.

What came by order counts while `config.json` holds what it was made from; a key or link settings
that were put there by hand win. docs/SPEC.md sections 2.7, 2.8 and 5.8. Tests:
host_tests/unit/test_credentials.py.
"""

import binascii
import hashlib
import json

from firmware.core import events
from firmware.core.sealing import SALT_BYTES, SealError, next_key, unseal
from firmware.core.settings import merge_link
from firmware.link import codec
from firmware.link.rotation import Rotation

LINK = (
    "wifi_ssid",
    "wifi_password",
    "broker_host",
    "broker_port",
    "broker_user",
    "broker_password",
    "broker_ca",
)
"""Attributes of Config that are link settings, in the order of core.settings.merge_link."""

_LINK_CHANGE = 0  # details of the events
_KEY_CHANGE = 1
_TRIALS = "trials"  # in NVS


def _hex(raw):
    return str(binascii.hexlify(raw), "ascii")


def _mark(raw):
    return _hex(hashlib.sha256(raw).digest()[:8])


class Credentials:
    """config: core.config.Config, whose link settings are set here; slots: a storage.slots.Slots,
    None: nothing can be changed; nvs: as esp32.NVS; report(code, detail) writes an event."""

    def __init__(self, config, slots, nvs, report):
        self._config = config
        self.slots = slots
        self._nvs = nvs
        self._report = report
        # The one in force, and behind it one that waits for its first message.
        self.keys = [config.key]
        self.rotation = None  # while new link settings are on trial
        # Of the key and the link settings that config.json has.
        self._marks = (_mark(config.key), _mark(codec.encode(self.link_in_use())))
        kept = self._read()
        if "key" in kept:
            names = ("key", "next") if "next" in kept else ("key",)
            self.keys = [binascii.unhexlify(kept[name]) for name in names]
        if "link" in kept:
            self._use(kept["link"])
        if "trial" in kept:
            try:
                trials = nvs.get_i32(_TRIALS)
            except OSError:
                trials = 0  # NVS was erased
            self.rotation = Rotation(trials)

    def _read(self):
        """What orders have changed, as far as it counts: a dict as in SPEC section 5.8."""
        kept = (self.slots.read() if self.slots else None) or {}
        for of, mark, names in zip(
            ("key_of", "link_of"), self._marks, (("key", "next"), ("link", "trial"))
        ):
            if kept.get(of) != mark:
                kept[of] = mark
                for name in names:
                    kept.pop(name, None)
        return kept

    def _write(self, **changes):
        """Changes members of what is kept, None takes one out. On flash on return."""
        kept = self._read()
        kept.update(changes)
        self.slots.write({name: kept[name] for name in kept if kept[name] is not None})

    # --- keys --------------------------------------------------------------------------------

    def open_signed(self, message):
        """The payload of a message (bytes) that the gateway signed; CodecError for any other. The
        first one under a new key drops the old for good."""
        meter = self._config.meter
        try:
            return codec.open_signed(self.keys[0], meter, message)
        except codec.CodecError:
            if len(self.keys) == 1:
                raise
        payload = codec.open_signed(self.keys[1], meter, message)
        self._write(key=_hex(self.keys[1]), next=None)
        self.keys.pop(0)
        self._report(events.CHANGE_WORKS, _KEY_CHANGE)
        return payload

    def take_key(self, order):
        """Executes a `key` order: keeps the key that follows beside the one in force. CodecError
        for a wrong member, before anything is written."""
        try:
            salt = binascii.unhexlify(order.get("salt"))
        except (ValueError, TypeError):
            salt = b""
        if len(salt) != SALT_BYTES:
            raise codec.CodecError("salt", "must be 64 hex digits")
        # The order is signed under keys[0]: one under the key that waits would have put it there.
        key = self.keys[0]
        new = next_key(key, salt)
        self._write(key=_hex(key), next=_hex(new))
        self.keys = [key, new]

    # --- link settings -----------------------------------------------------------------------

    def link_in_use(self):
        """The link settings in use, in the order of LINK."""
        return [getattr(self._config, name) for name in LINK]

    def link_in_force(self):
        """The link settings that count, whatever is on trial."""
        return self._read().get("link") or self.link_in_use()

    def _use(self, link):
        for name, value in zip(LINK, link):
            setattr(self._config, name, value)

    def take_link(self, order):
        """Executes a `link` order; CodecError or ConfigError for a wrong member."""
        try:
            document = json.loads(unseal(self.keys[0], order.get("sealed")))
        except SealError as error:
            raise codec.CodecError("sealed", str(error))
        except (ValueError, RuntimeError, TypeError, OverflowError):
            raise codec.CodecError("sealed", "must hold JSON")
        self.try_link(merge_link(document, self.link_in_force()))

    def try_link(self, link):
        """Keeps link settings beside those in force, and tries them with the next connection."""
        self._keep_trials(0)
        self._write(link=self.link_in_force(), trial=link)
        self.rotation = Rotation()

    def _keep_trials(self, trials):
        try:
            self._nvs.set_i32(_TRIALS, trials)
            self._nvs.commit()
        except OSError:
            pass  # counted in memory, then

    def due(self, up_s):
        """True when the connection is to be ended for one with other link settings."""
        return self.rotation is not None and self.rotation.due(up_s)

    def choose(self, up_s):
        """Before each connection: sets the configuration's link settings; True if they changed."""
        rotation = self.rotation
        if rotation is None or not rotation.due(up_s):
            return False
        # Read first: what is tried and what is used must not differ when memory ends in between.
        link = self._read().get("link" if rotation.trying else "trial")
        if link is None:  # the flash lost it: go on with what is in use
            self.rotation = None
            return False
        rotation.choose(up_s)
        self._use(link)
        if rotation.trying:
            self._keep_trials(rotation.trials)
        return True

    def verified(self):
        """A time answer of the gateway came over the settings in use: that ends a trial, if it is
        the moment. The new settings are kept or given up."""
        rotation = self.rotation
        if rotation is None:
            return
        if rotation.trying:
            self._write(link=self.link_in_use(), trial=None)
            code = events.CHANGE_WORKS
        elif rotation.given_up():
            self._write(trial=None)
            code = events.CHANGE_GIVEN_UP
        else:
            return
        self.rotation = None
        self._report(code, _LINK_CHANGE)
