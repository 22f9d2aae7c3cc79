"""`vmatlas record`: the kernel's own bytes for a process, into a file."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from vmatlas.cli.exits import Exit, say
from vmatlas.cli.options import (
    Asked,
    Chooses,
    DurationType,
    asking_options,
    build_ids_option,
    only_one,
    processes_argument,
)
from vmatlas.errors import UsageError

if TYPE_CHECKING:
    from vmatlas.capture import Capture
    from vmatlas.model import ProcessInfo
    from vmatlas.process import Process


@click.command("record", short_help="Save a process's map as a capture.")
@processes_argument
@click.option(
    "-o",
    "--output",
    "path",
    metavar="FILE",
    type=click.Path(readable=False),
    required=True,
    help="The file to write; - is standard output. Of several processes a folder, or a name with {pid} in it.",
)
@click.option(
    "--residency/--no-residency",
    default=None,
    help="Also the memory in use (dearer). Default: with --every as well, where the system tells it; else not.",
)
@build_ids_option
@click.option("--threads", is_flag=True, help="Also the threads and their stack pointers: for replay --names.")
@click.option("--every", metavar="TIME", type=DurationType(), help="A series: again and again, e.g. 10s, 5m, 1.5.")
@click.option("--for", "seconds", metavar="TIME", type=DurationType(), help="End a series after this time, e.g. 1h.")
@click.option("--append", is_flag=True, help="Go on with a series that is there, of the same process.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@asking_options
def command(
    processes: tuple[Asked | Chooses, ...],
    path: str,
    residency: bool | None,
    build_ids: bool,
    threads: bool,
    every: float | None,
    seconds: float | None,
    append: bool,
    force: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    """Save the memory map of a process as a capture, to be shown anywhere by 'vmatlas replay'; with --every, a series
    of them in one file, for 'vmatlas growth'.

    \b
    Examples:
      vmatlas record 1234 -o worker.vmatlas
      vmatlas record 1234 --residency -o monday.vmatlas --force
      vmatlas record 1234 -o - | ssh desk 'cat > worker.vmatlas'
      vmatlas record 1234 --every 10s --for 1h -o leak.vmatlas

    A capture holds what the kernel said, byte for byte; it is decoded when it is read. A series ends with the process,
    with Ctrl-C or SIGTERM, or as --for says, and each moment is on the disk before the next is asked for. A map that
    did not change takes 29 bytes of it. --append begins a file where none is.

    Of several processes (or words that choose them: 'vmatlas --help') each has a file: FOLDER/PID.vmatlas, or as -o
    says with {pid} and {name} ('monday-{name}-{pid}.vmatlas').
    """
    if not path:
        raise UsageError("-o names no file")
    if every is None and (seconds is not None or append):
        raise UsageError(f"{'--append' if append else '--for'} goes with --every", hint="--every 10s records a series")
    if append and force:
        raise UsageError("--append and --force exclude each other")
    process = only_one(processes)
    if process is None:
        if every is not None:
            raise UsageError("a series is of one process, by its number", hint="a command for each: --every 10s")
        how = {"residency": bool(residency), "build_ids": build_ids, "threads": threads}
        return _of_several(processes, path, how, force, patience, backend, target)
    if every is not None:
        return _series(
            *(process, path, residency, build_ids, threads, every, seconds, append, force), patience, backend, target
        )
    from vmatlas.cli.asking import opened

    to_stdout = path == "-"
    if to_stdout and sys.stdout.isatty():
        raise UsageError(
            "a capture is not for a terminal", hint="name a file, or send it on: vmatlas record ... -o - | ..."
        )
    if not to_stdout and not force and os.path.lexists(path):
        raise _taken(path)
    with opened(process, target, backend, patience) as asked:
        in_use = bool(residency)
        capture = asked.ask(lambda: asked.process.capture(residency=in_use, build_ids=build_ids, threads=threads))
    if capture.incomplete is not None:
        say(f"warning: the capture may lack something: {capture.incomplete}")
    if to_stdout:
        sys.stdout.flush()
        capture.write(sys.stdout.buffer)
        return Exit.OK
    _save(capture, path, force)
    return Exit.OK


def _save(capture: Capture, path: str, force: bool) -> None:
    from vmatlas.cli.render.text import count, one_line

    try:
        capture.save(path, replace=force)
    except FileExistsError:
        if force:
            raise
        raise _taken(path) from None
    size = sum(map(len, capture.streams.values()))
    told = f"{path}: process {capture.pid}, {count(size, 'byte')} from {capture.backend}"
    sys.stdout.write(one_line(told) + "\n")


_LONGEST_NAME = 64


def path_of(wanted: str, process: ProcessInfo) -> str:
    """The file of one of several processes. Raises UsageError for what would be the same for all."""
    if "{pid}" in wanted:
        name = "".join(each if each.isalnum() or each in "._-" else "_" for each in process.name)[:_LONGEST_NAME]
        return wanted.replace("{pid}", str(process.pid)).replace("{name}", name)
    if not (wanted.endswith("/") or os.path.isdir(wanted)):
        hint = "-o FOLDER/, or -o 'worker-{pid}.vmatlas'"
        raise UsageError("of several processes -o names a folder, or a file with {pid} in its name", hint=hint)
    return os.path.join(wanted, f"{process.pid}.vmatlas")


def _of_several(
    words: Sequence[Asked | Chooses],
    path: str,
    how: dict[str, bool],
    force: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    from vmatlas.cli.survey import Survey
    from vmatlas.cli.whom import chosen

    def ask(asked: Process) -> tuple[str | None, Capture]:
        capture = asked.capture(**how)
        return capture.incomplete, capture

    with chosen(words, target, patience) as (place, selected):
        paths = {process.pid: path_of(path, process) for process in selected}
        for each in paths.values():
            if not force and os.path.lexists(each):
                raise _taken(each)
        if path.endswith("/"):
            os.makedirs(path, exist_ok=True)
        survey = Survey(place, backend, patience, ask, selected)
        for info, capture in survey:
            _save(capture, paths[info.pid], force)
    return survey.tell()


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _series(
    process: Asked,
    path: str,
    residency: bool | None,
    build_ids: bool,
    threads: bool,
    every: float,
    seconds: float | None,
    append: bool,
    force: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    """Asked in another thread, written in this one: what interrupts it leaves a whole moment at the end, or none."""
    from vmatlas.cli.asking import opened
    from vmatlas.cli.render.text import count, one_line
    from vmatlas.cli.watch import tells_memory
    from vmatlas.recording import boot_of, recorded

    if path == "-":
        raise UsageError("a series goes into a file", hint="-o FILE")
    if not append and not force and os.path.lexists(path):
        raise _taken(path)
    number, begun = 0, time.monotonic()
    with _sigterm_as_ctrl_c(), opened(process, target, backend, patience) as asked:
        told = tells_memory(asked.process) if residency is None else residency

        def take() -> Capture:
            return asked.ask(lambda: asked.process.capture(residency=told, build_ids=build_ids, threads=threads))

        boot = boot_of(asked.process.target)
        try:
            moments = recorded(take, path, boot, every, seconds=seconds, append=append, replace=force)
            for _ in moments:
                number += 1
            if seconds is None or time.monotonic() - begun < seconds:
                say(f"process {asked.process.pid} has ended")
        except FileExistsError:
            raise _taken(path) from None
        except KeyboardInterrupt:
            if not number:
                raise
        finally:
            if number:
                took = f"{time.monotonic() - begun:,.0f} s"
                told_of = f"{path}: process {asked.process.pid}, {count(number, 'moment')} in {took}, "
                sys.stdout.write(one_line(f"{told_of}{count(os.path.getsize(path), 'byte')}") + "\n")
    return Exit.OK


def _taken(path: str) -> UsageError:
    """It was there, or came there while the map was read, which can take minutes."""
    is_no_file = os.path.exists(path) and not os.path.isfile(path)
    hint = "name a file: this is a folder, a device or a pipe" if is_no_file else "--force writes over it"
    return UsageError(f"{path} exists already", hint=hint)
