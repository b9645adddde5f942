"""New code opens the flash of every earlier format version (host_tests/images) as it was left."""

import json
import shutil

import pytest

from host_tests.fakes.bench import HOUR_S, Bench
from host_tests.images.make import HERE, RUPEE_MP, state

IMAGES = sorted(path.parent.name for path in HERE.glob("*/expected.json"))


@pytest.fixture
def opened(tmp_path):
    benches = []

    def open_image(name):
        """A bench that was started on a copy of the image, and what is expected of it."""
        shutil.copytree(HERE / name / "data", tmp_path / "data")
        before = json.loads((HERE / name / "before.json").read_text())
        expected = json.loads((HERE / name / "expected.json").read_text())
        bench = Bench.of_image(tmp_path / "data", **before)
        benches.append(bench)
        return bench, expected

    yield open_image
    for bench in benches:
        bench.meter.journal.close()


def assert_as_left(found, expected):
    for member, value in expected.items():
        if member == "account":
            # Later members of the account began with values that change no balance.
            for total in value:
                assert found["account"][total] == value[total], total
        elif member not in ("orders", "last_seq", "boot"):
            assert found[member] == value, member


@pytest.mark.parametrize("name", IMAGES)
def test_an_old_image_is_opened_as_it_was_left(opened, name):
    bench, expected = opened(name)
    found = state(bench)
    assert_as_left(found, expected)
    # A start writes two events more than when the others were made: power failed, and the mode.
    more = 0 if name == "v2-ordered" else 2
    assert (found["last_seq"], found["boot"]) == (expected["last_seq"] + more, expected["boot"])
    assert not bench.meter.journal.ledger_missing
    for order_id in expected["orders"]:
        assert bench.meter.journal.find_order(order_id)["id"] == order_id


@pytest.mark.parametrize("name", IMAGES)
def test_an_old_image_lives_on_and_no_old_file_is_written_to(opened, name, tmp_path):
    before = {path.name: path.read_bytes() for path in (HERE / name / "data").glob("*")}
    old = {file: raw for file, raw in before.items() if raw[3] < 2}
    bench, expected = opened(name)
    if expected["orders"][-1].startswith("r-"):
        again = bench.order(expected["orders"][-1], expected["highest"], amount_mp=RUPEE_MP)
        assert again["result"] == "accepted"
        assert bench.meter.live()["balance_mp"] == expected["balance_mp"]
    bench.run(HOUR_S, 600)
    assert bench.order("r-new", 100, amount_mp=200 * RUPEE_MP)["result"] == "accepted"
    bench.run(HOUR_S, 600)
    live = bench.meter.live()
    seqs = [record["seq"] for record in bench.records()]
    assert seqs == list(range(1, bench.meter.journal.last_seq + 1))
    chained = [record for record in bench.records() if "prev" in record]
    if old:
        assert chained[0]["prev"] == "0" * 32
    assert len(chained) == bench.meter.journal.ledger_count
    for file, raw in old.items():
        path = tmp_path / "data" / file
        # A checkpoint file gives its place to a whole new one; it is never appended to.
        assert path.read_bytes() == raw or path.read_bytes()[3] == 2
        assert not file.startswith("log-") or path.read_bytes() == raw
    bench.restart()
    assert not bench.meter.journal.ledger_missing
    assert bench.meter.live()["import_wh"] == live["import_wh"]
    assert [record["seq"] for record in bench.records()][: len(seqs)] == seqs


def test_both_causes_of_an_older_firmware_stand_and_end_apart(opened):
    bench, _expected = opened("v2-ordered")
    assert bench.meter.live()["causes"] == ["order", "credit"]
    bench.run(120)
    bench.order("d-2", 2, "relay", state="connected")
    assert bench.meter.live()["causes"] == ["credit"]
    bench.restart()
    bench.order("r-1", 3, amount_mp=500 * RUPEE_MP)
    bench.run(10)
    assert bench.meter.live()["causes"] == []
    assert bench.contact.closed
