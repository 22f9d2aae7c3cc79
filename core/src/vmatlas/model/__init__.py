"""The values: what a memory map is. This package does no I/O and knows no operating system."""

from vmatlas.model.columns import Columns, Label, pack_device
from vmatlas.model.filter import ANY, Filter
from vmatlas.model.query import Query, Question
from vmatlas.model.region import UNKNOWN, Details, Device, Kind, Protection, Region, SystemFlags
from vmatlas.model.space import AddressSpace, Gap, Neighbours, Origin
from vmatlas.model.system import Consistency, ProcessInfo, SystemInfo

__all__ = [
    "ANY",
    "UNKNOWN",
    "AddressSpace",
    "Columns",
    "Consistency",
    "Details",
    "Device",
    "Filter",
    "Gap",
    "Kind",
    "Label",
    "Neighbours",
    "Origin",
    "ProcessInfo",
    "Protection",
    "Query",
    "Question",
    "Region",
    "SystemFlags",
    "SystemInfo",
    "pack_device",
]
