"""Debian's Python for a guest: its packages from a signed archive on loopback, its wheels from a folder, no network."""

from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
from pathlib import Path

import pycdlib
import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas_images import Cache, FetchError, Machine, MachineError, NotRunnable
from vmatlas_images.describe.plan import plan_of
from vmatlas_images.fetch.python import fetch_userland, is_userland_cached
from vmatlas_images.prepare.preparing import Entry, Prepared, cpio
from vmatlas_images.prepare.userland import with_userland
from vmatlas_images.prepare.wheels import build_wheels
from vmatlas_images.resolve.debian import with_all_they_need

from .conftest import Mirror, describe

MACHINE = """\
name: p
about: a test
system: linux
processor: x86_64
source: {kind: debian-kernel, suites: [trixie], package: linux-image-*}
boot: {start: kernel}
agent: {delivery: init}
python: {suite: trixie, version: {at_least: "3.11", below: "3.12"}, plan: plan.yaml}
"""
WITHOUT_SUITE = """\
name: p
about: a test
system: freebsd
processor: x86_64
source: {kind: file, path: $NOWHERE, obtain: x}
boot: {start: disk}
agent: {delivery: cd}
dialogue: [{type: x}]
python: {version: {at_least: "3.11", below: "3.12"}, plan: plan.yaml}
"""
PLAN = """\
root: tree
packages: [python3]
requirements: [oracle]
distributions: [ours]
libraries: [manylinux_2_17]
files: [tests]
install: ['$VENV/bin/python $WHEELS/pip "$@"']
steps:
- {name: all, about: all of it, words: [-m, pytest, "it's"]}
"""
INDEX = """\
Package: a
Version: 1
Depends: b (>= 2), c | d, script
Pre-Depends: early
Filename: pool/a.deb
Size: 1
SHA256: 00

Package: b
Version: 2
Depends: a
Filename: pool/b.deb
Size: 1
SHA256: 00

Package: d
Version: 1:2-3
Depends: virtual [amd64]
Filename: pool/d.deb
Size: 1
SHA256: 00

Package: early
Version: 1
Filename: pool/early.deb
Size: 1
SHA256: 00

Package: real
Version: 1
Provides: other (= 1), virtual
Filename: pool/real.deb
Size: 1
SHA256: 00
"""


def test_all_that_a_package_needs_is_found_once(tmp_path: Path) -> None:
    (tmp_path / "Packages").write_text(INDEX)
    found = with_all_they_need(["a"], tmp_path / "Packages", "sid", {"script"})
    assert [str(package) for package in found] == [
        "a 1 (sid)", "b 2 (sid)", "d 1:2-3 (sid)", "early 1 (sid)", "real 1 (sid)",
    ]  # fmt: skip
    with pytest.raises(FetchError, match=r"sid has no package script$"):
        with_all_they_need(["a"], tmp_path / "Packages", "sid")


def wheel(place: Path, name: str, tag: str = "py3-none-any") -> Path:
    path = place / f"{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{name}-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return path


def ours(tree: Path) -> None:
    """The distribution that goes to the guest."""
    (tree / "ours").mkdir(parents=True)
    (tree / "ours" / "pyproject.toml").write_text('[project]\nname = "ours"\nversion = "1.0"\n')
    (tree / "ours" / "ours.py").write_text("")


@pytest.fixture(scope="module")
def wheel_of_ours(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A cache with its wheel: to build one takes longer than all else here."""
    folder = tmp_path_factory.mktemp("ours")
    ours(folder / "tree")
    built = Cache(folder / "cache")
    build_wheels(folder / "tree", ["ours"], built, PATIENCE)
    return built


@pytest.fixture
def machine(
    mirror: Mirror, cache: Cache, wheel_of_ours: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Machine:
    """A machine whose Python comes from the loopback archive and whose wheels come from a folder."""
    shutil.copytree(wheel_of_ours.root / "prepared", cache.root / "prepared", dirs_exist_ok=True)
    mirror.add("python3", "3.11.2-1", {"usr/share/doc/python3/copyright": b"x"}, "python3.11-minimal, debconf")
    files = {"usr/bin/python3.11": b"program", "lib/x/libc.so.6": b"library", "usr/share/man/man1/python": b"x"}
    mirror.add("python3.11-minimal", "3.11.2-6", files)
    mirror.publish()
    tree = tmp_path / "tree"
    ours(tree)
    (tree / "tests").mkdir()
    (tree / "tests" / "test_one.py").write_text("def test_one(): pass\n")
    (tmp_path / "plan.yaml").write_text(PLAN)
    (tmp_path / "wheels").mkdir()
    wheel(tmp_path / "wheels", "oracle")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return describe(tmp_path, "p", MACHINE)


def listed(archive: bytes) -> dict[str, str]:
    """Each name in the first archive, with its mode and the target of a link, as the cpio tool reads them."""
    if shutil.which("cpio") is None:
        pytest.skip("no cpio to read the archive back with: apt-get install cpio")
    done = subprocess.run(["cpio", "-itv", "--quiet"], input=archive, capture_output=True, check=True, timeout=PATIENCE)
    found: dict[str, str] = {}
    for line in done.stdout.decode().splitlines():
        words = line.split(None, 8)
        name, _, target = words[8].partition(" -> ")
        found[name] = words[0] + (f" {target}" if target else "")
    return found


def test_links_and_folders_of_an_archive_are_what_the_cpio_tool_reads() -> None:
    files = {"lib": Entry(b"usr/lib", link=True), "usr/lib": Entry(folder=True), "usr/lib/deep/x": Entry(b"1")}
    found = listed(b"".join(cpio(files, devices=False)))
    assert found == {
        "usr": "drwxr-xr-x", "usr/lib": "drwxr-xr-x", "usr/lib/deep": "drwxr-xr-x", "lib": "lrwxrwxrwx usr/lib",
        "usr/lib/deep/x": "-rw-r--r--",
    }  # fmt: skip
    assert list(found)[:2] == ["usr", "usr/lib"]  # before what lies in them


@pytest.mark.slow
def test_userland_is_verified_merged_and_holds_wheels_tests_and_steps(
    machine: Machine, mirror: Mirror, cache: Cache, tmp_path: Path
) -> None:
    assert not is_userland_cached(machine, cache)
    userland = fetch_userland(machine, cache)
    assert is_userland_cached(machine, cache)
    assert userland.python == "3.11.2-6"
    assert [path.name for path in userland.wheels] == ["oracle-1.0-py3-none-any.whl"]
    mirror.server.asked.clear()
    assert fetch_userland(machine, cache) == userland
    assert mirror.server.asked == []
    (tmp_path / "agent").write_bytes(b"".join(cpio({"init": Entry(b"agent", executable=True)})))
    agent = tmp_path / "agent"
    prepared = with_userland(Prepared(initramfs=agent), machine, userland, agent, cache, tmp_path)
    assert prepared.initramfs is not None
    content = prepared.initramfs.read_bytes()
    system = listed(content)  # cpio stops where the first archive ends, the kernel goes on
    assert system["lib"] == "lrwxrwxrwx usr/lib"
    assert system["usr/lib/x/libc.so.6"] == "-rw-r--r--"
    assert not [name for name in system if name.startswith(("lib/", "usr/share/doc", "usr/share/man"))]
    assert content.endswith((tmp_path / "agent").read_bytes())
    own = listed(content[content.index(b"TRAILER!!!") :].partition(b"\0\0\0")[2].lstrip(b"\0"))
    assert own["vmatlas/tree/tests/test_one.py"] == "-rw-r--r--"
    assert [name for name in own if name.endswith(".whl")] == [
        "vmatlas/wheels/ours-1.0-py3-none-any.whl", "vmatlas/wheels/oracle-1.0-py3-none-any.whl",
    ]  # fmt: skip
    assert not list((tmp_path / "tree").rglob("*.egg-info"))
    assert own["vmatlas/results"] == "drwxr-xr-x"
    assert own["vmatlas/steps/install"] == own["vmatlas/steps/all"] == "-rwxr-xr-x"
    assert b"exec /vmatlas/venv/bin/python -m pytest 'it'\"'\"'s' --junit-xml=/vmatlas/results/all.xml\n" in content


def test_a_package_of_python_that_left_the_mirror_is_found_in_the_index_of_now(
    machine: Machine, mirror: Mirror, cache: Cache
) -> None:
    files = mirror.server.files
    mirror.server.stale = {path: content for path, content in files.items() if "/dists/" in path}
    mirror.packages = mirror.packages[: mirror.packages.index("Package: python3.11-minimal")]
    mirror.add("python3.11-minimal", "3.11.2-7", {"usr/bin/python3.11": b"newer"})
    mirror.publish()
    del files["debian/pool/main/l/linux/python3.11-minimal_3.11.2-6_amd64.deb"]
    assert fetch_userland(machine, cache).python == "3.11.2-7"


@pytest.mark.slow
def test_what_is_ours_lies_on_the_cd_where_python_comes_from_elsewhere(
    machine: Machine, cache: Cache, mirror: Mirror, tmp_path: Path
) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN.replace("libraries: [manylinux_2_17]\n", ""))
    mirror.server.asked.clear()
    other = describe(tmp_path, "p", WITHOUT_SUITE)
    assert not is_userland_cached(other, cache)
    userland = fetch_userland(other, cache)
    assert is_userland_cached(other, cache)
    assert mirror.server.asked == [], "no package of Debian's"
    agent = tmp_path / "agent"
    agent.write_bytes(b"agent")
    prepared = with_userland(Prepared(disk=agent, cd=agent), other, userland, agent, cache, tmp_path)
    assert prepared.cd is not None and prepared.disk == agent
    iso = pycdlib.PyCdlib()
    iso.open(str(prepared.cd))
    held = {}
    for name in ("agent", "ours.tar"):
        held[name] = io.BytesIO()
        iso.get_file_from_iso_fp(held[name], rr_path=f"/{name}")
    iso.close()
    assert held["agent"].getvalue() == b"agent"
    (tmp_path / "out").mkdir()
    subprocess.run(
        ["tar", "-xf", "-", "-C", tmp_path / "out"], input=held["ours.tar"].getvalue(), check=True, timeout=PATIENCE
    )
    ours = tmp_path / "out" / "vmatlas"
    assert (ours / "results").is_dir()
    assert (ours / "tree/tests/test_one.py").read_text() == "def test_one(): pass\n"
    install = (ours / "steps/install").read_text()
    assert (ours / "steps/install").stat().st_mode & 0o111
    done = subprocess.run(["sh", "-n"], input=install, text=True, timeout=PATIENCE)
    assert done.returncode == 0
    assert "VENV=/vmatlas/venv WHEELS=/vmatlas/wheels\n" in install
    assert "--no-deps " in install and " /vmatlas/wheels/ours-1.0-py3-none-any.whl " in install


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            ("disk}\nagent: {delivery: cd", "kernel}\nagent: {delivery: init"),
            "python without a suite needs agent.delivery: cd",
        ),
        (('at_least: "3.11", ', ""), "python without a suite needs version.at_least"),
    ],
)
def test_python_without_a_suite_says_what_it_needs(change: tuple[str, str], told: str, tmp_path: Path) -> None:
    text = WITHOUT_SUITE.replace(*change)
    with pytest.raises(MachineError, match=told):
        describe(tmp_path, "p", text)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["core", "platforms/freebsd"])
def test_wheel_without_twin_is_for_every_system(name: str, cache: Cache) -> None:
    (path,) = build_wheels(Path(__file__).parents[2], [name], cache, 120, twins=False).iterdir()
    assert path.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(path) as archive:
        assert not [each for each in archive.namelist() if each.endswith(".so")]


def test_python_that_is_not_the_wanted_one_is_refused(machine: Machine, cache: Cache, tmp_path: Path) -> None:
    other = describe(tmp_path, "p", MACHINE.replace('"3.12"', '"3.11.1"'))
    with pytest.raises(FetchError, match=r"trixie has Python 3.11.2-6; the description wants >= 3.11 and < 3.11.1"):
        fetch_userland(other, cache)


def test_package_whose_bytes_are_not_those_of_the_index_is_refused(
    machine: Machine, mirror: Mirror, cache: Cache
) -> None:
    for path in mirror.server.files:
        if "python3.11-minimal" in path:
            mirror.server.files[path] = mirror.server.files[path][:-1] + b"!"
    with pytest.raises(FetchError, match=r"Hash Sum mismatch|sha256 is|should be"):
        fetch_userland(machine, cache)


def test_offline_nothing_is_asked_for(machine: Machine, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMATLAS_OFFLINE", "1")
    with pytest.raises(NotRunnable, match="packages of trixie is not in the cache"):
        fetch_userland(machine, cache)
    monkeypatch.delenv("VMATLAS_OFFLINE")
    userland = fetch_userland(machine, cache)
    monkeypatch.setenv("VMATLAS_OFFLINE", "1")
    assert fetch_userland(machine, cache) == userland


def test_wheel_of_another_python_is_not_taken(machine: Machine, cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "wheels" / "oracle-1.0-py3-none-any.whl").unlink()
    wheel(tmp_path / "wheels", "oracle", "cp39-cp39-manylinux_2_17_x86_64")
    with pytest.raises(FetchError, match=r"pip download ended with status 1: .*oracle"):
        fetch_userland(machine, cache)


@pytest.mark.slow
def test_wheel_is_built_anew_when_a_source_changes(tmp_path: Path, cache: Cache) -> None:
    source = tmp_path / "d" / "pyproject.toml"
    source.parent.mkdir()
    source.write_text('[project]\nname = "d"\nversion = "1.0"\n')
    first = build_wheels(tmp_path, ["d"], cache, 60)
    assert build_wheels(tmp_path, ["d"], cache, 60) == first
    source.write_text('[project]\nname = "d"\nversion = "1.1"\n')
    assert [path.name for path in build_wheels(tmp_path, ["d"], cache, 60).iterdir()] == ["d-1.1-py3-none-any.whl"]


def test_plan_says_what_is_wrong_with_it(machine: Machine, tmp_path: Path) -> None:
    assert plan_of(machine).tree == tmp_path / "tree"
    (tmp_path / "plan.yaml").write_text(PLAN.replace("about: all of it, ", "").replace("files: [tests]", "file: [x]"))
    with pytest.raises(MachineError) as caught:
        plan_of(machine)
    lines = str(caught.value).splitlines()
    assert any(line.endswith("steps.0.about: is missing") for line in lines)
    assert any("plan.yaml:6: file: no such field here; allowed: root, packages" in line for line in lines)
    (tmp_path / "plan.yaml").write_text(PLAN.replace("[tests]", "[nowhere]"))
    with pytest.raises(NotRunnable, match="nowhere, which is not there"):
        plan_of(machine)
    (tmp_path / "plan.yaml").unlink()
    with pytest.raises(NotRunnable, match="no plan"):
        plan_of(machine)


def test_only_a_linux_initramfs_can_hold_a_python(tmp_path: Path) -> None:
    text = MACHINE.replace("system: linux", "system: freebsd")
    with pytest.raises(MachineError, match=r"python.suite needs system: linux and agent.delivery: init"):
        describe(tmp_path, "p", text)
