"""From address spaces to findings: what changed, what is suspicious, what adds up to what, what has no name. Pure."""

from vmatlas.analysis.audit import FileLookup, Finding, Suspicion, audit
from vmatlas.analysis.diff import Change, ChangeKind, Difference, diff
from vmatlas.analysis.growth import Growth, growth_by
from vmatlas.analysis.naming import Certainty, Guess, name_regions
from vmatlas.analysis.summary import FileTotal, Summary, Total, Use, summarize, use_of

__all__ = [
    "Certainty",
    "Change",
    "ChangeKind",
    "Difference",
    "FileLookup",
    "FileTotal",
    "Finding",
    "Growth",
    "Guess",
    "Summary",
    "Suspicion",
    "Total",
    "Use",
    "audit",
    "diff",
    "growth_by",
    "name_regions",
    "summarize",
    "use_of",
]
