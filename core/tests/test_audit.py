"""Findings on spaces made by hand: each suspicion where it belongs, and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given

from vmatlas.analysis import Suspicion, audit
from vmatlas.model import FileNow, Kind, Protection, Region, SystemFlags
from vmatlas.model.pages import PageRun, PageRuns, PageState

from .strategies import space_of, spaces

R, W, X = Protection.READ, Protection.WRITE, Protection.EXECUTE
NONE = Protection.NONE
FILE = Region(0x1000, 0x2000, R | X, False, 0, None, 7, "/lib/a.so", kind=Kind.FILE)
STACK = Region(0x9000, 0xA000, R | W, False, name="[stack]", kind=Kind.STACK)


class Growing(SystemFlags):
    """Flags of a system of the tests'."""

    OTHER = 1


def suspicions(*regions: Region, **options):
    return [(finding.suspicion, finding.region.start) for finding in audit(space_of(regions), **options)]


def test_an_ordinary_process_gives_no_finding():
    heap = Region(0x5000, 0x6000, R | W, False, name="[heap]", kind=Kind.HEAP)
    shared = Region(0x3000, 0x4000, R | W, True, 0, None, 9, "/memfd:x", deleted=True, kind=Kind.SHARED_MEMORY)
    assert suspicions(FILE, shared, heap, STACK, lookup=lambda region: FileNow(7)) == []


@pytest.mark.parametrize(
    ("kind", "suspicion"),
    [
        (Kind.ANONYMOUS, Suspicion.WRITABLE_EXECUTABLE),
        (Kind.FILE, Suspicion.WRITABLE_EXECUTABLE),
        (Kind.STACK, Suspicion.EXECUTABLE_STACK),
        (Kind.HEAP, Suspicion.EXECUTABLE_HEAP),
    ],
)
def test_memory_that_can_be_written_and_run_is_found_once(kind, suspicion):
    assert suspicions(Region(0x1000, 0x2000, R | W | X, kind=kind)) == [(suspicion, 0x1000)]


def test_a_stack_or_heap_that_can_be_run_is_found_when_it_cannot_be_written():
    assert suspicions(Region(0, 1, R | X, kind=Kind.STACK)) == [(Suspicion.EXECUTABLE_STACK, 0)]
    assert suspicions(Region(0, 1, R | X, kind=Kind.HEAP)) == [(Suspicion.EXECUTABLE_HEAP, 0)]


def test_a_deleted_file_is_told_from_a_replaced_one_by_its_inode():
    gone = FILE._replace(deleted=True)
    assert suspicions(gone) == [(Suspicion.DELETED_FILE, 0x1000)]
    assert suspicions(gone, lookup=lambda region: FileNow(None)) == [(Suspicion.DELETED_FILE, 0x1000)]
    assert suspicions(gone, lookup=lambda region: FileNow(8)) == [(Suspicion.REPLACED_FILE, 0x1000)]


def test_a_file_system_that_was_not_asked_is_told_beside_the_finding():
    found = audit(space_of([FILE._replace(deleted=True)]), lambda region: FileNow(None, "fuse may not answer"))
    assert [each.suspicion for each in found] == [Suspicion.DELETED_FILE]
    assert found[0].explanation.endswith("was not asked: fuse may not answer")


def test_a_file_of_which_nobody_can_tell_whether_it_was_unlinked_is_found():
    unknown = FILE._replace(path="/lib/x.so (deleted)", deleted=None)
    (found,) = audit(space_of([unknown]))
    assert found.suspicion is Suspicion.DELETED_FILE
    assert "nobody can tell" in found.explanation
    (found,) = audit(space_of([unknown]), lambda region: FileNow(None, "nfs may not answer"))
    assert found.explanation.endswith("was not asked: nfs may not answer")


def test_what_is_no_file_and_stands_in_the_place_of_one_is_told_as_what_it_is():
    (found,) = audit(space_of([FILE._replace(deleted=True)]), lambda region: FileNow(8, what="folder"))
    assert found.suspicion is Suspicion.DELETED_FILE
    assert found.explanation == "the file has been unlinked; a folder stands there now"
    (found,) = audit(space_of([FILE._replace(deleted=True)]), lambda region: FileNow(8, what="symbolic link"))
    assert found.suspicion is Suspicion.REPLACED_FILE
    assert found.explanation.startswith("a symbolic link stands there now (inode 8")


def test_a_file_that_never_had_a_name_is_not_called_unlinked():
    nameless = FILE._replace(path="/tmp/#7", deleted=True)
    assert suspicions(nameless) == [(Suspicion.NAMELESS_FILE, 0x1000)]
    assert "O_TMPFILE" in audit(space_of([nameless]))[0].explanation
    assert suspicions(nameless._replace(path="/tmp/#8")) == [(Suspicion.DELETED_FILE, 0x1000)]  # a name like that


def test_only_the_paths_of_deleted_files_are_looked_up():
    asked = []
    regions = [FILE, FILE._replace(start=0x3000, end=0x4000, path="/old", deleted=True)]
    audit(space_of(regions), lambda region: asked.append(region.path) or FileNow(None))
    assert asked == ["/old"]


@pytest.mark.parametrize(
    ("below", "found"),
    [
        (Region(0x8000, 0x9000, R | W, kind=Kind.ANONYMOUS), True),
        (Region(0x8000, 0x9000, R, kind=Kind.FILE), False),  # writing there faults: the overflow is noticed
        (Region(0x8000, 0x9000, NONE, kind=Kind.GUARD), False),
        (Region(0x8000, 0x9000, R | W, kind=Kind.STACK), False),  # the stack's own lower part
        (Region(0x7000, 0x8000, R | W, kind=Kind.ANONYMOUS), False),  # a hole between
    ],
)
def test_a_stack_needs_something_below_that_faults(below, found):
    assert suspicions(below, STACK) == ([(Suspicion.UNGUARDED_STACK, 0x9000)] if found else [])


PRIVATE = Region(0x8000, 0x9000, R | W, False, kind=Kind.ANONYMOUS)


def test_what_may_be_the_stack_s_own_lower_part_is_found_only_where_the_flags_tell_otherwise():
    """An mlock splits a stack; the lower part has no name, and without the system's flags looks like any memory."""
    looks = []

    def look_again(kind):
        return lambda: looks.append(kind) or space_of([PRIVATE._replace(kind=kind), STACK])

    assert suspicions(PRIVATE, STACK) == []
    assert suspicions(PRIVATE, STACK, look_again=look_again(Kind.STACK)) == []
    assert suspicions(PRIVATE, STACK, look_again=look_again(Kind.ANONYMOUS)) == [(Suspicion.UNGUARDED_STACK, 0x9000)]
    assert suspicions(PRIVATE._replace(flags=Growing.OTHER), STACK) == [(Suspicion.UNGUARDED_STACK, 0x9000)]
    assert suspicions(PRIVATE._replace(name="[anon:x]"), STACK, look_again=look_again(Kind.STACK)) == [
        (Suspicion.UNGUARDED_STACK, 0x9000)
    ]
    assert looks == [Kind.STACK, Kind.ANONYMOUS]
    assert suspicions(PRIVATE, STACK, look_again=lambda: None) == []


def guarded_space(*guards):
    """PRIVATE and STACK, with guards in them: each an address and its end."""
    runs = [PageRun(start, end, PageState.GUARD, PageState.GUARD) for start, end in guards]
    space = space_of([PRIVATE._replace(name="[anon:x]"), STACK])
    return space.with_guards(PageRuns.of(runs, space.origin, PageState.GUARD))


@pytest.mark.parametrize(
    ("guards", "found"),
    [
        ([], True),
        ([(0x8F00, 0x9000)], False),  # at the high end of what lies below
        ([(0x9000, 0x9800)], False),  # at the stack's own low end, as glibc 2.42 has it
        ([(0x8000, 0x8100)], True),  # elsewhere: it guards another thing
    ],
)
def test_a_guard_that_the_map_does_not_show_guards_a_stack(guards, found):
    by_map = [each.suspicion for each in audit(guarded_space(*guards))]
    assert by_map == [Suspicion.UNGUARDED_STACK] * found
    space = space_of([PRIVATE._replace(name="[anon:x]"), STACK])
    by_asking = audit(space, guard_at=lambda at: any(start <= at < end for start, end in guards))
    assert [each.suspicion for each in by_asking] == [Suspicion.UNGUARDED_STACK] * found


def test_where_guards_are_not_told_their_possibility_is_named():
    class Guarding(SystemFlags):
        SOME = 1

        @property
        def may_hold_guards(self):
            return True

    for guard_at in (None, lambda at: None):
        below = PRIVATE._replace(name="[anon:x]", flags=Guarding(1))
        (finding,) = audit(space_of([below, STACK]), guard_at=guard_at)
        assert "may hold guards that the map does not show" in finding.explanation
        (finding,) = audit(space_of([below._replace(flags=None), STACK]), guard_at=guard_at)
        assert "guards" not in finding.explanation


def test_a_guard_within_code_that_can_be_written_is_no_such_code():
    region = Region(0x8000, 0xA000, Protection(7), False, kind=Kind.ANONYMOUS)
    space = space_of([region])
    guard = PageRuns.of([PageRun(0x8000, 0x9000, PageState.GUARD, PageState.GUARD)], space.origin, PageState.GUARD)
    assert [each.region.start for each in audit(space.with_guards(guard))] == [0x9000]


@given(spaces)
def test_findings_come_by_address_and_speak_of_regions_of_the_space(space):
    findings = audit(space)
    assert [finding.region.start for finding in findings] == sorted(finding.region.start for finding in findings)
    assert all(finding.region in space and finding.explanation for finding in findings)
