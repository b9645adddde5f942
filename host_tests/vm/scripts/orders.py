"""Run by test_orders_on_micropython.py: orders of the rarer kinds, twice over.

argv: repository root, configuration (JSON file), folder for the journal, sealed link settings.
Prints one line of JSON.
"""

import binascii
import json
import sys
import time

sys.path.insert(0, sys.argv[1])

from firmware.core.config import Config
from firmware.core.sealing import next_key
from firmware.core.wallclock import WallClock
from firmware.link import codec
from firmware.meter import CHECKPOINT_FORMAT, Meter
from firmware.storage.journal import Journal
from firmware.storage.slots import Slots


class Relay:
    busy = False
    latching = True

    def contact(self):
        return None

    def operate(self, contact):
        pass

    def finish(self):
        pass


class NVS:
    def __init__(self):
        self.values = {}

    def get_i32(self, key):
        if key not in self.values:
            raise OSError(-4354)
        return self.values[key]

    def set_i32(self, key, value):
        self.values[key] = value

    def commit(self):
        pass


with open(sys.argv[2]) as file:
    config = Config(json.load(file))
folder = sys.argv[3]
meter = Meter(
    config,
    Journal(folder + "/data", CHECKPOINT_FORMAT),
    WallClock(time.ticks_ms),
    Relay(),
    NVS(),
    100000,
    lambda line: None,
    lambda: None,
    Slots(folder + "/keep", "secrets"),
)
meter.start("power", 1767600000)

SALT = bytes(range(32))
key = config.key
new_key = next_key(key, SALT)
answers = []
counter = 0


def order(key, kind, members):
    global counter
    counter += 1
    members.update({"v": 1, "meter": "JH-0001", "id": kind + str(counter)})
    members.update({"counter": counter, "kind": kind})
    answer = meter.handle_order(codec.sign(key, "JH-0001", codec.encode(members)))
    answers.append((kind, answer and answer["result"]))


for _ in range(2):
    order(key, "settings", {"document": {"grace_s": 5}})
    order(key, "settings", {"document": {"nonsense": 5}})
    order(key, "relay", {"state": "disconnected", "expires_utc_s": 1767700000})
    order(key, "relay", {"state": "connected"})
    order(key, "link", {"sealed": sys.argv[4]})
    order(key, "key", {"salt": str(binascii.hexlify(SALT), "ascii")})
chosen = meter.credentials.choose(0)
meter.credentials.verified()
order(new_key, "recharge", {"amount_mp": 5})
order(key, "recharge", {"amount_mp": 5})
print(json.dumps({"answers": answers, "chosen": chosen, "host": config.broker_host}))
