"""`vmatlas replay`: the map of a process as it was when it was recorded."""

from __future__ import annotations

from typing import Any

import click

from vmatlas.cli.maps import View, show_map, view_options
from vmatlas.cli.options import build_ids_option, residency_option
from vmatlas.cli.recorded import KEEPS_RESIDENCY, STDIN, check_residency, load
from vmatlas.errors import UsageError


@click.command("replay", short_help="Show the map in a capture.")
@click.argument("path", metavar="FILE", type=click.Path(readable=False))  # opening it says why; - is read here
@view_options
@residency_option
@build_ids_option
def command(path: str, residency: bool, build_ids: bool, **shown: Any) -> int:
    """Show the memory map in a capture, made by 'vmatlas record' here or elsewhere; - is one on standard input.

    \b
    Examples:
      vmatlas replay worker.vmatlas
      vmatlas replay worker.vmatlas --where 'rw,anonymous' --sort size
      vmatlas replay worker.vmatlas --json

    The options are those of 'vmatlas maps' but for those that say how a process is asked. What was not recorded
    cannot be shown: --residency and --build-ids are refused then, and without them is shown what there is. The process
    need not exist any more, and its system need not be this one: the backend that made the capture must be installed.
    """
    from vmatlas import api
    from vmatlas.model.filter import ASK_RESIDENCY

    view = View(**shown)
    needs_residency = view.needs_residency
    space = api.replay(load(path) if path == STDIN else path)
    if residency or needs_residency:
        check_residency(space, path)
    if build_ids and len(space) and space.columns.build_id is None:
        raise UsageError(f"{path} does not tell build ids", hint="vmatlas record --build-ids keeps them")
    try:
        return show_map(space, view, build_ids=space.columns.build_id is not None)
    except UsageError as error:
        if error.hint != ASK_RESIDENCY:
            raise
        raise UsageError(error.message, hint=KEEPS_RESIDENCY) from None  # nobody can be asked any more
