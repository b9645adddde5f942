"""A meter on a flash that is written down, and what the world outside knows of it.

`Session` is one powered stretch of a meter's life: the real Meter, Journal, Orders and RelayDriver
on the real littlefs. Whatever the world sees of it (a record that is on flash, an answer, a moved
contact) goes into the flash's log as a MARK, so `Truth` is known at every entry of the log.
"""

import json
import os
import sys
from binascii import hexlify


class _Os:
    """The module `os` for the firmware, with random bytes that are the same in every run, and
    others behind each erasure."""

    journals = 0  # that were begun before

    def __getattr__(self, name):
        return getattr(os, name)

    def urandom(self, size):
        return bytes(0xA0 + i ^ _Os.journals for i in range(size))


sys.modules["os"] = _Os()  # before anything of the firmware is loaded

import vfs
from flash import IMAGE, MARK, NVS, Flash, mount

from firmware.core import seldom
from firmware.core.config import Config
from firmware.core.sealing import next_key, seal
from firmware.core.wallclock import WallClock
from firmware.credit.account import Account
from firmware.credit.tariff import Tariff
from firmware.link import codec
from firmware.meter import CHECKPOINT_FORMAT, Meter
from firmware.relay.arbitration import TEST
from firmware.relay.driver import RelayDriver
from firmware.storage import faults
from firmware.storage import journal as journal_module
from firmware.storage.slots import Slots

# Nothing is dropped: compiled from source at each start it would be most of the run.
seldom.drop = lambda name: None

MOUNT = "/j"
FOLDER = MOUNT + "/data"
KEEP_FOLDER = MOUNT + "/keep"
RUPEE_MP = 100000
BOOT_BOUND_S = 900
UNDECIDED = ("old", "resync_needed")  # results after which the same order may come again


class Wrong(Exception):
    """The image of a cut was not survived: the text says how."""


# What an event, or the reason of a record of the contact, makes of a want of credit.
_WORDS = {
    1002: "grace",
    1061: "grace",
    1065: "grace",
    1003: "due",
    1004: "in_credit",
    "credit": "cut",
    "partial": "grace",
    "recharge": "in_credit",
    "mode": "in_credit",
    "ledger_lost": "in_credit",
    "undone": "due",
}


class Truth:
    """What the outside knows, and what must therefore hold after a cut here."""

    def __init__(self):
        self.records = []  # as they are sent; append had returned
        self.account = Account()  # they applied
        self.begun = None  # type of the record that is being appended
        self.first_seq = 1  # the oldest that had not been dropped
        self.messages = {}  # order id -> payload; it is signed when it is sent
        self.key = None  # with which the gateway signs; None: that of the configuration
        self.next_key = None  # (order id, key) of a change that is under way
        self.config_key = None  # what config.json has; None: as the settings say
        self.link = None  # broker's host that a change ended with; None: that of the configuration
        self.trial = None  # broker's host of a change that is under way
        self.answers = {}  # order id -> answer; without one it is under way
        self.undecided = {}  # order id -> answer after which the order may come again
        self.paid_mp = 0  # by orders that were sent, and the opening balance
        self.owed_mp = 0  # dues that became arrears: the balance rose by them
        self.counter = 0  # highest that was answered
        self.shown_wh = 0  # `import_wh` of a live message
        self.true_wh = 0  # the register in memory, never above what was consumed
        self.samples = []  # (uptime of all boots in ms, true_wh) of the last quarter of an hour
        self.elapsed_ms = 0
        self.utc_s = 0
        self.grace_s = None
        self.contact = 1
        self.cover = 0  # 1: open
        self.moved_first = False  # it moved before its record was on flash
        self.acked_seq = 0
        self.store_id = None
        self.nvs = {}
        self.lost = False  # records of the ledger are missing, and no resync came yet
        self.journals = 0  # that ended with an erasure

    def copy(self):
        """The same, to go on from."""
        other = Truth()
        for name, value in self.__dict__.items():
            if isinstance(value, (list, dict)):
                value = value.copy()
            setattr(other, name, value)
        other.account = Account()
        other.account.restore(self.account.state())
        return other

    def take(self, entry):
        """Takes an entry of the log."""
        if entry[0] == NVS:
            self.nvs = entry[1]
        elif entry[0] == MARK:
            getattr(self, "_" + entry[1])(*entry[2:])

    def _begins(self, kind):
        self.begun = kind

    def _record(self, wire, first_seq, store_id):
        self.begun = None
        self.first_seq = first_seq
        self.store_id = store_id
        self.records.append(wire)
        self.apply(wire)
        if wire["type"] == "resync":
            self.lost = False
        if wire["type"] in ("event", "control", "settings"):
            self.grace_s = None  # it may have begun anew: the next sample tells
        if wire["type"] == "credit" and wire["kind"] == "opening":
            self.paid_mp += wire["amount_mp"]

    def apply(self, wire):
        """Takes a record into the account."""
        self.account.apply(wire)
        if wire["type"] == "mode" and wire["mode"] == "prepayment":
            self.owed_mp += wire["amount_mp"]
        elif wire["type"] == "account":
            self.owed_mp += wire["document"].get("due_mp", 0)  # not of the next account

    def _failed(self):
        self.begun = None

    def _order(self, order_id, payload, paid_mp):
        if order_id not in self.messages:
            self.paid_mp += paid_mp
        self.messages[order_id] = payload

    def _new_key(self, order_id, key):
        self.next_key = order_id, key

    def _new_link(self, host):
        self.trial = host

    def _link_works(self):
        self.link, self.trial = self.trial, None

    def _answer(self, order_id, answer):
        if answer["result"] in UNDECIDED:
            self.undecided[order_id] = answer
        else:
            self.answers.setdefault(order_id, answer)
            if self.next_key is not None and self.next_key[0] == order_id:
                self.key, self.next_key = self.next_key[1], None
        self.counter = max(self.counter, answer["highest"])

    def _shown(self, import_wh):
        self.shown_wh = max(self.shown_wh, import_wh)

    def _sample(self, span_ms, true_wh, grace_s):
        self.elapsed_ms += span_ms
        self.utc_s += span_ms // 1000
        self.true_wh = true_wh
        self.grace_s = grace_s
        self.samples.append((self.elapsed_ms, true_wh))
        while self.samples[0][0] < self.elapsed_ms - BOOT_BOUND_S * 1000 - 240000:
            self.samples.pop(0)

    def _booted(self, true_wh):
        self.true_wh = true_wh
        self.grace_s = None
        self.samples = [(self.elapsed_ms, true_wh)]

    def _step(self, name):
        pass

    def _erased(self):
        self.journals += 1
        self.records = []
        self.account = Account()
        self.grace_s = None
        self.lost = True
        self._configured()

    def _configured(self):
        """Somebody gives a meter with a blank flash its configuration again."""
        self.config_key = self.key
        self.link = self.trial = self.next_key = None

    def _found(self, records, store_id, import_wh, account, nvs):
        self.__init__()
        self.nvs = nvs
        for record in records:
            self._record(record, records[0]["seq"], store_id)
        self.account.restore(account)
        self.true_wh = self.shown_wh = import_wh
        self.samples = [(0, import_wh)]

    def _off(self, off_s):
        self.utc_s += off_s

    def _opened_cover(self, is_open):
        self.cover = is_open

    def _contact(self, closed):
        self.contact = closed
        self.moved_first = closed != self.decided_contact()

    def decided_contact(self):
        """What the records say of the contact."""
        for record in reversed(self.records):
            if record["type"] in ("relay", "control"):
                return record["contact"]
        return 1

    def decided_causes(self):
        """What the records say that stands, as bits; None: those of older firmware do not say."""
        for record in reversed(self.records):
            if record["type"] == "control":
                return record["standing"]
            if record["type"] == "relay":
                return None
        return 0

    def credit_word(self):
        """How far the records have come with a want of credit."""
        word = "in_credit"
        cuts = 1  # cut_mode
        for record in self.records:
            kind = record["type"]
            if kind == "event":
                ends = record["code"] == 1032 and word != "cut"
                word = "in_credit" if ends else _WORDS.get(record["code"], word)
            elif kind == "settings":
                before, cuts = cuts, record["document"].get("cut_mode", cuts)
                if cuts and not before and word != "cut":
                    word = "in_credit"  # who was only warned gets a grace
            elif kind in ("account", "mode"):
                if word == "cut" and record.get("action") != "opened":
                    continue
                if record.get("mode") != "prepayment":
                    word = "in_credit"
            elif kind in ("relay", "control"):
                word = _WORDS.get(record["reason"], word)
                if word == "cut" and not record.get("standing", 16) & 16:
                    word = "in_credit"  # by order, of a closed account
        return word

    def _acked(self, seq):
        self.acked_seq = max(self.acked_seq, seq)

    def register_ago(self, span_ms):
        """The register in memory `span_ms` ago, or at this boot's start."""
        found = self.samples[0][1] if self.samples else 0
        for at_ms, wh in self.samples:
            if at_ms <= self.elapsed_ms - span_ms:
                found = wh
        return found


class _Nvs:
    """esp32.NVS: what was not committed is lost with the object."""

    def __init__(self, session):
        self._session = session
        self._values = dict(session.truth.nvs)
        self._pending = []

    def get_i32(self, key):
        if not isinstance(self._values.get(key), int):
            raise OSError(-4354)
        return self._values[key]

    def get_blob(self, key, buffer):
        value = self._values.get(key)
        if not isinstance(value, bytes):
            raise OSError(-4354)
        if len(value) > len(buffer):
            raise OSError(-4364)
        buffer[: len(value)] = value
        return len(value)

    def set_i32(self, key, value):
        self._pending.append((key, value))

    def set_blob(self, key, value):
        self._pending.append((key, bytes(value)))

    def erase_key(self, key):
        if key not in self._values:
            raise OSError(-4354)
        self._pending.append((key, None))

    def commit(self):
        # Each key is written for itself: power can fail between two of them.
        while self._pending:
            key, value = self._pending.pop(0)
            if value is None:
                del self._values[key]
            else:
                self._values[key] = value
            self._session.put((NVS, dict(self._values)))


class _Coil:
    def __init__(self, session, closes):
        self._session = session
        self._closes = closes

    def value(self, level):
        if level:
            self._session.operations += 1
            self._session.mark("contact", self._closes)


class _Cover:
    def __init__(self, session):
        self._session = session

    def value(self):
        return self._session.truth.cover


class _Aux:
    def __init__(self, session):
        self._session = session

    def value(self):
        return self._session.truth.contact


class _Journal(journal_module.Journal):
    """The journal, telling the session what is on flash."""

    session = None

    def append(self, name, fields, utc_s, time_valid, up_s):
        session = self.session
        session.mark("begins", name)
        try:
            seq = journal_module.Journal.append(self, name, fields, utc_s, time_valid, up_s)
        except Exception:
            session.mark("failed")
            raise
        wire = {
            "type": name, "seq": seq, "boot": self.boot, "utc_s": utc_s, "time_valid": time_valid,
            "up_s": up_s,
        }  # fmt: skip
        wire.update(fields)
        if isinstance(wire.get("document"), Tariff):
            wire["document"] = wire["document"].document  # on flash it is that
        session.mark("record", wire, int(session.segments()[0][4:], 16), self.store_id)
        return seq


class Session:
    """settings: the dict that the launcher hands over; image: of the flash; truth: what is known
    so far, changed by what happens; log: list that gets every entry."""

    def __init__(self, settings, image, truth, log, show=None):
        self.settings = settings
        self.truth = truth
        self.log = log
        self.flash = Flash(image, log)
        self.operations = 0
        self.hears = True  # the gateway
        self.lines = []
        self.meter = None
        self._show = show
        self._ticks_ms = 2**30 - 5000  # wraps soon

    def put(self, entry):
        """An entry of the log that is not the flash's own."""
        self.log.append(entry)
        self.truth.take(entry)

    def mark(self, *what):
        """Something that the world outside sees."""
        self.put((MARK,) + what)

    # --- power ---------------------------------------------------------------------------------

    def format(self):
        """What a board does with a blank flash."""
        vfs.VfsLfs2.mkfs(self.flash)

    def mount(self):
        """OSError if littlefs finds nothing that it can mount."""
        mount(self.flash, MOUNT)

    def start(self, cause="power", time_known=True):
        """A boot on the mounted flash, as firmware/begin.py does it."""
        self.operations = 0
        self._ticks_ms = 2**30 - 5000
        _Os.journals = self.truth.journals
        values = json.loads(self.settings["config"])
        if self.truth.config_key is not None:
            values["key"] = str(hexlify(self.truth.config_key), "ascii")
        config = Config(values)
        journal = _Journal(FOLDER, CHECKPOINT_FORMAT, **self.settings["sizes"])
        journal.session = self
        relay = RelayDriver("latching", _Coil(self, 1), _Coil(self, 0), _Aux(self), lambda: None)
        nvs = _Nvs(self)
        self.meter = Meter(
            config, journal, WallClock(self._ticks), relay, nvs, 100000, self._line,
            lambda: None, Slots(KEEP_FOLDER, "secrets"), _Cover(self),
        )  # fmt: skip
        rtc_utc_s = self.truth.utc_s if time_known else None
        self.meter.start(cause, rtc_utc_s, faults.kept(nvs), lambda: faults.forget(nvs))
        self.meter.finish_operation()
        self.mark("booted", self.meter.energy.import_wh)

    def stop(self):
        """The power is off. Nothing is written."""
        if self.meter is not None:
            self.meter.journal.close()
            self.meter = None
        vfs.umount(MOUNT)

    def replace(self, image):
        """Somebody puts another content into the flash while the power is off."""
        self.put((IMAGE, bytes(image)))
        self.flash.image[:] = image

    def become(self, image, before, expected, records, account):
        """From here on the meter is one whose flash, NVS and records are these. before: `utc_s`,
        `contact_closed` and `nvs` of the moment when its power failed; expected: what the firmware
        of then made of it; account: state that its snapshot and the records behind it give."""
        # No power can fail in this: the meter's own life begins behind it.
        wh = expected["import_wh"]
        self.mark("found", records, expected["store"], wh, account, before["nvs"])
        self.replace(image)
        self.mark("off", before["utc_s"])
        self.mark("contact", before["contact_closed"])
        for record in records:
            if record["type"] == "credit" and record["kind"] == "recharge":
                self._known_recharge(record)

    def _known_recharge(self, record):
        order = {"v": 1, "meter": "JH-0001", "id": record["id"], "counter": record["counter"]}
        order.update({"kind": "recharge", "amount_mp": record["amount_mp"]})
        self.mark("order", record["id"], codec.encode(order), record["amount_mp"])
        answer = {"result": "accepted", "highest": record["counter"]}
        for member in ("id", "counter", "balance_mp"):
            answer[member] = record[member]
        self.mark("answer", record["id"], answer)

    def crash(self):
        """An unhandled exception: main.py keeps it, and the chip restarts."""
        faults.keep(_Nvs(self), "ValueError", "meter.py:1", 77, self.truth.utc_s)
        self.restart(cause="soft")

    def restart(self, off_s=0, **how):
        """A power cut while nothing is being written, and the next boot."""
        self.meter.journal.close()
        if off_s:
            self.mark("off", off_s)
        self.start(**how)

    def _ticks(self):
        return self._ticks_ms

    def _line(self, text):
        if self._show is not None:
            self._show(text)

    # --- life ----------------------------------------------------------------------------------

    def run(self, seconds, power_w=0, step_s=60):
        """Simulated seconds at 240 V and a power in whole units of 0.3 W, in steps."""
        shunt_raw = power_w * 1000000 // 240 // 1250
        for _ in range(0, seconds, step_s):
            self._ticks_ms = (self._ticks_ms + step_s * 1000) & 0x3FFFFFFF
            meter = self.meter
            if self.hears:
                meter.heard()
            meter.sample(6000, shunt_raw if self.truth.contact else 0, step_s * 1000)
            self.mark("sample", step_s * 1000, meter.energy.import_wh, meter.live()["grace_s"])
            meter.tick(step_s * 1000)
            meter.finish_operation()

    def look(self):
        """The meter looks after the contact twice, as it does behind a start; no time passes."""
        for _ in range(2):
            self.meter.control.contactor.step(0)
            self.meter.finish_operation()

    def show(self):
        """A live message goes out."""
        self.mark("shown", self.meter.live()["import_wh"])

    def acknowledge(self, seq):
        """The gateway has the records up to `seq`."""
        self.mark("acked", seq)
        self.meter.journal.acknowledge(seq)

    def order(self, order_id, counter, kind="recharge", paid_mp=0, **members):
        """The gateway sends an order; returns the answer."""
        order = {"v": 1, "meter": "JH-0001", "id": order_id, "counter": counter, "kind": kind}
        order.update(members)
        return self.send(order_id, codec.encode(order), paid_mp)

    def send_new(self, kind="recharge", paid_mp=0, **members):
        """The same under the next counter, with an id that follows from it."""
        counter = self.meter.orders.highest + 1
        return self.order("n-%d" % counter, counter, kind, paid_mp, **members)

    def set(self, document):
        """The gateway orders settings."""
        self.send_new("settings", document=document)

    def pay(self, amount_mp):
        """Somebody recharges."""
        self.send_new(paid_mp=amount_mp, amount_mp=amount_mp)

    def open_cover(self, is_open):
        """Somebody opens (1) or closes (0) the meter's cover."""
        self.mark("opened_cover", is_open)

    def test_contact(self):
        """An installer tests the contact."""
        word = self.meter.control.begin(TEST, "test")
        if word:
            raise Wrong("no test: " + word)
        self.meter.finish_operation()

    def send(self, order_id, payload, paid_mp=0):
        """The same with the order's payload, signed with the key that the gateway has now."""
        self.mark("order", order_id, payload, paid_mp)
        config = self.meter.config
        message = codec.sign(self.gateway_key(), config.meter, payload)
        answer = self.meter.handle_order(message)
        self.meter.finish_operation()
        if answer is not None:
            self.mark("answer", order_id, answer)
        return answer

    def gateway_key(self):
        """The key with which the gateway signs: the new one once the meter's answer said so."""
        return self.truth.key or self.meter.config.key

    def change_key(self, order_id, counter, salt):
        """The gateway orders the next key."""
        self.mark("new_key", order_id, next_key(self.gateway_key(), salt))
        return self.order(order_id, counter, "key", salt=str(hexlify(salt), "ascii"))

    def change_link(self, order_id, counter, host):
        """The gateway orders another broker."""
        self.mark("new_link", host)
        document = codec.encode({"broker": {"host": host}})
        sealed = seal(self.gateway_key(), bytes(16), document)
        return self.order(order_id, counter, "link", sealed=sealed)

    def link_works(self):
        """The meter connects with the settings on trial, and the gateway answers it the time."""
        credentials = self.meter.credentials
        while not credentials.rotation.trying:
            credentials.choose(self.meter.clock.up_s() + 10000)
        credentials.verified()
        self.mark("link_works")

    def segments(self):
        """Names of the log's files, oldest first."""
        return sorted(name for name in os.listdir(FOLDER) if name[:4] == "log-")

    def records(self):
        """All records of the journal."""
        return self.meter.journal.records_after(0, 1000000)
