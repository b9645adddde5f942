"""What was sent to a meter once, or was meant for another, or was forged, changes nothing.

A listener at the broker has kept every message. It plays them again, in any order, to the meter
that took them: running on, after a power cut, after a watchdog's reset, and with an old copy of its
flash put back while NVS stayed. Flash and NVS are compared byte by byte.
"""

import asyncio
import json
import random
import shutil

import pytest

from firmware.link import codec
from firmware.link.uplink import Uplink
from host_tests.fakes.bench import HOUR_S, Bench
from host_tests.fakes.documents import KEY_HEX, tariff_document

METER = "JH-0001"
KEY = bytes.fromhex(KEY_HEX)
OTHER_KEY = bytes(range(32))
RECHARGE_MP = 5_000_000


class Listener:
    """A meter's link as the broker sees it; keeps what was sent down."""

    def __init__(self, bench):
        self.bench = bench
        self.heard = []
        self.uplink = None
        self.connect()

    def connect(self):
        """After each start of the meter."""
        meter = self.bench.meter

        async def made():
            return Uplink(
                meter.config, meter, meter.set_time, None, asyncio.wait_for, random.randbytes
            )

        self.uplink = asyncio.run(made())

    def send(self, leaf, message):
        """By the gateway: heard, and taken by the meter."""
        self.heard.append((codec.topic(METER, leaf), message))
        self.uplink._take(*self.heard[-1])
        self.bench.meter.finish_operation()

    def order(self, number, kind, **members):
        body = {"v": 1, "meter": METER, "id": f"o-{number}", "counter": number, "kind": kind}
        self.send("order", codec.sign(KEY, METER, codec.encode({**body, **members})))

    def acknowledge(self):
        journal = self.bench.meter.journal
        ack = {"v": 1, "store": journal.store_id, "boot": journal.boot, "seq": journal.last_seq}
        self.send("ack", codec.encode(ack))

    def answer_time(self):
        self.uplink._nonce = "a1b2c3d4e5f60718"
        body = {"v": 1, "meter": METER, "nonce": "a1b2c3d4e5f60718"}
        body["utc_ms"] = self.bench.utc_s * 1000
        self.send("time", codec.sign(KEY, METER, codec.encode(body)))

    def replay(self, messages):
        for topic, message in messages:
            self.uplink._take(topic, message)
            self.bench.meter.finish_operation()


def live(bench, listener, numbers):
    """Some days of orders: recharges, tariffs, refused ones, and whatever the meter knows."""
    for number in numbers:
        bench.run(HOUR_S, power_w=600, step_s=2)
        listener.answer_time()
        listener.order(number * 20, "recharge", amount_mp=RECHARGE_MP)
        listener.order(number * 20 + 1, "recharge", amount_mp=0)
        tariff = tariff_document((None, 600_000 + number))
        tariff["version"] = number
        listener.order(number * 20 + 2, "tariff", document=tariff)
        listener.order(number * 20 + 3, "no-such-kind")
        listener.order(number * 20 + 4, "emergency", limit_mp=number)
        listener.order(number * 20 + 5, "arrears", amount_mp=number, share_percent=0)
        listener.order(number * 20 + 6, "settings", document={"low_credit_mp": number})
        listener.order(number * 20 + 7, "relay", state="connected")
        listener.order(number * 20 + 8, "adjustment", entry="adjustment", amount_mp=-number)
        tenant = {"account": f"A-{number}", "balance_mp": number}
        listener.order(number * 20 + 9, "account", action="closed", document={})
        listener.order(number * 20 + 10, "account", action="opened", document=tenant)
        listener.acknowledge()


def stored(bench):
    """All that a restart would find."""
    files = {
        path.relative_to(bench.folder).as_posix(): path.read_bytes()
        for path in bench.folder.rglob("*")
        if path.is_file()
    }
    return files, dict(bench.nvs.kept), bench.contact.closed


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "data")
    yield made
    made.meter.journal.close()


@pytest.fixture
def listener(bench):
    return Listener(bench)


def shuffled(messages):
    mixed = list(messages)
    random.Random(1).shuffle(mixed)
    return mixed


def assert_nothing_changes(bench, listener):
    before, balance_mp = stored(bench), bench.meter.balance_mp()
    utc_s = bench.meter.clock.utc_s()
    for messages in (listener.heard, listener.heard[::-1], shuffled(listener.heard)):
        listener.replay(messages)
        assert stored(bench) == before
        assert bench.meter.balance_mp() == balance_mp
        assert bench.meter.clock.utc_s() == utc_s


@pytest.mark.parametrize("restart", [None, "power", "watchdog", "brownout"])
def test_what_was_taken_once_changes_nothing_again(bench, listener, restart):
    live(bench, listener, (1, 2, 3))
    assert len(bench.records("credit")) == 1 + 2 * 3
    if restart:
        bench.restart(off_s=600, cause=restart)
        listener.connect()
    assert_nothing_changes(bench, listener)
    first = next(message for topic, message in listener.heard if topic.endswith("/order"))
    assert bench.meter.handle_order(first)["result"] == "accepted"  # told again, not done again
    # The meter is not deaf: what is new counts.
    balance_mp = bench.meter.balance_mp()
    listener.order(1000, "recharge", amount_mp=RECHARGE_MP)
    assert bench.meter.balance_mp() == balance_mp + RECHARGE_MP


def test_an_old_flash_image_does_not_make_a_recharge_count_again(bench, listener, tmp_path):
    """The counters' floor is in NVS: of recharges that the old image lacks none is taken twice."""
    live(bench, listener, (1,))
    bench.meter.journal.close()
    shutil.copytree(bench.folder, tmp_path / "old")
    bench.boot(bench.utc_s)
    listener.connect()
    live(bench, listener, (2, 3))
    bench.meter.journal.close()
    shutil.rmtree(bench.folder)
    shutil.copytree(tmp_path / "old", bench.folder)
    bench.boot(bench.utc_s)
    listener.connect()
    assert len(bench.records("credit")) == 1 + 2
    assert_nothing_changes(bench, listener)


def test_an_erased_journal_does_not_make_a_recharge_count_again(bench, listener):
    live(bench, listener, (1, 2))
    bench.meter.journal.close()
    shutil.rmtree(bench.folder)
    bench.boot(bench.utc_s)
    listener.connect()
    before, balance_mp = stored(bench), bench.meter.balance_mp()
    listener.replay(listener.heard)
    assert stored(bench) == before
    assert bench.meter.balance_mp() == balance_mp


def recharge(key=KEY, signed_for=METER, meter=METER, **members):
    body = {"v": 1, "meter": meter, "id": "o-77", "counter": 77, "kind": "recharge"}
    return codec.sign(key, signed_for, codec.encode({**body, "amount_mp": RECHARGE_MP, **members}))


def forgeries():
    """Messages that are nobody's, or another's, order."""
    right = recharge()
    yield from (
        recharge(key=OTHER_KEY),
        recharge(key=OTHER_KEY, signed_for="JH-0002", meter="JH-0002"),
        recharge(signed_for="JH-0002"),
        recharge(signed_for="JH-0002", meter="JH-0002"),
        recharge(meter="JH-0002"),
        right[64:],
        right[:64],
        right[:64].upper() + right[64:],
        right + b" ",
        b" " + right,
        right[:64] + b" " + right[64:],
        right.replace(b"5000000", b"9000000"),
        right + b"x" * 4000,
        b"",
    )
    for at in range(0, len(right), 3):
        yield right[:at]
    for at in range(len(right)):
        yield right[:at] + bytes([right[at] ^ 1]) + right[at + 1 :]


def test_no_forgery_is_taken_answered_or_leaves_a_trace_on_flash(bench, listener):
    live(bench, listener, (1,))
    before, balance_mp = stored(bench), bench.meter.balance_mp()
    refused = bench.meter.orders.refused
    sent = list(forgeries())
    for message in sent:
        assert bench.meter.handle_order(message) is None, message
    assert bench.meter.orders.refused == refused + len(sent)
    assert stored(bench) == before
    assert bench.meter.balance_mp() == balance_mp
    # The log tells of it, without key or signature.
    told = "\n".join(bench.lines)
    assert told.count("order refused") >= len(sent)
    for secret in (KEY_HEX, recharge()[:64].decode(), OTHER_KEY.hex()):
        assert secret not in told
    assert bench.meter.handle_order(recharge())["result"] == "accepted"


def test_another_meters_messages_are_not_this_meters(bench, listener, tmp_path):
    """A broker that mixes up its topics: orders, times and acknowledgements of a neighbour."""
    values = {"meter": "JH-0002", "key": OTHER_KEY.hex()}
    other = Bench(tmp_path / "other", **values)
    live(bench, listener, (1,))
    before = stored(other)
    theirs = Listener(other)
    theirs.replay([(topic.replace(METER, "JH-0002"), m) for topic, m in listener.heard])
    assert stored(other) == before
    assert theirs.uplink.refused >= len(listener.heard) - 1
    other.meter.journal.close()


def test_a_time_answer_counts_once_and_for_its_question_only(bench, listener):
    listener.answer_time()
    bench.run(60)
    utc_s = bench.meter.clock.utc_s()
    listener.uplink._nonce = "0000000000000000"
    listener.replay(listener.heard)
    body = json.loads(listener.heard[-1][1][64:])
    body["nonce"] = "0000000000000000"
    body["utc_ms"] += 3_600_000
    forged = codec.sign(OTHER_KEY, METER, codec.encode(body))
    listener.replay([(codec.topic(METER, "time"), forged)])
    assert bench.meter.clock.utc_s() == utc_s
