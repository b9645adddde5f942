"""`make chaos-mutants`: plants known bugs in copies of the tree; a short chaos run must catch each.

A mutant is a list of (file, text, other text). The text must be there exactly once: a mutant that
no longer fits says so. The control is the same run without a bug, with the faults of all mutants.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from toolchain import locate

LEFT_OUT = (".git", ".venv", ".tools", "var", "*cache*", "__pycache__")
LINKED = (".venv", ".tools")


class Mutant:
    """A bug; `faults` are those that show it, `caught_by` the invariants that may name it."""

    def __init__(self, name, patches, faults, caught_by, recharges=12, count=12):
        self.name = name
        self.patches = patches
        self.faults = faults
        self.caught_by = caught_by
        self.recharges = recharges
        self.count = count


METER_NO_SYNC = (
    """def sync(file):
    \"\"\"Waits until all that was written to an open file is on flash.\"\"\"
    file.flush()
""",
    """def sync(file):
""",
)

ACKNOWLEDGED_EARLY = (
    """                effects += self._do_messages(connection, messages)
""",
    """                for effect in self._do_messages(connection, messages):
                    effect()
                self._acknowledge([m for m in messages if m.qos])
""",
)

LAST_ID_ONLY = (
    """        known = meter.journal.find_order(order["id"])
""",
    """        known = None
""",
)

SAVED_LATER = (
    """    meter.credit("recharge", order["id"], order["counter"], amount_mp)
""",
    """    meter.later = "recharge", order["id"], order["counter"], amount_mp
    meter.orders.highest = order["counter"]
""",
)
SAVED_BY_TICK = (
    """        self.control.run(utc_s, dt_ms)
""",
    """        later, self.later = getattr(self, "later", None), None
        if later:
            self.credit(*later)
        self.control.run(utc_s, dt_ms)
""",
)

MOVES_LATE = (
    """            self._tries = 0
            self.held_up_ms = 0
""",
    """            self._tries = 0
            self.held_up_ms = self._clock.up_ms() + 30000
""",
)

MUTANTS = [
    Mutant(
        "meter: a record is written without a sync",
        [("firmware/storage/errors.py", *METER_NO_SYNC)],
        ["meter: power cut"],
        ("once", "stored", "agreed", "energy", "gaps"),
    ),
    Mutant(
        "gateway: synchronous=OFF",
        [("gateway/store.py", "PRAGMA synchronous=FULL", "PRAGMA synchronous=OFF")],
        ["gateway: power cut"],
        ("stored", "gaps", "agreed"),
    ),
    Mutant(
        "gateway: acknowledges before the commit",
        [("gateway/writer.py", *ACKNOWLEDGED_EARLY)],
        ["gateway: disk full"],
        ("stored", "gaps", "agreed", "once"),
    ),
    Mutant(
        "meter: remembers the last order's id only",
        [("firmware/orders.py", *LAST_ID_ONLY)],
        ["order once more, late"],
        ("answers", "once"),
    ),
    Mutant(
        "broker: the default queue",
        [
            ("gateway/templates/mosquitto.conf", "max_queued_messages 100000\n", ""),
            ("gateway/templates/mosquitto.conf", "max_inflight_messages 1000\n", ""),
        ],
        ["flood while the gateway is stopped"],
        ("queues", "gaps", "stored"),
        count=2,
    ),
    Mutant(
        "meter: a recharge is saved after its answer",
        [
            ("firmware/kinds.py", *SAVED_LATER),
            ("firmware/meter.py", *SAVED_BY_TICK),
        ],
        ["meter: power cut at a message"],
        ("once",),
    ),
    Mutant(
        "meter: tells energy before it is saved",
        [
            (
                "firmware/meter.py",
                '            "import_wh": self._committed_wh,\n',
                '            "import_wh": energy.import_wh,\n',
            )
        ],
        ["meter: power cut at a message"],
        ("energy",),
        count=20,
    ),
    Mutant(
        "meter: counts what its sensor did not see",
        [
            (
                "firmware/meter.py",
                "            self._tell()\n            dt_ms = 0\n",
                "            self._tell()\n",
            )
        ],
        ["meter: sensor away"],
        ("energy",),
        count=40,
    ),
    Mutant(
        "meter: moves its contact half a minute late",
        [("firmware/relay/contactor.py", *MOVES_LATE)],
        ["message twice"],
        ("supply",),
    ),
    Mutant(
        "meter: does not check the ledger's chain",
        [("firmware/storage/journal.py", "link != body[:LINK_BYTES]:", "not body:")],
        ["meter: bit flip"],
        ("told",),
    ),
]


def plant(mutant, root):
    """Change the files in `root`. Raises ValueError if the mutant does not fit any more."""
    for name, old, new in mutant.patches:
        path = root / name
        text = path.read_text("utf-8")
        if text.count(old) != 1:
            raise ValueError(f"{mutant.name}: not exactly once in {name}: {old!r}")
        path.write_text(text.replace(old, new), "utf-8")


def copy_tree(root):
    """The project in the folder `root`, without what can be linked or made."""
    project = locate.project_root()
    shutil.copytree(project, root, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name in LINKED:
        (root / name).symlink_to((project / name).resolve())


def run(root, seed, recharges, count, faults):
    """A chaos run in the tree `root`; returns (exit code, what it printed)."""
    command = [sys.executable, "-m", "host_tests.chaos", "--seed", str(seed)]
    command += ["--recharges", str(recharges), "--faults", str(count)]
    for name in faults:
        command += ["--only", name]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="mutants whose name contains this, and no control")
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if not options.only or options.only in m.name]
    control = Mutant("control: no bug", [], sorted({f for m in chosen for f in m.faults}), ())
    missed = 0
    began_s = time.monotonic()
    for mutant in [*([] if options.only else [control]), *chosen]:
        with tempfile.TemporaryDirectory(prefix="chaos-mutant-") as folder:
            root = Path(folder) / "tree"
            copy_tree(root)
            plant(mutant, root)
            code, text = run(root, options.seed, mutant.recharges, mutant.count, mutant.faults)
        violated = re.findall(r"^  VIOLATED (\w+): (.*)", text, re.MULTILINE)
        names = sorted({name for name, _ in violated})
        if mutant is control:
            good, verdict = code == 0, "passes" if code == 0 else "FAILS"
        else:
            good = code == 1 and bool(set(names) & set(mutant.caught_by))
            verdict = f"caught by: {', '.join(names)}" if good else f"MISSED (exit code {code})"
        print(f"{mutant.name:<46} {verdict}", flush=True)
        for name, what in violated[:1]:
            print(f"{'':<46} {name}: {what[:110]}", flush=True)
        if not good:
            missed += 1
            print(text[-3_000:], flush=True)
    took_s = time.monotonic() - began_s
    print(f"chaos-mutants: {'FAIL' if missed else 'PASS'}, {len(chosen)} planted in {took_s:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
