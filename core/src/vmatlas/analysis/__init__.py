"""From address spaces to findings: what changed, what is suspicious, what adds up to what. Pure.

What has no name is a room of its own, `naming`: it is imported where it is asked for.
"""

from vmatlas.analysis.audit import AuditReport, Evidence, FileLookup, Finding, Policy, Severity, audit
from vmatlas.analysis.diff import Change, ChangeKind, Difference, diff
from vmatlas.analysis.growth import Growth, growth_by
from vmatlas.analysis.summary import FileTotal, Summary, Total, Use, summarize, use_of

__all__ = [
    "AuditReport",
    "Change",
    "ChangeKind",
    "Difference",
    "Evidence",
    "FileLookup",
    "FileTotal",
    "Finding",
    "Growth",
    "Policy",
    "Severity",
    "Summary",
    "Total",
    "Use",
    "audit",
    "diff",
    "growth_by",
    "summarize",
    "use_of",
]
