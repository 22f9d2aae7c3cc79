"""`vmatlas schema`: what `--json` of each command gives, as a JSON Schema."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import click

from vmatlas.cli.exits import Exit

COMMANDS = (
    *("maps", "replay", "find", "pages", "numa", "written", "working-set", "summary", "diff", "watch"),
    *("growth", "audit", "explain", "recover", "advise", "processes", "doctor"),
)
"""Those that have `--json`."""

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(command: str) -> dict[str, Any]:
    """The whole schema of what a command of `COMMANDS` gives, with the values that commands share under "$defs"."""
    held = resources.files("vmatlas.cli") / "schemas"
    own = json.loads((held / f"{command}.json").read_text("utf-8"))
    values = json.loads((held / "values.json").read_text("utf-8"))
    return {"$schema": _DIALECT, **own, "$defs": {**values, **own.get("$defs", {})}}


@click.command("schema", short_help="What --json of a command gives, as a JSON Schema.")
@click.argument("of", metavar="COMMAND", type=click.Choice(COMMANDS))
def command(of: str) -> int:
    """Print the JSON Schema (draft 2020-12) of what a command gives with --json.

    \b
    Examples:
      vmatlas schema maps
      vmatlas schema summary

    `watch --json` gives one such object in each line. Keys that are not named may come with a newer version.
    """
    from vmatlas.cli.render import output

    output.show_json(schema_of(of))
    return Exit.OK
