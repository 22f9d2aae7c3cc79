"""Finds the plugins: the backends and systems that installed distributions register. Nothing is found by `import`.

Each entry is looked up when first asked for. A plugin that cannot be loaded is a value with its reason, shown by
`vmatlas doctor`; it does not stop the others. Two plugins of one name are refused.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from vmatlas.backend import Backend, System
from vmatlas.errors import Unsupported, UsageError, VmatlasError

BACKENDS = "vmatlas.backends"
SYSTEMS = "vmatlas.systems"
TARGETS = "vmatlas.targets"


@dataclass(frozen=True, slots=True)
class Broken:
    """A plugin that is installed and cannot be used, and why."""

    name: str
    distribution: str
    reason: str


@functools.cache
def entries(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group, by name. Raises VmatlasError when two distributions register one name."""
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
        known = found.setdefault(entry.name, entry)
        if known.value != entry.value:
            raise VmatlasError(
                f"two distributions register '{entry.name}' under {group}: {_owner(known)} and {_owner(entry)}",
                hint="uninstall one of them",
            )
    return found


def _owner(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.value


@functools.cache
def _load(group: str, name: str) -> Any:
    entry = entries(group)[name]
    try:
        loaded = entry.load()
    except Exception as error:  # a plugin may fail in any way; its reason is kept and shown
        return Broken(name, _owner(entry), f"{type(error).__name__}: {error}")
    if group == BACKENDS and not isinstance(loaded, Backend):
        return Broken(name, _owner(entry), f"{entry.value} is no vmatlas.backend.Backend")
    if group == BACKENDS and loaded.name != name:
        return Broken(name, _owner(entry), f"it is registered as '{name}' and calls itself '{loaded.name}'")
    return loaded


def backends() -> list[Backend | Broken]:
    """Every installed backend, by name."""
    return [_load(BACKENDS, name) for name in entries(BACKENDS)]


def backend(name: str, *, distribution: str | None = None) -> Backend:
    """One backend by its name.

    Raises UsageError when none of that name is installed (naming `distribution`, where it is known, as what to
    install), and Unsupported when it cannot be loaded.
    """
    if name not in entries(BACKENDS):
        known = ", ".join(entries(BACKENDS)) or "none"
        if distribution is not None:
            raise Unsupported(
                f"this needs the backend '{name}', which is not installed", hint=f"pip install {distribution}"
            )
        raise UsageError(f"there is no backend '{name}'", hint=f"installed backends: {known}")
    loaded = _load(BACKENDS, name)
    if isinstance(loaded, Broken):
        raise Unsupported(f"the backend '{name}' of {loaded.distribution} cannot be loaded: {loaded.reason}")
    found: Backend = loaded
    return found


def system(name: str) -> System:
    """What is known of an operating system. Raises Unsupported when no plugin for it is installed."""
    if name not in entries(SYSTEMS):
        raise Unsupported(
            f"no installed plugin knows the system '{name}'", hint=f"known: {', '.join(entries(SYSTEMS)) or 'none'}"
        )
    loaded = _load(SYSTEMS, name)
    if isinstance(loaded, Broken):
        raise Unsupported(f"the plugin {loaded.distribution} for '{name}' cannot be loaded: {loaded.reason}")
    found: System = loaded
    return found
