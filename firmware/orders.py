"""Signed orders: checked, decided once, persisted, answered.

Invariants
  - An order takes effect once: an id that the journal knows repeats its first answer, and a counter
    must exceed every counter that was decided on. The highest counter has a floor in NVS.
  - What is refused before its record is written leaves flash and state as they are.
  - The result is on flash before the answer is returned.

One method for each kind of order, in `_KINDS`. docs/SPEC.md section 2.4 is the prose. Tests:
host_tests/unit/test_meter.py, host_tests/unit/test_orders.py.
"""

from firmware.credit import tariff as tariffs
from firmware.link import codec


class Orders:
    """The orders of one meter. nvs: as esp32.NVS."""

    def __init__(self, meter, nvs):
        self._meter = meter
        self._nvs = nvs
        self.highest = 0  # counter
        self.refused = 0  # messages that were not the gateway's

    def take_floor(self):
        """Raises the highest counter to its floor in NVS."""
        try:
            self.highest = max(self.highest, self._nvs.get_i32("counter"))
        except OSError:
            pass  # never written: a new meter

    def apply(self, record):
        """Takes a journal record: live after it is written, and at recovery."""
        if "counter" in record and record["counter"] > self.highest:
            self.highest = record["counter"]

    def handle(self, message):
        """Decides on a signed order (bytes); returns the answer as a dict, None if it is not the
        gateway's. The result is on flash before this returns."""
        meter = self._meter
        try:
            payload = codec.open_signed(meter.config.key, meter.config.meter, message)
            order = codec.check_order(meter.config.meter, payload)
        except codec.CodecError as error:
            self.refused += 1
            meter.log("order refused: " + str(error))
            return None
        known = meter.journal.find_order(order["id"])
        if known:
            return self._answer(order, known.get("result", "accepted"), known["balance_mp"])
        if order["counter"] <= self.highest:
            return self._answer(order, "old")
        field = ""
        written = False
        try:
            decide = _KINDS.get(order["kind"])
            if decide is None:
                result = "unsupported"
            else:
                result, written = decide(self, order)
        except (codec.CodecError, tariffs.TariffError) as error:
            result = "range"
            field = error.field
        if not written:
            meter.append(
                "order",
                {
                    "id": order["id"],
                    "counter": order["counter"],
                    "kind": order["kind"],
                    "result": result,
                },
            )
        self._nvs.set_i32("counter", self.highest)
        self._nvs.commit()
        answer = self._answer(order, result)
        if field:
            answer["field"] = field
        meter.step_rules()
        return answer

    def _answer(self, order, result, balance_mp=None):
        return {
            "v": codec.VERSION,
            "id": order["id"],
            "counter": order["counter"],
            "result": result,
            "balance_mp": self._meter.balance_mp() if balance_mp is None else balance_mp,
            "highest": self.highest,
        }

    # --- the kinds: each returns (result, True if its own record is the answer's) ----------------

    def _recharge(self, order):
        amount_mp = codec.integer(order, "amount_mp", 1, codec.AMOUNT_MAX_MP)
        self._meter.credit("recharge", order["id"], order["counter"], amount_mp)
        return "accepted", True

    def _tariff(self, order):
        meter = self._meter
        tariff = tariffs.parse(codec.check_document(order.get("document")))
        utc_s = meter.clock.utc_s()
        if "expires_utc_s" in order:
            expires_utc_s = codec.integer(order, "expires_utc_s", 0, 0xFFFFFFFF)
            if utc_s is None or utc_s > expires_utc_s:
                return "expired", False
        if utc_s is not None and tariff.effective_from_utc_s > utc_s:
            raise tariffs.TariffError("effective_from_utc_s", "must not be in the future")
        # Sent again after a power cut behind its record it closes nothing.
        if tariff.document != meter.account.tariff.document:
            meter.append("tariff", {"document": tariff.document})
        return "accepted", False


_KINDS = {
    "recharge": Orders._recharge,
    "tariff": Orders._tariff,
}
