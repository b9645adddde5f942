"""The stand-in for a utility's head-end: takes what gateways push and shows it.

Idempotent: a record is known by (meter, store, boot, seq), a recharge state by (recharge, state).
The same identity with other content is answered 409 and changes nothing. For the demo and for
tests; it has a database of its own and no clock, because each item carries its times.
Tests: host_tests/gateway/test_upstream.py.
"""

from __future__ import annotations

import html
import json
import sqlite3
import threading
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse
from msgspec import Meta, Struct

from firmware.link import codec
from gateway import auth, words
from gateway.messages import I64, Positive32, Store, encode_sorted

DATABASE = "headend.sqlite"
BODY_MAX = 8_000_000

SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    meter TEXT NOT NULL, store TEXT NOT NULL, boot INTEGER NOT NULL, seq INTEGER NOT NULL,
    type TEXT NOT NULL, utc_s INTEGER NOT NULL, balance_mp INTEGER, import_wh INTEGER,
    content TEXT NOT NULL,
    UNIQUE (meter, store, boot, seq));
CREATE TABLE IF NOT EXISTS recharges (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    recharge TEXT NOT NULL, state TEXT NOT NULL, meter TEXT NOT NULL, amount_mp INTEGER NOT NULL,
    utc_ms INTEGER NOT NULL, balance_mp INTEGER, code TEXT NOT NULL,
    UNIQUE (recharge, state));
"""


class RecordItem(Struct):
    """A record as the gateway sends it."""

    meter: str
    store: Store
    received_utc_ms: int
    record: dict[str, Any]


class Records(Struct):
    """Body of POST /v1/records."""

    v: Literal[1]
    gateway: Annotated[str, Meta(max_length=64)]
    items: Annotated[list[RecordItem], Meta(min_length=1, max_length=1000)]


class RechargeItem(Struct):
    """A state that a recharge took on."""

    recharge: Annotated[str, Meta(min_length=1, max_length=36)]
    meter: str
    amount_mp: Annotated[int, Meta(ge=1, le=codec.AMOUNT_MAX_MP)]
    state: Literal["queued", "sent", "confirmed", "refused", "cancelled"]
    utc_ms: Annotated[int, Meta(ge=0)]
    balance_mp: I64 | None
    code: str


class Recharges(Struct):
    """Body of POST /v1/recharges."""

    v: Literal[1]
    gateway: Annotated[str, Meta(max_length=64)]
    items: Annotated[list[RechargeItem], Meta(min_length=1, max_length=1000)]


class Identity(Struct):
    """What a record must have to be filed at all."""

    boot: Positive32
    seq: Positive32
    type: str
    utc_s: int


class Contradiction(Exception):
    """An identity is known with other content."""


class Ledger:
    """What the head-end has; one connection, one lock, a transaction per batch."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(
            folder / DATABASE, check_same_thread=False, isolation_level=None
        )
        self._database.row_factory = sqlite3.Row
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def add_records(self, batch: Records) -> dict[str, int]:
        """File a batch, all or nothing. Raises CodecError, ValidationError or Contradiction."""
        rows = []
        for item in batch.items:
            codec.check_meter_id(item.meter)
            identity = msgspec.convert(item.record, Identity)
            rows.append(
                (
                    (item.meter, item.store, identity.boot, identity.seq),
                    (
                        identity.type,
                        identity.utc_s,
                        item.record.get("balance_mp"),
                        item.record.get("import_wh"),
                        encode_sorted(item.record).decode(),
                    ),
                )
            )
        return self._file(
            rows,
            "SELECT content FROM records WHERE meter=? AND store=? AND boot=? AND seq=?",
            "INSERT INTO records (meter, store, boot, seq, type, utc_s, balance_mp, import_wh,"
            " content) VALUES (?,?,?,?,?,?,?,?,?)",
            lambda row, values: row["content"] == values[-1],
        )

    def add_recharges(self, batch: Recharges) -> dict[str, int]:
        """File recharge states, all or nothing. Raises CodecError or Contradiction."""
        rows = []
        for item in batch.items:
            codec.check_meter_id(item.meter)
            rows.append(
                (
                    (item.recharge, item.state),
                    (item.meter, item.amount_mp, item.utc_ms, item.balance_mp, item.code),
                )
            )
        return self._file(
            rows,
            "SELECT meter, amount_mp FROM recharges WHERE recharge=? AND state=?",
            "INSERT INTO recharges (recharge, state, meter, amount_mp, utc_ms, balance_mp, code)"
            " VALUES (?,?,?,?,?,?,?)",
            lambda row, values: tuple(row) == values[:2],
        )

    def _file(
        self, rows: list[tuple[Any, Any]], find: str, insert: str, equal: Any
    ) -> dict[str, int]:
        new = 0
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                for identity, values in rows:
                    known = self._database.execute(find, identity).fetchone()
                    if known is None:
                        self._database.execute(insert, identity + values)
                        new += 1
                    elif not equal(known, values):
                        raise Contradiction(f"{identity} is known with other content")
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")
        return {"stored": new, "known": len(rows) - new}

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """The result of a query."""
        with self._lock:
            return [dict(row) for row in self._database.execute(query, values)]

    def summary(self) -> list[dict[str, Any]]:
        """Per meter: number of records, newest balance and register, recharges confirmed."""
        meters = self.rows(
            "SELECT meter, count(*) AS records FROM records GROUP BY meter ORDER BY meter"
        )
        for meter in meters:
            last = self.rows(
                "SELECT utc_s, balance_mp, import_wh FROM records WHERE meter=? AND balance_mp IS"
                " NOT NULL AND import_wh IS NOT NULL ORDER BY id DESC LIMIT 1",
                meter["meter"],
            )
            meter["last"] = last[0] if last else None
            meter["recharges"] = self.rows(
                "SELECT recharge, state, amount_mp, balance_mp, code, utc_ms FROM recharges"
                " WHERE meter=? ORDER BY id",
                meter["meter"],
            )
            confirmed = [r["amount_mp"] for r in meter["recharges"] if r["state"] == "confirmed"]
            meter["confirmed_count"] = len(confirmed)
            meter["confirmed_mp"] = sum(confirmed)
        return meters


def make_app(ledger: Ledger, token: str = "") -> FastAPI:
    """The head-end's HTTP service."""
    app = FastAPI(
        title="Bijli stand-in head-end",
        description="Receives what gateways push. Not a utility's system: for demo and tests.",
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(auth.Guard, token=token)

    async def body(request: Request) -> bytes:
        content = await request.body()
        if len(content) > BODY_MAX:
            raise codec.CodecError("body", f"must be at most {BODY_MAX} bytes")
        return content

    async def refuse(_request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, codec.CodecError):
            return auth.problem(422, "wrong content", str(error), error.field, error.why)
        if isinstance(error, Contradiction):
            return auth.problem(409, "contradiction", str(error))
        return auth.problem(422, "wrong content", str(error))

    for kind in (codec.CodecError, Contradiction, msgspec.DecodeError):
        app.add_exception_handler(kind, refuse)

    @app.post("/v1/records", summary="File records")
    async def post_records(request: Request) -> dict[str, int]:
        return ledger.add_records(msgspec.json.decode(await body(request), type=Records))

    @app.post("/v1/recharges", summary="File states of recharges")
    async def post_recharges(request: Request) -> dict[str, int]:
        return ledger.add_recharges(msgspec.json.decode(await body(request), type=Recharges))

    @app.get("/v1/meters", summary="What is known of each meter")
    def get_meters() -> list[dict[str, Any]]:
        return ledger.summary()

    @app.get("/v1/meters/{meter}/records", summary="A meter's records in order of arrival")
    def get_records(
        meter: str, after: int = Query(0, ge=0), limit: int = Query(1000, ge=1, le=10000)
    ) -> list[dict[str, Any]]:
        rows = ledger.rows(
            "SELECT id, store, boot, seq, content FROM records WHERE meter=? AND id>? ORDER BY id"
            " LIMIT ?",
            meter,
            after,
            limit,
        )
        for row in rows:
            row["record"] = json.loads(row.pop("content"))
        return rows

    @app.get("/api/health", summary="Whether the service runs")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> str:
        return _page(ledger.summary())

    return app


def _page(meters: list[dict[str, Any]]) -> str:
    rows = []
    for meter in meters:
        last = meter["last"]
        balance = words.rupees(last["balance_mp"]) if last else "-"
        energy = f"{last['import_wh'] / 1000:.3f}" if last else "-"
        cells = (
            meter["meter"],
            meter["records"],
            energy,
            balance,
            meter["confirmed_count"],
            words.rupees(meter["confirmed_mp"]),
        )
        rows.append("<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in cells) + "</tr>")
    heads = ("Meter", "Records", "kWh", "Balance ₹", "Recharges", "Recharged ₹")
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'><meta http-equiv=refresh content=2>"
        "<title>Head-end</title><style>:root{color-scheme:light dark}"
        "body{font:16px system-ui;margin:2rem auto;max-width:60rem;padding:0 1rem}"
        "table{border-collapse:collapse;width:100%}th,td{text-align:right;padding:.5rem;"
        "border-bottom:1px solid #8884;font-variant-numeric:tabular-nums}"
        "th:first-child,td:first-child{text-align:left}</style><h1>Utility head-end</h1>"
        "<p>What the gateways have delivered. JSON: <a href='/v1/meters'>/v1/meters</a></p>"
        "<table><tr>"
        + "".join(f"<th>{h}</th>" for h in heads)
        + "</tr>"
        + "".join(rows)
        + "</table></html>"
    )
