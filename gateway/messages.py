"""Typed messages from meters (docs/SPEC.md section 2), decoded and range-checked by msgspec.

Records inside an `up` message are checked one by one with the codec that the firmware shares.
Tests: host_tests/gateway/test_ingest.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from firmware.core.records import RESULTS
from firmware.link import codec

T = TypeVar("T")
Store = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}$")]
U32 = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
Positive32 = Annotated[int, Meta(ge=1, le=0xFFFFFFFF)]
I64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Word = Annotated[str, Meta(max_length=36)]
Flag = Literal[0, 1]


class Up(Struct):
    """A batch of records."""

    v: Literal[1]
    store: Store
    records: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=codec.MAX_RECORDS)]


class Outline(Struct):
    """What can be read of a batch that is not as it should be."""

    v: Literal[1]
    store: Store
    records: list[Any]


class Live(Struct):
    """Present values of a meter."""

    v: Literal[1]
    store: Store
    boot: Positive32
    up_s: U32
    utc_s: U32
    time_valid: Flag
    voltage_mv: I64
    current_ma: I64
    power_mw: I64
    import_wh: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    uncommitted_wh: U32
    balance_mp: I64
    state: Literal["connected", "ready_for_reconnection", "disconnected"]
    contact: Flag
    reason: Word
    credit: Literal["in_credit", "low_credit", "out_of_credit"]
    grace_s: I64
    earliest_cut_utc_s: U32
    tariff: Word
    tariff_version: U32
    waiting: U32
    firmware: Word
    # Members of later firmwares: a meter without them has none of it.
    mode: Literal["prepayment", "credit"] = "prepayment"
    due_mp: I64 = 0
    amount_to_clear_mp: I64 = 0
    aggregated_debt_mp: I64 = 0
    last_recharge_mp: I64 = 0
    emergency: Literal["none", "selectable", "in_use", "consumed"] = "none"
    arrears_mp: I64 = 0
    emergency_limit_mp: I64 = 0
    service: Literal["", "ledger_lost", "storage"] = ""
    export_wh: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    uncommitted_export_wh: U32 = 0
    demand_w: U32 = 0
    demand_max_w: U32 = 0
    demand_max_utc_s: U32 = 0
    supply_min: U32 = 0
    power_failures: U32 = 0
    standing: Annotated[list[U32], Meta(max_length=32)] = []
    cover_openings: U32 = 0
    today_wh: I64 = 0
    today_mp: I64 = 0
    month_wh: I64 = 0
    month_mp: I64 = 0
    days_left: I64 = -1
    projected_mp: I64 = -1
    next_kwh_mp: I64 = 0
    account: Word = ""
    account_status: Literal["", "new", "active", "closed"] = ""
    causes: Annotated[list[Word], Meta(max_length=16)] = []
    hold: Word = ""
    operations: U32 = 0
    heard_utc_s: U32 = 0
    would_cut: Flag = 0
    calendar: Word = ""
    over_load_days: U32 = 0


class Answer(Struct):
    """A meter's result of an order."""

    v: Literal[1]
    id: Annotated[str, Meta(min_length=1, max_length=36)]
    counter: U32
    result: Literal[RESULTS]  # type: ignore[valid-type]
    balance_mp: I64 | None = None
    highest: Annotated[int, Meta(ge=0, le=codec.COUNTER_MAX)] = 0
    field: Word = ""


class Ask(Struct):
    """A meter's question for the time."""

    v: Literal[1]
    nonce: Annotated[str, Meta(pattern=r"^[0-9A-Za-z]{8,32}$")]


def _decoder(kind: type[T]) -> Callable[[bytes], T]:
    decode = msgspec.json.Decoder(kind).decode

    def checked(payload: bytes) -> T:
        try:
            return decode(payload)
        except UnicodeDecodeError as error:  # which is no DecodeError
            raise msgspec.DecodeError("must be UTF-8") from error
        except RecursionError as error:
            raise msgspec.DecodeError("is nested too deeply") from error

    return checked


decode_up = _decoder(Up)
decode_outline = _decoder(Outline)
decode_live = _decoder(Live)
decode_answer = _decoder(Answer)
decode_ask = _decoder(Ask)
"""Each raises msgspec.DecodeError, and nothing else, for what is not such a message."""

encode_sorted = msgspec.json.Encoder(order="deterministic").encode
"""JSON bytes with sorted members: equal content gives equal bytes, whatever order it came in."""
