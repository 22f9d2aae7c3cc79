"""A machine is data: one YAML file that says which kernel, how it boots, how the agent gets in, what must be true on
it.

The types below are the schema: a field that is not here is refused, and so is one that is said twice. Every error names
file, line and field, and says what is allowed. This module reads descriptions; it never fetches, prepares or boots.
"""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    Strict,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from vmatlas.arguments import shown

from ..errors import MachineError

Processor = Literal["x86_64", "i386", "aarch64", "armhf", "riscv64", "s390x", "ppc64el", "loong64", "mips64el"]
Version = Annotated[str, Field(pattern=r"^\d+(\.\d+)*$")]
Text = Annotated[str, Field(min_length=1)]
Seconds = Annotated[float, Field(gt=0, le=86400), Strict(False)]


GROUP = "vmatlas.machines"
"""The entry points by which other distributions bring machines."""

T = TypeVar("T", bound="Part")


def _is_pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return text


Texts = Annotated[tuple[Text, ...], Strict(False)]
Pattern = Annotated[str, Field(min_length=1), AfterValidator(_is_pattern)]


class Part(BaseModel):
    """A part of a description: immutable, nothing unknown in it, nothing converted (6.10 is no text: quote it)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class VersionRange(Part):
    """Versions from `at_least` (inclusive) to `below` (exclusive); an end that is not given is open."""

    at_least: Version | None = None
    below: Version | None = None

    def __contains__(self, release: str) -> bool:
        """Whether a kernel release such as `6.12.107+deb13-cloud-amd64` lies in the range; numbers alone count."""
        numbers = version_numbers(release)
        return not (
            (self.at_least is not None and numbers < version_numbers(self.at_least))
            or (self.below is not None and numbers >= version_numbers(self.below))
        )

    def __str__(self) -> str:
        parts = [f">= {self.at_least}" if self.at_least else "", f"< {self.below}" if self.below else ""]
        return " and ".join(part for part in parts if part) or "any version"


def version_numbers(release: str) -> tuple[int, ...]:
    """The leading numbers of a release: `6.1.0-50-cloud-amd64` is (6, 1, 0). Of more than 18 digits the first 18: a
    guest says what it likes.
    """
    found = re.match(r"[0-9]{1,18}(?:\.[0-9]{1,18})*", release)
    return tuple(int(number) for number in found[0].split(".")) if found else ()


class DebianKernel(Part):
    """A kernel package of Debian, from the mirror that this host's apt is set to, or `VMATLAS_DEBIAN_MIRROR`.

    `package` is a shell pattern for the names of linux-image packages; of those in any of `suites` whose upstream
    version lies in [`at_least`, `below`), the newest or the oldest is taken. `modules` are names of kernel modules
    (without .ko) that go into the initramfs, each with those that it needs.
    """

    kind: Literal["debian-kernel"]
    suites: Annotated[tuple[Text, ...], Strict(False), Field(min_length=1)]
    package: Text
    at_least: Version | None = None
    below: Version | None = None
    choose: Literal["newest", "oldest"] = "newest"
    modules: Texts = ()

    @property
    def versions(self) -> VersionRange:
        """The versions that may be taken."""
        return VersionRange(at_least=self.at_least, below=self.below)


class DebianProgram(Part):
    """A kernel that is a program of this host, out of a package of Debian; found, fetched and verified as kernels are.

    `package` is the package's name or a shell pattern, `program` the path of the program in it. Nothing is installed.
    """

    kind: Literal["debian-program"]
    suites: Annotated[tuple[Text, ...], Strict(False), Field(min_length=1)]
    package: Text
    program: Text
    at_least: Version | None = None
    below: Version | None = None
    choose: Literal["newest", "oldest"] = "newest"

    @property
    def versions(self) -> VersionRange:
        """The versions that may be taken."""
        return VersionRange(at_least=self.at_least, below=self.below)


class Download(Part):
    """A file at a URL, verified by a digest written here or by the checksum file that its publisher keeps beside it.

    A name that ends in .xz, .gz or .bz2 is unpacked.
    """

    kind: Literal["url"]
    url: Text
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    sha512: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")] | None = None
    checksum_file: Text | None = None

    @field_validator("url", "checksum_file")
    @classmethod
    def _is_url(cls, url: str | None) -> str | None:
        if url is not None and (urlsplit(url).scheme not in ("http", "https", "file") or not urlsplit(url).path):
            raise ValueError("an http, https or file URL is needed")
        return url

    @model_validator(mode="after")
    def _is_verifiable(self) -> Download:
        if sum(way is not None for way in (self.sha256, self.sha512, self.checksum_file)) != 1:
            raise ValueError("exactly one of sha256, sha512, checksum_file is needed: nothing is used unverified")
        if self.checksum_file is not None:
            parts = urlsplit(self.checksum_file)
            if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
                raise ValueError("checksum_file over plain http proves nothing: use https, or a digest")
        return self


class LocalFile(Part):
    """A file of the user's: a licensed system, a home-built kernel. It is used where it lies and is never written to.

    `path` may hold `~` and `$VARIABLE`; a relative one starts at the folder of the description. `disk` is named in the
    same way, beside a `path` that is a kernel. `obtain` tells a user who does not have them what to do.
    """

    kind: Literal["file"]
    path: Text
    disk: Text | None = None
    obtain: Text
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


Source = Annotated[DebianKernel | DebianProgram | Download | LocalFile, Field(discriminator="kind")]


class OfQemu(Part):
    """Which QEMU a machine takes. `obtain` tells a user who has an older one what to do."""

    at_least: Version
    obtain: Text


class Firmware(Part):
    """A file that QEMU starts before the kernel (-bios), and Debian's package that has it."""

    path: Annotated[str, Field(pattern=r"^/")]
    package: Text


class Boot(Part):
    """What QEMU is told. `start`: the fetched file is a kernel with our initramfs, or a disk that boots itself.

    Or it is a program of this host, and no QEMU is needed: a kernel that runs as one, with our initramfs (`user-mode`:
    User-mode Linux), or one that runs our agent and answers its calls (`sandbox`: gVisor's runsc). Of what is below,
    `memory` and `panic` are for these too, and `command_line`: what the program is told besides.
    """

    start: Literal["kernel", "disk", "user-mode", "sandbox"]
    board: Text = "pc"  # -machine
    cpu: Text = "max"
    memory: Annotated[int, Field(ge=16, le=65536)] = 256  # MiB
    processors: Annotated[int, Field(ge=1, le=64)] = 1
    command_line: str = ""
    disk: Literal["ide", "virtio", "virtio-mmio", "scsi"] = "ide"  # virtio-mmio: on a board without PCI; so is the CD
    format: Literal["raw", "qcow2", "vmdk"] = "raw"
    console: Literal["serial", "vga"] = "serial"
    qemu: OfQemu | None = None
    firmware: Firmware | None = None
    panic: Texts = ()  # any of these on the console ends the stage at once
    arguments: Texts = ()  # added to QEMU's, as they are

    @model_validator(mode="after")
    def _has_one_way(self) -> Boot:
        if self.start == "disk" and self.command_line:
            raise ValueError("command_line is for `start: kernel`; a disk has its own loader")
        if self.is_program and (self.qemu is not None or self.firmware is not None or self.arguments):
            raise ValueError(f"qemu, firmware and arguments are QEMU's; `start: {self.start}` has none")
        return self

    @property
    def is_program(self) -> bool:
        """Whether the kernel runs as a program of this host, without QEMU."""
        return self.start in ("user-mode", "sandbox")


class Agent(Part):
    """How the agent gets in: as /init of the initramfs, or on a CD that the dialogue starts it from.

    `processor` is the one that the agent is built for, when it is not the machine's (a 32-bit agent on a 64-bit
    kernel). `wire` is the device at whose host end the agent's bytes arrive; `isa-serial` is a second serial port for a
    board that has one of its own (microvm).
    """

    delivery: Literal["init", "cd"]
    processor: Processor | None = None
    wire: Literal["serial", "isa-serial", "pci-serial", "virtio-serial"] = "serial"


class Step(Part):
    """One step of a dialogue: wait until the console shows the pattern, then type.

    `wait` is a regular expression, looked for in what came since the step before (serial) or on the screen (VGA);
    `at: last_line` looks at the last line that is not empty and wants the pattern at its end, which is how a prompt is
    told from its echo. `within` is seconds under TCG.
    """

    wait: Pattern | None = None
    at: Literal["anywhere", "last_line"] = "anywhere"
    type: str | None = None
    enter: bool = True
    within: Seconds = 30

    @model_validator(mode="after")
    def _does_something(self) -> Step:
        if self.wait is None and self.type is None:
            raise ValueError("a step needs `wait`, `type` or both")
        return self


class GuestPython(Part):
    """A Python on the machine, where our packages are installed and tested.

    Python and what it needs come from Debian's `suite`, in the initramfs; without one the plan's `install` gets it in
    the guest, and what is ours comes on the CD. `version` is what it must be. `plan`, a path from the folder of the
    description, says what is installed and run (see plan.py).
    """

    suite: Text | None = None
    version: VersionRange
    plan: Text


class Limits(Part):
    """Seconds that a stage may take. `boot`, `agent` and `test` are meant for TCG; KVM gets half, busy hosts more."""

    fetch: Seconds = 1800
    prepare: Seconds = 600
    boot: Seconds = 180
    agent: Seconds = 120
    test: Seconds = 600


class Refuses(Part):
    """A backend that must refuse here; its reason must hold this text (letter case aside)."""

    refuses: Text


class Expect(Part):
    """What must be true on the machine; a run on which it is not so has failed."""

    kernel: VersionRange = VersionRange()
    pointer_bits: Literal[32, 64] | None = None  # of the agent's own process
    byte_order: Literal["little", "big"] | None = None
    page_size: Annotated[int, Field(ge=4096)] | None = None  # bytes
    files: dict[Text, Pattern] = {}
    """Files of the machine, and a regular expression that must be found in the first mebibyte of each."""
    backends: dict[Text, Literal["answers"] | Refuses] = {}
    pages: dict[Text, Literal["answers"] | Refuses] = {}  # the sources of pages
    lacks: dict[Text, Text] = {}
    """What this kernel does not do, or does otherwise: tests of the suite by name (`*` is any text), and what their
    failures must say. One of each must fail so: what the kernel has learned is to be taken out of here."""

    @property
    def answering(self) -> tuple[str, ...]:
        """The backends that must answer."""
        return tuple(name for name, how in self.backends.items() if how == "answers")

    @property
    def refusing(self) -> dict[str, str]:
        """Backend to the text that its reason must hold."""
        return {name: how.refuses for name, how in self.backends.items() if isinstance(how, Refuses)}

    @property
    def all_answering(self) -> tuple[str, ...]:
        """The backends, and the sources of pages, that must answer."""
        return self.answering + tuple(name for name, how in self.pages.items() if how == "answers")

    @property
    def all_refusing(self) -> dict[str, str]:
        """Those that must refuse, as `refusing`."""
        return self.refusing | {name: how.refuses for name, how in self.pages.items() if isinstance(how, Refuses)}


class Machine(Part):
    """A machine, as its YAML describes it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    about: Text
    system: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*$")]
    processor: Processor
    labels: Texts = ()
    source: Source
    boot: Boot
    agent: Agent
    python: GuestPython | None = None
    dialogue: Annotated[tuple[Step, ...], Strict(False)] = ()
    limits: Limits = Limits()
    expect: Expect = Expect()
    _path: Path = PrivateAttr(default=Path())

    @property
    def path(self) -> Path:
        """The file that describes this machine."""
        return self._path

    @property
    def agent_processor(self) -> str:
        """The processor that the agent is built for."""
        return self.agent.processor or self.processor

    @model_validator(mode="after")
    def _fits_together(self) -> Machine:
        if self.boot.is_program:
            if self.agent.delivery != "init" or self.agent.wire != "serial" or self.dialogue or self.python is not None:
                raise ValueError(f"boot.start: {self.boot.start} needs agent.delivery: init alone, and no dialogue")
            if not isinstance(self.source, DebianProgram | LocalFile):
                raise ValueError(f"boot.start: {self.boot.start} needs source.kind: debian-program or file")
        elif isinstance(self.source, DebianProgram):
            raise ValueError("source.kind: debian-program needs boot.start: user-mode or sandbox")
        if self.agent.delivery == "init" and self.boot.start == "disk":
            raise ValueError("agent.delivery: init needs boot.start: kernel (a disk has its own init): use cd")
        if self.agent.delivery == "cd" and not self.dialogue:
            raise ValueError("agent.delivery: cd needs a dialogue that starts the agent")
        if isinstance(self.source, LocalFile) and self.source.disk and self.boot.start != "kernel":
            raise ValueError("source.disk is for boot.start: kernel; a disk that boots itself is source.path")
        if self.python is not None:
            if self.python.suite is not None and (self.system != "linux" or self.agent.delivery != "init"):
                raise ValueError("python.suite needs system: linux and agent.delivery: init: it comes in the initramfs")
            if self.python.suite is None and self.agent.delivery != "cd":
                raise ValueError("python without a suite needs agent.delivery: cd: what is ours comes on the CD")
            if self.python.suite is None and self.python.version.at_least is None:
                raise ValueError("python without a suite needs version.at_least: wheels are brought for that version")
        if isinstance(self.source, DebianKernel) and self.boot.start != "kernel":
            raise ValueError("source.kind: debian-kernel needs boot.start: kernel")
        return self


_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Of the C library, where PyYAML was built with it: some ten times as fast."""


def load(path: Path) -> Machine:
    """Reads one description. Raises `MachineError`, whose message has a line for each thing that is wrong."""
    machine, node = read(path, Machine)
    if machine.name != path.stem:
        line = _line_of(node, ("name",))
        raise MachineError(f"{path}:{line}: name: is '{machine.name}', but the file says '{path.stem}': make them one")
    machine._path = path
    return machine


def read(path: Path, kind: type[T]) -> tuple[T, yaml.Node]:
    """Reads a file of that type, and its nodes. Raises `MachineError`, with a line for each thing that is wrong."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise MachineError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise MachineError(f"{path}: not UTF-8: byte {error.start} is {error.object[error.start]:#04x}") from error
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise MachineError(f"{path}:1: empty; a {kind.__name__.lower()} is a mapping with {_fields_of(kind)}")
        if not isinstance(node, yaml.MappingNode):
            raise MachineError(f"{path}:1: a {kind.__name__.lower()} is a mapping with {_fields_of(kind)}")
        _refuse_repetition(path, node)
        value = loader.construct_document(node)
    except MachineError:
        raise
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise MachineError(f"{path}:{line}: not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MachineError(f"{path}: not YAML: {error}") from error
    try:
        return kind.model_validate(value), node
    except ValidationError as error:
        details = error.errors(include_url=False)
        said = dict.fromkeys(_sentence(path, node, value, detail, kind) for detail in details)
        raise MachineError("\n".join(said)) from error


def own_folder() -> Path:
    """Where our own descriptions lie: in the checkout, or where they were installed."""
    checkout = Path(__file__).resolve().parents[3]
    is_checkout = (checkout / "pyproject.toml").is_file()
    return checkout if is_checkout else Path(sysconfig.get_path("data"), "share/vmatlas/machines")


def folders() -> list[Path]:
    """Where descriptions are looked for: ours, those of other distributions (a `Path` under `vmatlas.machines`), then
    those named by `VMATLAS_IMAGES` (separated by colons). Raises `MachineError`.
    """
    found = [own_folder()]
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            folder = entry.load()
        except Exception as error:  # a plugin may fail in any way
            raise MachineError(f"{entry.name} of {GROUP} cannot be loaded: {type(error).__name__}: {error}") from error
        if not isinstance(folder, Path) or not folder.is_dir():
            raise MachineError(f"{entry.name} of {GROUP} gives {entry.value}, which is no folder")
        found.append(folder)
    for name in filter(None, os.environ.get("VMATLAS_IMAGES", "").split(os.pathsep)):
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise MachineError(f"VMATLAS_IMAGES names '{name}', which is no folder")
        if folder.resolve() not in (known.resolve() for known in found):
            found.append(folder)
    return found


def machines() -> list[Machine]:
    """All machines, by name. Raises `MachineError` for the first broken description, or a name that two files have."""
    known: dict[str, Machine] = {}
    for path in _descriptions():
        machine = load(path)
        if machine.name in known:
            raise _said_twice(known[machine.name], machine)
        known[machine.name] = machine
    return sorted(known.values(), key=lambda machine: natural(machine.name))


def _descriptions() -> Iterator[Path]:
    for folder in folders():
        yield from sorted(folder.glob("*.yaml"))


def _said_twice(first: Machine, second: Machine) -> MachineError:
    return MachineError(f"two machines are called '{first.name}': {first.path} and {second.path}")


def find(name: str) -> Machine:
    """The machine of that name; what is wrong with the description of another one is none of its business.

    Raises `MachineError`, which lists the names there are, and tells what is wrong with descriptions that have none.
    """
    known: list[Machine] = []
    broken: list[MachineError] = []
    for path in _descriptions():
        try:
            known.append(load(path))
        except MachineError as error:
            broken.append(error)
    meant = [machine for machine in known if machine.name == name]
    if len(meant) > 1:
        raise _said_twice(*meant[:2])
    if meant:
        return meant[0]
    names = ", ".join(sorted((machine.name for machine in known), key=natural))
    unread = "".join(f"\nnot read: {error}" for error in broken)
    raise MachineError(f"no machine is called '{name}'; there are: {names}{unread}")


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts linux-6.1 before linux-6.12 and 6.9 before 6.12; numbers of any length are compared as text."""
    parts = [part.lstrip("0") if part.isdecimal() else part for part in re.split(r"(\d+)", name) if part]
    return [(len(part), part) if part == "" or part.isdecimal() else (-1, part) for part in parts]


def _refuse_repetition(path: Path, node: yaml.Node) -> None:
    """YAML lets a key stand twice and keeps the last: here that is an error."""
    for at, mapping in _mappings(node, (), set(), set()):
        seen: dict[str, int] = {}
        for key, _ in mapping.value:
            line, name = key.start_mark.line + 1, str(key.value)
            if name in seen:
                raise MachineError(f"{path}:{line}: {'.'.join((*at, name))}: said twice (before in line {seen[name]})")
            seen[name] = line


def _mappings(
    node: yaml.Node, at: tuple[str, ...], above: set[int], seen: set[int]
) -> Iterator[tuple[tuple[str, ...], yaml.MappingNode]]:
    """Each once, however many aliases lead to it."""
    if id(node) in above:
        raise ValueError("an alias that contains itself")
    if id(node) in seen:
        return
    seen.add(id(node))
    below = above | {id(node)}
    if isinstance(node, yaml.MappingNode):
        yield at, node
        for key, value in node.value:
            yield from _mappings(value, (*at, str(key.value)), below, seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _mappings(value, (*at, str(index)), below, seen)


def _line_of(node: yaml.Node, location: tuple[int | str, ...]) -> int:
    """The line of a field, or of the nearest thing around it that stands in the file."""
    line: int = node.start_mark.line + 1
    for step in location:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == step:
                    line, node = key.start_mark.line + 1, value
                    break
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
    return line


def _sentence(path: Path, node: yaml.Node, value: object, detail: ErrorDetails, kind_of_file: type[Part]) -> str:
    """One line for one thing that is wrong: file, line, field, what is wrong, what is allowed."""
    location = detail["loc"]
    kind = detail["type"]
    field = ".".join(str(step) for step in _said(value, location)) or f"the {kind_of_file.__name__.lower()}"
    message = detail["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        message = f"no such field here; allowed: {_fields_of(_part_at(value, location[:-1]) or kind_of_file)}"
    elif kind == "missing":
        message = "is missing"
    elif kind in ("union_tag_not_found", "union_tag_invalid"):
        field, message = f"{field}.kind", "allowed: debian-kernel, debian-program, url, file"
    elif kind == "string_type":
        given = shown(detail["input"])
        message = f"a text is needed, this is {given} (quote what only looks like a number or a yes/no)"
    elif kind == "string_pattern_mismatch":
        message = f"{shown(detail['input'])} does not fit the pattern {detail.get('ctx', {}).get('pattern')}"
    elif {"backends", "pages"} & set(location) and kind in ("literal_error", "model_type"):
        message = "allowed: answers, or {refuses: TEXT THAT ITS REASON HOLDS}"
    elif kind == "tuple_type":
        message = "a list is needed, such as [a, b]"
    elif kind == "model_type":
        message = f"a mapping is needed, with {_fields_of(_part_at(value, location) or kind_of_file)}"
    elif "input" in detail and isinstance(detail["input"], str | int | float):
        message = f"{message}, this is {shown(detail['input'])}"
    return f"{path}:{_line_of(node, location)}: {field}: {message}"


def _said(value: object, location: tuple[int | str, ...]) -> Iterator[int | str]:
    """The location without the names of union members, which no user has written."""
    for index, step in enumerate(location):
        if isinstance(value, dict):
            if step in value:
                value = value[step]
            elif index + 1 < len(location) or not _is_field(step):
                continue
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            continue
        yield step


def _is_field(step: int | str) -> bool:
    return isinstance(step, str) and step.isidentifier() and step not in ("Refuses",)


_PARTS: dict[str, type[Part]] = {
    "boot": Boot, "agent": Agent, "limits": Limits, "expect": Expect, "kernel": VersionRange, "dialogue": Step,
    "backends": Refuses, "debian-kernel": DebianKernel, "debian-program": DebianProgram, "url": Download,
    "file": LocalFile, "python": GuestPython, "version": VersionRange, "qemu": OfQemu, "firmware": Firmware,
}  # fmt: skip


def _part_at(value: object, location: tuple[int | str, ...]) -> type[Part] | None:
    """The type that describes the place of an error; None for the file itself."""
    for step in reversed(location):
        if isinstance(step, str) and step in _PARTS:
            return _PARTS[step]
    return None


def _fields_of(part: type[Part]) -> str:
    return ", ".join(part.model_fields)


def schema() -> dict[str, Any]:
    """The schema as JSON Schema, for editors."""
    return Machine.model_json_schema()
