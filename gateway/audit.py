"""The second opinion: every meter's balance recomputed from its own records, to the milli-paisa.

Replays the ledger records into `firmware.credit.account.Account` and compares with the balance that
the meter wrote into each record. A meter that lost ledger records (event 1032) knows its balance no
more: until its resync the totals are kept here, and are what the resync will say.
Runs behind the ingest, in its own worker, and on request.
Tests: host_tests/gateway/test_ingest.py.
"""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

import sqlalchemy as sa

from firmware.core import events
from firmware.credit import charges, life
from firmware.credit.account import Account, ends_period
from firmware.credit.charges import total_mp
from firmware.credit.tariff import TariffError
from firmware.link import codec
from gateway import tables
from gateway.clock import Clock
from gateway.store import Store
from gateway.thread import WorkerThread

log = logging.getLogger("gateway.audit")

LINE = ("name", "kind", "quantity", "unit", "rate", "amount_mp")
"""Members of a line of a charge, as `charges.charge_lines` puts them."""

RESYNC_MAX = 3_700
"""Bytes of totals that fit an order; with two long tariffs the one that is held is left out."""

CONTACT = (
    events.SWITCH_WELD,
    events.NOT_CLOSED,
    events.CONTACT_WORKS,
    events.DISCONNECTED,
    events.CONNECTED,
)
"""Events that say whether the contact does what its meter wants: the first two that it does not."""

READ_MAX = 5_000
"""Records in memory at once while catching up."""


class _Replay:
    """The account of one journal (store) of a meter, replayed up to a record."""

    def __init__(self) -> None:
        self.store = ""
        self.row_id = 0
        self.before: dict[str, Any] | None = None  # the account in the journal before this one
        self.register_wh = 0  # the highest one
        self.account = Account()
        self.changes: dict[str, dict[str, Any]] = {}  # of the account, by the id of the order
        self.begin("")

    def begin(self, store: str) -> None:
        """Start anew: another journal, or a record that came late."""
        if store != self.store and self.account.tariff is not None:
            self.before = self.account.state()
        self.lost = False
        self.contact_fault = 0  # code of the event that told it, 0: the contact works
        self.store = store
        self.seq = 0
        self.account = Account()
        self.checked = 0
        self.mismatches = 0
        self.first_mismatch: dict[str, Any] | None = None
        self.last: dict[str, Any] | None = None
        self.last_recomputed_mp = 0  # the balance at it: a period that ends behind it changes it
        self.moment = (0, 0)  # (boot, up_s) of the newest record of any type
        self.fault = ""


class Audit:
    """Thread-safe; the worker keeps it up to date."""

    def __init__(self, clock: Clock, store: Store) -> None:
        self._store = store
        self._replays: dict[str, _Replay] = {}
        self._dirty: set[str] = set()
        self._dirty_lock = threading.Lock()
        self._lock = threading.Lock()
        self._thread = WorkerThread(clock, "audit", self._run)
        self._worker, self._stop = self._thread.worker, self._thread.stopping

    def start(self, meters: list[str]) -> None:
        """Begin, with all of `meters` to be caught up."""
        self._dirty.update(meters)
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._thread.stop()

    def changed(self, meter: str) -> None:
        """New records of a meter are in the database."""
        with self._dirty_lock:
            self._dirty.add(meter)
        self._worker.wake()

    @property
    def mismatches(self) -> dict[str, int]:
        """Number of records whose balance is not the recomputed one, by meter, if any."""
        return {m: r.mismatches for m, r in list(self._replays.items()) if r.mismatches}

    def result(self, meter: str, live: Any = None) -> dict[str, Any]:
        """The balance by the meter, recomputed, and whether they agree.

        `live` (present values) is taken for the comparison when the meter has no record waiting,
        else its last record.
        """
        with self._lock:
            replay = self._catch_up(meter)
            account, last = replay.account, replay.last
            source = "record"
            if (
                live is not None
                and last is not None
                and live.waiting == 0
                and live.store == replay.store
                # Older values must not be compared with a ledger that has moved on since.
                and (live.boot, live.up_s) > replay.moment
            ):
                source = "live"
                said = {
                    "utc_s": live.utc_s,
                    "import_wh": live.import_wh + live.uncommitted_wh,
                    "balance_mp": live.balance_mp,
                }
            elif last is not None:
                said = {name: last[name] for name in ("utc_s", "import_wh", "balance_mp")}
            else:
                return {
                    "meter": meter,
                    "source": "none",
                    "agree": None,
                    "fault": replay.fault,
                    "ledger_lost": replay.lost,
                }
            recomputed_mp = replay.last_recomputed_mp
            if source == "live":
                recomputed_mp = account.balance_mp(said["import_wh"])
            lines = account.open_lines(said["import_wh"])
            return {
                "meter": meter,
                "source": source,
                "by_meter": said,
                "recomputed_mp": recomputed_mp,
                "difference_mp": said["balance_mp"] - recomputed_mp,
                # A meter without its ledger does not know its balance.
                "agree": None
                if replay.lost
                else said["balance_mp"] == recomputed_mp
                and replay.mismatches == 0
                and not replay.fault,
                "ledger_lost": replay.lost,
                "fault": replay.fault,
                "credits_mp": account.credits_mp,
                "closed_periods_mp": account.closed_mp,
                "open_period": {
                    "start_utc_s": account.period_start_utc_s,
                    "start_wh": account.period_start_wh,
                    "start_day": account.tariff.period_start_day if account.tariff else 1,
                    "charge_mp": total_mp(lines),
                    "lines": [dict(zip(LINE, line, strict=True)) for line in lines],
                },
                "records_checked": replay.checked,
                "mismatches": replay.mismatches,
                "first_mismatch": replay.first_mismatch,
            }

    def totals(self, meter: str) -> tuple[bool, dict[str, Any], int]:
        """(ledger lost, totals for a resync, the balance at their register), docs/SPEC.md 2.6.

        With every recharge and adjustment that the meter has confirmed, also those whose record
        never came.
        """
        with self._lock:
            replay = self._catch_up(meter)
            account = Account()
            account.restore(replay.account.state())
            register_wh, lost = replay.register_wh, replay.lost
        with self._store.reading() as connection:
            if account.tariff is None:
                _register(connection, meter, account)
            for kind, amount_mp in _confirmed_without_record(connection, meter):
                account.apply(
                    {
                        "type": "credit",
                        "kind": kind,
                        "amount_mp": amount_mp,
                        "import_wh": register_wh,
                    }
                )
        document = {**account.state(), "import_wh": register_wh}
        if len(codec.encode(document)) > RESYNC_MAX:
            document["passive"] = None
        return lost, document, account.balance_mp(register_wh)

    def account(self, meter: str) -> Account:
        """The account as its records tell it; as it was registered, if there is none yet."""
        with self._lock:
            account = self._catch_up(meter).account.copy()
        if account.tariff is None:
            with self._store.reading() as connection:
                _register(connection, meter, account)
        return account

    def account_change(self, meter: str, order: str) -> dict[str, Any] | None:
        """What a meter's record says that an `account` order did, None if there is none yet.

        `document` is the recomputed one, `agrees`: the meter's is the same; `lines` those of the
        charge to which a closed account had come.
        """
        with self._lock:
            return self._catch_up(meter).changes.get(order)

    @property
    def lost(self) -> list[str]:
        """Meters whose ledger is lost."""
        return sorted(meter for meter, replay in list(self._replays.items()) if replay.lost)

    @property
    def contact_faults(self) -> dict[str, int]:
        """SWITCH_WELD or NOT_CLOSED by meter, if its contact does not do what it should."""
        return {m: r.contact_fault for m, r in list(self._replays.items()) if r.contact_fault}

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._dirty_lock:
                meter = min(self._dirty) if self._dirty else None
                if meter is not None:
                    self._dirty.discard(meter)
            if meter is None:
                self._worker.wait(None)
                continue
            try:
                with self._lock:
                    self._catch_up(meter)
            except sa.exc.DBAPIError as error:
                log.error("%s: the balance cannot be checked: %s", meter, error)

    def _catch_up(self, meter: str) -> _Replay:
        replay = self._replays.setdefault(meter, _Replay())
        table = tables.records
        with self._store.reading() as connection:
            while True:
                rows = connection.execute(
                    sa.select(*table.c["id", "store", "seq", "content"])
                    .where(table.c.meter == meter, table.c.id > replay.row_id)
                    .order_by(table.c.id)
                    .limit(READ_MAX)
                ).all()
                for row in rows:
                    if row.store != replay.store:
                        replay.begin(row.store)
                    elif row.seq < replay.seq:
                        self._again(connection, meter, replay, row.id)
                        break
                    replay.row_id = row.id
                    self._apply(meter, replay, row.seq, json.loads(row.content))
                else:
                    if len(rows) < READ_MAX:
                        return replay

    def _again(self, connection: Any, meter: str, replay: _Replay, up_to_id: int) -> None:
        """A record filled a gap: replay the journal in its own order."""
        table = tables.records
        replay.begin(replay.store)
        for row in connection.execute(
            sa.select(*table.c["seq", "content"])
            .where(table.c.meter == meter, table.c.store == replay.store, table.c.id <= up_to_id)
            .order_by(table.c.seq)
        ):
            self._apply(meter, replay, row.seq, json.loads(row.content))
        replay.row_id = up_to_id

    def _apply(self, meter: str, replay: _Replay, seq: int, record: dict[str, Any]) -> None:
        replay.seq = seq
        replay.moment = (record["boot"], record["up_s"])
        if "import_wh" in record:
            replay.register_wh = max(replay.register_wh, record["import_wh"])
        if record["type"] == "event" and record["code"] in CONTACT:
            replay.contact_fault = record["code"] if record["code"] in CONTACT[:2] else 0
            if record["code"] == events.SWITCH_WELD and record["detail"]:
                # Older firmware has one event for both, with what was wanted as its detail.
                replay.contact_fault = events.NOT_CLOSED
        if record["type"] == "event" and record["code"] == events.LEDGER_LOST:
            replay.lost = True
            if replay.before is not None and replay.account.tariff is None:
                replay.account.restore(replay.before)
                # It knows no zones until its resync.
                replay.account.usage.normal(record["import_wh"])
        account = replay.account
        charge_mp = None  # what a closed period should have cost
        if record["type"] == "period":
            charge_mp = account.period_charge_mp(record["end_wh"]) if ends_period(record) else 0
        if replay.lost and record["type"] != "resync":
            # What the meter says of its account meanwhile is not to be relied on: only the calendar
            # is taken from it, because prices begin anew with each month.
            if record["type"] == "tally":
                account.apply(record)
            elif charge_mp is not None and ends_period(record):
                account.apply({**record, "charge_mp": charge_mp})
            if "import_wh" in record and "balance_mp" in record:
                replay.last = record
                replay.last_recomputed_mp = account.balance_mp(record["import_wh"])
            return
        replay.lost = False
        try:
            if record["type"] == "account":
                _take_account(meter, replay, seq, record)
            account.apply(record)
        except (TariffError, KeyError, TypeError) as error:
            # Of a newer meter, or of somebody in its name: the record is kept and forwarded, only
            # we cannot judge.
            what = error if isinstance(error, TariffError) else repr(error)[:100]
            replay.fault = f"record {seq} holds what this gateway cannot read: {what}"
            log.error("%s: %s", meter, replay.fault)
        if charge_mp is not None:
            replay.checked += 1
            _compare(meter, replay, seq, record["charge_mp"], charge_mp)
        if "import_wh" in record and "balance_mp" in record:
            replay.checked += 1
            replay.last = record
            replay.last_recomputed_mp = account.balance_mp(record["import_wh"])
            _compare(meter, replay, seq, record["balance_mp"], replay.last_recomputed_mp)


def _compare(meter: str, replay: _Replay, seq: int, by_meter_mp: int, recomputed_mp: int) -> None:
    """Count a record whose amount is not the recomputed one."""
    if by_meter_mp != recomputed_mp:
        replay.mismatches += 1
        if replay.first_mismatch is None:
            replay.first_mismatch = {
                "store": replay.store,
                "seq": seq,
                "by_meter_mp": by_meter_mp,
                "recomputed_mp": recomputed_mp,
            }
            log.error(
                "%s: record %d says %d mp, recomputed %d mp",
                meter,
                seq,
                by_meter_mp,
                recomputed_mp,
            )


def _take_account(meter: str, replay: _Replay, seq: int, record: dict[str, Any]) -> None:
    """Keep what an `account` record does, and count it if a closing is not the recomputed one."""
    change = _account_change(replay.account, record)
    replay.changes[record["id"]] = change
    if record["action"] == "closed":
        replay.checked += 1
        for name in ("balance_mp", "charge_mp"):
            if name in change["document"]:
                by_meter_mp = record["document"][name]
                _compare(meter, replay, seq, by_meter_mp, change["document"][name])


def _account_change(account: Account, record: dict[str, Any]) -> dict[str, Any]:
    """As `Audit.account_change`, of the account before the record."""
    document, wh = record["document"], record["import_wh"]
    lines: list[Any] = []
    if record["action"] == "closed" and account.tariff is not None:
        if "moved_to" in document:
            recomputed = life.moving(account, wh, document["moved_to"])
            lines = account.open_lines(wh)
        else:
            recomputed = life.closing(account, wh)
            part = account.closing(record)
            lines = charges.charge_lines(account.tariff, part)
    else:
        recomputed = document
    return {
        "action": record["action"],
        "document": recomputed,
        "agrees": recomputed == document,
        "import_wh": wh,
        "utc_s": record["utc_s"] if record["time_valid"] else 0,
        "lines": [dict(zip(LINE, line, strict=True)) for line in lines],
    }


def _register(connection: Any, meter: str, account: Account) -> None:
    """The account of a meter of which no record is here: as it was registered."""
    table, tariffs = tables.meters, tables.tariffs
    row = connection.execute(
        sa.select(table.c.opening_balance_mp, tariffs.c.document)
        .join(
            tariffs,
            (tariffs.c.id == table.c.tariff_id) & (tariffs.c.version == table.c.tariff_version),
        )
        .where(table.c.id == meter)
    ).one()
    account.credits_mp = row.opening_balance_mp
    account.restore({**account.state(), "tariff": json.loads(row.document), "usage": None})


def _confirmed_without_record(connection: Any, meter: str) -> list[tuple[str, int]]:
    """Kind and amount of entries that the meter answered to, but whose ledger record never came.

    One that was confirmed before the last resync is in the totals which that gave to the meter.
    """
    records, orders = tables.records, tables.orders
    known = {
        json.loads(row.content)["id"]
        for row in connection.execute(
            sa.select(records.c.content).where(records.c.meter == meter, records.c.type == "credit")
        )
    }
    mine = (orders.c.meter == meter) & (orders.c.state == "done")
    resynced_utc_ms = connection.execute(
        sa.select(sa.func.max(orders.c.created_utc_ms)).where(mine, orders.c.kind == "resync")
    ).scalar()
    rows = connection.execute(
        sa.select(*orders.c["id", "members"])
        .where(
            mine,
            orders.c.kind.in_(("recharge", "adjustment")),
            orders.c.ended_utc_ms > (resynced_utc_ms or 0),
        )
        .order_by(orders.c.position)
    )
    missing = ((row.id, json.loads(row.members)) for row in rows)
    return [(m.get("entry", "recharge"), m["amount_mp"]) for id_, m in missing if id_ not in known]
