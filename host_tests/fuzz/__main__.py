"""`make fuzz`: every parser against mutated inputs for FUZZ_S seconds in all; the counts."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from host_tests.fuzz import gateway, run

ALL = 1 << 30


def main(
    names: Annotated[list[str] | None, typer.Argument(metavar="[PARSER]...")] = None,
    seconds: Annotated[int, typer.Option(help="For all parsers together.")] = 60,
    seed: Annotated[int | None, typer.Option(help="Of an earlier run, to repeat it.")] = None,
) -> None:
    """Fuzz the firmware's parsers on MicroPython (a chip's free heap) and the gateway's."""
    seed = secrets.randbelow(1 << 28) if seed is None else seed
    each_s = max(1, seconds // (len(names) if names else run.PARSERS + len(gateway.PARSERS)))
    print(f"seed {seed}")
    lines = []
    wanted = [name for name in names or () if name not in gateway.PARSERS]
    if wanted or not names:
        lines += run.on_micropython(seed, ALL, each_s, *wanted)
    for name in gateway.PARSERS:
        if not names or name in names:
            lines.append(gateway.fuzz(name, seed, ALL, each_s))
    table = Table(title="inputs of each parser", title_justify="left")
    for column in ("parser", "inputs", "refused", "longest", "heap grown"):
        table.add_column(column, justify="left" if column == "parser" else "right")
    failures = 0
    for line in lines:
        why = run.failure(line)
        failures += why is not None
        if "inputs" in line:
            table.add_row(
                line["parser"],
                f"{line['inputs']:,}",
                f"{line['refused']:,}",
                f"{line['longest_ms']} ms",
                f"{line['grown_bytes']} B" if "grown_bytes" in line else "-",
            )
        if why:
            print(f"FAILED {line['parser']}: {why}")
    Console().print(table)
    total = sum(line.get("inputs", 0) for line in lines)
    print(f"fuzz: {'FAIL' if failures else 'PASS'}, {total:,} inputs, seed {seed}")
    raise typer.Exit(bool(failures))


if __name__ == "__main__":
    typer.run(main)
