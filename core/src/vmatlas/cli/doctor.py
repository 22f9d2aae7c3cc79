"""`vmatlas doctor`: what works here, what does not, and why."""

from __future__ import annotations

import click

from vmatlas.cli.exits import Exit
from vmatlas.cli.options import json_option, reach, target_option


@click.command("doctor", short_help="What works here, what does not, and why.")
@json_option
@target_option
def command(as_json: bool, target: str) -> int:
    """Tell what works here and what does not: the kernel, your rights, each backend, and which answers what and why.

    \b
    Examples:
      vmatlas doctor
      vmatlas doctor --json

    Exit 5 when no backend can read a map.
    """
    from vmatlas.cli.checkup import check_up
    from vmatlas.cli.render import doctor, output

    with reach(target) as place:
        checkup = check_up(place)
    if as_json:
        output.show_json(doctor.checkup_json(checkup))
    else:
        output.show(*doctor.checkup_tables(checkup))
    return Exit.OK if checkup.answers else Exit.UNSUPPORTED
