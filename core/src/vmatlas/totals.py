"""The memory in use of every process of a target: by the system's own totals, without a map of any.

On this machine a backend that can is asked for many processes in one call, in threads; what it leaves open is asked one
by one, as everywhere else. Nothing waits without a limit: see `survey`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from vmatlas import arguments, registry
from vmatlas.api import Pids, place_of
from vmatlas.backend import (
    LimitsRegions,
    Listing,
    ListsNumbers,
    Target,
    TellsCgroups,
    TellsMembership,
    TellsTotalsOfMany,
    Totals,
    bare,
)
from vmatlas.choice import choose
from vmatlas.errors import NoSuchProcess, Unsupported, UsageError, VmatlasError
from vmatlas.model import MemoryTotal, MemoryUse, ProcessInfo
from vmatlas.patience import Errand
from vmatlas.process import TOTALS, Process
from vmatlas.rounds import Rounds, rounds_of
from vmatlas.survey import (
    MOST_THREADS,
    PATIENCE,
    Chosen,
    Surveyed,
    ask_each,
    ask_one,
    check_identity,
    check_patience,
    check_threads,
    survey,
)
from vmatlas.target.local import LOCAL
from vmatlas.threads import allowed
from vmatlas.values import dataclass

if TYPE_CHECKING:
    from vmatlas.model.cgroup import CgroupMemory
    from vmatlas.selection.resolving import Selected

_AT_ONCE = 128
"""How many processes are asked in one call: what one that does not answer holds up, for a moment."""

GROUPS = ("name", "user", "cgroup", "program", "unit", "container")
"""What processes can be put together by."""


class ProcessMemory(NamedTuple):
    """What one process uses, or why that is not known."""

    process: ProcessInfo
    """Its number at the least; see `memories`."""
    memory: MemoryUse | None
    error: VmatlasError | None
    regions: int | None = None
    """How many it has, where that was asked for and is told."""


def memories(
    target: Target | None = None,
    *,
    backend: str | None = None,
    described: bool = True,
    regions: bool = False,
    threads: int | None = None,
    patience: float = PATIENCE,
    among: Pids | None = None,
) -> Listing[ProcessMemory]:
    """The memory in use of every process that is not the kernel's own, in order of pid; last those that came meanwhile.

    Or of some alone: `among`.

        for each in vmatlas.memories():
            print(each.process.pid, each.process.name, each.memory.proportional if each.memory else each.error)

    On Linux no map is made, but with `regions`, which counts the lines of each. `described`: with the name, parent,
    start time and state of each process; without, with its number alone, which is quicker by a tenth to a fifth. Users
    are told by `vmatlas.processes`. `threads`, `patience`, `among`, `incomplete` of what this gives, what is raised: as
    of `survey`. Processes that are gone before they could be asked are left out (of `among` they have that error),
    those that may not be read are there with the error. Of a number that was used again meanwhile there are two
    processes, or more: whoever adds up takes `each_once` of them, as `group_memories` does.
    """
    check_threads(threads)
    check_patience(patience)
    described, regions = arguments.flag(described, "described"), arguments.flag(regions, "regions")
    if backend is not None:
        registry.backend(backend)
    place = place_of(target)
    chosen = None if among is None else Chosen(place, among, patience)
    if (many := _asks_many(place, backend)) is not None and isinstance(LOCAL.system, ListsNumbers):
        ask = functools.partial(many.totals_of, described=described or chosen is not None, counted=regions)
        able = threads or allowed(MOST_THREADS)
        if chosen is not None:
            return Listing(_of_chosen(ask, chosen, able, regions, patience), None, lambda: chosen.gap)
        rounds = rounds_of(LOCAL.system)
        found = _of_many(ask, LOCAL.system, rounds, able, regions, patience)
        return Listing(found, place, lambda: rounds.gap)
    one = functools.partial(_ask, regions)
    asked = survey(one, target=place, backend=backend, threads=threads, patience=patience, among=among)
    if chosen is not None:
        return Listing(_of_each(asked, with_ended=True), None, lambda: asked.gap)
    return Listing(_of_each(asked), place, lambda: asked.gap)


def each_once(found: Iterable[ProcessMemory]) -> list[ProcessMemory]:
    """Of each number the process that had it last: a sum of these has nobody's memory twice.

    The one before it (another start time) had ended, and what it used was free for the next. Raises UsageError.
    """
    return list({each.process.pid: each for each in _memories_given(found)}.values())


def _of_each(
    asked: Iterator[Surveyed[tuple[MemoryUse, int | None]]], *, with_ended: bool = False
) -> Iterator[ProcessMemory]:
    for each in asked:
        if with_ended or not isinstance(each.error, NoSuchProcess):
            memory, counted = each.answer or (None, None)
            yield ProcessMemory(each.process, memory, each.error, counted)


def _asks_many(place: Target, name: str | None) -> TellsTotalsOfMany | None:
    """The backend that asks many processes in one call, where it is the one to be asked."""
    if place is not LOCAL:
        return None
    try:
        backend: object = choose(place, TOTALS, name).backend
    except Unsupported:
        return None
    return backend if isinstance(backend, TellsTotalsOfMany) else None


def _ask(regions: bool, process: Process) -> tuple[MemoryUse, int | None]:
    return process.memory(), len(process.snapshot()) if regions else None


_Chunk = Sequence[int]


def _of_many(
    ask: Callable[[_Chunk], list[Totals]],
    system: ListsNumbers,
    rounds: Rounds,
    threads: int,
    regions: bool,
    patience: float,
) -> Iterator[ProcessMemory]:
    for pids in rounds:
        for pid, told in _in_chunks(ask, pids, threads, patience):
            info = told.process
            if told.memory is not None:
                yield ProcessMemory(info or bare(pid), told.memory, None, told.regions)
            elif isinstance(told.error, NoSuchProcess) or (info := info or system.described(pid)) is None:
                rounds.ended()
            elif info.kernel:
                continue  # without memory of its own
            elif told.error is not None:
                yield ProcessMemory(info, None, told.error.located(target=LOCAL.name))
            elif isinstance((alone := _alone(info, regions, patience)).error, NoSuchProcess):
                rounds.ended()
            elif alone.memory is None or alone.memory.is_told:
                yield alone


def _in_chunks(
    ask: Callable[[_Chunk], list[Totals]], pids: _Chunk, threads: int, patience: float
) -> Iterator[tuple[int, Totals]]:
    def given_up(chunk: _Chunk, errand: Errand[list[Totals]]) -> list[Totals]:
        """One of them does not answer: each is asked by itself, which finds out who."""
        return [Totals(None, None, None)] * len(chunk)

    def ask_many(chunk: _Chunk) -> list[Totals]:
        try:
            return ask(chunk)
        except MemoryError:
            return [Totals(None, None, None)] * len(chunk)

    chunks = [pids[start : start + _AT_ONCE] for start in range(0, len(pids), _AT_ONCE)]
    for chunk, found in ask_each(ask_many, chunks, threads, patience, given_up):
        yield from zip(chunk, found, strict=True)


def _of_chosen(
    ask: Callable[[_Chunk], list[Totals]], among: Chosen, threads: int, regions: bool, patience: float
) -> Iterator[ProcessMemory]:
    """Those that were chosen before they are asked: whoever has a number of theirs now, the answer is of them."""
    for found in among:
        chosen = {each.pid: each for each in found}
        for pid, told in _in_chunks(ask, list(chosen), threads, patience):
            answer = _of_one(chosen[pid], told, regions, patience)
            if isinstance(answer.error, NoSuchProcess):
                among.ended()
            yield answer


def _of_one(known: ProcessInfo, told: Totals, regions: bool, patience: float) -> ProcessMemory:
    error = told.error
    try:
        check_identity(known, None if told.process is None else told.process.start_time)
    except NoSuchProcess as gone:
        error = gone
    if error is not None:
        return ProcessMemory(known, None, error.located(target=LOCAL.name))
    if told.memory is not None and told.process is not None:
        return ProcessMemory(known, told.memory, None, told.regions)
    return _alone(known, regions, patience)


def _alone(info: ProcessInfo, regions: bool, patience: float) -> ProcessMemory:
    """One process that is asked by itself."""
    answer, error = ask_one(functools.partial(_ask, regions), info, LOCAL, patience)
    memory, counted = answer or (None, None)
    return ProcessMemory(info, memory, error, counted)


@dataclass(frozen=True, slots=True)
class Group:
    """Processes that have something in common, and what they use together."""

    key: str | None
    """What: a name, a user, a cgroup, a program; None where that is not told."""
    pids: tuple[int, ...]
    """Those whose memory is known."""
    total: MemoryTotal
    """`proportional` of it counts nothing twice; `resident` counts shared memory for each."""
    regions: int | None = None
    """Together, where they were counted."""
    cgroups: tuple[CgroupMemory, ...] = ()
    """By "cgroup", "unit" or "container": what the system counts of its memory, all that is below it too."""


def group_memories(found: Iterable[ProcessMemory], by: str, target: Target | None = None) -> list[Group]:
    """Those of which the memory in use is known, put together by one of `GROUPS`: "name", "user", "program", and on
    Linux "cgroup", "unit" (of systemd: the innermost), "container" (the innermost; its name and number, or its number).

    The largest first, by `proportional` (by `resident` where that is not told). Of a number that was used again the
    last process is counted (`each_once`). Raises UsageError for another word, and Unsupported where the target does not
    tell it.
    """
    if not isinstance(by, str) or by not in GROUPS:
        raise UsageError(
            f"{arguments.shown(by)} is nothing to put processes together by", hint=f"there are {', '.join(GROUPS)}"
        )
    place = place_of(target)
    key = _key(by, place)
    groups: dict[str | None, list[ProcessMemory]] = {}
    for each in each_once(found):
        if each.memory is not None:
            groups.setdefault(key(each.process), []).append(each)
    counters = _counters({name: members for name, members in groups.items() if name is not None}, by, place)
    made = [
        Group(
            name,
            tuple(each.process.pid for each in members),
            MemoryTotal.of(each.memory for each in members),
            sum_of([each.regions for each in members]),
            counters.get(name, ()),
        )
        for name, members in groups.items()
    ]
    return sorted(made, key=lambda group: (-weight(group.total.at_least), group.key or ""))


_COUNTED = ("cgroup", "unit", "container")


def _counters(
    groups: Mapping[str, list[ProcessMemory]], by: str, place: Target
) -> dict[str | None, tuple[CgroupMemory, ...]]:
    """Of each group, by its name: asked for together."""
    system: object = LOCAL.system if place is LOCAL and by in _COUNTED else None
    if not isinstance(system, TellsCgroups):
        return {}
    paths = {name: system.cgroups_of([each.process for each in members], by) for name, members in groups.items()}
    told = iter(system.cgroup_memories([path for each_of in paths.values() for path in each_of]))
    return {name: tuple(islice(told, len(each_of))) for name, each_of in paths.items()}


def cgroup_memories(selected: Selected) -> list[CgroupMemory]:
    """What the system itself counts of the cgroups that a selection names (`cgroup:`, `unit:`, `container:`; Linux).

        nginx = vmatlas.select("unit:nginx.service")
        for each in vmatlas.cgroup_memories(nginx):
            print(each.path, each.current, each.kernel, each.unmapped_file, each.untold)

    It counts what was charged to a cgroup, all below it too, and so is no sum of what processes use: see
    `CgroupMemory`. Empty where the selection names none, leaves some out (`!`), or where the memory controller of this
    machine has those processes in a cgroup with others. Raises UsageError.
    """
    from vmatlas.selection.resolving import Selected as Chosen

    if not isinstance(selected, Chosen):
        raise UsageError(f"{arguments.shown(selected)} is no selection", hint="vmatlas.select(...) gives one")
    system: object = LOCAL.system if selected.cgroups else None
    return system.cgroup_memories(selected.cgroups) if isinstance(system, TellsCgroups) else []


def _memories_given(found: Iterable[object]) -> Iterator[ProcessMemory]:
    """Raises UsageError for what is no series of `ProcessMemory`."""
    wrong = UsageError(f"{arguments.shown(found)} is not what memories gives", hint="vmatlas.memories() gives it")
    for each in arguments.iterated(found, wrong):
        if not isinstance(each, ProcessMemory):
            raise wrong
        yield each


def _key(by: str, place: Target) -> Callable[[ProcessInfo], str | None]:
    if by == "name":
        return lambda process: process.known_name
    system: object = LOCAL.system if place is LOCAL else None
    if not isinstance(system, TellsMembership):
        raise Unsupported(f"{place.name} does not tell the {by} of a process", hint="by name it is told everywhere")
    return lambda process: system.belongs_to(process.pid, process.start_time, by)


def weight(use: MemoryUse) -> int:
    """What processes are put in order by."""
    return next((value for value in (use.proportional, use.resident) if value is not None), 0)


def sum_of(numbers: list[int | None]) -> int | None:
    """None where one of them is not told."""
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def most_regions(target: Target | None = None) -> int | None:
    """How many regions the system allows a process (Linux: vm.max_map_count); None where that is not told."""
    system: object = LOCAL.system if target is None or target is LOCAL else None
    return system.most_regions() if isinstance(system, LimitsRegions) else None
