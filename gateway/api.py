"""The HTTP API and the page. Errors are problem+json naming the field and its allowed range.

Every request that reads or writes runs inside `clock.busy()`, so that simulated time stands still
for it; only the stream does not. Handlers are plain functions, which FastAPI runs in threads,
because they wait for the writer. Tests: host_tests/gateway/test_api.py, host_tests/web.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from importlib import metadata, resources
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Body, Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from firmware.core import civil
from firmware.core.records import LEDGER_LOST, QUIET
from firmware.core.sealing import installer_code
from gateway import auth, explain, kinds, models, orders, tables, words
from gateway.accounts import Accounts, Change
from gateway.alarms import of_meters
from gateway.audit import Audit
from gateway.clock import Clock, pause_for_eyes
from gateway.errors import Conflict, FieldError, GatewayError, NotFound, StoreBusy
from gateway.live import LiveBoard
from gateway.meters import Meters, check_tariff, store_tariff
from gateway.store import Store
from gateway.writer import Writer

FRAME_SECONDS = 0.2
KEY_MAX = 64

IdempotencyKey = Annotated[
    str,
    Header(description=f"1 to {KEY_MAX} printable characters, the same for each repetition"),
]
Span = Annotated[models.Span, Depends()]
Explained = Annotated[models.Explained, Depends()]


@dataclass
class Parts:
    """What the API serves from."""

    clock: Clock
    store: Store
    writer: Writer
    meters: Meters
    live: LiveBoard
    audit: Audit
    accounts: Accounts
    health: Callable[[], dict[str, Any]]
    meter_registered: Callable[[str, str], None]
    order_changed: Callable[[str], None]
    upstream_changed: Callable[[], None]
    closing: Callable[[], bool]


def make_app(parts: Parts, token: str = "") -> FastAPI:
    """The application; `token` is the API token, "" for local use without one."""
    app = FastAPI(
        title="Bijli gateway",
        version=metadata.version("bijli"),
        description="Meters, readings, balances and recharges. Amounts are integers in milli-paise "
        "(1 rupee = 100,000), energy in Wh, times in UTC.",
        # The usual pages of the documentation load scripts from elsewhere; /openapi.json stays.
        docs_url=None,
        redoc_url=None,
        responses={
            422: {"model": models.Problem, "description": "The request is refused"},
        },
    )
    app.add_middleware(auth.Guard, token=token)
    _add_errors(app)
    app.include_router(_pages(parts))
    app.include_router(_meters(parts))
    app.include_router(_recharges(parts))
    app.include_router(_orders(parts))
    app.include_router(_resync(parts))
    app.include_router(_accounts(parts))
    return app


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(GatewayError)
    def gateway_error(_request: Request, error: GatewayError) -> JSONResponse:
        if isinstance(error, FieldError):
            return auth.problem(422, "refused", str(error), error.field, error.allowed)
        if isinstance(error, Conflict):
            return auth.problem(409, "conflict", str(error), error.field)
        if isinstance(error, NotFound):
            return auth.problem(404, "not found", str(error), error.what)
        if isinstance(error, StoreBusy):
            return auth.problem(503, "cannot be stored now", str(error))
        return auth.problem(500, "internal error", str(error))

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
        if place and place[0] == "header":
            place = [place[1].title()]
        # A union's member types are no part of the field's name.
        place = [part for part in place if not part.startswith("function-")]
        if len(place) > 1 and place[0] in (*models.KINDS, *models.CHANGES):
            place = place[1:]
        field = ".".join(place) or "body"
        cause = first.get("ctx", {}).get("error")
        if first["type"].startswith("union_tag"):
            tags = first["ctx"]["expected_tags"].replace("'", "")
            field, cause = "kind", ValueError("must be one of " + tags)
        allowed = str(cause) if isinstance(cause, ValueError) else first["msg"]
        return auth.problem(422, "refused", f"{field}: {allowed}", field, allowed)

    @app.exception_handler(HTTPException)
    def http_error(_request: Request, error: HTTPException) -> JSONResponse:
        return auth.problem(error.status_code, str(error.detail), str(error.detail))


def _in_time(parts: Parts) -> Any:
    """A dependency that keeps simulated time still during a request."""

    def busy() -> Iterator[None]:
        with parts.clock.busy():
            yield

    return Depends(busy)


def _pages(parts: Parts) -> APIRouter:
    router = APIRouter()

    @router.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> HTMLResponse:
        text = resources.files("gateway").joinpath("web", "index.html").read_text("utf-8")
        # Everything is in the page itself; nothing may be loaded from or sent to elsewhere.
        policy = (
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        headers = {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}
        return HTMLResponse(text, headers=headers)

    @router.get("/api/health", summary="Is everything working", dependencies=[_in_time(parts)])
    def health() -> dict[str, Any]:
        """`status` is `ok` or `degraded`; `alarms` says in words what needs somebody."""
        return parts.health()

    @router.get("/api/stream", summary="Changes as server-sent events")
    async def stream() -> StreamingResponse:
        """First the whole state, then what changed; events `state` with JSON data."""
        return StreamingResponse(
            _frames(parts), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
        )

    @router.get(
        "/api/quarantine", summary="Messages that were refused", dependencies=[_in_time(parts)]
    )
    def quarantine(limit: models.Limit = 100) -> list[dict[str, Any]]:
        """The newest first; `payload` is shown as text, unreadable bytes as escapes."""
        table = tables.quarantine
        with parts.store.reading() as connection:
            rows = connection.execute(
                sa.select(table)
                .order_by(table.c.last_utc_ms.desc(), table.c.id.desc())
                .limit(limit)
            ).mappings()
            return [
                {**row, "payload": row["payload"].decode("utf-8", "backslashreplace")}
                for row in rows
            ]

    return router


async def _frames(parts: Parts) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def on_change() -> None:
        try:
            loop.call_soon_threadsafe(changed.set)
        except RuntimeError:  # the server's loop is closed: nobody listens any more
            return

    end = parts.live.listen(on_change)
    version = 0
    try:
        while not parts.closing():
            changed.clear()
            version, news = parts.live.since(version)
            news["now_utc_ms"] = parts.clock.utc_ms()
            yield f"event: state\ndata: {json.dumps(news)}\n\n"
            await changed.wait()
            await pause_for_eyes(FRAME_SECONDS)
    finally:
        end()


def _meters(parts: Parts) -> APIRouter:
    router = APIRouter(prefix="/api/meters", tags=["meters"], dependencies=[_in_time(parts)])

    def views(where: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
        table = tables.meters
        with parts.store.reading() as connection:
            rows = connection.execute(sa.select(table).where(where).order_by(table.c.id)).all()
            open_orders = orders.open_counts(connection)
            blocked = orders.blocked_counts(connection)
        alarms = of_meters([row.id for row in rows], parts.live, parts.audit, blocked)
        found = [
            {
                "id": row.id,
                "consumer": row.consumer,
                "phone": row.phone,
                "sanctioned_load_w": row.sanctioned_load_w,
                "opening_balance_mp": row.opening_balance_mp,
                "tariff": {"id": row.tariff_id, "version": row.tariff_version},
                "settings": json.loads(row.settings),
                "created_utc_ms": row.created_utc_ms,
                "open_orders": open_orders.get(row.id, 0),
                "alarms": alarms.get(row.id, []),
                "live": parts.live.view(row.id),
            }
            for row in rows
        ]
        for view in found:
            if view["live"].get("would_cut"):
                view["alarms"].append(words.WOULD_CUT)
        return found

    @router.get("", summary="All meters with their present values")
    def list_meters(alarm: bool = False) -> list[dict[str, Any]]:
        """`alarms` says in words what needs somebody, and whose supply would be cut if its meter
        did not only warn. With `alarm` only the meters that have some."""
        return [view for view in views(sa.true()) if view["alarms"] or not alarm]

    @router.post("", status_code=201, summary="Register a meter")
    def add_meter(new: models.NewMeter) -> dict[str, Any]:
        """Answers once with the meter's provisioning document (`config.json` for the meter).

        It holds the meter's key and password, which are not shown again.
        """
        now_ms = parts.clock.utc_ms()
        document = parts.meters.register(new.registration(), now_ms, new.replace)
        parts.meter_registered(new.id, new.consumer)
        return document

    @router.get("/{meter}/installer-code", summary="What unlocks calibration at its console")
    def code(meter: str) -> dict[str, str]:
        """Follows from the meter's present key, and changes with it."""
        return {"code": installer_code(parts.meters.keys(meter).current)}

    @router.get("/{meter}", summary="One meter")
    def get_meter(meter: str) -> dict[str, Any]:
        """Also the gaps in its records: what the meter never delivered."""
        parts.meters.check(meter)
        view = views(tables.meters.c.id == meter)[0]
        table = tables.gaps
        with parts.store.reading() as connection:
            rows = connection.execute(sa.select(table).where(table.c.meter == meter)).mappings()
            view["gaps"] = [dict(row) for row in rows]
            counted = sa.select(sa.func.count()).where(tables.records.c.meter == meter)
            view["records"] = connection.execute(counted).scalar_one()
        return view

    def records(meter: str, types: list[str] | None, span: Span) -> list[dict[str, Any]]:
        parts.meters.check(meter)
        if span.until <= span.since:
            lowest = span.since + 1
            raise FieldError("until", f"must be an integer from {lowest} to {models.UTC_S_MAX}")
        table = tables.records
        where = [
            table.c.meter == meter,
            table.c.at_utc_s >= span.since,
            table.c.at_utc_s < span.until,
            table.c.type.in_(types) if types else table.c.type.not_in(QUIET),
        ]
        with parts.store.reading() as connection:
            rows = connection.execute(
                sa.select(*table.c["id", "store", "at_utc_s", "received_utc_ms", "content"])
                .where(*where)
                .order_by(table.c.at_utc_s.desc(), table.c.id.desc())
                .limit(span.limit)
            ).all()
        return [
            {
                "store": row.store,
                "at_utc_s": row.at_utc_s,
                "received_utc_ms": row.received_utc_ms,
                **json.loads(row.content),
            }
            for row in rows
        ]

    @router.get("/{meter}/readings", summary="Load profile, the newest first")
    def readings(meter: str, span: Span) -> list[dict[str, Any]]:
        """Records of type `load`, docs/SPEC.md section 9, and of the older type `block`."""
        return records(meter, ["load", "block"], span)

    @router.get("/{meter}/days", summary="Daily profile, the newest first")
    def days(meter: str, span: Span) -> list[dict[str, Any]]:
        """Records of type `day`, docs/SPEC.md section 9: the registers of each midnight, supply
        minutes, maximum demand, minutes over the sanctioned load and cost of the day."""
        found = records(meter, ["day"], span)
        return [{**day, "cost_rupees": words.rupees(day["cost_mp"])} for day in found]

    @router.get("/{meter}/billing", summary="Billing profile, the newest month first")
    def billing(meter: str, span: Span) -> list[dict[str, Any]]:
        """Records of type `billing`, docs/SPEC.md section 9: the maximum demand of each month with
        its time, registers, supply minutes and power failures."""
        return records(meter, ["billing"], span)

    @router.get("/{meter}/events", summary="Everything but the profiles, the newest first")
    def events(meter: str, span: Span) -> list[dict[str, Any]]:
        """Records as in docs/SPEC.md section 2.1, each with `text` for people."""
        found = records(meter, None, span)
        return [{**record, "text": words.describe(record)} for record in found]

    @router.get("/{meter}/balance", summary="The balance by the meter and recomputed")
    def balance(meter: str) -> dict[str, Any]:
        """`agree`: every record's balance equals the recomputed one, to the milli-paisa."""
        parts.meters.check(meter)
        return parts.audit.result(meter, parts.live.last_values(meter))

    @router.get("/{meter}/explain", summary="Why the balance moved between two moments")
    def explain_balance(meter: str, span: Explained) -> dict[str, Any]:
        """From `since` (default: the begin of this month) to `until` (default: now): each line of
        the charges, each entry of the ledger. Their `amount_mp` add up to `moved_mp`."""
        offset_s = parts.meters.rules(meter).utc_offset_s
        now_utc_s = parts.clock.utc_ms() // 1000
        # The meter's clock may be ahead of ours: "now" is behind all of its records.
        until = models.UTC_S_MAX if span.until is None else span.until
        known = parts.audit.result(meter, parts.live.last_values(meter))
        start_day = known["open_period"]["start_day"] if "open_period" in known else 1
        since = civil.month_start_utc_s(min(now_utc_s, until - 1), offset_s, start_day)
        if span.since is not None:
            since = span.since
        if until <= since:
            raise FieldError("until", f"must be an integer from {since + 1} to {models.UTC_S_MAX}")
        import_wh = known["by_meter"]["import_wh"] if "by_meter" in known else 0
        found = explain.explain(parts.store, meter, since, until, import_wh)
        return {**found, "until_utc_s": now_utc_s if span.until is None else until}

    @router.post("/{meter}/tariff", status_code=202, summary="Send a tariff to a meter")
    def send_tariff(meter: str, new: models.NewTariff) -> dict[str, Any]:
        """Queued as an order; the meter's `tariff` record says when it is in force."""
        order, _is_new = make_order(parts, meter, "tariff", new.model_dump(), "")
        return {"id": order, "meter": meter, "state": "queued"}

    return router


def _resync(parts: Parts) -> APIRouter:
    router = APIRouter(
        prefix="/api/meters/{meter}/resync", tags=["orders"], dependencies=[_in_time(parts)]
    )

    def totals(meter: str) -> dict[str, Any]:
        parts.meters.check(meter)
        told, document, balance_mp = parts.audit.totals(meter)
        live = parts.live.last_values(meter)
        says = live is not None and live.service == LEDGER_LOST
        with parts.store.reading() as connection:
            waiting = orders.blocked_counts(connection).get(meter, 0)
        return {
            "meter": meter,
            "needed": told or says or waiting > 0,
            # Its journal has said so, too: what it has from before the loss has arrived.
            "complete": told,
            "document": document,
            "balance_mp": balance_mp,
            "orders_waiting": waiting,
        }

    @router.get("", summary="The totals that a resync would give to a meter")
    def show(meter: str) -> dict[str, Any]:
        """`needed`: the meter lost ledger records and takes no credit before it."""
        return totals(meter)

    @router.post("", status_code=201, response_model=models.Order, summary="Resync a meter")
    def send(
        meter: str,
        new: models.NewResync,
        idempotency_key: IdempotencyKey,
    ) -> dict[str, Any]:
        """Gives a meter its totals back, which decide over money: the document must be the one
        that GET shows, so that somebody has looked at it."""
        check_key(idempotency_key)
        now = totals(meter)
        if not now["needed"]:
            raise Conflict("meter", "has not lost its ledger")
        if not now["complete"]:
            raise Conflict("meter", "has records from before the loss that are still to come: wait")
        if new.document != now["document"]:
            raise Conflict("document", "is not, or no longer, what is known here: look again")
        order, _is_new = make_order(
            parts, meter, "resync", {"document": new.document}, idempotency_key
        )
        with parts.store.reading() as connection:
            return orders.order_view(connection, order)

    return router


def _accounts(parts: Parts) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["accounts"], dependencies=[_in_time(parts)])

    @router.get("/meters/{meter}/accounts", summary="A meter's account and its changes")
    def show(meter: str) -> dict[str, Any]:
        """`totals` is what a replacement of a dead meter would move."""
        parts.meters.check(meter)
        account = parts.audit.account(meter)
        _lost, totals, balance_mp = parts.audit.totals(meter)
        return {
            "meter": meter,
            "account": account.number,
            "status": account.status(),
            "totals": totals,
            "balance_mp": balance_mp,
            "changes": parts.accounts.views(meter),
        }

    @router.post(
        "/meters/{meter}/accounts",
        status_code=201,
        summary="Close or open a meter's account, change its tenant, or move it to another meter",
        responses={409: {"model": models.Problem, "description": "Not in the account's state"}},
    )
    def change(
        meter: str,
        new: Annotated[models.NewChange, Body(discriminator="kind")],
        response: Response,
        idempotency_key: IdempotencyKey,
    ) -> dict[str, Any]:
        """Begun; each step is an order to a meter, and is carried on also after a restart.

        The same key with the same body gives the same change again, not a second one.
        """
        parts.meters.check(meter)
        check_key(idempotency_key)
        given = new.model_dump()
        given["balance_mp"] = given.pop("opening_balance_mp", 0)
        given.setdefault("target", meter)
        parts.meters.check(given["target"])
        if given.get("tariff") is not None:
            check_tariff(given["tariff"], "tariff")
        found, is_new = parts.accounts.begin(Change(meter=meter, **given), idempotency_key)
        _tell_place(response, f"/api/account-changes/{found}", is_new)
        return parts.accounts.view(found)

    @router.get("/account-changes/{change}", summary="One change of an account")
    def get_change(change: str) -> dict[str, Any]:
        return parts.accounts.view(change)

    @router.post("/account-changes/{change}/retry", summary="Ask the meter again")
    def retry(change: str) -> dict[str, Any]:
        """For a change that a meter refused, once what was in its way is settled."""
        parts.accounts.retry(change)
        return parts.accounts.view(change)

    return router


def make_order(
    parts: Parts, meter: str, kind: str, given: dict[str, Any], key: str
) -> tuple[str, bool]:
    """Check and queue an order; (its id, whether it is new)."""
    parts.meters.check(meter)
    now_ms = parts.clock.utc_ms()
    asked = kinds.check(parts.meters, meter, kind, given, now_ms)
    sealed = None if asked.secret is None else parts.meters.seal(asked.secret)

    def work(connection: sa.Connection) -> tuple[str, bool]:
        if kind == "tariff":
            store_tariff(connection, asked.members["document"], now_ms)
        return orders.create_order(connection, meter, asked, sealed, key, now_ms)

    order, is_new = parts.writer.write(work)
    if is_new:
        with parts.store.reading() as connection:
            parts.live.order(orders.order_view(connection, order))
        parts.order_changed(meter)
    return order, is_new


def _orders(parts: Parts) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["orders"], dependencies=[_in_time(parts)])

    @router.post(
        "/meters/{meter}/orders",
        status_code=201,
        response_model=models.Order,
        summary="Send an order to a meter",
        responses={409: {"model": models.Problem, "description": "Key used with another body"}},
    )
    def add_order(
        meter: str,
        new: Annotated[models.NewOrder, Body(discriminator="kind")],
        response: Response,
        idempotency_key: IdempotencyKey,
    ) -> dict[str, Any]:
        """Queued, delivered when the meter is there, ended by the meter's answer or record.

        The same key with the same body gives the same order again, not a second one. One with
        `expires_utc_s` that was not sent by then ends as `expired`.
        """
        check_key(idempotency_key)
        given = new.model_dump(exclude={"kind"})
        order, is_new = make_order(parts, meter, new.kind, given, idempotency_key)
        _tell_place(response, f"/api/orders/{order}", is_new)
        return _view(order)

    @router.get("/meters/{meter}/orders", summary="A meter's orders, the newest first")
    def list_orders(meter: str, limit: models.Limit = 100) -> list[models.Order]:
        """Without the recharges, which have a list of their own."""
        parts.meters.check(meter)
        with parts.store.reading() as connection:
            found = orders.order_views(connection, tables.orders.c.meter == meter, limit)
        return [models.Order(**view) for view in found]

    @router.get("/orders/{order}", response_model=models.Order, summary="One order")
    def get_order(order: str) -> dict[str, Any]:
        return _view(order)

    @router.delete(
        "/orders/{order}",
        response_model=models.Order,
        summary="Cancel an order that was not sent yet",
        responses={409: {"model": models.Problem, "description": "It was sent already"}},
    )
    def cancel(order: str) -> dict[str, Any]:
        _view(order)
        now_ms = parts.clock.utc_ms()
        parts.writer.write(lambda c: orders.cancel(c, order, now_ms))
        view = _view(order)
        parts.live.order(view)
        parts.order_changed(view["meter"])
        return view

    def _view(order: str) -> dict[str, Any]:
        with parts.store.reading() as connection:
            return orders.order_view(connection, order)

    return router


def _tell_place(response: Response, path: str, is_new: bool) -> None:
    """Where the thing is that a request with an idempotency key made, perhaps an earlier time."""
    response.headers["Location"] = path
    if not is_new:
        response.headers["Idempotent-Replayed"] = "true"


def check_key(key: str) -> None:
    """Raises FieldError unless it is an idempotency key."""
    if not 1 <= len(key) <= KEY_MAX or not (key.isascii() and key.isprintable()):
        raise FieldError("Idempotency-Key", f"must be 1 to {KEY_MAX} printable characters")


def _recharges(parts: Parts) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["recharges"], dependencies=[_in_time(parts)])

    @router.post(
        "/meters/{meter}/recharges",
        status_code=201,
        response_model=models.Recharge,
        summary="Recharge a meter",
        responses={409: {"model": models.Problem, "description": "Key used with another body"}},
    )
    def add_recharge(
        meter: str,
        new: models.NewRecharge,
        response: Response,
        idempotency_key: IdempotencyKey,
    ) -> dict[str, Any]:
        """Queued, delivered when the meter is there, confirmed by the meter.

        The same key with the same body gives the same recharge again, not a second one.
        """
        parts.meters.check(meter)
        amount_mp = _amount(new)
        check_key(idempotency_key)
        now_ms = parts.clock.utc_ms()
        recharge, is_new = parts.writer.write(
            lambda connection: orders.create_recharge(
                connection, meter, amount_mp, idempotency_key, now_ms
            )
        )
        view = _view(recharge)
        if is_new:
            parts.live.recharge(view)
            parts.order_changed(meter)
            parts.upstream_changed()
        _tell_place(response, f"/api/recharges/{recharge}", is_new)
        return view

    @router.get("/meters/{meter}/recharges", summary="A meter's recharges, the newest first")
    def list_recharges(meter: str, limit: models.Limit = 100) -> list[models.Recharge]:
        parts.meters.check(meter)
        with parts.store.reading() as connection:
            found = orders.recharge_views(connection, tables.recharges.c.meter == meter, limit)
        return [models.Recharge(**view) for view in found]

    @router.get("/recharges/{recharge}", response_model=models.Recharge, summary="One recharge")
    def get_recharge(recharge: str) -> dict[str, Any]:
        return _view(recharge)

    @router.delete(
        "/recharges/{recharge}",
        response_model=models.Recharge,
        summary="Cancel a recharge that was not sent yet",
        responses={409: {"model": models.Problem, "description": "It was sent already"}},
    )
    def cancel(recharge: str) -> dict[str, Any]:
        now_ms = parts.clock.utc_ms()
        parts.writer.write(lambda c: orders.cancel_recharge(c, recharge, now_ms))
        view = _view(recharge)
        parts.live.recharge(view)
        parts.order_changed(view["meter"])
        parts.upstream_changed()
        return view

    def _view(recharge: str) -> dict[str, Any]:
        with parts.store.reading() as connection:
            return orders.recharge_view(connection, recharge)

    return router


def _amount(new: models.NewRecharge) -> int:
    if (new.amount_mp is None) == (new.rupees is None):
        raise FieldError("amount_mp", "give exactly one of amount_mp and rupees")
    if new.amount_mp is not None:
        return int(new.amount_mp)
    amount_mp = words.parse_rupees(new.rupees or "", "rupees")
    if not kinds.AMOUNT_MIN_MP <= amount_mp <= kinds.AMOUNT_MAX_MP:
        highest = words.rupees(kinds.AMOUNT_MAX_MP)
        raise FieldError("rupees", f"must be from 0.01 to {highest}")
    return amount_mp
