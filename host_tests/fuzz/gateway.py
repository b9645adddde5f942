"""The gateway's parsers against mutated messages: nothing may come out but what they document.

The same mutations as for the firmware (vm/mutate.py), on real SQLite in a temporary folder.
"""

import json
import logging
import random
import tempfile
import time
import traceback
from pathlib import Path

import sqlalchemy as sa

from firmware.core.records import RECORDS
from firmware.core.records import members as members_of
from firmware.link import codec
from gateway import tables
from gateway.ingest import DROPPED_TOPIC, Ingest
from gateway.live import LiveBoard
from gateway.store import open_store
from gateway.timeservice import TimeService
from gateway.transport import Incoming
from host_tests.fakes.documents import KEY_HEX, tariff_document
from host_tests.fakes.manual_clock import ManualClock
from host_tests.fuzz.vm import mutate

METER = "JH-0001"
NOW_UTC_MS = 1_767_600_000_000

TARIFF_ROW = {"id": "test", "version": 1, "document": "{}", "created_utc_ms": NOW_UTC_MS}
METER_ROW = {
    "id": METER, "consumer": "Asha Devi", "sanctioned_load_w": 1, "key_sealed": b"",
    "broker_hash": "", "counter": 0, "opening_balance_mp": 0, "tariff_id": "test",
    "tariff_version": 1, "settings": '{"live_period_s": 60, "rules": {"grace_s": 0}}',
    "created_utc_ms": NOW_UTC_MS,
}  # fmt: skip


def some_record(kind, seq):
    """A record of the table, as it is sent."""
    record = {"type": kind, "seq": seq, "boot": 2, "utc_s": 1_767_600_000, "time_valid": 1}
    record["up_s"] = 60
    for field, form in members_of(kind):
        if isinstance(form, tuple):
            record[field] = form[0]
        else:
            record[field] = {"text": "r-1", "json": tariff_document()}.get(form, 1)
    return record


def live_values():
    """A message of live values."""
    values = dict.fromkeys(
        (
            "up_s", "utc_s", "voltage_mv", "current_ma", "power_mw", "import_wh", "uncommitted_wh",
            "export_wh", "uncommitted_export_wh", "balance_mp", "grace_s",
            "earliest_cut_utc_s", "waiting",
        ),
        5,
    )  # fmt: skip
    return {
        "v": 1, "store": "9f3a01bc", "boot": 2, "time_valid": 1, "state": "connected",
        "contact": 1, "reason": "", "credit": "in_credit", "tariff": "t", "tariff_version": 1,
        "firmware": "0.1.0", **values,
    }  # fmt: skip


class Nobody:
    """Listeners that hear nothing."""

    def records_stored(self, meter):
        pass

    def order_changed(self, meter):
        pass

    def link_changed(self, meter, online, sure):
        pass


class Messages:
    """What meters send, by any topic: `Ingest.handle`, its effects, and the words of a view."""

    def __init__(self, folder):
        self.store = open_store(folder)
        self.acks = []
        self.ingest = Ingest(
            METER.__eq__,
            LiveBoard(),
            Nobody(),
            lambda *message: self.acks.append(message) or True,
            lambda connection, meter: None,
        )
        self.number = 0
        with self.store.writer.begin() as connection:
            connection.execute(sa.insert(tables.tariffs), TARIFF_ROW)
            connection.execute(sa.insert(tables.meters), METER_ROW)

    def close(self):
        self.store.close()

    def seeds(self):
        self.number += 1
        return [
            codec.encode(message)
            for message in (
                *(
                    {
                        "v": 1,
                        "store": "9f3a01bc",
                        "records": [some_record(kind, self.number), some_record("block", 1)],
                    }
                    for kind in RECORDS
                ),
                live_values(),
                {
                    "v": 1, "id": "r-1", "counter": 3, "result": "accepted", "balance_mp": 1,
                    "highest": 3,
                },
            )
        ] + [b"online"]  # fmt: skip

    def take(self, data):
        leaf = mutate.pick((*codec.LEAVES_UP, "up", "up", "up", "order", "x/y", "\0", ""))
        topic = mutate.pick((codec.topic(METER, leaf), "bijli/1/JH-0002/" + leaf, DROPPED_TOPIC))
        if mutate.below(20) == 0:
            topic = mutate.mutate((topic.encode(),)).decode("utf-8", "replace")
        message = Incoming(topic, data, 1, 1, 1)
        refused = self.ingest.quarantined
        self.acks.clear()
        with self.store.writer.begin() as connection:
            effects = self.ingest.handle(connection, [message], NOW_UTC_MS)
        for effect in effects:
            effect()
        for ack_topic, payload, _qos in self.acks:
            # Only the sender is told, and only of what is stored or kept aside.
            assert ack_topic == codec.topic(METER, "ack") and topic == codec.topic(METER, "up")
            codec.check_ack(payload)
        return self.ingest.quarantined == refused


class Questions:
    """Questions for the time: answered with the nonce that was asked, or counted."""

    def __init__(self, _folder):
        self.sent = []
        self.service = TimeService(
            ManualClock(),
            lambda meter: bytes.fromhex(KEY_HEX) if meter == METER else None,
            lambda *message: self.sent.append(message),
        )

    def close(self):
        pass

    def seeds(self):
        return [codec.encode({"v": 1, "nonce": "a1b2c3d4e5f60718"})]

    def take(self, data):
        topic = codec.topic(METER, "ask")
        if mutate.below(5) == 0:
            topic = mutate.mutate((topic.encode(),)).decode("utf-8", "replace")
        self.sent.clear()
        self.service.ask(Incoming(topic, data, 0, 0, 1))
        for _topic, message, _qos in self.sent:
            payload = codec.open_signed(bytes.fromhex(KEY_HEX), METER, message)
            assert json.loads(payload)["nonce"].isalnum()
        return bool(self.sent)


PARSERS = {"gateway messages": Messages, "gateway time": Questions}


def fuzz(name, seed, inputs, seconds):
    """Runs one parser; a line as run.on_micropython gives them, but growth is not measured: caches
    of SQL statements and lists of recent events fill for thousands of inputs."""
    logging.disable(logging.CRITICAL)  # each refusal is a warning
    ends_s = time.monotonic() + seconds
    number = refused = longest_ms = 0
    with tempfile.TemporaryDirectory(prefix="bijli-fuzz-") as folder:
        parser = PARSERS[name](Path(folder))
        try:
            while number < inputs and time.monotonic() < ends_s:
                random.seed(seed * 1_000_003 + number)
                data = mutate.mutate(parser.seeds())
                began_s = time.monotonic()
                try:
                    refused += parser.take(data) is False
                except Exception:
                    return {
                        "parser": name,
                        "number": number,
                        "input": str(data),
                        "error": traceback.format_exc(),
                    }
                longest_ms = max(longest_ms, int((time.monotonic() - began_s) * 1000))
                number += 1
        finally:
            parser.close()
            logging.disable(logging.NOTSET)
    return {
        "parser": name,
        "inputs": number,
        "refused": refused,
        "longest_ms": longest_ms,
    }
