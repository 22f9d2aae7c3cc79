"""A saved file, of one moment or of many: the capture that it stands for. What reads series is loaded for one alone.

A file is opened once: what it is, is told of what will be read.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

from vmatlas import arguments
from vmatlas.capture import SERIES, Capture
from vmatlas.extents import open_plain

if TYPE_CHECKING:
    from vmatlas.series.reader import Series


def load(path: str | os.PathLike[str]) -> Capture:
    """The capture in a file, or the last moment of a series. Raises what `Capture.load` and `Series.open` raise."""
    shown = os.path.basename(arguments.path(path, "capture"))
    with open_plain(path, "a capture") as file:
        found = kept_in(file, shown)
        return found if isinstance(found, Capture) else found[-1]


def kept_in(file: BinaryIO, shown: str) -> Capture | Series:
    """What a regular file is, that was opened; a series reads on in it. Raises what `load` raises."""
    file.seek(0)
    if file.read(len(SERIES)) != SERIES:
        return Capture.of_file(file, shown)
    from vmatlas.series.reader import Series

    return Series.of_file(file, shown)
