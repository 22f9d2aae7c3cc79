"""vmatlas: the memory map of any process, on every kernel.

    import vmatlas

    space = vmatlas.snapshot(1234)
    for region in space.where(executable=True, writable=True):
        print(hex(region.start), region.size, region.path)

    with vmatlas.open(1234) as process:
        region = process.find(0x7F0012345678)

`dir(vmatlas)` names what is public, `help()` of each tells what it takes, gives and raises. Every error is a
`VmatlasError`, and most have a `hint`. `vmatlas.operations` changes memory: advise, protect, lock, place, move.
`python -m vmatlas` is the command line.
"""

import sys
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmatlas import operations as operations
    from vmatlas.analysis.audit import AuditReport, Evidence, FileLookup, Finding, Policy, Severity, audit
    from vmatlas.analysis.diff import Change, ChangeKind, Difference, diff
    from vmatlas.analysis.growth import Growth, growth_by
    from vmatlas.analysis.naming import Certainty, Guess, name_regions
    from vmatlas.analysis.slopes import Verdict
    from vmatlas.analysis.summary import FileTotal, Summary, Total, Use, summarize
    from vmatlas.analysis.trend import Trend, Trends, trends
    from vmatlas.api import (
        HasPid,
        Pid,
        Pids,
        capture,
        find,
        find_many,
        iterate,
        memory,
        neighbours,
        open,
        processes,
        replay,
        replay_memory,
        snapshot,
        watch,
    )
    from vmatlas.backend import Target
    from vmatlas.capture import Capture
    from vmatlas.errors import (
        AccessDenied,
        Disordered,
        MalformedData,
        NoSuchProcess,
        OperationFailed,
        TargetLost,
        TornRead,
        Unanswered,
        Unsupported,
        UsageError,
        VmatlasError,
    )
    from vmatlas.model import (
        AddressSpace,
        Consistency,
        Criteria,
        Details,
        Device,
        FileNow,
        Filter,
        Gap,
        IncompleteResult,
        Kind,
        MemoryTotal,
        MemoryUse,
        Neighbours,
        Origin,
        ProcessInfo,
        Protection,
        Query,
        Region,
        SystemFlags,
        SystemInfo,
        Thread,
    )
    from vmatlas.model.cgroup import CgroupMemory
    from vmatlas.model.numa import NumaUse
    from vmatlas.model.pages import PageRun, PageRuns, PageState
    from vmatlas.picture.drawn import Picture
    from vmatlas.picturing import picture
    from vmatlas.process import Process
    from vmatlas.recording import record_series, trends_of
    from vmatlas.recovering import Recovered, recover
    from vmatlas.selection.resolving import Selected, select
    from vmatlas.selection.words import Selection
    from vmatlas.series.moments import Moment
    from vmatlas.series.reader import Series
    from vmatlas.survey import Surveyed, snapshots, survey
    from vmatlas.symbolizing import source_lines, symbolize_many
    from vmatlas.symbols.lines import SourceLine
    from vmatlas.symbols.table import Symbol
    from vmatlas.target.agent import Limits
    from vmatlas.target.connect import connect
    from vmatlas.totals import Group, ProcessMemory, cgroup_memories, group_memories, memories

__version__ = "0.1.0"

__all__ = [
    "AccessDenied",
    "AddressSpace",
    "AuditReport",
    "Capture",
    "Certainty",
    "CgroupMemory",
    "Change",
    "ChangeKind",
    "Consistency",
    "Criteria",
    "Details",
    "Device",
    "Difference",
    "Disordered",
    "Evidence",
    "FileLookup",
    "FileNow",
    "FileTotal",
    "Filter",
    "Finding",
    "Gap",
    "Group",
    "Growth",
    "Guess",
    "HasPid",
    "IncompleteResult",
    "Kind",
    "Limits",
    "MalformedData",
    "MemoryTotal",
    "MemoryUse",
    "Moment",
    "Neighbours",
    "NoSuchProcess",
    "NumaUse",
    "OperationFailed",
    "Origin",
    "PageRun",
    "PageRuns",
    "PageState",
    "Picture",
    "Pid",
    "Pids",
    "Policy",
    "Process",
    "ProcessInfo",
    "ProcessMemory",
    "Protection",
    "Query",
    "Recovered",
    "Region",
    "Selected",
    "Selection",
    "Series",
    "Severity",
    "SourceLine",
    "Summary",
    "Surveyed",
    "Symbol",
    "SystemFlags",
    "SystemInfo",
    "Target",
    "TargetLost",
    "Thread",
    "TornRead",
    "Total",
    "Trend",
    "Trends",
    "Unanswered",
    "Unsupported",
    "UsageError",
    "Use",
    "Verdict",
    "VmatlasError",
    "audit",
    "capture",
    "cgroup_memories",
    "connect",
    "diff",
    "find",
    "find_many",
    "group_memories",
    "growth_by",
    "iterate",
    "memories",
    "memory",
    "name_regions",
    "neighbours",
    "open",
    "picture",
    "processes",
    "record_series",
    "recover",
    "replay",
    "replay_memory",
    "select",
    "snapshot",
    "snapshots",
    "source_lines",
    "summarize",
    "survey",
    "symbolize_many",
    "trends",
    "trends_of",
    "watch",
]

_HOMES = {
    "vmatlas.analysis": (
        "AuditReport Change ChangeKind Difference Evidence FileLookup FileTotal Finding Growth Policy Severity Summary "
        "Total Use audit diff growth_by summarize"
    ),
    "vmatlas.analysis.naming": "Certainty Guess name_regions",
    "vmatlas.analysis.slopes": "Verdict",
    "vmatlas.analysis.trend": "Trend Trends trends",
    "vmatlas.api": (
        "HasPid Pid Pids capture find find_many iterate memory neighbours open processes replay replay_memory snapshot "
        "watch"
    ),
    "vmatlas.backend": "Target",
    "vmatlas.capture": "Capture",
    "vmatlas.errors": (
        "AccessDenied Disordered MalformedData NoSuchProcess OperationFailed TargetLost TornRead Unanswered "
        "Unsupported UsageError VmatlasError"
    ),
    "vmatlas.model": (
        "AddressSpace Consistency Criteria Details Device FileNow Filter Gap IncompleteResult Kind MemoryTotal "
        "MemoryUse Neighbours Origin ProcessInfo Protection Query Region SystemFlags SystemInfo Thread"
    ),
    "vmatlas.model.cgroup": "CgroupMemory",
    "vmatlas.model.numa": "NumaUse",
    "vmatlas.model.pages": "PageRun PageRuns PageState",
    "vmatlas.picture.drawn": "Picture",
    "vmatlas.picturing": "picture",
    "vmatlas.process": "Process",
    "vmatlas.recovering": "Recovered recover",
    "vmatlas.recording": "record_series trends_of",
    "vmatlas.series.moments": "Moment",
    "vmatlas.series.reader": "Series",
    "vmatlas.selection.resolving": "Selected select",
    "vmatlas.selection.words": "Selection",
    "vmatlas.survey": "Surveyed snapshots survey",
    "vmatlas.symbolizing": "source_lines symbolize_many",
    "vmatlas.symbols.lines": "SourceLine",
    "vmatlas.symbols.table": "Symbol",
    "vmatlas.target.agent": "Limits",
    "vmatlas.target.connect": "connect",
    "vmatlas.totals": "Group ProcessMemory cgroup_memories group_memories memories",
}
"""Where each name lives. A module is imported when one of its names is first used: `import vmatlas` itself takes a
millisecond, and the command line pays only for what it shows."""

_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}


class _Package(ModuleType):
    """This package: its names are found on first use."""

    def __getattr__(self, name: str) -> object:
        if name == "operations":
            from importlib import import_module

            return import_module("vmatlas.operations")
        if name not in _HOME_OF:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = self.__dict__[name] = getattr(import_module(_HOME_OF[name]), name)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        # `capture` and `picture` are modules and functions: the import of the module must not hide the function.
        if not (isinstance(value, ModuleType) and name in _HOME_OF):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*__all__, "operations", *(name for name in super().__dir__() if name.startswith("__"))})


sys.modules[__name__].__class__ = _Package
