"""Plain command lines, understood without the parser of options: `vmatlas maps 1234 --json`.

Click and what it imports take as long to load as a map takes to be read and shown, from the start of Python on. So a
line that names processes by their numbers, and has options without values, is understood here, as click would; whatever
else stands in it is click's, errors above all. A test holds the two to each other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COMPLETION = "_VMATLAS_COMPLETE"
"""The environment variable by which a shell's completion script asks."""

VIEW = {
    "--gaps": "gaps",
    "--entries": "entries",
    "--flags": "flags",
    "--names": "names",
    "--json": "as_json",
    "--csv": "as_csv",
    "--bytes": "exact",
}
"""The options of `maps` that say how a map is shown: fields of `vmatlas.cli.showing.View`."""

ASKED = {"--residency": "residency", "--build-ids": "build_ids", "--guards": "guards"}
"""Those that say what is asked: arguments of `vmatlas.cli.showing.show`."""


def understood(line: Sequence[str]) -> Callable[[], int] | None:
    """What a line asks for; None where it takes the parser of options."""
    if len(line) < 2 or line[0] != "maps" or COMPLETION in os.environ:
        return None
    words = [word for word in line[1:] if not word.startswith("-")]
    options = [word for word in line[1:] if word.startswith("-")]
    if not words or not all(word == "self" or (word.isascii() and word.isdigit()) for word in words):
        return None
    if not VIEW.keys() | ASKED.keys() >= set(options):
        return None

    def show() -> int:
        from vmatlas.cli import showing
        from vmatlas.cli.words import asked_of

        how: dict[str, Any] = {VIEW[option]: True for option in options if option in VIEW}
        asked: dict[str, Any] = {ASKED[option]: True for option in options if option in ASKED}
        sources = [source for word in words if (source := asked_of(word)) is not None]
        return showing.show(tuple(sources), showing.View(**how), **asked)

    return show
