"""Settings of hypothesis, and plugins installed for one test: real metadata on the path."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

from vmatlas import registry
from vmatlas.conformance.thorough import examples

# No test fails for being slow on a busy machine: speed is for the benchmark.
settings.register_profile(
    "vmatlas", max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("vmatlas")

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install(distribution, group, name, object, module=...)`: what pip would have put there, for one test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    _forget()
    there_already: dict[tuple[str, str, str, str], ModuleType] = {}

    def one(distribution: str, group: str, name: str, found: object, *, module: str | None = None) -> None:
        module = module or f"{distribution.replace('-', '_')}_{name.replace('-', '_')}"
        key = distribution, group, name, module
        if key in there_already and found is not None:  # another object: what is installed is read once
            there_already[key].FOUND = found  # type: ignore[attr-defined]
            registry._load.cache_clear()
            return
        folder = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        folder.mkdir(exist_ok=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        with (folder / "entry_points.txt").open("a") as file:
            file.write(f"[{group}]\n{name} = {module}:FOUND\n")
        if found is not None:
            there = ModuleType(module)
            there.FOUND = found  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, module, there)
            there_already[key] = there
        _forget()

    yield one
    _forget()


def _forget() -> None:
    registry._found.cache_clear()
    registry.entries.cache_clear()
    registry._load.cache_clear()
