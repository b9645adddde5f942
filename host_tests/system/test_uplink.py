"""The meter's uplink with its real journal, mosquitto, and a gateway of a few lines."""

import asyncio
import contextlib
import json
import os
import subprocess
import threading
import time

import paho.mqtt.client as paho
import pytest

from firmware.credentials import Credentials
from firmware.link import codec
from firmware.link import rotation as rotation_module
from firmware.link import uplink as uplink_module
from firmware.link.uplink import BATCH_BYTES, BATCH_RECORDS, Uplink
from firmware.storage import errors as errors_module
from firmware.storage.journal import Journal
from firmware.storage.slots import Slots
from host_tests.fakes.bench import NVS
from host_tests.fakes.interpreters import micropython
from host_tests.system.test_mqtt_client import ROOT, WAIT_S, Broker, free_port

SCRIPT = ROOT / "host_tests" / "vm" / "scripts" / "uplink.py"
METER = "JH-1"
KEY = bytes(32)
UTC_MS = 1_767_600_000_123
DAYS_35 = 35 * 48


class Config:
    meter, key = METER, KEY
    wifi_ssid, wifi_password = "home", "secret"
    broker_host, broker_user, broker_password = "127.0.0.1", METER, "secret"
    broker_ca = ""
    live_period_s = 1

    def __init__(self, port):
        self.broker_port = port


class Clock:
    utc = None

    def __init__(self):
        self.begun_s = time.monotonic()

    def up_ms(self):
        return int((time.monotonic() - self.begun_s) * 1000)

    def up_s(self):
        return self.up_ms() // 1000

    def utc_s(self):
        return self.utc


class Meter:
    """What the uplink sees of a meter."""

    def __init__(self, journal, config, slots=None):
        self.journal = journal
        self.clock = Clock()
        self.orders, self.lines = [], []
        self.events = []
        self.times_heard = 0
        self.credentials = Credentials(
            config, slots, NVS(), lambda *event: self.events.append(event)
        )

    def heard(self):
        self.times_heard += 1

    def open_signed(self, message):
        return self.credentials.open_signed(message)

    def handle_order(self, message):
        self.orders.append(message)
        return {"v": 1, "id": message.decode()} if message != b"forged" else None

    def live(self):
        return {"v": 1, "power_mw": 5}

    def log(self, line):
        self.lines.append(line)


class Wlan:
    """A station that joins at the third look."""

    def __init__(self):
        self.calls, self.looks = [], 0

    def isconnected(self):
        self.looks += 1
        return self.looks > 3

    def active(self, on):
        self.calls.append(("active", on))

    def connect(self, ssid, key):
        self.calls.append(("connect", ssid, key))
        raise OSError("Wifi Internal State Error")


class Gateway:
    """Takes what the meter sends, acknowledges records, answers the question for the time."""

    def __init__(self, port):
        self.messages, self.records = [], []
        self.acknowledges = self.tells_time = True
        self.ack_store = None
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, "gateway")
        self.client.on_message = self._take
        # What the meter sends with QoS 0 reaches only who has subscribed before it.
        subscribed = threading.Event()
        self.client.on_connect = lambda client, *_rest: client.subscribe("bijli/1/+/+", 1)
        self.client.on_subscribe = lambda *_arguments: subscribed.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert subscribed.wait(WAIT_S)

    def send(self, leaf, payload, qos=1):
        self.client.publish(codec.topic(METER, leaf), payload, qos)

    def _take(self, client, userdata, message):
        leaf = codec.split_topic(message.topic)[1]
        if leaf not in codec.LEAVES_UP:
            return
        self.messages.append((leaf, message.payload))
        if leaf == "up":
            batch = codec.decode(message.payload)
            self.records += [codec.check_record(record) for record in batch["records"]]
            if self.acknowledges:
                ack = {"v": 1, "store": self.ack_store or batch["store"], "boot": 1}
                self.send("ack", codec.encode({**ack, "seq": batch["records"][-1]["seq"]}))
        if leaf == "ask" and self.tells_time:
            answer = {"v": 1, "meter": METER, "nonce": codec.decode(message.payload)["nonce"]}
            payload = codec.encode({**answer, "utc_ms": UTC_MS})
            self.send("time", codec.sign(KEY, METER, payload), 0)

    def of(self, leaf):
        return [payload for name, payload in self.messages if name == leaf]

    def stop(self):
        self.client.disconnect()
        self.client.loop_stop()


class Bench:
    """An uplink running with its surroundings."""

    def __init__(self, folder, broker, answer=asyncio.wait_for, wlan=None, slots=None):
        self.journal = Journal(str(folder / "data"), "<Q")
        self.journal.open()
        self.journal.begin_boot()
        self.journal.snapshot({})
        config = Config(broker.port)
        self.meter = Meter(self.journal, config, slots)
        self.times = []
        self.uplink = Uplink(config, self.meter, self._set_time, wlan, answer, os.urandom)

    def _set_time(self, utc_ms, round_trip_ms):
        assert 0 <= round_trip_ms < 2_000
        self.times.append(utc_ms)

    def append(self, count=1, detail=0):
        for _ in range(count):
            fields = {"code": 1, "detail": detail, "import_wh": 0, "balance_mp": 0}
            fields.update(voltage_mv=230_000, current_ma=0)
            self.journal.append("event", fields, 1_767_600_000, True, 1)
        self.uplink.wake()

    async def until(self, condition):
        deadline_s = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline_s, self.meter.lines
            assert not self.task.done(), self.task.exception()
            await asyncio.sleep(0.01)

    def run(self, scenario):
        async def main():
            self.task = asyncio.create_task(self.uplink.run())
            try:
                await scenario()
            finally:
                self.task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self.task
                self.journal.close()

        asyncio.run(main())


@pytest.fixture(autouse=True)
def fast_flash(monkeypatch):
    monkeypatch.setattr(errors_module, "_fsync", None)


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def gateway(broker):
    gateway = Gateway(broker.port)
    yield gateway
    gateway.stop()


async def hasty(awaitable, timeout_s):
    return await asyncio.wait_for(awaitable, timeout_s / 100)


def test_a_backlog_is_delivered_in_order_and_new_records_at_once(tmp_path, broker, gateway):
    bench = Bench(tmp_path, broker)

    async def scenario():
        bench.append(300)
        assert bench.uplink.waiting() == 300
        await bench.until(lambda: bench.uplink.waiting() == 0)
        bench.append()
        await bench.until(lambda: bench.uplink.waiting() == 0)

    bench.run(scenario)
    assert [record["seq"] for record in gateway.records] == list(range(1, 302))
    payloads = gateway.of("up")
    batches = [json.loads(payload) for payload in payloads]
    # Such records are too long for as many as a batch may have: bytes end each but the last of the
    # backlog, and the new one.
    for payload, following in zip(payloads[:-2], batches[1:-1], strict=True):
        assert len(payload) + 1 + len(codec.encode(following["records"][0])) > BATCH_BYTES
    assert len(batches[-1]["records"]) == 1
    assert {batch["store"] for batch in batches} == {bench.journal.store_id}
    assert max(len(payload) for payload in payloads) <= BATCH_BYTES
    assert bench.uplink.resent == 0
    assert gateway.of("link")[:1] == [b"online"]


def test_short_records_end_a_batch_by_their_number(tmp_path, broker, gateway):
    bench = Bench(tmp_path, broker)

    async def scenario():
        for _ in range(40):
            fields = {"kind": "E", "place": "p", "at_up_s": 0, "at_utc_s": 0}
            fields.update(import_wh=0, balance_mp=0)
            bench.journal.append("fault", fields, 0, False, 0)
        bench.uplink.wake()
        await bench.until(lambda: bench.uplink.waiting() == 0)

    bench.run(scenario)
    lengths = [len(json.loads(payload)["records"]) for payload in gateway.of("up")]
    assert lengths == [BATCH_RECORDS, BATCH_RECORDS, 8]


@pytest.mark.parametrize(("length", "count"), [(900, 2), (1_500, 1), (3_000, 1)])
def test_long_records_make_short_batches(tmp_path, broker, gateway, length, count):
    bench = Bench(tmp_path, broker)

    async def scenario():
        for _ in range(8):
            document = {"id": "t", "text": "x" * length}
            fields = {"document": document, "import_wh": 0, "balance_mp": 0}
            bench.journal.append("tariff", fields, 0, False, 0)
        bench.uplink.wake()
        await bench.until(lambda: bench.uplink.waiting() == 0)

    bench.run(scenario)
    assert [r["seq"] for r in gateway.records] == list(range(1, 9))
    assert all(len(json.loads(payload)["records"]) == count for payload in gateway.of("up"))


def test_a_gap_ends_a_batch(tmp_path, broker, gateway):
    bench = Bench(tmp_path, broker)

    async def scenario():
        bench.append(3)
        bench.journal.last_seq += 2  # as a start behind damage does
        bench.append(3)
        await bench.until(lambda: bench.journal.acked_seq == 8)

    bench.run(scenario)
    batches = [[r["seq"] for r in json.loads(p)["records"]] for p in gateway.of("up")]
    assert [r["seq"] for r in gateway.records] == [1, 2, 3, 6, 7, 8]
    assert all(batch == list(range(batch[0], batch[0] + len(batch))) for batch in batches)


def test_a_batch_is_sent_again_until_it_is_acknowledged(tmp_path, broker, gateway, monkeypatch):
    monkeypatch.setattr(uplink_module, "_RETRY_MIN_S", 1)
    bench = Bench(tmp_path, broker, answer=hasty)
    gateway.acknowledges = False

    async def scenario():
        bench.append(3)
        await bench.until(lambda: bench.uplink.resent >= 1)
        assert bench.uplink.waiting() == 3
        gateway.acknowledges = True
        await bench.until(lambda: bench.uplink.waiting() == 0)

    bench.run(scenario)
    assert len(gateway.of("up")) >= 2
    assert len(set(gateway.of("up"))) == 1


def test_a_resend_begins_again_and_a_late_acknowledgement_does_not_end_it(
    tmp_path, broker, gateway
):
    bench = Bench(tmp_path, broker)
    taken = bench.meter.handle_order

    def rewind(message):
        if message == b"resend":
            bench.journal.rewind(10)
        return taken(message)

    bench.meter.handle_order = rewind

    async def scenario():
        bench.append(20)
        await bench.until(lambda: bench.uplink.waiting() == 0)
        gateway.acknowledges = False
        bench.append(5)
        await bench.until(lambda: len(gateway.records) == 25)
        gateway.send("order", b"resend")
        late = {"v": 1, "store": bench.journal.store_id, "boot": 1, "seq": 25}
        gateway.send("ack", codec.encode(late))
        # Sent anew without waiting for the time of a repetition.
        await bench.until(lambda: gateway.records[25:])
        assert bench.journal.acked_seq == 10
        gateway.acknowledges = True
        gateway.send("ack", codec.encode({**late, "seq": gateway.records[-1]["seq"]}))
        await bench.until(lambda: bench.uplink.waiting() == 0)

    bench.run(scenario)
    assert [record["seq"] for record in gateway.records[25:]] == list(range(11, 26))
    assert bench.uplink.resent == 0


def test_an_acknowledgement_for_another_store_counts_for_nothing(tmp_path, broker, gateway):
    bench = Bench(tmp_path, broker, answer=hasty)
    gateway.ack_store = "00000000"

    async def scenario():
        bench.append()
        await bench.until(lambda: bench.uplink.resent >= 1)
        assert bench.journal.acked_seq == 0

    bench.run(scenario)


def test_orders_are_answered_and_forged_ones_are_not(tmp_path, broker, gateway):
    bench = Bench(tmp_path, broker)

    async def scenario():
        await bench.until(lambda: bench.uplink.connected)
        gateway.send("order", b"forged")
        gateway.send("order", b"r-1")
        gateway.send("ack", b"nonsense")
        gateway.send("ack", b'{"v":1,"store":"x","seq":"1"}')
        gateway.send("time", b"nonsense")
        await bench.until(lambda: gateway.of("answer") and bench.uplink.refused == 4)

    bench.run(scenario)
    assert bench.meter.orders == [b"forged", b"r-1"]
    assert [json.loads(answer)["id"] for answer in gateway.of("answer")] == ["r-1"]


def test_an_order_that_waited_is_answered_after_connecting(tmp_path, broker, gateway):
    bench = Bench(tmp_path, broker)

    async def first():
        await bench.until(lambda: bench.uplink.connected)

    bench.run(first)
    gateway.send("order", b"r-2")
    bench = Bench(tmp_path, broker)

    async def second():
        await bench.until(lambda: gateway.of("answer"))

    bench.run(second)
    assert bench.meter.orders == [b"r-2"]


def test_the_time_is_asked_for_and_half_the_way_is_added(tmp_path, broker, gateway):
    bench = Bench(tmp_path, broker)

    async def scenario():
        await bench.until(lambda: bench.times)
        gateway.send("time", codec.sign(KEY, METER, b'{"v":1,"meter":"JH-1","nonce":null}'))
        await bench.until(lambda: bench.uplink.refused == 1)

    bench.run(scenario)
    assert len(bench.times) == 1
    assert UTC_MS <= bench.times[0] < UTC_MS + 2_000


def test_an_answer_to_another_question_does_not_set_the_time(tmp_path, broker, gateway):
    bench = Bench(tmp_path, broker)
    gateway.tells_time = False

    async def scenario():
        await bench.until(lambda: gateway.of("ask"))
        answer = {"v": 1, "meter": METER, "nonce": "00" * 8, "utc_ms": UTC_MS}
        gateway.send("time", codec.sign(KEY, METER, codec.encode(answer)))
        await bench.until(lambda: bench.uplink.refused == 1)

    bench.run(scenario)
    assert bench.times == []


def test_live_values_say_how_much_is_waiting(tmp_path, broker, gateway):
    bench = Bench(tmp_path, broker)
    gateway.acknowledges = False

    async def scenario():
        bench.append(2)
        await bench.until(lambda: gateway.of("live"))

    bench.run(scenario)
    live = json.loads(gateway.of("live")[0])
    counters = live.pop("link")
    assert live == {"v": 1, "power_mw": 5, "waiting": 2}
    assert counters.pop("connections") == 1
    assert len(counters) == 7
    assert not any(counters.values())


def test_wifi_is_joined_first_and_a_restarted_broker_is_met_again(tmp_path, broker, gateway):
    wlan = Wlan()
    bench = Bench(tmp_path, broker, wlan=wlan)

    async def scenario():
        await bench.until(lambda: bench.uplink.connected)
        broker.stop()
        await bench.until(lambda: not bench.uplink.connected)
        bench.append(5)
        broker.start()
        await bench.until(lambda: bench.uplink.connected)
        await bench.until(lambda: bench.uplink.waiting() == 0)

    bench.run(scenario)
    assert wlan.calls == [("active", True), ("connect", "home", "secret")]
    assert {r["seq"] for r in gateway.records} == {1, 2, 3, 4, 5}


def test_a_radio_that_does_not_start_is_tried_again(tmp_path, broker, gateway):
    class Reluctant(Wlan):
        def active(self, on):
            super().active(on)
            if len(self.calls) == 1:
                raise OSError("WiFi Out of Memory")

    wlan = Reluctant()
    bench = Bench(tmp_path, broker, wlan=wlan)
    bench.run(lambda: bench.until(lambda: bench.uplink.connected))
    assert wlan.calls == [("active", True), ("active", True), ("connect", "home", "secret")]
    assert bench.meter.lines[0].startswith("link down: wifi")


def test_weeks_of_records_starve_neither_live_values_nor_answers(tmp_path, broker, gateway):
    """35 days of half hours wait; meanwhile orders come and live values are due each second."""
    bench = Bench(tmp_path, broker)
    done = []

    async def scenario():
        bench.append(DAYS_35)
        await bench.until(lambda: len(gateway.records) > 50)
        for number in range(10):
            before = len(gateway.records)
            gateway.send("order", b"r-%d" % number)
            await bench.until(lambda n=number: len(gateway.of("answer")) > n)
            done.append(len(gateway.records) - before)
        await bench.until(lambda: gateway.of("live"))
        done.append(bench.uplink.waiting())
        await bench.until(lambda: bench.uplink.waiting() == 0)

    bench.run(scenario)
    assert [record["seq"] for record in gateway.records] == list(range(1, DAYS_35 + 1))
    # Each was answered behind the batch that was on its way, and not behind the backlog.
    assert max(done[:10]) <= 4 * BATCH_RECORDS
    assert done[10] > 0
    assert (bench.uplink.lost_live, bench.uplink.resent) == (0, 0)


def test_an_order_is_answered_while_the_gateway_stores_slowly(tmp_path, broker, gateway):
    bench = Bench(tmp_path, broker)
    gateway.acknowledges = False

    async def scenario():
        bench.append(3)
        await bench.until(lambda: gateway.of("up"))
        gateway.send("order", b"r-1")
        await bench.until(lambda: gateway.of("answer"))
        assert bench.uplink.waiting() == 3

    bench.run(scenario)


@pytest.mark.parametrize("error", [MemoryError("no piece"), errors_module.StorageError("read", 5)])
def test_what_cannot_be_handled_hinders_nothing_else(tmp_path, broker, gateway, error):
    bench = Bench(tmp_path, broker)
    handle, read = bench.meter.handle_order, bench.journal.records_after

    def fail(*arguments):
        raise error

    async def scenario():
        bench.meter.handle_order = bench.journal.records_after = fail
        bench.append(3)
        await bench.until(lambda: bench.uplink.connected)
        gateway.send("order", b"r-1")
        await bench.until(lambda: bench.uplink.failed == 1)
        await bench.until(lambda: gateway.of("live"))
        bench.meter.handle_order, bench.journal.records_after = handle, read
        gateway.send("order", b"r-1")
        await bench.until(lambda: gateway.of("answer"))
        await bench.until(lambda: bench.uplink.waiting() == 0)

    bench.run(scenario)
    assert [record["seq"] for record in gateway.records] == [1, 2, 3]
    told = [line for line in bench.meter.lines if line.startswith("cannot ")]
    assert 1 <= len(told) <= 3
    assert type(error).__name__ in told[0]
    assert json.loads(gateway.of("live")[0])["link"]["connections"] == 1


def test_a_time_that_took_long_is_asked_for_again(tmp_path, broker, gateway, monkeypatch):
    monkeypatch.setattr(uplink_module, "_RETRY_MIN_S", 1)
    monkeypatch.setattr(uplink_module, "_ROUND_TRIP_MAX_MS", -1)
    bench = Bench(tmp_path, broker)

    async def scenario():
        bench.meter.clock.utc = 5
        await bench.until(lambda: len(gateway.of("ask")) >= 2)
        assert bench.times == []
        bench.meter.clock.utc = None  # any time is better than none
        await bench.until(lambda: bench.times)

    bench.run(scenario)


@pytest.fixture
def short_trials(monkeypatch):
    monkeypatch.setattr(uplink_module, "_ROTATE_S", 0.05)
    monkeypatch.setattr(rotation_module, "TRY_S", 4)


def test_a_wrong_broker_is_tried_and_the_meter_is_never_cut_off(
    tmp_path, broker, gateway, short_trials
):
    bench = Bench(tmp_path, broker, slots=Slots(str(tmp_path / "keep"), "secrets"))
    credentials = bench.meter.credentials

    async def scenario():
        await bench.until(lambda: bench.times)
        link = credentials.link_in_use()
        link[3] = free_port()
        credentials.try_link(link)
        await bench.until(lambda: credentials.rotation.trying)
        bench.append(5)
        await bench.until(lambda: not credentials.rotation.trying and bench.uplink.connected)
        await bench.until(lambda: bench.uplink.waiting() == 0)

    bench.run(scenario)
    assert bench.meter.events == []
    assert [record["seq"] for record in gateway.records] == [1, 2, 3, 4, 5]
    bench = Bench(tmp_path, broker, slots=Slots(str(tmp_path / "keep"), "secrets"))
    assert bench.meter.credentials.link_in_use()[3] == broker.port


def test_a_right_broker_is_kept_when_the_gateway_is_met_there_and_after_a_restart(
    tmp_path, broker, gateway, short_trials
):
    (tmp_path / "other").mkdir()
    other = Broker(tmp_path / "other")
    other.start()
    there = Gateway(other.port)
    slots = Slots(str(tmp_path / "keep"), "secrets")
    bench = Bench(tmp_path, broker, slots=slots)
    credentials = bench.meter.credentials

    async def scenario():
        await bench.until(lambda: bench.times)
        link = credentials.link_in_use()
        link[3] = other.port
        credentials.try_link(link)
        await bench.until(lambda: credentials.rotation is None)
        bench.append(5)
        await bench.until(lambda: bench.uplink.waiting() == 0)

    async def restarted():
        bench.append()
        await bench.until(lambda: bench.uplink.waiting() == 0)

    try:
        bench.run(scenario)
        assert bench.meter.events == [(1037, 0)]
        assert gateway.records == []
        bench = Bench(tmp_path, broker, slots=slots)
        bench.run(restarted)
        assert {record["seq"] for record in there.records} == {1, 2, 3, 4, 5, 6}
    finally:
        there.stop()
        other.stop()


@pytest.mark.parametrize("bits", [64, 32])
def test_the_same_uplink_drains_a_backlog_on_micropython(tmp_path, broker, gateway, bits):
    # Compiles the sources: how the heap of a meter fares is in host_tests/vm/test_heap.py.
    heap = f"heapsize={256 * bits // 32}k"
    run = subprocess.run(
        [*micropython(bits), "-X", heap, SCRIPT, ROOT, str(broker.port), tmp_path / "data", "200"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    result = json.loads(run.stdout)
    assert [record["detail"] for record in gateway.records] == list(range(200))
    assert (result["resent"], result["refused"]) == (0, 0)
    assert UTC_MS <= result["utc_ms"] < UTC_MS + 2_000
    # 2,500 of them are the batch's buffer, which spares the search for so long a piece later.
    print(result)
    assert result["uplink_bytes"] < 14_000 * bits // 32
