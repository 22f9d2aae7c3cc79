"""What the path of a cgroup tells: the unit of systemd, the container, and where its counters are. Pure.

A line of /proc/PID/cgroup is `NUMBER:CONTROLLERS:PATH`, one for each hierarchy that the process is in; cgroup v2 is the
one with the number 0 and no controller (cgroups(7)). Paths are as the one who reads sees them: from the root of its own
cgroup namespace, and with `/..` in front for what lies outside of it (cgroup_namespaces(7)).
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple, TypeAlias

_DELETED = " (deleted)"
"""Behind the path of a cgroup that was removed under a zombie, or (v1) under the one who reads."""


MOST_TOLD = 4095
"""Bytes of a path that the kernel tells (PATH_MAX without its NUL): a longer one it cuts there (6.18), or it tells
nothing of the process (ENAMETOOLONG)."""


class Place(NamedTuple):
    """Where a process is in one hierarchy."""

    controllers: tuple[str, ...]
    """Of v1, or ("name=systemd",); none: cgroup v2."""
    path: str

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the folders on the way."""
        return parts_of(self.path)

    @property
    def is_cut(self) -> bool:
        """Whether the way goes on behind what is told."""
        return len(self.path) * 4 > MOST_TOLD and len(os.fsencode(self.path)) >= MOST_TOLD


def parts_of(path: str) -> tuple[str, ...]:
    """The names of the folders on the way to a cgroup, without what marks one that was removed."""
    return tuple(part for part in path.removesuffix(_DELETED).split("/") if part)


def path_of(parts: Sequence[str]) -> str:
    """The way back."""
    return "/" + "/".join(parts)


def places_of(text: bytes) -> list[Place]:
    """The lines of /proc/PID/cgroup; what is no such line is passed over."""
    lines = [line.split(":", 2) for line in text.decode("utf-8", "surrogateescape").split("\n")]
    return [
        Place(tuple(name for name in line[1].split(",") if name), line[2])
        for line in lines
        if len(line) == 3 and line[2].startswith("/")
    ]


def main_place(places: Sequence[Place]) -> Place | None:
    """That of cgroup v2; where v1 has the controllers, and v2 the root alone: the first that is not a root."""
    unified = next((place for place in places if not place.controllers), None)
    if unified is not None and (unified.parts or len(places) == 1):
        return unified
    return next((place for place in places if place.parts), places[0] if places else None)


def memory_place(places: Sequence[Place]) -> Place | None:
    """That by which memory is charged: of v1 where the controller is mounted there, else of v2."""
    of_memory = next((place for place in places if "memory" in place.controllers), None)
    return of_memory or next((place for place in places if not place.controllers), None)


Match: TypeAlias = Callable[[tuple[str, ...]], int | None]
"""How many folders of a path lead to what is looked for; None where it is not on the way."""


def folder(wanted: str) -> Match:
    """A cgroup by its path; those below it are on the way from it."""
    parts = parts_of(wanted)
    return lambda path: len(parts) if path[: len(parts)] == parts else None


# ---- units of systemd ----

_UNIT = re.compile(r".+\.(?:service|scope|slice|socket|mount|swap)", re.DOTALL)
"""Units that have a cgroup of their name (systemd.unit(5), and systemd's docs/CGROUP_DELEGATION)."""
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


def unit_called(part: str) -> str | None:
    """The unit that a folder is of; None for any other.

    A name that could be taken for a file of the kernel's (`cpu.service`, `_x.service`) has a `_` before it there.
    """
    part = part.removeprefix("_")
    return part if _UNIT.fullmatch(part) else None


def unescaped(name: str) -> str:
    r"""A name without systemd's escapes: `\x2d` is a minus (systemd-escape(1))."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name)


def unit(wanted: str) -> Match:
    """A unit by its name or a pattern, as systemd writes it or without its escapes; the first on the way.

    Without a suffix it is a service, as for systemctl.
    """
    wanted = wanted if _UNIT.fullmatch(wanted) else f"{wanted}.service"

    def match(path: tuple[str, ...]) -> int | None:
        for depth, part in enumerate(path, 1):
            name = unit_called(part)
            if name is not None and any(fits(each, wanted) for each in (name, unescaped(name))):
                return depth
        return None

    return match


def fits(name: str, wanted: str) -> bool:
    """Whether a name is the one that is wanted, or fits the pattern (`*`, `?`, `[...]`), in which case matters."""
    return name == wanted or fnmatchcase(name, wanted)


def unit_of(path: tuple[str, ...]) -> tuple[str, int] | None:
    """The unit that a cgroup belongs to, and the folders to it: the last that is no slice; else the last slice."""
    units = [(name, depth) for depth, part in enumerate(path, 1) if (name := unit_called(part)) is not None]
    own = [each for each in units if not each[0].endswith(".slice")]
    return own[-1] if own else units[-1] if units else None


def unit_in(places: Sequence[Place]) -> str | None:
    """The same of a process: in some hierarchies of v1 it may be no further down than the slice."""
    found = [unit[0] for place in places if (unit := unit_of(place.parts)) is not None]
    return next((name for name in found if not name.endswith(".slice")), found[0] if found else None)


def system_unit_in(places: Sequence[Place]) -> str | None:
    """The unit that systemd itself placed a process in, in all hierarchies that tell one; None where none does, or they
    do not agree."""
    told = {unit for place in places if (unit := system_unit(place.parts)) is not None}
    own = {unit for unit in told if not unit.endswith(".slice")} or told
    return own.pop() if len(own) == 1 else None


def system_unit(path: tuple[str, ...]) -> str | None:
    """The first unit on the way that is no slice, where all above it are slices, each below the one whose name it
    goes on (systemd.slice(5)); else the last slice. What stands below it may be of others' making: systemd hands a
    unit over to a user's manager, to a container (Delegate=).
    """
    above = ""
    for part in path:
        name = unit_called(part)
        if name is None:
            break
        if not name.endswith(".slice"):
            return name
        stem = name.removesuffix(".slice")
        if stem.rpartition("-")[0] != above:
            break
        above = stem
    return f"{above}.slice" if above else None


# ---- containers ----

_ID = r"(?P<id>[0-9a-f]{64})"


class _Shape(NamedTuple):
    """A folder that a container manager makes: how it is called, and below what it stands.

    Folders are judged one by one, for whoever may make cgroups of his own names the whole way as he likes, in 4,000
    bytes: a regular expression over all of it tries one part of the way against another, and takes seconds.
    """

    maker: str
    name: re.Pattern[str]
    directly_below: re.Pattern[str] | None = None
    below: str | None = None
    """Somewhere."""


def _shape(maker: str, name: str, directly_below: str | None = None, below: str | None = None) -> _Shape:
    above = None if directly_below is None else re.compile(directly_below)
    return _Shape(maker, re.compile(name, re.DOTALL), above, below)


_SHAPES = (
    # docker, by systemd: /system.slice/docker-ID.scope; with --cgroup-parent below another slice
    _shape("docker", rf"docker-{_ID}\.scope"),
    # podman, by systemd: /machine.slice/libpod-ID.scope; /libpod_parent/libpod-ID. (libpod-conmon-ID watches it.)
    _shape("podman", rf"libpod-{_ID}(?:\.scope)?"),
    # containerd for Kubernetes: /kubepods.slice/.../kubepods-...-podUID.slice/cri-containerd-ID.scope
    _shape("containerd", rf"cri-containerd-{_ID}\.scope"),
    # containerd that makes cgroups itself, below a kubelet that has systemd make them: the way is taken for a name
    _shape("containerd", rf"[^:]+\.slice:cri-containerd:{_ID}"),
    _shape("containerd", rf"nerdctl-{_ID}\.scope"),
    # CRI-O: .../crio-ID.scope; crio-ID where cgroups are made without systemd. (crio-conmon-ID watches it.)
    _shape("cri-o", rf"crio-{_ID}(?:\.scope)?"),
    # without systemd: /docker/ID, /kubepods/burstable/podUID/ID, /default/ID, /ecs/TASK/ID, /ID
    _shape("docker", _ID, below="docker"),
    _shape("kubernetes", _ID, directly_below=r"pod[0-9a-f_-]+"),
    _shape("", _ID),
    _shape("ecs", r"(?P<id>[0-9a-f]{32}-[0-9]{5,20})", below="ecs"),
    # LXC, LXD, Incus: since 4.0, 3.1, and before; Proxmox /lxc/101. (lxc.monitor.NAME watches it.)
    _shape("lxc", r"lxc\.payload\.(?P<name>.+)"),
    _shape("lxc", r"(?P<name>.+)", directly_below=r"lxc(?:\.payload)?"),
    # systemd-nspawn, and what else systemd-machined knows but virtual machines: see machinectl(1)
    _shape("nspawn", r"systemd-nspawn@(?P<name>.+)\.service"),
    _shape("machined", r"machine-(?!qemu\\x2d|libvirt\\x2d)(?P<name>.+)\.scope"),
)
"""Where two fit the first is right."""

DEEPEST = 128
"""Folders of a way that are looked at: ten times as many as lead into a container in a container."""


class Container(NamedTuple):
    """A container, as the path of a cgroup tells it."""

    maker: str
    """Who made it; empty where the path does not tell."""
    id: str
    """Its number, 64 hexadecimal digits as a rule; the name of one that has no number."""
    depth: int
    """How many folders lead to it."""
    is_named: bool = False
    """It is known by its name alone."""

    @property
    def short(self) -> str:
        """What people know it by: the first 12 digits, as `docker ps` shows them, or the name."""
        return self.id if self.is_named else self.id[:12]


def containers_of(path: tuple[str, ...]) -> tuple[Container, ...]:
    """The containers that a cgroup is in, the outermost first: containers can stand in containers.

    In time that grows with the path. What stands below the first `DEEPEST` folders is not looked at.
    """
    return _containers_of(path[:DEEPEST])


@functools.lru_cache(maxsize=1024)  # the processes of one cgroup have one path
def _containers_of(path: tuple[str, ...]) -> tuple[Container, ...]:
    found: list[Container] = []
    above: set[str] = set()
    parent = ""
    for depth, part in enumerate(path, 1):
        container = _container(part, parent, above, depth)
        if container is None:
            above.add(part)
            parent = part
        else:  # what stands above a container tells nothing of those in it
            found.append(container)
            above.clear()
            parent = ""
    return tuple(found)


def _container(part: str, parent: str, above: set[str], depth: int) -> Container | None:
    for shape in _SHAPES:
        if (shape.below is not None and shape.below not in above) or (
            shape.directly_below is not None and shape.directly_below.fullmatch(parent) is None
        ):
            continue
        if (match := shape.name.fullmatch(part)) is not None:
            named = match.groupdict().get("name")
            return Container(shape.maker, match["id"] if named is None else unescaped(named), depth, bool(named))
    return None


FEWEST_DIGITS = 6
"""Of a container's number: fewer are taken for a name."""

_DIGITS = re.compile(rf"[0-9a-f]{{{FEWEST_DIGITS},64}}")


def is_digits(word: str) -> bool:
    """Whether a word may be a container's number, or its beginning."""
    return _DIGITS.fullmatch(word) is not None


def container(ids: frozenset[str]) -> Match:
    """Any of these containers, by number or name as the path has it; the first on the way."""

    def match(path: tuple[str, ...]) -> int | None:
        return next((each.depth for each in containers_of(path) if each.id in ids), None)

    return match


def container_in(places: Sequence[Place]) -> Container | None:
    """The innermost that a process is in."""
    return next((inside[-1] for place in places if (inside := containers_of(place.parts))), None)


# ---- what counts its memory ----


def counted_in(places: Sequence[Place], what: str) -> str | None:
    """The cgroup that counts the memory of the "cgroup", "unit" or "container" of a process; None: one counts it that
    is of others as well, as where the hierarchy of the memory controller (v1) does not go down so far."""
    place, main = memory_place(places), main_place(places)
    if place is None or main is None:
        return None
    parts = place.parts
    depth: int | None = None
    if what == "cgroup":
        depth = len(parts) if parts == main.parts else None
    elif what == "unit":
        name = unit_in(places)
        depth = next((at for at, part in enumerate(parts, 1) if name is not None and unit_called(part) == name), None)
    elif (inner := container_in(places)) is not None:
        depth = container(frozenset([inner.id]))(parts)
    return None if depth is None else path_of(parts[:depth])
