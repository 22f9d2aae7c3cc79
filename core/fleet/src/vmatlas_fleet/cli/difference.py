"""`vmatlas fleet diff`: two days of a data set."""

from __future__ import annotations

import click

from vmatlas.cli.exits import Exit
from vmatlas.cli.options import json_option, shape_options


@click.command("diff", short_help="What changed over the fleet between two days.")
@click.argument("location", metavar="DATASET")
@click.option("--between", "days", metavar="DAY DAY", nargs=2, required=True, help="The two days, as 2026-11-30 (UTC).")
@click.option("--least", metavar="SIZE", default="1M", help="Memory: programs that changed by so much. Default: 1M.")
@json_option
@shape_options
def command(location: str, days: tuple[str, str], least: str, as_json: bool) -> int:
    """Show what changed over a fleet between two days: hosts that answer no more, programs and files that are run anew
    or no more, memory, findings. Of each host the newest recording of each day counts.

    \b
    Examples:
      vmatlas fleet diff atlas --between 2026-11-23 2026-11-30
      vmatlas fleet diff atlas --between 2026-11-23 2026-11-30 --least 10M --json

    A host that answered on one day alone is told as such, and what it runs is neither new nor gone. Exit 1 when
    anything differs, as 'vmatlas diff' does.
    """
    from vmatlas.cli.render.output import show, show_json
    from vmatlas.model.filter import parse_size
    from vmatlas_fleet.cli.sql import plain, table_of
    from vmatlas_fleet.difference import day_of, difference

    before, after = map(day_of, days)
    parts = difference(location, before, after, least=parse_size(least))
    if as_json:
        show_json(
            {
                part.name: [dict(zip(part.result.columns, map(plain, row), strict=True)) for row in part.result.rows]
                for part in parts
            }
        )
    else:
        show(*(table_of(part.result)._replace(title=(part.title,), empty=f"{part.title}: none") for part in parts))
    return Exit.FOUND if any(part.result.rows for part in parts) else Exit.OK
