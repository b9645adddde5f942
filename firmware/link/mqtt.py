"""MQTT 3.1.1 client on asyncio streams: one connection at a time, one request in flight.

The contract
  - `run_once` connects, subscribes, calls `on_up`, and serves until the connection is lost; then it
    raises LinkDown with the reason. It never connects again by itself: when, and after what pause,
    is the caller's (uplink.py).
  - `publish` with QoS 1 returns after the broker's PUBACK, which is *not* storage: the sender keeps
    what it must not lose until its receiver says so. Nothing is queued or sent again here.
  - A message with QoS 1 is acknowledged after `on_message` has returned, so it may come twice.
    `on_message` must not await: an answer is published by another task.
  - Memory is bounded: one packet of at most `PACKET_MAX` bytes is held. A longer message, up to
    `SKIP_MAX`, is read in pieces, dropped, counted and acknowledged, so that the persistent session
    does not bring it back for ever. All else that is too long or malformed ends the connection.
  - Every wait for the peer ends after `ANSWER_S` and goes through `answer(awaitable, timeout_s)`.
    A peer that is up but deaf, or gone without a word, is found by the first request, and without
    any by the ping: after half the keep-alive and `ANSWER_S`, or the whole of it if it was heard
    just before.
  - What got lost or was odd is counted: `connections`, `stray_packets`, `oversized`.
  - No QoS 2, no retransmission with DUP within a connection, no unsubscribing, IPv4 only.

Packets are built and taken apart by functions without I/O. Tests: host_tests/unit/
test_mqtt_packets.py, host_tests/system/test_mqtt_client.py (against mosquitto and faulty peers).
"""

import asyncio
import errno
import struct

from firmware.core.shim import const
from firmware.link import secure

PACKET_MAX = const(4096)
SKIP_MAX = const(262144)
ANSWER_S = const(20)

SKIPPED = const(0x01)  # no kind on the wire: a PUBLISH of which only the beginning was kept
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

_PIECE = const(512)  # topic and packet id are in the first
_IPPROTO_TCP = const(6)
_TCP_NODELAY = const(1)


class ProtocolError(Exception):
    """The peer sent what MQTT 3.1.1 does not allow here, or too much of it."""


class LinkDown(Exception):
    """There is no connection, or no longer; the text says why."""


class NameUnknown(Exception):
    """There is no address for a name, or nobody says it; the text says which."""


def reason(error):
    """What went wrong, in a word: the name of an OSError's number, else the text."""
    if isinstance(error, OSError):
        name = errno.errorcode.get(error.errno)
        # mbedtls has numbers of its own and says what they mean.
        return name or (str(error.args[1]) if len(error.args) > 1 else "errno %s" % error.errno)
    return str(error).strip().replace("\n", " ")


def is_address(host):
    """True for an IPv4 address in digits."""
    parts = host.split(".")
    return len(parts) == 4 and all(part.isdigit() for part in parts)


# Shortest and longest body of the answers.
_LENGTHS = {PUBACK: (2, 2), SUBACK: (3, PACKET_MAX), PINGRESP: (0, 0)}


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
    """(topic, payload, packet id or 0) of a PUBLISH; ProtocolError if it is malformed.

    Of a SKIPPED one the payload is its beginning.
    """
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
    """Takes a stream apart: `feed` exactly `need` bytes at a time.

    A PUBLISH that is too long comes out as SKIPPED with its first bytes.
    """

    def __init__(self):
        self._start()

    def _start(self):
        self.need = 1
        self._first = -1  # the first byte: kind and flags
        self._length = 0
        self._shift = 0
        self._to_skip = 0
        self._begin = b""

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
                if self._first & 0xF0 != PUBLISH or self._length > SKIP_MAX:
                    raise ProtocolError("packet of %d bytes" % self._length)
                self._to_skip = self._length
            if self._length:
                self._shift = -1  # the body comes next
                self.need = _PIECE if self._to_skip else self._length
                return None
            chunk = b""
        kind = self._first & 0xF0
        if self._to_skip:
            self._begin = self._begin or chunk
            self._to_skip -= len(chunk)
            self.need = min(_PIECE, self._to_skip)
            if self._to_skip:
                return None
            kind = SKIPPED
            chunk = self._begin
        packet = kind, self._first & 0x0F, chunk
        self._start()
        return packet


# --- the client ----------------------------------------------------------------------------------


class Client:
    """A client with user name and password, a will, and fixed subscriptions (QoS 1).

    on_up(): called when the subscriptions stand; on_message(topic, payload bytes); will: (topic,
    payload); answer(awaitable, timeout_s): see above; ca: certificate of the CA that signed the
    broker's, PEM, "" for no TLS; lookup(name): coroutine, the name's address, raises NameUnknown
    or OSError; None: left to `asyncio`, which blocks on a chip.
    """

    def __init__(
        self, host, port, client_id, user, password, will, subscribe, on_up, on_message, answer,
        keepalive_s=120, ca="", lookup=None,
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
        self.oversized = 0  # messages that were too long and dropped
        self._ca = ca
        self._lookup = None if is_address(host) else lookup
        self._address = ""  # that the name had last
        self._reader = self._writer = self._reading = None
        self._plain = None  # below TLS
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
            await self._answer(self._open(), ANSWER_S)
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
        except (OSError, ProtocolError, NameUnknown) as error:
            self._why = reason(error)
        except MemoryError:
            self._why = "no memory"  # for a packet; the message comes again
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

    async def _open(self):
        host = self._host
        if self._lookup:
            try:
                self._address = await self._lookup(host)
            except (NameUnknown, OSError):
                if not self._address:
                    raise
                # The name server is away: the broker may still be there.
            host = self._address
        self._reader, self._writer = await asyncio.open_connection(host, self._port)
        self._no_delay()

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
        if not self._ca:
            await self._greet()
            return
        self._plain = self._writer
        try:
            self._reader, self._writer = await secure.wrap(
                self._reader, self._writer, self._ca, self._host
            )
            # In here, as on MicroPython the handshake comes with the first bytes.
            await self._greet()
        except (ValueError, OSError) as error:
            raise ProtocolError("tls: " + reason(error))

    async def _greet(self):
        await self._send(self._hello)
        kind, flags, body = await self._read_packet(Decoder())
        if kind != CONNACK or flags or len(body) != 2:
            raise ProtocolError("no CONNACK")
        if body[1]:
            raise ProtocolError("refused with code %d" % body[1])

    async def _read(self):
        decoder = Decoder()
        while True:
            kind, flags, body = await self._read_packet(decoder)
            if kind == PUBLISH:
                topic, payload, packet_id = parse_publish(flags, body)
                body = None  # a long one is not kept while its copy is worked on
                self._on_message(topic, payload)
                payload = None
                if packet_id:
                    await self._send(puback_packet(packet_id))
            elif kind == SKIPPED:
                packet_id = parse_publish(flags, body)[2]
                self.oversized += 1
                if packet_id:
                    await self._send(puback_packet(packet_id))
            elif kind in _LENGTHS:
                if flags or not _LENGTHS[kind][0] <= len(body) <= _LENGTHS[kind][1]:
                    raise ProtocolError("bad packet %d" % kind)
                packet_id = struct.unpack_from(">H", body)[0] if body else 0
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
                self.drop("subscription refused")
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
            self.drop("no answer")
        except OSError as error:
            self.drop(reason(error))
        raise LinkDown("lost")

    async def _send(self, *parts):
        # MicroPython's streams allow one writer at a time.
        async with self._writing:
            if self._writer is None:
                raise LinkDown("lost")
            for part in parts:  # not joined: a batch is longer than a free piece of the heap may be
                self._writer.write(part)
            await self._writer.drain()

    def drop(self, why):
        """Ends the connection that stands; `run_once` raises LinkDown with `why`."""
        if self._reading and not self._why:
            self._why = why
            self._reading.cancel()

    async def _close(self):
        writer = self._writer
        plain = self._plain
        self._reader = self._writer = self._reading = self._plain = None
        # A socket that TLS has given up is closed by nobody else.
        for stream in (writer, plain):
            if stream:
                try:
                    stream.close()
                    await stream.wait_closed()
                except (OSError, ValueError):
                    pass  # it is gone already
