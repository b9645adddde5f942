"""A zoo of MQTT peers: well, slow, in pieces, deaf, malformed, cut off. Each on a port of its own.

`PEERS` says of each what a client must make of it: "" it works, else a part of the reason with
which the connection ends. The client's part, the same on CPython and MicroPython, is zoo_client.py.
"""

import asyncio
import contextlib
import socket
import struct
import threading

from firmware.link import mqtt

CONNACK = b"\x20\x02\0\0"
SUBACK = b"\x90\x04ID\x01\x01"
PINGRESP = b"\xd0\0"
# Whoever is just sending finds a broken pipe, which MicroPython has no name for.
GONE = "closed|ECONNRESET|EPIPE|errno 32"


async def read_packet(reader):
    """(kind, flags, body) of the client's next packet, of any length."""
    first = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return first & 0xF0, first & 0x0F, await reader.readexactly(length)


def message(topic, payload, packet_id=0, flags=0):
    """A PUBLISH with any flags."""
    head = bytearray(mqtt.publish_head(topic, len(payload), packet_id, False))
    head[0] |= flags
    return bytes(head) + payload


def suback(subscribe):
    """The SUBACK that grants QoS 1 to each topic of a SUBSCRIBE's body."""
    count, at = 0, 2
    while at < len(subscribe):
        at += 3 + struct.unpack_from(">H", subscribe, at)[0]
        count += 1
    return bytes((mqtt.SUBACK, 2 + count)) + subscribe[:2] + b"\x01" * count


# --- peers that serve ----------------------------------------------------------------------------


def serving(
    chunk=1 << 20, delay_s=0, connack=CONNACK, puback=lambda body: [body], behind=b"", before=b"",
    first=b"", flags=0, talk=b"",
):  # fmt: skip
    """Echoes every message to down/a with its QoS, and acknowledges it.

    chunk, delay_s: size of the pieces and pause behind each. puback: packet ids sent for one.
    before, behind: what surrounds each acknowledgement, in the same segment. first: sent after the
    SUBACK, in its segment. flags: of its messages. talk: sent again and again by itself.
    """

    async def behave(reader, writer):
        talking = None

        async def send(data):
            for at in range(0, len(data), chunk):
                writer.write(data[at : at + chunk])
                await writer.drain()
                if delay_s:
                    await asyncio.sleep(delay_s)

        async def chatter():
            while True:
                writer.write(talk)
                await writer.drain()
                await asyncio.sleep(0.01)

        try:
            while True:
                kind, kind_flags, body = await read_packet(reader)
                if kind == 0x10:
                    await send(connack)
                elif kind == 0x80:
                    await send(suback(body) + first)
                    if talk:
                        talking = asyncio.create_task(chatter())
                elif kind == mqtt.PUBLISH:
                    _topic, payload, packet_id = mqtt.parse_publish(kind_flags, body)
                    out = message("down/a", payload, packet_id, flags)
                    if packet_id:
                        out += before
                        for acked in puback(packet_id):
                            out += mqtt.puback_packet(acked)
                        out += behind
                    await send(out)
                elif kind == 0xC0:
                    await send(PINGRESP)
        finally:
            if talking:
                talking.cancel()

    return behave


def lossy(every):
    """`puback` that loses each `every`th."""
    count = 0

    def puback(packet_id):
        nonlocal count
        count += 1
        return [packet_id] if count % every else []

    return puback


# --- peers that do not ---------------------------------------------------------------------------


async def stay(reader, writer):
    """Listens for ever."""
    await reader.read()


async def leave(reader, writer):
    """Closes at once."""


def reset(writer):
    """The connection ends without a FIN: by an RST, as of a peer that lost its memory."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def after(stage, stream, then="stay"):
    """Serves up to `stage`, sends `stream`, then: stays deaf, closes, or resets.

    Stages: "connect" CONNECT has come, "subscribe" SUBSCRIBE has, "up" the SUBACK is sent,
    "publish" a message has come.
    """

    async def behave(reader, writer):
        await read_packet(reader)
        if stage != "connect":
            writer.write(CONNACK)
            _kind, _flags, body = await read_packet(reader)
            if stage != "subscribe":
                writer.write(suback(body))
            if stage == "publish":
                await read_packet(reader)
        # The packet id of the SUBSCRIBE, where the stream leaves it open.
        writer.write(stream.replace(b"ID", body[:2]) if stage == "subscribe" else stream)
        await writer.drain()
        if then == "stay":
            await reader.read()
        elif then == "reset":
            await asyncio.sleep(0.02)  # so that the client reads the stream first
            reset(writer)

    return behave


WELL = {
    "perfect": serving(),
    "session present": serving(connack=b"\x20\x02\x01\0"),
    "one byte at a time": serving(chunk=1),
    "two bytes at a time": serving(chunk=2),
    "seven bytes at a time": serving(chunk=7),
    "slow": serving(chunk=40, delay_s=0.005),
    "acknowledges twice": serving(puback=lambda packet_id: [packet_id, packet_id]),
    "acknowledges others first": serving(puback=lambda packet_id: [packet_id ^ 0x100, packet_id]),
    "acknowledgement in the segment of others": serving(
        before=PINGRESP, behind=b"\x90\x03\0\x07\0"
    ),
    "marks messages as repeated and retained": serving(flags=0x09),
    "message in the segment of the SUBACK": serving(first=message("down/b", b"early")),
    "message without topic": serving(first=message("", b"")),
    "message without payload": serving(first=message("down/b", b"", 7)),
    "message of 4,096 bytes": serving(first=message("down/b", bytes(4_088))),
    "too long a message": serving(first=message("down/b", bytes(4_089), 9)),
    "much too long messages": serving(first=message("down/b", bytes(60_000), 9) * 4),
    "longest that is skipped": serving(first=message("down/b", bytes(262_136))),
    "too long, in small pieces": serving(first=message("down/b", bytes(5_000), 9), chunk=11),
    "talks all the time": serving(talk=message("down/b", b"x" * 50, 11) * 4),
    "acknowledges all the time": serving(talk=mqtt.puback_packet(0xFFFF) * 20),
}

ILL = {
    "deaf": (stay, "no answer"),
    "closes at once": (leave, GONE),
    "not MQTT": (after("connect", b"HTTP/1.1 400 Bad Request\r\n\r\n"), "no CONNACK|no answer"),
    "deaf after CONNACK": (after("connect", CONNACK), "no answer"),
    "SUBACK for CONNACK": (after("connect", SUBACK), "no CONNACK"),
    "CONNACK of one byte": (after("connect", b"\x20\x01\0"), "no CONNACK"),
    "CONNACK with flags": (after("connect", b"\x21\x02\0\0"), "no CONNACK"),
    "SUBACK before it was asked for": (after("connect", CONNACK + SUBACK), "no answer"),
    "subscription refused": (after("subscribe", b"\x90\x04ID\x01\x80"), "subscription refused"),
    "SUBACK too short": (after("subscribe", b"\x90\x03ID\x01"), "subscription refused"),
    "SUBACK without codes": (after("subscribe", b"\x90\x02ID"), "bad packet"),
    "SUBACK of another": (after("subscribe", b"\x90\x04\x09\x09\x01\x01"), "no answer"),
    "deaf after SUBACK": (after("up", b""), "no answer"),
    "gone after a message": (after("publish", b"", "leave"), GONE),
    "reset after a message": (after("publish", b"", "reset"), GONE),
    "never acknowledges": (serving(puback=lambda packet_id: []), "no answer"),
    "acknowledges another": (serving(puback=lambda packet_id: [packet_id ^ 1]), "no answer"),
    "loses each third acknowledgement": (serving(puback=lossy(3)), "no answer"),
    "length of five bytes": (after("up", b"\x30\xff\xff\xff\xff\x7f"), "bad length"),
    "longer than is skipped": (after("up", b"\x30\xff\xff\xff\x7f"), "packet of 268435455 bytes"),
    "too long an acknowledgement": (after("up", b"\x40\x81\x20" + bytes(4_097)), "packet of 4097"),
    "acknowledgement of one byte": (after("up", b"\x40\x01\0"), "bad packet"),
    "acknowledgement of three bytes": (after("up", b"\x40\x03\0\x01\0"), "bad packet"),
    "acknowledgement with flags": (after("up", b"\x42\x02\0\x01"), "bad packet"),
    "PINGRESP with a body": (after("up", b"\xd0\x01\0"), "bad packet"),
    "QoS 2": (after("up", b"\x34\x06\0\x01a\0\x01x"), "bad PUBLISH"),
    "QoS 3": (after("up", b"\x36\x06\0\x01a\0\x01x"), "bad PUBLISH"),
    "packet id 0": (after("up", b"\x32\x05\0\x01a\0\0"), "packet id 0"),
    "topic longer than the packet": (after("up", b"\x30\x04\0\x09ab"), "bad PUBLISH"),
    "message of no bytes": (after("up", b"\x30\0"), "bad PUBLISH"),
    "message without its packet id": (after("up", b"\x32\x03\0\x01a"), "bad PUBLISH"),
    "topic that is no text": (after("up", b"\x30\x04\0\x02\xff\xfe"), "bad topic"),
    "too long, topic longer": (after("up", b"\x30\x81\x20\xff" + bytes(4_096)), "bad PUBLISH"),
    "kind 0": (after("up", b"\0\0"), "unexpected packet 0"),
    "kind 15": (after("up", b"\xf0\0"), "unexpected packet 240"),
    "a CONNECT": (after("up", b"\x10\x02\0\0"), "unexpected packet 16"),
    "a second CONNACK": (after("up", CONNACK), "unexpected packet 32"),
    "a PUBREC": (after("up", b"\x50\x02\0\x01"), "unexpected packet 80"),
}  # fmt: skip


def _cut_off():
    """Each packet of a peer, closed and reset in its middle."""
    packets = {
        "CONNACK": ("connect", CONNACK),
        "SUBACK": ("subscribe", SUBACK),
        "a message": ("up", message("down/a", b"1234567890", 5)),
        "a long message": ("up", message("down/a", bytes(6_000), 5)),
        "PUBACK": ("publish", mqtt.puback_packet(65_532)),
    }
    for name, (stage, packet) in packets.items():
        for at in {1, 2, len(packet) // 2, len(packet) - 1}:
            yield f"closes at byte {at} of {name}", (after(stage, packet[:at], "leave"), GONE)
            yield f"resets at byte {at} of {name}", (after(stage, packet[:at], "reset"), GONE)


PEERS = {
    **{name: (behave, "") for name, behave in WELL.items()},
    **ILL,
    **{
        f"refuses with {code}": (after("connect", b"\x20\x02\0" + bytes([code])), f"code {code}")
        for code in (1, 2, 3, 4, 5, 255)
    },
    **dict(_cut_off()),
    "nobody": (None, "ECONNREFUSED"),
}


class Zoo:
    """All peers, each listening; `ports` by name."""

    def __init__(self):
        self.ports = {}
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self):
        self._thread.start()
        assert self._up.wait(20)
        return self

    def __exit__(self, *exc):
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _run(self):
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            for name, (behave, _why) in PEERS.items():
                if behave is None:
                    with socket.create_server(("127.0.0.1", 0)) as closed:
                        self.ports[name] = closed.getsockname()[1]
                    continue
                server = await asyncio.start_server(self._serve(behave), "127.0.0.1", 0)
                stack.callback(server.close)
                self.ports[name] = server.sockets[0].getsockname()[1]
            self._up.set()
            await self._over.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    @staticmethod
    def _serve(behave):
        async def serve(reader, writer):
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                await behave(reader, writer)
            writer.close()

        return serve
