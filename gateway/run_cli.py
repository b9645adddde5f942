"""`bijli gateway run` and `bijli headend run`: services in the foreground, log on standard error.

SIGINT and SIGTERM end them cleanly. Tests: host_tests/gateway/test_cli.py.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

import typer

from gateway import auth
from gateway.broker import Address
from gateway.clock import Clock, RealClock
from gateway.errors import GatewayError, StartError
from gateway.headend import Ledger
from gateway.headend import make_app as make_headend
from gateway.service import Gateway, Settings
from gateway.vault import write_private
from toolchain import locate

gateway = typer.Typer(help="The gateway of a group of meters.", no_args_is_help=True)
headend = typer.Typer(help="A stand-in for the utility's head-end.", no_args_is_help=True)

log = logging.getLogger("gateway")


class Formatter(logging.Formatter):
    """Log lines with the time of the gateway's clock (UTC), real or simulated."""

    def __init__(self, clock: Clock) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        self._clock = clock

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        utc_ms = self._clock.utc_ms()
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(utc_ms // 1000))
        return f"{moment}.{utc_ms % 1000:03d}"


def start_log(clock: Clock, verbose: bool) -> None:
    """Log to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter(clock))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    # Their info lines name every request; ours say what matters.
    for name in ("httpx", "httpcore", "alembic", "uvicorn", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


def fail(error: Exception) -> typer.Exit:
    """Say what is wrong on standard error; to be raised."""
    typer.echo(f"bijli: {error}", err=True)
    return typer.Exit(1)


def wait_for_end() -> bool:
    """Return True at SIGINT or SIGTERM, False if a thread failed.

    A second signal ends the process at once.
    """
    ended = threading.Event()
    failed = threading.Event()

    def on_signal(number: int, _frame: object) -> None:
        if ended.is_set():
            os._exit(128 + number)
        ended.set()

    def on_thread_error(arguments: threading.ExceptHookArgs) -> None:
        # Every thread of ours is needed: a service that lives on without one only looks alive.
        # In simulated time the usual reason is that the conductor has ended.
        name = arguments.thread.name if arguments.thread else "?"
        if isinstance(arguments.exc_value, ConnectionError):
            log.error("thread %s: %s", name, arguments.exc_value)
        else:
            log.critical("thread %s failed", name, exc_info=arguments.exc_value)
        failed.set()
        ended.set()

    threading.excepthook = on_thread_error
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    ended.wait()
    return not failed.is_set()


def conducted_clock(address: str) -> Clock:
    """The simulated clock at HOST:PORT."""
    # Only here: a gateway in real time needs nothing of the emulated board.
    from boards.emulated.sim_clock import ConductedClock

    try:
        clock: Clock = ConductedClock(split_address(address, "--clock"), "gateway")
    except OSError as error:
        raise StartError(f"no conductor takes us at {address}: {error}") from error
    return clock


@gateway.command("run")
def run_gateway(
    data: Annotated[Path, typer.Option(help="Folder of everything that must be kept.")] = Path(
        "var/gateway"
    ),
    http_host: Annotated[str, typer.Option(help="Address of page and API.")] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8080,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the API token; needed beyond loopback.")
    ] = None,
    broker_host: Annotated[str, typer.Option(help="Address the broker listens on.")] = "127.0.0.1",
    broker_port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 1883,
    broker_user: Annotated[
        str, typer.Option(help="System user mosquitto changes to when root starts it.")
    ] = "",
    tls_port: Annotated[
        int,
        typer.Option(
            min=0,
            max=65535,
            envvar="BIJLI_TLS_PORT",
            help="Port of a TLS listener for the meters, 8883 by custom; 0: none.",
        ),
    ] = 0,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate, PEM; default: of an authority of its own.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    tls_ca: Annotated[
        Path | None, typer.Option(help="Certificate of its authority, which the meters pin.")
    ] = None,
    external_broker: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Use this broker, start none.")
    ] = "",
    external_user: Annotated[str, typer.Option(help="User on the external broker.")] = "",
    external_password_file: Annotated[
        Path | None, typer.Option(help="File with its password.")
    ] = None,
    external_ca: Annotated[str, typer.Option(help="CA file if it speaks TLS.")] = "",
    meter_broker_host: Annotated[
        str, typer.Option(help="Under which name meters find the broker.")
    ] = "",
    headend_url: Annotated[str, typer.Option("--headend", help="Base URL of the head-end.")] = "",
    headend_token_file: Annotated[Path | None, typer.Option(help="Its token.")] = None,
    secret_file: Annotated[
        Path | None, typer.Option(help="Secret that seals meter keys, if not in the data folder.")
    ] = None,
    clock: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Take the time from this conductor.")
    ] = "",
    verbose: Annotated[bool, typer.Option(help="Also log what is only for debugging.")] = False,
) -> None:
    """Run the gateway until Ctrl-C."""
    try:
        the_clock: Clock = conducted_clock(clock) if clock else RealClock()
    except GatewayError as error:
        raise fail(error) from error
    start_log(the_clock, verbose)
    try:
        given = [path for path in (tls_cert, tls_key, tls_ca) if path is not None]
        if given and (len(given) != 3 or not tls_port):
            raise StartError("--tls-cert, --tls-key and --tls-ca go together, with --tls-port")
        external = None
        if external_broker:
            host, port = split_address(external_broker, "--external-broker")
            password = ""
            if external_password_file is not None:
                password = auth.read_token(external_password_file)
            external = Address(host, port, external_user, password, external_ca)
        settings = Settings(
            folder=data,
            http_host=http_host,
            http_port=http_port,
            token_file=token_file,
            broker_host=broker_host,
            broker_port=broker_port,
            broker_command=[] if external else locate.mosquitto(),
            broker_user=broker_user,
            tls_port=tls_port,
            tls_certificate=tls_cert,
            tls_key=tls_key,
            tls_ca=tls_ca,
            external=external,
            meter_broker_host=meter_broker_host,
            headend_url=headend_url,
            headend_token_file=headend_token_file,
            secret_file=secret_file,
        )
        running = Gateway(settings, the_clock)
        running.start()
    except (GatewayError, locate.ToolMissing) as error:
        the_clock.close()
        raise fail(error) from error
    in_order = wait_for_end()
    log.info("stopping")
    running.stop()
    the_clock.close()
    log.info("stopped")
    if not in_order:
        raise typer.Exit(1)


@headend.command("run")
def run_headend(
    data: Annotated[Path, typer.Option(help="Folder of its database.")] = Path("var/headend"),
    http_host: Annotated[str, typer.Option(help="Address it listens on.")] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8090,
    token_file: Annotated[Path | None, typer.Option(help="File with the API token.")] = None,
    port_file: Annotated[
        Path | None, typer.Option(help="Write the base URL here once it serves.")
    ] = None,
    verbose: Annotated[bool, typer.Option(help="Also log what is only for debugging.")] = False,
) -> None:
    """Run the stand-in head-end until Ctrl-C."""
    start_log(RealClock(), verbose)
    try:
        token = auth.read_token(token_file)
        listening = auth.listen(http_host, http_port, token)
    except GatewayError as error:
        raise fail(error) from error
    ledger = Ledger(data)
    server = auth.server(make_headend(ledger, token))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    host, port = listening.getsockname()[:2]
    logging.getLogger("headend").info("page and API on http://%s:%d", host, port)
    if port_file is not None:
        write_private(port_file, f"http://{host}:{port}\n".encode())
    in_order = wait_for_end()
    server.should_exit = True
    thread.join(timeout=3)
    ledger.close()
    listening.close()
    if not in_order:
        raise typer.Exit(1)


def split_address(text: str, name: str) -> tuple[str, int]:
    """(host, port) of HOST:PORT. Raises StartError naming the option."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise StartError(f"{name} must be HOST:PORT with a port from 1 to 65535")
    return host, int(port)


if __name__ == "__main__":
    sys.exit("run as: bijli gateway run")
