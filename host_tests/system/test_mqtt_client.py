"""The meter's MQTT client against mosquitto and faulty peers, on CPython and MicroPython."""

import asyncio
import contextlib
import json
import socket
import subprocess
import threading
import time
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from firmware.link import mqtt
from firmware.link.mqtt import Client, LinkDown
from host_tests.fakes.interpreters import micropython, need
from toolchain import locate

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "host_tests" / "vm" / "scripts" / "mqtt_client.py"
WAIT_S = 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """mosquitto on a port of its own."""

    def __init__(self, folder):
        self.port = free_port()
        self.conf = folder / "mosquitto.conf"
        self.conf.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
        )
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [*need(locate.mosquitto), "-c", self.conf],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline_s = time.monotonic() + WAIT_S
        while time.monotonic() < deadline_s:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)
        raise AssertionError("mosquitto does not listen")

    def stop(self):
        self.process.terminate()
        self.process.wait(WAIT_S)


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.stop()


class Gateway:
    """The other side: a paho client that keeps what it received."""

    def __init__(self, port):
        self.received = []
        self._arrived = threading.Condition()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, "gateway")
        self.client.on_message = self._on_message
        subscribed = threading.Event()
        self.client.on_subscribe = lambda *_arguments: subscribed.set()
        self.client.connect("127.0.0.1", port)
        self.client.subscribe("up/#", 1)
        self.client.loop_start()
        assert subscribed.wait(WAIT_S)

    def _on_message(self, client, userdata, message):
        with self._arrived:
            self.received.append((message.topic, message.payload, message.qos, message.retain))
            self._arrived.notify_all()

    def wait_for(self, count):
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.received) >= count, WAIT_S)
            return self.received

    def stop(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def gateway(broker):
    gateway = Gateway(broker.port)
    yield gateway
    gateway.stop()


class Meter:
    """A client with its events as things to wait for."""

    def __init__(self, port, answer=asyncio.wait_for, **options):
        self.messages = []
        self.up = asyncio.Event()
        self.arrived = asyncio.Event()
        self.client = Client(
            "127.0.0.1", port, "JH-1", "JH-1", "secret", ("up/link", b"offline"),
            ["down/a", "down/b"], self.up.set, self._take, answer, **options,
        )  # fmt: skip
        self.task = asyncio.create_task(self.client.run_once())

    def _take(self, topic, payload):
        self.messages.append((topic, payload))
        self.arrived.set()

    async def down(self):
        """Why the connection ended."""
        with pytest.raises(LinkDown) as down:
            await asyncio.wait_for(self.task, WAIT_S)
        assert not self.client.connected
        return str(down.value)

    async def stop(self):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError, LinkDown):
            await self.task


# --- with mosquitto ------------------------------------------------------------------------------


def test_messages_go_both_ways_and_the_will_is_left(broker, gateway):
    async def scenario():
        meter = Meter(broker.port)
        await asyncio.wait_for(meter.up.wait(), WAIT_S)
        await meter.client.publish("up/link", b"online", 1, True)
        for number in range(50):
            await meter.client.publish("up/n", b"%d" % number, number % 2)
        await meter.client.publish("up/big", bytes(16_000), 1)
        gateway.client.publish("down/a", b"x" * 4_000, 1)
        gateway.client.publish("down/b", b"y", 0)
        gateway.client.publish("down/c", b"not subscribed", 1)
        deadline_s = time.monotonic() + WAIT_S
        while len(meter.messages) < 2 and time.monotonic() < deadline_s:
            await asyncio.sleep(0.01)
        assert sorted(meter.messages) == [("down/a", b"x" * 4_000), ("down/b", b"y")]
        await meter.stop()  # without DISCONNECT

    asyncio.run(scenario())
    received = gateway.wait_for(53)
    assert received[0][:2] == ("up/link", b"online")
    numbers = [int(r[1]) for r in received if r[0] == "up/n"]
    # mosquitto lets QoS 0 overtake QoS 1; each of them is in order.
    for parity in (0, 1):
        assert [n for n in numbers if n % 2 == parity] == list(range(parity, 50, 2))
    assert [len(r[1]) for r in received if r[0] == "up/big"] == [16_000]
    assert received[-1][:2] == ("up/link", b"offline")


def test_what_came_while_away_comes_after_connecting_again(broker, gateway):
    async def scenario():
        meter = Meter(broker.port)
        await asyncio.wait_for(meter.up.wait(), WAIT_S)
        await meter.stop()
        gateway.client.publish("down/a", b"while away", 1).wait_for_publish(WAIT_S)
        meter = Meter(broker.port)
        await asyncio.wait_for(meter.arrived.wait(), WAIT_S)
        assert meter.messages == [("down/a", b"while away")]
        await meter.stop()

    asyncio.run(scenario())


def test_a_message_whose_handling_failed_comes_again(broker, gateway):
    class Failed(Exception):
        pass

    async def scenario():
        meter = Meter(broker.port)

        def failing(topic, payload):
            raise Failed

        meter.client._on_message = failing
        await asyncio.wait_for(meter.up.wait(), WAIT_S)
        gateway.client.publish("down/a", b"order", 1)
        with pytest.raises(Failed):
            await asyncio.wait_for(meter.task, WAIT_S)
        meter = Meter(broker.port)
        await asyncio.wait_for(meter.arrived.wait(), WAIT_S)
        assert meter.messages == [("down/a", b"order")]
        await meter.stop()

    asyncio.run(scenario())


def test_pings_keep_a_silent_connection(broker):
    async def scenario():
        meter = Meter(broker.port, keepalive_s=2)
        await asyncio.wait_for(meter.up.wait(), WAIT_S)
        await asyncio.sleep(4)
        assert meter.client.connected
        await meter.client.publish("up/a", b"", 1)
        await meter.stop()

    asyncio.run(scenario())


def test_a_broker_that_restarts_is_met_again(broker):
    async def scenario():
        meter = Meter(broker.port)
        await asyncio.wait_for(meter.up.wait(), WAIT_S)
        broker.stop()
        assert await meter.down() == "closed by the broker"
        with pytest.raises(LinkDown):
            await meter.client.publish("up/a", b"", 1)
        with pytest.raises(LinkDown, match="ECONNREFUSED"):
            await meter.client.run_once()
        broker.start()
        meter.up.clear()
        meter.task = asyncio.create_task(meter.client.run_once())
        await asyncio.wait_for(meter.up.wait(), WAIT_S)
        assert meter.client.connections == 2
        await meter.client.publish("up/a", b"", 1)
        await meter.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize("bits", [64, 32])
def test_the_same_client_works_on_micropython(broker, gateway, bits):
    def reply(client, userdata, message):
        client.publish("down/a", message.payload, 1)

    gateway.client.message_callback_add("up/echo", reply)
    run = subprocess.run(
        [*micropython(bits), "-X", f"heapsize={110 * bits // 32}k", SCRIPT, ROOT, str(broker.port)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    result = json.loads(run.stdout.splitlines()[-1])
    assert result == {
        "echoes": 100,
        "dropped": "no answer",
        "refused": True,
        "handler": "ValueError",
    }
    assert gateway.wait_for(2)[-1][:2] == ("up/link", b"offline")


# --- with peers that are at fault ----------------------------------------------------------------

CONNACK = b"\x20\x02\0\0"
SUBACK = b"\x90\x04\0\x01\x01\x01"


async def read_packet(reader):
    decoder = mqtt.Decoder()
    while True:
        # The peers read what the client sends, whose limit is not theirs.
        packet = decoder.feed(await reader.readexactly(decoder.need))
        if packet:
            return packet


async def with_peer(behave, scenario, **options):
    """Runs `scenario(meter)` against a peer that runs `behave(reader, writer)`."""

    async def serve(reader, writer):
        with contextlib.suppress(OSError, EOFError):
            await behave(reader, writer)
        with contextlib.suppress(OSError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    meter = Meter(server.sockets[0].getsockname()[1], **options)
    try:
        return await scenario(meter)
    finally:
        await meter.stop()
        server.close()


async def hasty(awaitable, timeout_s):
    """An `answer` for which a second is a hundredth: 20 s pass in 0.2 s."""
    return await asyncio.wait_for(awaitable, timeout_s / 100)


async def ended(meter):
    return await meter.down()


async def wait_forever(reader, writer):
    await reader.read()


async def close_at_once(reader, writer):
    pass


def after_connect(*stream):
    """A peer that sends these bytes after the CONNECT, then stays."""

    async def behave(reader, writer):
        await read_packet(reader)
        for part in stream:
            writer.write(part)
        await wait_forever(reader, writer)

    return behave


def after_subscribe(*stream, suback=SUBACK):
    async def behave(reader, writer):
        await read_packet(reader)
        writer.write(CONNACK)
        await read_packet(reader)
        writer.write(suback)
        for part in stream:
            writer.write(part)
        await wait_forever(reader, writer)

    return behave


@pytest.mark.parametrize(
    ("behave", "why"),
    [
        (wait_forever, "no answer"),
        (close_at_once, "closed by the broker"),
        (after_connect(b"\x20\x02\0\x05"), "refused with code 5"),
        (after_connect(b"\x20\x01\0"), "no CONNACK"),
        (after_connect(SUBACK), "no CONNACK"),
        (after_connect(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "no CONNACK|no answer"),
        (after_connect(CONNACK), "no answer"),
        (after_subscribe(suback=b"\x90\x04\0\x01\x01\x80"), "subscription refused"),
        (after_subscribe(suback=b"\x90\x03\0\x01\x01"), "subscription refused"),
        (after_connect(CONNACK, SUBACK), "no answer"),  # before it was asked for
        (after_subscribe(suback=b"\x90\x04\0\x09\x01\x01"), "no answer"),
        (after_connect(b"\x20\xff\xff\xff\xff\x7f"), "bad length"),
        (after_subscribe(b"\x30\x81\x20" + bytes(4097)), "packet of 4097 bytes"),
        (after_subscribe(b"\x34\x05\0\x01a\0\x01"), "bad PUBLISH"),
        (after_subscribe(b"\x30\x04\0\x09ab"), "bad PUBLISH"),
        (after_subscribe(b"\xf0\x00"), "unexpected packet 240"),
        (after_subscribe(b"\x00\x00"), "unexpected packet 0"),
    ],
)
def test_a_peer_at_fault_ends_the_connection_with_a_reason(behave, why):
    reason = asyncio.run(with_peer(behave, ended, answer=hasty))
    assert any(part in reason for part in why.split("|")), reason


def test_acknowledgements_that_nobody_waited_for_are_counted(monkeypatch):
    async def scenario(meter):
        await asyncio.wait_for(meter.arrived.wait(), WAIT_S)
        assert meter.client.stray_packets == 3
        assert meter.client.connected

    strays = b"\x40\x02\0\x05" + b"\xd0\0" + b"\x90\x03\0\x07\0"
    asyncio.run(with_peer(after_subscribe(strays, b"\x30\x04\0\x01ab"), scenario))


def serving(delay_s=0, chunk=1 << 16, skip_acks=0):
    """A peer that does its work, slowly or in small pieces, and loses some acknowledgements."""

    async def behave(reader, writer):
        lost = skip_acks

        async def send(data):
            for at in range(0, len(data), chunk):
                writer.write(data[at : at + chunk])
                await writer.drain()
                await asyncio.sleep(delay_s)

        while True:
            kind, flags, body = await read_packet(reader)
            if kind == 0x10:
                await send(CONNACK)
            elif kind == 0x80:
                await send(b"\x90\x04" + body[:2] + b"\x01\x01")
            elif kind == mqtt.PUBLISH:
                _topic, payload, packet_id = mqtt.parse_publish(flags, body)
                await send(mqtt.publish_head("down/a", len(payload), packet_id, False) + payload)
                if packet_id and lost:
                    lost -= 1
                elif packet_id:
                    await send(mqtt.puback_packet(packet_id))
            elif kind == 0xC0:
                await send(b"\xd0\0")

    return behave


@pytest.mark.parametrize("chunk", [1, 2, 7])
def test_a_peer_that_sends_in_small_pieces_is_understood(chunk):
    async def scenario(meter):
        await asyncio.wait_for(meter.up.wait(), WAIT_S)
        for number in range(20):
            await meter.client.publish("up/a", b"%d" % number * 20, number % 2)
        while len(meter.messages) < 20:
            await asyncio.sleep(0.01)
        assert [m[1] for m in meter.messages] == [b"%d" % n * 20 for n in range(20)]

    asyncio.run(with_peer(serving(chunk=chunk), scenario))


def test_publishers_take_turns():
    async def scenario(meter):
        await asyncio.wait_for(meter.up.wait(), WAIT_S)
        await asyncio.gather(
            *(meter.client.publish("up/a", b"%d" % n, 1) for n in range(30)),
            *(meter.client.publish("up/a", b"%d" % n, 0) for n in range(30, 60)),
        )
        while len(meter.messages) < 60:
            await asyncio.sleep(0.01)
        assert sorted(int(m[1]) for m in meter.messages) == list(range(60))
        assert meter.client.stray_packets == 0

    asyncio.run(with_peer(serving(chunk=3), scenario))


def test_a_lost_acknowledgement_ends_the_connection():
    async def scenario(meter):
        await asyncio.wait_for(meter.up.wait(), WAIT_S)
        with pytest.raises(LinkDown):
            await meter.client.publish("up/a", b"", 1)
        return await meter.down()

    assert asyncio.run(with_peer(serving(skip_acks=1), scenario, answer=hasty)) == "no answer"


def test_a_peer_that_is_up_but_deaf_is_found_by_the_ping():
    async def scenario(meter):
        await asyncio.wait_for(meter.up.wait(), WAIT_S)
        return await meter.down()

    reason = asyncio.run(with_peer(after_subscribe(), scenario, answer=hasty, keepalive_s=2))
    assert reason == "no answer"


def test_a_publisher_is_freed_when_the_connection_ends():
    async def behave(reader, writer):
        await read_packet(reader)
        writer.write(CONNACK)
        await read_packet(reader)
        writer.write(SUBACK)
        await read_packet(reader)

    async def scenario(meter):
        await asyncio.wait_for(meter.up.wait(), WAIT_S)
        with pytest.raises(LinkDown):
            await asyncio.wait_for(meter.client.publish("up/a", b"", 1), WAIT_S)
        return await meter.down()

    assert asyncio.run(with_peer(behave, scenario)) == "closed by the broker"
