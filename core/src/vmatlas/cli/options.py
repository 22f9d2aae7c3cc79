"""What the commands share: how a process, an address, a filter and a target are written, and the options for them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from vmatlas import arguments
from vmatlas.cli.words import Asked, Chooses, asked_of, chooses
from vmatlas.errors import UsageError

if TYPE_CHECKING:
    from vmatlas.model import Filter

    # Generic since click 8.4; older ones serve as well.
    ParameterType = click.ParamType[Any, Any]
else:
    ParameterType = click.ParamType

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _instead(word: str, ctx: click.Context | None) -> str:
    """What there is to do about a word where a process belongs: a capture is asked by other commands."""
    import os

    if word.lower() in ("help", "?") and ctx is not None:
        return f"{ctx.command_path} --help"
    if word != "-" and not os.path.isfile(word):
        return f"give a number or 'self'; by its name: name:{word}" if word.isprintable() and word else _HOW
    return f"a capture is read by: vmatlas maps {word} (and find, summary, audit, diff, replay)"


_HOW = "give a number, 'self', or a word that chooses some; 'vmatlas --help' has them"


class ProcessType(ParameterType):
    """A process id, `self`, or another word that chooses processes."""

    name = "process"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Asked | Chooses:
        """Raises UsageError."""
        if isinstance(value, (Asked, Chooses)):
            return value
        asked = asked_of(value) or chooses(value)
        if asked is None:
            if ":" in value:
                from vmatlas.selection.words import parse

                parse(value)  # says which there are
            raise UsageError(f"'{value}' is no process id", hint=_instead(value, ctx))
        return asked

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The processes of this machine, with their names; what chooses several, and what may stand behind it."""
        with contextlib.suppress(Exception):  # a completion that fails must not write into the user's line
            return _completed(incomplete)
        return []


_SELVES = {"self": "this command itself", "all": "every process"}


def _completed(incomplete: str) -> list[CompletionItem]:
    from vmatlas.cli.render.text import escape
    from vmatlas.selection.words import KEYS
    from vmatlas.target.local import LOCAL

    key, colon, _ = incomplete.rpartition(":")  # a shell may take the colon for the end of a word
    if colon:
        found = {f"{key}:{word}": told for word, told in _values(key.removeprefix("!")).items()}
    else:
        found = dict(_SELVES) | {f"{each}:": told for each, told in KEYS.items()}
        found |= {str(each.pid): escape(each.name) for each in LOCAL.brief() if not each.kernel}
    return [CompletionItem(word, help=told) for word, told in found.items() if word.startswith(incomplete)]


def _values(key: str) -> dict[str, str]:
    """What may stand behind a colon: the names of those that run, their users, their numbers."""
    from vmatlas.cli.render.text import escape
    from vmatlas.target.local import LOCAL

    if key in ("pid", "children"):
        return {str(each.pid): escape(each.name) for each in LOCAL.brief() if not each.kernel}
    if key == "name":
        names = [each.name for each in LOCAL.brief() if not each.kernel and escape(each.name) == each.name]
        return {name: "" for name in sorted(set(names)) if name}
    if key == "user":
        import pwd

        users = {each.user for each in LOCAL.processes() if each.user is not None}
        return {each.pw_name: str(each.pw_uid) for each in pwd.getpwall() if each.pw_uid in users}
    return {}


class AddressType(ParameterType):
    """A hexadecimal address."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Raises UsageError."""
        from vmatlas.model.filter import parse_address

        return value if isinstance(value, int) else parse_address(value)


class FilterType(ParameterType):
    """A filter in words."""

    name = "filter"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Filter:
        """Raises UsageError."""
        from vmatlas.model import Filter

        return value if isinstance(value, Filter) else Filter.parse(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The word of the condition that is begun, behind those that stand already."""
        from vmatlas.model import Kind

        before, comma, begun = incomplete.rpartition(",")
        negated = "!" if begun.startswith("!") else ""
        words = ["shared", "private", "file", "deleted", *(kind.label for kind in Kind)]
        if not negated:
            words += ["r-x", "rw-", "rwx", "path=", "name=", "kind=", "size>", "size<", "resident>", "at=", "in="]
        return [
            CompletionItem(f"{before}{comma}{negated}{word}")
            for word in words
            if word.startswith(begun[len(negated) :])
        ]


class TargetType(ParameterType):
    """The URL of a target; what reaches it says what is wrong with it."""

    name = "url"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The words that a URL begins with."""
        from vmatlas.target.connect import words

        return [CompletionItem(word) for word in ("local", *words()) if word.startswith(incomplete)]


class BackendType(ParameterType):
    """The name of a backend; whether there is one is asked when it is used."""

    name = "backend"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The installed ones."""
        from vmatlas import registry

        return [CompletionItem(name) for name in registry.entries(registry.BACKENDS) if name.startswith(incomplete)]


class PatienceType(ParameterType):
    """Seconds to wait for an answer."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises UsageError."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= arguments.LONGEST:
            raise UsageError(
                f"--patience '{str(value)[:40]}' is no time to wait for an answer",
                hint="a number of seconds above 0, at most a year",
            )
        return seconds


class DurationType(ParameterType):
    """A length of time: seconds, or with units."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises UsageError."""
        from vmatlas import arguments

        what = f"value of {param.opts[-1]}" if param is not None else "value"
        return value if isinstance(value, float) else arguments.duration(value, what)


process_argument = click.argument("process", metavar="PID", type=ProcessType())
processes_argument = click.argument("processes", metavar="PROCESS...", type=ProcessType(), nargs=-1, required=True)

backend_option = click.option(
    "--backend", metavar="NAME", type=BackendType(), help="Ask by this backend; see: vmatlas doctor."
)
target_option = click.option(
    "--target",
    metavar="URL",
    type=TargetType(),
    default="local",
    help="The machine that the process lives on: local (the default), ssh:USER@HOST, agent:COMMAND, serial:DEVICE, "
    "unix:PATH, tcp:HOST:PORT, qemu:MACHINE.",
)
bytes_option = click.option("--bytes", "exact", is_flag=True, help="Sizes in bytes, exact.")
json_option = click.option("--json", "as_json", is_flag=True, help="JSON, with everything that is known.")
patience_option = click.option(
    "--patience",
    metavar="SECONDS",
    type=PatienceType(),
    help="Give up a question that made no way for so long. Default: 30; with --all 5; over a wire 10.",
)
debuginfod_option = click.option(
    "--debuginfod",
    "debuginfod",
    metavar="URL",
    multiple=True,
    help="Ask this server for files that are not at hand, by build id. Default: those in DEBUGINFOD_URLS, if any.",
)
csv_option = click.option("--csv", "as_csv", is_flag=True, help="CSV, with everything that is known.")
residency_option = click.option("--residency", is_flag=True, help="Also the memory in use (dearer).")
build_ids_option = click.option("--build-ids", is_flag=True, help="Also the ELF build id of each file (dearer).")
where_option = click.option(
    "--where",
    "wheres",
    metavar="FILTER",
    type=FilterType(),
    multiple=True,
    help="Only regions that pass, e.g. 'x,file,size>1M'; 'vmatlas --help' has the words. Repeated: all must hold.",
)


during_option = click.option(
    "--during",
    metavar="TIME",
    type=DurationType(),
    default=10.0,
    show_default="10 seconds",
    help="How long it is looked: 10, 1m.",
)
force_option = click.option("--force", is_flag=True, help="Clear the marks of the whole process, for good.")


def reaching_options(command: _Command) -> _Command:
    """`--patience` and `--target`: of every command that asks somebody."""
    return patience_option(target_option(command))


def asking_options(command: _Command) -> _Command:
    """The same and `--backend`: of every command that asks for maps."""
    return backend_option(reaching_options(command))


def format_options(command: _Command) -> _Command:
    """`--json`, `--csv` and `--bytes`."""
    return json_option(csv_option(bytes_option(command)))


def _choose_shape(_: click.Context, option: click.Parameter, value: Any) -> None:
    from vmatlas.cli.render.shape import choose_shape, chosen_shape

    if option.name == "columns":
        given = value
        value = tuple(word for word in map(str.strip, (given or "").split(",")) if word)
        if given is not None and not value:
            raise click.BadParameter(f"'{given}' names no column (size,name: two)", param=option)
    choose_shape(chosen_shape()._replace(**{option.name or "": value}))


def shape_options(command: _Command) -> _Command:
    """`--columns`, `--limit` and `--reverse`: of commands that show tables. What they say goes to the renderer."""
    for option in (
        click.option(
            "--reverse",
            is_flag=True,
            expose_value=False,
            callback=_choose_shape,
            help="The rows from the last to the first.",
        ),
        click.option(
            "--limit",
            metavar="N",
            type=click.IntRange(min=0),
            expose_value=False,
            callback=_choose_shape,
            help="The first N rows of each table; totals stay.",
        ),
        click.option(
            "--columns",
            metavar="TITLES",
            expose_value=False,
            callback=_choose_shape,
            help="These columns alone, in this order: 'size,name'. For tables and CSV, as the other two.",
        ),
    ):
        command = option(command)
    return command
