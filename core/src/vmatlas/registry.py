"""Finds the plugins: the backends and systems that installed distributions register. Nothing is found by `import`.

Each entry is looked up when first asked for. A plugin that cannot be loaded is a value with its reason, shown by
`vmatlas doctor`; it does not stop the others. Two plugins of one name are refused.
"""

from __future__ import annotations

import functools

from vmatlas.arguments import shown
from vmatlas.backend import Backend, PageSource, System
from vmatlas.errors import Unsupported, UsageError, VmatlasError
from vmatlas.installed import Entry, companions, entry_points, how_to_install, how_to_install_for
from vmatlas.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BACKENDS = "vmatlas.backends"
PAGES = "vmatlas.pages"
SYSTEMS = "vmatlas.systems"
TARGETS = "vmatlas.targets"
OPERATIONS = "vmatlas.operations"
COMMANDS = "vmatlas.commands"

_OF_EVERY_QUESTION = BACKENDS, SYSTEMS
"""What each question about a live process takes: both are found in one look at what is installed."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A plugin that is installed and cannot be used, and why."""

    name: str
    distribution: str
    reason: str


@functools.cache
def entries(group: str) -> dict[str, Entry]:
    """The entry points of a group, by name.

    Raises VmatlasError when two distributions register one name, and when it cannot be found out what is installed (no
    descriptor is left, say); that is not remembered.
    """
    found: dict[str, Entry] = {}
    try:
        there = _found(_OF_EVERY_QUESTION if group in _OF_EVERY_QUESTION else (group,))[group]
    except OSError as error:
        raise VmatlasError(
            f"cannot look for the installed plugins of {group}: {error}",
            hint="this is no answer about what is installed: free what is missing (descriptors: ulimit -n), ask again",
        ) from error
    for entry in there:
        known = found.setdefault(entry.name, entry)
        if known.value != entry.value:
            raise VmatlasError(
                f"two distributions register '{entry.name}' under {group}: "
                f"{known.distribution} and {entry.distribution}",
                hint="uninstall one of them",
            )
    return found


@functools.cache
def _found(groups: tuple[str, ...]) -> dict[str, list[Entry]]:
    return entry_points(groups)


def _known(group: str, name: str) -> Any:
    try:
        return _load(group, name)
    except OSError as error:  # of the moment, maybe (EMFILE): tried anew when it is asked for again
        return Broken(name, entries(group)[name].distribution, f"{type(error).__name__}: {error}")


@functools.cache
def _load(group: str, name: str) -> Any:
    """The plugin, or Broken. Raises OSError."""
    entry = entries(group)[name]
    try:
        loaded = entry.load()
    except OSError:
        raise
    except Exception as error:  # a plugin may fail in any way; its reason is kept and shown
        return Broken(name, entry.distribution, f"{type(error).__name__}: {error}")
    if group == BACKENDS and not _is_backend(loaded):
        return Broken(name, entry.distribution, f"{entry.value} is no vmatlas.backend.Backend")
    if group == PAGES and not isinstance(loaded, PageSource):
        return Broken(name, entry.distribution, f"{entry.value} is no vmatlas.backend.PageSource")
    if group == BACKENDS and _namesake(name) in entries(SYSTEMS) and loaded.system != _namesake(name):
        return Broken(name, entry.distribution, f"it is named after {_namesake(name)} and asks {loaded.system}")
    if group in (BACKENDS, PAGES) and loaded.name != name:
        return Broken(name, entry.distribution, f"it is registered as '{name}' and calls itself '{loaded.name}'")
    return loaded


_MEMBERS = [name for name in (*Backend.__annotations__, *vars(Backend)) if not name.startswith("_")]


def _is_backend(loaded: object) -> bool:
    """As isinstance, which would ask each for the value of all it has (Python 3.11: the flags of every system)."""
    kind = type(loaded)
    return all(hasattr(kind, name) or hasattr(loaded, name) for name in _MEMBERS)


def backends(system: str | None = None) -> list[Backend | Broken]:
    """Every installed backend, by name. With `system`, without those that are named after another ("qnx-mapinfo"),
    which are not loaded for that.
    """
    others = entries(SYSTEMS).keys() - {system} if system is not None else frozenset()
    return [_known(BACKENDS, name) for name in entries(BACKENDS) if _namesake(name) not in others]


def _namesake(name: str) -> str:
    """The system after which a backend is named, if it is named after one."""
    return name.partition("-")[0]


def page_sources() -> list[PageSource | Broken]:
    """Every installed way to ask about pages, by name."""
    return [_known(PAGES, name) for name in entries(PAGES)]


def page_source_of(stream: str, system: str) -> PageSource:
    """What gave a stream of a capture that was made on a machine of that system. Raises Unsupported."""
    for source in page_sources():
        if not isinstance(source, Broken) and (source.stream, source.system) == (stream, system):
            return source
    raise Unsupported(
        f"nothing installed reads '{stream}', which the capture has beside its map",
        hint=how_to_install_for(system) if system in entries(SYSTEMS) else None,
    )


def broken(group: str) -> list[Broken]:
    """The entries of a group that cannot be loaded, by name. Raises VmatlasError when two register one name."""
    loaded = (_known(group, name) for name in entries(group))
    return [each for each in loaded if isinstance(each, Broken)]


def backend(name: str, *, distribution: str | None = None) -> Backend:
    """One backend by its name.

    Raises UsageError for an unknown name, and Unsupported when it cannot be loaded, or is not installed while a capture
    claims that `distribution` holds it.
    """
    if not isinstance(name, str):
        raise UsageError(f"{shown(name)} is no name of a backend", hint=f"give one of: {', '.join(entries(BACKENDS))}")
    if name not in entries(BACKENDS):
        known = ", ".join(entries(BACKENDS)) or "none"
        if distribution is not None:
            hint = (
                how_to_install(distribution)
                if distribution in companions()
                else f"the file claims that the distribution '{distribution}' holds it, which vmatlas does not know: "
                "find out whose that is before you install it"
            )
            raise Unsupported(f"this needs the backend '{name}', which is not installed", hint=hint)
        raise UsageError(f"there is no backend '{name}'", hint=f"installed backends: {known}")
    loaded = _known(BACKENDS, name)
    if isinstance(loaded, Broken):
        raise Unsupported(f"the backend '{name}' of {loaded.distribution} cannot be loaded: {loaded.reason}")
    found: Backend = loaded
    return found


def system(name: str) -> System:
    """What is known of an operating system. Raises Unsupported when no plugin for it is installed."""
    if name not in entries(SYSTEMS):
        raise Unsupported(
            f"no installed plugin knows the system '{name}'",
            hint=how_to_install_for(name) or f"known: {', '.join(entries(SYSTEMS)) or 'none'}",
        )
    found: System = plugin(SYSTEMS, name)
    return found


def plugin(group: str, name: str) -> Any:
    """What is registered under a name that the group has. Raises Unsupported when it cannot be loaded."""
    loaded = _known(group, name)
    if isinstance(loaded, Broken):
        raise Unsupported(f"the plugin {loaded.distribution} for '{name}' cannot be loaded: {loaded.reason}")
    return loaded
