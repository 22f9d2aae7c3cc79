"""A plugin that was just begun: it is clean, it installs, and its tests say what is left to write and where."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas_images import MachineError, load
from vmatlas_images.command import new_platform
from vmatlas_images.new_platform import MARK, make
from vmatlas_images.run.results import ExitCode

ROOT = Path(__file__).parents[2]
LEFT_BEHIND = shutil.ignore_patterns(
    ".git", ".venv", ".venv.lock", ".vmatlas*", "*_cache", ".hypothesis", "__pycache__", "built"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """As much of a checkout as the generator looks at."""
    for name in ("platforms", "images"):
        (tmp_path / name).mkdir()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run(folder: Path, *words: str | Path, path: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    surroundings = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTEST_ADDOPTS")}
    byte_code = {} if "PYTHONPYCACHEPREFIX" in os.environ else {"PYTHONDONTWRITEBYTECODE": "1"}  # none in the tree
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, timeout=2 * PATIENCE, check=False,
        env=surroundings | {"PYTHONPATH": path} | byte_code | environment,
    )  # fmt: skip


def reasons(failure: ElementTree.Element) -> list[str]:
    """What a test says that it failed of: each reason, where Hypothesis came upon several at once."""
    said = failure.get("message") or ""
    if several := re.search(r"Hypothesis found (\d+) distinct failures", said):
        each = re.findall(r"^    \| (\w+: .*)$", failure.text or "", re.MULTILINE)
        return each if len(each) == int(several[1]) else [said]
    return [said]


@pytest.mark.slow
@pytest.mark.timeout(6 * PATIENCE)
def test_a_plugin_begun_in_a_copy_of_this_tree_installs_is_clean_and_says_what_is_left(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=LEFT_BEHIND)
    begun = run(tree, "invoke", "new-platform", "plan9")
    assert begun.returncode == 0, begun.stdout + begun.stderr
    plugin, installed = tree / "platforms" / "plan9", tmp_path / "installed"
    assert "docs/add-a-platform.md" in begun.stdout
    assert load(tree / "images" / "plan9.yaml").labels == ("never run",)

    for command in (["check", "."], ["format", "--check", "."]):
        done = run(plugin, "ruff", *command, "--no-cache")
        assert done.returncode == 0, done.stdout
    source = plugin / "src"
    if (ROOT / ".mypy_cache").is_dir():  # what `invoke check` has found out about all else
        shutil.copytree(ROOT / ".mypy_cache", tmp_path / "mypy")
    done = run(tree, "mypy", "-p", "vmatlas_plan9", f"--cache-dir={tmp_path / 'mypy'}", MYPYPATH=str(source))
    assert done.returncode == 0, done.stdout

    done = run(tmp_path, "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", installed, plugin)
    assert done.returncode == 0, done.stderr
    asked = "from vmatlas import registry; print(registry.backend('plan9-map').probe().reason)"
    done = subprocess.run(
        [sys.executable, "-c", asked], env=os.environ | {"PYTHONPATH": str(installed)}, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert "it asks plan9 kernels" in done.stdout, done.stderr

    path = f"{source}{os.pathsep}{installed}"
    junit = tmp_path / "tests.xml"
    done = run(tree, "pytest", plugin / "tests", "-q", "-p", "no:cacheprovider", f"--junit-xml={junit}", path=path)
    assert done.returncode == 1, done.stdout + done.stderr
    failures = [said for found in ElementTree.parse(junit).iter("failure") for said in reasons(found)]
    assert len(failures) > 20
    assert [said for said in failures if "fill in " not in said and "is to be filled in" not in said] == []
    marks = [
        file
        for file in [*plugin.rglob("*"), tree / "images" / "plan9.yaml"]
        if file.suffix in (".py", ".c", ".md", ".yaml")
    ]
    marked = {
        f"{file.relative_to(tree)}:{number}"
        for file in marks
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if MARK in line
    }
    told = {found[1] for said in failures if (found := re.search(r"fill in (\S+:\d+): \S", said))}
    assert told == marked
    assert {"native/acquire.c", "layout.py", "decode.py", "acquire.py", "plan9.yaml", "README.md"} <= {
        place.partition(":")[0].removeprefix("platforms/plan9/").rpartition("vmatlas_plan9/")[2].removeprefix("images/")
        for place in told
    }


@pytest.mark.parametrize("name", ["zz", "abcdefghijklmnopqrstuvwx"])
def test_a_plugin_is_clean_however_long_its_name_is(tree: Path, name: str) -> None:
    make(tree, name)
    for command in (["check", "."], ["format", "--check", "."]):
        done = run(tree, "ruff", *command, "--no-cache")
        assert done.returncode == 0, done.stdout
    assert load(tree / "images" / f"{name}.yaml").system == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Plan9", "is no name for a system: 2 to 24 small letters and digits"),
        ("9plan", "is no name"),
        ("plan-9", "is no name"),
        ("../plan9", "is no name"),
        ("", "is no name"),
        ("p", "is no name"),
        ("p" * 25, "is no name"),
        ("lambda", "is no name"),
        ("images", "a package vmatlas_images is installed already"),
        ("freebsd", "a package vmatlas_freebsd is installed already"),
    ],
)
def test_a_name_that_cannot_be_is_one_line_and_nothing_is_written(
    tree: Path, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    assert new_platform(name, tree) == ExitCode.USAGE
    said = capsys.readouterr()
    assert words in said.err
    assert (said.err.count("\n"), said.out) == (1, "")
    assert sorted(path.name for path in tree.rglob("*")) == ["images", "platforms", "pyproject.toml"]


@pytest.mark.parametrize("there", ["platforms/plan9", "images/plan9.yaml"])
def test_what_is_there_already_is_left_alone(tree: Path, there: str) -> None:
    (tree / there).parent.mkdir(exist_ok=True)
    (tree / there).mkdir() if "platforms" in there else (tree / there).write_text("mine")
    before = sorted(tree.rglob("*"))
    with pytest.raises(MachineError, match=f"{there} is there already"):
        make(tree, "plan9")
    assert sorted(tree.rglob("*")) == before


def test_a_folder_that_is_no_checkout_is_said(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="is no checkout of vmatlas"):
        make(tmp_path, "plan9")


def test_a_plugin_that_cannot_be_written_whole_is_not_begun(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Path.write_text

    def fill(path: Path, *words: str) -> int:
        if path.name == "system.py":
            raise OSError(28, "No space left on device", str(path))
        return written(path, *words)

    monkeypatch.setattr(Path, "write_text", fill)
    assert new_platform("plan9", tree) == ExitCode.USAGE
    assert sorted(path.name for path in tree.rglob("*")) == ["images", "platforms", "pyproject.toml"]
