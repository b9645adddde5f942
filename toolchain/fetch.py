#!/usr/bin/env python3
"""Fetch MicroPython and mosquitto as Debian packages into the project's folder.

    python3 toolchain/fetch.py [--into .tools] micropython micropython32 mosquitto

Invariants:
- Nothing outside the chosen folder changes and no root is needed: apt runs with a configuration,
  package lists and cache of its own, packages are unpacked (`dpkg -x`) and not installed.
- Package signatures are verified by apt with the machine's own archive keys.
- The mirror is the one that the machine's own sources use; no host is named in this file.
- A tool appears in `bin/` only after it was run with success, so a fetch that was cut off leaves
  nothing that looks complete. What is there already and runs is left alone.

The programs bring their own libraries and loader, so they run on an older system than they were
built for. Standard library only. Tests: `pytest host_tests/unit/test_toolchain.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

if not __package__:  # started as a file, before the project is installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from toolchain import locate

UPDATE_TIMEOUT_S = 300
DOWNLOAD_TIMEOUT_S = 300
QUICK_TIMEOUT_S = 60

MICROPYTHON_SUITE = "trixie"
"""Debian 13: the first release with a MicroPython package (1.25)."""

KEYRINGS = (
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/usr/share/keyrings/raspbian-archive-keyring.gpg",
)

COMPANION_32 = {"amd64": "i386", "arm64": "armhf", "i386": "i386", "armhf": "armhf"}
"""The 32-bit architecture whose programs a machine's processor runs, if it runs any."""

INTERRUPTED = 130
"""The exit code that shells give to a program ended by Ctrl-C."""

ARCHIVE_ORIGINS = ("Debian", "Raspbian")


class FetchError(Exception):
    """A tool could not be fetched; the text says what to do."""


class NotRunnable(FetchError):
    """The tool was unpacked, but this processor or kernel cannot run it."""


class Tool(NamedTuple):
    """What to unpack, and the programs to expose: name in `bin/` to path in the packages."""

    package: str
    programs: dict[str, str]


TOOLS = {
    "micropython": Tool("micropython", {"micropython": "usr/bin/micropython"}),
    "micropython32": Tool("micropython", {"micropython32": "usr/bin/micropython"}),
    "mosquitto": Tool(
        "mosquitto",
        {"mosquitto": "usr/sbin/mosquitto", "mosquitto_passwd": "usr/bin/mosquitto_passwd"},
    ),
}

# Paths relative to the wrapper, so that the folder can be moved; exec keeps the process id, so that
# a signal sent to the wrapper reaches the program.
WRAPPER = """\
#!/bin/sh
self=$0
[ -L "$self" ] && self=$(readlink -f "$self")
root=${{self%/*}}/../{folder}
exec "$root/{loader}" --library-path "{library_path}" "$root/{program}" "$@"
"""


def main(arguments: list[str] | None = None) -> int:
    """Fetch the tools named on the command line; the exit code is 0 if all can be used."""
    parser = argparse.ArgumentParser(
        description="Fetch tools as packages, without installing them."
    )
    parser.add_argument(
        "tools", nargs="+", choices=sorted(TOOLS), metavar="tool", help=", ".join(TOOLS)
    )
    parser.add_argument("--into", type=Path, default=None, help="folder (default: .tools)")
    options = parser.parse_args(arguments)
    if options.into is not None:
        os.environ["BIJLI_TOOLS"] = str(options.into.resolve())
    failures = 0
    for name in options.tools:
        try:
            print(f"{name}: {provide(name, locate.tools_dir())}", flush=True)
        except NotRunnable as error:
            # Only the 32-bit interpreter may be absent: tests that need it say that they skip.
            if name != "micropython32":
                failures += 1
            print(f"{name}: skipped, {error}", file=sys.stderr, flush=True)
        except FetchError as error:
            failures += 1
            print(f"{name}: {error}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print(f"{name}: interrupted", file=sys.stderr, flush=True)
            return INTERRUPTED
    return 1 if failures else 0


def provide(name: str, into: Path) -> str:
    """Make sure that tool `name` can be used; return where it is.

    Raises FetchError if it cannot be had here, NotRunnable if this machine cannot run it.
    """
    with contextlib.suppress(locate.ToolMissing):
        return present(name)
    into.mkdir(parents=True, exist_ok=True)
    with _lock(into / ".lock"):
        with contextlib.suppress(locate.ToolMissing):  # another process fetched it meanwhile
            return present(name)
        for left_over in into.glob(".fetch-*"):  # of a process that was killed
            shutil.rmtree(left_over, ignore_errors=True)
        _fetch(name, into)
    try:
        return present(name)
    except locate.ToolMissing as missing:
        raise FetchError(f"fetched, but {missing.how_to_get}") from missing


def present(name: str) -> str:
    """Where a usable `name` is already. Raises locate.ToolMissing."""
    if name.startswith("micropython"):
        path = locate.micropython(32 if name == "micropython32" else 64)[0]
        return f"{path} ({locate.probe(path).version_text})"
    command = locate.mosquitto()
    locate.mosquitto_passwd()
    _run_broker_once(command[0])
    return command[0]


def _run_broker_once(path: str) -> None:
    # -h prints the version and ends with code 3 (2.0) or 0 (later): what it says is the proof.
    try:
        done = _run([path, "-h"], QUICK_TIMEOUT_S, check=False)
    except FetchError as error:
        raise locate.ToolMissing("mosquitto", str(error)) from error
    if "mosquitto version" not in done.stdout:
        raise locate.ToolMissing("mosquitto", f"{path} does not run: {last_line(done.stderr)}")


def _fetch(name: str, into: Path) -> None:
    tool = TOOLS[name]
    require_apt(elsewhere(name))
    codename, major = debian_release(elsewhere(name))
    own = _own_architecture()
    architecture = own
    if name == "micropython32":
        if own not in COMPANION_32:
            raise NotRunnable(f"there is no 32-bit sister of {own}")
        architecture = COMPANION_32[own]
    suite = codename
    if tool.package == "micropython" and major is not None and major < 13:
        suite = MICROPYTHON_SUITE
    mirrors = _mirrors(codename)

    print(f"{name}: fetching from the {suite} package archive ({architecture})", flush=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=into) as scratch_name:
        scratch = Path(scratch_name)
        root = scratch / "root"
        apt = Apt(scratch, architecture, [f"{mirror} {suite} main" for mirror in mirrors])
        apt.update()
        apt.unpack(library_closure(apt.depends(tool.package), tool.package), root)
        keep_only_programs_and_libraries(root)
        for program, path in tool.programs.items():
            if not (root / path).exists():
                raise FetchError(f"package {tool.package} of {suite} holds no {path} for {program}")
        wrappers = {p: wrapper(name, root, path) for p, path in tool.programs.items()}
        _try_out(name, wrappers, scratch)
        # The folder is in its place before anything points to it; wrappers come last.
        home = into / name
        if home.exists():
            shutil.rmtree(home)
        root.rename(home)
    bin_dir = into / "bin"
    bin_dir.mkdir(exist_ok=True)
    for program, text in wrappers.items():
        write_executable(bin_dir / program, text)


def unpack_files(package: str, pattern: str, folder: Path) -> None:
    """Put the files of one package of this machine's release that match into `folder`.

    Raises FetchError.
    """
    advice = f"package {package} can be fetched on Debian 12 and newer only"
    require_apt(advice)
    codename, _major = debian_release(advice)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch_name:
        scratch = Path(scratch_name)
        sources = [f"{mirror} {codename} main" for mirror in _mirrors(codename)]
        apt = Apt(scratch, _own_architecture(), sources)
        apt.update()
        apt.unpack([package], scratch / "root")
        found = sorted((scratch / "root").glob(pattern))
        if not found:
            raise FetchError(f"package {package} of {codename} holds no {pattern}")
        for path in found:
            path.replace(folder / path.name)


def require_apt(advice: str) -> None:
    """Raises FetchError with the advice where apt and dpkg are not there."""
    if any(shutil.which(program) is None for program in ("apt-get", "apt-cache", "dpkg-deb")):
        raise FetchError(advice)


def _try_out(name: str, wrappers: dict[str, str], scratch: Path) -> None:
    """Run what was unpacked, from a wrapper in the scratch folder, before it is put into place."""
    (scratch / name).symlink_to("root", target_is_directory=True)
    trial = scratch / "bin"
    trial.mkdir()
    for program, text in wrappers.items():
        write_executable(trial / program, text)
    if name == "mosquitto":
        try:
            _run_broker_once(str(trial / "mosquitto"))
        except locate.ToolMissing as missing:
            raise FetchError(missing.how_to_get) from missing
        return
    path = str(trial / name)
    fault = locate.unusable(path, 32 if name == "micropython32" else 64)
    if fault:
        kind = NotRunnable if name == "micropython32" else FetchError
        raise kind(f"the fetched program does not do: {fault}")


class Apt:
    """apt with its own configuration, lists and cache in `folder`, for one architecture."""

    def __init__(self, folder: Path, architecture: str, sources: list[str]) -> None:
        self.folder = folder
        self.architecture = architecture
        for name in ("lists/partial", "cache/archives/partial", "deb", "empty"):
            (folder / name).mkdir(parents=True)
        keys = ",".join(path for path in KEYRINGS if Path(path).exists())
        signed = f"[signed-by={keys}] " if keys else ""
        (folder / "sources.list").write_text(
            "".join(f"deb {signed}{source}\n" for source in sources), encoding="utf-8"
        )
        self.configuration = folder / "apt.conf"
        self.configuration.write_text(apt_configuration(folder, architecture), encoding="utf-8")

    def update(self) -> None:
        """Fetch the package lists. Raises FetchError."""
        self._call(["apt-get", "-q", "update"], UPDATE_TIMEOUT_S)
        if not any((self.folder / "lists").glob("*Packages*")):
            raise FetchError("apt fetched no package list: is the network there?")

    def depends(self, package: str) -> str:
        """The dependency graph below `package`, as apt-cache prints it. Raises FetchError."""
        flags = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"]
        return self._call(
            ["apt-cache", "depends", "--recurse", *(f"--no-{flag}" for flag in flags), package],
            QUICK_TIMEOUT_S,
        ).stdout

    def unpack(self, packages: list[str], root: Path) -> None:
        """Download packages and unpack their files into `root`. Raises FetchError."""
        self._call(["apt-get", "-q", "download", *packages], DOWNLOAD_TIMEOUT_S)
        archives = sorted((self.folder / "deb").glob("*.deb"))
        if len(archives) < len(packages):
            raise FetchError(f"{len(packages)} packages wanted, {len(archives)} came")
        for archive in archives:
            _run(["dpkg-deb", "-x", str(archive), str(root)], QUICK_TIMEOUT_S)

    def _call(self, command: list[str], timeout_s: int) -> subprocess.CompletedProcess[str]:
        program, *rest = command
        # -c is read after the system's own configuration, so it has the last word.
        return _run(
            [program, "-c", str(self.configuration), *rest], timeout_s, cwd=self.folder / "deb"
        )


def apt_configuration(folder: Path, architecture: str) -> str:
    """An apt configuration that reads the machine's proxy settings but touches only `folder`."""
    values = {
        "APT::Architecture": architecture,
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::PDiffs": "false",
        "Acquire::Retries": "3",
        "Acquire::http::Timeout": "30",
        "Acquire::https::Timeout": "30",
        "Dir::State": f"{folder}",
        "Dir::State::Lists": f"{folder}/lists",
        "Dir::State::Status": "/dev/null",
        "Dir::Cache": f"{folder}/cache",
        # Containers switch this cache off; without it every call reads all lists again.
        "Dir::Cache::pkgcache": "pkgcache.bin",
        "Dir::Etc::SourceList": f"{folder}/sources.list",
        "Dir::Etc::SourceParts": f"{folder}/empty",
        "Dir::Etc::Preferences": f"{folder}/empty/preferences",
        "Dir::Etc::PreferencesParts": f"{folder}/empty",
    }
    lines = [
        # Hooks of the system's configuration (containers delete caches in one) are not ours to run.
        "#clear APT::Architectures;",
        "#clear APT::Update::Pre-Invoke;",
        "#clear APT::Update::Post-Invoke;",
        "#clear APT::Update::Post-Invoke-Success;",
        "#clear Acquire::IndexTargets::deb::Contents-deb;",
        f'APT::Architectures {{ "{architecture}"; }};',
        *(f'{key} "{value}";' for key, value in values.items()),
    ]
    return "\n".join(lines) + "\n"


def library_closure(depends: str, package: str) -> list[str]:
    """`package` and the libraries it needs, directly or not, from `apt-cache depends --recurse`.

    Only packages named lib* are followed: programs that a package's installation scripts need
    (adduser, debconf) are not needed to run it. Of alternatives the first is taken, as apt does.
    Raises FetchError if the package is not in the graph.
    """
    needs: dict[str, list[str]] = {}
    current: list[str] = []
    satisfied = more_alternatives = virtual = False
    for line in depends.splitlines():
        if not line.startswith((" ", "<")):
            current = needs.setdefault(line.strip(), [])
            more_alternatives = False
        elif match := re.match(r" ([| ])(?:Pre)?Depends: (\S+)", line):
            satisfied = satisfied and more_alternatives
            # A bar says that the next line is an alternative to this one.
            more_alternatives = match[1] == "|"
            virtual = match[2].startswith("<")
            if not satisfied and not virtual:
                current.append(match[2])
                satisfied = True
        elif virtual and not satisfied:
            # Those that provide a virtual package follow it, further indented.
            current.append(line.strip())
            satisfied = True
    if package not in needs:
        raise FetchError(f"the archive has no package {package}")
    closure, waiting = [], [package]
    while waiting:
        name = waiting.pop()
        if name in closure:
            continue
        closure.append(name)
        waiting += [need for need in needs.get(name, []) if need.startswith("lib")]
    return sorted(closure)


def mirrors_in_targets(targets: str, codename: str) -> list[str]:
    """Mirrors from lines "repo-uri|origin|codename|component" of `apt-get indextargets`."""
    found = []
    for line in targets.splitlines():
        uri, origin, release, component = ([*line.strip().split("|"), "", "", ""])[:4]
        if origin in ARCHIVE_ORIGINS and release == codename and component == "main":
            found.append(uri)
    return list(dict.fromkeys(found))


def mirrors_in_uris(uris: str, codename: str) -> list[str]:
    """Mirrors from `apt-get --print-uris update`, which works before any list was fetched."""
    pattern = rf"^'(\S+?)/dists/{re.escape(codename)}/(?:In)?Release'"
    return list(dict.fromkeys(match + "/" for match in re.findall(pattern, uris, re.MULTILINE)))


def _mirrors(codename: str) -> list[str]:
    form = "$(REPO_URI)|$(ORIGIN)|$(CODENAME)|$(COMPONENT)"
    targets = _run(["apt-get", "indextargets", "--format", form], QUICK_TIMEOUT_S, check=False)
    found = mirrors_in_targets(targets.stdout, codename)
    if not found:
        uris = _run(["apt-get", "--print-uris", "update"], QUICK_TIMEOUT_S, check=False)
        found = mirrors_in_uris(uris.stdout, codename)
    if not found:
        raise FetchError(f"no mirror of Debian {codename} among this machine's apt sources")
    return found


def _own_architecture() -> str:
    return _run(["dpkg", "--print-architecture"], QUICK_TIMEOUT_S).stdout.strip()


def debian_release(advice: str) -> tuple[str, int | None]:
    """The machine's Debian codename and major version (None on testing).

    Raises FetchError, with the advice where this is not Debian, Raspbian or Raspberry Pi OS.
    """
    try:
        release = platform.freedesktop_os_release()
    except OSError as error:
        raise FetchError(advice) from error
    codename = release.get("VERSION_CODENAME", "")
    if release.get("ID") not in ("debian", "raspbian") or not codename:
        raise FetchError(advice)
    version = release.get("VERSION_ID", "")
    major = int(version) if version.isdigit() else None
    if major is not None and major < 12:
        raise FetchError(f"this is Debian {major}, packages need 12 or newer; {advice}")
    return codename, major


def elsewhere(name: str) -> str:
    """What to do on a system for which there are no packages here."""
    minimum = ".".join(str(part) for part in locate.MICROPYTHON_MIN)
    if name == "mosquitto":
        return "install mosquitto (e.g. brew install mosquitto) or set MOSQUITTO"
    if name == "micropython32":
        return "packages exist for Debian only; set MICROPYTHON32 to a 32-bit MicroPython"
    return (
        f"packages are fetched on Debian 12 and newer only; install MicroPython {minimum} or newer "
        "(e.g. brew install micropython) or set MICROPYTHON"
    )


def wrapper(folder: str, root: Path, program: str) -> str:
    """The text of the script that starts `program` of the packages under `root`."""
    libraries = sorted({path.parent for path in root.rglob("lib*.so*") if path.is_file()})
    loaders = [path for path in sorted(root.rglob("ld-linux*.so.*")) if path.exists()]
    if not loaders:
        raise FetchError("the packages brought no program loader")
    # Named lib*, so that folders of plug-ins stay out.
    library_path = ":".join(f"$root/{path.relative_to(root)}" for path in libraries)
    return WRAPPER.format(
        folder=folder,
        loader=loaders[0].relative_to(root),
        library_path=library_path,
        program=program,
    )


def keep_only_programs_and_libraries(root: Path) -> None:
    """Drop documentation, locales and service files: they are most of the space."""
    for name in ("usr/share", "etc", "var", "lib/systemd", "usr/lib/systemd"):
        shutil.rmtree(root / name, ignore_errors=True)
    # Character set converters (10 MB), never loaded by these programs.
    for path in [*root.rglob("gconv"), *root.rglob("audit")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def write_executable(path: Path, text: str) -> None:
    """Write a script so that it is either whole and executable or not there."""
    temporary = path.with_name(f".new-{path.name}")
    temporary.write_text(text, encoding="utf-8")
    temporary.chmod(0o755)
    temporary.replace(path)


def last_line(text: str) -> str:
    """The last line that says anything."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One fetch at a time into a folder; freed by the system if this process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(
    command: list[str], timeout_s: int, *, check: bool = True, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in the C locale. Raises FetchError if it is absent, slow or (check) fails."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"`{Path(command[0]).name}` did not end within {timeout_s} s") from error
    except OSError as error:
        raise FetchError(f"`{command[0]}` does not start: {error.strerror}") from error
    if check and done.returncode != 0:
        raise FetchError(f"`{' '.join(command[:5])} ...` failed: {last_line(done.stderr)}")
    return done


if __name__ == "__main__":
    sys.exit(main())
