from array import array

from vmatlas.model.columns import Columns
from vmatlas.model.region import Region

COLUMNS: int
"""The version of native/columns.h that it was built with."""

def regions(columns: Columns, parts: tuple[object, ...], first: int, stop: int, /) -> list[Region]: ...
def find_many(columns: Columns, parts: tuple[object, ...], addresses: array[int], /) -> list[Region | None]: ...
