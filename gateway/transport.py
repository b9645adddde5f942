"""MQTT: the only module that knows paho.

The network thread only hands messages over (`on_message` must be quick). QoS 1 messages are
acknowledged to the broker by `acknowledge`, which the writer calls after its commit. Reconnecting
is done here and not by paho, because waits go through the clock.
Tests: host_tests/gateway/test_broker.py.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from gateway.broker import Address
from gateway.clock import Clock, wait_until
from gateway.thread import WorkerThread

log = logging.getLogger("gateway.transport")

CLIENT_ID = "bijli.gateway"
KEEPALIVE_S = 30
CONNECT_TIMEOUT_MS = 10_000
BACKOFF_MIN_MS = 250
BACKOFF_MAX_MS = 30_000
OUT_INFLIGHT_MAX = 1_000
OUT_QUEUE_MAX = 100_000


class Incoming(NamedTuple):
    """A message from the broker. `session` counts connections: a PUBACK is valid in its own."""

    topic: str
    payload: bytes
    qos: int
    mid: int
    session: int
    retained: bool = False


class Transport:
    """The gateway's connection to the broker."""

    def __init__(
        self,
        clock: Clock,
        address: Address,
        subscriptions: Iterable[tuple[str, int]],
        on_message: Callable[[Incoming], None],
        on_change: Callable[[bool], None],
    ) -> None:
        """`subscriptions` are (filter, QoS); `on_change(connected)` comes from other threads."""
        self._clock = clock
        self._address = address
        self._subscriptions = list(subscriptions)
        self._on_message = on_message
        self._on_change = on_change
        self._connected = threading.Event()
        self._refused = ""
        self.session = 0
        self._client = self._make_client()
        self._thread = WorkerThread(clock, "transport", self._run)
        self._worker, self._stop = self._thread.worker, self._thread.stopping

    def _make_client(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=CLIENT_ID,
            clean_session=False,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        if self._address.user:
            client.username_pw_set(self._address.user, self._address.password)
        if self._address.ca_file:
            client.tls_set(ca_certs=self._address.ca_file)
        client.max_inflight_messages_set(OUT_INFLIGHT_MAX)
        client.max_queued_messages_set(OUT_QUEUE_MAX)
        client.on_socket_open = _send_at_once
        client.on_connect = self._connect_answered
        client.on_subscribe = self._subscribed
        client.on_disconnect = self._disconnected
        client.on_message = self._arrived
        return client

    @property
    def connected(self) -> bool:
        """True while the broker is connected and the subscriptions stand."""
        return self._connected.is_set()

    def start(self) -> None:
        """Connect, and stay connected until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Disconnect; no callback comes afterwards."""
        self._stop.set()
        self._client.disconnect()
        self._thread.stop()

    def publish(self, topic: str, payload: bytes, qos: int) -> bool:
        """Send a message; False if there is no connection (then nothing is queued either)."""
        if not self.connected:
            return False
        return self._client.publish(topic, payload, qos).rc == paho.MQTT_ERR_SUCCESS

    def acknowledge(self, messages: Iterable[Incoming]) -> None:
        """PUBACK committed messages. Those of an earlier connection the broker sends again."""
        for message in messages:
            if message.qos and message.session == self.session:
                self._client.ack(message.mid, message.qos)

    def _run(self) -> None:
        backoff_ms = BACKOFF_MIN_MS
        while not self._stop.is_set():
            if self._connect():
                backoff_ms = BACKOFF_MIN_MS
                while self.connected and not self._stop.is_set():
                    self._worker.wait(None)
            self._client.loop_stop()
            self._connected.clear()
            if self._stop.is_set():
                return
            wait_until(self._clock, self._worker, self._clock.utc_ms() + backoff_ms, self._stop)
            backoff_ms = min(backoff_ms * 2, BACKOFF_MAX_MS)

    def _connect(self) -> bool:
        self._refused = ""
        self.session += 1
        try:
            self._client.connect(self._address.host, self._address.port, KEEPALIVE_S)
        except OSError as error:
            log.warning("broker %s:%d: %s", self._address.host, self._address.port, error)
            return False
        self._client.loop_start()
        until_ms = self._clock.utc_ms() + CONNECT_TIMEOUT_MS
        while not (self.connected or self._refused or self._stop.is_set()):
            if not self._worker.wait(until_ms, hold=True) and not self.connected:
                self._refused = "no answer"
        if self._refused:
            log.warning("broker %s:%d: %s", self._address.host, self._address.port, self._refused)
            self._client.disconnect()
        return self.connected

    # Callbacks of paho's network thread.

    def _connect_answered(
        self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._refused = f"connection refused: {reason}"
            self._worker.wake()
            return
        client.subscribe(self._subscriptions)

    def _subscribed(
        self, _client: paho.Client, _data: Any, _mid: int, reasons: list[Any], _properties: Any
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            self._refused = "a subscription was refused: check the broker's topic rules"
        else:
            self._connected.set()
            log.info("connected to the broker %s:%d", self._address.host, self._address.port)
            self._on_change(True)
        self._worker.wake()

    def _disconnected(
        self, _client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        was_connected = self.connected
        self._connected.clear()
        if not self._refused:
            self._refused = f"disconnected: {reason}"
        if was_connected and not self._stop.is_set():
            log.warning("connection to the broker lost: %s", reason)
        self._on_change(False)
        self._worker.wake()

    def _arrived(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            # Not a topic of ours and nothing to store: acknowledged, so that it never comes again.
            self._client.ack(message.mid, message.qos)
            return
        self._on_message(
            Incoming(
                topic,
                bytes(message.payload),
                message.qos,
                message.mid,
                self.session,
                message.retain,
            )
        )


def _send_at_once(_client: paho.Client, _userdata: object, sock: Any) -> None:
    # An acknowledgement is a small packet: it must not wait for the broker's delayed ACK.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
