"""What the words of a command line mean, and what commands say alike: nothing here needs a parser of options."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from vmatlas.errors import UsageError
from vmatlas.values import NamedTuple, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmatlas.backend import Target
    from vmatlas.model import AddressSpace, Filter

_MOST_DIGITS = 100
"""Python makes no number of a few thousand digits, and nobody reads an error with them."""


class Asked(NamedTuple):
    """A process as the user names it."""

    pid: int | None
    """None: the one that answers."""

    @property
    def text(self) -> str:
        """As a word that chooses it among others."""
        return "self" if self.pid is None else str(self.pid)


class Chooses(NamedTuple):
    """A word that chooses processes, however many: see `vmatlas.selection.words`."""

    text: str


def only_one(words: Sequence[Asked | Chooses]) -> Asked | None:
    """The process, where one is named by its number and no other: its answer has the form for one."""
    return words[0] if len(words) == 1 and isinstance(words[0], Asked) else None


def only_file(words: Sequence[Asked | Chooses | str]) -> str | None:
    """The file, where one is named; None where all are processes. Raises UsageError for a file beside others."""
    files = [word for word in words if isinstance(word, str)]
    if files and len(words) > 1:
        raise UsageError(f"'{files[0]}' is a file: it goes alone", hint="one file, or processes")
    return files[0] if files else None


def processes_of(words: Sequence[Asked | Chooses | str]) -> tuple[Asked | Chooses, ...]:
    """The processes among words."""
    return tuple(word for word in words if not isinstance(word, str))


def asked_of(word: str) -> Asked | None:
    """The process that a word names: a number, or `self`; None for any other word. Raises UsageError."""
    if word == "self":
        return Asked(None)
    if not (word.isascii() and word.isdigit()):
        return None
    if len(word) > _MOST_DIGITS:
        raise UsageError(f"a number of {len(word)} digits is no process id")
    return Asked(int(word))


def chooses(word: str) -> Asked | Chooses | None:
    """What a word chooses that is no plain number; None for one that is of no such form. Raises UsageError."""
    if ":" not in word and not word.startswith("!") and word != "all":
        return None
    from vmatlas.selection.words import is_word, parse

    if not is_word(word):
        return None
    parsed = parse(word)
    return Asked(int(parsed.value)) if parsed.key == "pid" and not parsed.excluded else Chooses(word)


def refuse_both(as_json: bool, as_csv: bool) -> None:
    """Raises UsageError when both forms are asked for."""
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other")


def all_of(wheres: tuple[Filter, ...]) -> Filter:
    """One filter from all that were given. Raises UsageError when they contradict each other."""
    from vmatlas.model import ANY

    wanted = ANY
    for where in wheres:
        wanted = wanted & where
    return wanted


@contextlib.contextmanager
def reach(url: str, patience: float | None = None, *, quietly: bool = False) -> Iterator[Target]:
    """The target of that URL, for as long as the command needs it: lost when nothing comes for `patience` seconds.
    `quietly`: nothing is drawn while it is waited for.

    Raises UsageError, Unsupported, TargetLost.
    """
    if url == "local":
        from vmatlas.target.local import LOCAL

        yield LOCAL
        return
    from vmatlas.cli.waiting import shown
    from vmatlas.target.asking import Limits
    from vmatlas.target.connect import connect

    usual = Limits()
    limits = usual if patience is None else replace(usual, silence=patience, again=min(usual.again, patience / 4))
    with contextlib.nullcontext() if quietly else shown():
        target = connect(url, limits)
        try:
            yield target
        finally:
            target.close()


def warn_if_incomplete(space: AddressSpace) -> None:
    """A line on standard error when something may be missing."""
    warn_of_gaps(space.pid, space.incomplete)


def tell_if_kernels(space: AddressSpace, instead: str | None = None) -> None:
    """A line on standard error when a whole map is empty: that is so of the kernel's own processes alone. Where the
    system said more than that (`AddressSpace.incomplete`), the line that tells it has come already.

    `instead` is whom to ask: see `vmatlas.cli.asking.instead_of`.
    """
    if len(space):
        return
    from vmatlas.cli.exits import say

    if space.incomplete is None:
        say(f"process {space.pid} belongs to the kernel: it has no memory of its own", hint=instead)
    elif instead is not None:
        say(instead)


def tell_unguessed(space: AddressSpace) -> None:
    """A line on standard error when no rule knows such a system, or threads did not tell their stack pointers for want
    of a right."""
    from vmatlas.analysis.naming import SYSTEMS

    if space.system.system not in SYSTEMS:
        from vmatlas.cli.exits import say
        from vmatlas.cli.render.text import escape

        say(f"no rule knows what nameless memory is on {escape(space.system.system)}")
    refused = [thread for thread in space.origin.threads or () if thread.untold in ("EPERM", "EACCES")]
    if refused:
        from vmatlas.cli.exits import say
        from vmatlas.cli.render.text import count

        say(
            f"the stacks of {count(len(refused), 'thread')} of process {space.pid} are told by their sizes alone",
            hint="stack pointers are told to who may trace the process: its user (with Yama its parent), or root",
        )


def warn_of_gaps(pid: int, incomplete: str | None) -> None:
    """The same, when the map itself is not at hand."""
    if incomplete is not None:
        from vmatlas.cli.exits import say

        say(f"warning: the map of process {pid} may lack something: {incomplete}")
