"""What the project's tasks call: a run of the machines with its report, a machine for a person, the list, the cache."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

from rich.console import Console

from vmatlas.arguments import duration
from vmatlas.errors import UsageError

from .describe.machine import DebianKernel, DebianProgram, Machine, find, machines, own_folder
from .describe.sets import MachineSet, find_set, read_sets
from .errors import FetchError, ImagesError, MachineError, NotRunnable, VerificationError
from .fetch.cache import Cache
from .fetch.python import fetch_userland
from .fetch.sources import fetch
from .new_platform import make
from .report.history import NAME as NAME_OF_HISTORY
from .report.history import read_history, with_runs, write_history
from .report.overview import overview, table
from .report.page import write_page
from .report.readme import rewrite
from .report.record import load, merge, save
from .report.shown import LiveLines, show, write_junit
from .resolve.lock import NAME, LockedKernel, is_locked, read_lock, write_lock
from .run.accelerator import is_tcg_wanted
from .run.handshake import greet
from .run.inside import prove
from .run.keep import LONGEST, end_kept, hold, hold_apart
from .run.matrix import run, select
from .run.qemu import install_qemu
from .run.results import ExitCode, Report
from .terminal import line

DEFAULT = "default"
"""The set that is run where nothing else is asked for."""

_WIDE = 150
"""Columns of a table that goes to a file or a log."""

SETS = Path(__file__).resolve().parents[3] / "ci" / "sets.yaml"  # of the checkout, wherever one stands
"""The named sets of this repository's machines (sets.py)."""

HISTORY = own_folder() / NAME_OF_HISTORY
"""What passed on which kernel on which day (history.py), beside our machines' descriptions."""

OUTPUT = Path(".vmatlas")
"""Where a run leaves its report and the consoles."""


def run_machines(
    *,
    only: Sequence[str] = (),
    set_name: str = "",
    require: Sequence[str] = (),
    jobs: int = 0,
    output: Path = OUTPUT,
    page: Path | None = None,
) -> ExitCode:
    """Boot machines, run the conformance suite on each, and report.

    Which: those whose names fit a pattern of `only`, or those of a set, else those of the set DEFAULT.
    `require` names systems, of which one machine must run, or patterns of machines, which all must; `jobs` is how many
    processors to use (0: all). `page` is where the page goes, if not into `output` with the rest.
    """
    out = _console()
    try:
        known = machines()
        chosen, named = _choose(known, only, set_name, jobs)
    except MachineError as error:
        return _usage(error)
    left_out = tuple(machine for machine in known if machine not in chosen)
    if named is not None:
        out.print(line(str(named)))
        out.print(line(f"It leaves out: {', '.join(machine.name for machine in left_out) or 'nothing'}"))
    try:
        with _reserved(output) as folder:
            if folder != output:
                out.print(line(f"Another run uses {output}: what this one leaves goes to {folder}", style="yellow"))
            report = _run(chosen, folder, jobs, out)
            by = f"the set {named.name}" if named is not None else f"--only {','.join(only)}"
            report = replace(report, left_out=left_out, left_out_by=by if left_out else "")
            show(report, out, require)
            code = report.exit_code(require)
            return code if _keep(report, folder, page or folder / "page.html", out) else code or ExitCode.USAGE
    except KeyboardInterrupt:
        out.print(line("Interrupted: every machine was ended, and there is no report.", style="yellow"))
        return ExitCode.INTERRUPTED
    except ImagesError as error:
        return _usage(error)


def _run(chosen: Sequence[Machine], folder: Path, jobs: int, out: Console) -> Report:
    with LiveLines(chosen, out) as lines:
        return run(
            chosen,
            prove,
            hello=greet,
            output=folder,
            jobs=jobs or None,
            follow=lines.follow,
            fetching=lines.fetching,
        )


def _keep(report: Report, folder: Path, page: Path, out: Console) -> bool:
    """Write all that a run leaves; whether that could be done."""
    try:
        write_junit(report, folder / "machines.xml")
        save(report, folder / "results.json")
        record = load(folder / "results.json")
        history = read_history(HISTORY)
        for each in (page, folder / "page.txt"):
            write_page(record, each, history)
    except OSError as error:
        _complain(ImagesError(f"the report could not be kept: {error.strerror}: {error.filename or folder}"))
        return False
    out.print(line(f"Kept in {folder}: machines.xml (JUnit), results.json, consoles (and what the suites printed)"))
    out.print(line(f"The page: {page}; as text: {folder / 'page.txt'}"), soft_wrap=True)
    return True


@contextmanager
def _reserved(output: Path) -> Iterator[Path]:
    """The folder for what a run leaves: this one or, while another run uses it, the first free one beside it.

    Raises `ImagesError`. The lock ends with this process, however it ends.
    """
    for number in count(1):
        folder = output if number == 1 else output.with_name(f"{output.name}-{number}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ImagesError(f"{folder}: a run keeps its results there, and cannot: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        try:
            yield folder
        finally:
            os.close(descriptor)
        return


def make_page(results: Sequence[Path], page: Path) -> ExitCode:
    """Make one page of the runs that were kept. Consoles are read where they were left."""
    if not results:
        return _usage(ImagesError("no record of a run is named: results.json of one is needed"))
    try:
        records = [load(each) for each in results]
        write_page(merge(records), page, with_runs(read_history(HISTORY), records))
    except ImagesError as error:
        return _usage(error)
    except OSError as error:
        return _usage(ImagesError(f"{page}: cannot be written: {error.strerror}"))
    _console().print(line(f"The page: {page}"), soft_wrap=True)
    return ExitCode.PASSED


def make_table(results: Sequence[Path], file: Path, history: Path = HISTORY) -> ExitCode:
    """Write the README's table of machines anew, from runs that were kept (later ones win), and add these to the
    history.
    """
    try:
        records = [load(each) for each in results]
        entries = with_runs(read_history(history), records)
        rewrite(file, records, machines())
        write_history(history, entries)
    except ImagesError as error:
        return _usage(error)
    except OSError as error:
        return _usage(ImagesError(f"{history}: cannot be written: {error.strerror}"))
    return ExitCode.PASSED


def check_choice(*, only: Sequence[str] = (), set_name: str = "", jobs: int = 0) -> ExitCode:
    """Whether `run_machines` could begin with this: said before anything that takes long."""
    try:
        _choose(machines(), only, set_name, jobs)
    except MachineError as error:
        return _usage(error)
    return ExitCode.PASSED


def _choose(
    known: Sequence[Machine], only: Sequence[str], set_name: str, jobs: int
) -> tuple[list[Machine], MachineSet | None]:
    """The machines that are asked for, and the set if one was named. Raises `MachineError`."""
    is_tcg_wanted()  # a word in it that means nothing is said now, not by each machine
    if jobs < 0:
        raise MachineError(f"{jobs} jobs: a number from 1 on is needed, or 0 for as many as there are processors")
    if set_name and only:
        raise MachineError("--only and --set both say which machines to run: give one of them")
    if only:
        return select(known, only), None
    named = find_set(SETS, set_name or DEFAULT)
    return select(known, named.patterns), named


def _console() -> Console:
    """Standard output: as wide as the terminal, or wide enough for a log."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(width=_WIDE, highlight=False)


def install_emulators(*, only: Sequence[str] = (), set_name: str = "") -> None:
    """Install the emulators that these machines lack, where that can be done; otherwise say why not.

    Machines that lack theirs come out of a run as not run, each with the reason.
    """
    out = _console()
    try:
        chosen, _ = _choose(machines(), only, set_name, 0)
        firmware = [machine.boot.firmware for machine in chosen if machine.boot.firmware is not None]
        installed = install_qemu({machine.processor for machine in chosen if not machine.boot.is_program}, firmware)
    except ImagesError as error:
        out.print(line(f"QEMU was not installed: {_line(error)}", style="yellow"))
        return
    if installed:
        out.print(line(f"Installed with apt-get: {', '.join(installed)}"))


def list_machines() -> ExitCode:
    """Every machine: what it is for, its sets, its kernel's source, whether it could run here now; the cache."""
    try:
        cache = Cache()
        rows = overview(machines(), cache)
        sets = read_sets(SETS)
        size = cache.size()
    except MachineError as error:
        return _usage(error)
    except ImagesError as error:
        return _failed(error)
    out = _console()
    out.print(table(rows, sets))
    out.print(
        line(f"Sets ({SETS}): --set NAME runs one, {DEFAULT} where none is named; --only PATTERNS runs any machine")
    )
    out.print(line(f"Cache: {size / 1e6:.0f} MB in {cache.root} (invoke machine-clean empties it)"))
    return ExitCode.PASSED


def boot_machine(name: str, *, keep: str = "") -> ExitCode:
    """Boot a machine for a person, until Ctrl-C; with a time to `keep` it, leave it up for that long at most."""
    try:
        machine = find(name)
        if not keep:
            hold(machine, out=_console())
        else:
            return ExitCode(hold_apart(machine.name, _time_to_keep(keep), _console()))
    except MachineError as error:
        return _usage(error)
    except ImagesError as error:
        return _failed(error)
    return ExitCode.PASSED


def hold_machine(name: str, seconds: float, came_up: Callable[[], None]) -> ExitCode:
    """Boot a machine and hold it for so many seconds (keeper.py)."""
    try:
        hold(find(name), seconds, out=_console(), came_up=came_up)
    except MachineError as error:
        return _usage(error)
    except ImagesError as error:
        return _failed(error)
    return ExitCode.PASSED


def _time_to_keep(text: str) -> float:
    """Raises `MachineError`."""
    try:
        seconds = duration(text, "value of --keep")
    except UsageError as error:
        raise MachineError(error.message, hint=error.hint) from None
    if not 1 <= seconds <= LONGEST:
        raise MachineError(f"--keep {text}: a machine is kept for a second at least and a day at most", hint="30m, say")
    return seconds


def end_machine(name: str) -> ExitCode:
    """End a machine that was booted to stay."""
    try:
        ended = end_kept(find(name).name)
    except MachineError as error:
        return _usage(error)
    except ImagesError as error:
        return _failed(error)
    _console().print(line(f"{name}: {'ended' if ended else 'is not up'}"))
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
                if machine.python is not None:
                    fetch_userland(machine, Cache(), progress=partial(lines.fetching, machine))
            except ImagesError as error:
                worst = _failed(error)
            else:
                out.print(line(f"{machine.name}: {fetched.says}"))
    return worst


def lock_kernels(only: Sequence[str]) -> ExitCode:
    """Write the lock files anew (lock.py), from what the kernels of machines come to today.

    What cannot be had now keeps its entry; who is no longer described has none.
    """
    out = _console()
    worst = ExitCode.PASSED
    if is_locked():
        return _usage(ImagesError("VMATLAS_LOCKED is set: what is to be locked is what the mirror has, so unset it"))
    try:
        known = [each for each in machines() if isinstance(each.source, DebianKernel | DebianProgram)]
        chosen = select(known, only)
        for folder in sorted({machine.path.parent for machine in known}):
            here = [machine for machine in known if machine.path.parent == folder]
            kernels = {
                name: kernel for name, kernel in read_lock(folder / NAME).items() if name in {m.name for m in here}
            }
            for machine in (each for each in here if each in chosen):
                try:
                    fetched = fetch(machine, Cache(), refresh=True)
                except ImagesError as error:
                    worst = _failed(error)
                    continue
                kernels[machine.name] = LockedKernel(
                    package=fetched.says, release=fetched.release or "", sha256=fetched.digests
                )
                out.print(line(f"{machine.name}: {fetched.says}"))
            write_lock(folder / NAME, kernels)
    except MachineError as error:
        return _usage(error)
    except OSError as error:
        return _usage(ImagesError(f"{error.filename}: cannot be written: {error.strerror}"))
    return worst


def clean_cache() -> ExitCode:
    """Empty the cache."""
    try:
        cache = Cache()
        freed = cache.clean()
    except ImagesError as error:
        return _failed(error)
    _console().print(line(f"Freed {freed / 1e6:.0f} MB in {cache.root}"))
    return ExitCode.PASSED


def new_platform(name: str, root: Path) -> ExitCode:
    """Begin a plugin for another system, in a checkout."""
    try:
        made = make(root, name)
    except MachineError as error:
        return _usage(error)
    except OSError as error:
        return _usage(ImagesError(f"{error.filename or root}: cannot be written: {error.strerror}"))
    out = _console()
    for path in made:
        out.print(line(str(path)), soft_wrap=True)
    out.print(
        line(f"Next: docs/add-a-platform.md, and ./run pytest platforms/{name}/tests, which fails until all is there")
    )
    return ExitCode.PASSED


def _usage(error: ImagesError) -> ExitCode:
    _complain(error)
    return ExitCode.USAGE


def _failed(error: ImagesError) -> ExitCode:
    """As a run of all machines would count it: what could not be had did not run, all else was lost."""
    _complain(error)
    if isinstance(error, NotRunnable | FetchError) and not isinstance(error, VerificationError):
        return ExitCode.REQUIRED_NOT_RUN
    return ExitCode.MACHINE_LOST


def _complain(error: ImagesError) -> None:
    """One line, however narrow the terminal: a file and a line in it are to be found by a search."""
    Console(stderr=True).print(line(f"machines: {_line(error)}", style="red"), soft_wrap=True)


def _line(error: ImagesError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
