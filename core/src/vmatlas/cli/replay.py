"""`vmatlas replay`: the map of a process as it was when it was recorded."""

from __future__ import annotations

from typing import Any

import click

from vmatlas.cli.exits import Exit
from vmatlas.cli.maps import view_options
from vmatlas.cli.options import build_ids_option, residency_option
from vmatlas.cli.recorded import KEEPS_RESIDENCY, check_build_ids, check_residency, load, opened, split
from vmatlas.cli.showing import View, show_map
from vmatlas.errors import UsageError


@click.command("replay", short_help="Show the map in a capture.")
@click.argument("path", metavar="FILE", type=click.Path(readable=False))  # opening it says why; - is read here
@view_options
@residency_option
@build_ids_option
@click.option("--moments", is_flag=True, help="List the moments of a series instead.")
def command(path: str, residency: bool, build_ids: bool, moments: bool, **shown: Any) -> int:
    """Show the memory map in a capture, made by 'vmatlas record' here or elsewhere; - is one on standard input.

    \b
    Examples:
      vmatlas replay worker.vmatlas
      vmatlas replay worker.vmatlas --where 'rw,anonymous' --sort size
      vmatlas replay worker.vmatlas --json
      vmatlas replay leak.vmatlas --moments
      vmatlas replay leak.vmatlas@10:00

    The options are those of 'vmatlas maps' but for those that say how a process is asked. What was not recorded
    cannot be shown: --residency and --build-ids are refused then, and without them is shown what there is. The process
    need not exist any more, and its system need not be this one: the backend that made the capture must be installed.

    Of a series (record --every) the last moment is shown, or the one that @ names: @10:00, @10:00:30 (local time),
    @2026-11-30T10:00, @+90s (after the first), @-5m (before the last), @#5, @first, @last. So it is wherever a capture
    is taken: 'vmatlas diff leak.vmatlas@10:00 leak.vmatlas@11:00'.
    """
    from vmatlas import api
    from vmatlas.model.filter import ASK_RESIDENCY

    view = View(**shown)
    needs_residency = view.needs_residency
    if moments:
        return _show_moments(path, as_json=shown["as_json"], as_csv=shown["as_csv"])
    space = api.replay(load(path, or_process=False))
    if residency or needs_residency:
        check_residency(space, path)
    if build_ids:
        check_build_ids(space, path)
    try:
        return show_map(space, view, build_ids=space.columns.build_id is not None)
    except UsageError as error:
        if error.hint != ASK_RESIDENCY:
            raise
        raise UsageError(error.message, hint=KEEPS_RESIDENCY) from None  # nobody can be asked any more


def _show_moments(path: str, *, as_json: bool, as_csv: bool) -> int:
    from vmatlas.capture import Capture
    from vmatlas.cli.render import output, series
    from vmatlas.cli.words import refuse_both

    refuse_both(as_json, as_csv)
    file, when = split(path, or_process=False)
    if when is not None:
        raise UsageError(f"--moments lists all moments, not '{when}' alone", hint=f"vmatlas replay {file} --moments")
    with opened(file) as found:
        if isinstance(found, Capture):
            raise UsageError(
                f"{file} is a single capture, without moments", hint="vmatlas record --every makes a series"
            )
        told = found.moments
        if as_json:
            output.show_json(series.moments_json(told, found.incomplete))
        elif as_csv:
            output.show_csv(series.CSV_COLUMNS, series.moments_dicts(told))
        else:
            output.show(series.moments_table(told))
    return Exit.OK
