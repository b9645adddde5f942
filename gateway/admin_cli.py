"""`bijli backup`, `bijli restore` and `bijli broker ...`: work on a gateway's data folder itself.

Exit codes: 0 done, 1 refused. Tests: host_tests/gateway/test_backup.py, test_broker.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway import backup as backups
from gateway.clock import RealClock
from gateway.errors import GatewayError
from gateway.run_cli import fail

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
) -> None:
    """Make a backup the database of a gateway that does not run.

    Orders that waited when it was made are sent again: look at them first if one was cancelled
    since (`bijli order list` shows them; start the gateway without its meters' network).
    """
    try:
        done = backups.restore(data, file, secret_file, RealClock().utc_ms())
    except GatewayError as error:
        raise fail(error) from error
    typer.echo(done)
