"""`vmatlas fleet hosts`: what an inventory comes to, without asking anybody."""

from __future__ import annotations

import click

from vmatlas.cli.exits import Exit, say
from vmatlas.cli.options import json_option, shape_options
from vmatlas_fleet.cli.options import inventory_argument, inventory_of, limit_option


@click.command("hosts", short_help="The hosts of an inventory, with their groups; nobody is asked.")
@inventory_argument
@limit_option
@json_option
@shape_options
def command(inventory: str, limits: tuple[str, ...], as_json: bool) -> int:
    """Show the hosts of an inventory: how each is reached, its groups and labels. Nobody is asked.

    \b
    Examples:
      vmatlas fleet hosts inventory.yaml
      vmatlas fleet hosts ansible:/etc/ansible/hosts --hosts 'web*'

    INVENTORY is a YAML file; ansible:PATH, which 'ansible-inventory --list' reads; or - for standard input: a target's
    URL in each line (or NAME URL), or what 'ansible-inventory --list' wrote. URLs are not shown: they may hold secrets.
    Exit 7 when a host cannot be asked at all, with the reason.
    """
    from vmatlas.cli.render.output import show, show_json
    from vmatlas.cli.render.table import Column, Row, Table
    from vmatlas.cli.render.text import count, escape

    found = inventory_of(inventory, limits)
    if as_json:
        show_json(
            [
                {
                    "name": host.name,
                    "scheme": host.scheme or None,
                    "groups": list(host.groups),
                    "labels": dict(host.labels),
                    "problem": host.problem or None,
                }
                for host in found.hosts
            ]
        )
    else:
        columns = (Column("host"), Column("by"), Column("groups"), Column("labels"), Column("problem"))
        rows = [
            Row(
                (
                    escape(host.name),
                    escape(host.scheme or "-"),
                    escape(" ".join(host.groups) or "-"),
                    escape(" ".join(f"{key}={value}" for key, value in host.labels.items()) or "-"),
                    escape(host.problem or "-"),
                )
            )
            for host in found.hosts
        ]
        show(Table(columns, rows))
    if problems := [host for host in found.hosts if host.problem]:
        say(f"{count(len(problems), 'host')} cannot be asked: {problems[0].name}: {problems[0].problem}")
        return Exit.INCOMPLETE
    return Exit.OK
