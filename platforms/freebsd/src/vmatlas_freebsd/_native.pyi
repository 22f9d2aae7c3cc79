from vmatlas.model.facts import Rows

COLUMNS: int
"""The version of native/columns.h that it was built with."""

def decode_vmmap(data: bytes, page_size: int, /) -> Rows | None: ...
