"""The quick look at entry points finds what importlib.metadata finds."""

from __future__ import annotations

import os
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from vmatlas import installed

TEXT = """
# a comment
[console_scripts]
tool = demo.cli:main

[vmatlas.backends]
demo-one = demo.one:BACKEND
demo-two=demo.two:deep.BACKEND [extra]
"""


def as_metadata_says(group: str) -> list[tuple[str, str]]:
    return sorted((each.name, each.value) for each in metadata.entry_points(group=group))


def as_we_say(group: str) -> list[tuple[str, str]]:
    return [(each.name, each.value) for each in installed.entry_points([group])[group]]


def distribution(folder: Path, name: str, text: str) -> None:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(text)


@pytest.mark.parametrize("group", ["vmatlas.backends", "vmatlas.systems", "console_scripts", "pytest11", "none.such"])
def test_groups_of_this_environment_are_those_of_importlib_metadata(group: str) -> None:
    assert as_we_say(group) == as_metadata_says(group)


def test_entries_and_distributions_are_found_in_a_folder_of_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path, "vmatlas_demo", TEXT)
    (tmp_path / "empty-1.0.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "absent")])
    assert installed.entry_points(["vmatlas.backends"])["vmatlas.backends"] == [
        ("demo-one", "demo.one:BACKEND", "vmatlas-demo"),
        ("demo-two", "demo.two:deep.BACKEND [extra]", "vmatlas-demo"),
    ]
    assert as_we_say("vmatlas.backends") == as_metadata_says("vmatlas.backends")


def test_the_first_of_two_distributions_of_one_name_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path / "a", "vmatlas_demo", "[vmatlas.backends]\nx = first:B\n")
    distribution(tmp_path / "b", "vmatlas_demo", "[vmatlas.backends]\nx = second:B\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "a"), str(tmp_path / "b")])
    assert as_we_say("vmatlas.backends") == [("x", "first:B")] == as_metadata_says("vmatlas.backends")


def test_distributions_in_a_zip_file_are_found_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path / "in", "vmatlas_demo", TEXT)
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as written:
        for file in (tmp_path / "in").rglob("*"):
            if file.is_file():
                written.write(file, file.relative_to(tmp_path / "in"))
    library = str(Path(os.__file__).parent)  # from which importlib.metadata itself may need a module
    monkeypatch.setattr(sys, "path", [str(archive), library])
    assert len(as_we_say("vmatlas.backends")) == 2


def test_a_value_with_extras_and_a_deep_attribute_is_loaded() -> None:
    assert installed.Entry("x", "os.path:join", "y").load() is __import__("os").path.join
    assert installed.Entry("x", "os : path.join [extra]", "y").load() is __import__("os").path.join
    assert installed.Entry("x", "os", "y").load() is __import__("os")
    with pytest.raises(AttributeError):
        installed.Entry("x", "os:nothing", "y").load()
