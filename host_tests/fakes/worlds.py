"""A whole product with one meter for a test: a World, its waiting, and the judge of its books.

The tariff has one price, 685 mp per Wh, so that every balance can be had by one multiplication,
without the code under test.
"""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import threading
import time
from pathlib import Path

import httpx
from littlefs import LittleFS

from boards.emulated.board import HEAP_KB
from demo.households import JBVNL_URBAN, RUPEE_MP, Household
from demo.world import World
from firmware.meter import CHECKPOINT_FORMAT
from firmware.storage.journal import Journal
from host_tests.fakes.interpreters import need
from toolchain import locate

START_MS = 1_767_551_400_000  # Monday 2026-01-05 00:00 in India
SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000

METER = "BJ-TEST-01"
OPENING_MP = 500 * RUPEE_MP
PRICE_MP_PER_WH = 685
LOAD = "constant:230V,4A"


class Story:
    """One world with one meter; `passes` lets time go on, `judge` compares the books at the end."""

    def __init__(self, folder, **changes):
        values = {"sample_period_ms": 10_000, "live_period_s": 300, "seed": 7, "load": LOAD}
        values.update(changes)
        heap_kb = values.pop("heap_kb", HEAP_KB)
        household = Household(
            METER,
            "A consumer",
            values.pop("load"),
            OPENING_MP,
            50 * RUPEE_MP,
            JBVNL_URBAN,
            **values,
        )
        self.folder = folder
        self.world = World(folder, [household], START_MS, None, lambda line: None, heap_kb=heap_kb)

    def __enter__(self):
        need(locate.mosquitto)
        need(_any_micropython)
        try:
            self.world.start()
        except BaseException:
            self.world.stop()
            raise
        self.board = self.world.boards[METER]
        return self

    def __exit__(self, *exc):
        self.world.stop()

    # --- time --------------------------------------------------------------------------------

    def passes(self, ms):
        """Let so much time pass."""
        self.world.wait_until(self.world.now_ms + ms)

    def until(self, condition, limit_ms, what, step_ms=SECOND_MS):
        """Let time pass until `condition()`; fails after `limit_ms` of simulated time."""
        end_ms = self.world.now_ms + limit_ms
        while not condition():
            assert self.world.now_ms < end_ms, f"not within {limit_ms} ms: {what}"
            self.passes(step_ms)

    def delivered(self, limit_ms=10 * MINUTE_MS):
        """Let time pass until the meter has nothing waiting and the utility has everything."""
        last = self.board.line_count

        def everything():
            new = self.board.line_count - last
            said = any(" link=up waiting=0" in line for line in self.board.lines()[-new:]) and new
            try:
                backlog = self.world.get("/api/health")["upstream"]["backlog"]
            except httpx.TransportError:  # killed just now, by `crash_after`
                return False
            return said and not any(backlog.values())

        self.until(everything, limit_ms, "everything delivered", 10 * SECOND_MS)

    # --- what happens ------------------------------------------------------------------------

    def recharge(self, rupees):
        """Order a recharge; returns its id."""
        made = self.world.recharge(METER, str(rupees))
        assert made["state"] == "queued"
        return made["id"]

    def view(self, recharge):
        """A recharge as the gateway shows it."""
        return self.world.get(f"/api/recharges/{recharge}")

    def state(self, recharge):
        return self.view(recharge)["state"]

    def order(self, key, **body):
        """Sends another order; returns its id."""
        return self.world.post(f"/api/meters/{METER}/orders", body, {"Idempotency-Key": key})["id"]

    def ended(self, order):
        """Lets time pass until an order has ended; returns it as the gateway shows it."""

        def view():
            return self.world.get(f"/api/orders/{order}")

        self.until(lambda: view()["state"] not in ("queued", "sent"), 10 * MINUTE_MS, order)
        return view()

    def make_records(self, count):
        """Have the sensor fail and come back until the meter has told of it in `count` records."""
        last = self.board.line_count
        for _ in range(count):
            new = self.board.line_count - last
            if new and sum(" event 101" in line for line in self.board.lines()[-new:]) >= count:
                return
            for state in ("absent", "ok"):
                self.board.set(sensor=state)
                self.passes(30 * SECOND_MS)
        raise AssertionError(f"the meter wrote fewer than {count} records")

    def crash_gateway(self):
        """The gateway's computer loses its power: the broker too is gone with all it had in memory.

        (With the gateway alone gone, the broker ends in order and saves what it holds.)
        """
        pid = json.loads((self.folder / "gateway" / "run.json").read_text())["pid"]
        # Stopped first: it would start its broker again, and so the meter gets a moment to hand the
        # broker what the gateway will never see. Who takes a PUBACK for storage loses that.
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.3)
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in file.read_text().split():
                os.kill(int(child), signal.SIGKILL)
        self.world.crash_gateway()

    @contextlib.contextmanager
    def crash_after(self, records):
        """Meanwhile the gateway is killed as soon as it has so many records, and restarted.

        Yields a list that gets the number that it had.
        """
        had = []
        failures = []
        over = threading.Event()

        def work():
            while not over.is_set():
                count = self.stored_count()
                if count >= records:
                    self.crash_gateway()
                    had.append(self.stored_count())
                    try:
                        self.world.restart_gateway()
                    except Exception as error:
                        failures.append(error)
                    return
                time.sleep(0.0005)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield had
        finally:
            over.set()
            thread.join()
        assert not failures

    # --- the books ---------------------------------------------------------------------------

    def _query(self, text):
        path = self.folder / "gateway" / "gateway.sqlite"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return database.execute(text).fetchall()

    def stored_count(self):
        return self._query("SELECT count(*) FROM records")[0][0]

    def at_gateway(self):
        """The records in the order in which the gateway committed them."""
        return [
            json.loads(row[0]) for row in self._query("SELECT content FROM records ORDER BY id")
        ]

    def at_utility(self):
        """The records in the order in which the utility got them."""
        rows = self.world.headend(f"/v1/meters/{METER}/records?limit=10000")
        return [row["record"] for row in rows]

    def on_flash(self):
        """The records in the meter's journal; its power must be off."""
        return records_on_flash(self.board.folder / "flash.bin", self.folder / "flash-copy")[1]

    def judge(self, recharges):
        """Meter, gateway and utility have the same books, and they are right.

        recharges: {id: rupees} of all that were ordered. Cuts the meter's power. Returns records.
        """
        health = self.world.get("/api/health")
        balance = self.world.get(f"/api/meters/{METER}/balance")
        self.board.cut_power()
        records = self.at_gateway()
        assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
        assert records == self.at_utility()
        assert records == self.on_flash()
        assert (health["gaps"], health["ingest"]["quarantined"]) == (0, 0), health["alarms"]
        assert health["upstream"]["rejected"] == 0
        assert balance["agree"], balance
        assert health["alarms"] == []

        credits_mp = 0
        seen = []
        register_wh = 0
        for record in records:
            if record["type"] == "credit":
                credits_mp += record["amount_mp"]
                if record["kind"] == "recharge":
                    seen.append((record["id"], record["amount_mp"]))
            if "import_wh" in record:
                assert record["import_wh"] >= register_wh, record
                register_wh = record["import_wh"]
                # The very first record is older than the tariff and the opening credit.
                assert record["balance_mp"] == credits_mp - PRICE_MP_PER_WH * register_wh, record
        assert sorted(seen) == sorted((id_, amount * RUPEE_MP) for id_, amount in recharges.items())
        blocks = [record for record in records if record["type"] == "load"]
        if blocks:
            assert sum(block["energy_wh"] for block in blocks) == blocks[-1]["import_wh"]

        at_utility = {meter["meter"]: meter for meter in self.world.headend("/v1/meters")}[METER]
        confirmed = [r for r in at_utility["recharges"] if r["state"] == "confirmed"]
        assert sorted(r["recharge"] for r in confirmed) == sorted(recharges)
        balances = {r["id"]: r["balance_mp"] for r in records if r["type"] == "credit"}
        for item in confirmed:
            assert item["balance_mp"] == balances[item["recharge"]]
        for id_ in recharges:
            assert self.view(id_)["state"] == "confirmed"
            assert self.view(id_)["balance_mp"] == balances[id_]
        return records


@contextlib.contextmanager
def mounted(image):
    """The file system in a flash image; what is changed is written back. The power must be off."""
    fs = LittleFS(block_size=4096, block_count=512, mount=False)
    fs.context.buffer = bytearray(image.read_bytes())
    fs.mount()
    before = bytes(fs.context.buffer)
    yield fs
    fs.unmount()
    if fs.context.buffer != before:
        image.write_bytes(fs.context.buffer)


def copy_journal(image, copy):
    """Copies the journal's files in a flash image to the folder `copy`, emptied before."""
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    with mounted(image) as fs:
        for name in fs.listdir("/data"):
            with fs.open(f"/data/{name}", "rb") as file:
                (copy / name).write_bytes(file.read())


def records_on_flash(image, copy):
    """(store id, records) of the journal in a flash image, which is copied to the folder `copy`."""
    copy_journal(image, copy)
    journal = Journal(str(copy), CHECKPOINT_FORMAT)
    for _ in journal.open()[2]:
        pass
    records = []
    while found := journal.records_after(records[-1]["seq"] if records else 0, 100):
        records.extend(found)
    journal.close()
    return journal.store_id, records


def _any_micropython():
    """The one that World takes."""
    try:
        return locate.micropython(32)
    except locate.ToolMissing:
        return locate.micropython(64)


def log_without_ids(board, ids):
    """The serial log, with order ids made equal."""
    lines = board.lines()
    for id_ in ids:
        lines = [line.replace(id_, "ID") for line in lines]
    return lines
