"""MQTT 3.1.1 client on asyncio streams: one connection at a time, one request in flight.

The contract
  - `run_once` connects, subscribes, calls `on_up`, and serves until the connection is lost; then it
    raises LinkDown with the reason. It never connects again by itself.
  - `publish` with QoS 1 returns after the broker's PUBACK, which is *not* storage: the sender keeps
    what it must not lose until its receiver says so. Nothing is queued or sent again here.
  - A message with QoS 1 is acknowledged after `on_message` has returned, so it may come twice.
    `on_message` must not await: an answer is published by another task.
  - Memory is bounded: a packet longer than `PACKET_MAX` ends the connection.
  - Every wait for the peer ends after `ANSWER_S` and goes through `answer(awaitable, timeout_s)`;
    a peer that is up but deaf is found by the ping.

Packets are built and taken apart by functions without I/O. Tests: host_tests/unit/
test_mqtt_packets.py, host_tests/system/test_mqtt_client.py (against mosquitto and faulty peers).
"""

import asyncio
import errno
import struct

from firmware.core.shim import const

PACKET_MAX = const(4096)
ANSWER_S = const(20)

CONNACK = const(0x20)
PUBLISH = const(0x30)
PUBACK = const(0x40)
SUBACK = const(0x90)
PINGRESP = const(0xD0)

_CONNECT = const(0x10)
_SUBSCRIBE = const(0x82)
PINGREQ_PACKET = b"\xc0\0"
_RETAIN = const(1)
_QOS_1 = const(2)
_QOS_BITS = const(6)
# User name, password, retained will of QoS 1; no clean session.
_CONNECT_FLAGS = const(0xEC)

_IPPROTO_TCP = const(6)
_TCP_NODELAY = const(1)


class ProtocolError(Exception):
    """The peer sent what MQTT 3.1.1 does not allow here, or too much of it."""


class LinkDown(Exception):
    """There is no connection, or no longer; the text says why."""


def reason(error):
    """What went wrong, in a word: the name of an OSError's number, else the text."""
    if isinstance(error, OSError):
        return errno.errorcode.get(error.errno, "errno %s" % error.errno)
    return str(error)


# --- packets, without I/O ------------------------------------------------------------------------


def _text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack(">H", len(raw)) + raw


def _head(kind, length):
    head = bytearray((kind,))
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head)


def connect_packet(client_id, user, password, will_topic, will_payload, keepalive_s):
    """CONNECT to the client's persistent session."""
    body = struct.pack(">H4sBBH", 4, b"MQTT", 4, _CONNECT_FLAGS, keepalive_s)
    for value in (client_id, will_topic, will_payload, user, password):
        body += _text(value)
    return _head(_CONNECT, len(body)) + body


def subscribe_packet(packet_id, topics):
    """SUBSCRIBE to `topics` with QoS 1."""
    body = struct.pack(">H", packet_id)
    for topic in topics:
        body += _text(topic) + b"\x01"
    return _head(_SUBSCRIBE, len(body)) + body


def publish_head(topic, length, packet_id, retain):
    """PUBLISH up to its payload of `length` bytes; QoS 1 if `packet_id` is not 0."""
    kind = PUBLISH | (_RETAIN if retain else 0) | (_QOS_1 if packet_id else 0)
    head = _text(topic) + (struct.pack(">H", packet_id) if packet_id else b"")
    return _head(kind, len(head) + length) + head


def puback_packet(packet_id):
    """PUBACK of a received message."""
    return struct.pack(">BBH", PUBACK, 2, packet_id)


def parse_publish(flags, body):
    """(topic, payload, packet id or 0) of a PUBLISH; ProtocolError if it is malformed."""
    qos = flags & _QOS_BITS
    if len(body) < 2 or qos > _QOS_1:
        raise ProtocolError("bad PUBLISH")
    end = 2 + struct.unpack_from(">H", body)[0]
    if end > len(body):
        raise ProtocolError("bad PUBLISH")
    try:
        topic = str(body[2:end], "utf-8")
    except ValueError:  # UnicodeError is one on both interpreters
        raise ProtocolError("bad topic")
    if not qos:
        return topic, body[end:], 0
    if end + 2 > len(body):
        raise ProtocolError("bad PUBLISH")
    packet_id = struct.unpack_from(">H", body, end)[0]
    if packet_id == 0:
        raise ProtocolError("packet id 0")
    return topic, body[end + 2 :], packet_id


class Decoder:
    """Takes a stream apart: `feed` exactly `need` bytes at a time."""

    def __init__(self):
        self._start()

    def _start(self):
        self.need = 1
        self._first = -1  # the first byte: kind and flags
        self._length = 0
        self._shift = 0

    def feed(self, chunk):
        """(kind, flags, body) when a packet is complete, else None. Raises ProtocolError."""
        if self._first < 0:
            self._first = chunk[0]
            return None
        if self._shift >= 0:
            self._length |= (chunk[0] & 0x7F) << self._shift
            self._shift += 7
            if chunk[0] & 0x80:
                if self._shift > 21:
                    raise ProtocolError("bad length")
                return None
            if self._length > PACKET_MAX:
                raise ProtocolError("packet of %d bytes" % self._length)
            if self._length:
                self._shift = -1  # the body comes next
                self.need = self._length
                return None
            chunk = b""
        packet = self._first & 0xF0, self._first & 0x0F, chunk
        self._start()
        return packet


# --- the client ----------------------------------------------------------------------------------


class Client:
    """A client with user name and password, a will, and fixed subscriptions (QoS 1).

    on_up(): called when the subscriptions stand; on_message(topic, payload bytes); will: (topic,
    payload); answer(awaitable, timeout_s): see above.
    """

    def __init__(
        self, host, port, client_id, user, password, will, subscribe, on_up, on_message, answer,
        keepalive_s=120,
    ):  # fmt: skip
        self._host = host
        self._port = port
        self._hello = connect_packet(client_id, user, password, will[0], will[1], keepalive_s)
        self._subscribe = subscribe
        self._on_up = on_up
        self._on_message = on_message
        self._answer = answer
        self._keepalive_s = keepalive_s
        self.connected = False
        self.connections = 0
        self.stray_packets = 0  # acknowledgements that nobody waited for
        self._reader = self._writer = self._reading = None
        self._why = ""
        self._answers = 0
        self._packet_id = 0
        self._writing = asyncio.Lock()
        self._requesting = asyncio.Lock()
        self._expected = None  # (kind, packet id) of the answer that is awaited
        self._reply = None
        self._replied = asyncio.Event()

    async def run_once(self):
        """Serves one connection until it is lost; then raises LinkDown.

        What `on_message` raises comes out too; the message is then not acknowledged.
        """
        keeping = None
        self._why = ""
        try:
            self._reader, self._writer = await self._answer(
                asyncio.open_connection(self._host, self._port), ANSWER_S
            )
            self._no_delay()
            await self._answer(self._shake_hands(), ANSWER_S)
            self._reading = asyncio.create_task(self._read())
            keeping = asyncio.create_task(self._keep())
            await self._reading
        except asyncio.CancelledError:
            if not self._why:
                raise  # not the reading was cancelled, but who waits for it
        except asyncio.TimeoutError:
            self._why = "no answer"
        except EOFError:
            self._why = "closed by the broker"
        except (OSError, ProtocolError) as error:
            self._why = reason(error)
        finally:
            self.connected = False
            if keeping:
                keeping.cancel()
            if self._reading:
                self._reading.cancel()
            self._replied.set()  # whoever waits finds the link down
            await self._close()
        raise LinkDown(self._why)

    async def publish(self, topic, payload, qos, retain=False):
        """Sends a message; with QoS 1 returns after the PUBACK. Raises LinkDown."""
        if not self.connected:
            raise LinkDown("not connected")
        if qos:
            packet_id = self._next_packet_id()
            head = publish_head(topic, len(payload), packet_id, retain)
            await self._request(PUBACK, packet_id, head, payload)
        else:
            await self._ask(self._send(publish_head(topic, len(payload), 0, retain), payload))

    def _no_delay(self):
        # Else a packet behind a small one, as a PUBACK, waits for TCP's delayed acknowledgement.
        # CPython's streams do this by themselves.
        raw = getattr(self._writer, "s", None)
        if hasattr(raw, "setsockopt"):
            try:
                raw.setsockopt(_IPPROTO_TCP, _TCP_NODELAY, 1)
            except OSError:
                pass  # a port that does not know the option: only slower

    async def _shake_hands(self):
        await self._send(self._hello)
        kind, _flags, body = await self._read_packet(Decoder())
        if kind != CONNACK or len(body) != 2:
            raise ProtocolError("no CONNACK")
        if body[1]:
            raise ProtocolError("refused with code %d" % body[1])

    async def _read(self):
        decoder = Decoder()
        while True:
            kind, flags, body = await self._read_packet(decoder)
            if kind == PUBLISH:
                topic, payload, packet_id = parse_publish(flags, body)
                self._on_message(topic, payload)
                if packet_id:
                    await self._send(puback_packet(packet_id))
            elif kind in (PUBACK, SUBACK, PINGRESP):
                packet_id = struct.unpack_from(">H", body)[0] if len(body) >= 2 else 0
                if (kind, packet_id) == self._expected:
                    self._expected = None
                    self._answers += 1
                    self._reply = body
                    self._replied.set()
                else:
                    self.stray_packets += 1
            else:
                raise ProtocolError("unexpected packet %d" % kind)

    async def _read_packet(self, decoder):
        while True:
            packet = decoder.feed(await self._reader.readexactly(decoder.need))
            if packet:
                return packet

    async def _keep(self):
        """Subscribes, then pings whenever half the keep-alive time went by without an answer."""
        writer = self._writer
        try:
            packet_id = self._next_packet_id()
            packet = subscribe_packet(packet_id, self._subscribe)
            codes = await self._request(SUBACK, packet_id, packet)
            if len(codes) != 2 + len(self._subscribe) or max(codes[2:]) > 1:
                self._drop("subscription refused")
                return
            if self._writer is not writer:
                return  # the connection ended in the same turn, and the cancel came too late
            self.connected = True
            self.connections += 1
            self._on_up()
            while self._writer is writer:
                answers = self._answers
                await asyncio.sleep(self._keepalive_s // 2)
                if answers == self._answers:
                    await self._request(PINGRESP, 0, PINGREQ_PACKET)
        except LinkDown:
            pass  # `run_once` says so

    def _next_packet_id(self):
        self._packet_id = self._packet_id % 0xFFFF + 1
        return self._packet_id

    async def _request(self, kind, packet_id, *parts):
        """Sends a packet and returns the body of its answer: `kind` with that packet id."""
        return await self._ask(self._exchange((kind, packet_id), parts))

    async def _exchange(self, expected, parts):
        async with self._requesting:
            self._expected = expected
            self._reply = None
            self._replied.clear()
            await self._send(*parts)
            await self._replied.wait()
            if self._reply is None:
                raise LinkDown("lost")
            return self._reply

    async def _ask(self, awaitable):
        try:
            return await self._answer(awaitable, ANSWER_S)
        except asyncio.TimeoutError:
            self._drop("no answer")
        except OSError as error:
            self._drop(reason(error))
        raise LinkDown("lost")

    async def _send(self, *parts):
        # MicroPython's streams allow one writer at a time.
        async with self._writing:
            if self._writer is None:
                raise LinkDown("lost")
            for part in parts:  # not joined: a batch is longer than a free piece of the heap may be
                self._writer.write(part)
            await self._writer.drain()

    def _drop(self, why):
        if self._reading and not self._why:
            self._why = why
            self._reading.cancel()

    async def _close(self):
        writer = self._writer
        self._reader = self._writer = self._reading = None
        if writer:
            try:
                writer.close()
                await writer.wait_closed()
            except OSError:
                pass  # it is gone already
