"""The machines of vmatlas: YAML descriptions of real kernels, fetched, verified, booted in QEMU and reported on.

from vmatlas_images import boot, find
with boot(find("linux-6.12"), hello=...) as machine:
    machine.stream.sendall(...)         # a connected socket to the agent
"""

from .accelerator import Accelerator
from .agents import built_agent
from .attend import attend
from .boot import Greeting, Hello, RunningMachine, boot
from .cache import Cache
from .download import Progress
from .errors import (
    FetchError,
    ImagesError,
    MachineError,
    NotAsExpected,
    NotRunnable,
    StageError,
    VerificationError,
)
from .machine import Machine, find, load, machines
from .matrix import Conformance, run, select
from .overview import Overview, overview
from .qemu import install_qemu
from .report import LiveLines, show, write_junit
from .results import Case, CaseState, ExitCode, MachineResult, Outcome, Report, State
from .sources import Fetched, fetch

__all__ = [
    "Accelerator",
    "Cache",
    "Case",
    "CaseState",
    "Conformance",
    "ExitCode",
    "FetchError",
    "Fetched",
    "Greeting",
    "Hello",
    "ImagesError",
    "LiveLines",
    "Machine",
    "MachineError",
    "MachineResult",
    "NotAsExpected",
    "NotRunnable",
    "Outcome",
    "Overview",
    "Progress",
    "Report",
    "RunningMachine",
    "StageError",
    "State",
    "VerificationError",
    "attend",
    "boot",
    "built_agent",
    "fetch",
    "find",
    "install_qemu",
    "load",
    "machines",
    "overview",
    "run",
    "select",
    "show",
    "write_junit",
]
