"""`pip install .` of this checkout, or of its address: core the fleet and all plugins as one distribution, `vmatlas`.

A build backend (PEP 517) that lays together what the distributions are made of, in a folder that goes away, and has
setuptools build that. What is released are the distributions themselves (`invoke wheels`); the agents, which take a
compiler of 300 MB, are not in here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from setuptools import build_meta

ROOT = Path(__file__).resolve().parents[1]
_MADE = shutil.ignore_patterns("build", "*.egg-info", "*.so", "__pycache__", ".*", "tests")


def get_requires_for_build_wheel(config_settings: object = None) -> list[str]:
    """Nothing besides what pyproject.toml names."""
    return []


def build_wheel(wheel_directory: str, config_settings: object = None, metadata_directory: object = None) -> str:
    """Build it, and give the file's name."""
    output = Path(wheel_directory).resolve()
    with tempfile.TemporaryDirectory(prefix="vmatlas-") as space:
        lay_together(Path(space))
        before = Path.cwd()
        os.chdir(space)
        try:
            return build_meta.build_wheel(str(output))
        finally:
            os.chdir(before)


def build_editable(*_: object) -> str:
    """What runs from its sources is made by ./run, for every distribution by itself."""
    raise SystemExit(
        "vmatlas: to work on it use './run COMMAND', which installs all in place in .venv of this checkout"
    )


def build_sdist(*_: object) -> str:
    """There is one of each distribution."""
    raise SystemExit("vmatlas: source distributions are made by './run invoke wheels', one of each distribution")


def lay_together(space: Path) -> None:
    """The sources of all, with one pyproject.toml, in a folder."""
    for path in (ROOT / "core").iterdir():
        if path.name in ("src", "man"):
            shutil.copytree(path, space / path.name, ignore=_MADE)
        elif path.is_file():
            shutil.copy(path, space)
    whole = tomllib.loads((space / "pyproject.toml").read_text("utf-8"))
    project, package_data, twins = (
        whole["project"],
        whole["tool"]["setuptools"]["package-data"],
        whole["tool"]["vmatlas"]["twin"],
    )
    inside = set()
    for folder in (ROOT / "core" / "fleet", *sorted(path.parent for path in ROOT.glob("platforms/*/pyproject.toml"))):
        told = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
        inside.add(told["project"]["name"])
        shutil.copytree(folder / "src", space / "src", ignore=_MADE, dirs_exist_ok=True)
        if (folder / "native").is_dir():
            shutil.copytree(folder / "native", space / folder.name / "native", ignore=_MADE)
        for group, entries in told["project"].get("entry-points", {}).items():
            project["entry-points"].setdefault(group, {}).update(entries)
        package_data.update(told["tool"]["setuptools"]["package-data"])
        project["optional-dependencies"] |= told["project"].get("optional-dependencies", {})
        for twin in told["tool"].get("vmatlas", {}).get("twin", ()):
            twins.append(twin | {"sources": [f"{folder.name}/{source}" for source in twin["sources"]]})
    ours = re.compile(r"vmatlas-[a-z0-9-]+")
    project["dependencies"] = [each for each in project["dependencies"] if not ours.match(each)]
    project["optional-dependencies"] = {
        name: [need for need in needs if (found := ours.match(need)) is None or found[0] not in inside]
        for name, needs in project["optional-dependencies"].items()
    }
    (space / "pyproject.toml").write_text("\n".join(_toml((), whole)) + "\n", "utf-8")


def _toml(place: tuple[str, ...], table: Mapping[str, Any]) -> list[str]:
    """A table as lines. Strings, numbers, lists of both and what holds them: more is in no pyproject.toml of ours."""
    tables = {key: value for key, value in table.items() if isinstance(value, dict)}
    arrays = {
        key: value for key, value in table.items() if isinstance(value, list) and value and isinstance(value[0], dict)
    }
    lines = [f"[{_dotted(place)}]"] if place else []
    lines += [
        f"{_dotted((key,))} = {json.dumps(value)}" for key, value in table.items() if key not in {**tables, **arrays}
    ]
    for key, value in tables.items():
        lines += _toml((*place, key), value)
    for key, many in arrays.items():
        for each in many:
            inner = _toml((*place, key), each)
            lines += [f"[{inner[0]}]", *inner[1:]]
    return lines


def _dotted(place: tuple[str, ...]) -> str:
    return ".".join(json.dumps(each) for each in place)
