"""Bugs to plant, each of which the cuts must find (test_powerloss.py): a judge that does not find
these finds nothing."""

import session  # noqa: F401  before the firmware: it gives it the same random bytes in every run

from firmware.meter import Meter
from firmware.orders import Orders
from firmware.relay.contactor import Contactor
from firmware.storage import files, journal


def _late_sync():
    """The journal takes a record for written that is in the file's buffer."""
    sync = files.sync
    waiting = []

    def late(file):
        if waiting:
            try:
                sync(waiting.pop())
            except ValueError:
                pass  # it was closed, which wrote it
        waiting.append(file)

    files.sync = late


def _act_first():
    """The contact moves before the decision is on flash."""

    append = Meter.append

    def act_and_append(self, kind, fields, *time):
        if kind == "control":
            self.control.contactor.want(fields["contact"], fields["reason"])
        append(self, kind, fields, *time)

    Meter.append = act_and_append


def _blind_start():
    """A start pulses the relay without looking where the contact is."""
    start = Contactor.start

    def pulse(self, cause):
        start(self, cause)
        self._driver.operate(self._wanted)

    Contactor.start = pulse


def _last_id_only():
    """Of the orders only the last one is known again, and counters are not looked at."""
    find = journal.Journal.find_order

    def find_last(self, order_id):
        found = find(self, order_id)
        return found if found and found["counter"] == self.highest_seen else None

    journal.Journal.find_order = find_last
    apply = Orders.apply

    def forgetful(self, record):
        apply(self, record)
        self._meter.journal.highest_seen = self.highest
        self.highest = 0

    journal.Journal.highest_seen = 0
    Orders.apply = forgetful


def _seldom_checkpoints():
    """The register is on flash with every twentieth checkpoint only."""
    checkpoint = Meter._checkpoint
    count = [0]

    def seldom(self):
        count[0] += 1
        if count[0] % 20 == 0:
            checkpoint(self)

    Meter._checkpoint = seldom


BUGS = {
    "late-sync": _late_sync,
    "act-first": _act_first,
    "blind-start": _blind_start,
    "last-id-only": _last_id_only,
    "seldom-checkpoints": _seldom_checkpoints,
}


def plant(name):
    """Plants the bug of that name, None for none."""
    if name:
        BUGS[name]()
