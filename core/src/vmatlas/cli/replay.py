"""`vmatlas replay`: the map of a process as it was when it was recorded."""

from __future__ import annotations

from typing import Any

import click

from vmatlas.cli.maps import View, show_map, view_options
from vmatlas.cli.recorded import check_residency


@click.command("replay", short_help="Show the map in a capture.")
@click.argument("path", metavar="FILE", type=click.Path(readable=False))  # opening it says why
@view_options
def command(path: str, **shown: Any) -> int:
    """Show the memory map in a capture, made by 'vmatlas record' here or elsewhere.

    \b
    Examples:
      vmatlas replay worker.vmatlas
      vmatlas replay worker.vmatlas --where 'rw,anonymous' --sort size
      vmatlas replay worker.vmatlas --json

    The options are those of 'vmatlas maps'. The process need not exist any more, and its system need not be this one:
    the backend that made the capture must be installed.
    """
    from vmatlas import api

    view = View(**shown)
    needs_residency = view.needs_residency
    space = api.replay(path)
    if needs_residency:
        check_residency(space, path)
    return show_map(space, view, build_ids=space.columns.build_id is not None)
