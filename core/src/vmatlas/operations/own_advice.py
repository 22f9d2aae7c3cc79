"""Advice of a process to its own memory: one madvise a range, so that each refusal has its errno."""

from __future__ import annotations

from collections.abc import Callable

from vmatlas.errors import OperationFailed, Unsupported, UsageError
from vmatlas.operations.checks import Range
from vmatlas.operations.contract import Calls
from vmatlas.operations.values import LOSES_CONTENTS, MAKES_FAULTS, Advice, Advised


def advise_own(
    calls: Calls,
    ranges: list[Range],
    advice: Advice,
    pid: int,
    *,
    is_ours: Callable[[int, int], bool],
    unsafe: bool,
    dry_run: bool,
) -> Advised:
    """In order, until one is refused. `is_ours`: whether [start, end) lies in a mapping that was made here.

    Raises Unsupported, UsageError.
    """
    number = calls.advice_number(advice)
    if number is None:
        raise Unsupported(f"{calls.system} has no advice '{advice.value}'")
    if not unsafe:
        for low, high in ranges:
            _check(low, high, advice, is_ours)
    asked = sum(high - low for low, high in ranges)
    if dry_run:
        return Advised(advice, pid, len(ranges), asked, 0, dry_run=True)
    done = 0
    for low, high in ranges:
        try:
            calls.advise(low, high - low, number)
        except OperationFailed as failure:
            told = _told(calls, failure, advice, number, low, high)
            return Advised(advice, pid, len(ranges), asked, done, (low, high), told)
        done += high - low
    return Advised(advice, pid, len(ranges), asked, done)


def _check(low: int, high: int, advice: Advice, is_ours: Callable[[int, int], bool]) -> None:
    if advice in MAKES_FAULTS:
        raise UsageError(
            f"advice '{advice.value}' needs unsafe=True",
            hint="touching the memory after it can kill the process, or a child of it",
        )
    if advice in LOSES_CONTENTS and not is_ours(low, high):
        raise UsageError(
            f"advice '{advice.value}' throws the contents of {low:#x}-{high:#x} away, "
            "which is not in a mapping made by vmatlas.operations",
            hint="unsafe=True does it all the same: the interpreter may not survive that",
        )


def _told(calls: Calls, failure: OperationFailed, advice: Advice, number: int, low: int, high: int) -> OperationFailed:
    said = f"advice '{advice.value}' stopped at {low:#x}-{high:#x}: "
    if failure.errno_name == "ENOSYS":
        said += "this system has no such call (ENOSYS)"
    elif failure.errno_name == "EINVAL" and not _has(calls, number):
        said += "this kernel does not have that advice (EINVAL)"
    else:
        said += calls.range_refused(failure, advice)
    return OperationFailed(said, errno=failure.errno, errno_name=failure.errno_name)


def _has(calls: Calls, number: int) -> bool:
    """Whether the kernel has an advice, asked for no bytes, which does nothing."""
    try:
        calls.advise(0, 0, number)
    except OperationFailed as failure:
        return failure.errno_name != "EINVAL"
    return True
