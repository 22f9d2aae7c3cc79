"""Named sets of machines: which of them a run is for, as data, each with its reason. Selects and runs nothing."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..errors import MachineError


class Choice(BaseModel):
    """Machines whose names fit the shell pattern `machines`, and why they are in the set."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    machines: str = Field(min_length=1)
    reason: str = Field(min_length=1)


@dataclass(frozen=True)
class MachineSet:
    """A set and its name."""

    name: str
    choices: tuple[Choice, ...]

    def __contains__(self, machine: str) -> bool:
        return any(fnmatch.fnmatchcase(machine, pattern) for pattern in self.patterns)

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns of machine names. Each must fit a machine, which who selects by them checks."""
        return tuple(choice.machines for choice in self.choices)

    def __str__(self) -> str:
        return f"Set {self.name}: " + "; ".join(f"{choice.machines} ({choice.reason})" for choice in self.choices)


_SETS = TypeAdapter(dict[str, list[Choice]])


def read_sets(file: Path) -> list[MachineSet]:
    """The sets of a file. Raises `MachineError` for a file that is wrong."""
    try:
        sets = _SETS.validate_python(yaml.safe_load(file.read_text("utf-8")))
    except OSError as error:
        raise MachineError(f"{file}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MachineError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, each['loc'])) or 'the file'}: {each['msg']}" for each in error.errors()]
        raise MachineError(f"{file}: {'; '.join(wrong)}") from error
    return [MachineSet(name, tuple(choices)) for name, choices in sets.items()]


def find_set(file: Path, name: str) -> MachineSet:
    """The set of that name in a file. Raises `MachineError` for a file that is wrong and for a name that it lacks."""
    sets = read_sets(file)
    for found in sets:
        if found.name == name and found.choices:
            return found
    raise MachineError(f"{file} has no set '{name}'; it has: {', '.join(each.name for each in sets)}")
