from array import array

from vmatlas.symbols.table import Symbol

def table(
    raw: bytes,
    text: bytes,
    is_wide: bool,
    is_swapped: bool,
    is_thumb: bool,
    has_marks: bool,
    bounds: array[int],
    /,
) -> tuple[bytes, bytes, bytes, bytes]: ...
def find_many(
    columns: tuple[array[int], array[int], array[int], array[int]],
    text: bytes,
    told: list[str | bool | None],
    addresses: array[int],
    symbol: type[Symbol],
    file: str | None,
    source: str,
    /,
) -> list[Symbol | None]: ...
