"""Guesses at what nameless memory is, and the threads whose stacks they name."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from vmatlas.analysis.naming import SYSTEMS
from vmatlas.cli.render.text import count, escape
from vmatlas.model import AddressSpace

if TYPE_CHECKING:
    from vmatlas.analysis.naming import Guess

GUESS_CSV = ("guess.name", "guess.group", "guess.certainty", "guess.rule", "guess.evidence")

_WHY = {
    "EPERM": "it takes the right to trace the process",
    "EACCES": "it takes the right to trace the process",
    "running": "on a processor just then",
    "LIMIT": "so many threads are not asked",
    "ENOENT": "this kernel has no such file",
}
"""What `Thread.untold` means."""


def guess_json(guess: Guess | None) -> dict[str, Any] | None:
    """A guess with its evidence."""
    if guess is None:
        return None
    return {**guess._asdict(), "evidence": list(guess.evidence), "certainty": guess.certainty.value}


def guess_csv(guess: Guess | None) -> dict[str, str]:
    """The same in columns; nothing for no guess."""
    told = guess_json(guess)
    return {} if told is None else {f"guess.{key}": _cell(value) for key, value in told.items()}


def _cell(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "; ".join(value)


def threads_json(space: AddressSpace) -> list[dict[str, Any]] | None:
    """The threads, where they were asked for and told."""
    threads = space.origin.threads
    return None if threads is None else [thread._asdict() for thread in threads]


def threads_notes(space: AddressSpace) -> tuple[str, ...]:
    """What is not known of threads, so that the stacks of some have no name."""
    threads = space.origin.threads
    if threads is None and space.system.system not in SYSTEMS:
        return ()
    if threads is None:
        return ("stack pointers are not known: the stacks of threads are told by their sizes alone",)
    reasons = Counter(thread.untold or "untold" for thread in threads if thread.stack_pointer is None)
    return tuple(
        f"{count(many, 'thread')} of {len(threads):,} told no stack pointer: {escape(_WHY.get(reason, reason))}"
        for reason, many in reasons.most_common()
    )
