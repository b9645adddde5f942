"""The composition root: makes the parts of a gateway, wires, starts and stops them.

Order of the stop: who makes work first (network, API), who finishes it last (writer, broker).
Tests: host_tests/gateway/test_service.py, test_crash.py, test_conducted.py.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import uvicorn

from gateway import api, auth, certificates, orders, tables
from gateway.accounts import Accounts
from gateway.alarms import of_meters
from gateway.audit import Audit
from gateway.broker import Address, Broker, TlsListener, free_port
from gateway.clock import Clock
from gateway.desk import Desk
from gateway.errors import BrokerError, StartError
from gateway.folder import lock, secret_path
from gateway.ingest import SUBSCRIPTIONS, Ingest, load_recent
from gateway.live import LiveBoard
from gateway.meters import Meters
from gateway.store import Store, open_store
from gateway.timeservice import TimeService
from gateway.transport import Incoming, Transport
from gateway.upstream import Upstream
from gateway.vault import Vault, write_private
from gateway.writer import Writer

log = logging.getLogger("gateway")

RUN_FILE = "run.json"
TLS_FOLDER = "tls"
START_TIMEOUT_S = 20
RECENT = 20
WILDCARDS = ("0.0.0.0", "::", "")


@dataclass
class Settings:
    """How a gateway is run. A port of 0 takes a free one, after a restart the same if possible."""

    folder: Path
    http_host: str = "127.0.0.1"
    http_port: int = 8080
    token_file: Path | None = None
    broker_host: str = "127.0.0.1"
    broker_port: int = 1883
    broker_command: list[str] = field(default_factory=list)
    broker_user: str = ""
    tls_port: int = 0
    """Port of a TLS listener for the meters; 0 for none. The other one is then for us only."""
    tls_certificate: Path | None = None
    """With `tls_key` and `tls_ca`; by default they are made, under an authority of our own."""
    tls_key: Path | None = None
    tls_ca: Path | None = None
    external: Address | None = None
    """An external broker; no child is started then."""
    meter_broker_host: str = ""
    """Where meters find the broker, if it is not the host that it listens on."""
    headend_url: str = ""
    headend_token_file: Path | None = None
    secret_file: Path | None = None


class Gateway:
    """A running gateway. `start` returns when everything serves; `stop` leaves nothing behind."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._closing = threading.Event()
        self._undo: list[Any] = []
        self.http_url = ""
        self.broker_address = settings.external or Address(settings.broker_host, 0)
        self.broker: Broker | None = None

    def start(self) -> None:
        """Start everything. Raises GatewayError; what was started is stopped then."""
        try:
            with self._clock.busy():
                self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything that was started, the last one first."""
        self._closing.set()
        while self._undo:
            self._undo.pop()()

    def _start(self) -> None:
        settings, clock = self._settings, self._clock
        settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._undo.append(lock(settings.folder).close)
        before = _read_run_file(settings.folder)
        token = auth.read_token(settings.token_file)
        listening = _listen(settings, before, token)
        self._undo.append(listening.close)

        store = open_store(settings.folder)
        self._undo.append(store.close)
        self.store = store
        secret = secret_path(settings.folder, settings.secret_file)
        vault = Vault(secret, may_create=not _has_meters(store))

        self.writer = Writer(clock, store)
        self._undo.append(self.writer.stop)
        broker_port = self._broker_port(before)
        meters_broker = self._meters_broker(broker_port)
        tls = self._tls(meters_broker.host)
        if tls is not None:
            meters_broker = replace(meters_broker, port=tls.port, ca_file=str(tls.ca))
        self.meters = Meters(store, self.writer, vault, meters_broker)
        if settings.external is None:
            self._start_broker(broker_port, tls)

        self.live = LiveBoard()
        self._restore_live()
        self.audit = Audit(clock, store)
        self._undo.append(self.audit.stop)
        self.transport = Transport(
            clock, self.broker_address, SUBSCRIPTIONS, self._arrived, self._connection_changed
        )
        self.time = TimeService(clock, self.meters.key, self.transport.publish)
        self.desk = Desk(
            clock, store, self.writer, self.transport, self.meters, self._orders_changed
        )
        self._undo.append(self.desk.stop)
        self.accounts = Accounts(
            clock, store, self.writer, self.audit, self.live, self.desk.changed
        )
        self._undo.append(self.accounts.stop)
        self.ingest = Ingest(
            lambda meter: self.meters.key(meter) is not None,
            self.live,
            self,
            self.transport.publish,
            self.meters.complete,
        )
        self.upstream: Upstream | None = None
        if settings.headend_url:
            self.upstream = Upstream(
                clock,
                store,
                self.writer,
                settings.headend_url,
                _database_id(store),
                auth.read_token(settings.headend_token_file),
            )
            self._undo.append(self.upstream.stop)

        self.writer.start(self.ingest, self.transport.acknowledge)
        self.audit.start(self.meters.ids())
        self.desk.start()
        self.accounts.start()
        if self.upstream is not None:
            self.upstream.start()
        self.transport.start()
        self._undo.append(self.transport.stop)
        self._serve(listening, token)
        self._write_run_file(listening)

    def _broker_port(self, before: dict[str, Any]) -> int:
        settings = self._settings
        if settings.external is not None:
            return settings.external.port
        return settings.broker_port or free_port(
            settings.broker_host, int(before.get("broker_port", 0))
        )

    def _meters_broker(self, port: int) -> Address:
        settings = self._settings
        host = settings.external.host if settings.external else settings.broker_host
        if host in WILDCARDS and not settings.meter_broker_host:
            raise StartError(
                f"the broker listens on {host or 'all addresses'}: --meter-broker-host must say "
                "under which name meters find it"
            )
        ca_file = settings.external.ca_file if settings.external else ""
        return Address(settings.meter_broker_host or host, port, ca_file=ca_file)

    def _tls(self, name: str) -> TlsListener | None:
        """The TLS listener for meters that find the broker under `name`."""
        settings = self._settings
        if not settings.tls_port or settings.external is not None:
            return None
        host, port = settings.broker_host, settings.tls_port
        if settings.tls_certificate and settings.tls_key and settings.tls_ca:
            files = (settings.tls_certificate, settings.tls_key, settings.tls_ca)
            return TlsListener(host, port, *(file.resolve() for file in files))
        folder = settings.folder.resolve() / TLS_FOLDER
        certificates.prepare(folder, [name, "localhost"], self._clock.utc_ms())
        return TlsListener(
            host,
            port,
            folder / certificates.SERVER_FILE,
            folder / certificates.SERVER_KEY_FILE,
            folder / certificates.CA_FILE,
        )

    def _start_broker(self, port: int, tls: TlsListener | None) -> None:
        settings = self._settings
        self.broker = Broker(
            self._clock,
            settings.broker_command,
            settings.folder / "broker",
            # With TLS for the meters the plain listener is for this computer only.
            settings.broker_host if tls is None else "127.0.0.1",
            port,
            self.meters.broker_users,
            settings.broker_user,
            tls,
        )
        self._undo.append(self.broker.stop)
        self.broker.start()
        host = "127.0.0.1" if settings.broker_host in WILDCARDS else settings.broker_host
        own = self.broker.address
        self.broker_address = Address(host, own.port, own.user, own.password)

    def _restore_live(self) -> None:
        with self.store.reading() as connection:
            table = tables.meters
            for row in connection.execute(
                sa.select(*table.c["id", "consumer"]).order_by(table.c.id)
            ):
                self.live.add_meter(row.id, row.consumer)
                self.live.restore(row.id, load_recent(connection, row.id, RECENT))
            recharges = orders.recharge_views(connection, sa.true(), RECENT)
            others = orders.order_views(connection, sa.true(), RECENT)
        for view in reversed(recharges):
            self.live.recharge(view)
        for view in reversed(others):
            self.live.order(view)

    def _serve(self, listening: socket.socket, token: str) -> None:
        app = api.make_app(
            api.Parts(
                clock=self._clock,
                store=self.store,
                writer=self.writer,
                meters=self.meters,
                live=self.live,
                audit=self.audit,
                health=self.health,
                meter_registered=self._meter_registered,
                accounts=self.accounts,
                order_changed=self._order_asked,
                upstream_changed=self._wake_upstream,
                closing=self._closing.is_set,
            ),
            token,
        )
        server = auth.server(app)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listening]}, name="http", daemon=True
        )
        thread.start()
        self._undo.append(lambda: self._stop_serving(server, thread))
        host, port = listening.getsockname()[:2]
        self.http_url = f"http://{host}:{port}"

    def _stop_serving(self, server: uvicorn.Server, thread: threading.Thread) -> None:
        server.should_exit = True
        self.live.wake_listeners()
        thread.join(timeout=3)

    def _write_run_file(self, listening: socket.socket) -> None:
        run = {
            "pid": os.getpid(),
            "http": self.http_url,
            "http_port": listening.getsockname()[1],
            "broker_host": self.broker_address.host,
            "broker_port": self.broker_address.port,
        }
        write_private(self._settings.folder / RUN_FILE, json.dumps(run, indent=1).encode())
        log.info("page and API on %s", self.http_url)

    # Called from other threads.

    def _arrived(self, message: Incoming) -> None:
        if message.topic.endswith("/ask"):
            self.time.ask(message)
        else:
            self.writer.put(message)

    def _connection_changed(self, connected: bool) -> None:
        if not connected and not self._closing.is_set():
            self.desk.broker_lost()

    def _orders_changed(self, ids: list[str]) -> None:
        with self.store.reading() as connection:
            recharges = orders.recharge_views(connection, tables.recharges.c.id.in_(ids))
            others = orders.order_views(connection, tables.orders.c.id.in_(ids))
        for view in recharges:
            self.live.recharge(view)
        for view in others:
            self.live.order(view)
        for view in others:
            self.accounts.changed(view["meter"])
        if recharges:
            self._wake_upstream()

    def _order_asked(self, meter: str) -> None:
        """An order of a meter was made or cancelled over the API."""
        self.desk.changed(meter)
        self.accounts.changed(meter)

    def _wake_upstream(self) -> None:
        if self.upstream is not None:
            self.upstream.wake()

    def _meter_registered(self, meter: str, consumer: str) -> None:
        if self.broker is not None:
            self.broker.reload()
        self.live.add_meter(meter, consumer)
        log.info("meter %s registered", meter)

    # Told by the ingest after a commit (gateway.ingest.Listeners).

    def records_stored(self, meter: str) -> None:
        self._wake_upstream()
        self.audit.changed(meter)
        self.accounts.changed(meter)

    def order_changed(self, meter: str) -> None:
        self._wake_upstream()
        users_changed = self.meters.refresh(meter)
        self.desk.changed(meter)
        self.accounts.changed(meter)
        if users_changed and self.broker is not None:
            try:
                self.broker.reload()
            except BrokerError as error:
                # The meter's new user was let in before; only the old one stays longer.
                log.error("%s: %s", meter, error)

    def link_changed(self, meter: str, online: bool, sure: bool) -> None:
        self.desk.link(meter, online, sure)

    def health(self) -> dict[str, Any]:
        """What works and what does not, in numbers and in words."""
        with self.store.reading() as connection:
            gaps = connection.execute(
                sa.select(sa.func.count()).select_from(tables.gaps)
            ).scalar_one()
            quarantined = connection.execute(
                sa.select(sa.func.count()).select_from(tables.quarantine)
            ).scalar_one()
            open_orders = sum(orders.open_counts(connection).values())
            blocked = orders.blocked_counts(connection)
        alarms = []
        if not self.transport.connected:
            alarms.append("no connection to the broker")
        if self.ingest.broker_dropped:
            alarms.append(f"the broker dropped {self.ingest.broker_dropped} messages")
        if self.writer.commit_failures:
            alarms.append(f"{self.writer.commit_failures} commits failed")
        if gaps:
            alarms.append(f"{gaps} gaps in meters' records")
        if quarantined:
            alarms.append(f"{quarantined} messages in quarantine")
        if self.ingest.quarantine_full:
            alarms.append(f"quarantine is full, {self.ingest.quarantine_full} messages not kept")
        for meter, texts in of_meters(self.meters.ids(), self.live, self.audit, blocked).items():
            alarms += [f"{meter}: {text}" for text in texts]
        upstream: dict[str, Any] = {"configured": self.upstream is not None}
        if self.upstream is not None:
            upstream["backlog"] = self.upstream.backlog()
            upstream["rejected"] = self.upstream.rejected()
            upstream["last_error"] = self.upstream.last_error
            upstream["last_success_utc_ms"] = self.upstream.last_success_utc_ms
            if self.upstream.last_error:
                alarms.append(f"head-end: {self.upstream.last_error}")
            if upstream["rejected"]:
                alarms.append(f"the head-end refused {upstream['rejected']} items")
        return {
            "status": "degraded" if alarms else "ok",
            "alarms": alarms,
            "utc_ms": self._clock.utc_ms(),
            "meters": len(self.meters.ids()),
            "broker": {
                "connected": self.transport.connected,
                "host": self.broker_address.host,
                "port": self.broker_address.port,
                "restarts": self.broker.restarts if self.broker is not None else 0,
                "dropped": self.ingest.broker_dropped,
            },
            "ingest": {
                "records": self.ingest.records,
                "duplicates": self.ingest.duplicates,
                "quarantined": self.ingest.quarantined,
                "quarantine_full": self.ingest.quarantine_full,
                "waiting": self.writer.waiting,
                "dropped_live": self.writer.dropped_live,
                "time_answers": self.time.answered,
                "time_refused": self.time.refused,
            },
            "orders_open": open_orders,
            "gaps": gaps,
            "upstream": upstream,
        }


def _read_run_file(folder: Path) -> dict[str, Any]:
    path = folder / RUN_FILE
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except ValueError as error:
        # Only a memory of the last ports; a new one is written.
        log.warning("%s cannot be read: %s", path, error)
        return {}


def _listen(settings: Settings, before: dict[str, Any], token: str) -> socket.socket:
    if settings.http_port == 0 and before.get("http_port"):
        try:
            return auth.listen(settings.http_host, int(before["http_port"]), token)
        except StartError as error:
            log.info("%s; taking another port", error)
    return auth.listen(settings.http_host, settings.http_port, token)


def _has_meters(store: Store) -> bool:
    with store.reading() as connection:
        return connection.execute(sa.select(tables.meters.c.id).limit(1)).first() is not None


def _database_id(store: Store) -> str:
    with store.reading() as connection:
        table = tables.meta
        query = sa.select(table.c.value).where(table.c.name == "database_id")
        return str(connection.execute(query).scalar_one())
