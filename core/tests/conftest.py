"""Installs plugins for a test: real metadata on the path, found by the registry's own ways."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from vmatlas import registry

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install(distribution, group, name, object, module=...)`: what pip would have put there, for one test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    _forget()

    def one(distribution: str, group: str, name: str, found: object, *, module: str | None = None) -> None:
        module = module or f"{distribution.replace('-', '_')}_{name.replace('-', '_')}"
        folder = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        folder.mkdir(exist_ok=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        with (folder / "entry_points.txt").open("a") as file:
            file.write(f"[{group}]\n{name} = {module}:FOUND\n")
        if found is not None:
            there = ModuleType(module)
            there.FOUND = found  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, module, there)
        _forget()

    yield one
    _forget()


def _forget() -> None:
    registry.entries.cache_clear()
    registry._load.cache_clear()
