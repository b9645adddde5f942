"""What the HTTP API takes and gives, with the words and examples of its OpenAPI document.

Numbers are strict integers whose refusal names the whole allowed range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from gateway import kinds, meters

LIMIT_MAX = 1_000
UTC_S_MAX = 0xFFFFFFFF

TARIFF_EXAMPLE: dict[str, Any] = {
    "id": "jbvnl-urban",
    "version": 1,
    "currency": "INR",
    "effective_from_utc_s": 1746037800,
    "lines": [
        {
            "name": "energy",
            "shape": "telescopic",
            "slabs": [{"up_to_kwh": None, "rate_mp_per_kwh": 685000}],
        }
    ],
}


def integer(low: int, high: int, text: str, digits: bool = False) -> Any:
    """The type of an integer from `low` to `high`; `digits`: also as text, for query parameters."""

    def check(value: Any) -> int:
        if digits and isinstance(value, str) and value.lstrip("-").isdigit() and len(value) < 20:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be an integer from {low} to {high}")
        return value

    schema = {"type": "integer", "minimum": low, "maximum": high, "description": text}
    return Annotated[int, BeforeValidator(check), WithJsonSchema(schema)]


if TYPE_CHECKING:  # for mypy they are what they hold
    SanctionedLoad: TypeAlias = int
    OpeningBalance: TypeAlias = int
    Amount: TypeAlias = int
    AmountOrNone: TypeAlias = int
    SignedAmount: TypeAlias = int
    ReadingOrNone: TypeAlias = int
    Share: TypeAlias = int
    Flag: TypeAlias = int
    Sequence: TypeAlias = int
    ClockTime: TypeAlias = int
    UtcSeconds: TypeAlias = int
    Since: TypeAlias = int
    Until: TypeAlias = int
    Limit: TypeAlias = int
else:
    SanctionedLoad = integer(
        meters.SANCTIONED_LOAD_MIN_W, meters.SANCTIONED_LOAD_MAX_W, "Sanctioned load in W"
    )
    OpeningBalance = integer(
        -kinds.AMOUNT_MAX_MP, kinds.AMOUNT_MAX_MP, "Opening balance in milli-paise"
    )
    Amount = integer(kinds.AMOUNT_MIN_MP, kinds.AMOUNT_MAX_MP, "Amount in milli-paise")
    AmountOrNone = integer(0, kinds.AMOUNT_MAX_MP, "Amount in milli-paise, 0 for none")
    SignedAmount = integer(
        -kinds.AMOUNT_MAX_MP,
        kinds.AMOUNT_MAX_MP,
        "Change of the balance in milli-paise, not 0; below 0 for a refund",
    )
    ReadingOrNone = integer(0, 0x7FFFFFFF, "Register in Wh")
    Share = integer(0, kinds.SHARE_MAX, "Per cent of each recharge")
    Flag = integer(0, 1, "1: yes")
    Sequence = integer(0, 0xFFFFFFFF, "Number of a record")
    ClockTime = integer(kinds.CLOCK_MIN_UTC_S, kinds.CLOCK_MAX_UTC_S, "UTC seconds since 1970")
    UtcSeconds = integer(1, UTC_S_MAX, "UTC seconds since 1970")
    Since = integer(0, UTC_S_MAX, "UTC seconds, inclusive", digits=True)
    Until = integer(0, UTC_S_MAX, "UTC seconds, exclusive", digits=True)
    Limit = integer(1, LIMIT_MAX, "At most so many, the newest", digits=True)


@dataclass
class Span:
    """Which records are asked for, by their time."""

    since: Since = 0
    until: Until = UTC_S_MAX
    limit: Limit = 100


@dataclass
class Explained:
    """Between which moments a balance is explained."""

    since: Since | None = None
    until: Until | None = None


def _kinds(union: Any) -> tuple[str, ...]:
    """The values of `kind` by which the models of a union are told apart."""
    return tuple(get_args(model.model_fields["kind"].annotation)[0] for model in get_args(union))


class Strict(BaseModel):
    """Unknown members are refused: a misspelt one must not be ignored silently."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Wifi(Strict):
    """The network that the meter joins."""

    ssid: str = Field(default="bijli", description="1 to 32 characters")
    password: str = Field(
        default="", repr=False, description="0 to 63 characters; empty for an open network"
    )


class NewMeter(Strict):
    """A meter to register. Members that are left out get the firmware's defaults."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "JH-0001",
                    "consumer": "Asha Devi",
                    "phone": "+919876543210",
                    "sanctioned_load_w": 2000,
                    "tariff": TARIFF_EXAMPLE,
                    "opening_balance_mp": 10_000_000,
                }
            ]
        }
    )

    id: str = Field(description="1 to 24 characters of A-Z a-z 0-9 - _")
    consumer: str = Field(description="Name of the consumer, 1 to 80 characters")
    phone: str | None = Field(None, description="10 to 15 digits, with or without + in front")
    sanctioned_load_w: SanctionedLoad = 2000
    tariff: dict[str, Any] = Field(description="Tariff document, docs/SPEC.md section 3")
    opening_balance_mp: OpeningBalance = 0
    wifi: Wifi = Wifi()
    utc_offset_s: int | None = Field(None, description="Local time minus UTC in s, 19800 for India")
    voltage_ratio_x1000: int | None = Field(None, description="Voltage ratio, thousandths")
    current_ratio_x1000: int | None = Field(None, description="Current ratio, thousandths")
    basic_current_ma: int | None = Field(None, description="Basic current Ib in mA")
    sample_period_ms: int | None = Field(None, description="Sampling period in ms")
    live_period_s: int | None = Field(None, description="Period of live values in s")
    block_min: int | None = Field(None, description="Interval of load profile and demand in min")
    export_counts: int | None = Field(
        None, description="0: forwarded only, all energy is import; 1: import and export apart"
    )
    commissioning: int | None = Field(
        None, description="1: nothing is cut until an order `relay` puts it into service"
    )
    metering: dict[str, int] = Field(
        default_factory=dict, description="Any of " + ", ".join(meters.METERING)
    )
    rules: dict[str, int] = Field(
        default_factory=dict,
        description="Any of " + ", ".join(meters.RULES),
    )
    calendar: dict[str, Any] | None = Field(
        None, description="Calendar document, docs/SPEC.md section 2.9; left out: by the rules"
    )
    replace: bool = Field(
        False,
        description="Register anew, with new secrets, a meter of which nothing was ever heard",
    )

    def registration(self) -> meters.Registration:
        """The same for `Meters.register`."""
        given = {name: getattr(self, name) for name in meters.SETTINGS}
        return meters.Registration(
            meter=self.id,
            consumer=self.consumer,
            phone=self.phone,
            sanctioned_load_w=self.sanctioned_load_w,
            tariff=self.tariff,
            opening_balance_mp=self.opening_balance_mp,
            wifi=self.wifi.model_dump(),
            settings={name: value for name, value in given.items() if value is not None},
            rules=self.rules,
            metering=self.metering,
            calendar=self.calendar,
        )


class NewRecharge(Strict):
    """An amount: exactly one of the two members."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"rupees": "500.00"}, {"amount_mp": 50_000_000}]}
    )

    amount_mp: Amount | None = None
    rupees: str | None = Field(
        None, description="Amount in rupees as text with at most 2 decimals, 0.01 to 100000.00"
    )


class NewTariff(Strict):
    """A tariff to send to a meter."""

    document: dict[str, Any] = Field(description="Tariff document, docs/SPEC.md section 3")
    expires_utc_s: UtcSeconds | None = None


class TariffOrder(NewTariff):
    """As POST /api/meters/{meter}/tariff."""

    kind: Literal["tariff"]


class SettingsOrder(Strict):
    """Settings to change, one or more, all or none."""

    kind: Literal["settings"]
    document: dict[str, Any] = Field(
        description="Names and values; which ones and their ranges: docs/SPEC.md section 6"
    )
    expires_utc_s: UtcSeconds | None = None


class RelayOrder(Strict):
    """Switch the supply, or put a meter into service. `disconnected` needs `expires_utc_s`."""

    kind: Literal["relay"]
    state: Literal["connected", "disconnected", "commissioned"]
    expires_utc_s: UtcSeconds | None = None


class ArrearsOrder(Strict):
    """Arrears, paid by a share of each recharge and by an amount a day, or at once."""

    kind: Literal["arrears"]
    amount_mp: Amount
    share_percent: Share
    per_day_mp: AmountOrNone | None = None
    at_once: Flag | None = None


class AdjustmentOrder(Strict):
    """A ledger entry that corrects the account, or money that is given back."""

    kind: Literal["adjustment"]
    entry: Literal["refund", "adjustment"]
    amount_mp: SignedAmount


class EmergencyOrder(Strict):
    """Emergency credit: how far below zero the balance may go; 0 ends it."""

    kind: Literal["emergency"]
    limit_mp: AmountOrNone


class ModeOrder(Strict):
    """Payment mode: `credit` (postpaid) or `prepayment`, in which what is due becomes arrears."""

    kind: Literal["mode"]
    mode: Literal["prepayment", "credit"]
    share_percent: Share | None = None
    per_day_mp: AmountOrNone | None = None


class KeyOrder(Strict):
    """A new key for the meter."""

    kind: Literal["key"]


class LinkBroker(Strict):
    """What changes of the broker; the rest stays."""

    host: str | None = None
    port: int | None = None
    ca: str | None = Field(None, description="Certificate of the authority, PEM; empty: no TLS")
    new_password: bool = Field(False, description="The gateway makes new credentials")


class NewWifi(Strict):
    """Another network."""

    ssid: str = Field(description="1 to 32 characters")
    password: str = Field(repr=False, description="0 to 63 characters; empty for an open network")


class LinkOrder(Strict):
    """Other link settings. The meter keeps the old ones until the new ones worked."""

    kind: Literal["link"]
    wifi: NewWifi | None = None
    broker: LinkBroker | None = None


class ClockOrder(Strict):
    """Permit a large step of the meter's clock; without `utc_s` to the gateway's time."""

    kind: Literal["clock"]
    utc_s: ClockTime | None = None


class CalendarOrder(Strict):
    """When a supply may be cut for want of credit; null: by the settings again."""

    kind: Literal["calendar"]
    document: dict[str, Any] | None = Field(description="docs/SPEC.md section 2.9, or null")
    expires_utc_s: UtcSeconds | None = None


class ResendOrder(Strict):
    """Have a meter send the records of a store above `seq` again."""

    kind: Literal["resend"]
    store: str = Field(pattern="^[0-9a-f]{8}$", description="8 hex digits")
    seq: Sequence


class _Holder(Strict):
    """Whose a new account is, and what it begins with."""

    account: str = Field(description="Its number, 1 to 36 characters", pattern="^[!-~]{1,36}$")
    consumer: str = Field(min_length=1, max_length=meters.CONSUMER_MAX)
    phone: str | None = Field(None, pattern=f"^{meters.PHONE.pattern}$")
    opening_balance_mp: OpeningBalance = 0
    reading_wh: ReadingOrNone | None = Field(
        None, description="Reading that statements begin with; left out: the register's own"
    )
    tariff: dict[str, Any] | None = Field(None, description="Another tariff, if it changes")


class OpenAccount(_Holder):
    """An account is opened on a meter whose last one is closed."""

    kind: Literal["open"]


class NewTenant(_Holder):
    """The account is closed, and one for another consumer opened on the same meter."""

    kind: Literal["tenant"]


class CloseAccount(Strict):
    """The account is closed: what is left is to be refunded, or is due."""

    kind: Literal["close"]


class ReplaceMeter(Strict):
    """The account goes on at another meter, with its balance and what the month has used."""

    kind: Literal["replace"]
    account: str = Field(description="Its number there", pattern="^[!-~]{1,36}$")
    target: str = Field(description="The new meter, registered and without credit of its own")
    totals: dict[str, Any] | None = Field(
        None, description="Only if the old meter is dead: its totals as GET shows them"
    )


NewChange: TypeAlias = CloseAccount | OpenAccount | NewTenant | ReplaceMeter
CHANGES = _kinds(NewChange)


class NewResync(Strict):
    """The totals to give to a meter, as GET shows them."""

    document: dict[str, Any] = Field(description="docs/SPEC.md section 2.6")


NewOrder: TypeAlias = (
    TariffOrder
    | SettingsOrder
    | RelayOrder
    | ArrearsOrder
    | AdjustmentOrder
    | EmergencyOrder
    | ModeOrder
    | KeyOrder
    | LinkOrder
    | ClockOrder
    | ResendOrder
    | CalendarOrder
)
KINDS = _kinds(NewOrder)


class Order(BaseModel):
    """An order and what became of it. Secrets are not shown."""

    id: str
    meter: str
    kind: str
    members: dict[str, Any]
    state: str = Field(description="queued, sent, done, refused, cancelled or expired")
    result: str = Field(description="The meter's answer, docs/SPEC.md section 2.4")
    field: str
    balance_mp: int | None
    counter: int = Field(description="The order's counter, 0 before the next publication")
    attempts: int
    times: dict[str, int] = Field(description="UTC ms at which it was queued, sent, ended")


class Recharge(BaseModel):
    """A recharge and the states that it has been through."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "r-5f1c0a9be7d24c7c8f3e21d2a8b0c4d1",
                    "meter": "JH-0001",
                    "amount_mp": 50_000_000,
                    "state": "confirmed",
                    "balance_mp": 51_523_000,
                    "code": "",
                    "field": "",
                    "counter": 12,
                    "attempts": 1,
                    "times": {
                        "queued_utc_ms": 1767600000000,
                        "sent_utc_ms": 1767600000020,
                        "confirmed_utc_ms": 1767600000140,
                    },
                }
            ]
        }
    )

    id: str
    meter: str
    amount_mp: int
    state: str = Field(description="queued, sent, confirmed, refused or cancelled")
    balance_mp: int | None = Field(description="The balance that resulted, by the meter")
    code: str = Field(description="Why the meter refused it, docs/SPEC.md section 2.4")
    field: str
    counter: int = Field(description="The order's counter, 0 before the first publication")
    attempts: int
    times: dict[str, int] = Field(description="UTC ms at which each state was reached")


class Problem(BaseModel):
    """application/problem+json: what is wrong, in which field, and what would be taken."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "refused",
                    "status": 422,
                    "detail": "amount_mp: must be an integer from 1 to 10000000000",
                    "field": "amount_mp",
                    "allowed": "must be an integer from 1 to 10000000000",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    allowed: str | None = None
