"""`vmatlas completion`: the lines that teach a shell to complete vmatlas's commands."""

from __future__ import annotations

import sys

import click

from vmatlas.cli.exits import Exit


@click.command("completion", short_help="Teach bash, zsh or fish to complete vmatlas's commands.")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def command(shell: str) -> int:
    """Print the script that makes a shell complete vmatlas's commands, options and process ids.

    \b
    Examples:
      vmatlas completion bash
      vmatlas completion zsh
      vmatlas completion fish

    \b
    To have it in every new shell:
      bash   eval "$(vmatlas completion bash)"      in ~/.bashrc   (bash 4.4 or newer)
      zsh    eval "$(vmatlas completion zsh)"       in ~/.zshrc
      fish   vmatlas completion fish | source       in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    from vmatlas.cli.plain import COMPLETION
    from vmatlas.cli.program import NAME, program

    kind = get_completion_class(shell)
    assert kind is not None
    complete = kind(program, {}, NAME, COMPLETION)
    sys.stdout.write(complete.source_template % complete.source_vars())
    return Exit.OK
