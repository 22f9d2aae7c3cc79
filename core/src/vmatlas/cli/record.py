"""`vmatlas record`: the kernel's own bytes for a process, into a file."""

from __future__ import annotations

import os
import sys

import click

from vmatlas.cli.exits import Exit, say
from vmatlas.cli.options import (
    Asked,
    asking_options,
    build_ids_option,
    process_argument,
    residency_option,
)
from vmatlas.errors import UsageError


@click.command("record", short_help="Save a process's map as a capture.")
@process_argument
@click.option(
    "-o",
    "--output",
    "path",
    metavar="FILE",
    type=click.Path(readable=False),
    required=True,
    help="The file to write; - is standard output.",
)
@residency_option
@build_ids_option
@click.option("--threads", is_flag=True, help="Also the threads and their stack pointers: for replay --names.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@asking_options
def command(
    process: Asked,
    path: str,
    residency: bool,
    build_ids: bool,
    threads: bool,
    force: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    """Save the memory map of a process as a capture, to be shown anywhere by 'vmatlas replay'.

    \b
    Examples:
      vmatlas record 1234 -o worker.vmatlas
      vmatlas record 1234 --residency -o monday.vmatlas --force
      vmatlas record 1234 -o - | ssh desk 'cat > worker.vmatlas'

    A capture holds what the kernel said, byte for byte; it is decoded when it is read.
    """
    from vmatlas.cli.asking import opened
    from vmatlas.cli.render.text import count, one_line

    if not path:
        raise UsageError("-o names no file")
    to_stdout = path == "-"
    if to_stdout and sys.stdout.isatty():
        raise UsageError(
            "a capture is not for a terminal", hint="name a file, or send it on: vmatlas record ... -o - | ..."
        )
    if not to_stdout and not force and os.path.lexists(path):
        raise _taken(path)
    with opened(process, target, backend, patience) as asked:
        capture = asked.ask(lambda: asked.process.capture(residency=residency, build_ids=build_ids, threads=threads))
    if capture.incomplete is not None:
        say(f"warning: the capture may lack something: {capture.incomplete}")
    if to_stdout:
        sys.stdout.flush()
        capture.write(sys.stdout.buffer)
        return Exit.OK
    try:
        capture.save(path, replace=force)
    except FileExistsError:
        if force:
            raise
        raise _taken(path) from None
    size = sum(map(len, capture.streams.values()))
    told = f"{path}: process {capture.pid}, {count(size, 'byte')} from {capture.backend}"
    sys.stdout.write(one_line(told) + "\n")
    return Exit.OK


def _taken(path: str) -> UsageError:
    """It was there, or came there while the map was read, which can take minutes."""
    is_no_file = os.path.exists(path) and not os.path.isfile(path)
    hint = "name a file: this is a folder, a device or a pipe" if is_no_file else "--force writes over it"
    return UsageError(f"{path} exists already", hint=hint)
