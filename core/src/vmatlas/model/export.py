"""An address space for other tools: dictionaries, JSON, Arrow. No I/O.

The columns, the same in all three (docs/python.md says more):

    start, end, size      unsigned 64-bit, bytes; [start, end)
    protection            text, "r-x"
    max_protection        text or null
    shared                boolean or null
    offset, inode         unsigned 64-bit or null
    device                text "fd:01" or null
    path, name            text or null
    deleted               boolean
    kind                  text, "shared-memory"
    flags                 list of text: the system's own names
    resident, private_resident, page_size   unsigned 64-bit, bytes, or null
    build_id              text, hexadecimal, or null
    details               the system's own keys to numbers or texts (Arrow: one column each, "detail.KEY")
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from vmatlas.errors import Unsupported
from vmatlas.model.columns import Columns
from vmatlas.model.region import UNKNOWN, Region

if TYPE_CHECKING:
    import pyarrow


def region_to_dict(region: Region) -> dict[str, Any]:
    """One region, with values that JSON knows. Bytes of a path that are not UTF-8 appear as surrogate escapes."""
    return {
        "start": region.start,
        "end": region.end,
        "size": region.size,
        "protection": region.protection.letters,
        "max_protection": None if region.max_protection is None else region.max_protection.letters,
        "shared": region.shared,
        "offset": region.offset,
        "device": None if region.device is None else str(region.device),
        "inode": region.inode,
        "path": region.path,
        "name": region.name,
        "deleted": region.deleted,
        "kind": region.kind.label,
        "flags": region.flags.labels(),
        "resident": region.resident,
        "private_resident": region.private_resident,
        "page_size": region.page_size,
        "build_id": None if region.build_id is None else region.build_id.hex(),
        "details": dict(region.details),
    }


class Exports:
    """The exports of an address space; mixed into `AddressSpace`."""

    columns: Columns

    def to_dicts(self) -> list[dict[str, Any]]:
        """A dictionary for each region."""
        return [region_to_dict(region) for region in self.columns.regions()]

    def to_json(self, *, indent: int | None = None) -> str:
        """The regions as a JSON array. ASCII: other characters are escaped, so that nothing is lost on any terminal."""
        return json.dumps(self.to_dicts(), indent=indent)

    def to_arrow(self) -> pyarrow.Table:
        """An Arrow table, which pandas, Polars and DuckDB read. Needs the extra `vmatlas[arrow]`.

        Raises Unsupported when pyarrow is not installed. A path that is not UTF-8 has its foreign bytes written as
        \\xNN, since Arrow's strings are UTF-8.
        """
        try:
            import pyarrow as pa
        except ImportError as error:
            raise Unsupported(
                "the export to Arrow needs pyarrow, which is not installed", hint='pip install "vmatlas[arrow]"'
            ) from error
        columns = self.columns
        regions = list(columns.regions())

        def numbers(column: Any) -> Any:
            if column is None:
                return pa.nulls(len(columns), pa.uint64())
            return pa.array([None if value == UNKNOWN else value for value in column], pa.uint64())

        def texts(values: list[str | None]) -> Any:
            return pa.array([None if value is None else _utf8(value) for value in values], pa.string())

        table: dict[str, Any] = {
            "start": pa.array(columns.start, pa.uint64()),
            "end": pa.array(columns.end, pa.uint64()),
            "size": pa.array([region.size for region in regions], pa.uint64()),
            "protection": texts([region.protection.letters for region in regions]),
            "max_protection": texts(
                [None if region.max_protection is None else region.max_protection.letters for region in regions]
            ),
            "shared": pa.array([region.shared for region in regions], pa.bool_()),
            "offset": numbers(columns.offset),
            "device": texts([None if region.device is None else str(region.device) for region in regions]),
            "inode": numbers(columns.inode),
            "path": texts([region.path for region in regions]),
            "name": texts([region.name for region in regions]),
            "deleted": pa.array([region.deleted for region in regions], pa.bool_()),
            "kind": texts([region.kind.label for region in regions]),
            "flags": pa.array([region.flags.labels() for region in regions], pa.list_(pa.string())),
            "resident": numbers(columns.resident),
            "private_resident": numbers(columns.private_resident),
            "page_size": numbers(columns.page_size),
            "build_id": texts([None if region.build_id is None else region.build_id.hex() for region in regions]),
        }
        for key, column in columns.details.items():
            table[f"detail.{key}"] = texts(column) if isinstance(column, list) else numbers(column)
        return pa.table(table)


def _utf8(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
