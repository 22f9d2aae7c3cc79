"""The manual page vmatlas(1), made of what the commands' own help is made of.

    python -m vmatlas.cli.manual > man/vmatlas.1

The wheel installs that file; a test holds it to the commands.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

import click

from vmatlas import __version__
from vmatlas.cli.program import COMMANDS, NAME, program

_ENVIRONMENT = {
    "NO_COLOR": "No colours on a terminal, unless --color or FORCE_COLOR says otherwise.",
    "FORCE_COLOR": "Colours everywhere, unless it is 0 or --color says otherwise.",
    "VMATLAS_THREADS": "How many threads may serve one question, from 1 to 64.",
    "VMATLAS_PURE": "1: no compiled code is used.",
    "VMATLAS_DEBUG": "1: the traceback of an error is shown.",
}


def manual() -> str:
    """The page, in the macros of man(7)."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    context = click.Context(program, info_name=NAME)
    summary, *rest = _paragraphs(program.help or "")
    yield f'.TH VMATLAS 1 "" "{NAME} {__version__}" "User Commands"'
    yield ".SH NAME"
    yield f"{NAME} \\- {_escaped(summary[:1].lower() + summary[1:].rstrip('.'))}"
    yield ".SH SYNOPSIS"
    yield f".B {NAME}"
    yield "COMMAND [OPTION]... [ARGUMENT]..."
    yield ".SH DESCRIPTION"
    for paragraph in rest:
        yield from _paragraph(paragraph)
    yield ".SH COMMANDS"
    for name in COMMANDS:
        command = program.get_command(context, name)
        assert command is not None
        yield from _command(name, command)
    yield ".SH ENVIRONMENT"
    for name, meaning in _ENVIRONMENT.items():
        yield from (".TP", f".B {name}", _escaped(meaning))
    yield ".SH SEE ALSO"
    yield ".BR pmap (1),"
    yield ".BR proc_pid_maps (5)"


def _command(name: str, command: click.Command) -> Iterator[str]:
    arguments = [f" {each.metavar}" for each in command.params if isinstance(each, click.Argument) and each.metavar]
    yield f'.SS "{NAME} {name} [OPTION]...{_escaped("".join(arguments))}"'
    for paragraph in _paragraphs(command.help or ""):
        yield from _paragraph(paragraph)
    for each in command.params:
        if isinstance(each, click.Option) and not each.hidden:
            yield ".TP"
            yield f".B {_escaped(', '.join([*each.opts, *each.secondary_opts]) + _takes(each))}"
            yield _escaped(each.help or "")


def _takes(option: click.Option) -> str:
    if option.is_flag:
        return ""
    if isinstance(option.type, click.Choice):
        return f" {'|'.join(map(str, option.type.choices))}"
    return f" {option.metavar or option.type.name.upper()}"


def _paragraphs(text: str) -> list[str]:
    return [each.strip("\n") for each in inspect.cleandoc(text).split("\n\n") if each.strip()]


def _paragraph(text: str) -> Iterator[str]:
    """Filled, or, where click is told so by a backspace, as it stands."""
    first, _, rest = text.partition("\n")
    if first.strip() == "\b":
        yield from (".PP", ".nf", *map(_escaped, rest.splitlines()), ".fi")
    else:
        yield from (".PP", _escaped(" ".join(text.split())))


def _escaped(line: str) -> str:
    """Nothing of it is taken for a request or an escape: roff(7)."""
    told = line.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{told}" if told.startswith((".", "'")) else told


if __name__ == "__main__":
    sys.stdout.write(manual())
