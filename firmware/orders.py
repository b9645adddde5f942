"""Signed orders: checked, decided once, persisted, answered.

Invariants
  - An order takes effect once: an id that the journal knows repeats its first answer, and a counter
    must exceed every counter that was decided on. The highest counter has a floor in NVS.
  - The last order is known for ever: one is in flight at a time, so it is the only one whose answer
    may not have arrived when a long outage has pushed its record out of the journal.
  - What is refused before its record is written leaves flash and state as they are.
  - The result is on flash before the answer is returned.

What each kind of order does is in kinds.py. docs/SPEC.md section 2.4 is the prose. Tests:
host_tests/unit/test_orders.py.
"""

from firmware.core import seldom
from firmware.core.config import ConfigError
from firmware.core.records import LEDGER_LOST, ORDERED
from firmware.core.shim import const
from firmware.credit.tariff import TariffError
from firmware.link import codec

_PERMIT_S = const(3600)  # how near a permitted step must come to the time of its order
# Not decided on while records of the ledger are missing.
OF_THE_LEDGER = (
    "recharge",
    "tariff",
    "arrears",
    "adjustment",
    "emergency",
    "mode",
    "account",
)


class Orders:
    """The orders of one meter."""

    def __init__(self, meter):
        self._meter = meter
        self.highest = 0  # counter
        self.last = None  # of the last order: `id`, `result`, `balance_mp` of its answer
        self.refused = 0  # messages that were not the gateway's or cannot be read
        self.permit_s = None  # UTC less uptime to which a clock order permits a large step

    def apply(self, record):
        """Takes a journal record: live after it is written, and at recovery."""
        if record["type"] in ORDERED and record["counter"]:
            self.highest = max(self.highest, record["counter"])
            self.last = {
                "id": record["id"],
                "result": record.get("result", "accepted"),
                "balance_mp": record["balance_mp"],
            }

    def handle(self, message):
        """Decides on a signed order (bytes); returns the answer as a dict, None if it is not the
        gateway's. The result is on flash before this returns."""
        meter = self._meter
        payload = None
        try:
            payload = meter.open_signed(message)
            order = codec.check_order(meter.config.meter, payload)
        except codec.CodecError as error:
            self.refused += 1
            meter.log("order refused: " + str(error))
            if payload is None or error.field not in ("counter", "kind"):
                return None
            # Signed, and its id was checked before these: the gateway is to know.
            order = {"id": codec.decode(payload)["id"], "counter": 0}
            return self._answer(order, "malformed", field=error.field)
        payload = None  # a long one is not kept while the order is executed
        known = meter.journal.find_order(order["id"])
        if not known and self.last and self.last["id"] == order["id"]:
            known = self.last
        if known:
            return self._answer(order, known.get("result", "accepted"), known["balance_mp"])
        if meter.service == LEDGER_LOST and order["kind"] in OF_THE_LEDGER:
            return self._answer(order, "resync_needed")
        if order["counter"] <= self.highest:
            return self._answer(order, "old")
        field = ""
        written = False
        try:
            result, written = _decide(meter, order)
            if result == "unsupported":
                field = "kind"
        except (codec.CodecError, TariffError, ConfigError) as error:
            result = "range"
            field = error.field
        if not written:
            self.append("order", order, kind=order["kind"], result=result)
        answer = self._answer(order, result, field=field)
        meter.step_rules()
        return answer

    def permits(self, utc_s):
        """True, once, if a clock order permits a large step to `utc_s`."""
        permit_s = self.permit_s
        if permit_s is None or abs(utc_s - self._meter.clock.up_s() - permit_s) > _PERMIT_S:
            return False
        self.permit_s = None
        return True

    def append(self, record, order, **members):
        """Persists a record with the id and counter of an order."""
        members["id"] = order["id"]
        members["counter"] = order["counter"]
        self._meter.append(record, members)

    def _answer(self, order, result, balance_mp=None, field=""):
        answer = {
            "v": codec.VERSION,
            "id": order["id"],
            "counter": order["counter"],
            "result": result,
            "balance_mp": self._meter.balance_mp() if balance_mp is None else balance_mp,
            "highest": self.highest,
        }
        if field:
            answer["field"] = field
        return answer


def _decide(meter, order):
    """As `kinds.decide`."""
    from firmware import kinds

    try:
        return kinds.decide(meter, order)
    finally:
        seldom.drop("firmware.kinds")
