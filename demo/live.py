"""`bijli demo run`: the whole product on a fast clock, for a person to watch and to recharge.

Shows a live table where there is a terminal, else one line per event. Ctrl-C ends every process;
the next start goes on from the same simulated second.
"""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from demo.households import IST_S, demo_households
from demo.world import World, erase

START_MS = 1_767_569_400_000  # Monday 2026-01-05 05:00 in India
RATE = 1_200.0
RATE_RANGE = (1.0, 3_600.0)
REFRESH_S = 0.5
HTTP_PORT = 8080
EVENTS_SHOWN = 12

CREDIT_STYLES = {"in credit": "green", "low credit": "yellow", "out of credit": "bold red"}


class Watcher:
    """What the terminal shows: present values and the newest events, read from the gateway."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen: dict[str, set[tuple[str, int]]] = {
            household.meter: set() for household in world.households
        }
        self.meters: list[dict[str, Any]] = []
        self.events: deque[str] = deque(maxlen=EVENTS_SHOWN)

    def look(self) -> list[str]:
        """Read the gateway once; returns the lines of new events, the oldest first."""
        self.meters = self._world.get("/api/meters")
        fresh: list[tuple[int, str, int, str]] = []
        for meter, seen in self._seen.items():
            for record in self._world.get(f"/api/meters/{meter}/events", limit=50):
                identity = (record["store"], record["seq"])
                if identity not in seen:
                    seen.add(identity)
                    if record["text"]:
                        stamp = local(record["at_utc_s"])
                        line = f"{stamp:%a %H:%M:%S}  {meter:<13} {record['text']}"
                        fresh.append((record["at_utc_s"], meter, record["seq"], line))
        lines = [item[-1] for item in sorted(fresh)]
        self.events.extend(lines)
        return lines

    def picture(self) -> Group:
        """Header, table and events."""
        now = local(self._world.conductor.now_ms() // 1000)
        rate = self._world.conductor.rate
        header = Text.assemble(
            ("Bijli demo  ", "bold"),
            (f"{now:%a %d %b %Y %H:%M}", "bold cyan"),
            f"  {rate:g} times real time   page ",
            (self._world.url, "bold underline"),
            f"   utility {self._world.headend_url}",
        )
        hint = Text(
            f"recharge: .venv/bin/bijli recharge {self._world.households[0].meter} 100 "
            f"--gateway {self._world.url}     Ctrl-C ends",
            style="dim",
        )
        return Group(header, self._table(), Text("\n".join(self.events)), hint)

    def _table(self) -> Table:
        table = Table(expand=False)
        for name in ("meter", "consumer", "link", "supply", "credit"):
            table.add_column(name)
        for name in ("W", "kWh", "balance", "last seen"):
            table.add_column(name, justify="right")
        for row in self.meters:
            live = row["live"]
            credit = live.get("credit_words", "-")
            closed = live.get("contact", 1)
            seen_ms = live.get("last_seen_utc_ms")
            table.add_row(
                row["id"],
                row["consumer"],
                "online" if live.get("online") else Text("offline", style="red"),
                Text(live.get("state_words", "-"), style="" if closed else "bold red"),
                Text(credit, style=CREDIT_STYLES.get(credit, "")),
                f"{live['power_mw'] // 1000}" if "power_mw" in live else "-",
                f"{live['import_wh'] / 1000:.3f}" if "import_wh" in live else "-",
                live.get("balance_rupees", "-"),
                f"{local(seen_ms // 1000):%H:%M:%S}" if seen_ms else "-",
            )
        return table


def local(utc_s: int) -> datetime:
    """The consumers' local time."""
    return datetime.fromtimestamp(utc_s, UTC) + timedelta(seconds=IST_S)


def run(
    folder: Path, rate: float, reset: bool, seconds: float | None, say: Callable[[str], None]
) -> None:
    """Runs the demo until Ctrl-C (or for so many real seconds).

    Raises WorldError, BoardError or FlashError when it cannot start.
    """
    if reset:
        erase(folder)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    console = Console()
    world = World(folder, demo_households(), START_MS, rate, say, _http_port())
    try:
        say("starting broker, gateway, utility and three meters ...")
        world.start()
        world.watch_only()
        watcher = Watcher(world)
        say(f"page: {world.url}")
        say(f"simulated time {local(world.conductor.now_ms() // 1000):%a %d %b %Y %H:%M:%S}")
        until_s = None if seconds is None else time.monotonic() + seconds
        if console.is_terminal:
            watcher.look()
            with Live(watcher.picture(), console=console, auto_refresh=False) as live:
                while not _pause(ended, until_s):
                    watcher.look()
                    live.update(watcher.picture(), refresh=True)
        else:
            while not _pause(ended, until_s):
                for line in watcher.look():
                    say(line)
    finally:
        say("stopping ...")
        world.stop()
    say("stopped; the next start goes on from here")


def _http_port() -> int:
    """The port that `bijli recharge` asks without being told, if nobody has it; else a free one."""
    try:
        socket.create_server(("127.0.0.1", HTTP_PORT)).close()
    except OSError:
        return 0
    return HTTP_PORT


def _pause(ended: threading.Event, until_s: float | None) -> bool:
    """A picture's time for a person's eyes; True when it is over."""
    return ended.wait(REFRESH_S) or (until_s is not None and time.monotonic() >= until_s)
