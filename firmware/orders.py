"""Signed orders: checked, decided once, persisted, answered.

Invariants
  - An order takes effect once: an id that the journal knows repeats its first answer, and a counter
    must exceed every counter that was decided on. The highest counter has a floor in NVS.
  - What is refused before its record is written leaves flash and state as they are.
  - The result is on flash before the answer is returned.

One method for each kind of order, in `_KINDS`. docs/SPEC.md section 2.4 is the prose. Tests:
host_tests/unit/test_meter.py, host_tests/unit/test_orders.py.
"""

from firmware.core.config import ConfigError, check_settings
from firmware.core.shim import const
from firmware.core.wallclock import PLAUSIBLE_UTC_S
from firmware.credit import tariff as tariffs
from firmware.link import codec

_PERMIT_S = const(3600)  # how near a permitted step must come to the time of its order


class Orders:
    """The orders of one meter. nvs: as esp32.NVS."""

    def __init__(self, meter, nvs):
        self._meter = meter
        self._nvs = nvs
        self.highest = 0  # counter
        self.refused = 0  # messages that were not the gateway's or cannot be read
        self._permit_s = None  # UTC less uptime to which a clock order permits a large step

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
                result, field = "unsupported", "kind"
            else:
                result, written = decide(self, order)
        except (codec.CodecError, tariffs.TariffError, ConfigError) as error:
            result = "range"
            field = error.field
        if not written:
            self._append("order", order, kind=order["kind"], result=result)
        self._nvs.set_i32("counter", self.highest)
        self._nvs.commit()
        answer = self._answer(order, result, field=field)
        meter.step_rules()
        return answer

    def permits(self, utc_s):
        """True, once, if a clock order permits a large step to `utc_s`."""
        permit_s = self._permit_s
        if permit_s is None or abs(utc_s - self._meter.clock.up_s() - permit_s) > _PERMIT_S:
            return False
        self._permit_s = None
        return True

    def _append(self, record, order, **members):
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

    def _refusal(self, order):
        """`expired` or `time_unknown` for an order that must not be executed now, else None."""
        if "expires_utc_s" not in order:
            return None
        expires_utc_s = codec.integer(order, "expires_utc_s", 0, 0xFFFFFFFF)
        utc_s = self._meter.clock.utc_s()
        if utc_s is None:
            return "time_unknown"
        return "expired" if utc_s > expires_utc_s else None

    # --- the kinds: each returns (result, True if its own record is the answer's) ----------------
    #
    # One with two writes finds the first one done when it comes again after a power cut between
    # them, and is then accepted whatever the time is.

    def _recharge(self, order):
        amount_mp = codec.integer(order, "amount_mp", 1, codec.AMOUNT_MAX_MP)
        self._meter.credit("recharge", order["id"], order["counter"], amount_mp)
        return "accepted", True

    def _tariff(self, order):
        meter = self._meter
        tariff = tariffs.parse(codec.check_document(order.get("document")))
        refusal = self._refusal(order)
        if tariff.document == meter.account.tariff.document:
            return "accepted", False
        if refusal:
            return refusal, False
        utc_s = meter.clock.utc_s()
        if utc_s is not None and tariff.effective_from_utc_s > utc_s:
            raise tariffs.TariffError("effective_from_utc_s", "must not be in the future")
        meter.append("tariff", {"document": tariff.document})
        return "accepted", False

    def _settings(self, order):
        document = check_settings(order.get("document"), self._meter.config)
        refusal = self._refusal(order)
        if refusal:
            return refusal, False
        self._append("settings", order, document=document)
        return "accepted", True

    def _relay(self, order):
        meter = self._meter
        state = order.get("state")
        if state not in ("connected", "disconnected"):
            raise codec.CodecError("state", "must be connected or disconnected")
        off = state == "disconnected"
        if off:
            codec.integer(order, "expires_utc_s", 0, 0xFFFFFFFF)  # needed
            refusal = self._refusal(order)
            if refusal and not meter.ordered_off:
                return refusal, False
        meter.order_contact(off)
        return "accepted", False

    def _arrears(self, order):
        amount_mp = codec.integer(order, "amount_mp", 1, codec.AMOUNT_MAX_MP)
        percent = codec.integer(order, "share_percent", 0, 100)
        self._append("arrears", order, amount_mp=amount_mp, share_percent=percent)
        return "accepted", True

    def _emergency(self, order):
        limit_mp = codec.integer(order, "limit_mp", 0, codec.AMOUNT_MAX_MP)
        self._append("emergency", order, limit_mp=limit_mp)
        return "accepted", True

    def _clock(self, order):
        utc_s = codec.integer(order, "utc_s", PLAUSIBLE_UTC_S[0], PLAUSIBLE_UTC_S[1])
        self._permit_s = utc_s - self._meter.clock.up_s()
        return "accepted", False

    def _resend(self, order):
        journal = self._meter.journal
        if order.get("store") != journal.store_id:
            raise codec.CodecError("store", "must be " + journal.store_id)
        self._meter.resend(codec.integer(order, "seq", 0, journal.last_seq))
        return "accepted", False


_KINDS = {
    "recharge": Orders._recharge,
    "tariff": Orders._tariff,
    "settings": Orders._settings,
    "relay": Orders._relay,
    "arrears": Orders._arrears,
    "emergency": Orders._emergency,
    "clock": Orders._clock,
    "resend": Orders._resend,
}
