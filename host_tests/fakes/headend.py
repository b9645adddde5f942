"""The real stand-in head-end behind a door that fails on demand."""

import threading

from starlette.responses import Response

from gateway import auth
from gateway.headend import Ledger, make_app


class FaultyHeadend:
    """Serves on a free port. `fail(request number, path, body)` may return a status.

    A status is answered without asking the head-end; ("after", status) asks it first and then lies:
    the answer that got lost after the commit.
    """

    def __init__(self, folder):
        self.folder = folder
        self.ledger = Ledger(folder)
        self.app = make_app(self.ledger)
        self.fail = lambda number, path, body: None
        self.requests = []
        self._listening = auth.listen("127.0.0.1", 0, "")
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._server = auth.server(self)
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
        self.requests.append((scope["path"], body))
        fault = self.fail(len(self.requests), scope["path"], body)

        async def again():
            return {"type": "http.request", "body": body, "more_body": False}

        async def swallow(_message):
            return None

        if fault is None:
            await self.app(scope, again, send)
            return
        if isinstance(fault, tuple):
            await self.app(scope, again, swallow)
            fault = fault[1]
        await Response("fault", fault)(scope, receive, send)

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
        self._server.should_exit = True
        self._thread.join(timeout=5)
        self._listening.close()
        self.ledger.close()
