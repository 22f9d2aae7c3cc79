"""From answers to Arrow tables: what one host told, gathered process by process, column by column.

No region is made on the way: the columns of a map are appended to those of the host as they lie in memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vmatlas.errors import MalformedData
from vmatlas.model import AddressSpace, MemoryUse, ProcessInfo
from vmatlas.model.columns import UNKNOWN_BYTE, Label, unpack_device
from vmatlas.model.pages import PageRuns, PageState
from vmatlas.model.region import PROTECTIONS_OR_UNTOLD, UNKNOWN, Kind
from vmatlas_fleet.extras import needed
from vmatlas_fleet.schema import FINDINGS, MEMORY, PAGES, PROCESSES, REGIONS, Table, arrow_schema

if TYPE_CHECKING:
    import pyarrow

    from vmatlas.analysis.audit import AuditReport, Finding

_MEMORY = tuple(column.name for column in MEMORY)
_LARGEST = 2**63


def text(value: str | None) -> str | None:
    """As Parquet takes it: bytes that are no UTF-8 are written as \\xNN."""
    return None if value is None else value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def number(value: int | None) -> int | None:
    """None for what no column holds: a host that tells of 2**63 bytes tells nothing."""
    return value if value is not None and -_LARGEST <= value < _LARGEST else None


def memory_of(use: MemoryUse | None) -> dict[str, int | None]:
    """The columns of the memory in use."""
    return {name: None if use is None else number(getattr(use, name)) for name in _MEMORY}


class _Words:
    """Texts of which there are few, each kept once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __call__(self, value: str | None) -> int | None:
        return None if value is None else self._numbers.setdefault(value, len(self._numbers))

    def all(self) -> list[str | None]:
        return [text(value) for value in self._numbers]


class Gathered:
    """What the processes of one host told, so far."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.processes: list[dict[str, Any]] = []
        self.findings: list[dict[str, Any]] = []
        self._regions = _Regions()
        self._pages = _Pages()

    @property
    def regions(self) -> int:
        """How many there are."""
        return len(self._regions.start)

    def add_map(self, process: ProcessInfo, space: AddressSpace) -> None:
        """All regions of a process. Raises MalformedData for a region of a size that no system has; nothing of that
        map is kept then."""
        self._regions.add(process, space)

    def add_pages(self, process: ProcessInfo, runs: PageRuns) -> None:
        """What lies inside the regions of a process."""
        self._pages.add(process, runs)

    def add_report(self, process: ProcessInfo, report: AuditReport) -> None:
        """What an audit of it gave."""
        for finding in report.findings:
            self.add_finding(process, finding)
        for allowed in report.allowed:
            self.add_finding(process, allowed.finding, allowed.allowance.reason)
        for untold in report.untold:
            row = self._row_of(process, untold.rule.id, "untold")
            self.findings.append(row | {"explanation": text(untold.why)})

    def add_finding(self, process: ProcessInfo, finding: Finding, allowed_because: str | None = None) -> None:
        """One of it."""
        row = self._row_of(process, finding.id, "found" if allowed_because is None else "allowed")
        self.findings.append(
            row
            | {
                "severity": finding.severity.word,
                "thing": text(finding.thing),
                "explanation": text(finding.explanation),
                "runtime": text(finding.runtime) or None,
                "start": None if finding.region is None else finding.region.start,
                "size": number(finding.size),
                "regions": len(finding.regions),
                "allowed_because": text(allowed_because),
            }
        )

    def _row_of(self, process: ProcessInfo, rule: str, verdict: str) -> dict[str, Any]:
        whose = {"pid": process.pid, "start_time": number(process.start_time), "process": text(process.name)}
        return {"run": self.run, **whose, "rule": rule, "verdict": verdict}

    def tables(self) -> dict[str, pyarrow.Table]:
        """By name; without those that have no row."""
        made = {
            REGIONS.name: self._regions.table(self.run),
            PROCESSES.name: of_rows(PROCESSES, self.processes),
            FINDINGS.name: of_rows(FINDINGS, self.findings),
            PAGES.name: self._pages.table(self.run),
        }
        return {name: table for name, table in made.items() if table.num_rows}


def of_rows(table: Table, rows: Sequence[dict[str, Any]]) -> pyarrow.Table:
    """A small table, of dictionaries."""
    made: pyarrow.Table = needed("pyarrow").Table.from_pylist(list(rows), schema=arrow_schema(table))
    return made


class _Whose:
    """Columns of whose the rows are."""

    def __init__(self) -> None:
        self.pid, self.start_time = array("q"), array("Q")

    def add(self, process: ProcessInfo, count: int) -> None:
        started = number(process.start_time)
        self.pid.extend(array("q", [process.pid]) * count)
        self.start_time.extend(array("Q", [UNKNOWN if started is None else started]) * count)

    def columns(self, run: str) -> dict[str, Any]:
        return {
            "run": _constant(run, len(self.pid)),
            "pid": _held(self.pid),
            "start_time": _told(self.start_time, "int64"),
        }


class _Regions:
    def __init__(self) -> None:
        self._whose = _Whose()
        self.start, self.end = array("Q"), array("Q")
        self._offset, self._device, self._inode = array("Q"), array("Q"), array("Q")
        self._protection, self._shared, self._kind = array("B"), array("B"), array("B")
        self._labels: dict[Label, int] = {}
        self._label, self._label_base, self._label_numbers = array("I"), array("I"), array("I")
        """Of each region the label's number in its process, where that process's begin; of each of those, that here."""
        self._build_ids, self._build_id = _Words(), array("Q")
        self._flag_words, self._flags = _Words(), array("Q")
        self._memory: dict[str, array[int]] = {}

    def add(self, process: ProcessInfo, space: AddressSpace) -> None:
        columns, before = space.columns, len(self.start)
        count = len(columns)
        if not count:
            return
        starts, ends = columns.start, columns.end
        if ends[-1] - starts[-1] >= _LARGEST or (count > 1 and ends[-2] - starts[0] >= _LARGEST):
            if max(map(int.__sub__, ends, starts)) >= _LARGEST:
                raise MalformedData("maps", 0, "regions of less than 2**63 bytes", pid=process.pid)
        self._whose.add(process, count)
        self.start.extend(columns.start)
        self.end.extend(columns.end)
        self._offset.extend(columns.offset)
        self._device.extend(columns.device)
        self._inode.extend(columns.inode)
        self._protection.extend(columns.protection)
        self._shared.extend(columns.shared)
        self._kind.extend(columns.kind)
        self._label.extend(columns.label)
        self._label_base.extend(array("I", [len(self._label_numbers)]) * count)
        labels = self._labels
        self._label_numbers.extend([labels.setdefault(label, len(labels)) for label in columns.labels])
        if columns.build_id is not None:
            _fill(self._build_id, before)
            numbers = {each: self._build_ids(None if each is None else each.hex()) for each in set(columns.build_id)}
            self._build_id.extend(_or_unknown(numbers[each]) for each in columns.build_id)
        if columns.flags is not None:
            _fill(self._flags, before)
            flags = {each: None if each is None else " ".join(each.labels()) for each in set(columns.flags)}
            told = {each: _or_unknown(self._flag_words(words)) for each, words in flags.items()}
            self._flags.extend(map(told.__getitem__, columns.flags))
        if columns.resident is not None or columns.private_resident is not None:
            uses = [region.memory for region in columns.regions()]
            for name in _MEMORY:
                column = self._memory.setdefault(name, array("Q"))
                _fill(column, before)
                column.extend(_or_unknown(None if use is None else number(getattr(use, name))) for use in uses)

    def table(self, run: str) -> pyarrow.Table:
        pa, pc = needed("pyarrow"), needed("pyarrow.compute")
        count = len(self.start)
        if not count:
            return arrow_schema(REGIONS).empty_table()
        for column in (self._build_id, self._flags, *self._memory.values()):
            _fill(column, count)
        label = _held(self._label_numbers).take(pc.add(_held(self._label), _held(self._label_base)))
        labels = list(self._labels)
        paths, names = _Words(), _Words()
        path_of = pa.array([paths(each.path) for each in labels], pa.int32())
        name_of = pa.array([names(each.name) for each in labels], pa.int32())
        start = _held(self.start)
        devices = _told(self._device, "uint64").dictionary_encode()
        codes: dict[str, tuple[Any, Sequence[str | None]]] = {
            "protection": (_bytes_of(self._protection), [each.letters for each in PROTECTIONS_OR_UNTOLD]),
            "kind": (_bytes_of(self._kind), [kind.label for kind in Kind]),
            "path": (path_of.take(label), paths.all()),
            "name": (name_of.take(label), names.all()),
            "device": (devices.indices, [str(unpack_device(each)) for each in devices.dictionary.to_pylist()]),
            "build_id": (_told(self._build_id, "int32"), self._build_ids.all()),
            "flags": (_told(self._flags, "int32"), self._flag_words.all()),
        }
        made = self._whose.columns(run) | {
            "start": start,
            "size": pc.subtract(_held(self.end), start).cast(pa.int64()),
            "shared": pa.array([False, True]).take(_bytes_of(self._shared)),
            "deleted": pa.array([each.deleted for each in labels], pa.bool_()).take(label),
            "offset": _told(self._offset, "uint64"),
            "inode": _told(self._inode, "uint64"),
        }
        made |= {name: _worded(*each) for name, each in codes.items()}
        made |= {name: _told(self._memory.get(name), "int64", count) for name in _MEMORY}
        return _ordered(REGIONS, made)


class _Pages:
    def __init__(self) -> None:
        self._whose = _Whose()
        self._start, self._end, self._state = array("Q"), array("Q"), array("I")

    def add(self, process: ProcessInfo, runs: PageRuns) -> None:
        columns = runs.columns
        self._whose.add(process, len(columns))
        self._start.extend(columns.start)
        self._end.extend(columns.end)
        self._state.extend(columns.state)

    def table(self, run: str) -> pyarrow.Table:
        pa, pc = needed("pyarrow"), needed("pyarrow.compute")
        if not self._start:
            return arrow_schema(PAGES).empty_table()
        start, states = _held(self._start), _held(self._state).dictionary_encode()
        words = [" ".join(PageState(each).words) for each in states.dictionary.to_pylist()]
        made = self._whose.columns(run) | {
            "start": start,
            "size": pc.subtract(_held(self._end), start).cast(pa.int64()),
            "states": _worded(states.indices, words),
        }
        return _ordered(PAGES, made)


def _ordered(table: Table, made: dict[str, Any]) -> pyarrow.Table:
    found: pyarrow.Table = needed("pyarrow").table({each.name: made[each.name] for each in table.columns})
    return found


def _held(column: array[int]) -> Any:
    """The column's own memory."""
    pa = needed("pyarrow")
    kind = {"Q": pa.uint64(), "q": pa.int64(), "I": pa.uint32(), "B": pa.uint8()}[column.typecode]
    return pa.Array.from_buffers(kind, len(column), [None, pa.py_buffer(column)]) if column else pa.array([], kind)


def _told(column: array[int] | None, kind: str, count: int = 0) -> Any:
    """The same, null where it is not known."""
    pa, pc = needed("pyarrow"), needed("pyarrow.compute")
    if column is None:
        return pa.nulls(count, kind)
    held = _held(column)
    known = pc.not_equal(held, pa.scalar(UNKNOWN, pa.uint64()))
    return pc.if_else(known, held, pa.scalar(None, pa.uint64())).cast(kind)


def _bytes_of(column: array[int]) -> Any:
    """Codes, null for 255."""
    pa, pc = needed("pyarrow"), needed("pyarrow.compute")
    held = _held(column)
    return pc.if_else(pc.equal(held, pa.scalar(UNKNOWN_BYTE, pa.uint8())), pa.scalar(None, pa.uint8()), held)


def _constant(word: str, count: int) -> Any:
    pa = needed("pyarrow")
    return _worded(pa.repeat(pa.scalar(0, pa.int32()), count), [word])


def _worded(codes: Any, words: Sequence[str | None]) -> Any:
    """Texts by their numbers. An empty list has no type of its own."""
    pa = needed("pyarrow")
    return pa.DictionaryArray.from_arrays(codes, pa.array(words, pa.string()))


def _fill(column: array[int], count: int) -> None:
    """Not known, of all before."""
    column.extend(array("Q", [UNKNOWN]) * (count - len(column)))


def _or_unknown(value: int | None) -> int:
    return UNKNOWN if value is None else value
