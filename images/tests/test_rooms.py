"""The rooms of the house: each imports from those below it alone, and is known to the documents."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import vmatlas_images

ROOMS = ("describe", "resolve", "fetch", "prepare", "run", "report")
"""Upwards: the way of a machine."""

FOUNDATION = ("errors", "files", "terminal")
"""What every room stands on: one module each."""

DOORS = ("__init__", "command", "connect", "keeper", "new_platform")
"""What others call. They may open every room."""

HOUSE = Path(vmatlas_images.__file__).parent
MODULES = sorted(path.relative_to(HOUSE) for path in HOUSE.rglob("*.py") if "platform" not in path.parts)


def imports(module: Path) -> Iterator[tuple[str, ...]]:
    """The modules of the house that a module imports, each as its steps from the house, wherever the import stands."""
    for node in ast.walk(ast.parse((HOUSE / module).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names if each.name.split(".")[0] == "vmatlas_images"]
            assert not names, f"{module}:{node.lineno}: imports of our own are relative: {names}"
        elif isinstance(node, ast.ImportFrom) and node.level:
            folder = module.parts[: len(module.parts) - node.level]
            steps = (*folder, *(node.module.split(".") if node.module else ()))
            for each in node.names:
                inner = HOUSE.joinpath(*steps, each.name)
                yield (*steps, each.name) if inner.is_dir() or inner.with_suffix(".py").is_file() else steps


def room(steps: tuple[str, ...]) -> str:
    """The room of a module, or the name of one that is in none."""
    return steps[0].removesuffix(".py") if steps else "__init__"


def test_every_module_has_a_room() -> None:
    assert {room(module.parts) for module in MODULES} == {*ROOMS, *FOUNDATION, *DOORS}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_room_imports_from_those_below_it_alone(module: Path) -> None:
    own = room(module.parts)
    below = {own, *FOUNDATION} if own in FOUNDATION else {own, *FOUNDATION, *ROOMS[: _floor(own)]}
    allowed = {*below, *DOORS} if own in DOORS else below
    wrong = {".".join(steps) for steps in imports(module) if room(steps) not in allowed}
    assert not wrong, f"{module} imports {', '.join(sorted(wrong))}, of a room above it"


def _floor(own: str) -> int:
    return ROOMS.index(own) if own in ROOMS else len(ROOMS)


def test_no_module_of_a_room_imports_in_a_circle() -> None:
    """`prepare` raises CycleError, which names the modules."""
    graph = {
        module.with_suffix("").parts: {steps for steps in imports(module) if len(steps) > 1}
        for module in MODULES
        if len(module.parts) > 1
    }
    TopologicalSorter(graph).prepare()


def test_only_what_resolves_below_the_network_is_asked_nothing() -> None:
    """The two rooms that tell what is wanted open no connection, start no program and know no cache."""
    for module in (each for each in MODULES if room(each.parts) in ROOMS[:2]):
        named = {
            name.split(".")[0]
            for node in ast.walk(ast.parse((HOUSE / module).read_text("utf-8")))
            for name in (
                [each.name for each in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom) and not node.level
                else []
            )
        }
        assert not named & {"http", "socket", "subprocess", "asyncio", "ssl", "requests"}, module
        assert "urllib.request" not in (HOUSE / module).read_text("utf-8"), module


def test_every_room_is_in_the_readme() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    told = re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE)
    assert told == list(ROOMS)
