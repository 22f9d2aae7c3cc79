"""Lines of source code, as debug information (DWARF) tells them. Pure: what a line is."""

from __future__ import annotations

from typing import NamedTuple


class SourceLine(NamedTuple):
    """A function that an address lies in, and the line of source code there."""

    function: str
    """As the file has it: of C++ and Rust mangled."""
    file: str | None
    """The path of the source file, as the compiler was given it; None where that is not told."""
    line: int | None
    """Counted from 1; None where no line is told."""
    legible: str | None = None
    """What a mangled name of the function means, where that was asked for (`demangle`) and is told."""

    @property
    def called(self) -> str:
        """The function's name, legible where that is told."""
        return self.legible or self.function

    def __str__(self) -> str:
        if self.file is None:
            return self.called
        return f"{self.called} ({self.file}{'' if self.line is None else f':{self.line}'})"


Frames = tuple[SourceLine, ...]
"""The lines of one address: of functions that were inlined there the innermost first, the one that it lies in last."""
