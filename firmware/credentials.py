"""Keys and link settings that orders have changed: what is in force, and what is on trial.

Invariants
  - What is in force stays until what replaces it has worked.
  - Each step is on flash before it counts.
  - What came by order counts while `config.json` holds what it was made from; a key or link
    settings put there by hand win.
  - Nothing here shows a secret.

docs/SPEC.md sections 2.7, 2.8 and 5.8. Tests: host_tests/unit/test_credentials.py.
"""

import binascii
import hashlib

from firmware.core import events
from firmware.core.config import LINK
from firmware.link import codec
from firmware.link.rotation import Rotation

LINK_CHANGE = 0  # details of the events
KEY_CHANGE = 1


def _mark(raw):
    digest = hashlib.sha256(raw).digest()
    return str(binascii.hexlify(digest[:8]), "ascii")


class Credentials:
    """config: core.config.Config, whose link settings this changes; slots: storage.slots.Slots,
    None: nothing can be changed; nvs: as esp32.NVS; report(code, detail) writes an event."""

    def __init__(self, config, slots, nvs, report):
        self._config = config
        self._slots = slots
        self._nvs = nvs
        self._report = report
        self._key_of = _mark(config.key)
        self._link_of = _mark(codec.encode(self.link()))
        self.rotation = None  # while new link settings are on trial
        kept = self.read()
        # The one in force, and behind it one that waits for its first message.
        self.keys = [binascii.unhexlify(kept[name]) for name in ("key", "next") if name in kept]
        self.keys = self.keys or [config.key]
        if "link" in kept:
            self._use(kept["link"])
        if "trial" in kept:
            self.rotation = Rotation(self._kept_trials())

    @property
    def changeable(self):
        """True if there is a place for what orders change."""
        return self._slots is not None

    def link(self):
        """The link settings in use, in the order of config.LINK."""
        return [getattr(self._config, name) for name in LINK]

    def _use(self, link):
        for name, value in zip(LINK, link):
            setattr(self._config, name, value)

    def read(self):
        """What orders have changed, as far as it counts: a dict as in SPEC section 5.8."""
        kept = (self._slots.read() if self._slots else None) or {}
        if kept.get("key_of") != self._key_of:
            kept.pop("key", None)
            kept.pop("next", None)
        if kept.get("link_of") != self._link_of:
            kept.pop("link", None)
            kept.pop("trial", None)
        return kept

    def write(self, **changes):
        """Changes members of what is kept, None takes one out. On flash on return."""
        kept = self.read()
        kept["key_of"] = self._key_of
        kept["link_of"] = self._link_of
        kept.update(changes)
        self._slots.write({name: kept[name] for name in kept if kept[name] is not None})

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
        self.write(key=str(binascii.hexlify(self.keys[1]), "ascii"), next=None)
        self.keys.pop(0)
        self._report(events.CHANGE_WORKS, KEY_CHANGE)
        return payload

    # --- the link's settings -------------------------------------------------------------------

    def try_link(self, link):
        """Keeps link settings (in the order of config.LINK) beside those in force, and tries them
        with the next connection."""
        self._keep_trials(0)
        # While others are on trial, what is in force is what came before them.
        self.write(link=self.link_in_force(), trial=link)
        self.rotation = Rotation()

    def link_in_force(self):
        """The link settings that count, whatever is on trial."""
        return self.read().get("link") or self.link()

    def due(self, up_s):
        """True when the connection is to be ended for one with the other settings."""
        return self.rotation is not None and self.rotation.due(up_s)

    def choose(self, up_s):
        """Before each connection: sets the configuration's link settings; True if they changed."""
        rotation = self.rotation
        if rotation is None or not rotation.choose(up_s):
            return False
        link = self.read().get("trial" if rotation.trying else "link")
        if link is None:  # the flash lost it: go on with what is in use
            self.rotation = None
            return False
        self._use(link)
        if rotation.trying:
            self._keep_trials(rotation.trials)
        return True

    def verified(self):
        """A fresh message of the gateway came over the settings in use."""
        rotation = self.rotation
        if rotation is None:
            return
        if rotation.trying:
            self.write(link=self.link(), trial=None)
            code = events.CHANGE_WORKS
        elif rotation.given_up():
            self.write(trial=None)
            code = events.CHANGE_GIVEN_UP
        else:
            return
        self.rotation = None
        self._report(code, LINK_CHANGE)

    def _keep_trials(self, trials):
        self._nvs.set_i32("trials", trials)
        self._nvs.commit()

    def _kept_trials(self):
        try:
            return self._nvs.get_i32("trials")
        except OSError:
            return 0  # never written
