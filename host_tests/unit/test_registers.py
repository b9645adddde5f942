"""Import and export over a meter's life: persisted, published, restored, also from older flash."""

import struct

import pytest

from firmware.meter import CHECKPOINT_FORMAT
from firmware.storage.journal import Journal
from host_tests.fakes.bench import HOUR_S, Bench


@pytest.fixture
def make_bench(tmp_path):
    benches = []

    def make(**config):
        benches.append(Bench(tmp_path / "data", **config))
        return benches[-1]

    yield make
    for bench in benches:
        bench.meter.journal.close()


def registers(bench):
    """(import, uncommitted, export, uncommitted) as published."""
    live = bench.meter.live()
    names = ("import_wh", "uncommitted_wh", "export_wh", "uncommitted_export_wh")
    return tuple(live[name] for name in names)


def test_forwarded_only_counts_both_directions_as_import(make_bench):
    bench = make_bench()
    bench.run(HOUR_S, 960)
    bench.run(HOUR_S, -960)
    assert bench.meter.energy.reversed == 1
    assert 1917 <= sum(registers(bench)[:2]) <= 1920
    assert registers(bench)[2:] == (0, 0)
    assert "export" not in bench.meter.status_line(True, 0)


def test_import_and_export_are_kept_apart_and_over_power_cuts(make_bench):
    bench = make_bench(export_counts=1)
    bench.run(HOUR_S, 960)
    balance_mp = bench.meter.balance_mp()
    imported = bench.meter.energy.import_wh
    bench.run(HOUR_S, -480)
    assert bench.meter.balance_mp() == balance_mp  # charges go by import alone
    assert bench.meter.energy.import_wh == imported
    before = registers(bench)
    assert 478 <= before[2] + before[3] <= 480
    assert before[3] <= 10
    assert " export=0.47" in bench.meter.status_line(True, 0)
    bench.restart(off_s=60)
    after = registers(bench)
    assert after[0] >= before[0] and after[2] >= before[2]
    assert after[1] == after[3] == 0
    bench.run(HOUR_S, -480)
    assert registers(bench)[2] >= before[2] + 470


def test_a_wanted_restart_loses_nothing_of_either_register(make_bench):
    bench = make_bench(export_counts=1)
    bench.run(1000, 960)
    bench.run(1000, -480)
    counts = bench.meter.energy.imported, bench.meter.energy.exported
    before = [(count.wh, count.half_mj) for count in counts]
    assert before[0][1] and before[1][1]
    bench.meter.stop()
    bench.restart(cause="soft")
    counts = bench.meter.energy.imported, bench.meter.energy.exported
    assert [(count.wh, count.half_mj) for count in counts] == before


def test_a_lost_journal_does_not_take_the_export_register_back(make_bench):
    bench = make_bench(export_counts=1)
    bench.run(2 * HOUR_S, -960)
    published = registers(bench)[2]
    # The floor is written with each record: the last block's.
    assert published - 10 * 100 < bench.nvs.kept["export_wh"] <= published
    bench.meter.journal.close()
    for path in bench.folder.iterdir():
        path.unlink()
    bench.boot(bench.utc_s)
    assert registers(bench)[2] == bench.nvs.kept["export_wh"]


def test_a_checkpoint_of_the_older_format_is_read(tmp_path):
    """Its members are the first of today's; the others are 0."""
    old = Journal(str(tmp_path / "data"), "<QIiI")
    old.open()
    old.begin_boot()
    old.snapshot({"n": 1})
    old.checkpoint((1234, 5678, -9, 1_767_600_000))
    old.close()
    later = (0,) * (
        len(struct.unpack(CHECKPOINT_FORMAT, bytes(struct.calcsize(CHECKPOINT_FORMAT)))) - 4
    )
    new = Journal(str(tmp_path / "data"), CHECKPOINT_FORMAT)
    snapshot, checkpoint, _records = new.open()
    assert snapshot == {"n": 1}
    assert checkpoint == (1234, 5678, -9, 1_767_600_000, *later)
    new.begin_boot()
    values = (1235, 1, 2, 3, *range(4, 4 + len(later)))
    new.checkpoint(values)
    new.close()
    raw = (tmp_path / "data" / "ckpt-a").read_bytes()
    assert raw.endswith(struct.pack(CHECKPOINT_FORMAT, *values) + raw[-4:])
    again = Journal(str(tmp_path / "data"), CHECKPOINT_FORMAT)
    assert again.open()[1] == values
    again.close()


@pytest.mark.parametrize(("ppm", "registers_ma"), [(0, 2), (2000, 26), (3500, 45)])
def test_the_creep_threshold_is_a_setting_and_may_be_ordered(make_bench, ppm, registers_ma):
    bench = make_bench()
    answer = bench.order("s-1", 1, "settings", document={"creep_ppm": ppm})
    assert answer["result"] == "accepted"
    for restarted in (False, True):
        if restarted:
            bench.restart()
        assert bench.meter.energy.creep_ua == 12500 * ppm // 1000
        bench.meter.sample(6000, registers_ma * 1000 // 1250, 0)
        assert bench.meter.energy.power_mw > 0
        if ppm:
            bench.meter.sample(6000, (registers_ma - 3) * 1000 // 1250, 0)
            assert bench.meter.energy.power_mw == 0
    answer = bench.order("s-2", 2, "settings", document={"creep_ppm": 3501})
    assert (answer["result"], answer["field"]) == ("range", "creep_ppm")
    assert bench.config.creep_ppm == ppm
