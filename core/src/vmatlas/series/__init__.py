"""Many moments of one process in one file (format 2 of captures): written one after another, read at any of them.

`frames` < `delta` < `moments` < `when` < `reader` < `writer`. docs/captures.md describes the file.
"""

from vmatlas.series.reader import Series
from vmatlas.series.writer import SeriesWriter

__all__ = ["Series", "SeriesWriter"]
