"""From address spaces to findings: what changed, what is suspicious, what adds up to what. Pure.

What has no name is a room of its own, `naming`: it is imported where it is asked for.
"""

from vmatlas.analysis.audit import FileLookup, Finding, Suspicion, audit
from vmatlas.analysis.diff import Change, ChangeKind, Difference, diff
from vmatlas.analysis.growth import Growth, growth_by
from vmatlas.analysis.summary import FileTotal, Summary, Total, Use, summarize, use_of

__all__ = [
    "Change",
    "ChangeKind",
    "Difference",
    "FileLookup",
    "FileTotal",
    "Finding",
    "Growth",
    "Summary",
    "Suspicion",
    "Total",
    "Use",
    "audit",
    "diff",
    "growth_by",
    "summarize",
    "use_of",
]
