"""The values: what a memory map is. This package does no I/O and knows no operating system."""

from vmatlas.model.columns import Columns, Label, pack_device
from vmatlas.model.filter import ANY, Criteria, Filter
from vmatlas.model.memory import MemoryTotal, MemoryUse
from vmatlas.model.query import Query, Question
from vmatlas.model.region import UNKNOWN, Details, Device, FileNow, FileRights, Kind, Protection, Region, SystemFlags
from vmatlas.model.space import AddressSpace, Gap, IncompleteResult, Neighbours, Origin
from vmatlas.model.system import Consistency, ProcessInfo, SystemInfo, Thread

__all__ = [
    "ANY",
    "UNKNOWN",
    "AddressSpace",
    "Columns",
    "Consistency",
    "Criteria",
    "Details",
    "Device",
    "FileNow",
    "FileRights",
    "Filter",
    "Gap",
    "IncompleteResult",
    "Kind",
    "Label",
    "MemoryTotal",
    "MemoryUse",
    "Neighbours",
    "Origin",
    "ProcessInfo",
    "Protection",
    "Query",
    "Question",
    "Region",
    "SystemFlags",
    "SystemInfo",
    "Thread",
    "pack_device",
]
