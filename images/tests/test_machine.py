"""Descriptions: what is accepted, and that each thing that is wrong is named by file, line and field."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmatlas_images import MachineError, find, load, machines
from vmatlas_images.describe.machine import DebianKernel, DebianProgram, VersionRange, natural
from vmatlas_images.resolve.lock import NAME, read_lock

GOOD = """\
name: good
about: a machine
system: linux
processor: x86_64
source:
  kind: debian-kernel
  suites: [trixie]
  package: linux-image-*-cloud-amd64
  at_least: "6.12"
boot:
  start: kernel
  memory: 128
agent:
  delivery: init
expect:
  backends:
    linux-procfs: answers
    linux-ioctl: {refuses: "6.11"}
"""
CD = "dialogue:\n- {wait: 'login:', type: root}\n"

BROKEN = [
    # what is replaced, by what, the line and field it is reported at, what the message says
    ("  memory: 128", "  memroy: 128", "12: boot.memroy:", "allowed: start, board"),
    ("about: a machine", "abuot: a machine", "2: abuot:", "allowed: name, about"),
    ("about: a machine\n", "", "1: about:", "is missing"),
    ("  memory: 128", "  memory: much", "12: boot.memory:", "integer"),
    ("  memory: 128", "  memory: 8", "12: boot.memory:", "greater than or equal to 16"),
    ("  memory: 128", "  memory: yes", "12: boot.memory:", "integer"),
    ('at_least: "6.12"', "at_least: 6.12", "9: source.at_least:", "quote"),
    ('at_least: "6.12"', 'at_least: "six"', "9: source.at_least:", "pattern"),
    ("start: kernel", "start: kernle", "11: boot.start:", "'kernel', 'disk', 'user-mode' or 'sandbox'"),
    ("start: kernel", "start: sandbox", "1: the machine:", "needs source.kind: debian-program or file"),
    ("kind: debian-kernel", "kind: debain", "5: source.kind:", "debian-kernel, debian-program, url, file"),
    ("  kind: debian-kernel\n", "", "5: source.kind:", "debian-kernel, debian-program, url, file"),
    ("kind: debian-kernel", "kind: debian-program\n  program: usr/bin/x", "1: the machine:", "user-mode or sandbox"),
    ("  memory: 128", "  qemu: {at_least: '10'}", "12: boot.qemu.obtain:", "is missing"),
    ("  memory: 128", "  firmware: {path: x, package: y}", "12: boot.firmware.path:", "does not fit the pattern ^/"),
    ("expect:\n", "expect:\n  files: {/proc/cpuinfo: '('}\n", "16: expect.files./proc/cpuinfo:", "regular expression"),
    ("[trixie]", "trixie", "7: source.suites:", "a list"),
    ("[trixie]", "[]", "7: source.suites:", "at least 1"),
    ("[trixie]", "[13]", "7: source.suites.0:", "quote"),
    ("processor: x86_64", "processor: vax", "4: processor:", "'x86_64'"),
    ("linux-procfs: answers", "linux-procfs: maybe", "17: expect.backends.linux-procfs:", "answers, or {refuses"),
    ('{refuses: "6.11"}', "{refuse: x}", "18: expect.backends.linux-ioctl.refuse:", "allowed: refuses"),
    ("start: kernel", "start: kernel\n  start: kernel", "12: boot.start:", "said twice (before in line 11)"),
    ("start: kernel", "start: disk", "1: the machine:", "needs boot.start: kernel"),
    ("delivery: init", "delivery: cd", "1: the machine:", "dialogue"),
    ("agent:", "dialogue:\n- {type: x, within: 0}\nagent:", "14: dialogue.0.within:", "greater than 0"),
    ("agent:", "dialogue:\n- {within: 3}\nagent:", "14: dialogue.0:", "`wait`, `type` or both"),
    ("agent:", "dialogue:\n- {wait: '('}\nagent:", "14: dialogue.0.wait:", "regular expression"),
    ("name: good", "name: bad", "1: name:", "the file says 'good'"),
    ("name: good", "name: ../good", "1: name:", "pattern"),
    ("about: a machine", "about: [", "", "not YAML"),
    ("about: a machine", "about: !!python/object:os.system x", "2:", "not YAML"),
]


def broken(tmp_path: Path, text: str) -> str:
    path = tmp_path / "good.yaml"
    path.write_text(text)
    with pytest.raises(MachineError) as caught:
        load(path)
    return str(caught.value)


@pytest.mark.parametrize(("old", "new", "where", "says"), BROKEN)
def test_error_names_file_line_and_field(tmp_path: Path, old: str, new: str, where: str, says: str) -> None:
    assert old in GOOD
    message = broken(tmp_path, GOOD.replace(old, new, 1))
    lines = [line for line in message.splitlines() if line.startswith(f"{tmp_path}/good.yaml:{where}") and says in line]
    assert lines, message


def test_every_error_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("memory: 128", "memory: 1").replace("processor: x86_64", "processor: vax")
    assert len(broken(tmp_path, text).splitlines()) == 2


@pytest.mark.parametrize("text", ["", "- a\n", "just words\n", "&a [*a]\n", "\x00", "a: 1\n---\nb: 2\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    assert broken(tmp_path, text).startswith(f"{tmp_path}/good.yaml:")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(MachineError, match="not UTF-8: byte 6"):
        load(tmp_path / "good.yaml")


@given(st.text(max_size=200) | st.text(alphabet="abc:-[]{}&*!|>\n '\"#%@", max_size=200))
def test_no_text_gives_anything_but_a_machine_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, "utf-8", errors="replace")
    with pytest.raises(MachineError):
        load(path)


DOWNLOAD = "  kind: url\n  url: https://example.invalid/disk.raw.xz\n"
LONG = GOOD[GOOD.index("  kind:") : GOOD.index("boot:")]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (DOWNLOAD, "exactly one of sha256, sha512, checksum_file"),
        (DOWNLOAD + f"  sha256: {'a' * 64}\n  sha512: {'b' * 128}\n", "exactly one of"),
        (DOWNLOAD + "  sha256: abc\n", "does not fit the pattern"),
        (DOWNLOAD + "  checksum_file: http://example.invalid/CHECKSUM\n", "plain http proves nothing"),
        ("  kind: url\n  url: disk.raw\n  sha256: " + "a" * 64 + "\n", "http, https or file URL"),
        ("  kind: file\n  path: x\n", "source.obtain: is missing"),
    ],
)
def test_nothing_is_used_unverified(tmp_path: Path, source: str, says: str) -> None:
    assert says in broken(tmp_path, GOOD.replace(LONG, source))


def test_the_machines_of_this_repository_are_well_described() -> None:
    names = [machine.name for machine in machines()]
    assert names == sorted(names, key=natural)
    assert {"linux-6.1", "linux-6.12", "linux-6.17", "linux-newest", "linux-6.12-process32"} <= set(names)
    expect = find("linux-6.1").expect
    assert expect.refusing == {"linux-ioctl": "6.11"}
    assert expect.all_refusing == {"linux-ioctl": "6.11", "linux-pagemap-scan": "6.7"}
    assert set(expect.all_answering) == {*expect.answering, "linux-pagemap"}


def test_names_with_numbers_of_any_length_have_an_order() -> None:
    names = [
        "linux-6.1",
        "linux-6.9",
        "linux-6.12",
        "linux-" + "9" * 5000,
        "linux-1" + "0" * 5000,
        "x\u0663",
        "x\u00b2",
    ]
    names.reverse()
    assert sorted(names, key=natural) == names[::-1]


def test_a_users_machine_is_found_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    monkeypatch.setenv("VMATLAS_IMAGES", f"{tmp_path}:{tmp_path}/.")
    assert find("good").path == tmp_path / "good.yaml"


def test_one_name_in_two_folders_is_refused_with_both_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "linux-6.1.yaml").write_text(GOOD.replace("name: good", "name: linux-6.1"))
    monkeypatch.setenv("VMATLAS_IMAGES", str(tmp_path))
    with pytest.raises(MachineError) as caught:
        machines()
    assert str(tmp_path / "linux-6.1.yaml") in str(caught.value)
    assert str(caught.value).count("linux-6.1.yaml") == 2


def test_a_bad_description_keeps_nobody_from_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    (tmp_path / "good.yaml").write_text(GOOD)
    monkeypatch.setenv("VMATLAS_IMAGES", str(tmp_path))
    assert find("good").path == tmp_path / "good.yaml"
    assert find("linux-6.12").name == "linux-6.12"
    with pytest.raises(MachineError, match=r"not read: .*mine\.yaml"):
        find("mine")
    with pytest.raises(MachineError, match="mine"):
        machines()
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "good.yaml").write_text(GOOD)
    monkeypatch.setenv("VMATLAS_IMAGES", f"{tmp_path}:{tmp_path}/again")
    assert find("linux-6.12").name == "linux-6.12"
    with pytest.raises(MachineError, match="two machines are called 'good'"):
        find("good")


def test_a_folder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMATLAS_IMAGES", "/no/such/folder")
    with pytest.raises(MachineError, match="VMATLAS_IMAGES names '/no/such/folder'"):
        machines()


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(MachineError, match=r"no machine is called 'linux-9'; there are: .*linux-6\.12"):
        find("linux-9")


@pytest.mark.parametrize(
    ("release", "fits"),
    [("6.12", True), ("6.12.107+deb13-cloud-amd64", True), ("6.13", False), ("6.1.0-50-cloud", False), ("6.2", False),
     ("", False), ("7", False)],
)  # fmt: skip
def test_versions_compare_as_numbers(release: str, fits: bool) -> None:
    assert (release in VersionRange(at_least="6.12", below="6.13")) is fits


def test_a_release_of_any_length_is_compared() -> None:
    """A guest says which it is; Python refuses to read numbers of more than 4,300 digits."""
    assert "9" * 5000 in VersionRange(at_least="6.1")
    assert "9" * 5000 not in VersionRange(at_least="6.1", below="7")
    assert f"6.12.{'9' * 5000}" in VersionRange(at_least="6.12", below="6.13")


def test_every_kernel_of_ours_is_locked_as_its_description_has_it() -> None:
    ours = {each.name: each for each in machines() if each.path.parent == Path(__file__).parents[1]}
    sources = {name: each.source for name, each in ours.items()}
    wanted = {name: each for name, each in sources.items() if isinstance(each, DebianKernel | DebianProgram)}
    locked = read_lock(Path(__file__).parents[1] / NAME)
    assert sorted(locked) == sorted(wanted), "./run invoke lock-kernels"
    for name, kernel in locked.items():
        source, package = wanted[name], kernel.package.split()[0]
        assert kernel.release in source.versions
        assert fnmatch.fnmatchcase(package, source.package)
        assert len(kernel.sha256) == (2 if isinstance(source, DebianKernel) and source.modules else 1)
