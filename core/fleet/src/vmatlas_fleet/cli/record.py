"""`vmatlas fleet record`: the hosts of an inventory, asked at once, into a data set."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from vmatlas.cli.exits import Exit, say
from vmatlas.cli.options import DurationType, patience_option
from vmatlas.errors import UsageError
from vmatlas_fleet.cli.options import data_option, inventory_argument, inventory_of, limit_option

if TYPE_CHECKING:
    from vmatlas_fleet.dataset import DataSet, Run
    from vmatlas_fleet.recording import Outcome, Progress

_REDRAW = 0.2
_MOST_REASONS = 12
"""So many are told; all are in the data set."""


@click.command("record", short_help="Ask the hosts of an inventory at once; keep what they tell as a data set.")
@inventory_argument
@data_option
@click.option(
    "--what",
    metavar="WORDS",
    default="maps",
    help="maps, memory (alone: of each process; with maps: of each region too), audit, pages; several: 'maps,memory'. "
    "Default: maps.",
)
@click.option("--select", "selects", metavar="PROCESS", multiple=True, help="Only processes that a word chooses.")
@limit_option
@click.option("--build-ids", is_flag=True, help="Also the ELF build id of each file (dearer).")
@click.option("--services", is_flag=True, help="Also the program, unit and container of processes elsewhere (dearer).")
@click.option("--captures", is_flag=True, help="Also the kernel's own bytes, beside the tables, by their digest.")
@click.option("--policy", "policy_name", metavar="POLICY", default="default", help="Of an audit. Default: default.")
@click.option("--resume", is_flag=True, help="Go on with the newest recording: ask only hosts that it lacks.")
@click.option(
    "--concurrency", metavar="N", type=click.IntRange(1, 1000), default=32, help="Hosts at once. Default: 32."
)
@click.option("--rate", metavar="N", type=click.FloatRange(0.001, 1e6), help="Begin at most N hosts in a second.")
@click.option(
    "--deadline", metavar="TIME", type=DurationType(), default=300.0, help="For one host: 90, 5m. Default: 5m."
)
@click.option("--all-deadline", metavar="TIME", type=DurationType(), help="For all hosts together: 10m, 1h.")
@click.option("--retries", metavar="N", type=click.IntRange(0, 100), default=2, help="For a lost host. Default: 2.")
@patience_option
@click.option(
    "--keep-agents", is_flag=True, help="Leave agents on hosts (~/.cache/vmatlas there): sent once, not again."
)
@click.option("--scheduler", metavar="URL", help="Let the workers of a Dask scheduler ask: tcp://HOST:8786, tls://...")
def command(
    inventory: str,
    location: str,
    what: str,
    selects: tuple[str, ...],
    limits: tuple[str, ...],
    build_ids: bool,
    services: bool,
    captures: bool,
    policy_name: str,
    resume: bool,
    concurrency: int,
    rate: float | None,
    deadline: float,
    all_deadline: float | None,
    retries: int,
    patience: float | None,
    keep_agents: bool,
    scheduler: str | None,
) -> int:
    """Ask the hosts of an inventory, many at once, and keep what they tell: a data set of Parquet files, by day and
    host, which 'vmatlas sql' and others read. A host that fails is a row with the reason. See docs/fleet.md.

    \b
    Examples:
      vmatlas fleet record inventory.yaml --to atlas
      vmatlas fleet record inventory.yaml --to atlas --what maps,memory,audit --build-ids
      vmatlas fleet record ansible:/etc/ansible/hosts --to atlas --hosts web --select name:nginx
      vmatlas fleet record inventory.yaml --to atlas --resume

    INVENTORY: as of 'vmatlas fleet hosts'. Through ssh nobody is asked for a password, and no host's key is taken
    unseen: ssh's own configuration and agent serve.
    Ctrl-C keeps what is there; --resume asks for the rest. Exit 0 when every host told everything, 7 when one did not,
    or a process could not be read, 8 when no host answered, 9 when it cannot be written; --resume goes on then.
    """
    from vmatlas.cli.ending import as_ctrl_c
    from vmatlas.cli.policies import policy_of
    from vmatlas_fleet.asking import Order
    from vmatlas_fleet.dataset import DataSet, new_run
    from vmatlas_fleet.extras import needed
    from vmatlas_fleet.recording import Pace, record

    needed("pyarrow.parquet")
    wanted = _wanted(what)
    hosts = inventory_of(inventory, limits)
    _check_selection(selects)
    policy = policy_of(policy_name) if "audit" in wanted else None
    data = DataSet.at(location)
    options = {
        "build_ids": build_ids,
        "services": services,
        "captures": captures,
        "policy": policy_name if policy is not None else None,
    }
    run = new_run(what=wanted, select=selects, options=options, hosts=len(hosts.hosts))
    if resume:
        run = _newest(data, run)
    pace = Pace(concurrency, rate, deadline, all_deadline, retries)
    order = Order(
        run.run,
        frozenset(wanted),
        selects,
        build_ids=build_ids,
        services=services,
        captures=captures,
        keeps_agents=keep_agents,
        policy=policy,
        patience=patience,
    )
    with data.storage.hold(f"_runs/{run.run}.lock") as held:
        if not held:
            raise UsageError(f"the recording {run.run} goes on elsewhere", hint="wait for it, or leave --resume out")
        already = data.answered(run) if resume else set()
        if not resume:
            data.begin(run)
        began = time.monotonic()
        with as_ctrl_c(), _progress() as progress:
            try:
                if scheduler is None:
                    outcome = record(hosts.hosts, order, pace, data, run, progress, already=already)
                else:
                    from vmatlas_fleet.distributed import record_by_scheduler

                    outcome = record_by_scheduler(
                        scheduler, hosts.hosts, order, pace, data, run, progress, already=already
                    )
            except OSError as error:
                return _tell_unwritten(error, location, run)
        return _tell(outcome, run, time.monotonic() - began)


def _wanted(what: str) -> tuple[str, ...]:
    from vmatlas_fleet.asking import WHAT

    words = [word for word in map(str.strip, what.split(",")) if word]
    if unknown := [word for word in words if word not in WHAT]:
        raise UsageError(f"--what '{unknown[0]}' is nothing to record", hint=f"there are {', '.join(WHAT)}")
    if not words:
        raise UsageError("--what names nothing", hint=f"there are {', '.join(WHAT)}")
    return tuple(word for word in WHAT if word in words)


def _check_selection(words: tuple[str, ...]) -> None:
    """Here, and not by each host. Raises UsageError."""
    if words:
        from vmatlas.selection.words import Selection

        Selection.of(*words)


def _newest(data: DataSet, wanted: Run) -> Run:
    """The recording to go on with. Raises UsageError where there is none, or it asked something else."""
    run = next(data.runs(), None)
    if run is None:
        raise UsageError("there is no recording to go on with", hint="leave --resume out")
    before, now = run.asks(), wanted.asks()
    if differ := [key for key in now if before.get(key) != now[key]]:
        key = differ[0]
        raise UsageError(
            f"the recording {run.run} asks otherwise: {key} is {before.get(key)!r} there and {now[key]!r} here",
            hint="give the same options, or leave --resume out",
        )
    return run


def _tell_unwritten(error: OSError, location: str, run: Run) -> int:
    reason = error.strerror or str(error)
    say(
        f"{location} cannot be written: {reason}: what was written before is there",
        hint=f"make room, then the same command with --resume asks for what the recording {run.run} lacks",
    )
    return Exit.FAILED


def _tell(outcome: Outcome, run: Run, seconds: float) -> int:
    from vmatlas.cli.render.text import count

    told = f"{count(outcome.answered, 'host')} answered"
    if outcome.already:
        told += f" ({outcome.already:,} more had before)"
    told += f", {outcome.failed:,} failed" + (f", {outcome.partly:,} in part" if outcome.partly else "")
    sums = f"{count(outcome.processes, 'process', 'processes')}, {count(outcome.regions, 'region')}"
    if outcome.findings:
        sums += f", {count(outcome.findings, 'finding')}"
    say(f"{told}: {sums}, in {seconds:.1f} s; recording {run.run}")
    for key, number in outcome.reasons.most_common(_MOST_REASONS):
        kind, reason = key
        names = outcome.named[key]
        who = ", ".join(names) + (", ..." if number > len(names) else "")
        reason = reason.replace("HOST", names[0]) if number == 1 else reason
        say(f"{count(number, 'host')} ({who}): {reason or kind}")
    if len(outcome.reasons) > _MOST_REASONS:
        rest = sum(outcome.reasons.values()) - sum(n for _, n in outcome.reasons.most_common(_MOST_REASONS))
        say(f"{count(rest, 'more host')} for other reasons: the table hosts has each")
    if outcome.incomplete:
        say(f"of {count(outcome.incomplete, 'host')} that answered something is missing: see unread and incomplete")
    if outcome.not_asked:
        say(f"{count(outcome.not_asked, 'host')} not asked", hint="the same command with --resume asks them")
    if outcome.interrupted is not None:
        raise outcome.interrupted
    if outcome.is_whole:
        return Exit.OK
    return Exit.INCOMPLETE if outcome.answered or outcome.partly or outcome.already else Exit.TARGET_LOST


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    """A line on a terminal, gone at the end; nothing elsewhere."""
    from vmatlas_fleet.recording import Silent

    if sys.stderr is None or not sys.stderr.isatty():
        yield Silent()
        return
    line = _Line()
    try:
        yield line
    finally:
        line.end()


class _Line:
    def __init__(self) -> None:
        self._began = self._drawn = time.monotonic()

    def update(self, outcome: Outcome, in_flight: int) -> None:
        """See `Progress`."""
        now = time.monotonic()
        if now - self._drawn < _REDRAW:
            return
        self._drawn = now
        bad = f", {outcome.failed + outcome.partly:,} failed" if outcome.failed or outcome.partly else ""
        done, of = outcome.already + outcome.settled, outcome.hosts
        self._write(f"\r\x1b[K{done:,} of {of:,} hosts{bad}, {in_flight} in flight, {now - self._began:.0f} s")

    def end(self) -> None:
        """Erase it."""
        self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal went away; the command itself will say so
            sys.stderr.write(text)
            sys.stderr.flush()
