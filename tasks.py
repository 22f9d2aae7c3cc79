"""The tasks of the repository, each a line or two into the package that owns the job: `./run invoke --list`."""

from __future__ import annotations

import sys

from invoke.context import Context
from invoke.tasks import task

PACKAGES = "-p vmatlas -p vmatlas_linux_procfs -p vmatlas_linux_ioctl"


def _run(context: Context, command: str) -> None:
    context.run(command, pty=sys.stdout.isatty(), in_stream=False)


@task
def check(context: Context) -> None:
    """Check style and types: ruff, and mypy in its strict mode."""
    _run(context, "ruff check .")
    _run(context, "ruff format --check .")
    _run(context, f"mypy {PACKAGES}")


@task
def test(context: Context, only: str = "") -> None:
    """Run the tests that need no machine. --only EXPRESSION chooses some (pytest's -k)."""
    chosen = f" -k '{only}'" if only else ""
    _run(context, f"pytest -n auto core platforms tests -m 'not machine'{chosen}")


@task
def test_all_platforms(context: Context) -> None:
    """Check and test everything that can run here."""
    check(context)
    test(context)


@task
def bench(context: Context, json: str = "") -> None:
    """Compare with the bare system calls and with the peers, in one run. --json FILE keeps the figures."""
    _run(context, "python -m tests.bench" + (f" --json {json}" if json else ""))
