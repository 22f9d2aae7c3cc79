"""What a process of this machine belongs to: a user, a program, a cgroup, a unit, a container. Read when asked for.

Of a process whose first thread has ended another is asked (`LinuxProcess.living`): who is handed over here is that.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from errno import ENAMETOOLONG, ENOENT, ESRCH
from typing import TypeAlias

from vmatlas.backend import Members, Programs
from vmatlas.errors import NoSuchProcess, UsageError, legible
from vmatlas.model import ProcessInfo
from vmatlas.systems.linux import cgroups
from vmatlas.systems.linux.cgroups import Container, Match, Place
from vmatlas.systems.linux.host import LinuxProcess
from vmatlas.systems.linux.listing import SILENCE, ask_each
from vmatlas.systems.linux.proc import PROC, user_in

_MOST_SHOWN = 8
"""So many of what there is are named to who asked for what there is not."""

_ENDED = (ENOENT, ESRCH)
_SILENT = f"no answer in {SILENCE:g} s"
_TOO_LONG = f"a path has more than the {cgroups.MOST_TOLD:,} bytes that the kernel tells"


def user_of(process: LinuxProcess) -> str | None:
    """Whose rights it has, by name; by number where the user has none here."""
    number = user_in(process.read_file("status"))
    return None if number is None else _name_of(number)


@functools.lru_cache(maxsize=1024)
def _name_of(user: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(user).pw_name
    except (KeyError, OverflowError):
        return str(user)


def program_of(process: LinuxProcess) -> str | None:
    """The path of its program, as the kernel tells it; with " (deleted)" where that has been unlinked."""
    return os.readlink("exe", dir_fd=process.directory)


def program_names(processes: Sequence[ProcessInfo]) -> Programs:
    """See `vmatlas.backend.FindsMembers`. Who did not answer when it was listed is not asked once more."""
    answering = [each for each in processes if each.start_time is not None or not each.name]
    found = ask_each(answering, lambda each: (_program_name(each),))
    told = {each.pid: answer[0] for each, answer in zip(answering, found, strict=True) if answer is not None}
    silent = [each for each in processes if each.pid not in told]
    return Programs(told, _not_told("program", _SILENT, silent) if silent else None)


def _program_name(process: ProcessInfo) -> str | None:
    """The last part of that path, with the mark; None where that is not told (to others, and of the kernel's)."""
    try:
        with _folder_of(process) as folder:
            path = os.readlink(f"{folder}/exe")
    except OSError:
        return None
    return os.path.basename(path)


def cgroup_of(process: LinuxProcess) -> str | None:
    """cgroups(7): the path in cgroup v2; with v1 alone that of the first hierarchy that has it in other than its root.

    As the one who asks sees it: from the root of its own cgroup namespace.
    """
    place = cgroups.main_place(_places(process))
    return None if place is None else place.path


def unit_of(process: LinuxProcess) -> str | None:
    """The unit of systemd that its cgroup is of."""
    return cgroups.unit_in(_places(process))


def container_of(process: LinuxProcess) -> str | None:
    """The container that it is in, the innermost: its name, where that is found, and the number, as people know it."""
    found = cgroups.container_in(_places(process))
    return None if found is None else _called(found)


@functools.lru_cache(maxsize=1024)
def _called(container: Container) -> str:
    names = None if container.is_named else cgroup_names([container]).get(container.id)
    return f"{names[0]} ({container.short})" if names else container.short


MEMBERSHIPS: dict[str, Callable[[LinuxProcess], str | None]] = {
    "user": user_of,
    "program": program_of,
    "cgroup": cgroup_of,
    "unit": unit_of,
    "container": container_of,
}
"""By the word for it."""


def _doubt_of_program(process: LinuxProcess) -> str | None:
    from vmatlas.systems.linux.files import ProcessFiles

    with ProcessFiles(process) as files:
        why = files.program_misnamed()
    return None if why is None else f"its program is none of this path for us: {why}"


def _doubt_of_unit(process: LinuxProcess) -> str | None:
    places = _places(process)
    if cgroups.unit_in(places) == cgroups.system_unit_in(places):
        return None
    place = cgroups.main_place(places)
    path = "" if place is None else f" ({legible(place.path)})"
    return f"its cgroup is no unit where systemd places the system's{path}: whoever may make cgroups may call one so"


DOUBTS: dict[str, Callable[[LinuxProcess], str | None]] = {"program": _doubt_of_program, "unit": _doubt_of_unit}
"""Why what MEMBERSHIPS tells of a process may be of its own making, by the word for it; of the others it cannot be."""


def _places(process: LinuxProcess) -> list[Place]:
    return _whole(cgroups.places_of(process.read_file("cgroup")))


def _whole(places: list[Place]) -> list[Place]:
    """None where the kernel cut one: what it belongs to stands in the rest."""
    return [] if any(place.is_cut for place in places) else places


# ---- who belongs to it ----


def cgroup_names(containers: Sequence[Container]) -> dict[str, tuple[str, ...]]:
    """What containers are called, by their numbers; nothing of those of which no file is found that tells it."""
    from vmatlas.systems.linux.container_names import names_of

    return names_of({each.id for each in containers if not each.is_named})


def members(processes: Sequence[ProcessInfo], what: str, wanted: str, own_folder: Callable[[str], str]) -> Members:
    """See `vmatlas.backend.FindsMembers`. `own_folder`: the cgroup of a folder below where cgroups are mounted."""
    placed: list[tuple[ProcessInfo, list[Place]]] = []
    untold: dict[str, list[ProcessInfo]] = {}
    for each, told in zip(processes, ask_each(processes, _places_or_error), strict=True):
        if isinstance(told, list):
            placed.append((each, told))
        elif told is None:
            untold.setdefault(_SILENT, []).append(each)
        elif told.errno not in _ENDED and each.name:  # of one that is listed by number alone that is said already
            why = _TOO_LONG if told.errno == ENAMETOOLONG else str(told.strerror).lower()
            untold.setdefault(why, []).append(each)
    path = _folder_called(wanted, own_folder) if what == "cgroup" else ""
    seen = [places for _, places in placed]
    called = _called_so(seen) if what == "container" else {}
    judge = cgroups.folder(path) if path else _match(what, wanted, called)

    @functools.cache  # many are in one cgroup, and whoever may make cgroups makes them 1,000 folders deep
    def match(path: str) -> int | None:
        return judge(cgroups.parts_of(path))

    found: list[ProcessInfo] = []
    counted: dict[str, None] = {}
    folders: set[str] = set()
    for process, places in placed:
        if matched := [(place, depth) for place in places if (depth := match(place.path)) is not None]:
            found.append(process)
            place, depth = min(matched, key=lambda each: each[0].controllers)  # of cgroup v2, where it is in that
            folders.add(cgroups.path_of(place.parts[:depth]))
            if (folder := _folder_of_memory(places, match)) is not None:
                counted[folder] = None
        elif any(place.is_cut and (not path or path.startswith(place.path)) for place in places):
            untold.setdefault(_TOO_LONG, []).append(process)
    gaps = [_not_told("cgroup", why, who) for why, who in untold.items()]
    by_number = found and cgroups.is_digits(wanted)
    if not by_number and wanted not in ANY_NAME and (hidden := _names_untold(called)) is not None:
        gaps.append(hidden)
    gap = "; ".join(gaps) or None
    if not found:
        nobody = _nobody(what, wanted, seen, called)
        nobody.incomplete = gap
        raise nobody
    return Members(found, tuple(counted), gap, _of_several(what, wanted, folders))


_PATTERN = frozenset("*?[")


def _of_several(what: str, wanted: str, folders: Iterable[str]) -> tuple[str, ...]:
    """What is to be said where a name or a number, and no pattern, is that of several cgroups."""
    told = sorted(folders)
    if len(told) < 2 or _PATTERN.intersection(wanted):
        return ()
    shown = ", ".join(legible(folder) for folder in told[:_MOST_SHOWN]) + ", ..." * (len(told) > _MOST_SHOWN)
    note = f"'{what}:{wanted}' is {len(told):,} cgroups, and whoever may make one may call it so: {shown}"
    return (note,)


def _not_told(what: str, why: str, who: Sequence[ProcessInfo]) -> str:
    named = ", ".join(f"{each.pid} {legible(each.name)}" for each in who[:_MOST_SHOWN])
    number = f"the {what} of 1 process is" if len(who) == 1 else f"the {what}s of {len(who):,} processes are"
    return f"{number} not told ({named}{', ...' if len(who) > _MOST_SHOWN else ''}): {why}"


def _places_or_error(process: ProcessInfo) -> list[Place] | OSError:
    try:
        return _places_of(process)
    except OSError as error:
        return error


def _places_of(process: ProcessInfo) -> list[Place]:
    """Raises OSError."""
    with _folder_of(process) as folder, open(f"{folder}/cgroup", "rb", buffering=0) as file:
        return cgroups.places_of(file.read())


@contextlib.contextmanager
def _folder_of(process: ProcessInfo) -> Iterator[str]:
    """Where its files are, or those of a thread of it that lives: see `LinuxProcess.living`. Raises OSError.

    By the number alone: who has it now is asked about those that are chosen.
    """
    if not process.lives_on:
        yield f"{PROC}/{process.pid}"
        return
    with contextlib.closing(LinuxProcess(process.pid)) as held:
        yield f"{PROC}/self/fd/{held.living().directory}"


def _folder_called(wanted: str, own_folder: Callable[[str], str]) -> str:
    """Raises UsageError."""
    path = own_folder(wanted)
    if not path.startswith("/"):
        raise UsageError(f"a cgroup is named from the root: cgroup:/{path}", hint="/proc/PID/cgroup tells it")
    return path


_Called: TypeAlias = Mapping[Container, tuple[str, ...] | None]
"""Containers, and what each is called; None where no file is found that tells it."""

ANY_NAME = ("*", "**")
"""Patterns that whatever a container is called fits, known or not."""


def _match(what: str, wanted: str, called: _Called) -> Match:
    """Of containers all that are called so, or whose number it is or begins so: for whoever may make cgroups may call
    one as he likes, and must not take the place of another."""
    if what == "unit":
        return cgroups.unit(wanted)
    return cgroups.container(frozenset(each.id for each, names in called.items() if _is_meant(each, wanted, names)))


def _called_so(seen: Sequence[Sequence[Place]]) -> dict[Container, tuple[str, ...] | None]:
    """The containers that processes are in, and their names, where these are found."""
    containers = _containers(seen)
    names = cgroup_names(containers)
    return {each: () if each.is_named else names.get(each.id) for each in containers}


def _names_untold(called: _Called) -> str | None:
    """Which containers may be meant as well, for nobody tells what they are called, and why; None: there are none."""
    from vmatlas.systems.linux.container_names import closed_folders, where_looked

    nameless = [each.short for each, names in called.items() if names is None]
    if not nameless:
        return None
    number = "1 container is" if len(nameless) == 1 else f"{len(nameless):,} containers are"
    shown = ", ".join(nameless[:_MOST_SHOWN]) + ", ..." * (len(nameless) > _MOST_SHOWN)
    closed = closed_folders()
    why = f"no right to read {', '.join(closed)}" if closed else f"looked for in {where_looked()}"
    by_number = f"by its number one is chosen all the same: container:{nameless[0]}"
    return f"what {number} called is not told ({shown}): {why}; {by_number}"


def _is_meant(container: Container, wanted: str, names: Sequence[str] | None) -> bool:
    if wanted in ANY_NAME or container.id == wanted or any(cgroups.fits(name, wanted) for name in names or ()):
        return True
    if container.is_named:
        return cgroups.fits(container.id, wanted)
    return cgroups.is_digits(wanted) and container.id.startswith(wanted)


def _containers(seen: Sequence[Sequence[Place]]) -> list[Container]:
    paths = {place.path for places in seen for place in places}
    # A name may be another's number.
    found = {(each.id, each.is_named): each for path in paths for each in cgroups.containers_of(cgroups.parts_of(path))}
    return [found[known] for known in sorted(found)]


def _folder_of_memory(places: Sequence[Place], match: Callable[[str], int | None]) -> str | None:
    """Where its memory is charged, up to the folder that matches; None: charged somewhere else."""
    place = cgroups.memory_place(places)
    depth = None if place is None else match(place.path)
    return None if place is None or depth is None else cgroups.path_of(place.parts[:depth])


def _nobody(what: str, wanted: str, seen: Sequence[Sequence[Place]], called: _Called) -> NoSuchProcess:
    if what == "cgroup":
        return NoSuchProcess(f"no process is in the cgroup {wanted}", hint="/proc/PID/cgroup tells where a process is")
    if what == "unit":
        own = {unit for places in seen if (unit := cgroups.unit_in(places)) is not None}
        return NoSuchProcess(f"the unit {wanted} has no process", hint=_there("units with processes", sorted(own)))
    from vmatlas.systems.linux.container_names import where_looked

    told = [" ".join((*(names or ()), each.short)) for each, names in called.items()]
    hint = f"{_there('containers with processes', told)}; names are looked up in {where_looked()}"
    return NoSuchProcess(f"no process is in a container {wanted}", hint=hint)


def _there(what: str, found: Sequence[str]) -> str:
    if not found:
        return f"there are no {what} here"
    return f"{what}: {', '.join(found[:_MOST_SHOWN])}{', ...' if len(found) > _MOST_SHOWN else ''}"


# ---- by which cgroups it is counted ----


def cgroups_of(processes: Sequence[ProcessInfo], what: str) -> Iterator[str]:
    """See `vmatlas.backend.TellsCgroups`."""
    for places in ask_each(processes, _places_or_error):
        # Else it has ended, or its group is "not told".
        if isinstance(places, list) and (path := cgroups.counted_in(_whole(places), what)) is not None:
            yield path
