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

from firmware.link.mqtt import Client, LinkDown
from host_tests.fakes import zoo_client
from host_tests.fakes.interpreters import micropython, need
from host_tests.fakes.zoo import PEERS, Zoo
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
        "refused": True,
        "handler": "ValueError",
    }
    assert gateway.wait_for(2)[-1][:2] == ("up/link", b"offline")


# --- with the zoo --------------------------------------------------------------------------------

# Of these the client takes note: (acknowledgements that nobody waited for, messages dropped).
NOTED = {
    "acknowledges twice": (6, 0),
    "acknowledges others first": (6, 0),
    "acknowledgement in the segment of others": (12, 0),
    "too long a message": (0, 1),
    "much too long messages": (0, 4),
    "longest that is skipped": (0, 1),
    "too long, in small pieces": (0, 1),
}


@pytest.fixture(scope="module")
def zoo():
    with Zoo() as zoo:
        yield zoo


def judge(results):
    """Each peer was met as the zoo says."""
    for name, (_behave, why) in PEERS.items():
        what, echoed, strays, oversized = results[name]
        if why:
            assert any(part in what for part in why.split("|")), (name, results[name])
        else:
            assert (what, echoed) == ("works", zoo_client.MESSAGES), (name, results[name])
            if name != "acknowledges all the time":
                assert (strays, oversized) == NOTED.get(name, (0, 0)), name


def test_every_peer_of_the_zoo_works_or_ends_with_a_reason(zoo):
    judge(asyncio.run(zoo_client.visit(zoo.ports)))


@pytest.mark.parametrize("bits", [64, 32])
def test_every_peer_of_the_zoo_on_micropython_and_nothing_grows(zoo, bits):
    peers = [f"{name}={port}" for name, port in zoo.ports.items()]
    run = subprocess.run(
        [*micropython(bits), "-X", "heapsize=3m", zoo_client.__file__, ROOT, *peers],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    result = json.loads(run.stdout.splitlines()[-1])
    judge(result["results"])
    first, second = result["heap"]
    assert second - first < 50 * len(PEERS)  # not even a small object for each connection


async def hasty(awaitable, timeout_s):
    """An `answer` for which a second is a hundredth: 20 s pass in 0.2 s."""
    return await asyncio.wait_for(awaitable, timeout_s / 100)


def test_publishers_take_turns(zoo):
    async def scenario():
        meter = Meter(zoo.ports["two bytes at a time"])
        await asyncio.wait_for(meter.up.wait(), WAIT_S)
        await asyncio.gather(
            *(meter.client.publish("up/a", b"%d" % n, 1) for n in range(30)),
            *(meter.client.publish("up/a", b"%d" % n, 0) for n in range(30, 60)),
        )
        while len(meter.messages) < 60:
            await asyncio.sleep(0.01)
        assert sorted(int(m[1]) for m in meter.messages) == list(range(60))
        assert meter.client.stray_packets == 0
        await meter.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("peer", "why"),
    [("gone after a message", "closed by the broker"), ("never acknowledges", "no answer")],
)
def test_a_publisher_is_freed_when_the_connection_ends(zoo, peer, why):
    async def scenario():
        meter = Meter(zoo.ports[peer], answer=hasty)
        await asyncio.wait_for(meter.up.wait(), WAIT_S)
        with pytest.raises(LinkDown):
            await asyncio.wait_for(meter.client.publish("up/a", b"", 1), WAIT_S)
        assert why in await meter.down()

    asyncio.run(scenario())


def test_a_message_that_is_too_long_does_not_come_back_for_ever(broker, gateway):
    async def scenario():
        meter = Meter(broker.port)
        await asyncio.wait_for(meter.up.wait(), WAIT_S)
        await meter.stop()
        gateway.client.publish("down/a", bytes(5_000), 1)
        gateway.client.publish("down/a", b"after it", 1).wait_for_publish(WAIT_S)
        meter = Meter(broker.port)
        await asyncio.wait_for(meter.arrived.wait(), WAIT_S)
        await asyncio.wait_for(meter.up.wait(), WAIT_S)
        assert meter.messages == [("down/a", b"after it")]
        assert meter.client.oversized == 1
        await meter.client.publish("up/a", b"", 1)  # the acknowledgements have gone before it
        await meter.stop()
        meter = Meter(broker.port)
        await asyncio.wait_for(meter.up.wait(), WAIT_S)
        await meter.client.publish("up/a", b"", 1)
        assert meter.client.oversized == 0
        await meter.stop()

    asyncio.run(scenario())
