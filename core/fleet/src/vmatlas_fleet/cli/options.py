"""What the commands of a fleet take likewise."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from vmatlas.errors import UsageError

if TYPE_CHECKING:
    from vmatlas_fleet.inventory import Inventory

inventory_argument = click.argument("inventory", metavar="INVENTORY")
limit_option = click.option(
    "--hosts", "limits", metavar="PATTERN", multiple=True, help="Only hosts whose name or group fits. Repeated: any."
)
data_option = click.option(
    "--to", "location", metavar="DATASET", required=True, help="The data set: a folder, or a URL that fsspec reaches."
)


def inventory_of(source: str, limits: tuple[str, ...]) -> Inventory:
    """Raises UsageError, OSError, Unsupported."""
    from vmatlas_fleet.inventory import read

    if source == "-" and sys.stdin is None:
        raise UsageError("standard input is closed")
    return read(source, sys.stdin if source == "-" else None).limited(limits)
