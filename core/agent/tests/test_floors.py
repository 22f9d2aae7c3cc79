"""The agent's C has floors: what README.md says of them is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import vmatlas
from vmatlas_agents.build import NATIVE
from vmatlas_agents.targets import MUSL_BESIDE, PORTABLE_SOURCES, SYSTEM_SOURCES

README = Path(__file__).parents[1] / "README.md"
FILES = sorted(NATIVE.glob("*.[ch]"))
OF_CORE = {file.stem for file in Path(vmatlas.__file__).with_name("native").glob("*.h")}
"""Headers that the twins take as well: below all."""


def floors() -> dict[str, int]:
    """The floor of each file's stem, as the table says."""
    found: dict[str, int] = {}
    for floor, names in re.findall(r"^\| (\d+) \| (`[^|]*) \|", README.read_text(), re.MULTILINE):
        for name in re.findall(r"`(\w+)`", names):
            assert name not in found, f"{name} stands in the table twice"
            found[name] = int(floor)
    return found


def test_the_table_names_every_file_and_no_other() -> None:
    assert set(floors()) == {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_includes_its_own_header_and_lower_floors_only(file: Path) -> None:
    table = floors()
    included = [Path(name).stem for name in re.findall(r'^#include "(.*)"', file.read_text(), re.MULTILINE)]
    assert [name for name in included if name not in {file.stem, *OF_CORE} and table[name] >= table[file.stem]] == []


def test_every_c_file_is_built_for_some_system() -> None:
    built = {*PORTABLE_SOURCES, *MUSL_BESIDE, *(name for names in SYSTEM_SOURCES.values() for name in names)}
    assert built == {file.name for file in FILES if file.suffix == ".c"}
