"""`bijli backup`, `bijli restore` and `bijli broker ...`: work on a gateway's data folder itself.

Exit codes: 0 done, 1 refused. Tests: host_tests/gateway/test_backup.py, test_broker.py.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer

from gateway import auth, certificates
from gateway import backup as backups
from gateway.broker_files import Listener, User, password_hash, render
from gateway.clock import RealClock
from gateway.errors import GatewayError, StoreError
from gateway.meters import broker_users
from gateway.run_cli import fail
from gateway.store import DATABASE
from gateway.vault import write_private

broker = typer.Typer(help="For a broker that somebody else runs.", no_args_is_help=True)

PASSWORD_FILE = "gateway.password"

Data = Annotated[Path, typer.Option(help="Folder of the gateway.")]
SecretFile = Annotated[
    Path | None, typer.Option(help="Secret that seals meter keys, if not in the data folder.")
]


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup; must not exist.")],
    data: Data = Path("var/gateway"),
) -> None:
    """Write a backup of a gateway's database, also while it runs.

    Keep the secret file (secret/meter-keys.secret) elsewhere: it opens the meters' keys.
    """
    try:
        size = backups.back_up(data, file)
    except GatewayError as error:
        raise fail(error) from error
    typer.echo(f"{file}: {size} bytes")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")],
    data: Data = Path("var/gateway"),
    secret_file: SecretFile = None,
    old: Annotated[
        bool, typer.Option("--old", help="Also a backup of more than 30 days; see SPEC section 7.")
    ] = False,
) -> None:
    """Make a backup the database of a gateway that does not run.

    Orders that waited when it was made are sent again: look at them first if one was cancelled
    since (`bijli order list` shows them; start the gateway without its meters' network).
    """
    try:
        done = backups.restore(data, file, secret_file, RealClock().utc_ms(), old)
    except GatewayError as error:
        raise fail(error) from error
    typer.echo(done)


Names = Annotated[
    list[str] | None,
    typer.Option("--name", help="Name or address under which the broker is found; may repeat."),
]


@broker.command("certificates")
def make_certificates(
    out: Annotated[Path, typer.Option(help="Folder for authority and certificate.")],
    name: Names = None,
) -> None:
    """Make a private authority and the broker's certificate under it; keep what is valid.

    The authority is valid for 20 years, the certificate for 2: run this again to renew it.
    ca.pem is what gateway and meters pin; ca.key stays secret and is not needed by the broker.
    """
    try:
        certificates.prepare(out, name or ["localhost"], RealClock().utc_ms())
    except (GatewayError, OSError) as error:
        raise fail(error) from error
    typer.echo(f"{out / certificates.CA_FILE}, {out / certificates.SERVER_FILE}")


@broker.command("config")
def write_config(
    out: Annotated[Path, typer.Option(help="Folder for mosquitto.conf, acl and passwords.")],
    data: Data = Path("var/gateway"),
    host: Annotated[str, typer.Option(help="Address of the listener.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 1883,
    tls: Annotated[
        bool, typer.Option("--tls", help="The listener speaks TLS; makes what certificates need.")
    ] = False,
    name: Names = None,
    installed_at: Annotated[
        Path | None, typer.Option(help="Where the files will lie on the broker's computer.")
    ] = None,
) -> None:
    """Write a configuration for mosquitto: users, topic rules, hashed passwords.

    Run it again, and have mosquitto read it (SIGHUP), after each new meter and each change of a
    broker password. The gateway's own password is in gateway.password and stays the same.
    """
    try:
        users = _users(data)
        password_file = out / PASSWORD_FILE
        if not password_file.exists():
            write_private(password_file, secrets.token_urlsafe(24).encode() + b"\n")
        password = auth.read_token(password_file)
        listener = Listener(host, port)
        there = (installed_at or out).resolve()
        if tls:
            certificates.prepare(out, name or ["localhost"], RealClock().utc_ms())
            listener = Listener(
                host,
                port,
                there / certificates.SERVER_FILE,
                there / certificates.SERVER_KEY_FILE,
            )
        files = render(there, [listener], users, password_hash(password), "")
        for file, content in files.items():
            write_private(out / file, content)
    except (GatewayError, OSError) as error:
        raise fail(error) from error
    typer.echo(f"{out}: {', '.join(files)} for {len({user.meter for user in users})} meters")


def _users(data: Path) -> list[User]:
    path = data / DATABASE
    if not path.exists():
        raise StoreError(f"there is no database in {data}")
    engine = sa.create_engine(f"sqlite:///file:{path.resolve()}?mode=ro&uri=true")
    try:
        with engine.connect() as connection:
            return broker_users(connection, {})
    except sa.exc.DBAPIError as error:
        raise StoreError(f"{path} cannot be read: {error.orig}; start the gateway once") from error
    finally:
        engine.dispose()
