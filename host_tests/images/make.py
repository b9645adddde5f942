"""Makes images of this folder with the firmware beside it: python -m host_tests.images.make NAME.

Run at a commit, it writes what that commit's firmware leaves on the flash; README.md says which
image came from which. What is expected of new code is what the same firmware makes of a copy.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

from host_tests.fakes.bench import HOUR_S, Bench
from host_tests.fakes.documents import tariff_document

HERE = Path(__file__).parent
RUPEE_MP = 100000


def few(bench):
    """A meter that was just started: no block, one recharge."""
    bench.run(600, 960)
    bench.order("r-1", 1, amount_mp=50 * RUPEE_MP)
    bench.run(95, 960)


def cut(bench):
    """Credit ran out, the contact was opened, and some days passed."""
    bench.run(10 * HOUR_S, 2400, step_s=2)
    bench.run(40 * HOUR_S, 600, step_s=2)
    bench.run(HOUR_S, 0, step_s=2)


def busy(bench):
    """Five days over the end of a month: recharges, refusals, a new tariff, a cut, restarts."""
    bench.run(9 * HOUR_S, 2400, step_s=2)
    bench.order("r-1", 3, amount_mp=25 * RUPEE_MP)
    bench.order("r-bad", 4, amount_mp=0)
    bench.restart(off_s=1200)
    bench.run(40 * HOUR_S, 900, step_s=2)
    bench.order("r-2", 6, amount_mp=300 * RUPEE_MP)
    bench.meter.journal.acknowledge(bench.meter.journal.last_seq - 3)
    bench.run(5 * HOUR_S, 900, step_s=2)
    document = {**tariff_document((10, 500000), (None, 700000)), "id": "slabs", "version": 2}
    bench.order("t-1", 7, "tariff", document=document)
    bench.restart(off_s=60, time_known=False)
    bench.run(2 * HOUR_S, 900, step_s=2)
    bench.meter.set_time(bench.utc_s * 1000)
    bench.run(60 * HOUR_S, 1500, step_s=2)
    bench.order("r-3", 9, amount_mp=75 * RUPEE_MP)
    bench.run(1000, 1500, step_s=2)


def ordered(bench):
    """Credit ran out, the contact was opened, and the utility disconnected as well."""
    cut(bench)
    bench.order("d-1", 1, "relay", state="disconnected", expires_utc_s=bench.utc_s + HOUR_S)
    bench.run(HOUR_S, 0, step_s=2)


STORIES = {"few": few, "cut": cut, "busy": busy, "ordered": ordered}
BEGIN_UTC_S = 1769538600  # 2026-01-28 00:00 in India: the busy one closes January


def state(bench):
    """What a person would ask for, after a start."""
    live, journal = bench.meter.live(), bench.meter.journal
    return {
        "store": live["store"],
        "import_wh": live["import_wh"],
        "balance_mp": live["balance_mp"],
        "contact": live["contact"],
        "contact_closed": bench.contact.closed,
        "state": live["state"],
        "grace_s": live["grace_s"],
        "tariff": live["tariff"],
        "tariff_version": live["tariff_version"],
        "boot": journal.boot,
        "last_seq": journal.last_seq,
        "acked_seq": journal.acked_seq,
        "lost_records": journal.lost_records,
        "highest": bench.meter.orders.highest,
        "account": bench.meter.account.state(),
    }


def make(name):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        bench = Bench(data, BEGIN_UTC_S)
        STORIES[name.split("-")[1]](bench)
        bench.meter.journal.close()  # the power is cut: nothing is written any more
        shutil.copytree(data, folder / "data")
        before = {
            "utc_s": bench.utc_s,
            "contact_closed": bench.contact.closed,
            "nvs": bench.nvs.kept,
        }
        (folder / "before.json").write_text(json.dumps(before, indent=1) + "\n")
        known = [r["id"] for r in bench.records() if "id" in r]
        bench.boot(bench.utc_s)
        expected = {**state(bench), "orders": known}
        bench.meter.journal.close()
        (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        make(name)
