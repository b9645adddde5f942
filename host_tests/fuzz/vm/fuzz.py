"""Every parser of the firmware against mutated inputs, on MicroPython, with a chip's free heap.

argv: the firmware's folder, host_tests/bench/vm, the meter's configuration, a file for the flash,
seed, inputs for each parser, seconds for each parser, names of parsers (none: all). An input
depends on the seed and its number alone. A parser passes if nothing but the exceptions that it
documents comes out, its invariants hold, and the heap in use after a collection does not grow.
Prints one line of JSON for each parser; `at` lines before it tell where it was, should it hang.
"""

import gc
import json
import os
import random
import struct
import sys
import time

sys.path.insert(0, sys.argv[2])
sys.path.insert(0, sys.argv[1])

import mutate
import parts

SEED, INPUTS, SECONDS = int(sys.argv[5]), int(sys.argv[6]), int(sys.argv[7])
NAMES = sys.argv[8:]
FREE_BYTES, PIECE_BYTES = 25000, 6000  # of an ESP32's heap when the meter runs
TIGHT_EVERY = 20  # inputs: making the heap tight takes 20 times as long as an input
WARM_UP = 100  # inputs until caches and lists have their size

from firmware.core import sealing
from firmware.core.config import Config, ConfigError, read_document
from firmware.core.records import RECORDS, RESULTS
from firmware.core.records import members as members_of
from firmware.credit import charges
from firmware.credit import tariff as tariffs
from firmware.link import codec, mqtt
from firmware.link.uplink import Uplink
from firmware.storage import packing
from firmware.storage.errors import StorageError
from firmware.storage.journal import Journal
from firmware.storage.slots import Slots

with open(sys.argv[3]) as file:
    CONFIG = json.load(file)
RICH_TARIFF = CONFIG.pop("rich_tariff")
KEY = Config(CONFIG).key
METER = CONFIG["meter"]
UTC_S = parts.UTC_S


def some_record(kind):
    """A record of the table, as it is sent."""
    record = {"type": kind, "seq": 7, "boot": 2, "utc_s": UTC_S, "time_valid": 1, "up_s": 60}
    for field, form in members_of(kind):
        if isinstance(form, tuple):
            record[field] = form[0]
        else:
            record[field] = {"text": "r-1", "json": CONFIG["tariff"]}.get(form, 1)
    return record


def order(kind, **members):
    """An order's payload; `fresh` gives it an id and a counter."""
    head = {"v": 1, "meter": METER, "id": "ID", "counter": 777, "kind": kind}
    head.update(members)
    return codec.encode(head)


def orders():
    """A payload of each kind of order in SPEC section 2.4."""
    return [
        order("recharge", amount_mp=100),
        order("tariff", document=CONFIG["tariff"]),
        order("tariff", document=CONFIG["tariff"], expires_utc_s=UTC_S + 9999),
        order("settings", document={"grace_s": 3600, "low_credit_mp": 100}),
        order("relay", state="disconnected", expires_utc_s=UTC_S + 9999),
        order("relay", state="connected"),
        order("arrears", amount_mp=100, share_percent=50),
        order("adjustment", entry="refund", amount_mp=-100),
        order("account", action="closed", document={"moved_to": "JH-0002"}),
        order("account", action="opened", document={"account": "A-2", "balance_mp": 1}),
        order("arrears", amount_mp=100, share_percent=50, per_day_mp=5, at_once=1),
        order("emergency", limit_mp=100),
        order("mode", mode="prepayment", share_percent=50, per_day_mp=5),
        order("key", salt="00112233445566778899aabbccddeeff" * 2),
        order("link", sealed="00112233445566778899aabbccddeeff" * 4),
        order("clock", utc_s=UTC_S),
        order("resync", document={"credits_mp": 1, "import_wh": 1}),
        order("resend", store="00000000", seq=1),
    ]


# --- the parsers: seeds, the exceptions that may come out, one input ------------------------------


class Decode:
    allowed = (codec.CodecError,)

    def seeds(self):
        return orders() + [codec.encode({"v": 1, "records": [some_record("block")]})]

    def take(self, data):
        codec.decode(data)


class Topic:
    allowed = (codec.CodecError,)

    def seeds(self):
        return [codec.topic(METER, leaf).encode() for leaf in codec.LEAVES_UP + codec.LEAVES_DOWN]

    def take(self, data):
        # As it comes out of a PUBLISH.
        try:
            topic = mqtt.parse_publish(0, struct.pack(">H", len(data)) + data)[0]
        except mqtt.ProtocolError:
            return
        codec.split_topic(topic)


class Record:
    allowed = (codec.CodecError,)

    def seeds(self):
        return [codec.encode(dict(some_record(kind), v=1)) for kind in RECORDS]

    def take(self, data):
        codec.check_record(codec.decode(data))


class Signed:
    allowed = (codec.CodecError,)

    def seeds(self):
        return [codec.sign(KEY, METER, payload) for payload in orders()]

    def take(self, data):
        codec.check_order(METER, codec.open_signed(KEY, METER, data))


class Order:
    """Behind the signature."""

    allowed = (codec.CodecError,)

    def seeds(self):
        return orders()

    def take(self, data):
        codec.check_order(METER, data)


class Ack:
    allowed = (codec.CodecError,)

    def seeds(self):
        return [codec.encode({"v": 1, "store": "9f3a01bc", "boot": 1, "seq": 9})]

    def take(self, data):
        codec.check_ack(data)


class Time:
    allowed = (codec.CodecError,)

    def seeds(self):
        return [codec.encode({"v": 1, "meter": METER, "nonce": "a1", "utc_ms": UTC_S * 1000})]

    def take(self, data):
        assert 1704067200000 <= codec.check_time(data, "a1") <= 4102444800000


class Tariff:
    """A tariff that is taken can be charged by, stored and read again."""

    allowed = (codec.CodecError, tariffs.TariffError)

    def seeds(self):
        documents = (CONFIG["tariff"], RICH_TARIFF, {})
        return [codec.encode(dict(document, v=1)) for document in documents]

    def take(self, data):
        tariff = tariffs.parse(codec.check_document(codec.decode(data)))
        for energy_wh in (0, 1, 10**9):
            quantities = charges.Quantities(tariff, energy_wh)
            lines = charges.charge_lines(tariff, quantities)
            assert charges.charge_mp(tariff, quantities) == charges.total_mp(lines)
        members = {"document": tariff.document, "import_wh": 1, "balance_mp": -1}
        again = {}
        assert packing.unpack(*packing.pack("tariff", members), again), "cannot be read again"
        assert tariffs.parse(again["document"]).lines == tariff.lines


class Configuration:
    allowed = (ConfigError,)

    def seeds(self):
        return [json.dumps(CONFIG).encode()]

    def take(self, data):
        with open("/flash/fuzz.json", "wb") as out:
            out.write(data)
        Config(read_document("/flash/fuzz.json"))


class Packed:
    """The payload of a record behind a CRC that is right."""

    allowed = ()

    def seeds(self):
        seeds = []
        for kind in RECORDS:
            record = some_record(kind)
            members = {field: record[field] for field, _form in members_of(kind)}
            code, payload = packing.pack(kind, members)
            seeds.append(bytes((code,)) + payload)
        return seeds

    def take(self, data):
        packing.unpack(data[0] if data else 0, data[1:], {})


class Packets:
    allowed = (mqtt.ProtocolError,)

    def seeds(self):
        publish = mqtt.publish_head(codec.topic(METER, "order"), 5, 7, False) + b"hello"
        return [
            publish,
            publish + publish,
            mqtt.publish_head("t", 300, 0, True) + bytes(300),
            b"\x20\x02\x00\x00",
            b"\x90\x05\x00\x01\x01\x01\x01" + mqtt.PINGREQ_PACKET,
            mqtt.puback_packet(9) + publish,
            b"\x30\xff\xff\xff\x7f",
        ]

    def take(self, data):
        decoder = mqtt.Decoder()
        at = 0
        while at + decoder.need <= len(data):
            assert 1 <= decoder.need <= mqtt.PACKET_MAX
            chunk = data[at : at + decoder.need]
            at += len(chunk)
            packet = decoder.feed(chunk)
            if packet and packet[0] == mqtt.PUBLISH:
                topic, payload, packet_id = mqtt.parse_publish(packet[1], packet[2])
                assert 0 <= packet_id <= 0xFFFF and len(payload) + len(topic) <= at


class Files:
    """The journal's files, one or several of them damaged; then it must work as a journal."""

    allowed = (StorageError,)
    slow = 8
    folder = "/flash/fuzz"

    def journal(self):
        return Journal(self.folder, "<QIiI", 4096, 1024, 1024)

    def seeds(self):
        journal = self.journal()
        journal.open()
        journal.begin_boot()
        journal.snapshot({"state": 1, "text": "x" * 100})
        for number in range(30):
            self.append(journal, number)
            journal.checkpoint((number, 1, 2, UTC_S))
            if number % 12 == 11:
                journal.snapshot({"state": number})
        journal.close()
        self.files = {}
        for name in os.listdir(self.folder):
            with open(self.folder + "/" + name, "rb") as file:
                self.files[name] = file.read()
        return list(self.files.values())

    def append(self, journal, number):
        members = some_record("credit")
        members = {field: members[field] for field, _form in members_of("credit")}
        members["id"] = "r-%d" % number
        return journal.append("credit", members, UTC_S, 1, number)

    def take(self, data):
        for name in os.listdir(self.folder):
            os.remove(self.folder + "/" + name)
        victim = mutate.pick(sorted(self.files))
        for name in self.files:
            content = data if name == victim else self.files[name]
            if mutate.below(8) == 0:
                content = mutate.mutate((content,))
            if mutate.below(20) == 0:
                name = mutate.pick(("log-00000001", "log-zzzzzzzz", "ckpt-a", "ckpt-b", "x"))
            if mutate.below(20):
                with open(self.folder + "/" + name, "wb") as out:
                    out.write(content)
        journal = self.journal()
        try:
            before = 0
            for record in journal.open()[2]:
                assert record["seq"] > before
                before = record["seq"]
            journal.begin_boot()
            seq = self.append(journal, 1000)
            journal.snapshot({"state": 2})
            journal.checkpoint((1, 2, 3, UTC_S))
            assert journal.find_order("r-1000")["seq"] == seq
        finally:
            journal.close()
        journal = self.journal()
        try:
            snapshot, checkpoint, records = journal.open()
            assert list(records) == []
            assert snapshot == {"state": 2} and checkpoint == (1, 2, 3, UTC_S)
            assert journal.last_seq == seq
        finally:
            journal.close()


class Sealed:
    """Wi-Fi, broker and CA in a `link` order."""

    allowed = (sealing.SealError,)

    def seeds(self):
        return [sealing.seal(KEY, bytes(16), plain).encode() for plain in (b"{}", bytes(500))]

    def take(self, data):
        try:
            text = str(data, "utf-8")
        except ValueError:
            return False
        sealing.unseal(KEY, text)


class Kept:
    """A small document in its two slots, one or both of them damaged; then it can be written."""

    allowed = ()
    slow = 4

    def seeds(self):
        self.slots = Slots("/flash/kept", "x")
        self.files = []
        for number in range(2):
            self.slots.write({"number": number, "text": "y" * 100})
            with open("/flash/kept/x-" + "ab"[number], "rb") as file:
                self.files.append(file.read())
        return self.files

    def take(self, data):
        victim = mutate.below(2)
        for slot in (0, 1):
            content = data if slot == victim else self.files[slot]
            if mutate.below(8) == 0:
                content = mutate.mutate((content,))
            with open("/flash/kept/x-" + "ab"[slot], "wb") as out:
                out.write(content)
        document = self.slots.read()
        assert document is None or isinstance(document, dict)
        self.slots.write({"new": 1})
        assert self.slots.read() == {"new": 1}


class AMeter:
    """A meter whose state must not change but by an order that it accepts."""

    allowed = ()
    number = 0

    def seeds(self):
        self.forget()
        return orders()

    def forget(self):
        """A new meter: of the old one the counters may be used up."""
        AMeter.number += 1
        _remove("/flash/data")
        self.meter = parts.make_meter(sys.argv[3], parts.Ticks())
        self.meter.start("power", UTC_S)

    def fresh(self, seeds):
        """The seeds with an id and a counter that were not used yet."""
        counter = self.meter.orders.highest + 1
        if counter > 2000000000 or self.meter.journal.last_seq > 1500:
            self.forget()
            counter = 1
        put = b'"counter":%d' % counter
        name = b"o-%d-%d" % (self.number, self.meter.journal.last_seq)
        return [
            seed.replace(b'"counter":777', put).replace(b'"ID"', b'"' + name + b'"')
            for seed in seeds
        ]

    def state(self):
        """All that a restart would find, but the highest counter and an order's record."""
        state = self.meter._state()
        state.pop("highest")
        state.pop("last_order")
        return json.dumps(state)


class Orders(AMeter):
    """Signed with the right key, whatever it says."""

    def take(self, data):
        meter = self.meter
        before, seq = self.state(), meter.journal.last_seq
        answer = meter.handle_order(codec.sign(meter.config.key, METER, data))
        if answer is None:
            assert meter.journal.last_seq == seq, "a record without an answer"
            assert self.state() == before
            return False
        assert answer["result"] in RESULTS, answer
        codec.decode(codec.encode(answer))
        if answer["result"] == "accepted":
            return True
        assert meter.journal.last_seq <= seq + 1
        assert self.state() == before, "refused, and yet changed: " + answer["result"]
        return False


class Messages(AMeter):
    """What a broker may hand over, by any topic; signatures are wrong or of another time."""

    def forget(self):
        super().forget()
        self.uplink = Uplink(
            self.meter.config, self.meter, parts.nothing, None, parts.nothing, os.urandom
        )

    def seeds(self):
        self.forget()
        stale = codec.sign(KEY, "another", orders()[0])
        return [codec.encode({"v": 1, "store": self.meter.journal.store_id, "seq": 1}), stale] + [
            b"0" * 64 + payload for payload in orders()
        ]

    def take(self, data):
        meter = self.meter
        before, seq = self.state(), meter.journal.last_seq
        leaf = mutate.pick(codec.LEAVES_DOWN + ("up", "x", ""))
        self.uplink._take("bijli/1/" + METER + "/" + leaf, data)
        assert meter.journal.last_seq == seq and self.state() == before


PARSERS = {
    "codec.decode": Decode,
    "codec.split_topic": Topic,
    "codec.check_record": Record,
    "codec.open_signed": Signed,
    "codec.check_order": Order,
    "codec.check_ack": Ack,
    "codec.check_time": Time,
    "tariff.parse": Tariff,
    "config": Configuration,
    "packing.unpack": Packed,
    "mqtt packets": Packets,
    "journal files": Files,
    "slots": Kept,
    "sealing.unseal": Sealed,
    "signed orders": Orders,
    "link messages": Messages,
}


def _remove(folder):
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        os.remove(folder + "/" + name)
    os.rmdir(folder)


def fuzz(name):
    """Runs one parser; returns its line."""
    parser = PARSERS[name]()
    seeds = parser.seeds()
    fresh = getattr(parser, "fresh", None)
    refused = number = longest_ms = 0
    warm_bytes = None
    ends_ms = time.ticks_add(time.ticks_ms(), SECONDS * 1000)
    held = []
    inputs = INPUTS // getattr(parser, "slow", 1)
    while number < inputs and time.ticks_diff(ends_ms, time.ticks_ms()) > 0:
        random.seed(SEED * 1000003 + number)
        data = mutate.mutate(fresh(seeds) if fresh else seeds)
        if number % TIGHT_EVERY == 0:
            held.extend(_ballast())
        began_ms = time.ticks_ms()
        try:
            if parser.take(data) is False:
                refused += 1
        except parser.allowed:
            refused += 1
        except Exception as error:
            held.clear()
            sys.print_exception(error)
            return {"parser": name, "number": number, "input": str(data), "error": repr(error)}
        longest_ms = max(longest_ms, time.ticks_diff(time.ticks_ms(), began_ms))
        held.clear()
        data = None
        number += 1
        if number % 500 == 0:
            print("at", name, number)
        if number == WARM_UP:
            warm_bytes = _used(parser)
    return {
        "parser": name,
        "inputs": number,
        "refused": refused,
        "longest_ms": longest_ms,
        "grown_bytes": 0 if warm_bytes is None else _used(parser) - warm_bytes,
    }


def _used(parser):
    forget = getattr(parser, "forget", None)
    if forget:  # a journal keeps some bytes for each order
        forget()
    gc.collect()
    gc.collect()
    return gc.mem_alloc()


def _ballast():
    """Takes the heap until a meter's free heap is left, in pieces as after days of running."""
    gc.collect()
    holes, pieces = [], []
    for _ in range(FREE_BYTES // PIECE_BYTES):
        holes.append(bytearray(PIECE_BYTES))
        pieces.append(bytearray(1000))  # keeps them apart
    size = 4000
    while size > 60:
        try:
            pieces.append(bytearray(size))
        except MemoryError:  # no free piece is as long
            size //= 2
    holes = None
    gc.collect()
    return pieces


parts.mount(sys.argv[4])
for parser_name in NAMES or PARSERS:
    print(json.dumps(fuzz(parser_name)))
