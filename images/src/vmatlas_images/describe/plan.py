"""What is installed on a guest's Python and run there, as data: one YAML file that machines name in `python.plan`.

This module reads plans; it fetches, builds and runs nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, PrivateAttr

from ..errors import NotRunnable
from .machine import Machine, Part, Seconds, Text, Texts, read

Words = Annotated[Texts, Field(min_length=1)]


class Step(Part):
    """One run of tests: what the Python of the guest is given; its JUnit file is named to it besides.

    It runs in the folder that stands for `root`. `within` is seconds under TCG.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    about: Text
    words: Words
    within: Seconds = 300


class Plan(Part):
    """What comes into the guest, and what is run there.

    `packages` are Debian's, each with all that it needs, for a machine whose `python` names a suite. `requirements`
    and `distributions` (folders of ours) become wheels on the host; `libraries` are the C libraries of the guest that
    they may be built against, the newest first (as wheels name them); none: wheels of Python alone, ours without twins.
    `files` are brought as they are. Paths start at `root`, which starts at the plan's own folder.

    `install` is for the guest's shell: it makes an environment in $VENV and gives its pip "$@". A line that ends with
    status 77 says that this guest cannot have a Python, and the last thing it printed is why: the machine is NOT RUN.
    """

    root: Text
    packages: Texts = ()
    requirements: Words
    distributions: Words
    libraries: Texts = ()
    files: Words
    install: Words
    steps: Annotated[tuple[Step, ...], Field(min_length=1, strict=False)]
    _path: Path = PrivateAttr(default=Path())

    @property
    def path(self) -> Path:
        """The file that this plan was read from."""
        return self._path

    @property
    def tree(self) -> Path:
        """The folder at which the plan's paths start."""
        return (self._path.parent / self.root).resolve()


def plan_of(machine: Machine) -> Plan:
    """The plan of a machine with a Python. Raises `MachineError` for a wrong one, `NotRunnable` where it is not."""
    assert machine.python is not None
    path = machine.path.parent / machine.python.plan
    if not path.is_file():
        raise NotRunnable(f"no plan {path} of what its Python is to run", hint="run it from a checkout")
    plan, _ = read(path, Plan)
    plan._path = path
    for name in (*plan.distributions, *plan.files):
        if not (plan.tree / name).exists():
            raise NotRunnable(f"{path} names {plan.tree / name}, which is not there", hint="run it from a checkout")
    return plan
