"""`make powerloss`: cuts the power at every flash operation of a meter's life.

The work is done on MicroPython and its littlefs by the scripts in vm/, in a process for each
processor. vm/flash.py says what a cut can leave, vm/judge.py what must hold.
"""

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from host_tests.fakes.documents import meter_config
from toolchain import locate

ROOT = Path(__file__).parents[2]
VM = Path(__file__).parent / "vm"

SMALL = {"sizes": {"segment_bytes": 2600, "checkpoint_file_bytes": 2000}, "blocks": 64}
"""Small files: they change often, and littlefs comes round its blocks."""

REAL = {"sizes": {}, "blocks": 128}
"""The file sizes of a meter."""

FULL = {
    "small files": {**SMALL, "every": 1, "nested": 500, "nested_every": 3},
    "upgrade": {**SMALL, "story": "upgrade", "every": 3, "nested": 200, "nested_every": 5},
    "real sizes": {**REAL, "every": 200, "nested": 200, "nested_every": 20},
}
SHORT = {
    "small files": {**SMALL, "every": 307, "nested": 40, "nested_every": 7},
    "upgrade": {**SMALL, "story": "upgrade", "every": 61, "nested": 30, "nested_every": 11},
    "real sizes": {**REAL, "every": 41, "nested": 30, "nested_every": 5, "only": "month ends"},
}

DAMAGE = {**SMALL, "seed": 1, "flips": 60, "every": 1}
DAMAGE_SHORT = {**SMALL, "seed": 1, "flips": 2, "every": 5}

WORDS = ("harmless", "older", "told", "ledger lost", "formatted", "key lost", "untold", "failed")
"""What becomes of a damage: nothing; an older sound state, as if power had failed before the last
write; event 1031 or 1039; event 1032; littlefs had to be formatted; the meter is back at the key of
its configuration; records are gone without an event; a promise is broken."""

COLUMNS = ("before", "torn", "smeared", "garbage", "reordered", "nested", "third")
_COLUMN = {"lost-first": "reordered", "last-only": "reordered"}


def config():
    """The meter's configuration as JSON text."""
    rules = {
        "low_credit_mp": 5_000_000,
        "grace_s": 3600,
        "window_start_min": 600,
        "window_end_min": 780,
        "window_days": 127,
    }
    return json.dumps(meter_config(sample_period_ms=60_000, rules=rules))


def start(folder, script="cuts.py", **settings):
    """Starts a script of vm/ with its settings; returns the process."""
    settings = {"root": str(ROOT), "config": config(), **settings}
    handle, path = tempfile.mkstemp(suffix=".json", dir=folder)
    with os.fdopen(handle, "w") as file:
        json.dump(settings, file)
    return subprocess.Popen(
        [*locate.micropython(32), "-X", "heapsize=192m", VM / script, path],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read(process, tells):
    """(result or None, failures, other lines) of a process; it has ended then. tells: steps that
    begin are said."""
    result, failures, others = None, [], []
    with process:
        for line in process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                others.append(line.rstrip())
                continue
            if "begins" in message:
                if tells:
                    print(f"cuts in: {message['begins']}", file=sys.stderr)
            elif "point" in message:
                print(f"failed: {message['point']}: {message['why'][:300]}", file=sys.stderr)
                failures.append(message)
            else:
                result = message
    return result if process.returncode == 0 else None, failures, others


def run(part, processes=1, script="cuts.py", share=(0, 1), **more):
    """Runs one part, or of so many shares of it the one with this number, from 0; returns (results,
    failures, other lines)."""
    results, failures, others = [], [], []
    number, shares = share
    with tempfile.TemporaryDirectory() as folder:
        running = [
            start(folder, script, share=[i, shares * processes], **{**part, **more})
            for i in range(number * processes, (number + 1) * processes)
        ]
        for process in running:
            result, failed, said = read(process, tells=not results)
            results.append(result)
            failures += failed
            others += said
    if None in results:
        raise SystemExit("\n".join(["powerloss: a process ended early", *others]))
    return results, failures, others


def merge(results):
    """One row for each step: its name, operations, counts by column, survived."""
    rows = []
    for i, step in enumerate(results[0]["steps"]):
        tried = collections.Counter()
        for result in results:
            for variant, count in result["steps"][i]["tried"].items():
                tried[_COLUMN.get(variant, variant.split("-")[0])] += count
        survived = sum(result["steps"][i]["survived"] for result in results)
        rows.append((step["step"], step["operations"], tried, survived))
    return rows


def show(name, rows):
    """Prints the table of one part; returns (tried, survived)."""

    def line(title, operations, tried, survived):
        counts = (operations, *(tried[column] for column in COLUMNS), tried.total(), survived)
        print(f"{title:<26}" + "".join(f"{count:>11}" for count in counts))

    titles = ("operations", *COLUMNS, "tried", "survived")
    print(f"\n{name:<26}" + "".join(f"{title:>11}" for title in titles))
    for row in rows:
        line(*row)
    total = sum((row[2] for row in rows), collections.Counter())
    survived = sum(row[3] for row in rows)
    line("sum", sum(row[1] for row in rows), total, survived)
    sys.stdout.flush()  # the next part takes minutes
    return total.total(), survived


def damage_rows(results):
    """{what was done: how often which word came of it} over the processes."""
    rows = collections.defaultdict(collections.Counter)
    for result in results:
        for name, words in result["tally"].items():
            rows[name].update(words)
    return dict(rows)


def show_damage(rows):
    """Prints the table of damages; returns (tried, survived)."""
    print(f"\n{'damage':<26}" + "".join(f"{word:>12}" for word in WORDS) + f"{'tried':>12}")
    total = sum(rows.values(), collections.Counter())
    for name, words in [*sorted(rows.items()), ("sum", total)]:
        print(f"{name:<26}" + "".join(f"{words[w]:>12}" for w in WORDS) + f"{words.total():>12}")
    return total.total(), total.total() - total["failed"] - total["untold"]


def read_share(text):
    """(0, 4) for "1/4". ArgumentTypeError if it is no share."""
    found = re.fullmatch(r"(\d{1,2})/(\d{1,2})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]) <= 64:
        raise argparse.ArgumentTypeError("must be I/N, from 1/1 to 64/64")
    return int(found[1]) - 1, int(found[2])


def main():
    parser = argparse.ArgumentParser(prog="make powerloss", description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a sample that takes seconds")
    parser.add_argument("--point", help="only this cut or damage, with the meter's log")
    parser.add_argument("--part", choices=list(FULL), default="small files", help="of --point")
    parser.add_argument(
        "--share",
        type=read_share,
        default=(0, 1),
        metavar="I/N",
        help="the Ith of N shares of all cuts and damages, 1/1 to 64/64",
    )
    parser.add_argument("--processes", type=int, default=min(4, os.cpu_count() or 1))
    arguments = parser.parse_args()
    if arguments.point:
        if arguments.point.startswith("damage:"):
            part = DAMAGE_SHORT if arguments.short else DAMAGE
            _, failures, others = run(part, script="damage.py", point=arguments.point)
        else:
            _, failures, others = run(FULL[arguments.part], point=arguments.point)
        print("\n".join(others))
        for failure in failures:
            print(failure["why"])
        return 1 if failures else 0
    begun = time.monotonic()
    tried = survived = longest_ms = longest_operations = 0
    wrong = []
    for name, part in (SHORT if arguments.short else FULL).items():
        results, failures, others = run(part, arguments.processes, share=arguments.share)
        sums = show(name, merge(results))
        tried, survived = tried + sums[0], survived + sums[1]
        longest_ms = max(longest_ms, *(result["longest_boot_ms"] for result in results))
        longest_operations = max(
            longest_operations, *(result["longest_boot_operations"] for result in results)
        )
        wrong += [f"{f['point']} ({name}, {f['step']}): {f['why'][:300]}" for f in failures]
        if failures:
            wrong += others[:20]
    results, failures, others = run(
        DAMAGE_SHORT if arguments.short else DAMAGE,
        arguments.processes,
        "damage.py",
        share=arguments.share,
    )
    damages = show_damage(damage_rows(results))
    wrong += [f"{f['point']} ({f['step']}): {f['why'][:300]}" for f in failures]
    print(
        f"\nlongest boot {longest_operations} log entries, {longest_ms} ms here;"
        f" {time.monotonic() - begun:.0f} s"
    )
    print(f"cut points tried {tried}, survived {survived}")
    print(f"damages tried {damages[0]}, survived {damages[1]}")
    for line in wrong[:40]:
        print(line)
    if wrong:
        print("to see one: make powerloss POINT=... (PART='real sizes' where it says so)")
    return 1 if wrong or tried != survived or damages[0] != damages[1] else 0


if __name__ == "__main__":
    sys.exit(main())
