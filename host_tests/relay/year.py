"""`make relay-year`: a year of 1,000 households on the rules of the relay alone.

Each household has its load, its ways to pay, its utility's settings, power cuts each week and
outages of the network; the server of everybody is down for 15 days once. A seed decides all of it.
household.Judge judges each cut and each restoration.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

from firmware.core import events
from firmware.relay.calendar import check
from firmware.relay.credit_rule import CUT, IN_CREDIT
from host_tests.fakes.relay import rule_config
from host_tests.relay.household import DAY_S, HOUR_S, RUPEE_MP, House, Wrong

YEAR_UTC_S = 1767205800  # 2026-01-01 00:00 in India
DAYS = 365
CALENDARS = Path(__file__).parents[2] / "gateway" / "calendars"

# Name, share in per cent, settings, calendar.
UTILITIES = (
    ("patna", 40, {}, None),
    ("bihar", 15, {"debt_cap_mp": 500 * RUPEE_MP}, "bihar"),
    ("uttar-pradesh", 15, {"restore_percent": 50, "warned_days": 1}, "uttar-pradesh"),
    ("west-bengal", 15, {"floor_mp": -300 * RUPEE_MP}, "west-bengal"),
    ("outages count", 5, {"grace_counts_outage": 1}, None),
    ("warn only", 5, {"cut_mode": 0}, None),
    ("postpaid", 5, {}, None),
)


def calendar_document(name):
    """The document of a ready-made calendar; None: the settings' window."""
    return None if name is None else check(json.loads((CALENDARS / f"{name}.json").read_text()))


class Life:
    """One household from the first of January on."""

    def __init__(self, seed, utility, settings, document, days):
        self.random = rng = random.Random(seed)
        self.base_w = rng.randint(40, 250)
        self.evening_w = rng.randint(100, 1500)
        if rng.random() < 0.2:
            settings = {
                **settings,
                "limit_mode": 2,
                "limit_w": self.base_w + self.evening_w * 97 // 100,
            }
        self.house = House(
            rule_config(**settings),
            document,
            rng.randint(-200, 600) * RUPEE_MP,
            YEAR_UTC_S,
            has_rtc=rng.random() < 0.6,
            postpaid=utility == "postpaid",
        )
        self.diligence = rng.choice((0.002, 0.01, 0.05, 0.3))  # pays within an hour
        self.outages = 0  # at the same time
        self.waiting_mp = 0  # paid, and not yet at the meter
        self.events = sorted(self._events(days), key=lambda event: event[0])
        self.end_s = YEAR_UTC_S + days * DAY_S

    def _events(self, days):
        """(second, what, seconds or flag) of what comes from outside."""
        rng = self.random
        for week in range(days // 7):
            at_s = YEAR_UTC_S + (week * 7 + rng.randrange(7)) * DAY_S + rng.randrange(DAY_S)
            yield at_s, "power", rng.choice((60, 600, 3600, 4 * HOUR_S, 9 * HOUR_S))
        outages = [(120 + rng.randrange(60), 15 * DAY_S)] if days > 200 else []
        for month in range(0, days, 30):
            outages.append((month + rng.randrange(28), rng.randrange(HOUR_S, 3 * DAY_S)))
        for day, seconds in outages:
            at_s = YEAR_UTC_S + day * DAY_S + rng.randrange(DAY_S)
            yield at_s, "server", False
            yield at_s + seconds, "server", True
        if rng.random() < 0.05:
            at_s = YEAR_UTC_S + rng.randrange(days) * DAY_S
            yield at_s, "order", True
            yield at_s + rng.randrange(5 * DAY_S), "order", False
        if rng.random() < 0.05:
            at_s = YEAR_UTC_S + rng.randrange(days) * DAY_S
            yield at_s, "sensor", True
            yield at_s + rng.randrange(3 * DAY_S), "sensor", False
        if not self.house.postpaid and rng.random() < 0.05:
            at_s = YEAR_UTC_S + rng.randrange(days) * DAY_S
            yield at_s, "mode", True
            yield at_s + 30 * DAY_S, "mode", False

    def run(self):
        """Lives on to the end; returns the house. Raises Wrong."""
        house = self.house
        at = 0
        hour_s = house.now_s
        power_w = 0
        while house.now_s < self.end_s:
            if house.now_s >= hour_s:
                hour_s += HOUR_S
                power_w = self._power_w((house.now_s - YEAR_UTC_S) // HOUR_S % 24)
                self._pay()
            until_s = hour_s
            if at < len(self.events) and self.events[at][0] <= hour_s:
                until_s = max(house.now_s, self.events[at][0])
            house.live(until_s - house.now_s, power_w)
            while at < len(self.events) and self.events[at][0] <= house.now_s:
                self._happen(*self.events[at][1:])
                at += 1
        return house

    def _power_w(self, hour):
        evening = 18 <= hour < 23
        return self.base_w + self.random.randrange(self.evening_w if evening else 100)

    def _happen(self, what, value):
        house = self.house
        if what == "power":
            house.power_off(value)
            house.judge.facts["power cuts"] += 1
        elif what == "server":
            self.outages += -1 if value else 1
            house.server(self.outages == 0)
        elif what == "order":
            house.order(value)
        elif what == "sensor":
            house.faulty = value
        else:
            house.mode(value)
        if house.server_up:
            house.time_comes()
            if self.waiting_mp:
                house.recharge(self.waiting_mp)
                self.waiting_mp = 0

    def _pay(self):
        house, rng = self.house, self.random
        if house.postpaid or house.available_mp() > house.config.low_credit_mp:
            return
        eager = 5 if house.rule.word == CUT else 1
        if self.waiting_mp or rng.random() > self.diligence * eager:
            return
        debt_mp = house.debt_mp()
        amount_mp = rng.choice((100, 200, 300, 500)) * RUPEE_MP
        if debt_mp and rng.random() < 0.2:
            amount_mp = debt_mp * rng.randrange(10, 100) // 100 + 1  # not all of it
        if house.server_up:
            house.recharge(amount_mp)
        else:
            self.waiting_mp += amount_mp


def lives(households, days, seed):
    """A Life for each household, in the shares of the utilities."""
    documents = {row[3]: calendar_document(row[3]) for row in UTILITIES}
    rng = random.Random(seed)
    for number in range(households):
        pick = rng.randrange(100)
        for name, share, settings, calendar in UTILITIES:
            pick -= share
            if pick < 0:
                yield name, Life(f"{seed}-{number}", name, settings, documents[calendar], days)
                break


def simulate(households, days, seed):
    """(facts by utility, least seconds by utility, what was wrong)."""
    facts, least, wrong = {}, {}, []
    for number, (name, life) in enumerate(lives(households, days, seed)):
        sums = facts.setdefault(name, Counter())
        sums["households"] += 1
        try:
            life.run()
        except Wrong as error:
            wrong.append(f"household {number} ({name}): {error}")
        judge = life.house.judge
        sums.update(judge.facts)
        sums["cut at the end"] += life.house.rule.word != IN_CREDIT
        seconds = least.setdefault(name, {})
        for what, value in judge.least.items():
            seconds[what] = min(value, seconds.get(what, value))
    return facts, least, wrong


ROWS = (
    ("households", "households"),
    ("power cuts", "power cuts"),
    ("recharges", "recharges"),
    ("want of credit (1002)", events.CREDIT_EXHAUSTED),
    ("cuts", "cuts"),
    ("cuts at unknown time", "cuts at unknown time"),
    ("would have cut (1060)", events.WOULD_CUT),
    ("restorations", "restorations"),
    ("of these by a share", "by a share"),
    ("grace behind a silence", events.OFFLINE_GRACE),
    ("unknown time's end (1061)", events.UNDATED_CUT),
    ("limiter trips", "limiter trips"),
    ("lock-outs", "lock-outs"),
)


LEAST = (("least s from zero to cut", "zero to cut"), ("least s of grace", "supplied grace"))


def show(facts, least):
    names = [name for name, *_ in UTILITIES if name in facts]
    print(f"{'':<28}" + "".join(f"{name:>15}" for name in [*names, "all"]))
    total = sum(facts.values(), Counter())
    for title, key in ROWS:
        counts = [facts[name][key] for name in names]
        print(f"{title:<28}" + "".join(f"{count:>15,}" for count in [*counts, total[key]]))
    for title, key in LEAST:
        values = [least[name].get(key) for name in names]
        shown = [value for value in values if value is not None]
        values.append(min(shown) if shown else None)
        print(f"{title:<28}" + "".join(f"{'-' if v is None else f'{v:,}':>15}" for v in values))


def main():
    parser = argparse.ArgumentParser(prog="make relay-year", description=__doc__.splitlines()[0])
    parser.add_argument("--households", type=int, default=1000)
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    begun = time.monotonic()
    facts, least, wrong = simulate(arguments.households, arguments.days, arguments.seed)
    show(facts, least)
    for line in wrong[:20]:
        print(line)
    print(
        f"cuts outside a window, in grace, without a warning or while held, and recharges that did"
        f" not close at once: {len(wrong)}; {time.monotonic() - begun:.0f} s"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
