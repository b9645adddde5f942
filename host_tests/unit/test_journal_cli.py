"""`bijli journal`: the replay is the live meter bit for bit; damage of the ledger is found."""

import json
import struct
import zlib

import pytest
from littlefs import LittleFS
from typer.testing import CliRunner

from boards.emulated.journal_cli import app
from firmware.storage import errors, files
from host_tests.fakes.bench import Bench
from host_tests.images.make import BEGIN_UTC_S, HERE, busy

run = CliRunner()


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(errors, "_fsync", None)
    bench = Bench(tmp_path / "data", BEGIN_UTC_S)
    busy(bench)
    bench.meter.stop()
    yield bench
    bench.meter.journal.close()


def flash_image(folder, path):
    fs = LittleFS(block_size=4096, block_count=64)
    fs.mkdir("/data")
    for file in folder.iterdir():
        with fs.open(f"/data/{file.name}", "wb") as copy:
            copy.write(file.read_bytes())
    fs.unmount()
    path.write_bytes(fs.context.buffer)
    return path


def test_a_replay_of_a_folder_and_of_a_flash_is_the_live_meter(bench, tmp_path):
    live = bench.meter.live()
    for source in (bench.folder, flash_image(bench.folder, tmp_path / "flash.bin")):
        assert run.invoke(app, ["verify", str(source)]).exit_code == 0
        done = run.invoke(app, ["replay", str(source), "--json"])
        assert done.exit_code == 0, done.output
        report = json.loads(done.output)
        assert report["whole"] and not report["differences"]
        for name, value in report["state"].items():
            assert value == live[name], name
        assert report["state"]["import_wh"] == bench.meter.energy.import_wh
        assert report["account"] == bench.meter.account.state()
        assert report["records"] == bench.records()
    shown = run.invoke(app, ["replay", str(bench.folder)]).output
    assert "credit recharge 300.00 id=r-2" in shown
    assert f"register {live['import_wh'] // 1000}." in shown


def test_any_flipped_byte_of_a_ledger_record_is_found_where_it_is(bench):
    bench.meter.journal.close()
    path = bench.folder / "log-00000001"
    clean = path.read_bytes()
    at = clean.index(b"r-2") - 30
    for offset in range(at, at + 60, 7):
        raw = bytearray(clean)
        raw[offset] ^= 0x20
        path.write_bytes(raw)
        done = run.invoke(app, ["verify", str(bench.folder), "--json"])
        report = json.loads(done.output)
        assert done.exit_code == 1
        (damage,) = report["files"][-1]["damage"]
        assert damage["offset"] <= offset < damage["offset"] + damage["bytes"]
        assert len(report["chain_breaks"]) == 1
        assert run.invoke(app, ["replay", str(bench.folder)]).exit_code == 1


@pytest.mark.parametrize("name", ["v1-few", "v1-cut", "v1-busy"])
def test_images_of_the_first_format_are_read(name):
    expected = json.loads((HERE / name / "expected.json").read_text())
    assert run.invoke(app, ["verify", str(HERE / name)]).exit_code == 0
    report = json.loads(run.invoke(app, ["replay", str(HERE / name), "--json"]).output)
    for member in ("import_wh", "balance_mp", "contact"):
        assert report["state"][member] == expected[member]


def test_what_is_no_journal_is_told(tmp_path):
    (tmp_path / "x").write_bytes(b"nothing")
    for source in (tmp_path, tmp_path / "x"):
        assert run.invoke(app, ["verify", str(source)]).exit_code == 2


def test_a_file_of_a_newer_format_is_told(bench):
    bench.meter.journal.close()
    path = bench.folder / "log-00000001"
    raw = bytearray(path.read_bytes())
    raw[3] = files.VERSION + 1
    raw[12:16] = struct.pack("<I", zlib.crc32(raw[:12]))
    path.write_bytes(raw)
    for command in ("verify", "replay"):
        done = run.invoke(app, [command, str(bench.folder)])
        assert done.exit_code == 1
        assert "is of the newer format" in done.output
