"""What words that choose processes mean on a target: who that is now, each held by its number and its start time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import ClassVar, overload

from vmatlas.api import HasPid, check_lives, check_same, pid_of, place_of
from vmatlas.arguments import shown
from vmatlas.backend import (
    CLOCK_SLACK,
    FindsMembers,
    HasName,
    KnowsUnlisted,
    ListsBriefly,
    ReadsPidfiles,
    Roll,
    Target,
    TellsStart,
    bare,
    may_be,
)
from vmatlas.errors import AccessDenied, NoSuchProcess, Unsupported, UsageError, VmatlasError, legible
from vmatlas.model import AddressSpace, ProcessInfo
from vmatlas.once import cached_property
from vmatlas.process import Process
from vmatlas.selection.words import SELF, Selection, Word
from vmatlas.systems.posix import read_plain
from vmatlas.target.local import LOCAL

LONGEST_NAME = 15
"""Bytes that Linux keeps of a name (TASK_COMM_LEN)."""

_MOST_TOLD = 8
"""So many numbers are named in a note."""
_MOST_OF_PIDFILE = 4096


_NEVER = -1
"""The start time of who is known to have ended, and to have had a number: no process has it."""


class Selected(Sequence[ProcessInfo]):
    """The processes that were chosen, in order of pid: who they were when they were looked for.

    A `ProcessInfo` has the start time, so what is asked of one of them (`vmatlas.memories(among=)`, `survey(among=)`)
    is never answered by another process that got its number meanwhile. `user` and `number_inside` are told where they
    had to be asked for (`user:`), else by `vmatlas.processes`.
    """

    def __init__(
        self,
        selection: Selection,
        processes: Iterable[ProcessInfo],
        *,
        cgroups: Iterable[str] = (),
        unmatched: Iterable[tuple[str, VmatlasError]] = (),
        notes: Iterable[str] = (),
        incomplete: str | None = None,
        handed: Mapping[int, HasPid] = MappingProxyType({}),
    ) -> None:
        """`handed`: the objects among the words, by their numbers."""
        self.selection = selection
        """The words."""
        self.cgroups = tuple(dict.fromkeys(cgroups))
        """The cgroups that its words name, as far as memory is counted by them: see `vmatlas.cgroup_memories`."""
        self.unmatched = tuple(unmatched)
        """Words that chose nobody while others did, each with the error that tells why."""
        self.notes = tuple(notes)
        """What is doubtful: a pidfile that may be a container's, a name of which the system keeps the beginning alone,
        or that several cgroups have."""
        self.incomplete = incomplete
        """None, or why the system may not have listed every process."""
        self._handed = handed
        self._processes = tuple(sorted(processes, key=lambda each: each.pid))

    @property
    def may_choose_others(self) -> bool:
        """Whether its words may choose others later."""
        return self.selection.may_choose_others

    def chosen_now(self, place: Target) -> list[ProcessInfo]:
        """Whom the same words choose now; nobody, too. Raises what `select` raises else."""
        try:
            return list(_select(self.selection, place, self._handed))
        except NoSuchProcess:
            return []

    def __repr__(self) -> str:
        return f"<Selected by '{self.selection}': {len(self)}>"

    def __len__(self) -> int:
        return len(self._processes)

    @overload
    def __getitem__(self, index: int) -> ProcessInfo: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ProcessInfo, ...]: ...
    def __getitem__(self, index: int | slice) -> ProcessInfo | tuple[ProcessInfo, ...]:
        return self._processes[index]


def select(*words: str | int | HasPid, target: Target | None = None) -> Selected:
    """The processes that words choose, each once, in order of pid.

        for process in vmatlas.select("name:postgres", "!user:root"):
            print(process.pid, process.name)

    | word | chooses |
    |---|---|
    | a number, `pid:1234`, anything with `.pid` | that process |
    | `self`, `all` | the one that asks (elsewhere the agent); every process |
    | `name:postgres`, `name:post*` | by its name, or its program's file's (Linux keeps 15 bytes of a name) |
    | `user:www-data`, `user:33` | whose rights it has |
    | `children:1234` | that process and the tree below it |
    | `cgroup:/system.slice` | a cgroup and those below it |
    | `unit:nginx.service` | a unit of systemd (any suffix but .service must be given; patterns) |
    | `container:web`, `container:4f797c` | by its name (patterns), or at least 6 digits of its number |
    | `pidfile:/run/nginx.pid` | the process whose number a file holds |
    | `!WORD` | leaves those out |

    The process that asks is left out of all but a number, `self`, `all` and the root of `children:`, and nobody else
    is: what stands in one pipeline with it is chosen as others are. A child whose parent has ended belongs to another
    parent (the system gives it one), so it is in no tree of its former one. Numbers and names of other systems are as
    those list them; cgroups, units and containers are told on Linux, of this machine.

    Raises NoSuchProcess where nobody is chosen (its `incomplete` says why that is not sure, where it is not: `hidepid`
    of Linux hides processes, or their names), Unsupported for what the target does not tell, UsageError, TargetLost.
    """
    texts = [word if isinstance(word, str) else SELF if word is None else str(pid_of(word)) for word in words]
    given = zip(texts, words, strict=True)
    handed = {int(text): word for text, word in given if not isinstance(word, (str, int)) and word is not None}
    return _select(Selection.of(*texts), place_of(target), handed)


def known(process: object, place: Target) -> ProcessInfo:
    """Who that is now that a caller hands over; where it has ended, with the number and the start time that it had.

    Raises UsageError for what is no process, and for one that lives on another target.
    """
    if process is None or isinstance(process, str):
        raise UsageError(f"{shown(process)} is no process", hint="vmatlas.select(...) gives those that words choose")
    if isinstance(process, Process) and process.target is not place:
        raise UsageError(f"process {process.pid} lives on {process.target.name}, not on {place.name}")
    number = pid_of(process)  # type: ignore[arg-type]
    assert number is not None
    held = process if isinstance(process, (Process, AddressSpace)) else None
    try:
        found = _Lookup(place)._of_number(number)
    except NoSuchProcess:
        found = bare(number)
    try:
        check_lives(process)  # type: ignore[arg-type]
    except NoSuchProcess:
        return replace(bare(number), start_time=_NEVER)
    if held is None or (found.start_time is not None and may_be(found, held)):
        return found
    return replace(bare(number), start_time=held.start_time)


def _select(selection: Selection, place: Target, handed: Mapping[int, HasPid] = MappingProxyType({})) -> Selected:
    lookup = _Lookup(place, handed)
    found: dict[int, ProcessInfo] = {}
    unmatched: list[tuple[str, VmatlasError]] = []
    for word in selection.chosen:
        try:
            for process in lookup.find(word):
                found.setdefault(process.pid, process)
        except NoSuchProcess as error:
            unmatched.append((str(word), error.located(target=place.name)))
    cgroups = list(lookup.cgroups)
    if not found:  # where one word is not sure of it, all together are not
        errors = [error for _, error in unmatched]
        raise next((each for each in errors if isinstance(each, NoSuchProcess) and each.incomplete), errors[0])
    for word in selection.left_out:
        with contextlib.suppress(NoSuchProcess):
            for process in lookup.find(word):
                found.pop(process.pid, None)
    if not found:
        nobody = NoSuchProcess(f"nobody is left of what '{selection}' chooses", target=place.name)
        raise lookup.unsure(nobody) if selection.may_choose_others else nobody
    return Selected(
        selection,
        found.values(),
        cgroups=() if selection.left_out else cgroups,
        unmatched=unmatched,
        notes=lookup.notes,
        incomplete=lookup.incomplete,
        handed=handed,
    )


class _Lookup:
    """One target, asked for its list once."""

    def __init__(self, place: Target, handed: Mapping[int, HasPid] = MappingProxyType({})) -> None:
        """`handed`: by their numbers, what stands for processes and was handed over: nobody else is meant."""
        self._place = place
        self._handed = handed
        self._unlisted: str | None = None
        self.cgroups: list[str] = []
        self.notes: list[str] = []
        self._nameless: list[int] = []
        self._asks_names = False
        self._unplaced: dict[str, None] = {}

    @property
    def incomplete(self) -> str | None:
        """Why who was looked for may not have been found; None: everybody was shown."""
        named = self._gap_of_names if self._asks_names else None
        return "; ".join(filter(None, (self._unlisted, named, *self._unplaced))) or None

    @property
    def _system(self) -> object:
        return LOCAL.system if self._place is LOCAL else None

    @cached_property
    def _listed(self) -> list[ProcessInfo]:
        place = self._place
        return self._all_of(place.brief() if isinstance(place, ListsBriefly) else place.processes())

    def _all_of(self, listed: Iterator[ProcessInfo]) -> list[ProcessInfo]:
        """A list of everybody, and what it may lack."""
        found = list(listed)
        place = self._place
        unlisted = place.unlisted() if isinstance(place, KnowsUnlisted) else None
        gaps = unlisted, listed.gap if isinstance(listed, Roll) else None
        self._unlisted = "; ".join(gap for gap in gaps if gap) or self._unlisted
        self._nameless = [each.pid for each in found if each.kernel is None and not each.name]
        return found

    def find(self, word: Word) -> list[ProcessInfo]:
        """Whom it chooses. Raises NoSuchProcess for nobody, Unsupported, UsageError."""
        if not word.is_pattern:
            return self._FINDERS[word.key](self, word.value)
        self._asks_names = self._asks_names or not word.excluded
        try:
            found = self._FINDERS[word.key](self, word.value)
            others = [each for each in found if not self._is_asker(each) or self._is_root(word, each)]
            if not others:
                alone = f"'{word}' chooses this command alone, which is left out"
                raise NoSuchProcess(alone, hint="to choose it: self")
        except NoSuchProcess as error:
            raise error if word.key == "children" else self.unsure(error) from None  # the root of a tree is a number
        return others

    def unsure(self, nobody: NoSuchProcess) -> NoSuchProcess:
        """The error for nobody, where some are not shown, or nothing of them is: who is looked for may be of those."""
        if (gap := self.incomplete) is None:
            return nobody
        is_hidden = gap != "; ".join(self._unplaced)
        return NoSuchProcess(
            f"{nobody.message}, as far as can be seen: {gap}",
            incomplete=gap,
            target=nobody.target,
            hint="whoever has more rights sees more (try sudo); vmatlas doctor tells what hides processes"
            if is_hidden
            else nobody.hint,
        )

    @property
    def _gap_of_names(self) -> str | None:
        """What is to be told of processes that are listed by their number alone: no word says what they are like."""
        if not self._nameless:
            return None
        try:
            self._place.open(self._nameless[0]).close()
        except VmatlasError as error:
            reason = f" ({error.message})"
        else:
            reason = ""
        number = len(self._nameless)
        told = "1 process is" if number == 1 else f"{number:,} processes are"
        return f"{told} listed by number alone{reason}"

    @staticmethod
    def _is_root(word: Word, process: ProcessInfo) -> bool:
        return word.key == "children" and word.value in (SELF, str(process.pid))

    # ---- the asker ----

    @cached_property
    def _own(self) -> int:
        if self._place is LOCAL:
            return os.getpid()
        process = self._place.open(None)
        process.close()
        return process.pid

    def _is_asker(self, process: ProcessInfo) -> bool:
        """Whether it is the one that asks: by its number alone, for whoever else shares its group, session, parent or
        name may have chosen to, so as not to be found."""
        return process.pid == self._own

    # ---- one for each key ----

    def _all(self, _: str) -> list[ProcessInfo]:
        if not self._listed:  # whoever asks is one
            raise NoSuchProcess("no process is listed", incomplete="a list without any lacks some")
        return self._listed

    def _self(self, _: str) -> list[ProcessInfo]:
        return [self._of_number(self._own)]

    def _pid(self, value: str) -> list[ProcessInfo]:
        found = self._of_number(_number(value))
        check_same(self._handed.get(found.pid), found)
        return [found]

    def _of_number(self, pid: int) -> ProcessInfo:
        """Raises NoSuchProcess. One that may not be looked at is known by its number alone."""
        place = self._place
        listed = place.brief([pid]) if isinstance(place, ListsBriefly) else iter(self._listed)
        if (found := next((each for each in listed if each.pid == pid), None)) is not None:
            return found
        try:
            process = place.open(pid)
        except AccessDenied:
            return bare(pid)
        name = process.name_now() if isinstance(process, HasName) else None
        process.close()
        return replace(bare(pid), name=name or "", start_time=process.start_time)

    def _name(self, wanted: str) -> list[ProcessInfo]:
        system = self._system
        programs: Mapping[int, str | None] | None = None
        if isinstance(system, FindsMembers):
            asked = [each for each in self._listed if not each.kernel]
            others = [
                each for each in asked if not _fits(each.name, wanted) or len(os.fsencode(each.name)) == LONGEST_NAME
            ]
            programs, gap = system.program_names(others)
            self._unplaced |= {gap: None} if gap else {}
        if cut := [each for each in self._listed if _may_go_on_as(each, wanted, programs)]:
            told = ", ".join(f"{each.pid} {legible(each.name)}" for each in cut[:_MOST_TOLD])
            more = ", ..." * (len(cut) > _MOST_TOLD)
            self._unplaced[
                f"of these processes {LONGEST_NAME} bytes of the name are kept and the program may not be looked at: "
                f"whether 'name:{wanted}' chooses them is not told: {told}{more}"
            ] = None
        fits = [(each, _is_called(each, wanted, programs)) for each in self._listed]
        found = [each for each, fit in fits if fit is not False]
        whole = [each for each in found if not _is_cut(each, wanted, programs)]
        found = whole or found  # what lists show of a longer name chooses it where nobody is really called so
        if cut := [each for each, fit in fits if fit is None]:
            told = ", ".join(str(each.pid) for each in cut[:_MOST_TOLD]) + ", ..." * (len(cut) > _MOST_TOLD)
            self.notes.append(
                f"by 'name:{wanted}' chosen for the {LONGEST_NAME} bytes that the system keeps of a name "
                f"({cut[0].name}), which may be another's: {told}"
            )
        if not found:
            inside = sum(wanted in each.name for each in self._listed)
            hint = f"'name:*{wanted}*' chooses {inside}" if inside else "vmatlas processes lists the names"
            raise NoSuchProcess(f"no process is called {wanted}", hint=hint)
        return found

    def _user(self, wanted: str) -> list[ProcessInfo]:
        number = self._number_of_user(wanted)
        listed = self._all_of(self._place.processes())
        if all(each.user is None for each in listed):
            raise self._untold("user")
        silent = [each for each in listed if each.user is None and each.name and not each.kernel]
        if silent and (silent := list(self._still(silent))):  # most often it has ended on the way
            who = ", ".join(f"{each.pid} {legible(each.name)}" for each in silent[:_MOST_TOLD])
            more = ", ..." * (len(silent) > _MOST_TOLD)
            self._unplaced[f"whose rights these processes have is not told: {who}{more}"] = None
        found = [each for each in listed if each.user == number]
        if not found:
            raise NoSuchProcess(f"no process has the rights of user {wanted}")
        return found

    def _number_of_user(self, wanted: str) -> int:
        if wanted.isascii() and wanted.isdigit() and len(wanted) <= LONGEST_NAME:
            return int(wanted)
        if self._place is not LOCAL:
            raise UsageError("a user of another machine is named by number there", hint="user:33")
        import pwd

        try:
            return pwd.getpwnam(wanted).pw_uid
        except (KeyError, ValueError):
            raise UsageError(f"there is no user {wanted}", hint="user:NAME or user:NUMBER") from None

    def _children(self, wanted: str) -> list[ProcessInfo]:
        root = self._own if wanted == SELF else _number(wanted)
        listed = self._listed
        found = {each.pid: each for each in listed if each.pid == root} or {root: self._of_number(root)}
        below: dict[int, list[ProcessInfo]] = {}
        for each in listed:
            if each.parent is not None:
                below.setdefault(each.parent, []).append(each)
        if not below:
            raise self._untold("parent")
        upcoming = [root]
        while upcoming:
            for each in below.get(upcoming.pop(), ()):
                if each.pid not in found:
                    found[each.pid] = each
                    upcoming.append(each.pid)
        return list(found.values())

    def _members(self, what: str, wanted: str) -> list[ProcessInfo]:
        system = self._system
        if not isinstance(system, FindsMembers):
            raise self._untold(what)
        try:
            members = system.members(self._listed, what, wanted)
        except NoSuchProcess as nobody:
            self._unplaced |= {nobody.incomplete: None} if nobody.incomplete else {}
            raise
        self._unplaced |= {members.gap: None} if members.gap else {}
        self.notes += members.notes
        found = list(self._still(members.processes))
        if not found:
            raise NoSuchProcess(f"all processes of {what}:{wanted} have ended meanwhile")
        self.cgroups += members.cgroups
        return found

    def _still(self, processes: list[ProcessInfo]) -> Iterator[ProcessInfo]:
        """Those that are still who they were when they were listed: what they belong to was asked by number."""
        place = self._place
        if not isinstance(place, ListsBriefly):
            return iter(processes)
        now = {each.pid: each for each in place.brief([each.pid for each in processes])}
        return (each for each in processes if each.pid in now and may_be(each, now[each.pid]))

    def _pidfile(self, path: str) -> list[ProcessInfo]:
        if self._place is not LOCAL:
            raise Unsupported("a pidfile is read on this machine only", hint="on another one give the number")
        number, written = _read_pidfile(path)
        system = self._system
        if isinstance(system, ReadsPidfiles):
            number, doubt = system.number_meant(path, number)
            self.notes += [doubt] if doubt else []
        try:
            process = self._of_number(number)
        except NoSuchProcess as error:
            raise NoSuchProcess(f"{path} is stale: {error.message}", pid=number, hint=error.hint) from None
        if process.state == "Z" and not process.lives_on:
            raise NoSuchProcess(f"{path} is stale: process {number} ({process.name}) is a zombie", pid=number)
        start = process.start_time
        started = system.started(start) if isinstance(system, TellsStart) and start is not None else None
        if started is not None and started > written + CLOCK_SLACK:  # of no use: who wrote it knew another
            raise NoSuchProcess(
                f"{path} is stale: process {number} ({legible(process.name)}) started after it was last written",
                pid=number,
                hint=f"if it is meant all the same (the clock was set meanwhile, say): pid:{number}",
            )
        return [process]

    def _untold(self, what: str) -> Unsupported:
        hint = "everywhere a process is chosen by its number, 'all' and name:"
        return Unsupported(f"{self._place.name} does not tell the {what} of a process", hint=hint)

    _FINDERS: ClassVar[dict[str, Callable[[_Lookup, str], list[ProcessInfo]]]] = {
        "all": _all,
        "self": _self,
        "pid": _pid,
        "name": _name,
        "user": _user,
        "children": _children,
        "pidfile": _pidfile,
        "cgroup": lambda self, wanted: self._members("cgroup", wanted),
        "unit": lambda self, wanted: self._members("unit", wanted),
        "container": lambda self, wanted: self._members("container", wanted),
    }


_DELETED = " (deleted)"
"""What Linux adds to the path of a program that was unlinked; a file may be really called so."""


def _is_called(process: ProcessInfo, wanted: str, programs: Mapping[int, str | None] | None) -> bool | None:
    """By its name, or the name of its program's file, which is longer and does not change.

    None: it may be, for all that was kept of its name is the beginning of what is asked for. A script is called as its
    file, and its program is what runs it: so that does not tell more.
    """
    if _fits(process.name, wanted):
        return True
    if programs is None or process.kernel:
        return False
    own = programs.get(process.pid)
    if own is not None and (_fits(own, wanted) or _fits(own.removesuffix(_DELETED), wanted)):
        return True
    kept, asked = os.fsencode(process.name), os.fsencode(wanted)
    is_cut = len(kept) == LONGEST_NAME < len(asked) and asked.startswith(kept)
    return None if is_cut and (own is None or not own.startswith(process.name)) else False


def _is_cut(process: ProcessInfo, wanted: str, programs: Mapping[int, str | None] | None) -> bool:
    """Whether it fits by what was kept of its name alone: the name of its program goes on, and does not fit."""
    own = None if programs is None or process.kernel else programs.get(process.pid)
    if own is None or len(os.fsencode(process.name)) != LONGEST_NAME:
        return False
    program = own.removesuffix(_DELETED)
    return len(program) > len(process.name) and program.startswith(process.name) and not _fits(program, wanted)


def _may_go_on_as(process: ProcessInfo, wanted: str, programs: Mapping[int, str | None] | None) -> bool:
    """Whether a pattern fits some name that begins with what was kept of this one, of which more is not told."""
    if programs is None or process.kernel or programs.get(process.pid) is not None or not _is_pattern(wanted):
        return False
    if len(os.fsencode(process.name)) < LONGEST_NAME or _fits(process.name, wanted):
        return False
    return any(fnmatchcase(process.name, wanted[:end]) for end in range(1, len(wanted)))


def _is_pattern(wanted: str) -> bool:
    return any(each in wanted for each in "*?[")


def _fits(name: str, wanted: str) -> bool:
    return bool(name) and (name == wanted or fnmatchcase(name, wanted))


def _number(digits: str) -> int:
    """A process's. Raises UsageError for one that none can have."""
    number = pid_of(int(digits))
    assert number is not None
    return number


def _read_pidfile(path: str) -> tuple[int, float]:
    """The number, and when the file was written. Raises UsageError, AccessDenied, NoSuchProcess."""
    try:
        text, written = read_plain(path, _MOST_OF_PIDFILE)
    except FileNotFoundError:
        raise NoSuchProcess(f"there is no pidfile {path}", hint="who writes one removes it as it ends") from None
    except PermissionError:
        raise AccessDenied(f"no right to read the pidfile {path}", hint="try sudo") from None
    except OSError as error:
        raise UsageError(f"the pidfile {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{path} is no file, so no pidfile") from None
    words = text.split()
    # Some write more below it (postmaster.pid), and on the first line there is the number alone.
    if not words or not (words[0].isdigit() and len(words[0]) <= 10 and 0 < int(words[0]) < 2**31):
        raise UsageError(f"{path} does not begin with the number of a process, so it is no pidfile")
    return int(words[0]), written
