"""Advice of a process to its own memory: one madvise a range, so that each refusal has its errno."""

from __future__ import annotations

from collections.abc import Callable

from vmatlas.errors import OperationFailed, Unsupported
from vmatlas.operations.checks import Range
from vmatlas.operations.contract import Calls
from vmatlas.operations.safety import Safety
from vmatlas.operations.values import Advice, Advised


def advise_own(
    calls: Calls,
    ranges: list[Range],
    advice: Advice,
    pid: int,
    *,
    safety: Safety,
    unsafe: bool,
    dry_run: bool,
    cause: Callable[[int, int, OperationFailed], str | None] = lambda low, high, failure: None,
) -> Advised:
    """In order, until one is refused. `safety`: what may be advised; `cause`: why a range was refused, by the map.

    A dry run asks the kernel for no bytes, which does nothing; where it cannot be asked so, the result says why.
    Raises Unsupported (the call, or the advice), UsageError; a dry run OperationFailed, too.
    """
    number = calls.advice_number(advice)
    if number is None:
        raise Unsupported(f"{calls.system} has no advice '{advice.value}'")
    safety.check_advice(ranges, advice, unsafe=unsafe)
    asked = sum(high - low for low, high in ranges)
    if dry_run:
        unasked = calls.why_unasked(advice)
        if unasked is None and ranges and (refusal := _refusal(calls, number, ranges[0][0])) is not None:
            raise _meaning(calls, refusal, advice, any_range=True) or refusal
        return Advised(advice, pid, len(ranges), asked, 0, dry_run=True, unasked=unasked)
    done = 0
    for low, high in ranges:
        try:
            calls.advise(low, high - low, number)
        except OperationFailed as failure:
            # EINVAL, above all: of the advice, or of this range?
            refusal = _refusal(calls, number, low) if done == 0 and calls.why_unasked(advice) is None else None
            always = refusal is not None and refusal.errno_name == failure.errno_name
            if (meaning := _meaning(calls, failure, advice, any_range=always)) is not None:
                raise meaning from None
            told = OperationFailed(
                f"advice '{advice.value}' stopped at {low:#x}-{high:#x}: "
                + _why(calls, failure, advice, cause(low, high, failure)),
                errno=failure.errno,
                errno_name=failure.errno_name,
            )
            return Advised(advice, pid, len(ranges), asked, done, (low, high), told)
        done += high - low
    return Advised(advice, pid, len(ranges), asked, done)


def _why(calls: Calls, failure: OperationFailed, advice: Advice, cause: str | None) -> str:
    return calls.range_refused(failure, advice) if cause is None else f"{cause} ({failure.errno_name})"


def _refusal(calls: Calls, number: int, address: int) -> OperationFailed | None:
    """Why the kernel does not take the advice at all, asked for no bytes at an address of the caller's; None: it does.

    Not at 0: FreeBSD looks first whether the address is one of the process's (vm_map_range_valid), and 0 is not.
    """
    try:
        calls.advise(address, 0, number)
    except OperationFailed as refusal:
        return refusal
    return None


def _meaning(calls: Calls, refusal: OperationFailed, advice: Advice, *, any_range: bool) -> Unsupported | None:
    """What a refusal means when it is no matter of one range; None when it is."""
    if refusal.errno_name == "ENOSYS":
        return Unsupported(f"advice '{advice.value}': {calls.system} has no such call (ENOSYS)")
    if refusal.errno_name == "EINVAL" and any_range:
        return Unsupported(f"this kernel has no advice '{advice.value}' (EINVAL)")
    return None
