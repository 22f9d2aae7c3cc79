"""A saved file, of one moment or of many: the capture that it stands for. What reads series is loaded for one alone."""

from __future__ import annotations

import os

from vmatlas import arguments
from vmatlas.capture import SERIES, Capture


def is_series(path: str | os.PathLike[str]) -> bool:
    """Whether the file begins as a series does. Raises OSError."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(len(SERIES)) == SERIES


def load(path: str | os.PathLike[str]) -> Capture:
    """The capture in a file, or the last moment of a series. Raises what `Capture.load` and `Series.open` raise."""
    if not is_series(arguments.path(path, "capture")):
        return Capture.load(path)
    from vmatlas.series.reader import Series

    with Series.open(path) as series:
        return series[-1]
