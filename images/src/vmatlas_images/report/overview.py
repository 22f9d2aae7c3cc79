"""What machines there are, where their kernels come from, and whether each could run here now, or why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ..describe.machine import DebianKernel, DebianProgram, Download, LocalFile, Machine
from ..describe.sets import MachineSet
from ..errors import ImagesError
from ..fetch.cache import Cache
from ..fetch.python import is_userland_cached
from ..fetch.sources import is_cached
from ..prepare.agents import agent_is_built
from ..resolve.local import local_disk, local_path
from ..resolve.offline import is_offline
from ..run.boot import emulator_for
from ..terminal import line

AgentStands = Callable[[str, str], bool]
"""Whether the agent of a system and a processor is built; raises `NotRunnable` when it cannot be had."""


@dataclass(frozen=True)
class Overview:
    """One machine at a glance. `obstacle` is None when it could run here now, else the reason and what to do."""

    machine: Machine
    source: str
    cached: bool
    agent_built: bool
    obstacle: str | None


def overview(
    machines: Sequence[Machine], cache: Cache | None = None, agent_stands: AgentStands = agent_is_built
) -> list[Overview]:
    """Looks at each machine; fetches nothing, builds nothing and starts nothing."""
    cache = cache or Cache()
    return [_look(machine, cache, agent_stands) for machine in machines]


def _look(machine: Machine, cache: Cache, agent_stands: AgentStands) -> Overview:
    cached = is_cached(machine, cache)
    obstacle, built = None, False
    try:
        if machine.python is not None:
            cached = is_userland_cached(machine, cache) and cached
        emulator_for(machine)
        if isinstance(machine.source, LocalFile):
            local_path(machine, machine.source)
            local_disk(machine)
        elif is_offline() and not cached:
            obstacle = "not in the cache, and VMATLAS_OFFLINE is set"
        built = agent_stands(machine.system, machine.agent_processor)
    except ImagesError as error:
        obstacle = f"{error.message} ({error.hint})" if error.hint else error.message
    return Overview(machine, _source(machine), cached, built, obstacle)


def _source(machine: Machine) -> str:
    source = machine.source
    if isinstance(source, DebianKernel | DebianProgram):
        return f"Debian {', '.join(source.suites)}: {source.choose} {source.package}, {source.versions}"
    return source.url if isinstance(source, Download) else source.path


def table(rows: Sequence[Overview], sets: Sequence[MachineSet] = ()) -> Table:
    """The overview as a table for a terminal; `sets` are those whose names are told."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("machine", no_wrap=True)
    shown.add_column("processor", no_wrap=True)
    shown.add_column("sets", overflow="fold")
    shown.add_column("what it is for", ratio=2)
    shown.add_column("kernel", ratio=2)
    shown.add_column("runs here", ratio=1, overflow="fold")
    for row in rows:
        labels = f" ({', '.join(row.machine.labels)})" if row.machine.labels else ""
        agent = "" if row.agent_built else "; its agent is built first"
        runs = line(("yes, cached" if row.cached else "yes, to be fetched") + agent, style="green")
        shown.add_row(
            line(row.machine.name + labels),
            line(row.machine.processor),
            line(" ".join(each.name for each in sets if row.machine.name in each)),
            line(row.machine.about),
            line(row.source),
            runs if row.obstacle is None else line(f"no: {row.obstacle}", style="yellow"),
        )
    return shown
