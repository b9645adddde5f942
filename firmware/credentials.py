"""The keys and the link settings in use; changes.py changes them, loaded when it is needed.

Invariants
  - What is in force stays until what replaces it has worked.
  - Each step is on flash before it counts. Nothing here shows a secret.

docs/SPEC.md sections 2.7, 2.8 and 5.8. Tests: host_tests/unit/test_credentials.py.
"""

import gc

from firmware.core.shim import forget
from firmware.link import codec


class Credentials:
    """config: core.config.Config, whose link settings are set here; slots(): a storage.slots.Slots,
    None: nothing can be changed; nvs: as esp32.NVS; report(code, detail) writes an event."""

    def __init__(self, config, slots, nvs, report):
        self.config = config
        self.slots = slots
        self.nvs = nvs
        self.report = report
        # The one in force, and behind it one that waits for its first message.
        self.keys = [config.key]
        self.marks = None  # of the key and the link settings that config.json has
        self.rotation = None  # while new link settings are on trial
        self.change("begin")

    def change(self, what, *arguments):
        """Calls a function of changes.py; its code is in the heap only meanwhile."""
        gc.collect()
        from firmware import changes

        try:
            return getattr(changes, what)(self, *arguments)
        finally:
            forget(
                "firmware.changes",
                "firmware.link.rotation",
                "firmware.core.sealing",
                "firmware.core.settings",
                "firmware.core.config",
                "firmware.storage.slots",
            )

    def open_signed(self, message):
        """The payload of a message (bytes) that the gateway signed; CodecError for any other. The
        first one under a new key drops the old for good."""
        meter = self.config.meter
        try:
            return codec.open_signed(self.keys[0], meter, message)
        except codec.CodecError:
            if len(self.keys) == 1:
                raise
        payload = codec.open_signed(self.keys[1], meter, message)
        self.change("key_works")
        return payload

    def due(self, up_s):
        """True when the connection is to be ended for one with other link settings."""
        return self.rotation is not None and self.rotation.due(up_s)

    def choose(self, up_s):
        """Before each connection: sets the configuration's link settings; True if they changed."""
        return self.due(up_s) and self.change("other_link", up_s)

    def verified(self):
        """A time answer of the gateway came over the settings in use."""
        if self.rotation is not None:
            self.change("gateway_met")
