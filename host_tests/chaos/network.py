"""The network between everybody and the broker: MQTT packets that come late, twice, or not at all.

Meters and gateway reach mosquitto only through here. A `Rule` waits for one packet and does one
thing to it; `watch` sees every message as it was sent, before anything happens to it. Delays are
simulated time. Nothing here knows what the messages mean.
"""

import contextlib
import heapq
import itertools
import socket
import threading

CONNECT, PUBLISH, PUBACK = 1, 3, 4
TO_BROKER, FROM_BROKER = "to the broker", "from the broker"
GATEWAY = "bijli.gateway"
SWAP_LIMIT_MS = 30_000
UNHURT = "BJ-FLOOD-"
"""So begin meters that send everything once: what is lost on the way is lost by right."""
DUP = 0x08


class Packet:
    """One MQTT packet. `topic`, `leaf`, `qos`, `payload` are those of a PUBLISH."""

    def __init__(self, raw, head):
        self.raw = raw
        self.kind = raw[0] >> 4
        self.topic = self.leaf = ""
        self.qos = raw[0] >> 1 & 3
        self.payload = b""
        if self.kind == PUBLISH:
            end = head + 2 + int.from_bytes(raw[head : head + 2], "big")
            self.topic = raw[head + 2 : end].decode()
            self.leaf = self.topic.rsplit("/", 1)[-1]
            self.payload = bytes(raw[end + (2 if self.qos else 0) :])

    def again(self):
        """The bytes of the same packet sent once more."""
        return bytes([self.raw[0] | DUP]) + self.raw[1:] if self.qos else self.raw


def read_packet(read):
    """The next packet; `read(n)` gives exactly n bytes. Raises EOFError."""
    first = read(1)
    head = bytearray(first)
    length = shift = 0
    while True:
        byte = read(1)
        head += byte
        length |= (byte[0] & 0x7F) << shift
        shift += 7
        if not byte[0] & 0x80:
            return Packet(bytes(head) + (read(length) if length else b""), len(head))


class Rule:
    """One thing that happens to one packet.

    client: client id at the broker; way: TO_BROKER or FROM_BROKER; leaf: of the topic, or "puback".
    do: duplicate, echo (a second time, later), delay, swap, drop, cut_before, cut_after, half_open,
    trickle, or a function that is called once the packet was handed on; then the connection ends.
    ms: how long an echo or a delay takes, or a half-open connection lasts.
    """

    def __init__(self, name, client, way, leaf, do, ms=0, meter=""):
        self.name = name
        self.client = client
        self.way = way
        self.leaf = leaf
        self.do = do
        self.ms = ms
        self.meter = meter
        self.met = False

    def fits(self, link, way, packet):
        if way != self.way or link.client != self.client or UNHURT in packet.topic:
            return False
        if self.leaf == "puback":
            return packet.kind == PUBACK
        return packet.leaf == self.leaf and (not self.meter or f"/{self.meter}/" in packet.topic)


class Link:
    """One client's connection: its socket and ours to the broker."""

    def __init__(self, near, far):
        self.client = ""
        self.near = near
        self.far = far
        self.deaf = False
        self.trickle = False
        self.swapped = {}  # way: packet that waits for the next one
        self.sending = {TO_BROKER: threading.Lock(), FROM_BROKER: threading.Lock()}

    def send(self, way, data):
        """Hand bytes on; a broken connection ends both sides."""
        if self.deaf:
            return
        sock = self.far if way == TO_BROKER else self.near
        try:
            with self.sending[way]:
                if self.trickle:
                    for i in range(len(data)):
                        sock.sendall(data[i : i + 1])
                else:
                    sock.sendall(data)
        except OSError:
            self.end()

    def end(self):
        for sock in (self.near, self.far):
            with contextlib.suppress(OSError):  # it is gone already
                sock.shutdown(socket.SHUT_RDWR)


class Network:
    """Listens on `port` (0: any) of the loopback and carries to the broker on `broker_port`."""

    def __init__(self, broker_port, watch, port=0):
        self._broker_port = broker_port
        self._watch = watch
        self._listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.port = self._listener.getsockname()[1]
        self.rules = []
        self.met = []  # rules in the order in which they were met, until somebody takes them
        self.links = []
        self._lock = threading.Lock()
        self._later = []  # (ms, number, function)
        self._numbers = itertools.count()
        self._clock = self._worker = None
        self._over = False
        threading.Thread(target=self._accept, name="network", daemon=True).start()

    def start(self, clock):
        """Take part in the clock: without it nothing can be delayed."""
        self._clock = clock
        self._worker = clock.worker("network")
        threading.Thread(target=self._release, name="network late", daemon=True).start()

    def arm(self, rule):
        with self._lock:
            self.rules.append(rule)

    def calm(self):
        """No more faults: rules are forgotten, deaf connections end. Returns the rules not met."""
        with self._lock:
            left, self.rules = self.rules, []
            links = list(self.links)
        for link in links:
            if link.deaf or link.trickle:
                link.end()
        return left

    def take_met(self):
        """The rules that were met since the last call."""
        with self._lock:
            met, self.met = self.met, []
        return met

    def close(self):
        self._over = True
        self._listener.close()
        for link in list(self.links):
            link.end()
        if self._worker is not None:
            self._worker.wake()

    # --- threads -----------------------------------------------------------------------------

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._open, args=(near,), daemon=True).start()

    def _open(self, near):
        try:
            far = socket.create_connection(("127.0.0.1", self._broker_port), timeout=5)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        for sock in (near, far):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(near, far)
        with self._lock:
            self.links.append(link)
        back = threading.Thread(target=self._carry, args=(link, FROM_BROKER), daemon=True)
        back.start()
        self._carry(link, TO_BROKER)
        back.join()
        with self._lock:
            self.links.remove(link)
        near.close()
        far.close()

    def _carry(self, link, way):
        stream = (link.near if way == TO_BROKER else link.far).makefile("rb")

        def read(n):
            data = stream.read(n)
            if len(data) < n:
                raise EOFError
            return data

        try:
            while True:
                packet = read_packet(read)
                if packet.kind == CONNECT:
                    # Protocol name, level, flags and keep-alive are 10 bytes; then the client id.
                    body = packet.raw[2 if packet.raw[1] < 0x80 else 3 :]
                    link.client = body[12 : 12 + int.from_bytes(body[10:12], "big")].decode()
                self._pass(link, way, packet)
        except (OSError, EOFError, ValueError):
            if not link.deaf:
                link.end()

    def _pass(self, link, way, packet):
        if packet.kind == PUBLISH:
            self._watch(link.client, way, packet)
        rule = None
        if self.rules:
            with self._lock:
                rule = next((r for r in self.rules if r.fits(link, way, packet)), None)
                if rule is not None:
                    self.rules.remove(rule)
                    self.met.append(rule)
                    rule.met = True
        if rule is None:
            link.send(way, packet.raw)
        else:
            self._apply(rule, link, way, packet)
        waiting = link.swapped.pop(way, None) if rule is None or rule.do != "swap" else None
        if waiting:
            link.send(way, waiting)

    def _apply(self, rule, link, way, packet):
        do = rule.do
        if do == "duplicate":
            link.send(way, packet.raw)
            link.send(way, packet.again())
        elif do == "echo":
            link.send(way, packet.raw)
            self._at(rule.ms, lambda: self._send_to(link.client, way, packet.again()))
        elif do == "delay":
            self._at(rule.ms, lambda: link.send(way, packet.raw))
        elif do == "swap":
            link.swapped[way] = packet.raw

            def give_up():
                if link.swapped.get(way) is packet.raw:
                    link.send(way, link.swapped.pop(way))

            self._at(SWAP_LIMIT_MS, give_up)
        elif do == "drop":
            pass
        elif do == "cut_before":
            link.end()
        elif do == "cut_after":
            link.send(way, packet.raw)
            link.end()
        elif do == "half_open":
            # Neither side hears anything any more, nor that the other has gone.
            link.deaf = True
            self._at(rule.ms, link.end)
        elif do == "trickle":
            link.trickle = True
            link.send(way, packet.raw)
        else:
            link.send(way, packet.raw)
            with self._clock.busy():
                do()
            link.end()

    def _send_to(self, client, way, data):
        """Send on the newest connection of a client; it may have none now."""
        with self._lock:
            links = [link for link in self.links if link.client == client]
        for link in links[-1:]:
            link.send(way, data)

    def _at(self, ms, fn):
        with self._clock.busy():
            at_ms = self._clock.utc_ms() + ms
            with self._lock:
                heapq.heappush(self._later, (at_ms, next(self._numbers), fn))
        self._worker.wake()

    def _release(self):
        while not self._over:
            now_ms = self._clock.utc_ms()
            with self._lock:
                due = []
                while self._later and self._later[0][0] <= now_ms:
                    due.append(heapq.heappop(self._later)[2])
                until_ms = self._later[0][0] if self._later else None
            for fn in due:
                fn()
            if not due:
                try:
                    self._worker.wait(until_ms)
                except ConnectionError:
                    return
