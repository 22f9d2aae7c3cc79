from array import array

from vmatlas.model.facts import Rows

COLUMNS: int
"""The version of native/columns.h that it was built with."""

def decode(data: bytes, names: array[int], limit: int, told: bool, /) -> tuple[Rows, Rows] | None: ...
