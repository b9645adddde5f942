"""One chaos run: a seed becomes a list of steps, the steps hurt a world, the judge reads its books.

The seed decides which operations and faults come in which order and with which pauses of simulated
time. Which message a fault meets, and how far the processes have got when a signal strikes, is
decided by the machine: a failure comes back with its seed nearly always, not bit for bit.
"""

import contextlib
import heapq
import itertools
import json
import random
import sqlite3
import time
from collections import Counter

import httpx

from boards.emulated.board import HEAP_KB, BoardError
from demo.households import JBVNL_URBAN, RUPEE_MP, Household, slabs
from demo.world import WorldError
from gateway.backup import back_up, restore
from host_tests.chaos import damage, faults
from host_tests.chaos.faults import HOUR_MS, MINUTE_MS, SECOND_MS
from host_tests.chaos.judge import (
    Violation,
    Witness,
    judge_damage,
    judge_energy,
    judge_ledger,
    judge_orders,
    judge_recharges,
    judge_records,
    judge_tenants,
)
from host_tests.chaos.network import UNHURT
from host_tests.chaos.supply import judge_supply
from host_tests.chaos.world import ChaosWorld
from host_tests.fakes.meter import FakeMeter
from host_tests.fakes.worlds import records_on_flash

START_MS = 1_769_625_000_000  # Thursday 2026-01-29 00:00 in India: a month ends within a run
SAMPLE_MS = 20_000
LIVE_S = 600
VOLTAGE = 230
CURRENTS_A = ("0", "0.1", "0.5", "1", "2")
POWER_MAX_W = 460
DRAINED_MS = 3 * HOUR_MS
PAUSES_MS = (
    0,
    0,
    200,
    2 * SECOND_MS,
    20 * SECOND_MS,
    2 * MINUTE_MS,
    10 * MINUTE_MS,
    40 * MINUTE_MS,
)
RULES = (
    # One meter is cut when a utility cuts, and for an open cover; one at any hour; one trips.
    {"grace_s": 7200, "tamper_cut": 1},
    {"grace_s": 1800, "window_start_min": 0, "window_end_min": 1440, "window_days": 127},
    {
        "grace_s": 3600,
        "limit_mode": 2,
        "limit_w": 400,
        "limit_over_s": 60,
        "limit_reclose_s": 1200,
        "limit_attempts": 3,
        "limit_within_s": 7200,
        "limit_lockout_s": 3600,
    },
)
REFUSAL_MS = 2 * MINUTE_MS  # a meter tries its flash again each minute
RESYNC_TRIES = 10
API_TIMEOUT_S = 20
FLOOD_LIMIT_S = 20
HISTORY_SHOWN = 25


class Plan:
    """The steps of a run: an endless sequence of (name, function), from the seed alone."""

    def __init__(self, seed, recharges, count, only=()):
        """only: names of faults, others are left out."""
        self._rng = random.Random(f"plan {seed}")
        chosen = {n: f for n, f in faults.FAULTS.items() if not only or n in only}
        self._faults = chosen
        bag = ["recharge"] * recharges
        bag += _share(count, chosen)
        bag += _share((recharges + count) // 10, faults.OPERATIONS)
        self._rng.shuffle(bag)
        self._bag = bag

    def steps(self):
        known = {**faults.OPERATIONS, **self._faults, "recharge": (faults.recharge, 0)}
        for name in self._bag:
            yield name, known[name][0], self._pause_ms()
        names, shares = zip(*((n, share) for n, (_, share) in self._faults.items()), strict=True)
        while True:  # for what could not happen when its turn came, with messages for it to meet
            yield "recharge", faults.recharge, self._pause_ms()
            (name,) = self._rng.choices(names, shares)
            yield name, known[name][0], self._pause_ms()

    def _pause_ms(self):
        high = self._rng.choice(PAUSES_MS)
        return self._rng.randint(0, high)


def _share(count, table):
    """`count` names, each as often as its share says and at least once where there is room."""
    total = sum(share for _, share in table.values())
    names = []
    for name, (_, share) in table.items():
        names += [name] * max(1, round(count * share / total))
    return names


def zoned(rate_mp_per_kwh, version, **members):
    """A tariff whose charges need all that a meter's tallies tell."""
    per = {"shape": "fixed", "per": "connection"}
    windows = [(("peak", "night")[n % 2], 180 * n) for n in range(8)]
    document = slabs(
        (2, rate_mp_per_kwh // 2_000),
        (None, rate_mp_per_kwh // 1_000),
        name="zoned",
        version=version,
    )
    document["lines"] += [
        {
            "name": "time",
            "shape": "time_of_day",
            "percent_x1000": {"peak": 20_000, "night": -10_000},
            "of": ["energy"],
        },
        {**per, "name": "rent", "rate_mp": 310_001, "collect": "monthly"},
        {**per, "name": "supply", "rate_mp": 620_003, "collect": "daily", "by_supply": True},
        {**per, "name": "once", "rate_mp": 99_999, "collect": "first_recharge"},
    ]
    return {
        **document,
        "full_supply_min": 1260,
        "zones": [{"name": n, "from_min": at, "to_min": at + 60} for n, at in windows],
        **members,
    }


class Run:
    """A run in `folder`. `go()` returns the violations; `table()` the counts as text."""

    def __init__(self, seed, recharges, count, folder, only=(), meters=3, heap_kb=HEAP_KB):
        self.seed = seed
        self.folder = folder
        self.wanted = recharges, count
        self.plan = Plan(seed, recharges, count, only)
        self.meters = [f"BJ-CHAOS-{n}" for n in range(1, meters + 1)]
        self.currents = CURRENTS_A
        self.witness = Witness()
        households = [
            Household(
                meter,
                f"Consumer {n}",
                _load(CURRENTS_A[n % len(CURRENTS_A)]),
                n * RUPEE_MP,
                RUPEE_MP,
                zoned(685_000, 1) if n == 1 else JBVNL_URBAN,
                sample_period_ms=SAMPLE_MS,
                live_period_s=LIVE_S,
                seed=seed * 10 + n,
            )
            for n, meter in enumerate(self.meters, 1)
        ]
        self.world = ChaosWorld(folder, households, START_MS, self._watch, heap_kb)
        self.step = 0
        self.step_name = ""
        self.faults = Counter()
        self.operations = Counter()
        self.notes = Counter()
        self.requests = {}  # Idempotency-Key: Request, of recharges
        self.orders = {}  # the same of other orders
        self.tenants = {}  # the same of changes of the tenant
        self.backups = []  # (file, the keys answered before it, meters changed once since)
        self._changed = set()  # meters whose credentials were changed
        self.damaged = {meter: {} for meter in self.meters}  # record's number: of the ledger?
        self.brown = {}
        self._lines = {}  # of each meter's console, printed before the quiet end
        self.floods = {}  # meter: FakeMeter that has left
        self.struck = None  # ms for which the gateway is to stay away after a strike
        self._dark = set()  # meters whose power is going to come back
        self._write_cuts = {}  # meter: fault's name, until its power goes
        self._cuts = Counter()
        self._cut_in_write = set()
        self._expected_resets = 0
        self._resets = 0
        self._agenda = []
        self._numbers = itertools.count()
        self._keys = itertools.count(1)
        self._versions = Counter()
        self._disk_full = self._clock_wrong = self._disk_slow = False
        self.found = []
        self._http = httpx.Client(timeout=API_TIMEOUT_S, trust_env=False)

    def _watch(self, client, way, packet):
        self.witness.watch(client, way, packet)

    # --- the course of a run -----------------------------------------------------------------

    def go(self):
        """Run it. Returns the violations, the first one first."""
        self._began_s = began_s = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with (self.folder / "history.jsonl").open("w") as self._history:
                try:
                    self._go()
                except Violation as violation:
                    self.found.append(violation)
                except (WorldError, BoardError) as error:
                    self.found.append(Violation("processes", "", str(error)))
                finally:
                    self.simulated_s = (self.world.conductor.now_ms() - START_MS) // 1000
                    left = self.world.stop()
                    self._http.close()
                    if left:
                        self.found.append(Violation("processes", "", f"left behind: {left}"))
        finally:
            self.took_s = time.monotonic() - began_s
        return self.found

    def _go(self):
        self.world.start()
        for meter in self.meters:
            self.world.boards[meter].on("power_lost", lambda _, m=meter: self._lost(m))
        # What is safe from a power cut of the gateway from the beginning: some records of each.
        for n, meter in enumerate(self.meters):
            self.order(meter, "settings", {"document": RULES[n % len(RULES)]})
        self.live_until(self.world.now_ms + 5 * MINUTE_MS)
        self.world.settle_disk()
        self.back_up()
        recharges, count = self.wanted
        for name, do, pause_ms in self.plan.steps():
            if len(self.requests) >= recharges and self.faults.total() >= count:
                break
            self.step += 1
            self.step_name = name
            self.live_until(self.world.now_ms + pause_ms)
            self._do(name, do, pause_ms)
        self._quiet()
        self._judge()

    def _do(self, name, do, pause_ms):
        done = do(self, random.Random(f"{self.seed} {self.step}"))
        if name in faults.OPERATIONS:
            self.operations[name] += 1
        elif done and name in faults.FAULTS:
            self.faults[name] += 1
        elif done is False:
            self.notes["faults that could not be when their turn came"] += 1
        self.tell("step", name=name, pause_ms=pause_ms, done=done)

    def tell(self, what, **more):
        """A line of the history."""
        line = {
            "step": self.step,
            "utc_ms": self.world.now_ms,
            "took_ms": round((time.monotonic() - self._began_s) * 1000),
            "what": what,
            **more,
        }
        self._history.write(json.dumps(line) + "\n")
        self._history.flush()

    def later(self, ms, fn):
        """Have fn() called in so many simulated ms."""
        heapq.heappush(self._agenda, (self.world.now_ms + ms, next(self._numbers), fn))

    def live_until(self, utc_ms):
        """Let everybody live; what is due and what has happened is looked after."""
        while True:
            self._notice()
            while self._agenda and self._agenda[0][0] <= self.world.now_ms:
                heapq.heappop(self._agenda)[2]()
            if self.world.now_ms >= utc_ms:
                return
            until_ms = min([utc_ms, *(item[0] for item in self._agenda[:1])])
            self.world.story.wait(until_ms)

    def _notice(self):
        """Take up what faults have done in other threads."""
        for rule in self.world.network.take_met():
            self.faults[rule.name] += 1
            self.tell("met", name=rule.name, client=rule.client, way=rule.way, leaf=rule.leaf)
        process = self.world.process.get("gateway")
        if process is not None and process.poll() is not None and self.struck is None:
            raise Violation("processes", "", f"the gateway ended by itself, {process.returncode}")
        if self.struck is not None:
            away_ms, self.struck = self.struck, None
            if process is not None:
                self._bury_gateway(away_ms)
        for meter, board in self.world.boards.items():
            if not board.powered and meter not in self._dark:
                self._dark.add(meter)
                self._cuts[meter] += 1
                rng = random.Random(f"{self.seed} off {meter} {self._cuts[meter]}")
                name = self._write_cuts.pop(meter, None)
                if name and meter in self._cut_in_write:
                    self.faults[name] += 1
                self._cut_in_write.discard(meter)
                ms = rng.choice((0, 100, 5 * SECOND_MS, 5 * MINUTE_MS, rng.randint(0, 6 * HOUR_MS)))
                self.tell("dark", meter=meter, ms=ms)
                self.later(ms, lambda meter=meter: self._restore(meter))
        while self._resets < len(self.world.resets):
            meter, cause = self.world.resets[self._resets]
            self._resets += 1
            raise Violation("processes", meter, f"it reset itself ({cause})")

    def _lost(self, meter):
        self._cut_in_write.add(meter)
        self.world.story.wake()

    def _restore(self, meter):
        n = 0
        if self.brown.get(meter):
            n = self.brown[meter].pop(0)
            self._write_cuts[meter] = "meter: brown-out at the start"
        self._dark.discard(meter)
        self.world.restore(meter, n)
        self.tell("power", meter=meter, cut_at_write=n)

    # --- faults --------------------------------------------------------------------------------

    def arm(self, rule):
        self.world.network.arm(rule)

    def with_power(self, rng, do):
        """Do it to some meter that has power; False if none has."""
        meters = list(self.meters)
        rng.shuffle(meters)
        return any(self.world.boards[meter].powered and do(meter) for meter in meters)

    def cut(self, meter):
        return self.world.cut(meter)

    def cut_in_write(self, meter, n):
        if meter in self._write_cuts:
            return False
        with contextlib.suppress(BoardError):  # it is just losing its power
            self.world.boards[meter].command("cut_at_write", n=n)
            self._write_cuts[meter] = "meter: power cut in a write"
            return True
        return False

    def reset(self, meter):
        return self.world.end_run(meter, self.world.boards[meter].reset)

    def wifi_away(self, meter, ms):
        return self._knob(meter, ms, "wifi")

    def _knob(self, meter, ms, knob):
        board = self.world.boards[meter]
        return self._for_a_while(
            ms, lambda: board.set(**{knob: False}), lambda: board.set(**{knob: True})
        )

    def _for_a_while(self, ms, begin, end):
        """begin() now and end() in so many ms; False if the board has no power to begin with."""

        def back():
            try:
                end()
            except BoardError:
                self.later(MINUTE_MS, back)  # it has no power, and a knob outlives that

        try:
            begin()
        except BoardError:
            return False
        self.later(ms, back)
        return True

    def knob_and_cut(self, meter, **knobs):
        try:
            self.world.boards[meter].set(**knobs)
        except BoardError:
            return False
        self._knob(meter, HOUR_MS, "rtc_battery")
        return self.cut(meter)

    def step_rtc(self, meter, seconds):
        try:
            self.world.boards[meter].command("step_rtc", seconds=seconds)
        except BoardError:
            return False
        return self.cut(meter)

    def sensor_away(self, meter, state, ms):
        if self.world.truths[meter].silent:
            return False
        return self._for_a_while(
            ms,
            lambda: self.world.set_sensor(meter, state),
            lambda: self.world.set_sensor(meter, "ok"),
        )

    def reset_sensor(self, meter):
        truth = self.world.truths[meter]
        if truth.silent:
            return False
        try:
            self.world.boards[meter].set(sensor="reset")
        except BoardError:
            return False
        truth.turns[truth.boot] += 1
        return True

    def refuse_writes(self, meter, number, ms):
        """Its flash refuses for `ms`, or until its power goes: that loses what was in memory."""
        board, truth = self.world.boards[meter], self.world.truths[meter]
        if not truth.has_begun:
            return False  # its boot record would tell the register of later

        def end():
            with contextlib.suppress(BoardError):  # its power has ended it
                board.command("refuse_writes", errno=0)

        if not self._for_a_while(ms, lambda: board.command("refuse_writes", errno=number), end):
            return False
        truth.unsaved_ms[truth.boot] += ms + REFUSAL_MS
        return True

    def flip_bit(self, meter, rng):
        if not self.cut(meter):
            return False
        acked = {store: seq for (whose, store), seq in self.witness.acked.items() if whose == meter}
        hit = damage.flip_bit(self.flash_of(meter), self.folder / f"flash-{meter}", acked, rng)
        if hit is None:
            return False
        seq, of_ledger = hit
        self.tell("flip", meter=meter, seq=seq, of_ledger=of_ledger)
        if seq:
            self.damaged[meter][seq] = of_ledger
            # A gateway that never had this record could not have it again.
            self.backups.clear()
        if of_ledger:
            ms = rng.randint(0, 2 * HOUR_MS)
            self.later(ms, lambda: self._resync(meter, RESYNC_TRIES))
        return True

    def flash_of(self, meter):
        return self.folder / "boards" / meter / "flash.bin"

    def _resync(self, meter, tries):
        """Give a meter without its ledger the totals that the gateway shows, as people do."""
        path = f"/api/meters/{meter}/resync"
        answer = self.api("GET", path)
        if answer is not None and answer.status_code == 200 and answer.json()["complete"]:
            key = f"chaos-{self.seed}-{next(self._keys)}"
            answer = self.api("POST", path, {"document": answer.json()["document"]}, key)
            if answer is not None and answer.status_code == 201:
                self.notes["resyncs"] += 1
                self.tell("resync", meter=meter)
                return
        if tries > 1:
            self.later(20 * MINUTE_MS, lambda: self._resync(meter, tries - 1))

    def kill_gateway(self, away_ms, with_broker):
        if not self.world.gateway_up:
            return False
        self.world.strike_gateway(with_broker)
        self._bury_gateway(away_ms)
        return True

    def _bury_gateway(self, away_ms):
        self.world.bury_gateway()
        self._disk_full = False
        self.tell("gateway dead", ms=away_ms)
        self.later(away_ms, self._restart_gateway)

    def _restart_gateway(self):
        try:
            self.world.restart_gateway()
        except WorldError:
            if self.struck is None:
                raise
            return  # a fault at a message killed it as soon as it was there: `_notice` sees to it
        self.notes["gateway started again"] += 1
        self.tell("gateway up")

    def cut_gateway_power(self, away_ms, sessions):
        if not self.world.gateway_up:
            return False
        self.world.strike_gateway(True)
        self._bury_gateway(away_ms)
        self.world.lose_unsynced(sessions)
        return True

    def stop_gateway(self, ms):
        if not self.world.gateway_up:
            return False
        self.world.stop_gateway()
        self.later(ms, self._continue_gateway)
        return True

    def _continue_gateway(self):
        if self.world.gateway_stopped:
            self.world.continue_gateway()

    def fill_disk(self, ms, then_kill):
        if not self.world.gateway_up or self._disk_full:
            return False
        self.world.fill_disk(True)
        self._disk_full = True

        def end():
            if not self._disk_full:
                return  # it died meanwhile, and another disk was put in
            if then_kill and self.world.gateway_up:
                self.kill_gateway(0, True)
            elif self.world.process.get("gateway"):
                self.world.fill_disk(False)
                self._disk_full = False

        self.later(ms, end)
        return True

    def flood(self, count):
        """`count` messages at once for a gateway that reads none, from a meter that has them
        acknowledged by nobody but the broker."""
        if not self.world.gateway_up or self._disk_full:
            return False
        meter = f"{UNHURT}{next(self._keys)}"
        body = {"id": meter, "consumer": "A flood", "tariff": JBVNL_URBAN}
        answer = self.api("POST", "/api/meters", body)
        if answer is None:
            return False
        if answer.status_code != 201:
            return False
        fake = FakeMeter(answer.json())
        fake.send_records = False
        try:
            fake.connect()
        except AssertionError:
            fake.close()
            return False  # the broker was down
        self.world.stop_gateway()
        for _ in range(count):
            fake.block(1)
        for message in [fake.send_up([record]) for record in fake.journal]:
            message.wait_for_publish(FLOOD_LIMIT_S)
        fake.close()
        self._continue_gateway()
        # The broker has them in memory alone: a kill of it now would lose them by right.
        end_s = time.monotonic() + FLOOD_LIMIT_S
        while time.monotonic() < end_s:
            answer = self.api("GET", f"/api/meters/{meter}")
            if answer is not None and answer.json()["records"] == len(fake.journal):
                break
            time.sleep(0.1)
        self.floods[meter] = fake
        self.backups.clear()  # this meter sends nothing again
        return True

    def back_up(self):
        """A backup of the gateway's database, as `bijli backup` makes it."""
        file = self.folder / f"backup-{self.step}"
        back_up(self.folder / "gateway", file)
        known = {key for key, request in self._asked().items() if request.id}
        self.backups.append((file, known, set(self._changed)))

    def restore_backup(self, which, away_ms):
        """As `bijli restore`; then whoever asked for something since asks again."""
        if not self.world.gateway_up or not self.backups:
            return False
        file, known, _changed = self.backups[int(which * len(self.backups))]
        self.world.strike_gateway(True)
        self._bury_gateway(away_ms)
        restore(self.folder / "gateway", file, None, self.world.now_ms)
        self.world.settle_disk()
        for key, request in self._asked().items():
            if request.id and key not in known:
                self.later(away_ms + MINUTE_MS, lambda key=key: self._ask(key))
        return True

    def slow_disk(self, sync_ms, ms):
        if self._disk_slow:
            return False
        self._disk_slow = True
        self.world.set_sync_ms(sync_ms)

        def end():
            self.world.set_sync_ms(0)
            self._disk_slow = False

        self.later(ms, end)
        return True

    def step_gateway_clock(self, ahead_ms, ms):
        if self._clock_wrong:
            return False
        self._clock_wrong = True
        self.world.set_gateway_clock(ahead_ms)

        def right():
            self.world.set_gateway_clock(0)
            self._clock_wrong = False

        self.later(ms, right)
        return True

    def kill_broker(self, sessions):
        if not self.world.gateway_up:
            return False
        self.world.kill_broker(sessions)
        return True

    def headend_answers(self, fault, times):
        left = [times]

        def fail(_number, _path, _body):
            if not left[0]:
                return None
            left[0] -= 1
            return fault

        self.world.door.fail = fail
        return True

    def kill_headend(self, ms):
        if "headend" not in self.world.process:
            return False
        self.world.kill_headend()
        self.later(ms, self._restart_headend)
        return True

    def _restart_headend(self):
        if "headend" not in self.world.process:
            self.world.restart_headend()

    # --- operations ------------------------------------------------------------------------------

    def api(self, method, path, body=None, key=""):
        """The gateway's answer, None if there is none."""
        if not self.world.gateway_up:
            return None
        headers = {"Idempotency-Key": key} if key else {}
        try:
            return self._http.request(method, self.world.url + path, json=body, headers=headers)
        except httpx.HTTPError:
            return None

    def recharge(self, meter, amount_mp):
        key = f"chaos-{self.seed}-{next(self._keys)}"
        self.requests[key] = Request(meter, amount_mp, "recharges", {"amount_mp": amount_mp})
        self._ask(key)
        return key

    def order(self, meter, kind, members):
        key = f"chaos-{self.seed}-{next(self._keys)}"
        self.orders[key] = Request(meter, 0, "orders", {"kind": kind, **members})
        self._ask(key)

    def disconnect(self, meter, ms):
        expires_utc_s = (self.world.now_ms + 2 * HOUR_MS) // 1000
        members = {"state": "disconnected", "expires_utc_s": expires_utc_s}
        self.order(meter, "relay", members)
        self.later(ms, lambda: self.order(meter, "relay", {"state": "connected"}))

    def change_credentials(self, meter, kind, section):
        """A backup bridges one change of a meter's keys and passwords (docs/DESIGN.md)."""
        self.backups = [entry for entry in self.backups if meter not in entry[2]]
        for _file, _known, changed in self.backups:
            changed.add(meter)
        self._changed.add(meter)
        self.order(meter, kind, section)

    def open_cover(self, meter, ms):
        board = self.world.boards[meter]
        if self._for_a_while(ms, lambda: board.set(cover=True), lambda: board.set(cover=False)):
            again_ms = ms + MINUTE_MS
            self.later(again_ms, lambda: self.order(meter, "relay", {"state": "connected"}))

    def change_tenant(self, meter, opening_mp):
        number = next(self._keys)
        key = f"chaos-{self.seed}-{number}"
        body = {
            "kind": "tenant",
            "account": f"A-{number}",
            "consumer": f"Tenant {number}",
            "opening_balance_mp": opening_mp,
        }
        self.tenants[key] = Request(meter, 0, "accounts", body)
        self._ask(key)

    def resend(self, meter, part):
        for (whose, store), seq in list(self.witness.acked.items()):
            if whose == meter:
                self.order(meter, "resend", {"store": store, "seq": int(part * seq)})

    def _ask(self, key):
        """Ask for something; again and again, under one key, until it is answered."""
        request = self._asked()[key]
        request.times += 1
        answer = self.api("POST", f"/api/meters/{request.meter}/{request.path}", request.body, key)
        if answer is None or answer.status_code >= 500:
            self.notes["requests tried again"] += 1
            self.later(MINUTE_MS, lambda: self._ask(key))
            return
        if "expires_utc_s" in request.body and answer.status_code == 422:
            del self.orders[key]  # nobody answered until it was too late
            return
        if request.body.get("kind") in ("key", "link") and answer.status_code == 409:
            del self.orders[key]  # one is open, and another has to wait for it
            return
        if request.body.get("kind") == "tenant" and answer.status_code == 409:
            if request.times == 1:
                del self.tenants[key]  # a change is under way
            else:  # it may be this one, made before nobody answered or before a restoration
                self.later(MINUTE_MS, lambda: self._ask(key))
            return
        if answer.status_code != 201:
            raise Violation("agreed", request.meter, f"refused: {answer.text}")
        id_ = answer.json()["id"]
        if request.id not in (None, id_):
            raise Violation("once", request.meter, f"the key {key} made {request.id} and {id_}")
        request.id = id_

    def _asked(self):
        """All that was asked for, by its key."""
        return {**self.requests, **self.orders, **self.tenants}

    def repeat_request(self, which):
        if self.requests:
            self._ask(list(self.requests)[int(which * len(self.requests))])

    def recharge_unknown(self):
        answer = self.api("POST", "/api/meters/BJ-NOBODY/recharges", {"amount_mp": 1}, "nobody")
        if answer is not None and answer.status_code not in (404, 503):
            raise Violation("agreed", "BJ-NOBODY", f"{answer.status_code} for an unknown meter")

    def cancel(self, meter, amount_mp):
        key = self.recharge(meter, amount_mp)
        if self.requests[key].id:
            self.api("DELETE", f"/api/recharges/{self.requests[key].id}")

    def tariff(self, meter, rate_mp_per_kwh):
        self._versions[meter] += 1
        version = self._versions[meter]
        document = slabs((None, rate_mp_per_kwh // 1_000), name="chaos", version=version)
        if meter == self.meters[0]:
            now_utc_s = self.world.conductor.now_ms() // 1000
            held_utc_s = now_utc_s + 3600 if version % 3 == 0 else 0
            on_change = ("carry_on", "pro_rata")[version % 2]
            document = zoned(
                rate_mp_per_kwh,
                version + 1,
                effective_from_utc_s=held_utc_s,
                on_change=on_change,
            )
        self.api("POST", f"/api/meters/{meter}/tariff", {"document": document})

    def change_load(self, meter, current):
        with contextlib.suppress(BoardError):  # it is just losing its power
            self.world.set_load(meter, _load(current))

    # --- the end -----------------------------------------------------------------------------

    def _quiet(self):
        """No more faults, everything comes back, and everything is delivered."""
        self.step_name = "quiet"
        not_met = self.world.network.calm()
        self.notes["faults armed and not met"] = len(not_met)
        self.world.door.fail = lambda *_: None
        self.brown.clear()
        for meter in list(self._write_cuts):
            self._write_cuts.pop(meter)
            with contextlib.suppress(BoardError):
                self.world.boards[meter].command("cut_at_write", n=0)
        # Whatever was to happen later happens now.
        while self._agenda:
            due, self._agenda = sorted(self._agenda), []
            for _, _, fn in due:
                fn()
            self.live_until(self.world.now_ms + MINUTE_MS)
        # A last cut: the register with which a meter starts is compared with what was consumed.
        for meter in self.meters:
            self._dark.add(meter)
            self.cut(meter)
            self.world.restore(meter)
            self._lines[meter] = self.world.boards[meter].line_count
        self.tell("quiet")
        end_ms = self.world.now_ms + DRAINED_MS
        while True:
            left = self._left()
            if not left:
                break
            if self.world.now_ms > end_ms:
                self.found.append(Violation("drained", "", "; ".join(left)))
                return
            self.live_until(self.world.now_ms + 5 * MINUTE_MS)
        self.tell("drained")

    def _left(self):
        """What is not delivered yet, in words."""
        left = []
        answer = self.api("GET", "/api/health")
        if answer is None or answer.status_code != 200:
            return ["the gateway does not answer"]
        health = answer.json()
        self.health = health
        for meter in self.meters:  # an order for a flood, which will not come again, may wait
            if orders := self.world.get(f"/api/meters/{meter}")["open_orders"]:
                left.append(f"{meter}: {orders} orders open")
            if self.world.get(f"/api/meters/{meter}/balance")["ledger_lost"]:
                left.append(f"{meter}: ledger lost")
                self._resync(meter, 1)
        for stream, count in health["upstream"]["backlog"].items():
            if count:
                left.append(f"{count} {stream} not at the utility")
        for meter, board in self.world.boards.items():
            new = board.line_count - self._lines[meter]
            said = [line for line in board.lines()[-new:] if new and " status " in line]
            if not said or " link=up waiting=0" not in said[-1]:
                left.append(f"{meter}: {said[-1] if said else 'says nothing'}")
        left += [f"{key} has no answer" for key, r in self._asked().items() if r.id is None]
        left += [f"change {r.id}" for r in self.tenants.values() if r.id and not self._moved_in(r)]
        return left

    def _moved_in(self, request):
        """True if a change of the tenant is done; one that was refused is asked for again."""
        path = f"/api/account-changes/{request.id}"
        answer = self.api("GET", path)
        if answer is None or answer.status_code != 200:
            return False
        change = answer.json()
        if change["result"] == "mismatch":
            raise Violation("agreed", request.meter, f"closed with other totals: {change}")
        if change["state"] == "refused":
            self.notes["changes of the tenant asked for again"] += 1
            self.api("POST", path + "/retry")
        return bool(change["state"] == "done")

    def _judge(self):
        world, found = self.world, self.found
        balances = {m: world.get(f"/api/meters/{m}/balance") for m in self.meters}
        for meter in self.meters:
            board = world.boards[meter]
            if board.runs != world.truths[meter].runs + 1:
                found.append(Violation("processes", meter, "it restarted by itself"))
            world.cut(meter)
        self._judge_health(balances)
        at_utility = _rows(self.folder / "headend" / "headend.sqlite", "records")
        at_gateway = _rows(self.folder / "gateway" / "gateway.sqlite", "records")
        credits = {}
        forgotten = set()
        orders = _rows(self.folder / "gateway" / "gateway.sqlite", "orders")
        self.records = 0
        for meter in self.meters:
            store, flash = records_on_flash(self.flash_of(meter), self.folder / f"flash-{meter}")
            here = [row for row in at_gateway if row["meter"] == meter]
            there = [row for row in at_utility if row["meter"] == meter]
            records = sorted((json.loads(row["content"]) for row in here), key=lambda r: r["seq"])
            self.records += len(records)
            found += judge_records(
                meter,
                self.witness.acked,
                [(store, record) for record in flash],
                [(row["store"], json.loads(row["content"])) for row in here],
                [(row["store"], json.loads(row["content"])) for row in there],
            )
            found += judge_ledger(meter, records)
            mine = [row for row in orders if row["meter"] == meter]
            found += self._judge_supply(meter, records, mine)
            found += judge_tenants(
                meter,
                records,
                {r.body["account"] for r in self.tenants.values() if r.id and r.meter == meter},
            )
            damaged = self.damaged[meter]
            found += judge_damage(meter, [seq for seq in damaged if damaged[seq]], records)
            forgotten.update(r["id"] for r in records if r["seq"] in damaged and "id" in r)
            for record in records:
                if record["type"] == "credit" and record["kind"] == "recharge":
                    credits.setdefault(record["id"], (meter, record))
            hurt = {r["id"] for r in records if r["seq"] in damaged and "id" in r}
            found += judge_orders(meter, records, [row for row in mine if row["id"] not in hurt])
            found += judge_energy(meter, world.truths[meter], records, POWER_MAX_W, SAMPLE_MS)
        found += self.witness.judge(forgotten)
        for meter, fake in self.floods.items():
            whole = [(fake.store, record) for record in fake.journal]
            found += judge_records(
                meter,
                self.witness.acked,
                whole,
                *(
                    [
                        (row["store"], json.loads(row["content"]))
                        for row in rows
                        if row["meter"] == meter
                    ]
                    for rows in (at_gateway, at_utility)
                ),
            )
        recharges = _rows(self.folder / "gateway" / "gateway.sqlite", "recharges")
        moved = {request.meter for request in self.tenants.values()}
        refused = {r["id"] for r in recharges if r["code"] == "closed" and r["meter"] in moved}
        self.notes["recharges refused by a closed account"] = len(refused)
        found += judge_recharges(
            {r.id: (r.meter, r.amount_mp) for r in self.requests.values() if r.id},
            credits,
            {
                row["id"]: (row["state"], row["meter"], row["amount_mp"], row["balance_mp"])
                for row in recharges
            },
            _recharges_at_utility(_rows(self.folder / "headend" / "headend.sqlite", "recharges")),
            refused,
        )

    def _judge_supply(self, meter, records, orders):
        switched = [row for row in orders if row["kind"] == "relay"]
        members = {row["id"]: json.loads(row["members"]) for row in switched}
        supply = judge_supply(meter, records, members, self.world.truths[meter].opened)
        for reason, count in supply.begun.items():
            self.notes["supplies cut: " + reason] += count
        return supply.found

    def _judge_health(self, balances):
        health, found = self.health, self.found
        if health["ingest"]["quarantined"] or health["ingest"]["quarantine_full"]:
            found.append(Violation("quarantine", "", f"{health['ingest']['quarantined']} messages"))
        if health["upstream"]["rejected"]:
            found.append(Violation("quarantine", "", "the head-end refused something"))
        if health["broker"]["dropped"]:
            found.append(Violation("queues", "", f"dropped {health['broker']['dropped']}"))
        if health["gaps"]:
            found.append(Violation("gaps", "", f"{health['gaps']} at the gateway"))
        for meter, balance in balances.items():
            if balance["agree"] is not True:
                found.append(Violation("balance", meter, f"the gateway's audit: {balance}"))
        log = (self.folder / "gateway.log").read_text("utf-8", "replace")
        for line in log.splitlines():
            if "the broker dropped" in line:
                found.append(Violation("queues", "", line))
            elif " CRITICAL " in line or "quarantine" in line or line.startswith("Traceback"):
                found.append(Violation("processes", "", f"gateway.log: {line}"))

    # --- what is said ------------------------------------------------------------------------

    def table(self):
        """The counts, for people."""
        lines = [f"  {'faults':<44}{self.faults.total():>6}"]
        lines += [f"    {name:<42}{self.faults[name]:>6}" for name in faults.FAULTS]
        lines.append(f"  {'operations':<44}{len(self.requests) + self.operations.total():>6}")
        lines.append(f"    {'recharge':<42}{len(self.requests):>6}")
        for name in faults.OPERATIONS:
            lines.append(f"    {name:<42}{self.operations[name]:>6}")
        lines += [f"  {name:<44}{count:>6}" for name, count in sorted(self.notes.items())]
        for leaf, count in sorted(self.witness.messages.items()):
            lines.append(f"  {'messages ' + leaf:<44}{count:>6}")
        return "\n".join(lines)

    def near(self, violation):
        """The history near a violation."""
        lines = (self.folder / "history.jsonl").read_text().splitlines()
        if violation.utc_s:
            at_ms = violation.utc_s * 1000
            before = [line for line in lines if json.loads(line)["utc_ms"] <= at_ms + HOUR_MS]
            lines = before or lines
        return lines[-HISTORY_SHOWN:]


class Request:
    """A recharge or an order that was asked for. `id` None: the gateway has not answered yet."""

    def __init__(self, meter, amount_mp, path, body):
        self.meter = meter
        self.amount_mp = amount_mp
        self.path = path
        self.body = body
        self.times = 0  # it was asked for
        self.id = None


def _load(current):
    return f"constant:{VOLTAGE}V,{current}A"


def _rows(path, table):
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(f"SELECT * FROM {table}")]


def _recharges_at_utility(rows):
    told = {}
    for row in rows:
        end = row["meter"], row["amount_mp"], row["balance_mp"]
        told.setdefault(row["recharge"], {})[row["state"]] = end
    return told
