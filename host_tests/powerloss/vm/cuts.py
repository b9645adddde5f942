"""Run by the launcher on MicroPython: cuts the power in the scenario, judges what each cut leaves.

argv: a file with the settings as JSON. Prints a line of JSON for each failure and one at the end.
Members of the settings:

    root            of the project
    config          of the meter, as JSON text
    sizes, blocks   the journal's file sizes, the flash's blocks
    share           [i, n]: this process takes every n-th chosen cut
    every           of so many cuts one is tried
    nested          of so many tried cuts one is cut again, everywhere in its recovery
    nested_every    of so many such second cuts one is tried
    only            cuts of this step only; the scenario ends behind it
    plant           a bug to be found (planted.py)
    point           try this cut, with the meter's log
"""

import gc
import json
import sys
import time

with open(sys.argv[1]) as _file:
    settings = json.load(_file)
sys.path.insert(0, settings["root"])
sys.path.insert(0, settings["root"] + "/host_tests/powerloss/vm")

import planted
from flash import BLOCK_BYTES, ERASE, MARK, NVS, PROG, Replay, checksum
from judge import judge
from scenario import UTC_S, play
from session import Truth, Wrong

_COLLECT_EVERY = 64
_THIRD_CUT_EVERY = 40


class Cuts:
    """Goes through the cuts of one log after the other and counts."""

    def __init__(self):
        self.steps = []
        self.failures = 0
        self.longest_boot_ms = 0
        self.longest_boot_operations = 0
        self.checksum = 0  # of the scenario and of every recovery
        self._tried = 0
        self._number = 0
        self._shared = 0
        self._now = None

    def scenario(self, log):
        """All cuts of the scenario's log, and those of some recoveries."""
        self.checksum = checksum(log)
        truth = Truth()
        truth.utc_s = UTC_S
        replay = Replay(b"\xff" * (settings["blocks"] * BLOCK_BYTES), log)
        while replay.at < len(log):
            entry = log[replay.at]
            if entry[0] == MARK and entry[1] == "step":
                self._begin(entry[2])
            elif entry[0] in (PROG, ERASE, NVS):
                self._now["operations"] += 1
                skipped = self._now["step"] != settings.get("only", self._now["step"])
                for variant in () if skipped else replay.variants():
                    if self._is_mine(variant) and replay.is_new(variant):
                        point = "%d:%s" % (replay.at, variant)
                        self._try(point, replay.cut(variant), truth, variant, self._is_cut_again())
            truth.take(entry)
            replay.step()

    def point(self, log, point):
        """Only the cut that `point` names, with the meter's log."""
        truth = Truth()
        truth.utc_s = UTC_S
        image = b"\xff" * (settings["blocks"] * BLOCK_BYTES)
        parts = point.split("/")
        self._begin("point " + point)
        for i, part in enumerate(parts):
            place, variant = part.split(":")
            replay = Replay(image, log)
            while replay.at < int(place):
                truth.take(log[replay.at])
                replay.step()
            print("cut %s inside entry %s" % (variant, repr(log[replay.at])[:100]))
            image = bytearray(replay.cut(variant))
            if i + 1 == len(parts):
                self._try(point, image, truth, variant, False, print)
            else:
                log = []
                before = truth.copy()
                judge(settings, bytearray(image), truth, log, self._time_known(part))
                truth = before

    def _begin(self, name):
        self._now = {"step": name, "operations": 0, "tried": {}, "survived": 0}
        self.steps.append(self._now)
        print(json.dumps({"begins": name}))

    def _is_mine(self, variant):
        # Reordering is rare: all of it is tried.
        self._number += 1
        if variant not in ("lost-first", "last-only") and self._number % settings["every"]:
            return False
        self._shared += 1
        number = self._shared // settings["nested"] if self._is_cut_again() else self._shared
        return number % settings["share"][1] == settings["share"][0]

    def _is_cut_again(self):
        # Dealt to the processes by turns as well: these are most of the work.
        return self._shared % settings["nested"] == 0

    def _time_known(self, part):
        """With a clock chip or without: the same for a cut whenever it is tried."""
        return sum(part.encode()) % 3 != 0

    def _try(self, point, cut, truth, kind, again, show=None):
        image = bytearray(cut)
        log = []
        survived = False
        try:
            booted = judge(
                settings, image, truth.copy(), log, self._time_known(point.split("/")[-1]), show
            )
            survived = True
            self.longest_boot_operations = max(self.longest_boot_operations, booted[0])
            self.longest_boot_ms = max(self.longest_boot_ms, booted[1])
        except Exception as error:
            if not isinstance(error, Wrong):
                sys.print_exception(error)
            self.failures += 1
            why = "%s: %s" % (type(error).__name__, error)
            print(json.dumps({"point": point, "why": why, "step": self._now["step"]}))
        self.checksum = checksum(log, self.checksum)
        tried = self._now["tried"]
        tried[kind] = tried.get(kind, 0) + 1
        self._now["survived"] += survived
        self._tried += 1
        if self._tried % _COLLECT_EVERY == 0:
            gc.collect()
        if again and survived:
            self._cut_again(point, bytearray(cut), truth.copy(), log)

    def _cut_again(self, point, image, truth, log):
        """Cuts everywhere in a recovery: before each operation and inside it, by turns."""
        third = point.count("/") > 0
        stride = settings["nested_every"] * (_THIRD_CUT_EVERY if third else 1)
        replay = Replay(image, log)
        number = len(point)
        while replay.at < len(log):
            entry = log[replay.at]
            if entry[0] in (PROG, ERASE, NVS):
                variants = replay.variants()
                if len(variants) > 1:
                    variants = (variants[0], variants[1 + replay.at % (len(variants) - 1)])
                for variant in variants:
                    number += 1
                    if number % stride == 0 and replay.is_new(variant):
                        again = not third and number % (stride * _THIRD_CUT_EVERY) == 0
                        self._try(
                            "%s/%d:%s" % (point, replay.at, variant),
                            replay.cut(variant), truth, "third" if third else "nested", again,
                        )  # fmt: skip
            truth.take(entry)
            replay.step()


def main():
    planted.plant(settings.get("plant"))
    begun_ms = time.ticks_ms()
    log = play(settings)
    scenario_ms = time.ticks_diff(time.ticks_ms(), begun_ms)
    cuts = Cuts()
    if settings.get("point"):
        cuts.point(log, settings["point"])
    else:
        cuts.scenario(log)
    print(
        json.dumps(
            {
                "steps": cuts.steps,
                "failures": cuts.failures,
                "scenario_ms": scenario_ms,
                "longest_boot_ms": cuts.longest_boot_ms,
                "longest_boot_operations": cuts.longest_boot_operations,
                "checksum": cuts.checksum,
            }
        )
    )


main()
