"""`vmatlas explain`: why a process ended, and where it stood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from vmatlas.cli.exits import Exit, say
from vmatlas.cli.options import asking_options, bytes_option, debuginfod_option, json_option, shape_options
from vmatlas.cli.recorded import AnySourceType
from vmatlas.cli.words import Asked, Chooses
from vmatlas.errors import UsageError

if TYPE_CHECKING:
    from vmatlas.operations.explaining import Explanation


@click.command("explain", short_help="Why a process ended: signal, fault, instruction, stacks.")
@click.argument("source", metavar="FILE|PID", type=AnySourceType())
@click.option("--lines", "lines", is_flag=True, help="Also lines of source code, by debug information.")
@debuginfod_option
@json_option
@bytes_option
@shape_options
@asking_options
def command(
    source: Asked | Chooses | str,
    lines: bool,
    debuginfod: tuple[str, ...],
    as_json: bool,
    exact: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    """Explain why a process ended, from the core file, the minidump or the report that it left: the signal, the access
    that failed and what lies around its address, the instruction's place in its file, and how full each thread's stack
    is.

    \b
    Examples:
      vmatlas explain core.1234
      vmatlas explain core.1234 --lines
      vmatlas explain core.1234 --json
      vmatlas explain 1234

    - is a core on standard input. Of a process that lives (PID: one that was stopped, so that its threads stand still)
    there is no signal and no instruction, but its threads and their stacks. What the file does not tell is -. USED is
    from the stack pointer to the end of the region that it lies in, FULL the part of that. --lines takes the package
    symbolic, and debug information in the mapped file or its debug file. What is not at hand a debuginfod server is
    asked for, where one is named (--debuginfod, or DEBUGINFOD_URLS), and else nobody. See docs/postmortem.md.
    """
    from vmatlas.cli.render import explain, output

    found = _explained(source, lines, debuginfod or None, patience, backend, target)
    if as_json:
        output.show_json(explain.explanation_json(found))
    else:
        output.show_words(explain.paragraph(found))
        output.show(explain.threads_table(found, exact=exact))
    for line in explain.unread_lines(found):
        say(line)
    return Exit.OK


def _explained(
    source: Asked | Chooses | str,
    lines: bool,
    debuginfod: Sequence[str] | None,
    patience: float | None,
    backend: str | None,
    target: str,
) -> Explanation:
    from vmatlas import operations
    from vmatlas.cli.words import warn_if_incomplete

    if isinstance(source, Chooses):
        raise UsageError("explain takes one process, by its number", hint="vmatlas explain PID")
    if isinstance(source, str):
        from vmatlas.cli.recorded import load, refuse_asking

        refuse_asking(backend, target)
        found = operations.explain(
            load(source), lines=lines, debuginfod=debuginfod, file=None if source == "-" else source
        )
    else:
        from vmatlas.cli.asking import opened

        with opened(source, target, backend, patience) as asked:
            found = asked.ask(lambda: operations.explain(asked.process, lines=lines, debuginfod=debuginfod))
    warn_if_incomplete(found.space)
    for line in found.said:
        say(line)
    return found
