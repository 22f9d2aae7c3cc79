"""vmatlas: the memory map of any process, on every kernel.

    import vmatlas

    space = vmatlas.snapshot(1234)
    for region in space.where(executable=True, writable=True):
        print(hex(region.start), region.size, region.path)

    with vmatlas.open(1234) as process:
        region = process.find(0x7F0012345678)

docs/python.md describes the whole of it.
"""

from vmatlas.analysis import Change, Difference, Finding, Summary, audit, diff, summarize
from vmatlas.api import (
    Process,
    capture,
    find,
    find_many,
    iterate,
    neighbours,
    open,
    processes,
    replay,
    snapshot,
)
from vmatlas.capture import Capture
from vmatlas.errors import (
    AccessDenied,
    Disordered,
    MalformedData,
    NoSuchProcess,
    OperationFailed,
    TargetLost,
    TornRead,
    Unsupported,
    UsageError,
    VmatlasError,
)
from vmatlas.model import (
    AddressSpace,
    Consistency,
    Criteria,
    Device,
    Filter,
    Gap,
    IncompleteResult,
    Kind,
    Neighbours,
    ProcessInfo,
    Protection,
    Query,
    Region,
    SystemInfo,
)

__version__ = "0.1.0"

__all__ = [
    "AccessDenied",
    "AddressSpace",
    "Capture",
    "Change",
    "Consistency",
    "Criteria",
    "Device",
    "Difference",
    "Disordered",
    "Filter",
    "Finding",
    "Gap",
    "IncompleteResult",
    "Kind",
    "MalformedData",
    "Neighbours",
    "NoSuchProcess",
    "OperationFailed",
    "Process",
    "ProcessInfo",
    "Protection",
    "Query",
    "Region",
    "Summary",
    "SystemInfo",
    "TargetLost",
    "TornRead",
    "Unsupported",
    "UsageError",
    "VmatlasError",
    "audit",
    "capture",
    "diff",
    "find",
    "find_many",
    "iterate",
    "neighbours",
    "open",
    "processes",
    "replay",
    "snapshot",
    "summarize",
]
