"""A small meter over paho for the gateway's tests: a journal, an account, orders as in SPEC 2.4.

Deliberate faults are attributes: `deaf` (answers no orders), `keeps_quiet_on_ack` (forgets
acknowledgements), `send_records` (False: only the test sends).
"""

import json
import secrets
import threading

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from firmware import orders
from firmware.core.sealing import next_key, unseal
from firmware.credit import life
from firmware.credit.account import Account
from firmware.link import codec

TIMEOUT_S = 20
INTERVAL_S = 1800
DAY = {"over_load_min": 12, "cost_mp": 665000}


def span(start_utc_s, length_s, energy_wh, changes, **more):
    """What a day and a month have in common."""
    return {
        "start_utc_s": start_utc_s,
        "end_utc_s": start_utc_s + length_s,
        "energy_wh": energy_wh,
        "energy_export_wh": 0,
        "export_wh": 0,
        "supply_min": length_s // 60 - 90,
        "demand_max_w": 3120,
        "demand_max_utc_s": start_utc_s + 43200,
        **more,
        **changes,
    }


class FakeMeter:
    """One meter, provisioned by the document that the gateway gave out."""

    def __init__(self, config, store=None, utc_s=1_767_600_000):
        self.id = config["meter"]
        self.config = config
        self.key = bytes.fromhex(config["key"])
        self.store = store or secrets.token_hex(4)
        self.boot = 1
        self.utc_s = utc_s
        self.import_wh = 0
        self.account = Account()
        self.journal = []
        self.acked = 0
        self.highest = 0
        self.answers = {}
        self.kinds = (
            "recharge",
            "tariff",
            "settings",
            "relay",
            "arrears",
            "adjustment",
            "emergency",
            "mode",
            "account",
            "key",
            "link",
            "clock",
            "resync",
            "resend",
            "calendar",
        )
        self.old_key = None  # after a change, until the new one was used
        self.forged = 0
        self.ledger_lost = False
        self.link = []  # settings of link orders
        self.answers_lost = 0  # so many answers are not sent
        self.orders = []  # every order that arrived, as a dict
        self.times = []
        self.acks = []
        self.deaf = False
        self.send_records = True
        self.connected = False
        self.refused = None
        self.changed = threading.Condition()
        self._nonce = None
        self._sent_to = 0
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=self.id, clean_session=False)
        client.reconnect_delay_set(1, 1)
        client.username_pw_set(config["broker"]["user"], config["broker"]["password"])
        client.will_set(codec.topic(self.id, "link"), b"offline", 1, retain=True)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        self.client = client
        self.record("tariff", document=config["tariff"])
        self.record(
            "credit",
            kind="opening",
            id="opening",
            counter=0,
            amount_mp=config["opening_balance_mp"],
        )

    # What a test does with it.

    def connect(self):
        """Connect, wait until the subscriptions stand and the journal is acknowledged."""
        self.client.connect(self.config["broker"]["host"], self.config["broker"]["port"], 30)
        self.client.loop_start()
        self.wait_for(lambda: self.connected or self.refused)
        if self.connected and self.send_records:
            self.wait_for(lambda: self.acked >= len(self.journal))
        return self

    def connect_without_waiting(self):
        """Connect; the gateway may die under it."""
        self.client.connect(self.config["broker"]["host"], self.config["broker"]["port"], 30)
        self.client.loop_start()

    def vanish(self):
        """The connection breaks without a goodbye: the broker sends the will."""
        with self.changed:
            self.connected = False
        sock = self.client.socket()
        self.client.loop_stop()
        if sock is not None:
            sock.close()

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()

    def wait_for(self, condition, timeout_s=TIMEOUT_S):
        """Wait until `condition()`; returns its value."""
        with self.changed:
            value = self.changed.wait_for(condition, timeout_s)
        assert value, f"{self.id}: waited in vain"
        return value

    def record(self, type_, **members):
        """Write a record into the journal; balance and register are filled in."""
        record = {
            "seq": len(self.journal) + 1,
            "boot": self.boot,
            "utc_s": self.utc_s,
            "time_valid": 1,
            "up_s": len(self.journal),
            "type": type_,
            **members,
        }
        if type_ != "period":
            record.setdefault("import_wh", self.import_wh)
        self.account.apply(record)
        record.setdefault("balance_mp", self.account.balance_mp(self.import_wh))
        with self.changed:
            self.journal.append(record)
        return record

    def lose_ledger(self):
        """Its journal was erased: a new one, which says so first (SPEC 2.6)."""
        self.store = secrets.token_hex(4)
        self.account = Account()
        self.journal = []
        self.acked = 0
        self.boot = 1
        self.ledger_lost = True
        self.answers.clear()
        self.event(1032, -1)
        self.record("tariff", document=self.config["tariff"])

    def block(self, energy_wh):
        """One load-profile interval, as firmware 0.1.0 wrote it."""
        return self._interval("block", energy_wh, power_max_w=300)

    def load(self, energy_wh):
        """One load-profile interval."""
        return self._interval(
            "load",
            energy_wh,
            energy_export_wh=0,
            voltage_min_mv=228000,
            voltage_max_mv=233000,
            current_min_ma=0,
            current_max_ma=4000,
            over_load_s=60,
        )

    def _interval(self, type_, energy_wh, **more):
        self.import_wh += energy_wh
        self.utc_s += INTERVAL_S
        return self.record(
            type_,
            start_utc_s=self.utc_s - INTERVAL_S,
            length_s=INTERVAL_S,
            energy_wh=energy_wh,
            voltage_mv=230000,
            current_ma=1000,
            supply_s=INTERVAL_S,
            **more,
        )

    def day(self, start_utc_s, energy_wh, **changes):
        """One day that ends at the present register."""
        return self.record("day", **span(start_utc_s, 86400, energy_wh, changes, **DAY))

    def billing(self, start_utc_s, days, energy_wh, **changes):
        """One month that ends at the present register."""
        more = {"power_failures": 7}
        return self.record("billing", **span(start_utc_s, days * 86400, energy_wh, changes, **more))

    def event(self, code, detail=0):
        return self.record("event", code=code, detail=detail, voltage_mv=230000, current_ma=0)

    def flush(self, wait=True):
        """Send what is not acknowledged; wait for the acknowledgement."""
        with self.changed:
            records = self.journal[self.acked :]
        for start in range(0, len(records), codec.MAX_RECORDS):
            self.send_up(records[start : start + codec.MAX_RECORDS])
        if wait:
            last = len(self.journal)
            self.wait_for(lambda: self.acked >= last)

    def send_up(self, records):
        """Send a batch as it is."""
        message = {"v": 1, "store": self.store, "records": records}
        return self.client.publish(codec.topic(self.id, "up"), codec.encode(message), 1)

    def send(self, leaf, payload, qos=1, retain=False):
        return self.client.publish(codec.topic(self.id, leaf), payload, qos, retain)

    def send_live(self, **changes):
        live = {
            "v": 1,
            "store": self.store,
            "boot": self.boot,
            "up_s": len(self.journal),
            "utc_s": self.utc_s,
            "time_valid": 1,
            "voltage_mv": 230000,
            "current_ma": 1000,
            "power_mw": 230000,
            "import_wh": self.import_wh,
            "uncommitted_wh": 0,
            "balance_mp": self.account.balance_mp(self.import_wh),
            "state": "connected",
            "contact": 1,
            "reason": "",
            "credit": "in_credit",
            "grace_s": 86400,
            "earliest_cut_utc_s": 0,
            "tariff": self.config["tariff"]["id"],
            "tariff_version": 1,
            "waiting": len(self.journal) - self.acked,
            "firmware": "0.1.0",
            **changes,
        }
        self.send("live", codec.encode(live), qos=0)

    def ask_time(self):
        """Ask for the time; returns UTC ms of the answer."""
        self._nonce = secrets.token_hex(8)
        count = len(self.times)
        self.send("ask", codec.encode({"v": 1, "nonce": self._nonce}), qos=0)
        self.wait_for(lambda: len(self.times) > count)
        return self.times[-1]

    # Network thread.

    def _on_connect(self, client, _data, _flags, reason, _properties):
        if reason.is_failure:
            with self.changed:
                self.refused = str(reason)
                self.changed.notify_all()
            return
        client.subscribe([(codec.topic(self.id, leaf), 1) for leaf in ("ack", "order")])
        client.subscribe(codec.topic(self.id, "time"), 0)

    def _on_subscribe(self, client, _data, _mid, _reasons, _properties):
        if self.connected:
            return
        client.publish(codec.topic(self.id, "link"), b"online", 1, retain=True)
        with self.changed:
            self.connected = True
            self.changed.notify_all()
        if self.send_records:
            self.flush(wait=False)

    def _on_disconnect(self, *_arguments):
        with self.changed:
            self.connected = False
            self.changed.notify_all()

    def _on_message(self, _client, _data, message):
        _meter, leaf = codec.split_topic(message.topic)
        if leaf == "ack":
            store, seq = codec.check_ack(message.payload)
            with self.changed:
                self.acks.append(json.loads(message.payload))
                if store == self.store:
                    self.acked = max(self.acked, seq)
        elif leaf == "order":
            self._take_order(message.payload)
        elif leaf == "time":
            payload = self._open(message.payload)
            self.times.append(codec.check_time(payload, self._nonce))
        with self.changed:
            self.changed.notify_all()

    def _take_order(self, message):
        try:
            payload = self._open(message)
        except codec.CodecError:
            self.forged += 1
            return
        order = codec.check_order(self.id, payload)
        self.orders.append(order)
        if self.deaf:
            return
        answer = self.answers.get(order["id"])
        if answer is None:
            answer = self._decide(order)
        answer = {**answer, "counter": order["counter"]}
        if self.answers_lost:
            self.answers_lost -= 1
        else:
            self.send("answer", codec.encode(answer))
        if self.send_records:
            self.flush(wait=False)

    def _account_document(self, action, asked):
        """The document of the record that answers an `account` order."""
        account, wh = self.account, self.import_wh
        if action == "opened":
            return {**asked, "start_wh": wh if account.closed else account.begun_wh}
        if "moved_to" in asked:
            return life.moving(account, wh, asked["moved_to"])
        return life.closing(account, wh)

    def _open(self, message):
        """What a signed message holds; the first one under a new key drops the old (SPEC 2.8)."""
        if self.old_key is not None:
            try:
                return codec.open_signed(self.old_key, self.id, message)
            except codec.CodecError:
                payload = codec.open_signed(self.key, self.id, message)
            self.old_key = None
            self.event(1037, 1)
            return payload
        return codec.open_signed(self.key, self.id, message)

    def _decide(self, order):
        answer = {"v": 1, "id": order["id"], "counter": order["counter"]}
        if self.ledger_lost and order["kind"] in orders.OF_THE_LEDGER:
            answer.update(result="resync_needed", highest=self.highest)
            return answer
        if order["counter"] <= self.highest:
            answer.update(result="old", highest=self.highest)
            return answer
        if order["kind"] not in self.kinds:
            answer.update(result="unsupported")
            return answer
        common = {"id": order["id"], "counter": order["counter"]}
        if order["kind"] == "recharge":
            if not 1 <= order["amount_mp"] <= codec.AMOUNT_MAX_MP:
                answer.update(result="range", field="amount_mp")
                return answer
            self.record(
                "credit",
                kind="recharge",
                id=order["id"],
                counter=order["counter"],
                amount_mp=order["amount_mp"],
            )
        elif order["kind"] in ("settings", "calendar"):
            self.record(order["kind"], document=order["document"] or {}, **common)
        elif order["kind"] == "arrears":
            self.record("recovery", at_once=order.get("at_once", 0), **_placed(order), **common)
        elif order["kind"] == "adjustment":
            amount_mp = order["amount_mp"]
            self.record("credit", kind=order["entry"], amount_mp=amount_mp, **common)
        elif order["kind"] == "mode":
            due_mp = max(0, -self.account.balance_mp(self.import_wh))
            placed = _placed({**order, "amount_mp": due_mp})
            self.record("mode", mode=order["mode"], **placed, **common)
        elif order["kind"] == "emergency":
            self.record("emergency", limit_mp=order["limit_mp"], **common)
        elif order["kind"] == "account":
            document = self._account_document(order["action"], order["document"])
            self.record("account", action=order["action"], document=document, **common)
        elif order["kind"] == "resync":
            self.ledger_lost = False
            self.record("resync", document=order["document"], **common)
            self.event(1033)
        else:
            if order["kind"] == "tariff":
                self.record("tariff", document=order["document"])
            self.record("order", kind=order["kind"], result="accepted", **common)
        if order["kind"] == "key":
            self.old_key = self.key
            self.key = next_key(self.key, bytes.fromhex(order["salt"]))
        elif order["kind"] == "link":
            self.link.append(json.loads(unseal(self.key, order["sealed"])))
        elif order["kind"] == "resend" and order["store"] == self.store:
            # As from the beginning: what lies behind `seq` is sent and acknowledged once more.
            self.acked = min(self.acked, order["seq"])
        self.highest = order["counter"]
        answer.update(
            result="accepted",
            balance_mp=self.account.balance_mp(self.import_wh),
            highest=self.highest,
        )
        self.answers[order["id"]] = answer
        return answer


def _placed(order):
    """The members of a record that places arrears."""
    return {
        "amount_mp": order["amount_mp"],
        "share_percent": order.get("share_percent", 0),
        "per_day_mp": order.get("per_day_mp", 0),
    }
