"""What is told about installing works, and never names what is in no index as if it were in one."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

import vmatlas
from vmatlas.conformance.patience import PATIENCE
from vmatlas.installed import companions, how_to_install

ROOT = Path(__file__).parents[1]
FOLDERS = runpy.run_path(str(ROOT / "ci" / "lock.py"))["distributions"]()
PROJECTS = {
    told["name"]: (folder, told)
    for folder in FOLDERS
    for told in [tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]]
}
SYSTEMS = {"Linux": "linux", "FreeBSD": "freebsd", "NetBSD": "netbsd", "QNX": "qnx"}


def said_about_installing() -> list[str]:
    """What follows `pip install`, and what else installs, in all that users read: documents, code, manual."""
    told = []
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "findings").glob("*.md")] + [
        path
        for folder in ("core", "images", "platforms")
        for pattern in ("README.md", "src/**/*.py", "*/src/**/*.py", "*/README.md", "man/*.1")
        for path in (ROOT / folder).glob(pattern)
    ]:
        for line in path.read_text("utf-8").splitlines():
            told += re.findall(r"(?:pip|pipx|uv tool) install ([^`#)]*)", line)
    return told


def test_nothing_tells_to_take_from_an_index_what_we_have_not_put_there() -> None:
    told = said_about_installing()
    assert len(told) > 15
    wrong = [each for each in told if re.search(r"(?<![./\w-])vmatlas", each) and "--no-index" not in each]
    assert wrong == [], "whoever registers that name has it installed"


@pytest.mark.parametrize("name", sorted(PROJECTS))
def test_a_hint_names_the_folder_of_a_checkout_that_there_is(name: str) -> None:
    hint = how_to_install(name)
    assert hint is not None
    where = hint.rpartition("pip install ")[2]
    if name == "vmatlas":
        return  # who is told has it
    assert (ROOT / where).resolve() == PROJECTS[name][0]
    assert f"--no-index --find-links FOLDER {name} " in hint


def test_every_extra_of_ours_is_of_a_distribution_that_there_is() -> None:
    assert companions() == PROJECTS.keys() - {"vmatlas"}
    assert companions("qnx") == {"vmatlas-qnx"}
    assert companions("plan9") == frozenset()


@pytest.mark.parametrize(("system", "extra"), SYSTEMS.items())
def test_vmatlas_brings_the_plugins_of_the_system_it_is_installed_on(system: str, extra: str) -> None:
    there = {**default_environment(), "platform_system": system, "extra": ""}
    told = PROJECTS["vmatlas"][1]
    asked = [Requirement(each) for each in told["dependencies"]]
    wanted = [each for each in asked if each.marker is None or each.marker.evaluate(there)]
    ours = sorted(str(each).partition(";")[0] for each in wanted if each.name.startswith("vmatlas"))
    assert ours == sorted(str(Requirement(each)) for each in told["optional-dependencies"][extra])
    assert {each.name for each in wanted} >= {"click", "rich", "pyyaml"}
    assert all(Requirement(each).specifier.contains(told["version"]) for each in ours)


def test_every_plugin_is_built_in_one_way() -> None:
    files = [folder / "setup.py" for folder in FOLDERS if folder.parent.name == "platforms"]
    there = [path.read_bytes() for path in files if path.exists()]
    assert len(there) == 5
    assert len(set(there)) == 1


def test_the_checkout_as_one_distribution_has_all_plugins_and_takes_none_from_an_index(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys, checkout; checkout.build_wheel(sys.argv[1])", str(tmp_path)]
    pure = {**os.environ, "VMATLAS_TWINS": "no"}
    done = subprocess.run(command, env=pure, cwd=ROOT / "ci", timeout=PATIENCE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("vmatlas-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as held:
        names = held.namelist()
        (folder,) = {name.partition("/")[0] for name in names if ".dist-info/" in name}
        metadata = Parser().parsestr(held.read(f"{folder}/METADATA").decode())
        entries = held.read(f"{folder}/entry_points.txt").decode()
        licence = held.read(f"{folder}/licenses/LICENSE")
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert metadata["License-Expression"] == "MIT"
    inside = {name for name, (place, _) in PROJECTS.items() if place.parent.name == "platforms"}
    assert not inside & {Requirement(each).name for each in metadata.get_all("Requires-Dist", [])}
    for name in inside:
        for group, told in PROJECTS[name][1]["entry-points"].items():
            section = entries.partition(f"[{group}]\n")[2].partition("\n\n")[0].splitlines()
            assert {f"{key} = {value}" for key, value in told.items()} <= set(section)
        assert f"{name.replace('-', '_')}/__init__.py" in names
    assert "vmatlas = vmatlas.cli:main" in entries
    assert [name for name in names if name.endswith((".so", ".pyc")) or "/tests/" in name] == []


def ci(name: str) -> dict[str, Any]:
    """What a program of ci/ holds."""
    sys.path.insert(0, str(ROOT / "ci"))
    try:
        return runpy.run_path(str(ROOT / "ci" / f"{name}.py"))
    finally:
        sys.path.remove(str(ROOT / "ci"))


def test_a_compiler_for_another_machine_is_told_nothing_of_this_one() -> None:
    told = ["-Wall", "-g", "-O3", "-fwrapv", "-L/root/lib", "-Wl,-rpath,/root/lib", "-march=native"]
    kept = [
        "-std=c99",
        "-O2",
        "-D_GNU_SOURCE",
        "-Inative",
        "-c",
        "module.c",
        "-o",
        "module.o",
        "-pthread",
        "-shared",
        "-fPIC",
    ]
    assert ci("compiler")["chosen"]([*told, *kept]) == kept


@pytest.mark.parametrize(
    ("inside", "told"),
    [
        ({}, "holds no twin"),
        ({"vmatlas_qnx/_native.abi3.so": b"\x7fELF" + bytes(14) + b"\x3e\0"}, "is for another processor"),
        ({"vmatlas_qnx/_native.abi3.so": b"\x7fELF" + bytes(14) + b"\xb7\0" + os.fsencode(ROOT)}, "names a folder"),
        ({"vmatlas_qnx/_native.abi3.so": b"\x7fELF" + bytes(14) + b"\xb7\0"}, None),
    ],
)
def test_a_wheel_that_is_not_what_its_name_says_is_refused(
    inside: dict[str, bytes], told: str | None, tmp_path: Path
) -> None:
    wheel = tmp_path / "vmatlas_qnx-0.1.0-cp311-abi3-manylinux_2_17_aarch64.whl"
    with zipfile.ZipFile(wheel, "w") as held:
        for name, content in inside.items():
            held.writestr(name, content)
    wheels = ci("wheels")
    try:
        wheels["_check"](wheel, ["vmatlas_qnx/_native.abi3.so"])
    except wheels["Unfit"] as unfit:
        assert told is not None and told in str(unfit)
    else:
        assert told is None


def test_the_address_of_a_release_is_in_the_metadata_and_in_the_links_of_the_readme(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    (tmp_path / "README.md").write_text("[how](../../docs/install.md)")
    ci("wheels")["_tell_where"](tmp_path, "https://example.org/vmatlas/")
    told = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]
    assert told["urls"]["Source"] == "https://example.org/vmatlas"
    assert (tmp_path / "README.md").read_text() == "[how](https://example.org/vmatlas/blob/HEAD/docs/install.md)"


def test_the_version_is_one() -> None:
    assert {told["version"] for _, told in PROJECTS.values()} == {vmatlas.__version__}
