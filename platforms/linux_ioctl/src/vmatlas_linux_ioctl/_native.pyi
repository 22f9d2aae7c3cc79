from array import array
from collections.abc import Callable

from vmatlas.backend import Finder
from vmatlas.model import Region
from vmatlas.model.facts import Rows

COLUMNS: int
"""The version of native/columns.h that it was built with."""

def decode(data: bytes, /) -> Rows | None: ...
def walk(
    maps: int, flags: int, address: int, limit: int, most: int, threads: int, only_idle: bool, is_self: bool, /
) -> Rows | None: ...
def records(maps: int, flags: int, address: int, limit: int, /) -> tuple[bytes, bytes] | None: ...
def apart(maps: int, /) -> tuple[int, int]: ...
def asker(
    maps: int, directory: int, region: type[Region], model_of: Callable[[bytes], Region | None], untold: array[int], /
) -> Finder: ...
