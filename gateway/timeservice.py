"""Answers a meter's question for the time at once, from the gateway's clock (SPEC 2.5).

Runs in the network thread: an answer that waited behind a commit would be late by its length.
Tests: host_tests/gateway/test_ingest.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from firmware.link import codec
from gateway.clock import Clock
from gateway.messages import decode_ask
from gateway.transport import Incoming

log = logging.getLogger("gateway.time")


class TimeService:
    """Counts what it answered and what it refused."""

    def __init__(
        self,
        clock: Clock,
        key_of: Callable[[str], bytes | None],
        publish: Callable[[str, bytes, int], bool],
    ) -> None:
        self._clock = clock
        self._key_of = key_of
        self._publish = publish
        self.answered = 0
        self.refused = 0

    def ask(self, message: Incoming) -> None:
        """Answer one question; a wrong one is counted and dropped (QoS 0, nothing is owed)."""
        try:
            meter, _leaf = codec.split_topic(message.topic)
            key = self._key_of(meter)
            if key is None:
                raise codec.CodecError("meter", "is not registered")
            question = decode_ask(message.payload)
        except (codec.CodecError, msgspec.DecodeError) as error:
            self.refused += 1
            log.warning("time question on %r refused: %s", message.topic[:80], error)
            return
        # Inside busy: simulated time may have moved on since this process last looked.
        with self._clock.busy():
            payload = codec.encode(
                {
                    "v": 1,
                    "meter": meter,
                    "nonce": question.nonce,
                    "utc_ms": self._clock.utc_ms(),
                }
            )
            self._publish(codec.topic(meter, "time"), codec.sign(key, meter, payload), 0)
        self.answered += 1
