"""`bijli journal`: checks and replays a journal copied from a meter, with the firmware's own code.

SOURCE is a folder (`mpremote cp -r :/data/ DIR`) or an image of the whole flash (littlefs, read by
littlefs-python: the same C code as on the meter). Nothing is written to it: the work is on a copy.
Tests: host_tests/unit/test_journal_cli.py.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from boards.emulated.cli import lab_config
from firmware.console import lines, text
from firmware.core.civil import text as date
from firmware.core.config import Config
from firmware.core.wallclock import WallClock
from firmware.meter import CHECKPOINT_FORMAT, Meter
from firmware.start import recover
from firmware.storage import files
from firmware.storage.errors import StorageError
from firmware.storage.journal import Journal
from firmware.storage.packing import RESYNC_CODE

app = typer.Typer(help="Check and replay a journal copied from a meter.", no_args_is_help=True)

FAMILIES = {"log-": files.LOG_FAMILY, "ckpt": files.CHECKPOINT_FAMILY}
BLOCK_BYTES = 4096

Source = Annotated[Path, typer.Argument(help="Folder of the journal's files, or a flash image.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@contextlib.contextmanager
def journal_folder(source: Path) -> Iterator[Path]:
    """A copy of the journal's files. Raises typer.BadParameter for what is neither of the two."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "data"
        if source.is_dir():
            inner = source / "data"
            shutil.copytree(inner if inner.is_dir() else source, copy)
        else:
            from littlefs import LittleFS, LittleFSError

            try:
                raw = bytearray(source.read_bytes())
                fs = LittleFS(
                    block_size=BLOCK_BYTES, block_count=len(raw) // BLOCK_BYTES, mount=False
                )
                fs.context.buffer = raw
                fs.mount()
                copy.mkdir()
                for name in fs.listdir("/data"):
                    with fs.open(f"/data/{name}", "rb") as file:
                        (copy / name).write_bytes(file.read())
            except (OSError, LittleFSError) as error:
                raise typer.BadParameter(
                    f"{source} is no folder and no littlefs: {error}"
                ) from None
        if not any(path.name[:4] in FAMILIES for path in copy.iterdir()):
            raise typer.BadParameter(f"{source} holds no log-* and no ckpt-* file")
        yield copy


def check_files(folder: Path) -> dict[str, Any]:
    """What is sound and what is not, file by file, and the chain of the ledger.

    Raises StorageError for a file of a newer format.
    """
    reports: list[dict[str, Any]] = []
    breaks: list[str] = []
    count = 0
    link: bytes | None = None
    for path in sorted(folder.iterdir()):
        family = FAMILIES.get(path.name[:4])
        if family is None:
            continue
        size = path.stat().st_size
        store, _number, version = files.read_file_head(str(path), family)
        damage: list[dict[str, int]] = []
        if store is None:
            damage.append({"offset": 0, "bytes": min(files.FILE_HEAD_BYTES, size)})
        report: dict[str, Any] = {"file": path.name, "bytes": size, "records": 0, "damage": damage}
        report["version"] = version if store else None
        behind = files.FILE_HEAD_BYTES
        for end, head, body in files.scan(str(path), behind):
            at = end - files.RECORD_MIN_BYTES - len(body)
            if at > behind:
                damage.append({"offset": behind, "bytes": at - behind})
            behind = end
            report["records"] += 1
            report["last_seq"] = head[5]
            if family == files.LOG_FAMILY and head[3] & files.CHAINED:
                count += 1
                told = body[: files.LINK_BYTES]
                # The first one that is kept may follow records that were dropped.
                before = link or (files.NO_LINK if head[5] == 1 else told)
                if told != before:
                    breaks.append(f"{path.name} offset {at}, record {head[5]}")
                if head[2] == RESYNC_CODE:
                    breaks.clear()
                link = files.digest_of(struct.pack(files.HEAD, *head), body)
        if size > behind:
            damage.append({"offset": behind, "bytes": size - behind})
        reports.append(report)
    sound = not breaks and not any(report["damage"] for report in reports)
    return {"sound": sound, "files": reports, "ledger_records": count, "chain_breaks": breaks}


class _Relay:
    """A contact that nobody moves."""

    busy = False

    def contact(self) -> None:
        return None


class _Erased:
    """An NVS without values: the journal alone is judged."""

    def get_i32(self, key: str) -> int:
        raise OSError(key)

    get_blob = get_i32


def _meter(journal: Journal) -> Meter:
    """A meter that only takes in records: tariff and key of its configuration never count."""
    config = Config(lab_config())
    return Meter(
        config, journal, WallClock(lambda: 0), _Relay(), _Erased(), 100000, print, lambda: None
    )


def replay_folder(folder: Path) -> dict[str, Any]:
    """Register, balance and relay as the firmware recovers them, with each record's own claims.

    Raises StorageError.
    """
    journal = Journal(str(folder), CHECKPOINT_FORMAT)
    with contextlib.closing(journal):
        return _replayed(journal)


def _replayed(journal: Journal) -> dict[str, Any]:
    meter = _meter(journal)
    recover(meter)
    records = journal.records_after(0, 10**9)
    whole = bool(records) and records[0]["seq"] == 1
    from_log = _meter(journal)
    differences = []
    for record in records if whole else ():
        from_log.apply(record)
        if "import_wh" in record:
            balance_mp = from_log.account.balance_mp(record["import_wh"])
            if balance_mp != record["balance_mp"]:
                differences.append(
                    {"seq": record["seq"], "said_mp": record["balance_mp"], "is_mp": balance_mp}
                )
    if whole and not journal.ledger_missing and from_log.account.state() != meter.account.state():
        differences.append({"seq": journal.last_seq, "account": "differs from the snapshot's"})
    live = meter.live()
    state = {
        name: live[name]
        for name in ("import_wh", "balance_mp", "state", "contact", "reason", "grace_s", "service")
    }
    state["import_wh"] = meter.energy.import_wh
    state["export_wh"] = meter.energy.export_wh
    return {
        "store": journal.store_id,
        "boot": journal.boot,
        "last_seq": journal.last_seq,
        "ledger_count": journal.ledger_count,
        "ledger_missing": journal.ledger_missing,
        "damaged_bytes": journal.damaged_bytes,
        "whole": whole,
        "differences": differences,
        "state": state,
        "account": meter.account.state(),
        "records": records,
    }


def _of_copy(source: Path, look: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    with journal_folder(source) as folder:
        try:
            return look(folder)
        except StorageError as error:
            typer.echo(f"bijli: {error}", err=True)
            raise typer.Exit(1) from None


@app.command()
def verify(source: Source, as_json: AsJson = False) -> None:
    """Say what is sound; exit code 1 on damage or a broken chain."""
    report = _of_copy(source, check_files)
    if as_json:
        typer.echo(json.dumps(report))
    else:
        for file in report["files"]:
            damage = ", ".join(f"{d['bytes']} bytes at {d['offset']}" for d in file["damage"])
            typer.echo(
                f"{file['file']}: version {file['version']}, {file['records']} records, "
                f"{file['bytes']} bytes, {'DAMAGED: ' + damage if damage else 'sound'}"
            )
        for place in report["chain_breaks"]:
            typer.echo(f"CHAIN BROKEN before {place}")
        if not report["chain_breaks"]:
            typer.echo(f"chain of {report['ledger_records']} ledger records intact")
    raise typer.Exit(0 if report["sound"] else 1)


@app.command()
def replay(
    source: Source,
    as_json: AsJson = False,
    utc_offset_s: Annotated[int, typer.Option(help="Local time less UTC.")] = 19800,
) -> None:
    """Show the records and recompute register, balance and relay; exit code 1 if they differ."""
    report = _of_copy(source, replay_folder)
    if as_json:
        typer.echo(json.dumps(report))
    else:
        for record in report["records"]:
            stamp = date(record["utc_s"], utc_offset_s) if record["utc_s"] else "no time"
            line = lines.record_line(record, utc_offset_s)
            typer.echo(f"{record['boot']}/{record['seq']} {stamp} {line}")
        state = report["state"]
        typer.echo(
            f"store {report['store']}: register {text.fixed(state['import_wh'], 1000, 3)} kWh, "
            f"balance {text.rupees(state['balance_mp'], 5)} rupees, contact "
            f"{'closed' if state['contact'] else 'open'} ({state['state']})"
        )
        if not report["whole"]:
            typer.echo("the oldest records are gone: balances are those of the snapshot")
        for difference in report["differences"]:
            typer.echo(f"DIFFERENT: {difference}")
        if report["ledger_missing"]:
            typer.echo("LEDGER RECORDS ARE MISSING")
    raise typer.Exit(1 if report["differences"] or report["ledger_missing"] else 0)
