"""`vmatlas fleet`: many machines, asked at once, kept as a data set."""

from __future__ import annotations

import click

from vmatlas_fleet.cli.difference import command as difference
from vmatlas_fleet.cli.hosts import command as hosts
from vmatlas_fleet.cli.record import command as record


@click.group(
    "fleet",
    short_help="Many machines at once: one question, kept as a data set that engines read.",
    invoke_without_command=True,
    no_args_is_help=False,
)
@click.pass_context
def command(context: click.Context) -> None:
    """Ask the hosts of an inventory, many at once, and keep the answers as a data set of Parquet files, which 'vmatlas
    sql', DuckDB, Polars, Spark and Dask read.

    \b
    Examples:
      vmatlas fleet hosts inventory.yaml
      vmatlas fleet record inventory.yaml --to atlas
      vmatlas sql --query old-libraries --data atlas
      vmatlas fleet diff atlas --between 2026-11-23 2026-11-30
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for each in (record, hosts, difference):
    command.add_command(each)
