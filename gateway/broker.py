"""The broker: mosquitto as a supervised child, with the configuration that the product ships.

Invariants: no anonymous access; one user per meter, who reaches only the meter's own topics;
passwords are stored hashed, files have mode 600; the child never outlives the gateway. The
configuration is generated anew at each start, the users come from the database.
Tests: host_tests/gateway/test_broker.py.
"""

from __future__ import annotations

import ctypes
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gateway.broker_files import GATEWAY_USER, Listener, User, password_hash, render
from gateway.clock import Clock, wait_until
from gateway.errors import BrokerError
from gateway.thread import WorkerThread
from gateway.vault import write_private

log = logging.getLogger("gateway.broker")

READY_TIMEOUT_S = 15
RELOAD_TIMEOUT_S = 3
BACKOFF_MIN_MS = 500
BACKOFF_MAX_MS = 30_000
STEADY_MS = 60_000
"""A broker that ran this long starts the backoff anew."""
STOP_TIMEOUT_S = 3
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Address:
    """Where a broker is, and the gateway's own access to it."""

    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: str = ""
    """Certificate of the authority that is pinned, PEM; "" for a connection without TLS."""


@dataclass(frozen=True)
class TlsListener:
    """A second listener with TLS, for the meters: certificate files in PEM."""

    host: str
    port: int
    certificate: Path
    key: Path
    ca: Path


def free_port(host: str, preferred: int = 0) -> int:
    """`preferred` if it can be had on `host`, else any free TCP port."""
    for port in (preferred, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                if port:  # taken meanwhile by somebody else: any other will do
                    continue
                raise
            return int(probe.getsockname()[1])
    raise BrokerError(f"no free port on {host}")


class Broker:
    """mosquitto as a child process.

    `users` gives the users of all meters, at each `start` and `reload`.
    """

    def __init__(
        self,
        clock: Clock,
        command: list[str],
        folder: Path,
        host: str,
        port: int,
        users: Callable[[], list[User]],
        run_as: str = "",
        tls: TlsListener | None = None,
    ) -> None:
        self._clock = clock
        self._command = command
        self._folder = folder
        self._users = users
        self._run_as = run_as
        self._listeners = [Listener(host, port)]
        if tls is not None:
            self._listeners.append(Listener(tls.host, tls.port, tls.certificate, tls.key))
        # Anew at each start and never written anywhere: nothing to steal from the disk.
        self._password = secrets.token_urlsafe(24)
        self._own_hash = password_hash(self._password)
        self.address = Address(host, port, GATEWAY_USER, self._password)
        self._ready = threading.Event()
        self._failed = threading.Event()
        self._child: subprocess.Popen[str] | None = None
        self._listener = threading.Thread()  # reads what the child says
        self._last_words: list[str] = []
        self._files_lock = threading.Lock()
        self._reload_lock = threading.Lock()
        self._reloaded = threading.Event()
        self._changed = threading.Condition()
        self.restarts = 0
        self._thread = WorkerThread(clock, "broker", self._supervise)
        self._worker, self._stop = self._thread.worker, self._thread.stopping

    def start(self) -> None:
        """Write the configuration, start the child, wait until it listens. Raises BrokerError."""
        self.write_files()
        self._thread.start()
        self._await(self._ready, READY_TIMEOUT_S)
        if not self._ready.is_set():
            words = "; ".join(self._last_words) or "it said nothing"
            raise BrokerError(f"mosquitto does not start: {words}")

    def reload(self) -> None:
        """Take up added or removed meters without disturbing the others.

        Returns when mosquitto has said so: from then on a new meter can connect. Raises BrokerError
        if the files cannot be written; the next reload or start brings them up to date.
        """
        with self._reload_lock:
            try:
                self.write_files()
            except OSError as error:
                raise BrokerError(f"the broker's users cannot be written: {error}") from error
            child = self._child
            if child is None or child.poll() is not None:
                return
            self._reloaded.clear()
            child.send_signal(signal.SIGHUP)
            self._await(self._reloaded, RELOAD_TIMEOUT_S)
            if not self._reloaded.is_set():
                log.warning("mosquitto did not say that it read its configuration again")

    def _await(self, event: threading.Event, timeout_s: int) -> None:
        """Wait until `event`, the child's end or the time-out; simulated time stands still.

        Real time, as for a socket: a process that does not answer is no event of the simulated
        world.
        """
        with self._clock.busy(), self._changed:
            self._changed.wait_for(
                lambda: event.is_set() or self._failed.is_set() or self._stop.is_set(), timeout_s
            )

    def _tell(self, event: threading.Event) -> None:
        with self._changed:
            event.set()
            self._changed.notify_all()

    def stop(self) -> None:
        """End the child; afterwards nothing of it is left."""
        self._thread.stop()

    @property
    def pid(self) -> int | None:
        """The child's process id, None while there is none."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    def write_files(self) -> None:
        """Write configuration, topic rules and passwords, mode 600."""
        with self._files_lock:
            user = self._run_as
            if not user and os.geteuid() == 0:
                # Started by root, mosquitto would change to a user who cannot read the files and
                # may not exist.
                user = "root"
            folder = self._folder.resolve()
            files = render(folder, self._listeners, self._users(), self._own_hash, user)
            for name, content in files.items():
                write_private(folder / name, content)

    def _supervise(self) -> None:
        backoff_ms = BACKOFF_MIN_MS
        while not self._stop.is_set():
            started_ms = self._clock.utc_ms()
            try:
                child = self._spawn()
            except OSError as error:
                self._last_words = [str(error)]
                self._tell(self._failed)
                log.error("mosquitto cannot be started: %s", error)
            else:
                while child.poll() is None and not self._stop.is_set():
                    self._worker.wait(None)
                self._ready.clear()
                if self._stop.is_set():
                    end(child)
                    return
                self._listener.join()  # its last words say why
                log.error("mosquitto ended with code %s; starting it again", child.returncode)
                self._tell(self._failed)
            now_ms = self._clock.utc_ms()
            if now_ms - started_ms > STEADY_MS:
                backoff_ms = BACKOFF_MIN_MS
            self.restarts += 1
            wait_until(self._clock, self._worker, now_ms + backoff_ms, self._stop)
            backoff_ms = min(backoff_ms * 2, BACKOFF_MAX_MS)

    def _spawn(self) -> subprocess.Popen[str]:
        # The death signal follows the thread that starts the child: this one lives as long as the
        # broker is wanted.
        child = subprocess.Popen(
            [*self._command, "-c", str(self._folder / "mosquitto.conf")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,  # Ctrl-C at the terminal ends the gateway, which then ends the broker
            preexec_fn=die_with_parent(),
        )
        self._child = child
        self._listener = threading.Thread(
            target=self._listen, args=(child,), name="broker-log", daemon=True
        )
        self._listener.start()
        return child

    def _listen(self, child: subprocess.Popen[str]) -> None:
        assert child.stderr is not None  # a pipe was asked for
        with child.stderr:
            self._read_log(child.stderr)
        child.wait()
        self._worker.wake()

    def _read_log(self, lines: Iterable[str]) -> None:
        for line in lines:
            text = line.strip().split(": ", 1)[-1]
            self._last_words = [*self._last_words[-4:], text]
            if text.startswith("mosquitto version") and text.endswith(" running"):
                log.info("%s on %s:%d", text, self.address.host, self.address.port)
                self._failed.clear()
                self._tell(self._ready)
            elif text.startswith("Reloading config"):
                # Said before the files are read, but by the one thread that also serves
                # connections: whoever connects from now on meets the new ones.
                self._tell(self._reloaded)
            elif text.startswith(("Error", "Warning")):
                log.warning("mosquitto: %s", text)
            else:
                log.debug("mosquitto: %s", text)


def die_with_parent() -> Callable[[], None] | None:
    """What a child runs before exec so that it dies with its parent, also by SIGKILL (Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork, where loading is not safe
    parent = os.getpid()

    def before_exec() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # the parent died before the call
            os._exit(1)

    return before_exec


def end(child: subprocess.Popen[str]) -> None:
    """Ask a child to end; kill it if it does not."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
