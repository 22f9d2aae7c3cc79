"""`vmatlas metrics`: the memory in use of processes, for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vmatlas.cli.exits import Exit, say
from vmatlas.cli.options import ProcessType, asking_options
from vmatlas.cli.words import Asked, Chooses, reach
from vmatlas.errors import UsageError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_LOOPBACK = "127.0.0.1"
_MODE = 0o644
"""node_exporter reads the file as another user."""


@click.command("metrics", short_help="The memory in use of processes, for Prometheus.")
@click.argument("processes", metavar="[PROCESS...]", type=ProcessType(), nargs=-1)
@click.option("--all", "everyone", is_flag=True, help="Every process that may be read.")
@click.option(
    "--by",
    type=click.Choice(("name", "user", "program", "cgroup", "unit", "container")),
    help="Series for each of these instead of each process: they do not come and go with pids.",
)
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(0),
    default=50,
    help="So many of the largest have series of their own, the rest are one. Default: 50.",
)
@click.option("--textfile", metavar="FILE", type=click.Path(readable=False), help="Into a file, for node_exporter.")
@click.option("--listen", metavar="PORT", type=click.IntRange(0, 65535), help="Serve them on this port of 127.0.0.1.")
@asking_options
def command(
    processes: tuple[Asked | Chooses, ...],
    everyone: bool,
    by: str | None,
    top: int,
    textfile: str | None,
    listen: int | None,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    """Tell the memory in use of processes in Prometheus' text format: on standard output, in a file, or by HTTP.

    \b
    Examples:
      vmatlas metrics --all
      vmatlas metrics children:1234 --top 10
      vmatlas metrics --all --by name --textfile /var/lib/node_exporter/vmatlas.prom
      vmatlas metrics --all --listen 9256

    By HTTP they are asked for anew each time, one request at a time, from this machine alone. The file is replaced as a
    whole, and everybody may read it. What could not be read is a metric too (vmatlas_unread_processes), so exit 0 says
    only that there are metrics. It takes the library prometheus_client: pip install prometheus-client.
    """
    if bool(processes) is everyone:
        raise UsageError("give processes, or --all", hint="vmatlas metrics --help")
    if textfile is not None and listen is not None:
        raise UsageError("--textfile and --listen exclude each other")
    from prometheus_client import CollectorRegistry, generate_latest

    from vmatlas.cli.render.output import show_text
    from vmatlas.metrics import MemoryCollector
    from vmatlas.survey import PATIENCE
    from vmatlas.writing import write_whole

    with reach(target) as place:
        words = [each.text for each in processes]
        waited = PATIENCE if patience is None else patience
        registry = CollectorRegistry(auto_describe=False)
        registry.register(MemoryCollector(*words, target=place, backend=backend, by=by, top=top, patience=waited))
        if listen is not None:
            return _serve(registry, listen)
        text = generate_latest(registry)
    if textfile is not None:
        try:
            write_whole(textfile, text, mode=_MODE)
        except FileExistsError:
            hint = "name one: NAME.prom, in the folder of the collector"
            raise UsageError(f"{textfile} is no regular file", hint=hint) from None
    else:
        show_text(text)
    return Exit.OK


def _serve(registry: CollectorRegistry, port: int) -> int:
    """One request after another, until a signal ends it. Raises OSError where the port is taken."""
    from vmatlas.cli.serving import server_of

    with server_of(registry, _LOOPBACK, port) as server:
        say(f"metrics are served at http://{_LOOPBACK}:{server.server_port}/metrics")
        server.serve_forever(poll_interval=0.2)
    return Exit.OK
