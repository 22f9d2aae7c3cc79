"""What the project's tasks call: a run of the machines with its report, a machine for a person, the list, the cache."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.text import Text

from .attend import attend
from .cache import Cache
from .conform import conform
from .errors import ImagesError, MachineError
from .handshake import greet
from .machine import find, machines
from .matrix import run, select
from .overview import overview, table
from .qemu import install_qemu
from .report import LiveLines, show, write_junit
from .results import ExitCode
from .sources import fetch

_WIDE = 150
"""Columns of a table that goes to a file or a log."""

OUTPUT = Path(".vmatlas")
"""Where a run leaves its report and the consoles."""


def run_machines(
    *,
    only: Sequence[str] = (),
    require: Sequence[str] = (),
    jobs: int | None = None,
    output: Path = OUTPUT,
) -> ExitCode:
    """Boot the machines (those whose names fit a pattern of `only`), run the conformance suite on each, and report.

    `require` names systems or patterns of machines that must run.
    """
    out = _console()
    try:
        chosen = select(machines(), only)
    except MachineError as error:
        return _usage(error)
    with LiveLines(chosen, out) as lines:
        report = run(
            chosen,
            conform,
            hello=greet,
            output=output,
            jobs=jobs or None,
            follow=lines.follow,
            fetching=lines.fetching,
        )
    show(report, out, require)
    write_junit(report, output / "machines.xml")
    out.print(Text(f"Kept: {output / 'machines.xml'} (JUnit), {output / 'consoles'} (consoles and the suites' output)"))
    return report.exit_code(require)


def _console() -> Console:
    """Standard output: as wide as the terminal, or wide enough for a log."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(width=_WIDE, highlight=False)


def install_emulators() -> None:
    """Install the emulators that are missing, where that can be done; otherwise say why not.

    Machines that lack theirs come out of a run as not run, each with the reason.
    """
    out = _console()
    try:
        installed = install_qemu({machine.processor for machine in machines()})
    except ImagesError as error:
        out.print(Text(f"QEMU was not installed: {_line(error)}", style="yellow"))
        return
    if installed:
        out.print(Text(f"Installed with apt-get: {', '.join(installed)}"))


def list_machines() -> ExitCode:
    """Every machine: what it is for, where its kernel comes from, whether it could run here now, and the cache."""
    try:
        rows = overview(machines())
    except MachineError as error:
        return _usage(error)
    out = _console()
    out.print(table(rows))
    cache = Cache()
    out.print(Text(f"Cache: {cache.size() / 1e6:.0f} MB in {cache.root} (invoke machine-clean empties it)"))
    return ExitCode.PASSED


def boot_machine(name: str) -> ExitCode:
    """Boot a machine for a person, until Ctrl-C."""
    try:
        attend(find(name), hello=greet, out=_console())
    except MachineError as error:
        return _usage(error)
    except ImagesError as error:
        return _failed(error)
    return ExitCode.PASSED


def fetch_machines(only: Sequence[str]) -> ExitCode:
    """Fetch and verify the kernels of machines, without booting any."""
    try:
        chosen = select(machines(), only)
    except MachineError as error:
        return _usage(error)
    out = _console()
    worst = ExitCode.PASSED
    with LiveLines(chosen, out) as lines:
        for machine in chosen:
            try:
                fetched = fetch(machine, Cache(), progress=partial(lines.fetching, machine))
            except ImagesError as error:
                worst = _failed(error)
            else:
                out.print(Text(f"{machine.name}: {fetched.says}"))
    return worst


def clean_cache() -> ExitCode:
    """Empty the cache."""
    cache = Cache()
    try:
        freed = cache.clean()
    except ImagesError as error:
        return _failed(error)
    _console().print(Text(f"Freed {freed / 1e6:.0f} MB in {cache.root}"))
    return ExitCode.PASSED


def _usage(error: ImagesError) -> ExitCode:
    Console(stderr=True).print(Text(f"machines: {_line(error)}", style="red"))
    return ExitCode.USAGE


def _failed(error: ImagesError) -> ExitCode:
    Console(stderr=True).print(Text(f"machines: {_line(error)}", style="red"))
    return ExitCode.MACHINE_LOST


def _line(error: ImagesError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
