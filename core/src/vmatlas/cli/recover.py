"""`vmatlas recover`: the file behind a mapping, copied out."""

from __future__ import annotations

import os

import click

from vmatlas.cli.exits import Exit, say
from vmatlas.cli.options import AddressType, ProcessType, json_option, patience_option
from vmatlas.cli.words import Asked, Chooses, only_one
from vmatlas.errors import UsageError


@click.command("recover", short_help="Copy out the file that is mapped at an address, deleted or not.")
@click.argument("process", metavar="PROCESS", type=ProcessType())
@click.argument("address", metavar="ADDRESS", type=AddressType())
@click.option("-o", "--output", metavar="FILE", required=True, help="Where to write it; never over another file.")
@click.option("--force", is_flag=True, help="Replace what stands at FILE.")
@json_option
@patience_option
def command(
    process: Asked | Chooses, address: int, output: str, force: bool, as_json: bool, patience: float | None
) -> int:
    """Copy out the file that a process has mapped at an address: also one that was deleted, or that lies in another
    namespace. Tell its build id and its digest.

    \b
    Examples:
      vmatlas maps 1234 --where deleted
      vmatlas recover 1234 7f0012345000 -o recovered.so

    ADDRESS is hexadecimal: any in the region. The file is copied as it is now, and not the memory: what the process
    changed in a private mapping is not in it. The copy is for its owner alone to read. It takes the rights to follow
    /proc/PID/map_files (CAP_CHECKPOINT_RESTORE), unless the file still lies at its path. Exit 7 when somebody wrote to
    the file meanwhile, also through a shared mapping: it is read once more. Holes stay holes; what does not fit where
    FILE is made is not begun.
    """
    from vmatlas.cli.asking import opened
    from vmatlas.cli.render import output as shown
    from vmatlas.cli.render.text import one_line
    from vmatlas.recovering import copy_out, held_file

    asked = only_one([process])
    if asked is None:
        raise UsageError("recover takes one process, by its number", hint="vmatlas recover PID ADDRESS -o FILE")
    if output == "-":
        raise UsageError("the copy is written to a file, and not to standard output", hint="-o ./- is a file called -")
    with opened(asked, "local", None, patience) as asking:
        region, descriptor = asking.ask(lambda: held_file(asking.process, address))
    try:
        found = copy_out(descriptor, region, output, replace=force)
    except FileExistsError as error:
        raise UsageError(f"{output}: {error.strerror or 'it is there'}", hint="--force replaces a file") from None
    finally:
        os.close(descriptor)
    build_id = None if found.build_id is None else found.build_id.hex()
    if as_json:
        shown.show_json(
            {
                "path": found.region.label,
                "output": output,
                "size": found.size,
                "build_id": build_id,
                "sha256": found.sha256,
                "changed": found.changed,
            }
        )
    else:
        lines = [f"{found.size:,} bytes of {one_line(found.region.label)}"]
        lines += [f"build id {build_id}"] if build_id else []
        shown.show_words([*lines, f"sha256 {found.sha256}"])
    if found.changed:
        say("somebody wrote to the file while it was copied: the copy may be of two moments")
    return Exit.INCOMPLETE if found.changed else Exit.OK
