"""What is handed over and is of the wrong kind, or out of range, is one line of ours: in every public function."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vmatlas
from vmatlas import PageState, Protection, Query, UsageError, arguments, operations
from vmatlas.operations import Advice
from vmatlas.series import frames, moments
from vmatlas.series.reader import Series

from .strategies import space_of
from .test_surface import FILE


class Odd:
    """What nobody expects, and shows itself in two lines."""

    def __repr__(self) -> str:
        return "an odd\nthing"


HUGE = 10**5000
"""More digits than Python makes a text of."""

ODD = Odd()
BAD: dict[str, list[Any]] = {
    "pid": [ODD, "node", b"1", 1.5, -1, 2**31, True, [], HUGE],
    "thread": [ODD, "one", 1.5, -1, 2**31, True, HUGE],
    "target": [ODD, "local", "", 5, [], HUGE, io.StringIO()],
    "backend": [ODD, 5, [], {}, b"linux-procfs", "no-such", HUGE],
    "flag": [ODD, "no", "", [], 2, 1.5, None, HUGE],
    "choice": [ODD, "no", [], 1, 1.5, HUGE],
    "filter": [ODD, 5, [], b"x", {}, HUGE],
    "parsed": [ODD, None, 5, [], "x", HUGE],
    "text": [ODD, 5, b"x", [], ["x"], HUGE],
    "kind": [ODD, 5, "thing", ["thing"], [5], HUGE],
    "limit": [ODD, "much", 1.5, [], True],
    "number": [ODD, None, "x", 1.5, True, []],
    "address": [ODD, None, "x", 1.5, True, False, [], -1, 2**64, HUGE],
    "addresses": [ODD, None, 5, True, ["x"], [None], [True], [2, False], [-1], [2**64], HUGE],
    "rights": [ODD, None, "rw", b"x", -1, 8, True, [], HUGE],
    "place": [ODD, None, "x", True, False, []],
    "places": [ODD, None, 5, True, ["x"], [None], [True], [2, False]],
    "region": [ODD, 5, "x", [], (1, 2), HUGE],
    "regions": [ODD, None, 5, [5], [ODD], HUGE],
    "space": [ODD, None, 5, "x", [], HUGE],
    "memories": [ODD, None, 5, "x", [5], [None], HUGE],
    "processes": [ODD, 1.5, -1, "x", ["x"], [True], [1.5], [None], HUGE],
    "selected": [ODD, None, 5, "x", [], HUGE],
    "word": [ODD, b"1", 1.5, -1, 2**31, True, [], "", "node", "nobody:x", "user:", "!", HUGE],
    "difference": [ODD, None, 5, "x", [], HUGE],
    "group": [ODD, None, 5, "colour", [], HUGE],
    "query": [ODD, None, 5, {}, HUGE],
    "function": [ODD, None, 5, "x", HUGE],
    "interval": [ODD, None, "x", -1, True, float("nan"), float("inf"), [], 1j, HUGE],
    "path or none": [ODD, 5, [], HUGE, "a\0b", "\ud800"],
    "servers": [ODD, 5, "x", [5], ["x"], ["ftp://x"], [None], HUGE],
    "looks": [ODD, None, 5, "x", [], [5], [None], [(0.0, 5)], HUGE],
    "guesses": [ODD, 5, "x", [], HUGE],
    "seconds": [ODD, "x", -1, True, float("nan"), float("inf"), [], 1j, HUGE],
    "patience": [ODD, None, "x", 0, -1, True, float("nan"), float("inf"), [], HUGE],
    "threads": [ODD, "x", 0, -1, 1.5, True, [], -HUGE],
    "fields": [ODD, None, 5, "flags", b"flags", ["no-field"], HUGE],
    "source": [ODD, None, 5, [], HUGE, "a\0b", "\ud800"],
    "pid or file": [ODD, -1, 1.5, True, 2**31, [], HUGE, "a\0b", "\ud800"],
    "file": [ODD, None, 5, "x", HUGE],
    "state": [ODD, None, 5, "guard", [], PageState.NONE, True, HUGE],
    "state or none": [ODD, 5, "guard", [], PageState.NONE, True, HUGE],
    "pages": [ODD, None, 5, "guard", [], HUGE],
    "between": [ODD, 5, "x", [], (1,), (1, 2, 3), (2, 1), (-1, 1), (0, 2**64 + 1), (None, 1), (0.5, 1), HUGE],
    "end": [ODD, None, "x", 1.5, -1, True, [], HUGE],
    "stream": [ODD, None, 5, [], HUGE],
    "url": [ODD, None, 5, "nowhere", "ssh", HUGE],
    "limits": [ODD, 5, "x", [], HUGE],
    "open process": [ODD, 5, "x", [], HUGE],
    "size": [ODD, None, "4K", 1.5, 0, -1, 2**63, True, [], HUGE],
    "size or none": [ODD, "4K", 1.5, 0, -1, 2**63, True, [], HUGE],
    "page": [ODD, None, "x", 1.5, -1, 2**64, True, [], 1, HUGE],
    "page or none": [ODD, "x", 1.5, -1, 2**64, True, [], 1, HUGE],
    "protection": [ODD, None, 3, "rw", [], HUGE],
    "access": [ODD, 4, "r", [], Protection(3), HUGE],
    "advice": [ODD, None, "cold", 4, [], HUGE],
    "ranges": [ODD, None, 5, "x", [5], [ODD], [(1, 2, 3)], [(0, HUGE)], [(False, 4096)], [(8192, 4096)], HUGE],
    "mapping": [ODD, None, 5, HUGE],
    "descriptor": [ODD, "x", 1.5, -1, 2**31, True, HUGE],
    "mapped file": [ODD, None, 1.5, -1, True, [], HUGE, "a\0b", "\ud800"],
    "name": [ODD, 5, b"/x", "x", "/", "/a/b", "/a\0b", "/\ud800", [], HUGE],
    "code": [ODD, None, 5, "x", [], b"", HUGE],
    "evidence": [ODD, None, 5, "x", {}, len, HUGE],
    "policy": [ODD, None, "strict", {}, [], HUGE],
    "day": [ODD, 5, "2027-01-31", 1.5, HUGE],
}
"""Values that an argument of a kind must not have."""

COMMON = {"target": "target", "backend": "backend"}
FLAGS = {"residency": "flag", "build_ids": "flag"}
CRITERIA = {
    **dict.fromkeys(("readable", "writable", "executable", "shared", "file_backed", "deleted"), "choice"),
    **dict.fromkeys(("path", "name", "text", "flag"), "text"),
    **dict.fromkeys(("larger_than", "smaller_than"), "limit"),
    "kind": "kind",
}
PLACE = {"protection": "protection", "at": "page or none", "replace": "flag", "unsafe": "flag"}
RANGE = {"address": "page", "size": "size"}

SPACE = space_of([FILE])
RUNS = vmatlas.PageRuns.of([], SPACE.origin, PageState.GUARD)


def read(listing: Callable[..., Iterator[object]]) -> Callable[..., object]:
    """What is asked when the first is taken."""
    return lambda *arguments, **keywords: next(listing(*arguments, **keywords), None)


def entered(context: Callable[..., Any]) -> Callable[..., object]:
    """What is asked when the block is entered."""
    return lambda *arguments, **keywords: context(*arguments, **keywords).__enter__()


def tracked(name: str) -> Callable[..., object]:
    """What is asked of a process while it goes on: of this one, where none is given."""

    def asked(process: object, force: object = False, **given: object) -> object:
        with vmatlas.open() as own:
            return getattr(operations, name)(own if process is None else process, force=force, **given)

    return asked


TRACKED = {
    "process": "pid",
    "seconds": "interval",
    "where": "filter",
    "force": "flag",
    "wait": "function",
}


def of_process(name: str) -> Callable[..., object]:
    """A method of a handle on this process."""

    def asked(**given: object) -> object:
        with vmatlas.open() as process:
            found = getattr(process, name)(**given)
            return next(found, None) if inspect.isgenerator(found) else found

    return asked


def found_again(**given: object) -> object:
    """By the compiled short way, which the first question makes."""
    with vmatlas.open() as process:
        process.find(FILE.start)
        return process.find(**given)  # type: ignore[arg-type]


def of_mapping(name: str) -> Callable[..., object]:
    """A method of a mapping."""

    def asked(**given: object) -> object:
        with operations.map_anonymous(4096) as mapping:
            done = getattr(mapping, name)(**given)
            return done.__enter__() if hasattr(done, "__enter__") else done

    return asked


R = Protection.READ
Case = tuple[Callable[..., object], dict[str, Any], dict[str, str]]

SERIES = Series.read(io.BytesIO(frames.MAGIC + frames.packed(*moments.whole(moments.State.of(vmatlas.capture()), 1.0))))

CASES: dict[str, Case] = {
    "open": (vmatlas.open, {}, {"pid": "pid", "thread": "thread", **COMMON}),
    "snapshot": (
        vmatlas.snapshot,
        {},
        {"pid": "pid", "thread": "thread", "where": "filter", "strict": "flag", "threads": "flag", "guards": "flag"}
        | {**COMMON, **FLAGS, **CRITERIA},
    ),
    "find": (
        vmatlas.find,
        {"pid": None, "address": 0},
        {"pid": "pid", "address": "address", "where": "filter", "or_next": "flag", **COMMON},
    ),
    "find_many": (
        vmatlas.find_many,
        {"pid": None, "addresses": []},
        {"pid": "pid", "addresses": "addresses", **COMMON},
    ),
    "symbolize_many": (
        vmatlas.symbolize_many,
        {"source": None, "addresses": []},
        {"source": "pid", "addresses": "addresses", "debuginfod": "servers", "demangle": "flag"},
    ),
    "source_lines": (
        vmatlas.source_lines,
        {"source": None, "addresses": []},
        {"source": "pid", "addresses": "addresses", "debuginfod": "servers", "demangle": "flag"},
    ),
    "picture": (vmatlas.picture, {}, {"what": "pid", "names": "flag", "pages": "guesses"}),
    "recover": (
        vmatlas.recover,
        {"process": None, "address": 0, "path": "/no-such-folder/x"},
        {"process": "pid", "address": "address", "path": "source", "replace": "flag"},
    ),
    "neighbours": (vmatlas.neighbours, {"pid": None, "address": 0}, {"pid": "pid", "address": "address", **COMMON}),
    "iterate": (read(vmatlas.iterate), {}, {"pid": "pid", "where": "filter", **COMMON, **CRITERIA}),
    "watch": (
        read(vmatlas.watch),
        {},
        {
            "pid": "pid",
            "interval": "interval",
            "residency": "flag",
            "others": "flag",
            "wait": "function",
            **COMMON,
        },
    ),
    "capture": (vmatlas.capture, {}, {"pid": "pid", "threads": "flag", "guards": "flag", **COMMON, **FLAGS}),
    "record_series": (
        read(vmatlas.record_series),
        {"pid": None, "path": "/no-such-folder/x"},
        {
            "pid": "pid",
            "path": "source",
            "every": "interval",
            "seconds": "seconds",
            "append": "flag",
            "replace": "flag",
            "wait": "function",
            **COMMON,
            **FLAGS,
        },
    ),
    "replay": (vmatlas.replay, {}, {"source": "source"}),
    "memory": (vmatlas.memory, {}, {"pid": "pid", **COMMON}),
    "replay_memory": (vmatlas.replay_memory, {}, {"source": "source"}),
    "memories": (
        vmatlas.memories,
        {},
        {
            "described": "flag",
            "regions": "flag",
            "threads": "threads",
            "patience": "patience",
            "among": "processes",
            **COMMON,
        },
    ),
    "group_memories": (
        vmatlas.group_memories,
        {"found": [], "by": "name"},
        {"found": "memories", "by": "group", "target": "target"},
    ),
    "processes": (vmatlas.processes, {}, {"target": "target"}),
    "select": (
        lambda words="self", target=None: vmatlas.select(words, target=target),
        {},
        {"words": "word", "target": "target"},
    ),
    "cgroup_memories": (vmatlas.cgroup_memories, {}, {"selected": "selected"}),
    "survey": (
        vmatlas.survey,
        {"ask": id},
        {"ask": "function", "threads": "threads", "patience": "patience", "among": "processes", **COMMON},
    ),
    "snapshots": (
        vmatlas.snapshots,
        {},
        {
            "residency": "flag",
            "where": "filter",
            "threads": "threads",
            "patience": "patience",
            "among": "processes",
            **COMMON,
        },
    ),
    "diff": (
        vmatlas.diff,
        {"before": SPACE, "after": SPACE},
        {"before": "space", "after": "space", "ignore": "fields", "others": "flag"},
    ),
    "growth_by": (
        vmatlas.growth_by,
        {"difference": vmatlas.diff(SPACE, SPACE), "by": "kind"},
        {"difference": "difference", "by": "group"},
    ),
    "audit": (
        vmatlas.audit,
        {"space": SPACE},
        {"space": "space", "evidence": "evidence", "policy": "policy", "today": "day"},
    ),
    "trends": (vmatlas.trends, {"spaces": []}, {"spaces": "looks", "measure": "group"}),
    "trends_of": (
        vmatlas.trends_of,
        {"series": SERIES},
        {"series": "looks", "measure": "group", "first": "number", "last": "number"},
    ),
    "name_regions": (vmatlas.name_regions, {}, {"space": "space"}),
    "summarize": (vmatlas.summarize, {"space": SPACE}, {"space": "space", "guesses": "guesses"}),
    "connect": (vmatlas.connect, {"url": "local"}, {"url": "url", "limits": "limits"}),
    "Process.snapshot": (
        of_process("snapshot"),
        {},
        {"where": "filter", "strict": "flag", "threads": "flag", "guards": "flag", **FLAGS, **CRITERIA},
    ),
    "Process.find": (
        of_process("find"),
        {"address": 0},
        {"address": "address", "where": "filter", "or_next": "flag", **CRITERIA},
    ),
    "Process.find again": (found_again, {"address": 0}, {"address": "address", "where": "filter", **CRITERIA}),
    "Process.find_many": (of_process("find_many"), {}, {"addresses": "addresses"}),
    "Process.neighbours": (of_process("neighbours"), {}, {"address": "address"}),
    "Process.iterate": (of_process("iterate"), {}, {"where": "filter", **CRITERIA}),
    "Process.capture": (of_process("capture"), {}, {"threads": "flag", "guards": "flag", **FLAGS}),
    "Process.watch": (
        of_process("watch"),
        {},
        {"interval": "interval", "residency": "flag", "others": "flag", "wait": "function"},
    ),
    "Process.elf_address": (of_process("elf_address"), {"address": 0}, {"address": "address", "region": "region"}),
    "Process.why_unread": (of_process("why_unread"), {}, {"region": "region"}),
    "Process.file_size": (of_process("file_size"), {}, {"region": "region"}),
    "Process.pages": (
        of_process("pages"),
        {},
        {"where": "filter", "between": "between", "of": "state or none", **CRITERIA},
    ),
    "Process.neighbours_in": (
        of_process("neighbours_in"),
        {"space": SPACE, "address": 0},
        {"space": "space", "address": "place"},
    ),
    "Process.pages_in": (
        of_process("pages_in"),
        {"space": SPACE},
        {"space": "space", "between": "between", "of": "state or none"},
    ),
    "Process.guard_at": (of_process("guard_at"), {}, {"address": "address"}),
    "Process.choice": (of_process("choice"), {}, {"query": "query"}),
    "Process.needs_residency": (of_process("needs_residency"), {}, {"where": "parsed"}),
    "Filter": (
        vmatlas.Filter,
        {},
        {
            "given": "rights",
            "withheld": "rights",
            **dict.fromkeys(("shared", "file_backed", "deleted"), "choice"),
            **dict.fromkeys(("kinds", "other_kinds", "paths", "names", "texts", "other_texts"), "text"),
            **dict.fromkeys(("flags", "other_flags", "numbers", "overlaps"), "text"),
            **dict.fromkeys(("min_size", "min_resident"), "number"),
            **dict.fromkeys(("max_size", "max_resident"), "limit"),
        },
    ),
    "Filter.of": (vmatlas.Filter.of, {}, {"where": "filter", **CRITERIA}),
    "Filter.parse": (vmatlas.Filter.parse, {}, {"text": "text"}),
    "Filter.matches": (vmatlas.Filter().matches, {}, {"region": "region"}),
    "AddressSpace.of": (vmatlas.AddressSpace.of, {"origin": SPACE.origin}, {"regions": "regions"}),
    "AddressSpace.find": (SPACE.find, {"address": 0}, {"address": "place", "or_next": "flag"}),
    "AddressSpace.find_many": (SPACE.find_many, {}, {"addresses": "places"}),
    "AddressSpace.neighbours": (SPACE.neighbours, {}, {"address": "place"}),
    "AddressSpace.where": (SPACE.where, {}, {"where": "filter", **CRITERIA}),
    "AddressSpace.with_guards": (SPACE.with_guards, {}, {"pages": "pages"}),
    "AddressSpace.part": (SPACE.part, {}, {"wanted": "parsed"}),
    "PageRuns.find": (RUNS.find, {}, {"address": "place"}),
    "PageRuns.within": (RUNS.within, {"start": 0, "end": 1}, {"start": "address", "end": "end"}),
    "PageRuns.of_region": (RUNS.of_region, {}, {"region": "region"}),
    "PageRuns.where": (RUNS.where, {}, {"state": "state"}),
    "PageRuns.bytes_of": (RUNS.bytes_of, {}, {"state": "state"}),
    "PageRun.says": (vmatlas.PageRun(0, 1, PageState.GUARD, PageState.GUARD).says, {}, {"state": "state"}),
    "Region.covers": (FILE.covers, {}, {"address": "place"}),
    "Capture.load": (vmatlas.Capture.load, {}, {"path": "source"}),
    "Capture.read": (vmatlas.Capture.read, {}, {"file": "file"}),
    "Capture.save": (vmatlas.capture().save, {}, {"path": "source"}),
    "Capture.write": (vmatlas.capture().write, {}, {"file": "file"}),
    "Capture.stream": (vmatlas.capture().stream, {}, {"name": "stream"}),
}
"""Of each: how it is asked, with what that is right, and the kinds of its arguments."""

OPERATIONS: dict[str, Case] = {
    "map_anonymous": (
        operations.map_anonymous,
        {"size": 4096},
        {"size": "size", "shared": "flag", "populate": "flag", "no_reserve": "flag", **PLACE},
    ),
    "map_file": (
        operations.map_file,
        {"file": __file__},
        {"file": "mapped file", "size": "size or none", "offset": "page", "shared": "flag", **PLACE},
    ),
    "map_shared": (
        operations.map_shared,
        {"size": 4096},
        {
            "size": "size or none",
            "name": "name",
            "create": "flag",
            "exclusive": "flag",
            "descriptor": "descriptor",
            "protection": "protection",
            "unsafe": "flag",
        },
    ),
    "unlink_shared": (operations.unlink_shared, {}, {"name": "name"}),
    "map_device": (
        operations.map_device,
        {"device": "/dev/zero", "size": 4096, "unsafe": True},
        {
            "device": "source",
            "size": "size",
            "offset": "page",
            "protection": "protection",
            "shared": "flag",
            "unsafe": "flag",
        },
    ),
    "guarded_buffer": (operations.guarded_buffer, {"size": 1}, {"size": "size", "hidden": "flag"}),
    "secret": (operations.secret, {}, {"size": "size"}),
    "write_then_execute": (operations.write_then_execute, {}, {"code": "code"}),
    "protect": (
        operations.protect,
        {"address": 0, "size": 4096, "protection": R},
        {"protection": "protection", "unsafe": "flag", **RANGE},
    ),
    "protected": (
        entered(operations.protected),
        {"address": 0, "size": 4096, "protection": R},
        {"protection": "protection", "unsafe": "flag", **RANGE},
    ),
    "lock": (operations.lock, {"address": 0, "size": 4096}, {"on_fault": "flag", **RANGE}),
    "unlock": (operations.unlock, {"address": 0, "size": 4096}, {"unsafe": "flag", **RANGE}),
    "unlock_all": (operations.unlock_all, {}, {"unsafe": "flag"}),
    "lock_all": (operations.lock_all, {}, {"current": "flag", "future": "flag", "on_fault": "flag"}),
    "flush": (operations.flush, {"address": 0, "size": 4096}, {"wait": "flag", "invalidate": "flag", **RANGE}),
    "move": (
        operations.move,
        {"address": 0, "size": 4096},
        {"to": "page or none", "keep_old": "flag", "replace": "flag", "unsafe": "flag", **RANGE},
    ),
    "resize": (operations.resize, {"mapping": None, "size": 4096}, {"mapping": "mapping", "may_move": "flag"}),
    "advise": (
        operations.advise,
        {"process": None, "regions": [], "advice": Advice.COLD},
        {
            "process": "pid",
            "regions": "ranges",
            "advice": "advice",
            "target": "target",
            "dry_run": "flag",
            "unsafe": "flag",
            "go_on": "flag",
        },
    ),
    "classify_fault": (
        operations.classify_fault,
        {"address": 0},
        {"address": "address", "process": "pid", "access": "access", "target": "target"},
    ),
    "explain": (
        operations.explain,
        {},
        {"source": "pid or file", "target": "target", "lines": "flag", "debuginfod": "servers", "file": "path or none"},
    ),
    "written": (tracked("written"), {"process": None, "seconds": 0}, TRACKED),
    "working_set": (tracked("working_set"), {"process": None, "seconds": 0}, TRACKED),
    "Mapping.protect": (
        of_mapping("protect"),
        {"protection": R},
        {"protection": "protection", "offset": "page", "size": "size or none"},
    ),
    "Mapping.protected": (
        of_mapping("protected"),
        {"protection": R},
        {"protection": "protection", "offset": "page", "size": "size or none"},
    ),
    "Mapping.lock": (of_mapping("lock"), {}, {"on_fault": "flag"}),
    "Mapping.flush": (of_mapping("flush"), {}, {"wait": "flag", "invalidate": "flag"}),
}


def check_all(case: Case) -> None:
    ask, good, kinds = case
    for name, kind in kinds.items():
        for bad in BAD[kind]:
            with pytest.raises(UsageError) as caught:
                ask(**{**good, name: bad})
                pytest.fail(f"{name}={arguments.shown(bad)} is taken")
            told = str(caught.value)
            assert told.isprintable() and len(told) < 400, (name, told)


@pytest.mark.parametrize("name", CASES)
def test_what_an_argument_must_not_be_is_one_line_of_ours(name):
    check_all(CASES[name])


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_an_argument_of_an_operation_must_not_be_is_one_line_of_ours(name):
    check_all(OPERATIONS[name])


def test_every_public_function_and_each_of_its_arguments_is_tried():
    functions = {
        **{name: getattr(vmatlas, name) for name in vmatlas.__all__ if inspect.isfunction(getattr(vmatlas, name))},
        **{name: each for name in operations.__all__ if inspect.isfunction(each := getattr(operations, name))},
        **{
            f"{kind.__name__}.{name}": getattr(kind, name)
            for kind in (vmatlas.Process, operations.Mapping)
            for name in dir(kind)
            if not name.startswith("_") and inspect.isfunction(getattr(kind, name))
        },
    }
    for_memory = {
        *("Mapping.check_rights", "Mapping.check_unexported", "Mapping.covers", "Mapping.note_adrift"),
        *("Mapping.note_closed", "Mapping.note_move", "Mapping.note_rights", "Mapping.note_scattered"),
        *("Mapping.note_settled", "Mapping.note_size", "Mapping.take_room"),
    }
    tried = CASES | OPERATIONS
    for name, each in functions.items():
        taken = [word for word in inspect.signature(each).parameters if word not in ("self", "criteria")]
        if not taken or name in for_memory:
            continue
        missing = {*taken} - {*tried[name][2]}
        assert not missing - {"size"}, (name, missing)


def test_a_query_is_what_choice_takes():
    with vmatlas.open() as process:
        assert process.choice(Query()).backend.name


def test_a_number_that_is_true_or_false_is_taken_for_it():
    assert arguments.flag(1, "unsafe") is True
    assert arguments.flag(0, "unsafe") is False


def test_what_is_shown_of_a_value_fits_in_a_line_whatever_it_is():
    class Failing:
        def __repr__(self) -> str:
            raise RuntimeError

    assert arguments.shown(Failing()) == "a Failing"
    assert arguments.shown(ODD) == "an odd thing"
    assert arguments.shown(HUGE) == "a number of 16610 bits"
    assert len(arguments.shown("x" * 10_000)) == 100


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers(-(2**100), 2**100) | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.tuples(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    )
)
def test_a_value_is_shown_as_python_would_as_far_as_it_goes(value):
    text = " ".join(repr(value).split())
    assert arguments.shown(value) == (text if len(text) <= 100 else text[:97] + "...")


def test_what_aliases_make_of_a_short_text_is_shown_at_once():
    """YAML of 500 bytes can stand for billions of words; and a list may hold itself."""
    bomb = ["lol"] * 9
    for _ in range(30):
        bomb = [bomb] * 9
    endless = []
    endless.append(endless)
    for value in (bomb, {"rules": bomb}, endless, "x" * 10**7):
        assert len(arguments.shown(value)) == 100
