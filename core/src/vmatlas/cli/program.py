"""The program: its commands, loaded when they are asked for, and what is wrong in the words of a command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from vmatlas.cli import running
from vmatlas.cli.ending import by_signal
from vmatlas.cli.exits import Exit, say
from vmatlas.cli.plain import COMPLETION
from vmatlas.errors import UsageError
from vmatlas.installed import how_to_install

if TYPE_CHECKING:
    from vmatlas.installed import Entry

NAME = "vmatlas"

COMMANDS = (
    "maps",
    "picture",
    "report",
    "find",
    "pages",
    "numa",
    "written",
    "working-set",
    "summary",
    "diff",
    "watch",
    "growth",
    "record",
    "replay",
    "audit",
    "explain",
    "recover",
    "advise",
    "processes",
    "top",
    "metrics",
    "doctor",
    "schema",
    "completion",
)
"""In the order of the help. Each is the `command` of the module of its name (`_` for `-`). A distribution adds others
under the entry-point group `vmatlas.commands`, each a click command under its name."""

ELSEWHERE = {"fleet": "vmatlas-fleet", "sql": "vmatlas-fleet"}
"""Commands that come with another distribution of ours: what to install where one is missing."""


def _choose_colours(_: click.Context, __: click.Parameter, word: str) -> None:
    from vmatlas.cli.render.colour import choose_colours

    choose_colours(word)


_COLOUR = click.Option(
    ["--color", "--colour"],
    type=click.Choice(("auto", "always", "never")),
    default="auto",
    expose_value=False,
    callback=_choose_colours,
    help="Colours on a terminal (auto, the default), everywhere (for less -R), or never.",
)
"""What every command takes. Without it FORCE_COLOR and NO_COLOR are heeded."""

_HELP = """The memory map of any process, on every kernel.

    \b
    vmatlas maps self                          the map of this very command
    vmatlas maps 1234 --where x,file           executable mappings of files
    vmatlas picture 1234 -o atlas.html         the same, drawn
    vmatlas find 1234 7f0012345678             what lies at an address
    vmatlas pages 1234                         what is in memory, what is a guard
    vmatlas summary 1234                       code, data, stack, libraries
    vmatlas top                                who uses how much, as it changes
    vmatlas diff 1234 --after 10               what changes in ten seconds
    vmatlas watch 1234                         what changes, as it changes
    vmatlas growth 1234                        what grows, and how sure that is
    vmatlas audit --all                        writable code, deleted libraries
    vmatlas advise 1234 --cold --where anon    memory that may go first

    PROCESS words: one for each; several choose together, each process once:

    \b
    1234  self  all       a number, this command itself, every process
    name:post*            by its name, or its program's
    user:www-data         whose rights it has
    children:1234         a process and the tree below it
    cgroup:/PATH  unit:nginx.service  container:web    what it belongs to
    pidfile:PATH          whose number a file holds
    !WORD                 leaves those out

    FILTER words, separated by commas; all must hold:

    \b
    rwx  rw  x            these rights are given (others do not matter)
    r-x  rw-p  ---        exactly these, as in /proc/PID/maps
    shared  private  file  deleted
    heap  stack  anonymous  shared-memory  device  guard  vdso ...   the kind
    kind=heap|stack       either kind
    libc                  anything else: the path or the name contains it
    path=GLOB  name=GLOB  the path, or the kernel's own name: name=[heap]
    size>1M  size<=64K    the size; likewise resident, private, swap, pss, ...
    flag=locked  flag=lo  a flag of the system's
    at=7f00  in=1000-9000 regions at an address, or in a range
    offset=26000          where in its file one begins: hexadecimal, as shown
    !CONDITION            the opposite of rights, shared, file, deleted, a kind,
                          a flag, a text

    Exit codes: 0 done, 1 found or different, 2 usage, 3 no such process, 4 access denied, 5 unsupported, 6 malformed
    data, 7 torn or incomplete, 8 target lost, 9 other failure, 129 hung up, 130 interrupted, 143
    terminated.
    """


MEANT = {
    "processes": "ps pgrep list ls tasks pids process",
    "top": "htop atop btop smem interactive tui",
    "maps": "map pmap procmap vmmap procstat vm mem memory show print cat mappings regions segments layout smaps",
    "picture": "draw plot chart graph html svg gui visualize visualise image treemap atlas",
    "report": "dossier briefing",
    "find": "search lookup look-up where whereis addr address at query locate resolve addr2line",
    "pages": "page pagemap residency touched guards hugepages rss incore mincore page-types",
    "numa": "numa_maps numastat nodes node policy numactl",
    "written": "dirty soft-dirty writes write-tracking modified",
    "working-set": "wss workingset working_set referenced idle hot cold-pages accessed",
    "summary": "info stat stats status total totals usage du size sum summarize summarise overview",
    "diff": "compare cmp changes delta",
    "watch": "monitor follow tail trace live track",
    "growth": "leak leaks trend trends grow slope regression",
    "record": "dump save capture snapshot gcore export write",
    "replay": "load open read view import restore play",
    "audit": "scan security lint suspicious inspect vet",
    "explain": "why crash postmortem post-mortem bt backtrace core coredump fault signal died",
    "recover": "undelete unlink copy extract restore-file",
    "advise": "madvise advice pageout page-out reclaim swap cold collapse willneed",
    "doctor": "check diagnose diag diagnostics health selftest self-test backends plugins",
    "metrics": "prometheus exporter openmetrics node_exporter serve",
    "schema": "json-schema jsonschema json",
    "completion": "completions complete bash zsh fish",
}
"""What the field calls each command."""


def _meant(word: str, rest: Sequence[str]) -> str:
    """What may have been meant by a word where a command belongs."""
    import difflib

    said = word.lower()
    if said in ELSEWHERE:
        return f"it comes with {ELSEWHERE[said]}: {how_to_install(ELSEWHERE[said])}"
    if said in ("help", "man", "usage", "?"):
        return f"{NAME} {rest[0]} --help" if rest and rest[0] in COMMANDS else f"{NAME} --help"
    if said == "version":
        return f"{NAME} --version"
    if said == "self" or (said.isascii() and said.isdigit()):
        return f"the map of a process: {NAME} maps {word[:20]}"
    if os.path.isfile(word):
        return f"the map in a capture: {NAME} replay {word}"
    found = next((command for command, words in MEANT.items() if said in words.split()), None)
    if found is None:
        near = difflib.get_close_matches(said, COMMANDS, n=1, cutoff=0.5)
        found = near[0] if near else None
    return (f"did you mean {found}? " if found is not None else "") + f"{NAME} --help lists them"


class Program(click.Group):
    """The group of all commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the help; last those of other distributions."""
        return [*COMMANDS, *_others()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name in COMMANDS:
            command: click.Command = import_module(f"vmatlas.cli.{cmd_name.replace('-', '_')}").command
        elif cmd_name in (others := _others()):
            command = others[cmd_name].load()
        else:
            return None
        for each in command.commands.values() if isinstance(command, click.Group) else (command,):
            if _COLOUR not in each.params:
                each.params.append(_COLOUR)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names. Raises UsageError with what may have been meant."""
        if args[0] not in COMMANDS and not args[0].startswith("-") and args[0] not in _others():
            raise UsageError(f"there is no command '{args[0]}'", hint=_meant(args[0], args[1:]))
        return super().resolve_command(ctx, args)

    def main(self, args: Sequence[str] | None = None, *_: Any, **__: Any) -> Any:
        """As click's runner calls it: ends by SystemExit with the code of `run`."""
        sys.exit(self.run(args))

    def run(self, args: Sequence[str] | None = None) -> int:
        """Parse, do, and tell what went wrong: the exit code."""
        return running.run(lambda: self._do(list(sys.argv[1:] if args is None else args) or ["--help"]))

    def _do(self, args: list[str]) -> int:
        if (instruction := os.environ.get(COMPLETION)) is not None:
            from click.shell_completion import shell_complete

            if instruction.endswith("_complete") and not {"COMP_WORDS", "COMP_CWORD"} <= os.environ.keys():
                raise UsageError(f"{COMPLETION} is for a shell that completes, and COMP_WORDS or COMP_CWORD is not set")
            return shell_complete(self, {}, NAME, COMPLETION, instruction)
        try:
            with self.make_context(NAME, args) as context:
                return int(self.invoke(context) or Exit.OK)
        except click.exceptions.Exit as error:  # --help and --version
            return error.exit_code
        except click.Abort as error:
            return by_signal(error) or Exit.INTERRUPTED
        except click.UsageError as error:
            name = error.ctx.command_path if error.ctx is not None else NAME
            say(" ".join(error.format_message().split()), hint=f"{name} --help")
            return Exit.USAGE
        except click.ClickException as error:
            say(error.format_message())
            return Exit.USAGE


def _others() -> dict[str, Entry]:
    """The commands of other distributions, by name: looked for when a word is none of ours."""
    from vmatlas import registry

    return {name: entry for name, entry in registry.entries(registry.COMMANDS).items() if name not in COMMANDS}


program = Program(
    name=NAME,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
program = click.version_option(package_name="vmatlas", message="%(prog)s %(version)s")(program)
