"""The link's tasks: connect, deliver the journal, send live values, take orders and the time.

The outbox is the journal. A batch of records is sent, then the gateway's acknowledgement, which
follows its commit, is awaited; only then comes the next. What is lost on the way is sent again:
the gateway knows records by their identity. Live values may be lost.

No policy about money: orders go to the meter as they came. All publishing with QoS 1 is done by one
task. A flash that cannot be read and a heap that is full hinder what they hinder, not the rest: a
message that could not be handled counts as `failed` and is not answered, so the gateway sends it
again. Tests: host_tests/system/test_uplink.py.
"""

import asyncio
import binascii
import gc

from firmware.core.shim import const
from firmware.link import codec, names
from firmware.link.mqtt import Client, LinkDown, reason
from firmware.storage.errors import StorageError

BATCH_RECORDS = const(16)
BATCH_BYTES = const(2500)

_READ_RECORDS = const(2)  # dicts held at once; they take more heap than their JSON
_ACK_S = const(30)
_TIME_S = const(10)
# An answer that took longer is off by seconds, perhaps: it will do only where there is no time.
_ROUND_TRIP_MAX_MS = const(3000)
# Without an acknowledgement a batch is sent again after 30 s, doubled up to 15 min: the broker
# keeps what it took, so an absent gateway needs no more.
_RETRY_MIN_S = const(30)
_RETRY_MAX_S = const(900)
_RECONNECT_MAX_S = const(120)
_JOIN_S = const(30)
_TIME_EVERY_S = const(3600)
_TIME_AGAIN_S = const(300)
_ANSWERS_MAX = const(8)
_ROTATE_S = const(30)  # an order's answer goes out before its link settings are tried


class Uplink:
    """The link of one meter.

    set_time(utc_ms, round_trip_ms) takes a checked time; wlan: station interface or None;
    answer(awaitable, timeout_s): the board's; urandom(n).
    """

    def __init__(self, config, meter, set_time, wlan, answer, urandom):
        self._config = config
        self._meter = meter
        self._journal = meter.journal
        self._set_time = set_time
        self._wlan = wlan
        self._answer = answer
        self._urandom = urandom
        self._client = self._make_client()
        self._leaving = False  # other settings are in use than those of the client
        # Made once: after a day there is no free piece of this length in an ESP32's heap.
        self._buffer = bytearray(BATCH_BYTES)
        self._woken = asyncio.Event()
        self._acked = asyncio.Event()
        self._timed = asyncio.Event()
        self._greeted = False
        self._told = ""
        self._answers = []
        self._nonce = None
        self._asked_ms = 0
        self._time_due_up_s = 0
        self._retry_up_s = 0
        self._retry_s = _RETRY_MIN_S
        self._sent_seq = self._journal.acked_seq  # what the gateway can acknowledge
        self._asked_seq = 0  # the last record sent over this connection, 0: none
        self.refused = 0  # messages that are not the gateway's or make no sense
        self.failed = 0  # messages that could not be handled: no memory, no flash
        self.lost_live = 0
        self.lost_answers = 0
        self.resent = 0

    @property
    def connected(self):
        """True while the broker is there and the subscriptions stand."""
        return self._client.connected

    def waiting(self):
        """Records that the gateway has not acknowledged."""
        return self._journal.last_seq - self._journal.acked_seq

    def wake(self):
        """There are new records: send them now."""
        self._woken.set()

    def counters(self):
        """What went wrong since the start, as in `live` (SPEC section 2.2)."""
        client = self._client
        return {
            "connections": client.connections,
            "lost_live": self.lost_live,
            "lost_answers": self.lost_answers,
            "resent": self.resent,
            "refused": self.refused,
            "failed": self.failed,
            "stray": client.stray_packets,
            "oversized": client.oversized,
        }

    async def run(self):
        """Runs the link for ever. What one of its tasks raises ends all of them."""
        tasks = [
            asyncio.create_task(task)
            for task in (self._connect(), self._deliver(), self._live(), self._rotate())
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def _topic(self, leaf):
        return codec.topic(self._config.meter, leaf)

    def _make_client(self):
        config = self._config
        subscribe = [self._topic(leaf) for leaf in codec.LEAVES_DOWN]
        return Client(
            config.broker_host, config.broker_port, config.meter,
            config.broker_user, config.broker_password, (self._topic("link"), b"offline"),
            subscribe, self._came_up, self._take, self._answer,
            ca=config.broker_ca, lookup=None if self._wlan is None else self._find,
        )  # fmt: skip

    # --- connection ----------------------------------------------------------------------------

    async def _connect(self):
        backoff_s = 1
        told = ""
        while True:
            up_s = self._meter.clock.up_s()
            try:
                self._leaving = self._meter.credentials.choose(up_s) or self._leaving
                if self._leaving:
                    self._leave()
                    self._leaving = False
                await self._join()
                await self._client.run_once()
            except LinkDown as error:
                # Once per reason: an outage of weeks must not fill the log.
                if self._greeted or str(error) != told:
                    told = str(error)
                    self._meter.log("link down: " + told)
                self._greeted = False
            self._woken.set()
            self._acked.set()
            self._timed.set()
            if self._meter.clock.up_s() - up_s > _RECONNECT_MAX_S:
                backoff_s = 1
            # Anywhere up to the limit, so that meters do not come back all at once.
            await asyncio.sleep(1 + int.from_bytes(self._urandom(2), "big") % backoff_s)
            backoff_s = min(_RECONNECT_MAX_S, 2 * backoff_s)

    async def _find(self, name):
        """The address of a name, asked of the network's DNS server."""
        number = int.from_bytes(self._urandom(2), "big")
        return await names.resolve(name, self._wlan.ifconfig()[3], self._answer, number)

    async def _rotate(self):
        """Ends the connection when other link settings are to be tried."""
        while True:
            await asyncio.sleep(_ROTATE_S)
            if self._meter.credentials.due(self._meter.clock.up_s()):
                self._client.drop("other settings are tried")

    def _leave(self):
        """The link settings have changed: begins with them from the network on."""
        self._meter.log("link settings: changed to %s" % self._config.broker_host)
        self._client = self._make_client()
        if self._wlan is not None:
            try:
                self._wlan.disconnect()
            except OSError:
                pass  # it was not connected

    async def _join(self):
        wlan = self._wlan
        if wlan is None or wlan.isconnected():
            return
        try:
            wlan.active(True)
            try:
                wlan.connect(self._config.wifi_ssid, self._config.wifi_password)
            except OSError:
                pass  # it is already trying, for instance to come back after a loss
            for _ in range(_JOIN_S):
                if wlan.isconnected():
                    return
                await asyncio.sleep(1)
            wlan.disconnect()
        except OSError as error:  # no memory for the radio, or it was not started
            raise LinkDown("wifi: " + reason(error))
        raise LinkDown("no wifi")

    def _came_up(self):
        self._greeted = False
        self._asked_seq = 0
        self._time_due_up_s = 0
        self._retry_up_s = 0
        self._woken.set()

    # --- towards the gateway -------------------------------------------------------------------

    async def _deliver(self):
        while True:
            await self._woken.wait()
            self._woken.clear()
            if not self.connected:
                continue
            try:
                if not self._greeted:
                    await self._client.publish(self._topic("link"), b"online", 1, True)
                    self._greeted = True
                    self._meter.log("link up")
                await self._send_answers()
                if self._meter.clock.up_s() >= self._time_due_up_s:
                    await self._ask_time()
                await self._drain()
            except LinkDown:
                pass  # the next connection wakes us
            except (MemoryError, StorageError) as error:
                self._hindered("deliver", error)  # tried again with the next live values

    def _hindered(self, what, error):
        gc.collect()
        self._tell("cannot %s for now: %s %s" % (what, type(error).__name__, error))

    def _tell(self, text):
        """Logs what may come again and again: once."""
        if text != self._told:
            self._told = text
            self._meter.log(text)

    async def _send_answers(self):
        while self._answers:
            answer = self._answers[0]
            await self._client.publish(self._topic("answer"), answer, 1)
            if self._answers and self._answers[0] is answer:
                self._answers.pop(0)

    async def _ask_time(self):
        self._time_due_up_s = self._meter.clock.up_s() + _RETRY_MIN_S
        self._nonce = str(binascii.hexlify(self._urandom(8)), "ascii")
        question = codec.encode({"v": codec.VERSION, "nonce": self._nonce})
        self._timed.clear()
        self._asked_ms = self._meter.clock.up_ms()
        await self._client.publish(self._topic("ask"), question, 0)
        try:
            await self._answer(self._timed.wait(), _TIME_S)
        except asyncio.TimeoutError:
            self._time_due_up_s = self._meter.clock.up_s() + _TIME_AGAIN_S
        self._nonce = None

    async def _drain(self):
        while self.waiting() and self._meter.clock.up_s() >= self._retry_up_s:
            payload, last_seq = self._batch()
            if payload is None:
                return
            self._sent_seq = self._asked_seq = last_seq
            await self._client.publish(self._topic("up"), payload, 1)
            payload = None  # not kept while waiting
            if not await self._acknowledged(last_seq) and self._sent_seq == last_seq:
                self.resent += 1
                self._retry_up_s = self._meter.clock.up_s() + self._retry_s
                self._retry_s = min(_RETRY_MAX_S, 2 * self._retry_s)
            await self._send_answers()

    def _batch(self):
        """(payload, number of its last record) of the next batch; (None, 0) if there is none.

        The payload lies in the one buffer, until the next call.
        """
        buffer = self._buffer
        count = 0
        seq = self._journal.acked_seq
        head = b'{"v":%d,"store":"%s","records":[' % (
            codec.VERSION,
            self._journal.store_id.encode(),
        )
        size = len(head)
        buffer[:size] = head
        while count < BATCH_RECORDS:
            records = self._journal.records_after(seq, _READ_RECORDS)
            if not records:
                break
            for record in records:
                part = codec.encode(record)
                fits = size + len(part) + 3 <= BATCH_BYTES  # a comma before it and the end behind
                if not count and not fits:
                    return head + part + b"]}", record["seq"]
                # A batch has no gaps: behind one, which a damage leaves, begins the next batch.
                if count and (not fits or record["seq"] != seq + 1):
                    return self._end_batch(size), seq
                if count:
                    buffer[size] = 0x2C
                    size += 1
                buffer[size : size + len(part)] = part
                size += len(part)
                seq = record["seq"]
                count += 1
        return (self._end_batch(size), seq) if count else (None, 0)

    def _end_batch(self, size):
        self._buffer[size : size + 2] = b"]}"
        return memoryview(self._buffer)[: size + 2]

    async def _acknowledged(self, seq):
        until_up_s = self._meter.clock.up_s() + _ACK_S
        while self._journal.acked_seq < seq:
            self._acked.clear()
            try:
                await self._answer(self._acked.wait(), _ACK_S)
            except asyncio.TimeoutError:
                return False
            if not self.connected:
                raise LinkDown("lost")
            if self._sent_seq < seq:
                break  # a resend was ordered meanwhile
            await self._send_answers()  # orders do not wait for a gateway that stores slowly
            if self._meter.clock.up_s() > until_up_s:
                return self._journal.acked_seq >= seq
        return True

    async def _live(self):
        while True:
            await asyncio.sleep(self._config.live_period_s)
            self._woken.set()  # the clock of whatever is to be tried again
            if not self.connected:
                continue
            try:
                values = self._meter.live()
                values["waiting"] = self.waiting()
                values["link"] = self.counters()
                await self._client.publish(self._topic("live"), codec.encode(values), 0)
            except (LinkDown, MemoryError):
                self.lost_live += 1

    # --- from the gateway ----------------------------------------------------------------------

    def _take(self, topic, payload):
        try:
            leaf = codec.split_topic(topic)[1]
            if leaf == "order":
                self._take_order(payload)
            elif leaf == "ack":
                self._take_ack(payload)
            else:
                self._take_time(payload)
        except codec.CodecError as error:
            self.refused += 1
            self._tell("message refused: %s" % error)
        except (MemoryError, StorageError) as error:
            # Not left to the broker: it would bring the message at each connection, as the first.
            self.failed += 1
            self._hindered("take a message", error)

    def _take_order(self, payload):
        acked_seq = self._journal.acked_seq
        answer = self._meter.handle_order(payload)
        if self._journal.acked_seq < acked_seq:
            # By a resend: what was sent before must not be taken for sent again when its
            # acknowledgement comes.
            self._sent_seq = self._journal.acked_seq
            self._acked.set()
        if answer is None:
            self.refused += 1
            return
        if len(self._answers) >= _ANSWERS_MAX:
            # The gateway asks again with the same id and gets the same answer.
            self._answers.pop(0)
            self.lost_answers += 1
        self._answers.append(codec.encode(answer))
        self._acked.set()  # whoever waits for the gateway sends it meanwhile
        self._woken.set()

    def _take_ack(self, payload):
        store, seq = codec.check_ack(payload)
        if store == self._journal.store_id and seq <= self._sent_seq:
            # The broker may have kept an older one, and orders, of a gateway that is gone since.
            if 0 < self._asked_seq <= seq:
                self._meter.heard()
            self._journal.acknowledge(seq)
            self._retry_s = _RETRY_MIN_S
            self._retry_up_s = 0
            self._acked.set()
            self._woken.set()

    def _take_time(self, payload):
        round_trip_ms = self._meter.clock.up_ms() - self._asked_ms
        opened = self._meter.open_signed(payload)
        if self._nonce is None:
            raise codec.CodecError("nonce", "nothing was asked")
        utc_ms = codec.check_time(opened, self._nonce)
        self._nonce = None
        self._timed.set()
        self._meter.credentials.verified()
        self._meter.heard()
        if round_trip_ms > _ROUND_TRIP_MAX_MS and self._meter.clock.utc_s() is not None:
            return  # asked again after half a minute
        self._time_due_up_s = self._meter.clock.up_s() + _TIME_EVERY_S
        self._set_time(utc_ms + round_trip_ms // 2, round_trip_ms)
