"""An address space, and runs of pages, for other tools: dictionaries, JSON, Arrow, NumPy. No I/O.

The columns of an address space, the same in the first three:

    start, end, size      unsigned 64-bit, bytes; [start, end)
    protection            text, "r-x"; "???" where it is not told
    max_protection        text or null
    shared                boolean or null
    offset, inode         unsigned 64-bit or null
    device                text "fd:01" or null
    path, name            text or null
    deleted               boolean
    kind                  text, "shared-memory"
    flags                 list of text: the system's own names; null where none are told
    resident, private_resident, page_size   unsigned 64-bit, bytes, or null
    build_id              text, hexadecimal, or null
    memory                the fields of `MemoryUse`, unsigned 64-bit, bytes, or null each; null where none is told
    details               the system's own keys to numbers or texts (Arrow: one column each, "detail.KEY")
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from operator import sub

from vmatlas.contracts import TypeVar
from vmatlas.errors import Unsupported
from vmatlas.model.columns import SHARED, UNKNOWN_BYTE, Columns, unpack_device
from vmatlas.model.memory import FIELDS, MemoryUse
from vmatlas.model.region import KINDS, PROTECTIONS_OR_UNTOLD, UNKNOWN, Kind, Region, SystemFlags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import numpy
    import pyarrow

    from vmatlas.model.pages import PageState, RunColumns

_Told = TypeVar("_Told")


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
        "flags": None if region.flags is None else region.flags.labels(),
        "resident": region.resident,
        "private_resident": region.private_resident,
        "page_size": region.page_size,
        "build_id": None if region.build_id is None else region.build_id.hex(),
        "memory": None if (use := region.memory) is None else use._asdict(),
        "details": dict(region.details),
    }


def columns_to_values(columns: Columns) -> dict[str, Sequence[Any]]:
    """The same of many, by key, with a value for each region; no region is made."""
    count = len(columns)
    nothing: list[None] = [None] * count
    paths, names, deleted = zip(*columns.labels, strict=True)

    def numbers(column: array[int] | None) -> Sequence[int | None]:
        if column is None:
            return nothing
        return [None if value == UNKNOWN else value for value in column] if UNKNOWN in column else column.tolist()

    def letters(column: array[int] | None) -> Sequence[str | None]:
        return nothing if column is None else _each_once(_letters, column)

    flags: Sequence[SystemFlags | None] = columns.flags or nothing
    build_ids: Sequence[bytes | None] = columns.build_id or nothing
    return {
        "start": columns.start.tolist(),
        "end": columns.end.tolist(),
        "size": list(map(sub, columns.end, columns.start)),
        "protection": letters(columns.protection),
        "max_protection": letters(columns.max_protection),
        "shared": _each_once(SHARED.__getitem__, columns.shared),
        "offset": numbers(columns.offset),
        "device": _each_once(lambda packed: None if packed == UNKNOWN else str(unpack_device(packed)), columns.device),
        "inode": numbers(columns.inode),
        "path": list(map(paths.__getitem__, columns.label)),
        "name": list(map(names.__getitem__, columns.label)),
        "deleted": list(map(deleted.__getitem__, columns.label)),
        "kind": _each_once(lambda code: KINDS[code].label, columns.kind),
        "flags": [None if each is None else each.labels() for each in flags],
        "resident": numbers(columns.resident),
        "private_resident": numbers(columns.private_resident),
        "page_size": numbers(columns.page_size),
        "build_id": [None if each is None else each.hex() for each in build_ids],
        "memory": [None if use is None else use._asdict() for use in _uses(columns)],
        "details": [dict(columns.details_of(row)) if columns.details else {} for row in range(count)],
    }


def _letters(code: int) -> str | None:
    return None if code == UNKNOWN_BYTE else PROTECTIONS_OR_UNTOLD[code].letters


def _each_once(tell: Callable[[int], _Told], codes: array[int]) -> list[_Told]:
    """What each code means: asked once for each that is different."""
    told = {code: tell(code) for code in set(codes)}
    return list(map(told.__getitem__, codes))


class Exports:
    """The exports of an address space; mixed into `AddressSpace`."""

    columns: Columns

    def to_dicts(self) -> list[dict[str, Any]]:
        """A dictionary for each region."""
        values = columns_to_values(self.columns)
        return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]

    def to_json(self, *, indent: int | None = None) -> str:
        """The regions as a JSON array. ASCII: other characters are escaped, so that nothing is lost on any terminal."""
        import json

        return json.dumps(self.to_dicts(), indent=indent)

    def to_arrow(self) -> pyarrow.Table:
        """An Arrow table, which pandas, Polars and DuckDB read. Needs the extra `arrow`.

        Raises Unsupported when pyarrow is not installed. A path that is not UTF-8 has its foreign bytes written as
        \\xNN, since Arrow's strings are UTF-8.
        """
        pa, pc = _arrow()
        columns = self.columns
        count = len(columns)

        def numbers(column: array[int] | None) -> Any:
            """The column's own memory; what is not known is told by a bitmap beside it."""
            if column is None or not count:
                return pa.nulls(count, pa.uint64())
            memory: Any = pa.py_buffer(column)
            known = pc.not_equal(pa.Array.from_buffers(pa.uint64(), count, [None, memory]), unknown)
            return pa.Array.from_buffers(pa.uint64(), count, [known.buffers()[1], memory])

        def codes(column: array[int]) -> Any:
            """The column's own memory."""
            kind = pa.uint8() if column.typecode == "B" else pa.uint32()
            return pa.Array.from_buffers(kind, count, [None, pa.py_buffer(column)]) if count else pa.array([], kind)

        def texts(values: list[str | None]) -> Any:
            return pa.array([None if value is None else _utf8(value) for value in values], pa.string())

        def bytes_of(column: array[int] | None, words: Any) -> Any:
            """Each code by its word; 255 by null."""
            if column is None:
                return pa.nulls(count, words.type)
            numbered: Any = codes(column)
            return words.take(pc.if_else(pc.equal(numbered, unknown_code), pa.scalar(None, pa.uint8()), numbered))

        unknown = pa.scalar(UNKNOWN, pa.uint64())
        unknown_code: Any = pa.scalar(UNKNOWN_BYTE, pa.uint8())
        rights = texts([protection.letters for protection in PROTECTIONS_OR_UNTOLD])
        label = codes(columns.label)
        devices = sorted(set(columns.device))
        device_texts = texts([None if packed == UNKNOWN else str(unpack_device(packed)) for packed in devices])
        device_numbers = {packed: number for number, packed in enumerate(devices)}
        start, end = numbers(columns.start), numbers(columns.end)
        table: dict[str, Any] = {
            "start": start,
            "end": end,
            "size": pc.subtract(end, start),
            "protection": bytes_of(columns.protection, rights),
            "max_protection": bytes_of(columns.max_protection, rights),
            "shared": bytes_of(columns.shared, pa.array([False, True], pa.bool_())),
            "offset": numbers(columns.offset),
            "device": device_texts.take(pa.array([device_numbers[packed] for packed in columns.device], pa.uint32())),
            "inode": numbers(columns.inode),
            "path": texts([each.path for each in columns.labels]).take(label),
            "name": texts([each.name for each in columns.labels]).take(label),
            "deleted": pa.array([each.deleted for each in columns.labels], pa.bool_()).take(label),
            "kind": bytes_of(columns.kind, texts([kind.label for kind in Kind])),
            "flags": _flags(pa, columns.flags, count),
            "resident": numbers(columns.resident),
            "private_resident": numbers(columns.private_resident),
            "page_size": numbers(columns.page_size),
            "build_id": texts([None if each is None else each.hex() for each in columns.build_id])
            if columns.build_id is not None
            else pa.nulls(count, pa.string()),
            "memory": pa.array(
                [None if use is None else use._asdict() for use in _uses(columns)],
                pa.struct([(name, pa.uint64()) for name in FIELDS]),
            ),
        }
        for key, column in columns.details.items():
            table[f"detail.{key}"] = texts(column) if isinstance(column, list) else numbers(column)
        made: pyarrow.Table = pa.table(table)
        return made

    def to_numpy(self) -> dict[str, numpy.ndarray[Any, Any]]:
        """The columns as they are held, by name: NumPy arrays over the same memory, not to be written to.

        Only what the backend told: `start`, `end`, `offset`, `device` (major << 32 | minor), `inode`, and `resident`,
        `private_resident`, `page_size` and the numbers among the details ("detail.KEY") where there are any: unsigned
        64-bit, 2**64 - 1 for what is not known. `protection`, `max_protection`, `shared` (0, 1) and `kind` (the number
        of a `Kind`): unsigned 8-bit, 255 for what is not known. `label`: an index into `space.columns.labels`.

        Needs the extra `numpy`. Raises Unsupported when NumPy is not installed.
        """
        columns = self.columns
        held = {name: getattr(columns, name) for name in columns.__slots__}
        held |= {f"detail.{key}": column for key, column in columns.details.items()}
        return _over_memory(held)


class PageExports:
    """The exports of runs of pages; mixed into `PageRuns`.

    The columns, the same in all three: `start`, `end`, `size` (unsigned 64-bit, bytes; [start, end)), and for each
    state of a page a boolean, null where it was not asked for or is not told ("soft_dirty").
    """

    columns: RunColumns
    told: PageState

    def _states(self) -> list[tuple[str, int, bool]]:
        """The name, the bit, and whether it is told, of each."""
        return [((each.name or "").lower(), each.value, bool(each & self.told)) for each in type(self.told)]

    def to_dicts(self) -> list[dict[str, Any]]:
        """A dictionary for each run."""
        states = self._states()
        columns = self.columns
        return [
            {"start": start, "end": end, "size": end - start}
            | {name: bool(state & bit) if told else None for name, bit, told in states}
            for start, end, state in zip(columns.start, columns.end, columns.state, strict=True)
        ]

    def to_json(self, *, indent: int | None = None) -> str:
        """The runs as a JSON array."""
        import json

        return json.dumps(self.to_dicts(), indent=indent)

    def to_arrow(self) -> pyarrow.Table:
        """An Arrow table, which pandas, Polars and DuckDB read. Needs the extra `arrow`.

        Raises Unsupported when pyarrow is not installed.
        """
        pa, pc = _arrow()
        columns, count = self.columns, len(self.columns)

        def held(column: array[int], kind: Any) -> Any:
            return pa.Array.from_buffers(kind, count, [None, pa.py_buffer(column)]) if count else pa.array([], kind)

        start, end = held(columns.start, pa.uint64()), held(columns.end, pa.uint64())
        state = held(columns.state, pa.uint32())
        table: dict[str, Any] = {"start": start, "end": end, "size": pc.subtract(end, start)}
        for name, bit, told in self._states():
            is_set = pc.not_equal(pc.bit_wise_and(state, pa.scalar(bit, pa.uint32())), pa.scalar(0, pa.uint32()))
            table[name] = is_set if told else pa.nulls(count, pa.bool_())
        made: pyarrow.Table = pa.table(table)
        return made

    def to_numpy(self) -> dict[str, numpy.ndarray[Any, Any]]:
        """The columns as they are held: NumPy arrays over the same memory, not to be written to.

        `start`, `end`: unsigned 64-bit. `state`: unsigned 32-bit, the value of a `PageState`. Needs the extra
        `numpy`. Raises Unsupported when NumPy is not installed.
        """
        return _over_memory({name: getattr(self.columns, name) for name in self.columns.__slots__})


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.compute as pc
    except ImportError:
        raise Unsupported(
            "the export to Arrow needs pyarrow, which is not installed", hint="pip install pyarrow"
        ) from None
    return pa, pc


def _over_memory(held: dict[str, Any]) -> dict[str, numpy.ndarray[Any, Any]]:
    """NumPy arrays over the memory of those that are columns of numbers."""
    try:
        import numpy as np
    except ImportError:
        raise Unsupported("the export to NumPy needs numpy, which is not installed", hint="pip install numpy") from None
    found = {name: np.frombuffer(column, column.typecode) for name, column in held.items() if _is_array(column)}
    for each in found.values():
        each.flags.writeable = False
    return found


def _uses(columns: Columns) -> list[MemoryUse | None]:
    """Of each region; where none can have any, no region is made."""
    if columns.resident is None and columns.private_resident is None:
        return [None] * len(columns)
    return [region.memory for region in columns.regions()]


def _is_array(column: object) -> bool:
    return isinstance(column, array)


def _flags(pa: Any, flags: Sequence[SystemFlags | None] | None, count: int) -> Any:
    """The labels of each, worked out once for each that is different; null where none are told."""
    kind = pa.list_(pa.string())
    if flags is None:
        return pa.nulls(count, kind)
    numbers = {each: number for number, each in enumerate(dict.fromkeys(flags))}
    words = pa.array([None if each is None else each.labels() for each in numbers], kind)
    return words.take(pa.array([numbers[each] for each in flags], pa.uint32()))


def _utf8(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
