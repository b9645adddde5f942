"""The clock conductor: one simulated time for boards, gateway and scenario.

`Timekeeper` is the protocol of README.md without any I/O: lines and wall-clock times go in, lines
come out. `Conductor` is its server: one thread, TCP on loopback.

Invariants: time never goes back; it moves only when every participant is idle, none holds and
none is expected; it never passes the UNTIL of an idle participant without granting it. Who goes
ahead by itself (`_let_ahead`) stays before every UNTIL that was known when it was let go.
Tests: host_tests/system/test_conductor.py.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

CAP_S = 10.0  # a participant that is busy or holds longer (wall clock) is passed over
AHEAD_MS = 60_000  # how far a participant may go by itself while nobody else has anything to do
LAG_LIMIT_S = 1.0  # paced time that stood still makes up for at most this much (wall clock)

Out = list[tuple[int, str]]  # (key of a connection, line for it)


class _Participant:
    __slots__ = (
        "ahead_ms",
        "goes_ahead",
        "hold",
        "hold_spent",
        "idle",
        "name",
        "passed_over",
        "request_id",
        "since_s",
        "stopped",
        "until_ms",
    )

    def __init__(self, name: str, since_s: float, goes_ahead: bool) -> None:
        self.name = name
        self.goes_ahead = goes_ahead  # it wants to be told how far it may go by itself
        self.ahead_ms = 0  # and that is how far
        self.idle = False
        self.request_id = 0
        self.until_ms: int | None = None
        self.hold = False
        self.hold_spent = False  # it held too long, and has not idled without holding since
        self.since_s = since_s  # wall clock of the last line from it, or of the last grant to it
        self.passed_over = False
        self.stopped = False  # by SIGSTOP, say: it neither answers nor is waited for


class Timekeeper:
    """The conductor's rules. Connections are integer keys chosen by the caller.

    rate: None (as fast as events allow) or simulated seconds per second of the wall clock, > 0.
    cap_s: who is busy longer is passed over. hold_cap_s: the same for who awaits an answer, cap_s
    if None; a world that loses messages on purpose cannot wait long for each.
    """

    def __init__(
        self,
        start_ms: int,
        rate: float | None = None,
        wall_s: float = 0.0,
        cap_s: float = CAP_S,
        hold_cap_s: float | None = None,
    ) -> None:
        self.now_ms = start_ms
        self.cap_s = cap_s
        self.hold_cap_s = cap_s if hold_cap_s is None else hold_cap_s
        self._participants: dict[int, _Participant] = {}
        self._watchers: set[int] = set()
        self._expected: dict[str, float] = {}  # name: wall clock of the expectation
        self._blocked = False
        self._target_ms: int | None = None  # where time may go while not blocked
        self.set_rate(rate, wall_s)

    def set_rate(self, rate: float | None, wall_s: float) -> None:
        """Change the rate from this instant on. Raises ValueError unless rate is > 0 or None."""
        if rate is not None and not rate > 0:
            raise ValueError("rate is None (as fast as possible) or greater than 0")
        if hasattr(self, "rate"):
            self._flow(wall_s)
        self.rate = rate
        self._anchor_ms: float = self.now_ms
        self._anchor_s = wall_s

    def names(self) -> list[str]:
        """Names of those who take part now."""
        return [p.name for p in self._participants.values()]

    def receive(self, key: int, line: str, wall_s: float) -> Out:
        """A line from connection `key`. Raises ValueError with a text for the peer (then close)."""
        self._flow(wall_s)
        words = line.split()
        verb = words[0] if words else ""
        participant = self._participants.get(key)
        try:
            if participant is not None:
                return self._of_participant(key, participant, verb, words, wall_s)
            if key in self._watchers:
                return self._of_watcher(key, verb, words, wall_s)
            if verb == "watch":
                self._watchers.add(key)
                return [(key, "ok")]
            if verb == "join":
                return self._join(key, words[1], words[2:] == ["ahead"], wall_s)
        except (IndexError, ValueError) as er:
            if isinstance(er, ValueError) and str(er).startswith("refused"):
                raise
        raise ValueError(f"refused: not understood here: {line!r}")

    def gone(self, key: int, wall_s: float) -> None:
        """Connection `key` ended; without `leave` its participant is expected back."""
        self._flow(wall_s)
        self._watchers.discard(key)
        participant = self._participants.pop(key, None)
        if participant is not None:
            self._expected[participant.name] = wall_s
            self._blocked = True

    def advance(self, wall_s: float) -> tuple[Out, float | None]:
        """Move time as far as it may go; returns (answers, wall clock of the next look or None)."""
        self._flow(wall_s)
        out: Out = []
        cap_at_s = self._apply_caps(wall_s)
        if cap_at_s is not None:
            self._blocked = True
            return out, cap_at_s
        if self._blocked:
            self._blocked = False
            if self.rate is not None:
                # Time stood still: go on from here instead of running after the wall clock.
                lag_s = (self._paced_ms(wall_s) - self.now_ms) / 1000 / self.rate
                if lag_s > LAG_LIMIT_S:
                    self._anchor_ms = self.now_ms
                    self._anchor_s = wall_s - LAG_LIMIT_S
        self._target_ms = min(
            (
                p.until_ms
                for p in self._participants.values()
                if p.idle and p.until_ms is not None and not p.stopped
            ),
            default=None,
        )
        if self._target_ms is None:
            self._flow(wall_s)
            return out, None
        if self.rate is None:
            self.now_ms = max(self.now_ms, self._target_ms)
        else:
            self._flow(wall_s)
        if self.now_ms >= self._target_ms:
            self._grant(wall_s, out)
            self._let_ahead(out)
            return out, wall_s + self.cap_s
        assert self.rate is not None
        ahead_s = (self._target_ms - self._anchor_ms) / 1000 / self.rate
        return out, self._anchor_s + ahead_s

    def _paced_ms(self, wall_s: float) -> float:
        assert self.rate is not None
        return self._anchor_ms + (wall_s - self._anchor_s) * 1000 * self.rate

    def _flow(self, wall_s: float) -> None:
        """Paced time runs on by itself between two events, up to the next UNTIL."""
        if self._blocked or self.rate is None:
            return
        ms = int(self._paced_ms(wall_s) + 1e-6)
        if self._target_ms is not None:
            ms = min(ms, self._target_ms)
        self.now_ms = max(self.now_ms, ms)

    def _grant(self, wall_s: float, out: Out) -> None:
        for key, p in self._participants.items():
            if p.stopped:
                continue
            if p.idle and p.until_ms is not None and p.until_ms <= self.now_ms:
                out.append((key, f"now {p.request_id} {self.now_ms}"))
                p.idle = p.hold = p.passed_over = False
                p.since_s = wall_s
                self._blocked = True

    def _let_ahead(self, out: Out) -> None:
        """Tell the only one that has anything to do how long that will stay so.

        It moves its own time up to there without asking, and says `at` before it does anything
        that another could see. Not in paced time, which the wall clock moves.
        """
        if self.rate is not None or len(out) != 1:
            return
        key, line = out[0]
        alone = self._participants[key]
        if not alone.goes_ahead:
            return
        ahead_ms = self.now_ms + AHEAD_MS
        for p in self._participants.values():
            if p is not alone and p.until_ms is not None and p.idle and not p.stopped:
                ahead_ms = min(ahead_ms, p.until_ms)
        if ahead_ms > self.now_ms:
            alone.ahead_ms = ahead_ms
            out[0] = (key, f"{line} {ahead_ms}")

    def _apply_caps(self, wall_s: float) -> float | None:
        """Who blocks time too long is passed over. Returns when to look again, None: unblocked."""
        at_s = None
        for p in self._participants.values():
            if (p.idle and not p.hold) or p.passed_over or p.stopped:
                continue
            cap_s = self.hold_cap_s if p.idle else self.cap_s
            due_s = p.since_s + cap_s
            if wall_s >= due_s:
                p.passed_over = True
                p.hold_spent = p.hold
                state = "awaited an answer" if p.idle else "was busy"
                log.warning(
                    "%s %s for %g s: time goes on without it from %d",
                    p.name,
                    state,
                    cap_s,
                    self.now_ms,
                )
            else:
                at_s = due_s if at_s is None else min(at_s, due_s)
        for name, since_s in list(self._expected.items()):
            due_s = since_s + self.cap_s
            if wall_s >= due_s:
                del self._expected[name]
                log.warning("%s did not come within %g s: time goes on", name, self.cap_s)
            else:
                at_s = due_s if at_s is None else min(at_s, due_s)
        return at_s

    def _join(self, key: int, name: str, goes_ahead: bool, wall_s: float) -> Out:
        if any(p.name == name for p in self._participants.values()):
            raise ValueError(f"refused: {name} takes part already")
        self._expected.pop(name, None)
        self._participants[key] = _Participant(name, wall_s, goes_ahead)
        self._blocked = True
        return [(key, f"now 0 {self.now_ms}")]

    def _of_participant(
        self, key: int, p: _Participant, verb: str, words: list[str], wall_s: float
    ) -> Out:
        if verb == "idle":
            p.request_id = int(words[1])
            p.until_ms = None if words[2] == "-" else int(words[2])
            hold = int(words[3]) != 0
            if not hold:
                p.hold_spent = False
            elif p.hold_spent:
                hold = False  # its other timers go on; else each would cost the cap again
            # The cap counts from the first of a row of holds: waking up is not an answer.
            if not (p.idle and p.hold and hold):
                p.since_s = wall_s
            p.idle, p.hold, p.passed_over = True, hold, False
            if p.until_ms is not None and p.until_ms <= self.now_ms:
                p.idle = p.hold = False
                self._blocked = True
                return [(key, f"now {p.request_id} {self.now_ms}")]
            if hold:
                self._blocked = True
            elif p.until_ms is not None and self._target_ms is not None:
                self._target_ms = min(self._target_ms, p.until_ms)
            return []
        if verb == "at":
            ms = int(words[1])
            if ms > p.ahead_ms:
                raise ValueError
            self.now_ms = max(self.now_ms, ms)
            if self.rate is not None:  # paced since it was let go: pace from where it is
                self._anchor_ms, self._anchor_s = self.now_ms, wall_s
            return []
        if verb == "busy":
            p.request_id = int(words[1])
            p.idle = p.hold = p.passed_over = False
            p.since_s = wall_s
            self._blocked = True
            return [(key, f"now {p.request_id} {self.now_ms}")]
        if verb == "leave" or verb == "reborn":
            del self._participants[key]
            if verb == "reborn":
                self._expected[p.name] = wall_s
                self._blocked = True
            return []
        raise ValueError

    def _of_watcher(self, key: int, verb: str, words: list[str], wall_s: float) -> Out:
        name = words[1]
        if verb == "expect":
            self._expected[name] = wall_s
            self._blocked = True
        elif verb == "forget":
            self._expected.pop(name, None)
            for other, p in list(self._participants.items()):
                if p.name == name:
                    del self._participants[other]
        elif verb in ("stopped", "goes"):
            for p in self._participants.values():
                if p.name == name:
                    p.stopped = verb == "stopped"
                    p.since_s = wall_s
                    self._blocked = True
        else:
            raise ValueError
        return [(key, "ok")]


class Conductor:
    """Server of a `Timekeeper` on a TCP port of the loopback interface.

    rate: None (as fast as events allow), 1 (real time) or N. start_ms: simulated time at the
    start, ms since the Unix epoch (default: the wall clock). port 0: any free one.
    """

    def __init__(
        self,
        rate: float | None = None,
        start_ms: int | None = None,
        *,
        port: int = 0,
        cap_s: float = CAP_S,
        hold_cap_s: float | None = None,
        wall: Callable[[], float] = time.monotonic,
    ) -> None:
        start_ms = time.time_ns() // 1_000_000 if start_ms is None else start_ms
        self._wall = wall
        self._lock = threading.Lock()
        self._keeper = Timekeeper(start_ms, rate, wall(), cap_s, hold_cap_s)
        self._listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self._listener.setblocking(False)
        self._poke_r, self._poke_w = socket.socketpair()
        self._poke_r.setblocking(False)
        self._connections: dict[int, socket.socket] = {}
        self._rests: dict[int, bytes] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._poke_r, selectors.EVENT_READ)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="conductor", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """(host, port) for those who join."""
        host, port = self._listener.getsockname()
        return host, port

    @property
    def rate(self) -> float | None:
        return self._keeper.rate

    @rate.setter
    def rate(self, rate: float | None) -> None:
        with self._lock:
            self._keeper.set_rate(rate, self._wall())
        self._poke()

    def now_ms(self) -> int:
        """Simulated ms since the Unix epoch."""
        with self._lock:
            self._keeper._flow(self._wall())
            return self._keeper.now_ms

    def start(self) -> Conductor:
        self._thread.start()
        return self

    def stop(self) -> None:
        """End the thread and every connection. May be called twice."""
        self._stopping = True
        self._poke()
        if self._thread.is_alive():
            self._thread.join()
        for sock in (*self._connections.values(), self._listener, self._poke_r, self._poke_w):
            sock.close()
        self._connections.clear()
        self._selector.close()

    def __enter__(self) -> Conductor:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _poke(self) -> None:
        try:
            self._poke_w.send(b"!")
        except OSError:
            pass  # closed by stop()

    def _run(self) -> None:
        timeout_s: float | None = None
        while not self._stopping:
            events = self._selector.select(timeout_s)
            while events:  # until nothing is left: all that has arrived comes before any grant
                with self._lock:
                    for item, _ in events:
                        self._handle(item.fileobj)
                events = self._selector.select(0)
            with self._lock:
                out, at_s = self._keeper.advance(self._wall())
                self._send(out)
            timeout_s = None if at_s is None else max(0.0, at_s - self._wall())

    def _handle(self, sock: socket.socket) -> None:
        if sock is self._listener:
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            key = connection.fileno()
            self._connections[key] = connection
            self._rests[key] = b""
            self._selector.register(connection, selectors.EVENT_READ)
            return
        if sock is self._poke_r:
            sock.recv(64)
            return
        key = sock.fileno()
        if key not in self._connections:
            return  # dropped by an earlier line of the same round
        try:
            data = sock.recv(4096)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._drop(key)
            return
        *lines, rest = (self._rests[key] + data).split(b"\n")
        self._rests[key] = rest
        for line in lines:
            try:
                self._send(self._keeper.receive(key, line.decode("ascii", "replace"), self._wall()))
            except ValueError as er:
                self._send([(key, str(er))])
                self._drop(key)
                return
            if key not in self._connections:
                return

    def _send(self, out: Out) -> None:
        for key, line in out:
            sock = self._connections.get(key)
            if sock is None:
                continue
            data = line.encode() + b"\n"
            try:
                if sock.send(data) == len(data):
                    continue
            except OSError:
                pass
            # Its buffer of many thousand answers is full, or it died: either way it is gone.
            self._drop(key)

    def _drop(self, key: int) -> None:
        sock = self._connections.pop(key)
        self._rests.pop(key, None)
        self._selector.unregister(sock)
        sock.close()
        self._keeper.gone(key, self._wall())
