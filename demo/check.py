"""`bijli demo check`: one household's story told without a watcher, and judged.

Three simulated days, as fast as events allow: low credit, zero, the grace, a power cut in between,
the cut at the first allowed instant, a recharge by the gateway's API, the supply back; and at the
end the same balance at the meter, recomputed by the gateway, and at the utility.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

from boards.emulated.vm.emu.loads import load_from
from demo import reference
from demo.households import IST_S, Household, check_household, recording
from demo.world import World, erase
from firmware.console.text import fixed, rupees
from firmware.core import events
from firmware.credit.account import Account

START_MS = 1_767_551_400_000  # Monday 2026-01-05 00:00 in India
DAY_MS = 86_400_000
HOUR_MS = 3_600_000
STEP_MS = 300_000
DAYS = 3

WINDOW_H = (10, 13)
GRACE_S = 86_400
UNPLUG_AFTER_MS = 3 * HOUR_MS
UNPLUGGED_MS = 25 * 60_000
RECHARGE_AFTER_MS = 30 * 60_000
RECHARGE_LIMIT_MS = 60_000
LOST_WH_MAX = 12  # a checkpoint's 10 Wh, and what flows in the second around them
ENERGY_LIMIT = Fraction(3, 1000)


class Failed(Exception):
    """The story did not go as it must; the text says where."""


class Check:
    """One run of the story. `run` raises Failed at the first thing that is wrong."""

    def __init__(self, world: World, household: Household, say: Callable[[str], None]) -> None:
        self.world = world
        self.household = household
        self.meter = household.meter
        self.say = say
        self.records: dict[int, dict[str, Any]] = {}
        self.supplied_ms: list[tuple[int, int]] = []
        self._supply_since_ms = world.start_ms

    # --- what is seen ------------------------------------------------------------------------

    def line(self, utc_ms: int, text: str) -> None:
        """One line of the timeline, in the consumer's local time."""
        local = datetime.fromtimestamp(utc_ms // 1000, UTC) + timedelta(seconds=IST_S)
        day = (utc_ms - self.world.start_ms) // DAY_MS + 1
        self.say(f"  day {day} {local:%H:%M:%S}  {text}")

    def look(self) -> None:
        """Take the meter's new records from the gateway and tell what matters of them."""
        since_s = max((record["at_utc_s"] for record in self.records.values()), default=0)
        found = []
        for kind in ("events", "readings", "days", "billing"):
            path = f"/api/meters/{self.meter}/{kind}"
            found += self.world.get(path, since=since_s, limit=1000)
        for record in sorted(found, key=lambda record: int(record["seq"])):
            if record["seq"] not in self.records:
                self.records[record["seq"]] = record
                self.tell(record)

    def tell(self, record: dict[str, Any]) -> None:
        """The timeline's line of a record."""
        kind = record["type"]
        utc_ms = record["at_utc_s"] * 1000
        if kind == "event":
            text = {
                events.LOW_CREDIT: "low-credit warning, balance {balance}",
                events.CREDIT_EXHAUSTED: "zero: balance {balance}, grace of {hours} h begins",
                events.GRACE_OVER: "grace over, cut not before {when}",
                events.IN_CREDIT: "in credit again, balance {balance}",
                events.DISCONNECTED: "contact open",
                events.CONNECTED: "contact closed",
            }.get(record["code"])
            if text is not None:
                not_before = datetime.fromtimestamp(record["detail"] + IST_S, UTC)
                self.line(
                    utc_ms,
                    text.format(
                        balance=rupees(record["balance_mp"]),
                        hours=record["detail"] // 3600,
                        when=f"{not_before:%d %b %H:%M:%S}",
                    ),
                )
        elif kind == "control":
            word = "reconnected" if record["contact"] else "disconnected"
            self.line(
                utc_ms, f"{word} for {record['reason']}, balance {rupees(record['balance_mp'])}"
            )
        elif kind == "credit":
            self.line(
                utc_ms,
                f"{record['kind']} {rupees(record['amount_mp'])}, "
                f"balance {rupees(record['balance_mp'])}",
            )

    def event(self, code: int) -> dict[str, Any] | None:
        """The first event of a code, if it has come."""
        for record in self.records.values():
            if record["type"] == "event" and record["code"] == code:
                return record
        return None

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """All records of a type, in order."""
        return [record for _, record in sorted(self.records.items()) if record["type"] == kind]

    # --- the story ---------------------------------------------------------------------------

    def pass_until(self, utc_ms: int) -> None:
        """Let time pass, looking at the gateway every five minutes."""
        while self.world.now_ms < utc_ms:
            self.world.wait_until(min(utc_ms, self.world.now_ms + STEP_MS))
            self.look()

    def await_event(self, code: int, what: str, limit_ms: int) -> dict[str, Any]:
        """Let time pass until an event has come; Failed after `limit_ms`."""
        until_ms = self.world.now_ms + limit_ms
        while True:
            found = self.event(code)
            if found is not None:
                return found
            if self.world.now_ms >= until_ms:
                raise Failed(f"no {what} within {limit_ms // HOUR_MS} h")
            self.pass_until(self.world.now_ms + STEP_MS)

    def run(self) -> None:
        """The whole story."""
        low = self.await_event(events.LOW_CREDIT, "low-credit warning", DAY_MS)
        zero = self.await_event(events.CREDIT_EXHAUSTED, "zero balance", DAY_MS)
        require(low["seq"] < zero["seq"], "the warning came before zero")
        require(low["balance_mp"] <= self.household.low_credit_mp, "the warning came at its limit")
        self.pass_until(zero["at_utc_s"] * 1000 + UNPLUG_AFTER_MS)
        self.unplug()
        over = self.await_event(events.GRACE_OVER, "end of the grace", 2 * DAY_MS)
        self.judge_grace(zero, over)
        cut = self.await_event(events.DISCONNECTED, "cut", DAY_MS)
        self.judge_cut(over, cut)
        self.pass_until(cut["at_utc_s"] * 1000 + RECHARGE_AFTER_MS)
        self.recharge()
        self.pass_until(self.world.start_ms + DAYS * DAY_MS + 2_000)
        self.supplied_ms.append((self._supply_since_ms, self.world.start_ms + DAYS * DAY_MS))
        self.judge_balances()
        self.judge_energy()

    def unplug(self) -> None:
        """Pull the plug for a while: no record is lost, and little energy."""
        board = self.world.boards[self.meter]
        # The newest live values and records are those of this very instant's minute.
        self.pass_until(self.world.now_ms + 60_000 - self.world.now_ms % 60_000 + 1_000)
        before = self.register_by_serial_log()
        records = len(self.records)
        self.line(self.world.now_ms, f"meter unplugged at {fixed(before, 1000, 3)} kWh")
        self.supplied_ms.append((self._supply_since_ms, self.world.now_ms))
        board.cut_power()
        self.pass_until(self.world.now_ms + UNPLUGGED_MS)
        require(len(self.records) == records, "no record came from a meter without power")
        board.restore_power()
        self._supply_since_ms = self.world.now_ms
        self.pass_until(self.world.now_ms + STEP_MS)
        boots = self.of_type("boot")
        require(len(boots) == 2 and boots[1]["cause"] == "power", "the meter told of its restart")
        lost_wh = before - boots[1]["import_wh"]
        self.line(
            boots[1]["at_utc_s"] * 1000,
            f"meter restored at {fixed(boots[1]['import_wh'], 1000, 3)} kWh, "
            f"{lost_wh} Wh were not on flash yet",
        )
        require(0 <= lost_wh <= LOST_WH_MAX, f"at most {LOST_WH_MAX} Wh are lost by a power cut")

    def register_by_serial_log(self) -> int:
        """The register in Wh as the newest status line of the serial log says it."""
        for line in reversed(self.world.boards[self.meter].lines()):
            _, found, rest = line.partition(" kWh=")
            if " status " in line and found:
                whole, _, part = rest.split(" ")[0].partition(".")
                return int(whole + part)
        raise Failed("the serial log has no status line")

    def judge_grace(self, zero: dict[str, Any], over: dict[str, Any]) -> None:
        """24 h of supply between zero and the end of the grace; the outage does not count."""
        spent_s = over["at_utc_s"] - zero["at_utc_s"]
        outage_s = UNPLUGGED_MS // 1000
        require(
            GRACE_S + outage_s - 60 <= spent_s <= GRACE_S + outage_s + 960,
            f"the grace took {spent_s} s and not 24 h of supply",
        )

    def judge_cut(self, over: dict[str, Any], cut: dict[str, Any]) -> None:
        """Exactly one cut, at the first instant that is allowed after the grace."""
        relay = self.of_type("control")
        require(len(relay) == 1 and not relay[0]["contact"], "one cut and nothing else")
        local_s = (relay[0]["at_utc_s"] + IST_S) % 86_400
        require(
            WINDOW_H[0] * 3600 <= local_s < WINDOW_H[1] * 3600,
            "no cut outside 10:00-13:00",
        )
        first_s = over["detail"]
        late_s = relay[0]["at_utc_s"] - first_s
        require(0 <= late_s <= 2, f"cut at the first allowed instant ({late_s} s late)")
        require(not self.world.boards[self.meter].look()["contact"], "the contact is open")
        self.supplied_ms.append((self._supply_since_ms, cut["at_utc_s"] * 1000))
        self.line(cut["at_utc_s"] * 1000, f"no cut outside 10:00-13:00; {late_s} s after 10:00:00")

    def recharge(self) -> None:
        """Recharge by the API; watch its states and the contact."""
        began_ms = self.world.now_ms
        made = self.world.recharge(self.meter, "600.00")
        self.line(began_ms, f"recharge of 600.00 by the API: {made['state']}")
        board = self.world.boards[self.meter]
        closed_ms = None
        while self.world.now_ms < began_ms + RECHARGE_LIMIT_MS:
            made = self.world.get(f"/api/recharges/{made['id']}")
            if board.look()["contact"]:
                closed_ms = self.world.now_ms
            if closed_ms is not None and made["state"] == "confirmed":
                break
            self.world.wait_until(self.world.now_ms + 100)
        if closed_ms is None or made["state"] != "confirmed":
            raise Failed(f"a recharge did not restore the supply: {made['state']}")
        self._supply_since_ms = closed_ms
        self.look()
        states = [name.removesuffix("_utc_ms") for name in made["times"]]
        self.line(
            self.world.now_ms,
            f"{', '.join(states)}, balance {rupees(made['balance_mp'])}; contact closed "
            f"{fixed(closed_ms - began_ms, 1000, 1)} s after the API call",
        )
        require(states == ["queued", "sent", "confirmed"], "it was queued, sent and confirmed")

    # --- the accounts --------------------------------------------------------------------------

    def judge_balances(self) -> None:
        """Meter, gateway and utility have the same balance, to the milli-paisa."""
        last = self.records[max(self.records)]
        require(
            sorted(self.records) == list(range(1, len(self.records) + 1)), "no record is missing"
        )
        answer = self.world.get(f"/api/meters/{self.meter}/balance")
        require(answer["agree"], f"the gateway recomputes another balance: {answer}")
        utility = self.world.headend(f"/v1/meters/{self.meter}/records?limit=1000")
        found = {item["seq"]: item for item in utility}
        require(sorted(found) == sorted(self.records), "the utility has every record")
        at_utility = found[last["seq"]]["record"]["balance_mp"]
        recomputed = recompute(list(self.records.values()), last["import_wh"])
        self.say(
            f"  balance by the meter {rupees(last['balance_mp'], 5)}, "
            f"recomputed {rupees(recomputed, 5)}, at the utility {rupees(at_utility, 5)} rupees"
        )
        require(last["balance_mp"] == recomputed == at_utility, "the three balances are equal")

    def judge_energy(self) -> None:
        """The register against the integral of voltage times current over the supplied time."""
        counted_wh = self.of_type("load")[-1]["import_wh"]
        path = recording()
        load: reference.Load | reference.Recording
        if path is not None:
            source, load = "the recording", reference.Recording(path, self.world.start_ms)
        else:
            source, load = "the appliances", load_from(self.household.load, self.household.seed)
        exact_wh = reference.energy_wh(load, self.supplied_ms)
        error = Fraction(counted_wh) / exact_wh - 1
        self.say(
            f"  energy by the meter {fixed(counted_wh, 1000, 3)} kWh, by {source} "
            f"{float(exact_wh) / 1000:.3f} kWh: {float(error) * 100:+.3f} %"
        )
        require(abs(error) <= ENERGY_LIMIT, "the energy is within 0.3 %")


def require(condition: bool, what: str) -> None:
    """Raises Failed unless the condition holds."""
    if not condition:
        raise Failed(what)


def recompute(records: list[dict[str, Any]], import_wh: int) -> int:
    """The balance from nothing but the records, by the firmware's own account."""
    account = Account()
    for record in sorted(records, key=lambda record: int(record["seq"])):
        account.apply(record)
    return int(account.balance_mp(import_wh))


def run(folder: Path, say: Callable[[str], None]) -> bool:
    """Runs the check on a fresh world in `folder`; True if it passed. Says every line."""
    household = check_household()
    began_s = time.monotonic()
    erase(folder)
    say(
        f"demo-check: {household.consumer} ({household.load.split(':')[0]}), "
        f"{rupees(household.opening_balance_mp)} rupees, warned below "
        f"{rupees(household.low_credit_mp)}"
    )
    world = World(folder, [household], START_MS, None, say)
    passed = False
    try:
        world.start()
        Check(world, household, say).run()
        passed = True
        verdict = "demo-check: PASS"
    except Exception as error:
        # Whatever ends the story is the verdict; the details are in the logs.
        verdict = f"demo-check: FAIL: {error or type(error).__name__}"
    finally:
        simulated_s = (world.conductor.now_ms() - START_MS) // 1000
        world.stop()
    took_s = time.monotonic() - began_s
    say(f"  {simulated_s / 3600:.1f} simulated hours in {took_s:.1f} s; logs in {folder.name}/")
    say(verdict)
    return passed
