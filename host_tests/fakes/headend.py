"""The stand-in head-end behind a door that fails on demand."""

import json
import logging
import threading

import httpx
from starlette.responses import Response

from gateway import auth
from gateway.headend import Ledger, make_app


class Door:
    """Serves an ASGI application on a free port. `fail(request number, path, body)` may return

    - a status: answered without asking the application;
    - ("after", status): it is asked first, then the door lies: an answer that got lost;
    - ("after", "close"): the same, and the connection ends within the answer;
    - ("part", status): it gets the first half of the items, then the door answers so;
    - "twice": it gets the request twice.
    """

    def __init__(self, app):
        self.app = app
        self.fail = lambda number, path, body: None
        self.requests = 0
        self._listening = auth.listen("127.0.0.1", 0, "")
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._server = auth.server(self)
        # It complains of answers that end too early, which is what they are to do.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listening]}, daemon=True
        )
        self._thread.start()

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        body = b""
        while True:
            part = await receive()
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        self.requests += 1
        fault = self.fail(self.requests, scope["path"], body)

        async def ask(content, to=None):
            async def give():
                return {"type": "http.request", "body": content, "more_body": False}

            async def swallow(_message):
                return None

            await self.app(scope, give, to or swallow)

        if fault is None:
            await ask(body, send)
            return
        if fault == "twice":
            await ask(body)
            await ask(body, send)
            return
        if isinstance(fault, tuple):
            how, fault = fault
            if how == "part":
                batch = json.loads(body)
                batch["items"] = batch["items"][: len(batch["items"]) // 2]
                if batch["items"]:
                    await ask(json.dumps(batch).encode())
            else:
                await ask(body)
        if fault == "close":
            length = [(b"content-length", b"100")]
            await send({"type": "http.response.start", "status": 200, "headers": length})
            return
        await Response("fault", fault)(scope, receive, send)

    def close(self):
        self._server.should_exit = True
        self._thread.join(timeout=5)
        self._listening.close()


class FaultyHeadend(Door):
    """The real stand-in head-end in this process, behind a door."""

    def __init__(self, folder):
        self.folder = folder
        self.ledger = Ledger(folder)
        super().__init__(make_app(self.ledger))

    def identities(self):
        return [
            (r["meter"], r["store"], r["boot"], r["seq"])
            for r in self.ledger.rows("SELECT * FROM records ORDER BY id")
        ]

    def recharges(self):
        return [
            (r["recharge"], r["state"])
            for r in self.ledger.rows("SELECT * FROM recharges ORDER BY id")
        ]

    def close(self):
        super().close()
        self.ledger.close()


def forwarder(url):
    """An ASGI application that asks a head-end at `url()`; 502 if it is away."""
    client = httpx.AsyncClient(timeout=30, trust_env=False)

    async def app(scope, receive, send):
        body = (await receive()).get("body", b"")
        try:
            answer = await client.request(
                scope["method"],
                url() + scope["path"],
                content=body,
                headers={"Content-Type": "application/json"},
            )
        except httpx.HTTPError:
            await Response("away", 502)(scope, receive, send)
            return
        await Response(answer.content, answer.status_code, media_type="application/json")(
            scope, receive, send
        )

    return app
