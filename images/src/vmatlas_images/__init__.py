"""The machines of vmatlas: YAML descriptions of real kernels, fetched, verified, booted in QEMU and reported on.

from vmatlas_images import boot, find, greet
with boot(find("linux-6.12"), hello=greet) as machine:
    machine.stream.sendall(...)         # a connected socket to the agent

A machine's way leads through the rooms describe, resolve, fetch, prepare, run and report (images/README.md).
"""

from .describe import machine
from .describe.machine import Machine, find, load, machines
from .errors import (
    FetchError,
    ImagesError,
    MachineError,
    NotAsExpected,
    NotRunnable,
    StageError,
    VerificationError,
)
from .fetch.cache import Cache
from .fetch.download import Progress
from .fetch.sources import Fetched, fetch
from .prepare.agents import built_agent
from .report.overview import Overview, overview
from .report.shown import LiveLines, show, write_junit
from .run.accelerator import Accelerator
from .run.attend import attend
from .run.boot import Greeting, Hello, RunningMachine, boot
from .run.handshake import greet
from .run.matrix import Conformance, run, select
from .run.qemu import install_qemu
from .run.results import Case, CaseState, ExitCode, MachineResult, Outcome, Report, State

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
    "greet",
    "install_qemu",
    "load",
    "machine",
    "machines",
    "overview",
    "run",
    "select",
    "show",
    "write_junit",
]
