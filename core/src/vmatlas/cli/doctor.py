"""`vmatlas doctor`: what works here, what does not, and why."""

from __future__ import annotations

import click

from vmatlas.cli.exits import Exit
from vmatlas.cli.options import json_option, reaching_options
from vmatlas.cli.words import reach


@click.command("doctor", short_help="What works here, what does not, and why.")
@json_option
@reaching_options
def command(as_json: bool, patience: float | None, target: str) -> int:
    """Tell what works here and what does not: the kernel, your rights, each backend, and which answers what and why.

    \b
    Examples:
      vmatlas doctor
      vmatlas doctor --json

    Exit 5 when no backend can read a map.
    """
    import logging

    from vmatlas.cli.asking import in_time
    from vmatlas.cli.checkup import check_up
    from vmatlas.cli.render import doctor, output

    logging.disable()  # what stands in the way of a plugin is told as its trouble: what it logs besides is its own
    with reach(target, patience) as place:
        checkup = in_time(lambda _: check_up(place), place, patience, "the answer about this machine")
    if as_json:
        output.show_json(doctor.checkup_json(checkup))
    else:
        output.show(*doctor.checkup_tables(checkup))
    return Exit.OK if checkup.answers else Exit.UNSUPPORTED
