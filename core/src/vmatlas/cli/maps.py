"""`vmatlas maps`: its options, with those that it shares with `replay`. What is done is in `showing`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from vmatlas.cli.options import (
    AddressType,
    asking_options,
    build_ids_option,
    format_options,
    residency_option,
    shape_options,
    where_option,
)
from vmatlas.cli.recorded import AnySourceType
from vmatlas.cli.showing import SORTS, View, show
from vmatlas.cli.words import Asked, Chooses

_Command = TypeVar("_Command", bound=Callable[..., Any])


def view_options(command: _Command) -> _Command:
    """The options of a `View`."""
    for option in reversed(
        (
            where_option,
            click.option(
                "--at",
                metavar="ADDRESS",
                type=AddressType(),
                multiple=True,
                help="Only the region at this hexadecimal address; exit 1 when there is none. May be repeated.",
            ),
            click.option("--gaps", is_flag=True, help="Also the holes between regions."),
            click.option(
                "--sort",
                type=click.Choice(SORTS),
                default="start",
                help="By address (the default), by kind or path, or the most first: all but 'size' imply --residency.",
            ),
            click.option("--entries", is_flag=True, help="The kernel's own entries, where it splits regions further."),
            click.option("--flags", is_flag=True, help="The system's own flags, where it tells them."),
            click.option(
                "--names",
                is_flag=True,
                help="What the nameless seems to be: a guess (?, weak ones ??), see GUESS below.",
            ),
            format_options,
            shape_options,
        )
    ):
        command = option(command)
    return command


@click.command("maps", short_help="The memory map of a process.")
@click.argument("sources", metavar="PROCESS...|FILE", type=AnySourceType(), nargs=-1, required=True)
@view_options
@residency_option
@build_ids_option
@click.option("--guards", is_flag=True, help="Guards that no map shows as entries of their own; not with --residency.")
@click.option("--thread", metavar="TID", type=int, help="Ask through this thread of the process.")
@click.option("--lenient", is_flag=True, help="Of a text: pass over lines that are none of a map, and count them.")
@asking_options
def command(
    sources: tuple[Asked | Chooses | str, ...],
    residency: bool,
    build_ids: bool,
    guards: bool,
    thread: int | None,
    lenient: bool,
    patience: float | None,
    backend: str | None,
    target: str,
    **shown: Any,
) -> int:
    """Show the memory map of a process, or of several: its regions, by address. Also of a file that one left.

    \b
    Examples:
      vmatlas maps self
      vmatlas maps 1234 --where 'x,file,size>64K'
      vmatlas maps 1234 --residency --sort resident
      vmatlas maps 1234 --at 7f0012345678
      vmatlas maps 1234 --gaps --bytes
      vmatlas maps 1234 --names
      vmatlas maps 1234 --guards --where guard
      vmatlas maps children:1234 --sort size
      vmatlas maps 1234 --json | jq '.regions[].path'
      vmatlas maps core.1234

    PERM is protection and sharing as in /proc/PID/maps; SIZE counts in powers of 1024, and is exact with --bytes. A
    terminal that is narrow is shown fewer columns; what is piped is complete. Of several processes (or words that
    choose them: 'vmatlas --help'), each line says whose it is; --sort is over all of them. Exit 7 when one of them
    could not be read.

    FILE is a capture ('vmatlas record'), a core file of Linux (the kernel's, gdb's, qemu-user's), a minidump, the text
    of a /proc/PID/maps or smaps, or a report that has one (pmap -X, hs_err, an entry of the journal, a tombstone); also
    compressed (gzip, xz, zstd, lz4). - reads standard input. What a file does not tell is "?" or nothing: what is
    shared, devices, the heap; a warning says so once. See docs/postmortem.md.

    GUESS (--names) is what memory without a name seems to be: the stack of a thread, an arena of malloc, the heap of a
    JVM. It is never a fact, and stands beside what the kernel tells: ? before a guess for which several signs speak, ??
    before a weak one, - where no rule knows. --json has the evidence of each, and the threads.
    """
    return show(
        sources,
        View(**shown),
        residency=residency,
        build_ids=build_ids,
        guards=guards,
        thread=thread,
        lenient=lenient,
        patience=patience,
        backend=backend,
        target=target,
    )
