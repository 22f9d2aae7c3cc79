"""What is suspicious in an address space. Pure; the questions to a file system and to the process are passed in.

`rules/` holds what is looked for, a file each; `policy` which of it, how much it weighs and what is allowed; `judge`
asks and puts together; `across` looks over many processes; `runtimes` knows the compilers that make code on purpose.
"""

from vmatlas.analysis.audit.across import Across
from vmatlas.analysis.audit.baseline import Baseline
from vmatlas.analysis.audit.evidence import Evidence, FileLookup
from vmatlas.analysis.audit.finding import Allowed, AuditReport, Doubted, Finding, Severity, Untold
from vmatlas.analysis.audit.judge import audit
from vmatlas.analysis.audit.policy import PRESETS, Allowance, Policy
from vmatlas.analysis.audit.rule import Rule
from vmatlas.analysis.audit.rules import RULES

__all__ = [
    "PRESETS",
    "RULES",
    "Across",
    "Allowance",
    "Allowed",
    "AuditReport",
    "Baseline",
    "Doubted",
    "Evidence",
    "FileLookup",
    "Finding",
    "Policy",
    "Rule",
    "Severity",
    "Untold",
    "audit",
]
