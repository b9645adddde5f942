"""`bijli board`: run an emulated board, act on a running one, flash any board."""

from __future__ import annotations

import json
import logging
import re
import secrets
import signal
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from boards.emulated import flashing
from boards.emulated.board import HEAP_KB, HEAP_KB_RANGE, BoardError, EmulatedBoard
from boards.emulated.conductor import Conductor
from firmware.core.config import ConfigError, read_document
from toolchain import locate

app = typer.Typer(help="Emulated boards, and flashing of real ones.", no_args_is_help=True)

DEFAULT_FOLDER = Path("var/board")
RATE_MAX = 100_000
RATIO_MAX = 100_000
SEED_MAX = 2**30 - 1

FolderOption = Annotated[
    Path, typer.Option("--flash", help="Folder of the board's flash and hardware state.")
]


def parse_rate(text: str) -> float | None:
    """`real` -> 1, `60x` -> 60, `max` -> None. Raises ValueError."""
    if text == "real":
        return 1
    if text == "max":
        return None
    match = re.fullmatch(r"([0-9]+(\.[0-9]+)?)x", text)
    if match and 0 < float(match[1]) <= RATE_MAX:
        return float(match[1])
    raise ValueError(f"real, max, or a number of times real time as 60x (up to {RATE_MAX}x)")


def parse_start_ms(text: str) -> int:
    """A UTC time as 2026-01-05T08:00 to ms since the Unix epoch. Raises ValueError."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("a time as 2026-01-05T08:00 (UTC unless it says otherwise)") from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    if not 2020 <= when.year <= 2099:
        raise ValueError("a time between the years 2020 and 2099")
    return int(when.timestamp() * 1000)


def parse_ratio_x1000(text: str) -> int:
    """A ratio as 12.5 to thousandths. Raises ValueError."""
    try:
        x1000 = round(float(text) * 1000)
    except (OverflowError, ValueError):
        x1000 = 0
    if not 1 <= x1000 <= RATIO_MAX * 1000:
        raise ValueError(f"a number from 0.001 to {RATIO_MAX}")
    return x1000


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT. Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError("HOST:PORT with a port from 1 to 65535")
    return host, int(port)


def lab_config() -> dict[str, Any]:
    """Settings of a meter for a lab: a key that nobody else has, no gateway, 100 rupees."""
    return {
        "v": 1,
        "meter": "LAB-0001",
        "key": secrets.token_hex(32),
        "wifi": {"ssid": "lab", "password": ""},
        "broker": {
            "host": "127.0.0.1",
            "port": 1883,
            "user": "LAB-0001",
            "password": secrets.token_hex(16),
        },
        "opening_balance_mp": 10_000_000,
        "tariff": {
            "id": "lab-flat",
            "version": 1,
            "currency": "INR",
            "effective_from_utc_s": 0,
            "lines": [
                {
                    "name": "energy",
                    "shape": "telescopic",
                    "slabs": [{"up_to_kwh": None, "rate_mp_per_kwh": 685_000}],
                }
            ],
        },
    }


def _parsed(option: str, fn: Any, text: str) -> Any:
    try:
        return fn(text)
    except ValueError as er:
        raise typer.BadParameter(f"{text!r} is not {er}", param_hint=option) from None


@app.command()
def run(
    flash: FolderOption = DEFAULT_FOLDER,
    load: Annotated[
        str | None,
        typer.Option(help="appliances:NUMBER[,RESIDENTS], constant:230V,2.5A or csv:FILE"),
    ] = None,
    voltage_ratio: Annotated[
        str | None, typer.Option(help="Primary volts per volt at the bench.")
    ] = None,
    current_ratio: Annotated[
        str | None, typer.Option(help="Primary amperes per ampere at the bench.")
    ] = None,
    clock: Annotated[str, typer.Option(help="real, 60x (any number) or max")] = "real",
    start: Annotated[
        str | None, typer.Option(help="Simulated UTC at the start, 2026-01-05T08:00; default now")
    ] = None,
    seed: Annotated[int, typer.Option(help=f"Of everything random, 0 to {SEED_MAX}")] = 0,
    port_file: Annotated[
        Path | None, typer.Option(help="Write the serial port's name here, remove it at the end.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="config.json of the meter, for a flash that has none; default a lab's."),
    ] = None,
    heap_kb: Annotated[int, typer.Option(help="Free heap of the firmware, 32 to 8192")] = HEAP_KB,
    bits: Annotated[
        int | None, typer.Option(help="Interpreter: 32 (as the chip) or 64; default 32 if there.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name for the conductor.")] = "board",
    conductor: Annotated[
        str | None, typer.Option(help="HOST:PORT of a running conductor to join.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE of the chips and the world; repeatable.")
    ] = None,
) -> None:
    """Run one emulated board until Ctrl-C; its console goes to standard output."""
    logging.basicConfig(format="[board] %(message)s")
    if bits not in (None, 32, 64):
        raise typer.BadParameter(f"{bits} is not 32 or 64", param_hint="--bits")
    for option, value, (low, high) in (
        ("--seed", seed, (0, SEED_MAX)),
        ("--heap-kb", heap_kb, HEAP_KB_RANGE),
    ):
        if not low <= value <= high:
            raise typer.BadParameter(f"{value} is not in {low} to {high}", param_hint=option)
    rate = _parsed("--clock", parse_rate, clock)
    start_ms = None if start is None else _parsed("--start", parse_start_ms, start)
    # A board that is handed to a meter has had its clock set.
    settings: dict[str, Any] = {
        "seed": seed,
        "rtc_set": True,
        **_assignments(setting or [], "--setting"),
    }
    if load is not None:
        kind, _, file = load.partition(":")
        settings["load"] = f"csv:{Path(file).absolute()}" if kind == "csv" else load
    if voltage_ratio is not None:
        settings["voltage_ratio_x1000"] = _parsed(
            "--voltage-ratio", parse_ratio_x1000, voltage_ratio
        )
    if current_ratio is not None:
        settings["current_ratio_x1000"] = _parsed(
            "--current-ratio", parse_ratio_x1000, current_ratio
        )
    meter_config = lab_config()
    if config is not None:
        try:
            meter_config = read_document(str(config))
        except ConfigError as er:
            raise typer.BadParameter(str(er), param_hint="--config") from None

    ended = threading.Event()
    failures: list[str] = []

    def failed(text: str) -> None:
        failures.append(text)
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    own_conductor = None
    try:
        if conductor is not None:
            address = _parsed("--conductor", parse_address, conductor)
        else:
            own_conductor = Conductor(rate, start_ms).start()
            address = own_conductor.address
        files = flashing.files_of(flashing.build())
        flashing.flash_image(flash, files, meter_config, say=_say)
        board = EmulatedBoard(flash, name, address, settings=settings, heap_kb=heap_kb, bits=bits)
        board.console(print_line)
        board.on("failed", lambda fields: failed(fields["text"]))
        with board:
            if port_file is not None:
                port_file.write_text(board.port + "\n")
            _say(f"{name}: serial port {board.port}, clock {clock}")
            ended.wait()
        if failures:
            raise BoardError(failures[0])
    except (BoardError, flashing.FlashError, locate.ToolMissing, OSError, ValueError) as er:
        typer.echo(f"[board] {er}", err=True)
        raise typer.Exit(1) from None
    finally:
        if port_file is not None:
            port_file.unlink(missing_ok=True)
        if own_conductor is not None:
            own_conductor.stop()


@app.command("set")
def set_knobs(
    knobs: Annotated[list[str], typer.Argument(help="KNOB=VALUE ..., as wifi=off load=...")],
    flash: FolderOption = DEFAULT_FOLDER,
) -> None:
    """Change the world of a running board: wifi=off cover=open load=constant:230V,2A ..."""
    _show(command(flash, "set", **_assignments(knobs, "KNOB=VALUE")))


@app.command()
def look(flash: FolderOption = DEFAULT_FOLDER) -> None:
    """Show what an observer at the bench sees: contact, true voltage and current, energy, LEDs."""
    _show(command(flash, "look"))


@app.command()
def cut(flash: FolderOption = DEFAULT_FOLDER) -> None:
    """Cut the power of a running board."""
    command(flash, "cut")


@app.command()
def restore(flash: FolderOption = DEFAULT_FOLDER) -> None:
    """Restore the power of a running board."""
    command(flash, "restore")


@app.command("flash")
def flash_board(
    port: Annotated[
        str | None,
        typer.Option(help="Serial port, as /dev/ttyUSB0; default: the emulated board that runs."),
    ] = None,
    board: Annotated[
        str | None,
        typer.Option(help="Folder of boards/; default: esp32_devkit, or emulated without --port."),
    ] = None,
) -> None:
    """Compile the firmware and put it on a board at a serial port, real or emulated."""
    if port is None:
        try:
            port = (DEFAULT_FOLDER / "port").read_text().strip()
        except OSError:
            raise typer.BadParameter(
                f"needed: no emulated board runs in {DEFAULT_FOLDER}", param_hint="--port"
            ) from None
        board = board or "emulated"
    board = board or "esp32_devkit"
    try:
        files = flashing.files_of(flashing.build(board=board))
        if not flashing.flash_device(port, files, say=_say):
            _say(f"{port}: up to date")
    except flashing.FlashError as er:
        typer.echo(str(er), err=True)
        raise typer.Exit(1) from None


def command(folder: Path, name: str, **fields: Any) -> dict[str, Any]:
    """Send one command to the board that runs in `folder`; exits with a message if it cannot."""
    try:
        address = parse_address((folder / "control").read_text().strip())
        with socket.create_connection(address, timeout=15) as sock:
            sock.sendall(json.dumps({**fields, "do": name}).encode() + b"\n")
            answer = json.loads(sock.makefile("rb").readline())
    except (OSError, ValueError) as er:
        typer.echo(f"no board runs in {folder} ({er})", err=True)
        raise typer.Exit(1) from None
    if "error" in answer:
        typer.echo(answer["error"], err=True)
        raise typer.Exit(1)
    return answer


def _assignments(texts: list[str], hint: str) -> dict[str, Any]:
    """KEY=VALUE ...: on, off and numbers are taken as such, else JSON, else text."""
    words = {"on": True, "off": False}
    result = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint=hint)
        if value in words:
            result[key] = words[value]
            continue
        try:
            result[key] = json.loads(value)
        except ValueError:
            result[key] = value
    return result


def print_line(line: str) -> None:
    """One line of the board's console, at once even into a pipe."""
    print(line, flush=True)


def _say(line: str) -> None:
    print(f"[board] {line}", flush=True)


def _show(answer: dict[str, Any]) -> None:
    for key, value in answer.items():
        print(f"{key}: {value}")


if __name__ == "__main__":
    app()
