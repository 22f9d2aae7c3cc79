"""What an interactive session sees: short reprs, public names, errors in one traceback with their hint."""

from __future__ import annotations

import ast
import inspect
import mmap
import os
import traceback
import typing
from pathlib import Path

import pytest

import vmatlas
from vmatlas import operations
from vmatlas.model import Kind, Protection, Region
from vmatlas.target.local import LOCAL

from .strategies import space_of

FILE = Region(
    0x7F8DB2065000,
    0x7F8DB21BB000,
    Protection.READ | Protection.EXECUTE,
    shared=False,
    offset=0x26000,
    device=vmatlas.Device(0xFD, 1),
    inode=12,
    path="/usr/lib/libc.so.6",
    kind=Kind.FILE,
)
GROWN = FILE._replace(end=0x7F8DB21BC000)


def shown() -> dict[str, object]:
    capture, space = vmatlas.capture(), vmatlas.snapshot()
    difference = vmatlas.diff(space_of([FILE]), space_of([GROWN]))
    return {
        "Region": FILE,
        "Capture": capture,
        "Summary": vmatlas.summarize(space),
        "FileTotal": vmatlas.summarize(space).files[0],
        "Difference": difference,
        "Difference of all": vmatlas.diff(space_of([]), space),
        "Change": difference.changes[0],
        "Finding": vmatlas.audit(space_of([FILE._replace(protection=Protection(7))]))[0],
        "AddressSpace": space,
        "Filter": vmatlas.Filter.parse("x,file,size>1M"),
        "target": LOCAL,
        "Fault": operations.classify_fault(0x1000, space),
        "Advised": operations.Advised(operations.Advice.COLD, 1, 3, 4096, 0),
        "Moved": operations.Moved(0x1000, 4096, 0x9000, (operations.Piece(0x1000, 0x2000, 0x9000),)),
    }


@pytest.mark.parametrize("what", shown())
def test_what_a_session_shows_is_a_short_line(what):
    text = repr(shown()[what])
    assert len(text) <= 240, text
    assert text.isprintable()


def test_a_region_shows_where_it_lies_as_maps_do():
    expected = "<Region 0x7f8db2065000-0x7f8db21bb000 r-xp file '/usr/lib/libc.so.6' from 0x26000>"
    assert repr(FILE) == expected
    assert "0x7f8db2065000" in repr(vmatlas.diff(space_of([FILE]), space_of([])).changes[0])
    assert repr(FILE._replace(path="/a\n\udcff")).isprintable()


def test_a_difference_and_a_target_say_what_they_are():
    assert repr(vmatlas.diff(space_of([FILE]), space_of([GROWN]))) == "<Difference of pid 4321: 1 grown; +4,096 bytes>"
    assert repr(vmatlas.diff(space_of([FILE]), space_of([FILE]))) == "<Difference of pid 4321: none>"
    assert repr(LOCAL) == "<vmatlas.target local>"
    assert repr(vmatlas.Filter()) == "<Filter of nothing: every region passes>"
    assert repr(vmatlas.Filter.parse("x,file")) == "<Filter x,file>"


def test_a_printed_fault_is_its_sentence():
    fault = operations.classify_fault(0x10, space_of([FILE]))
    assert str(fault) == fault.text


def test_dir_shows_what_is_public_and_no_more():
    for module in (vmatlas, operations):
        public = {name for name in dir(module) if not name.startswith("__")}
        assert public - {"operations"} == set(module.__all__)


def test_a_mapping_completes_to_what_is_for_its_users():
    with operations.map_anonymous(mmap.PAGESIZE) as mapping:
        offered = [name for name in dir(mapping) if not name.startswith("__")]
        assert all(hasattr(mapping, name) for name in offered if name != "descriptor")
    expected = {"address", "buffer", "close", "regions", "protect", "protected", "lock", "flush", "size"}
    assert expected <= set(offered)
    assert not [name for name in offered if name.startswith(("_", "note_", "check_")) or name == "exports"]


def _named_in(hint: object) -> set[type]:
    found = {hint} if isinstance(hint, type) else set()
    return found.union(*(_named_in(part) for part in typing.get_args(hint)))


def test_every_type_that_the_one_shot_functions_name_is_exported():
    exported = {id(getattr(module, name)) for module in (vmatlas, operations) for name in module.__all__}
    namespace = {name: getattr(vmatlas, name) for name in vmatlas.__all__}
    missing = set()
    for name in vmatlas.__all__:
        thing = getattr(vmatlas, name)
        if not inspect.isfunction(thing):
            continue
        hints = typing.get_type_hints(thing, {**vars(typing), **thing.__globals__, **namespace})
        missing |= {
            each.__name__
            for hint in hints.values()
            for each in _named_in(hint)
            if each.__module__.startswith("vmatlas") and id(each) not in exported
        }
    assert not missing


@pytest.mark.parametrize("name", ["Target", "Severity", "ChangeKind", "Use", "Total", "Origin", "SystemFlags", "Pid"])
def test_what_annotations_need_is_exported(name):
    assert name in vmatlas.__all__
    assert getattr(vmatlas, name) is not None


def tracebacks(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    ("ask", "hint"),
    [
        (lambda: vmatlas.snapshot(99999999), None),
        (lambda: vmatlas.snapshot("node"), "an object with .pid"),
        (lambda: vmatlas.snapshot(backend="nothing"), "installed backends"),
        (lambda: vmatlas.connect("unix:/nowhere/at/all"), None),
        (lambda: vmatlas.replay(__file__), None),
        (lambda: operations.map_anonymous(1 << 62), "room in the address space"),
    ],
)
def test_an_error_is_one_traceback_with_its_hint(ask, hint):
    with pytest.raises(vmatlas.VmatlasError) as caught:
        ask()
    text = tracebacks(caught.value)
    assert text.count("Traceback (most recent call last)") == 1
    assert ("\nhint: " in text) is (caught.value.hint is not None)
    if hint is not None:
        assert hint in text
    assert "hint: " not in str(caught.value), "the command line tells it by itself"


def test_what_the_kernel_said_is_not_lost():
    with pytest.raises(vmatlas.NoSuchProcess) as caught:
        vmatlas.snapshot(99999999)
    assert isinstance(caught.value.__context__, OSError)


def test_a_hint_that_is_replaced_is_shown_once():
    error = vmatlas.UsageError("no", hint="one")
    error.add_note("a note of the user's")
    error.hint = "two"
    assert tracebacks(error).count("hint: ") == 1
    assert "hint: two" in tracebacks(error)
    assert "a note of the user's" in tracebacks(error)
    error.hint = None
    assert "hint: " not in tracebacks(error)


def test_no_error_of_the_library_is_raised_from_another():
    """In the library an error is told whole by itself; what a plugin that cannot be loaded raised is kept."""
    chained = []
    for path in Path(vmatlas.__file__).parent.rglob("*.py"):
        if path.name in ("registry.py", "wire.py") or {"cli", "conformance"} & set(path.parts):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and node.cause is not None and not isinstance(node.cause, ast.Constant):
                chained.append(f"{path}:{node.lineno}")
    assert not chained


def test_a_size_that_no_process_can_have_is_refused_as_the_documents_say():
    for size in (1 << 63, 1 << 64):
        with pytest.raises(vmatlas.UsageError, match="does not fit"):
            operations.map_anonymous(size)


def test_a_single_region_is_advised():
    with operations.map_anonymous(4 * mmap.PAGESIZE) as mapping:
        advised = operations.advise(os.getpid(), mapping.as_region(), operations.Advice.WILLNEED)
        assert (advised.ranges, advised.advised) == (1, 4 * mmap.PAGESIZE)


def test_a_docstring_says_what_one_needs():
    for name in ("snapshot", "find", "find_many", "neighbours", "iterate", "watch", "capture", "processes", "diff"):
        text = inspect.getdoc(getattr(vmatlas, name)) or ""
        assert len(text) > 300, name
        assert "Raises" in text, name
