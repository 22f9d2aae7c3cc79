"""`vmatlas record`: the kernel's own bytes for a process, into a file."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from vmatlas.cli.ending import as_ctrl_c
from vmatlas.cli.exits import Exit, say
from vmatlas.cli.options import DurationType, asking_options, build_ids_option, processes_argument
from vmatlas.cli.words import Asked, Chooses, only_one
from vmatlas.errors import UsageError

if TYPE_CHECKING:
    from vmatlas.capture import Capture
    from vmatlas.model import AddressSpace, ProcessInfo
    from vmatlas.process import Process


_HARDLY_ANY = 4096
"""Bytes: so little holds no map of many regions, and is decoded to see whether it holds any."""


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
@click.option("--guards", is_flag=True, help="Also the guards that no map shows; not with --residency nor --every.")
@click.option(
    "--every",
    metavar="TIME",
    type=DurationType(),
    help="A series: again and again, e.g. 10s, 5m, 1.5; 0: without a pause.",
)
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
    guards: bool,
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
      vmatlas record children:1234 --every 10s --for 1h -o leak/

    A capture holds what the kernel said, byte for byte; it is decoded when it is read. A series ends with the process,
    with Ctrl-C, SIGTERM or SIGHUP, or as --for says, and each moment is on the disk before the next is asked for. A map
    that did not change takes 29 bytes of it. --append begins a file where none is.

    Of several processes (or words that choose them: 'vmatlas --help') each has a file: FOLDER/PID.vmatlas, or as -o
    says with {pid} and {name} ('monday-{name}-{pid}.vmatlas'). With --every, each of them (at most 256) has a moment in
    every round, until the last has ended; those that begin later are not among them: --append, the next time, goes on
    with the files that are there and begins others.
    """
    if not path:
        raise UsageError("-o names no file")
    if every is None and (seconds is not None or append):
        raise UsageError(f"{'--append' if append else '--for'} goes with --every", hint="--every 10s records a series")
    if every is not None and guards:
        raise UsageError("--guards goes without --every: a series has maps alone", hint="vmatlas record PID --guards")
    if append and force:
        raise UsageError("--append and --force exclude each other")
    process = only_one(processes)
    how = {"residency": bool(residency), "build_ids": build_ids, "threads": threads, "guards": guards}
    if process is None:
        if every is not None:
            return _series_of_several(
                *(processes, path, residency, build_ids, threads, every, seconds, append, force),
                *(patience, backend, target),
            )
        return _of_several(processes, path, how, force, patience, backend, target)
    if every is not None:
        return _series(
            *(process, path, residency, build_ids, threads, every, seconds, append, force), patience, backend, target
        )
    from vmatlas.cli.asking import instead_of, opened
    from vmatlas.cli.words import tell_if_kernels

    to_stdout = path == "-"
    if to_stdout and sys.stdout.isatty():
        raise UsageError(
            "a capture is not for a terminal", hint="name a file, or send it on: vmatlas record ... -o - | ..."
        )
    if not to_stdout and not force and os.path.lexists(path):
        raise _taken(path)
    with opened(process, target, backend, patience) as asked:
        capture = asked.ask(lambda: asked.process.capture(**how))
        space = _space_where_small(capture)
        instead = None if space is None else instead_of(space, asked.process)
    if capture.incomplete is not None:
        say(f"warning: the capture may lack something: {capture.incomplete}")
    if space is not None:
        tell_if_kernels(space, instead)
    if to_stdout:
        sys.stdout.flush()
        capture.write(sys.stdout.buffer)
        return Exit.OK
    _save(capture, path, force)
    return Exit.OK


def _size_of(capture: Capture) -> int:
    return sum(map(len, capture.streams.values()))


def _space_where_small(capture: Capture) -> AddressSpace | None:
    """What it decodes to where it hardly holds any region; None, too, where it does not: reading it tells why."""
    from vmatlas import api
    from vmatlas.errors import VmatlasError

    try:
        return api.replay(capture) if _size_of(capture) < _HARDLY_ANY else None
    except VmatlasError:
        return None


def _save(capture: Capture, path: str, force: bool) -> None:
    from vmatlas.cli.render.text import count, one_line

    try:
        capture.save(path, replace=force)
    except FileExistsError:
        if force:
            raise
        raise _taken(path) from None
    told = f"{path}: process {capture.pid}, {count(_size_of(capture), 'byte')} from {capture.backend}"
    sys.stdout.write(one_line(told) + "\n")


_LONGEST_NAME = 64


def path_of(wanted: str, process: ProcessInfo) -> str:
    """The file of one of several processes. Raises UsageError for what would be the same for all."""
    if "{pid}" in wanted:
        name = "".join(each if each.isalnum() or each in "._-" else "_" for each in process.name)[:_LONGEST_NAME]
        if not name.strip("."):  # a folder's own name, or that of the one above it
            name = "_" * max(len(name), 1)
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
        paths = _paths(path, selected, may_be_there=force)
        survey = Survey(place, backend, patience, ask, selected)
        for info, capture in survey:
            _save(capture, paths.get(info.pid) or path_of(path, info), force)
    return survey.tell()


def _paths(wanted: str, processes: Iterable[ProcessInfo], *, may_be_there: bool) -> dict[int, str]:
    """The file of each, whose folder is there. Raises UsageError for one that is there and may not be."""
    paths = {process.pid: path_of(wanted, process) for process in processes}
    for each in paths.values():
        if not may_be_there and os.path.lexists(each):
            raise _taken(each)
    if wanted.endswith("/"):
        from vmatlas.writing import make_folder

        make_folder(wanted)
    return paths


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
    from vmatlas.cli.asking import opened, tells_memory
    from vmatlas.recording import boot_of, recorded

    if path == "-":
        raise UsageError("a series goes into a file", hint="-o FILE")
    if not append and not force and os.path.lexists(path):
        raise _taken(path)
    number, begun = 0, time.monotonic()
    with as_ctrl_c(), opened(process, target, backend, patience) as asked:
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
        except OSError as error:
            number = 0 if error.errno == errno.ESTALE else number  # what stands there is another file
            raise
        finally:
            if number:
                _tell_series(path, asked.process.pid, number, time.monotonic() - begun)
    return Exit.OK


def _series_of_several(
    words: Sequence[Asked | Chooses],
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
    """A file for each, a moment for each of them in every round: at the same place of its clock."""
    from vmatlas.cli.asking import tells_memory
    from vmatlas.cli.looking import Looks
    from vmatlas.cli.whom import chosen
    from vmatlas.recording import boot_of
    from vmatlas.series.writer import SeriesWriter

    def ask(asked: Process) -> Capture:
        told = tells_memory(asked) if residency is None else residency
        return asked.capture(residency=told, build_ids=build_ids, threads=threads)

    writers: dict[int, SeriesWriter] = {}
    spans: dict[int, tuple[int, float, float]] = {}
    with as_ctrl_c(), chosen(words, target, patience) as whom, contextlib.ExitStack() as files:
        looks = Looks(ask, whom, backend, patience, every, seconds)
        paths = _paths(path, whom.selected, may_be_there=append or force)
        boot = boot_of(whom.place)

        def begin(pid: int) -> SeriesWriter:
            if append and os.path.lexists(paths[pid]):
                return files.enter_context(SeriesWriter.appending(paths[pid], boot=boot))
            return files.enter_context(SeriesWriter(paths[pid], replace=force, boot=boot))

        try:
            for now, process, capture in looks:
                try:
                    if process.pid not in writers:
                        writers[process.pid] = begin(process.pid)
                    writers[process.pid].add(capture, now)
                except UsageError as error:  # a file of another process, or of another writer: the rest goes on
                    looks.drop(process, error)
                else:
                    number, first, _ = spans.get(process.pid, (0, now, now))
                    spans[process.pid] = number + 1, first, now
        except FileExistsError as error:
            raise _taken(str(error.filename)) from None
        except KeyboardInterrupt:
            if not spans:
                raise
        except OSError as error:
            if error.errno == errno.ESTALE:  # what stands there is another file
                spans = {pid: span for pid, span in spans.items() if paths[pid] != error.filename}
            raise
        finally:
            for pid, (number, first, last) in spans.items():
                _tell_series(paths[pid], pid, number, last - first)
    return looks.tell()


def _tell_series(path: str, pid: int, moments: int, seconds: float) -> None:
    from vmatlas.cli.render.text import count, one_line

    told = f"{path}: process {pid}, {count(moments, 'moment')} in {seconds:,.0f} s, "
    sys.stdout.write(one_line(f"{told}{count(os.path.getsize(path), 'byte')}") + "\n")


def _taken(path: str) -> UsageError:
    """It was there, or came there while the map was read, which can take minutes."""
    is_no_file = os.path.exists(path) and not os.path.isfile(path)
    hint = "name a file: this is a folder, a device or a pipe" if is_no_file else "--force writes over it"
    return UsageError(f"{path} exists already", hint=hint)
