"""The gateway's errors, each caught by name somewhere.

`FieldError` is what bad input becomes: it names the member and says what is allowed.
"""

from __future__ import annotations


class GatewayError(Exception):
    """Base of the gateway's own errors; the text is for the operator and holds no secret."""


class FieldError(GatewayError):
    """Input that is refused: `field` is the member at fault, `allowed` what would be taken."""

    def __init__(self, field: str, allowed: str) -> None:
        super().__init__(f"{field}: {allowed}")
        self.field = field
        self.allowed = allowed


class NotFound(GatewayError):
    """Nothing is known under this name: `what` says which kind of thing, `name` which one."""

    def __init__(self, what: str, name: str) -> None:
        super().__init__(f"no {what} {name!r}")
        self.what = what
        self.name = name


class Conflict(GatewayError):
    """The request is well formed but contradicts what is stored; nothing was changed."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


class StoreError(GatewayError):
    """The database cannot be used as it is; nothing was created or changed."""


class StoreBusy(GatewayError):
    """The database cannot be written right now (disk full, I/O error); try again later."""


class BrokerError(GatewayError):
    """The broker did not start or cannot be configured."""


class StartError(GatewayError):
    """The gateway cannot start as it is configured."""
