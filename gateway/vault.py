"""Secrets at rest: meters' keys are sealed under a secret file kept apart from the database.

The secret file is created once, mode 600; a database whose secret vanished is an error, because a
new secret could never open the old keys. Tests: host_tests/gateway/test_service.py.
"""

from __future__ import annotations

import hmac
import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from gateway.errors import StoreError


def write_private(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, readable by the owner only, complete or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), 0o600)  # a left-over part may have had another mode
        file.write(content)
        file.flush()
        # Without it a power cut can leave an empty file under the final name.
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Vault:
    """Seals and opens short secrets."""

    def __init__(self, path: Path, may_create: bool) -> None:
        """Read the secret file; create it if `may_create` and it is not there.

        Raises StoreError if it is missing or not a secret file.
        """
        if not path.exists():
            if not may_create:
                raise StoreError(
                    f"the secret file {path} is missing: without it the stored meter keys cannot "
                    "be opened; restore it from its own backup"
                )
            write_private(path, Fernet.generate_key() + b"\n")
        try:
            self._secret = path.read_bytes().strip()
            self._fernet = Fernet(self._secret)
        except ValueError as error:
            raise StoreError(f"{path} is not a secret file of the gateway") from error

    def derive(self, use: str, meter: str, generation: int) -> bytes:
        """32 bytes that nobody without the secret file can tell from random ones.

        The same at each call: what a gateway gave to a meter after its last backup can be made
        again after a restoration.
        """
        text = f"bijli {use}\0{meter}\0{generation}"
        return hmac.digest(self._secret, text.encode(), "sha256")

    def seal(self, secret: bytes) -> bytes:
        """`secret` encrypted and authenticated."""
        return self._fernet.encrypt(secret)

    def open(self, sealed: bytes) -> bytes:
        """The secret in `sealed`. Raises StoreError if it was sealed under another secret file."""
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken as error:
            raise StoreError("a stored key does not belong to this secret file") from error
