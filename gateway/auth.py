"""Who may use an HTTP service of ours: without a token this computer, with one its bearer.

Tests: host_tests/gateway/test_api.py.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import StartError

TOKEN_MIN = 16
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
PROBLEM = "application/problem+json"
OPEN_PATHS = ("/",)
"""The page itself holds no data; its script asks for the token."""


def read_token(path: Path | None) -> str:
    """The API token in a file, "" for no file. Raises StartError if it is missing or too short."""
    if path is None:
        return ""
    try:
        token = path.read_text("utf-8").strip()
    except OSError as error:
        raise StartError(f"the token file cannot be read: {error}") from error
    if len(token) < TOKEN_MIN:
        raise StartError(f"the token in {path} is shorter than {TOKEN_MIN} characters")
    return token


def is_loopback(host: str) -> bool:
    """True for an address that only this computer reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int, token: str) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises StartError if the address is not this computer's own and no token is set, or is taken.
    """
    if not token and not is_loopback(host):
        raise StartError(
            f"listening on {host} needs an API token (--token-file): without one only loopback "
            "addresses are allowed"
        )
    try:
        listening = socket.create_server((host, port), backlog=256)
    except OSError as error:
        raise StartError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    # Inherited by each connection. asyncio sets it only where the socket names its protocol, and
    # without it an answer's body waits 40 ms for the client's delayed ACK of its head.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


class Guard:
    """ASGI middleware that checks each request before anything else sees it."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(Headers(scope=scope), scope["path"])
        if refusal is not None:
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, headers: Headers, path: str) -> Response | None:
        if self._token:
            right = f"Bearer {self._token}".encode()
            if path in OPEN_PATHS or hmac.compare_digest(
                headers.get("authorization", "").encode(), right
            ):
                return None
            return problem(401, "unauthorized", "an API token is needed (Bearer)")
        # A web page elsewhere could make this computer's browser ask us under its own name.
        name = headers.get("host", "").rsplit(":", 1)[0]
        if name in LOCAL_NAMES or is_loopback(name.strip("[]")):
            return None
        return problem(403, "forbidden", "without an API token only local names are served")


def problem(
    status: int, title: str, detail: str, field: str | None = None, allowed: str | None = None
) -> JSONResponse:
    """An error as application/problem+json (RFC 9457), with the field and its allowed range."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
    }
    if field is not None:
        body["field"] = field
    if allowed is not None:
        body["allowed"] = allowed
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse(body, status, headers=headers, media_type=PROBLEM)


def server(app: FastAPI) -> uvicorn.Server:
    """A server for `app`, to be run with a socket of `listen`."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
    )
