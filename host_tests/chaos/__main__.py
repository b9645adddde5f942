"""`make chaos`: one seeded run, its counts, and the verdict; exit code 1 if anything is wrong."""

import argparse
import secrets
import shutil
import signal
import sys
from pathlib import Path

from boards.emulated.board import HEAP_KB
from host_tests.chaos.faults import FAULTS
from host_tests.chaos.run import Run
from toolchain import locate


def end_in_order(_number, _frame):
    """Leave no process behind; a second signal must not disturb that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="replays a run (default: a random one)")
    parser.add_argument("--recharges", type=int, default=1_000)
    parser.add_argument("--faults", type=int, default=1_000)
    parser.add_argument("--meters", type=int, default=3)
    parser.add_argument("--heap-kb", type=int, default=HEAP_KB, help="of the meters' firmware")
    parser.add_argument("--only", action="append", default=[], choices=list(FAULTS), metavar="NAME")
    parser.add_argument("--folder", type=Path, help="default var/chaos/SEED; erased if it is there")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a good run too")
    options = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    folder = options.folder or locate.project_root() / "var" / "chaos" / str(seed)
    shutil.rmtree(folder, ignore_errors=True)
    signal.signal(signal.SIGTERM, end_in_order)
    print(f"chaos: seed {seed}", flush=True)
    run = Run(
        seed,
        options.recharges,
        options.faults,
        folder,
        options.only,
        options.meters,
        options.heap_kb,
    )
    found = run.go()
    print(run.table())
    print(
        f"  {run.simulated_s / 86_400:.1f} simulated days in {run.took_s:.0f} s, "
        f"{getattr(run, 'records', 0)} records"
    )
    for violation in found[:20]:
        print(f"  VIOLATED {violation}")
    if found:
        print(f"  history near the first, step {run.step}:")
        for line in run.near(found[0]):
            print(f"    {line}")
        print(f"chaos: FAIL, seed {seed}, {len(found)} violations; kept: {folder}")
        return 1
    if not options.keep:
        shutil.rmtree(folder)
    print(f"chaos: PASS, seed {seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
