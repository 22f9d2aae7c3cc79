"""`vmatlas find`: what lies at addresses."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from vmatlas.cli.exits import Exit, say
from vmatlas.cli.options import (
    AddressType,
    asking_options,
    bytes_option,
    debuginfod_option,
    json_option,
    shape_options,
    where_option,
)
from vmatlas.cli.recorded import AnySourceType
from vmatlas.cli.words import Asked, Chooses, all_of, chooses, only_one, warn_if_incomplete
from vmatlas.errors import UsageError

if TYPE_CHECKING:
    from vmatlas.cli.render.find import Named
    from vmatlas.cli.render.table import Table
    from vmatlas.model import Filter, Region
    from vmatlas.process import Process
    from vmatlas.symbolizing import Place, Symbolizer


class _Names(Enum):
    """Which names of addresses are asked for, by the option that asks."""

    NONE = ""
    SYMBOLS = "--symbol"
    LINES = "--lines"

    def __bool__(self) -> bool:
        return bool(self.value)


class _AddressOrProcess(AddressType):
    """An address, or one more process where the word can be no address."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Raises UsageError."""
        if isinstance(value, (int, Asked, Chooses)):
            return value
        return Asked(None) if value == "self" else chooses(value) or super().convert(value, param, ctx)


@click.command("find", short_help="Which region covers an address, and where in its file it lies.")
@click.argument("process", metavar="PROCESS|FILE", type=AnySourceType())
@click.argument("addresses", metavar="[PROCESS...] ADDRESS...", type=_AddressOrProcess(), nargs=-1, required=True)
@click.option("--or-next", is_flag=True, help="Where nothing lies at an address: the next region above.")
@where_option
@click.option("--neighbours", is_flag=True, help="Also the regions before and after; and how far away they are.")
@click.option(
    "--symbol", "symbol", is_flag=True, help="Also the function or object that lies there, by its file's symbols."
)
@click.option("--lines", "lines", is_flag=True, help="--symbol, and the line of source code by debug information.")
@debuginfod_option
@json_option
@shape_options
@bytes_option
@asking_options
def command(
    process: Asked | Chooses | str,
    addresses: tuple[int | Asked | Chooses, ...],
    or_next: bool,
    wheres: tuple[Filter, ...],
    neighbours: bool,
    symbol: bool,
    lines: bool,
    debuginfod: tuple[str, ...],
    as_json: bool,
    exact: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    """Tell which region covers an address, and where in its file the address lies.

    \b
    Examples:
      vmatlas find 1234 7f0012345678
      vmatlas find 1234 0x7f0012345678 0x55d0c0001000
      vmatlas find 1234 7ffc00000000 --neighbours
      vmatlas find 1234 0 --or-next --where x,file
      vmatlas find children:1234 7f0012345678
      vmatlas find core.1234 7f0012345678 --symbol
      vmatlas find 1234 7f0012345678 --lines

    Addresses are hexadecimal. ELF-ADDRESS is the address in the addresses of the ELF file, of a program or a library:
    what addr2line and objdump take. FILE-OFFSET is how far from the beginning of the file it stands. Both are - where
    there is no such file, or it cannot be read. SYMBOL is the function and how far into it the address lies: from the
    file itself, its debug file (/usr/lib/debug/.build-id), or what a JIT wrote for perf; of C++ and Rust made
    legible by c++filt, where that is installed.
    SOURCE is the line of source code, where those files have debug information (DWARF), which the package symbolic
    reads; a line below says what an inlined function was inlined into. Words choose several processes ('vmatlas
    --help' has them): the first, and what stands behind it and can be no address (pid:1235). Of a FILE (a capture, a
    core file: see 'vmatlas maps') a mapped file is read only if the one at its path here has the same build id, or
    device and inode. What is not at hand a debuginfod server is asked for, where one is named (--debuginfod, or
    DEBUGINFOD_URLS), and else nobody. Exit 1 when an address lies in no region.
    """
    from vmatlas.cli.asking import opened, tell_if_kernels_own
    from vmatlas.cli.render import find, output
    from vmatlas.model import ANY

    where = all_of(wheres)
    names = _Names.LINES if lines else _Names.SYMBOLS if symbol else _Names.NONE
    if neighbours and (or_next or where != ANY):
        raise UsageError("--neighbours goes with the whole map only: without --or-next and --where")
    if debuginfod and not names:
        raise UsageError("--debuginfod goes with --symbol or --lines")
    servers = debuginfod or None
    if neighbours and names:
        raise UsageError(f"{names.value} goes without --neighbours")
    if names and target != "local":
        hint = "give the ELF-ADDRESS to addr2line, with a copy of the file"
        raise UsageError(f"{names.value} reads mapped files, of this machine's processes alone", hint=hint)
    numbers = tuple(each for each in addresses if isinstance(each, int))
    more = [each for each in addresses if not isinstance(each, int)]
    if not numbers:
        raise UsageError("Missing argument 'ADDRESS...'", hint="vmatlas find --help")
    if isinstance(process, str):
        if more:
            raise UsageError(f"'{process}' is a file: it goes alone", hint="one file, or processes")
        return _of_file(process, numbers, or_next, where, neighbours, names, servers, as_json, exact, backend, target)
    words = [process, *more]
    one, addresses = only_one(words), numbers
    if one is None:
        return _of_several(
            words, numbers, or_next, where, neighbours, names, servers, as_json, exact, patience, backend, target
        )
    with opened(one, target, backend, patience) as asked:
        if neighbours:
            space = asked.snapshot()
            around = asked.ask(lambda: [asked.process.neighbours_in(space, address) for address in addresses])
            warn_if_incomplete(space)
            if as_json:
                output.show_json(find.neighbours_json(addresses, around))
            else:
                output.show(find.neighbours_table(space, addresses, around, exact=exact))
            return _exit(addresses, [each.at for each in around], or_next, backend=backend)
        found = asked.ask(lambda: _find(asked.process, addresses, or_next, where))
        in_elf, unread, told, without = asked.ask(lambda: _in_elf(asked.process, addresses, found, names, servers))
        if not any(found):
            asked.ask(lambda: tell_if_kernels_own(asked.process))
    if as_json:
        output.show_json(find.found_json(addresses, found, in_elf, unread, told))
    else:
        output.show(find.found_table(addresses, found, in_elf, told, exact=exact))
    for line in (*_unread_lines(found, unread), *without):
        say(line)
    return _exit(addresses, found, or_next, backend=backend)


def _of_file(
    path: str,
    addresses: tuple[int, ...],
    or_next: bool,
    where: Filter,
    neighbours: bool,
    names: _Names,
    servers: Sequence[str] | None,
    as_json: bool,
    exact: bool,
    backend: str | None,
    target: str,
) -> int:
    from vmatlas.cli.recorded import replay
    from vmatlas.cli.render import find, output
    from vmatlas.symbolizing import Symbolizer

    space = replay(path, residency=False, backend=backend, target=target)
    lines: list[str] = []
    if neighbours:
        around = [space.neighbours(address) for address in addresses]
        told, found = find.neighbours_json(addresses, around), [each.at for each in around]
        table = find.neighbours_table(space, addresses, around, exact=exact)
    else:
        among = space.where(where)
        found = [among.find(address, or_next=or_next) for address in addresses]
        with Symbolizer(space, debuginfod=servers if names else (), demangle=bool(names)) as symbolizer:
            places, names_told, without = _named(symbolizer, addresses, found, names)
            in_elf = [each.elf_address for each in places]
            unread = [
                symbolizer.why_not(region) if region is not None and own is None else None
                for region, own in zip(found, in_elf, strict=True)
            ]
            lines = [*_unread_lines(found, unread), *without, *symbolizer.said]
        told = find.found_json(addresses, found, in_elf, unread, names_told)
        table = find.found_table(addresses, found, in_elf, names_told, exact=exact)
    if as_json:
        output.show_json(told)
    else:
        output.show(table)
    for line in lines:
        say(line)
    return _exit(addresses, found, or_next)


class _Found(NamedTuple):
    """What one of several processes answers."""

    table: Table
    told: list[dict[str, Any]]
    at: Sequence[Region | None]
    lines: list[str]


def _of_several(
    words: Sequence[Asked | Chooses],
    addresses: tuple[int, ...],
    or_next: bool,
    where: Filter,
    neighbours: bool,
    names: _Names,
    servers: Sequence[str] | None,
    as_json: bool,
    exact: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    from vmatlas.cli.asking import named
    from vmatlas.cli.render import find, output
    from vmatlas.cli.render.together import Whose, together, together_json
    from vmatlas.cli.survey import Survey
    from vmatlas.cli.whom import chosen

    def ask(asked: Process) -> tuple[str | None, _Found]:
        if neighbours:
            space = named(asked.snapshot(), asked)
            around = [asked.neighbours_in(space, address) for address in addresses]
            table = find.neighbours_table(space, addresses, around, exact=exact)
            told = find.neighbours_json(addresses, around)
            return space.incomplete, _Found(table, told, [each.at for each in around], [])
        at = _find(asked, addresses, or_next, where)
        in_elf, unread, named_so, without = _in_elf(asked, addresses, at, names, servers)
        table = find.found_table(addresses, at, in_elf, named_so, exact=exact)
        told = find.found_json(addresses, at, in_elf, unread, named_so)
        return None, _Found(table, told, at, [*_unread_lines(at, unread), *without])

    with chosen(words, target, patience) as (place, selected):
        survey = Survey(place, backend, patience, ask, selected)
        found = [(Whose(info.pid, info.known_name), each) for info, each in survey]
    if as_json:
        told = [{"pid": whose.pid, "process": whose.name, "found": each.told} for whose, each in found]
        output.show_json(together_json(told, survey))
    else:
        output.show(together([(whose, each.table) for whose, each in found], survey))
    for line in dict.fromkeys(line for _, each in found for line in each.lines):
        say(line)
    code = survey.tell()
    missed = [_exit(addresses, each.at, or_next, f" of process {whose.pid}", backend) for whose, each in found]
    return Exit.FOUND if Exit.FOUND in missed else code


def _find(asked: Process, addresses: tuple[int, ...], or_next: bool, where: Filter) -> list[Region | None]:
    from vmatlas.model import ANY

    if len(addresses) > 1 and not or_next and where == ANY:
        return asked.find_many(addresses)
    return [asked.find(address, or_next=or_next, where=where) for address in addresses]


def _in_elf(
    asked: Process,
    addresses: tuple[int, ...],
    found: list[Region | None],
    names: _Names,
    servers: Sequence[str] | None,
) -> tuple[list[int | None], list[str | None], Named | None, list[str]]:
    """The ELF addresses, why there is none for want of the file, the names where they are asked for, and a line for
    each file that tells no lines of source code, and for what went wrong with servers."""
    in_elf = [
        None if region is None else asked.elf_address(address, region)
        for address, region in zip(addresses, found, strict=True)
    ]
    unread = _unread(asked, found, in_elf)
    if not names:
        return in_elf, unread, None, []
    from vmatlas.symbolizing import Symbolizer

    with Symbolizer(asked, debuginfod=servers, demangle=True) as symbolizer:
        _, told, without = _named(symbolizer, addresses, found, names)
        return in_elf, unread, told, [*without, *symbolizer.said]


def _named(
    symbolizer: Symbolizer, addresses: Sequence[int], found: Sequence[Region | None], names: _Names
) -> tuple[list[Place], Named | None, list[str]]:
    """What was looked up, what is to be shown of it, and a line for each file without lines of source code."""
    from vmatlas.cli.render.find import Named

    places = symbolizer.look_up_in(addresses, found)
    without: list[str] = []
    if names is _Names.LINES:
        places = symbolizer.with_lines(addresses, places)
        without = [
            f"no lines of {each.region.path}: {why}"
            for each in places
            if each.region is not None and each.region.path and (why := symbolizer.why_no_lines(each)) is not None
        ]
    if symbolizer.why_no_jit_map is not None:
        without.append(f"no names of {symbolizer.why_no_jit_map}")
    told = Named([each.symbol for each in places], [each.lines for each in places] if names is _Names.LINES else None)
    return places, told if names else None, list(dict.fromkeys(without))


def _unread(asked: Process, found: list[Region | None], in_elf: list[int | None]) -> list[str | None]:
    """For each address why nothing is read of its file; None where it is read, or there is none."""
    from vmatlas.model import Kind

    reasons: list[str | None] = []
    for region, own in zip(found, in_elf, strict=True):
        if region is None or own is not None:
            reasons.append(None)
        elif region.inode and region.path is None and region.kind is Kind.FILE:
            reasons.append("it has a longer name than is told so: vmatlas maps has it")
        else:
            reasons.append(asked.why_unread(region))
    return reasons


def _unread_lines(found: Sequence[Region | None], unread: Sequence[str | None]) -> list[str]:
    """A line for each file of which nothing is read."""
    lines = {
        f"no ELF-ADDRESS of {region.path or f'the file at {region.start:#x}'}: {why}": None
        for region, why in zip(found, unread, strict=True)
        if region is not None and why is not None
    }
    return list(lines)


def _exit(
    addresses: tuple[int, ...],
    found: Sequence[Region | None],
    or_next: bool,
    whose: str = "",
    backend: str | None = None,
) -> Exit:
    """Says what was not found; `backend` is the one that was named, where one was."""
    from vmatlas import registry
    from vmatlas.backend import is_blind

    missed = [address for address, region in zip(addresses, found, strict=True) if region is None]
    for address in missed:
        told = f"no region{whose} that was asked for lies at {address:#x}" + (" or above" if or_next else "")
        if backend is not None and is_blind(registry.backend(backend), address):
            told += f", as far as {backend} tells, which never tells what the kernel itself has there"
        say(told)
    return Exit.FOUND if missed else Exit.OK
