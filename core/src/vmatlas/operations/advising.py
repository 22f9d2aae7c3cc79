"""Advice to a process: any number of ranges, in batches, with what the kernel says of each.

The process is the one that was meant: its start time is compared after the kernel's handle on it was taken. The result
is as exact as the kernel's answers: what it does not tell is said to be unknown.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

from vmatlas.errors import NoSuchProcess, NotStarted, OperationFailed, Unsupported, UsageError, VmatlasError
from vmatlas.model import AddressSpace
from vmatlas.operations.checks import Range, check_ranges
from vmatlas.operations.contract import Ability, Operations
from vmatlas.operations.refusals import OF_GUARDS, cause_in_map
from vmatlas.operations.systems import operations_of
from vmatlas.operations.values import Advice, Advised
from vmatlas.process import Process
from vmatlas.target.agent import AgentTarget
from vmatlas.target.asking import AgentRefused
from vmatlas.target.local import LocalTarget
from vmatlas.target.wire import Operation, pack, read_result

MOST = 1024
"""Ranges that one call takes (UIO_MAXIOV)."""

_HEAD, _OF_A_RANGE = 24, 16
"""Bytes of a request to an agent."""

LARGEST = 0x7FFF_F000 // 2**20 * 2**20
"""Bytes that one call takes: it silently cuts what is above 2 GiB less a page (MAX_RW_COUNT; seen on Linux 6.18)."""

_AFTER_REFUSAL = 4
"""Ranges that are handed over behind one that was refused."""

_PIECE = 2**30
"""A larger range is handed over in pieces cut at such addresses, where huge pages of every size begin."""

Ask: TypeAlias = Callable[[Sequence[tuple[int, int]]], int]
"""Advises (address, size) ranges by one call: the bytes of those completed. Raises OperationFailed."""


def pieces(ranges: Iterable[Range]) -> Iterator[tuple[int, int]]:
    """(address, size), none larger than a gigabyte."""
    for start, end in ranges:
        while start < end:
            stop = min(end, (start // _PIECE + 1) * _PIECE)
            yield start, stop - start
            start = stop


def batches(ranges: Iterable[Range], most: int = MOST, largest: int = LARGEST) -> Iterator[list[tuple[int, int]]]:
    """(address, size) in the order given, as many at a time as one call takes."""
    batch: list[tuple[int, int]] = []
    total = 0
    for address, size in pieces(ranges):
        if batch and (len(batch) == most or total + size > largest):
            yield batch
            batch, total = [], 0
        batch.append((address, size))
        total += size
    if batch:
        yield batch


def go_through(
    ask: Ask, ranges: Iterable[Range], most: int = MOST
) -> tuple[int, tuple[int, int] | None, OperationFailed | None]:
    """Ask for all, at most so many at a time: bytes done, and the (address, size) at which it stopped and why.

    A call tells how many bytes of whole ranges it did, and why not more only when the first one failed. So the one that
    stopped a call is asked for once more, alone, for its reason.
    """
    done = 0
    upcoming = batches(ranges, most)  # one by one: a board may tell of regions without an end
    waiting: deque[list[tuple[int, int]]] = deque()
    while batch := waiting.popleft() if waiting else next(upcoming, []):
        try:
            value = ask(batch)
        except NotStarted:
            raise  # of no range
        except OperationFailed as failure:
            if failure.errno_name == "EFAULT" and len(batch) > 1:
                # Linux refuses the whole vector, before it does anything, for one address above the process's own
                # memory (seen on 6.18): halves find it, and what stands before it is done.
                waiting.extendleft((batch[len(batch) // 2 :], batch[: len(batch) // 2]))
                continue
            return done, batch[0], failure
        count, completed = 0, 0
        while count < len(batch) and completed + batch[count][1] <= value:
            completed += batch[count][1]
            count += 1
        done += completed
        if count == len(batch):
            continue
        try:
            value = ask(batch[count : count + 1])
        except NotStarted:
            raise
        except OperationFailed as failure:
            return done, batch[count], failure
        if value != batch[count][1]:
            return done, batch[count], OperationFailed("the kernel completed a part of it and does not say why not all")
        done += value  # the trouble was over
        if batch[count + 1 :]:
            waiting.appendleft(batch[count + 1 :])
    return done, None, None


def going_on(advise: Callable[[list[Range]], Advised], ranges: list[Range], *, go_on: bool) -> Advised:
    """Advise ranges; with `go_on` also those behind one that was refused.

    What is refused to all (rights, a process that is gone, an advice that the kernel has not) ends it: it is raised.
    After a refusal few are handed over at a time, and more as long as all goes well: each may be refused.
    """
    if not go_on:
        return advise(ranges)
    first: Advised | None = None
    done, refused = 0, []
    at, size = 0, MOST
    cut: list[Range] = []  # what is left of one of which a piece was refused
    while True:
        some = cut + ranges[at : at + size]
        told = advise(some)
        done += told.advised
        if told.stopped_at is None:
            at, cut, size = at + size, [], min(4 * size, MOST)
        else:
            first = first or told
            refused.append(told.stopped_at)
            behind, left = _behind(some, told.stopped_at)
            at, cut, size = at + behind - len(cut), left, _AFTER_REFUSAL
        if at >= len(ranges) and not cut:
            asked = sum(end - start for start, end in ranges)
            return replace(
                first or told, ranges=len(ranges), asked=asked, advised=done, stopped_at=None, refused=tuple(refused)
            )


def _behind(ranges: list[Range], stopped: Range) -> tuple[int, list[Range]]:
    """How many ranges it came to, up to the one that was refused, or a piece of it; and what is left of that."""
    at = next(number for number, (start, end) in enumerate(ranges) if start <= stopped[0] < end)
    return at + 1, [(stopped[1], ranges[at][1])] if stopped[1] < ranges[at][1] else []


class Adviser:
    """Advises one process of one target."""

    def __init__(self, process: Process, advice: Advice, start_time: int | None) -> None:
        """Raises Unsupported when that system cannot advise other processes, or has no such advice."""
        self._process = process
        self._advice = advice
        self._start_time = start_time
        self._has_told = False
        target = process.target
        system = target.system_info.system
        self._operations: Operations = operations_of(system)
        if Ability.ADVISE_PROCESS not in self._operations.abilities:
            raise Unsupported(
                f"advice to another process: {self._operations.lacks(Ability.ADVISE_PROCESS)}", target=target.name
            )
        number = self._operations.advice_number(advice)
        if number is None:
            raise Unsupported(f"{system} has no advice '{advice.value}'", target=target.name)
        self._number = number

    def ask(self, ranges: Sequence[tuple[int, int]]) -> int:
        """One call."""
        target, pid = self._process.target, self._process.pid
        if isinstance(target, LocalTarget):
            return self._operations.advise_process(pid, self._start_time, ranges, self._number)
        if not isinstance(target, AgentTarget):
            raise Unsupported(f"the target '{target.name}' cannot advise processes", target=target.name)
        payload = pack("IQIII", pid, self._start_time or 0, self._number, 0, len(ranges))
        payload += b"".join(pack("QQ", address, size) for address, size in ranges)
        # It reads files, and may wait for one for ever: somebody there asks who can be left behind.
        apart = target.patiently(target.agent.talk.limits.silence) if self._advice is Advice.WILLNEED else None
        try:
            with apart or contextlib.nullcontext(target) as asked:
                result = read_result(asked.asker.ask(Operation.ADVISE_PROCESS, payload).payload)
        except AgentRefused as refused:
            if refused.by_kernel or refused.errno_name not in ("ENOSYS", "ENOTSUP"):
                raise
            raise Unsupported(f"the agent on {target.name} cannot advise processes", target=target.name) from None
        if not result.ok:
            raise OperationFailed(
                f"process_madvise: {result.errno_name}", errno=result.errno, errno_name=result.errno_name
            )
        return result.value

    def _most(self) -> int:
        """Ranges of one call: as many as an agent's line can hold."""
        target = self._process.target
        if not isinstance(target, AgentTarget):
            return MOST
        return min(MOST, (target.agent.hello.max_payload - _HEAD) // _OF_A_RANGE)

    def probe(self) -> None:
        """Whether the kernel would take the advice from us. Raises what its refusal means."""
        if (refusal := self._refusal()) is not None:
            raise self._meaning(refusal, any_range=True) or refusal

    def _refusal(self) -> OperationFailed | None:
        """Why the kernel does not take the advice from us at all, asked with no ranges; None: it does."""
        try:
            self.ask([])
        except OperationFailed as refusal:
            return refusal
        return None

    def advise(self, ranges: Sequence[Range]) -> Advised:
        """Raises AccessDenied, NoSuchProcess, Unsupported."""
        asked = sum(end - start for start, end in ranges)
        target = self._process.target
        with target.agent.talk.question() if isinstance(target, AgentTarget) else contextlib.nullcontext():
            done, stopped, failure = go_through(self.ask, ranges, self._most())
        if stopped is None or failure is None:
            return Advised(self._advice, self._process.pid, len(ranges), asked, done)
        # EINVAL, above all: of the advice, or of this range?
        refusal = self._refusal() if done == 0 and failure.errno_name else None
        always = refusal is not None and refusal.errno_name == failure.errno_name
        if (meaning := self._meaning(failure, any_range=always)) is not None:
            raise meaning
        start, end = stopped[0], stopped[0] + stopped[1]
        return Advised(
            self._advice,
            self._process.pid,
            len(ranges),
            asked,
            done,
            stopped_at=(start, end),
            failure=self._told(failure, start, end),
        )

    def _meaning(self, refusal: OperationFailed, *, any_range: bool) -> VmatlasError | None:
        told = self._operations.advice_refused(refusal, self._process.pid, self._advice, any_range=any_range)
        if isinstance(told, NoSuchProcess) and self._has_memory():
            told = Unsupported(
                f"the first thread of process {self._process.pid} has ended; the kernel takes advice only through it"
            )
        return None if told is None else told.located(pid=self._process.pid, target=self._process.target.name)

    def _has_memory(self) -> bool:
        """Whether its map can be read all the same: through its other threads."""
        try:
            return len(self._process.snapshot()) > 0
        except VmatlasError:
            return False

    def _told(self, failure: OperationFailed, start: int, end: int) -> OperationFailed:
        """The story of the first refusal: it takes a reading of the map. Of others the kernel's word is enough: a
        process may have a refusal in every second page."""
        where = f"{start:#x}-{end:#x}"
        why = self._operations.range_refused(failure, self._advice) if failure.errno_name else failure.message
        hint = None
        asks_map, self._has_told = not self._has_told, True
        if asks_map and failure.errno_name != "ENOMEM":
            cause = cause_in_map(
                lambda: self._process.snapshot(residency=True),
                start,
                end,
                failure.errno_name,
                page=self._process.target.system_info.page_size,
                guards=OF_GUARDS.get(self._advice),
            )
            why = why if cause is None else f"{cause} ({failure.errno_name})"
        if asks_map and failure.errno_name == "ENOMEM" and (hole := self._first_hole(start, end)) is not None:
            why = f"nothing is mapped at {hole:#x} ({failure.errno_name})"
            hint = "ask with the regions of a new reading of the map; pages on both sides of the hole may be advised"
        return OperationFailed(
            f"advice '{self._advice.value}' stopped at {where}: {why}",
            errno=failure.errno,
            errno_name=failure.errno_name,
            pid=self._process.pid,
            target=self._process.target.name,
            hint=hint,
        )

    def _first_hole(self, start: int, end: int) -> int | None:
        """By a reading made after the refusal; None when there is none, or the map cannot be read."""
        try:
            space = self._process.snapshot()
        except VmatlasError:
            return None
        return first_hole(space, start, end)


def first_hole(space: AddressSpace, start: int, end: int) -> int | None:
    """The first address of a range that no region covers."""
    at = start
    while at < end:
        region = space.find(at)
        if region is None:
            return at
        at = region.end
    return None


def advise_other(
    process: Process, regions: Iterable[object], advice: Advice, *, dry_run: bool = False, go_on: bool = False
) -> Advised:
    """Advise a process that is not this one; see `vmatlas.operations.advise`."""
    start_time = process.start_time
    if isinstance(regions, AddressSpace):
        check_same(process, regions)
        start_time = regions.start_time if regions.start_time is not None else start_time
    info = process.target.system_info
    ranges = check_ranges(regions, page=info.page_size, bits=info.pointer_width)
    adviser = Adviser(process, advice, start_time)
    if dry_run:
        adviser.probe()
        asked = sum(end - start for start, end in ranges)
        return Advised(advice, process.pid, len(ranges), asked, 0, dry_run=True)
    if not ranges:
        return Advised(advice, process.pid, 0, 0, 0)
    return going_on(adviser.advise, ranges, go_on=go_on)


def check_same(process: Process, space: AddressSpace) -> None:
    """Raises UsageError for the map of another process, NoSuchProcess for that of an earlier one of the same pid."""
    if space.pid != process.pid or space.origin.target != process.target.name:
        raise UsageError(
            f"the regions are of process {space.pid} on {space.origin.target}, "
            f"and process {process.pid} on {process.target.name} is to be advised"
        )
    if None not in (space.start_time, process.start_time) and space.start_time != process.start_time:
        raise NoSuchProcess(
            f"the process {space.pid} whose map this is has ended; its number is another process's now",
            pid=space.pid,
            target=process.target.name,
        )


def is_this_process(process: Process) -> bool:
    """Whether it is the one that asks."""
    return isinstance(process.target, LocalTarget) and process.pid == os.getpid()
