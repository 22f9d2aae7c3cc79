"""Findings on spaces made by hand: each suspicion where it belongs, and nowhere else."""

from __future__ import annotations

import dataclasses
import re
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given

import vmatlas
from vmatlas.analysis import Evidence, Policy, Severity, audit
from vmatlas.analysis.audit import RULES, Across
from vmatlas.analysis.audit.rule import MOST_FILES
from vmatlas.conformance.patience import PATIENCE
from vmatlas.model import Device, FileNow, FileRights, Kind, ProcessInfo, Protection, Region, SystemFlags
from vmatlas.model.pages import PageRun, PageRuns, PageState
from vmatlas.symbols.elf import Elf, Segment

from .strategies import space_of, spaces

R, W, X = Protection.READ, Protection.WRITE, Protection.EXECUTE
NONE = Protection.NONE
FILE = Region(0x1000, 0x2000, R | X, False, 0, None, 7, "/lib/a.so", kind=Kind.FILE)
STACK = Region(0x9000, 0xA000, R | W, False, name="[stack]", kind=Kind.STACK)


class Growing(SystemFlags):
    """Flags of a system of the tests'."""

    OTHER = 1


def suspicions(*regions: Region, **asked):
    found = audit(space_of(regions), Evidence(**asked))
    return sorted(((finding.id, finding.region.start) for finding in found), key=lambda pair: pair[1])


def test_an_ordinary_process_gives_no_finding():
    heap = Region(0x5000, 0x6000, R | W, False, name="[heap]", kind=Kind.HEAP)
    shared = Region(0x3000, 0x4000, R | W, True, 0, None, 9, "/memfd:x", deleted=True, kind=Kind.SHARED_MEMORY)
    assert suspicions(FILE, shared, heap, STACK, file_now=lambda region: FileNow(7)) == []


@pytest.mark.parametrize(
    ("kind", "suspicion"),
    [
        (Kind.ANONYMOUS, "writable-and-executable"),
        (Kind.FILE, "writable-and-executable"),
        (Kind.STACK, "executable-stack"),
        (Kind.HEAP, "executable-heap"),
    ],
)
def test_memory_that_can_be_written_and_run_is_found_once(kind, suspicion):
    assert suspicions(Region(0x1000, 0x2000, R | W | X, kind=kind)) == [(suspicion, 0x1000)]


def test_a_stack_or_heap_that_can_be_run_is_found_when_it_cannot_be_written():
    assert suspicions(Region(0, 1, R | X, kind=Kind.STACK)) == [("executable-stack", 0)]
    assert suspicions(Region(0, 1, R | X, kind=Kind.HEAP)) == [("executable-heap", 0)]


def test_a_deleted_file_is_told_from_a_replaced_one_by_its_inode():
    gone = FILE._replace(deleted=True)
    assert suspicions(gone) == [("deleted-file", 0x1000)]
    assert suspicions(gone, file_now=lambda region: FileNow(None)) == [("deleted-file", 0x1000)]
    assert suspicions(gone, file_now=lambda region: FileNow(8)) == [("replaced-file", 0x1000)]


def test_a_file_system_that_was_not_asked_is_told_beside_the_finding():
    found = audit(
        space_of([FILE._replace(deleted=True)]), Evidence(file_now=lambda region: FileNow(None, "fuse may not answer"))
    )
    assert [each.id for each in found] == ["deleted-file"]
    assert found[0].explanation.endswith("was not asked: fuse may not answer")


def test_a_file_of_which_nobody_can_tell_whether_it_was_unlinked_is_found():
    unknown = FILE._replace(path="/lib/x.so (deleted)", deleted=None)
    (found,) = audit(space_of([unknown]))
    assert found.id == "deleted-file"
    assert "nobody can tell" in found.explanation
    assert "which a kernel adds" in found.explanation  # of a core file: no file system was looked at
    assert "leads elsewhere" not in found.explanation
    (found,) = audit(space_of([unknown]), Evidence(file_now=lambda region: FileNow(None, "nfs may not answer")))
    assert found.explanation.endswith("was not asked: nfs may not answer")


def test_what_is_no_file_and_stands_in_the_place_of_one_is_told_as_what_it_is():
    (found,) = audit(
        space_of([FILE._replace(deleted=True)]), Evidence(file_now=lambda region: FileNow(8, what="folder"))
    )
    assert found.id == "deleted-file"
    assert found.explanation == "the file has been unlinked; a folder stands there now"
    (found,) = audit(
        space_of([FILE._replace(deleted=True)]), Evidence(file_now=lambda region: FileNow(8, what="symbolic link"))
    )
    assert found.id == "replaced-file"
    assert found.explanation.startswith("a symbolic link stands there now (inode 8")


def test_a_file_that_was_made_without_a_name_is_not_called_unlinked_nor_nameless_still():
    nameless = FILE._replace(path="/srv/#7", deleted=True)
    assert suspicions(nameless) == [("nameless-file", 0x1000)]
    told = audit(space_of([nameless]))[0].explanation  # linkat may have given it one, which the map does not tell
    assert told == "the file was made without a name (O_TMPFILE); whether it was given one since is not told"
    assert suspicions(nameless._replace(path="/srv/#8")) == [("deleted-file", 0x1000)]  # a name like that


def test_code_of_a_file_system_that_was_unmounted_is_found_and_who_cannot_tell_says_so():
    code = FILE._replace(protection=R | X, deleted=False)
    data = FILE._replace(start=0x3000, end=0x4000, protection=R, path="/srv/data", inode=9, deleted=False)
    asked = []

    def unmounted(answer):
        return Evidence(unmounted=lambda regions: asked.extend(regions) or [answer] * len(regions))

    policy = Policy.preset("default").only(["deleted-file"])
    found = audit(space_of([code, data]), unmounted(True), policy)
    assert [(each.id, each.severity, each.thing) for each in found] == [("deleted-file", Severity.MEDIUM, code.path)]
    assert "was unmounted under it" in found[0].explanation
    assert asked == [code], "data, which is no more than noted, is not asked about"
    assert not audit(space_of([code]), unmounted(False), policy)
    (untold,) = audit(space_of([code]), unmounted(None), policy).untold
    assert untold.why == "of 1 file of code nobody can tell whether it can still be looked at"


def test_only_the_paths_of_deleted_files_are_looked_up():
    asked = []
    regions = [FILE, FILE._replace(start=0x3000, end=0x4000, path="/old", deleted=True)]
    audit(space_of(regions), Evidence(file_now=lambda region: asked.append(region.path) or FileNow(None)))
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
    assert suspicions(below, STACK) == ([("stack-with-no-guard", 0x9000)] if found else [])


PRIVATE = Region(0x8000, 0x9000, R | W, False, kind=Kind.ANONYMOUS)


def test_what_may_be_the_stack_s_own_lower_part_is_found_only_where_the_flags_tell_otherwise():
    """An mlock splits a stack; the lower part has no name, and without the system's flags looks like any memory."""
    looks = []

    def look_again(kind):
        return lambda: looks.append(kind) or space_of([PRIVATE._replace(kind=kind), STACK])

    assert suspicions(PRIVATE, STACK) == []
    assert suspicions(PRIVATE, STACK, look_again=look_again(Kind.STACK)) == []
    assert suspicions(PRIVATE, STACK, look_again=look_again(Kind.ANONYMOUS)) == [("stack-with-no-guard", 0x9000)]
    assert suspicions(PRIVATE._replace(flags=Growing.OTHER), STACK) == [("stack-with-no-guard", 0x9000)]
    assert suspicions(PRIVATE._replace(name="[anon:x]"), STACK, look_again=look_again(Kind.STACK)) == [
        ("stack-with-no-guard", 0x9000)
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
    by_map = [each.id for each in audit(guarded_space(*guards))]
    assert by_map == ["stack-with-no-guard"] * found
    space = space_of([PRIVATE._replace(name="[anon:x]"), STACK])
    by_asking = audit(space, Evidence(guard_at=lambda at: any(start <= at < end for start, end in guards)))
    assert [each.id for each in by_asking] == ["stack-with-no-guard"] * found


def test_where_guards_are_not_told_their_possibility_is_named():
    class Guarding(SystemFlags):
        SOME = 1

        @property
        def may_hold_guards(self):
            return True

    for guard_at in (None, lambda at: None):
        below = PRIVATE._replace(name="[anon:x]", flags=Guarding(1))
        (finding,) = audit(space_of([below, STACK]), Evidence(guard_at=guard_at))
        assert "may hold guards that the map does not show" in finding.explanation
        (finding,) = audit(space_of([below._replace(flags=None), STACK]), Evidence(guard_at=guard_at))
        assert "guards" not in finding.explanation


def test_a_guard_within_code_that_can_be_written_is_no_such_code():
    region = Region(0x8000, 0xA000, Protection(7), False, kind=Kind.ANONYMOUS)
    space = space_of([region])
    guard = PageRuns.of([PageRun(0x8000, 0x9000, PageState.GUARD, PageState.GUARD)], space.origin, PageState.GUARD)
    assert [each.region.start for each in audit(space.with_guards(guard))] == [0x9000]


@given(spaces)
def test_findings_come_by_weight_and_address_and_speak_of_regions_of_the_space(space):
    findings = audit(space).findings
    keys = [(-finding.severity, finding.region.start) for finding in findings]
    assert keys == sorted(keys)
    assert all(finding.explanation and set(finding.regions) <= set(space) for finding in findings)


def test_one_library_is_one_finding_whatever_its_segments():
    segments = [
        FILE._replace(start=at, end=at + 0x1000, protection=rights, deleted=True)
        for at, rights in ((0x1000, R), (0x2000, R | X), (0x3000, R | W))
    ]
    (finding,) = audit(space_of(segments))
    assert (finding.id, len(finding.regions), finding.size) == ("deleted-file", 3, 0x3000)
    assert finding.severity is Severity.MEDIUM


def test_who_maps_thousands_of_files_does_not_decide_how_long_an_audit_takes():
    """What is not asked about any more is said, and is no pass."""
    asked = set()

    def answers(what, answer):
        return lambda region: (asked.add((what, region)), answer)[1]

    evidence = Evidence(
        file_now=answers("now", FileNow(10**6)),
        file_rights=answers("rights", FileRights(0o100644, 0, 0o40755, 0)),
        elf=answers("elf", None),
        seals=answers("seals", frozenset()),
        known_files=lambda: answers("known", True),
        unmounted=lambda regions: [asked.add(("unmounted", each)) for each in regions],
    )
    count = MOST_FILES + 500
    there = [
        Region(n << 16, (n << 16) + 0x1000, R | X, False, 0, None, n, f"/a{n}", kind=Kind.FILE)
        for n in range(1, count + 1)
    ]
    gone = [
        each._replace(start=each.start + 0x2000, end=each.end + 0x2000, path=f"/b{each.inode}", deleted=True)
        for each in there
    ]
    memory = [
        each._replace(
            start=each.start + 0x4000, end=each.end + 0x4000, path=f"/memfd:{each.inode}", kind=Kind.SHARED_MEMORY
        )
        for each in there
    ]
    report = audit(space_of(sorted([*there, *gone, *memory])), evidence, Policy.preset("strict"))
    most = Counter(what for what, _ in asked)
    assert {*most} == {"now", "rights", "elf", "seals", "known", "unmounted"}
    assert max(most.values()) <= MOST_FILES
    ids = [each.id for each in report]
    assert ids.count("replaced-file") == MOST_FILES and ids.count("deleted-file") == count - MOST_FILES
    assert (
        "of one process 2,048 files are asked about"
        in next(each for each in report if each.id == "deleted-file").explanation
    )
    silent = {each.rule.id for each in report.untold if "of one process 2,048 files are asked about, and" in each.why}
    assert silent == {"code-anybody-may-write", "deleted-file", "fixed-program", "relro-undone", "unknown-code"}


def test_a_data_file_that_is_gone_is_noted_and_code_weighs_more():
    (data,) = audit(space_of([FILE._replace(protection=R | W, deleted=True)]))
    (code,) = audit(space_of([FILE._replace(deleted=True)]))
    assert (data.severity, code.severity) == (Severity.NOTE, Severity.MEDIUM)


ANONYMOUS_CODE = Region(0x20000, 0x30000, R | X, False, kind=Kind.ANONYMOUS)
MEMFD = Region(0x40000, 0x50000, R | X, True, 0, Device(0, 1), 5, "/memfd:x", deleted=True, kind=Kind.SHARED_MEMORY)


@pytest.mark.parametrize(
    ("region", "found"),
    [
        (ANONYMOUS_CODE, ["nameless-code"]),
        (ANONYMOUS_CODE._replace(protection=R), []),
        (ANONYMOUS_CODE._replace(protection=R | W | X), ["writable-and-executable"]),
        (ANONYMOUS_CODE._replace(kind=Kind.VDSO, name="[vdso]"), []),
        (ANONYMOUS_CODE._replace(name="[uprobes]", kind=Kind.OTHER), []),  # the kernel says whose code it is
        (MEMFD, ["code-in-memory-file"]),
        (MEMFD._replace(protection=R | W), []),
        (MEMFD._replace(shared=False), ["code-in-memory-file"]),  # a program that was executed from it
        (FILE._replace(path="/dev/shm/x"), ["code-in-memory-file"]),
        (FILE._replace(path="/dev/shmoo/x"), []),
        (FILE._replace(path="/tmp/x"), ["code-in-temporary-folder"]),
        (FILE._replace(path="/tmpfiles/x"), []),
        (FILE._replace(path="/tmp/x", protection=R | W), []),
        (FILE._replace(path="/run/user/1000/x"), ["code-in-temporary-folder"]),
    ],
)
def test_code_is_judged_by_what_stands_behind_it(region, found):
    assert [each.id for each in audit(space_of([region]))] == found


def test_one_object_that_is_written_here_and_executed_there_is_found_by_device_and_inode():
    def both(**changes):
        view = MEMFD._replace(start=0x60000, end=0x70000, protection=R | W, **changes)
        return [each for each in audit(space_of([MEMFD, view])) if each.id == "dual-mapping"]

    (found,) = both()
    assert [region.start for region in found.regions] == [0x40000, 0x60000]
    assert "0x60000" in found.explanation and "0x40000" in found.explanation
    assert both(path="/memfd:other")  # the name is whoever's who made it
    assert not both(inode=6)
    assert not both(device=Device(0, 2))
    assert not both(shared=False)  # a private copy is written
    assert not both(offset=0x10000)  # a header page that is written, and code behind it: no byte is both
    (some,) = both(offset=0xF000)
    assert "0x60000" in some.explanation
    assert both(offset=None)  # it may be all
    data = FILE._replace(start=0x60000, end=0x61000, protection=R | W, device=Device(8, 1), inode=7)
    assert not audit(space_of([FILE._replace(device=Device(8, 1)), data]))  # any library's data


def test_one_object_is_followed_into_other_processes():
    writes = space_of([MEMFD._replace(protection=R | W)])
    across = Across()
    for pid, space in ((1, writes), (2, space_of([MEMFD])), (3, space_of([FILE]))):
        across.add(ProcessInfo(pid, None, f"name{pid}", None), across.of(space))
    across.add(ProcessInfo(4, None, "name4", None), across.of(space_of([MEMFD._replace(offset=0x10000)])))
    ((process, finding),) = across.findings()
    assert (process.pid, finding.id) == (2, "dual-mapping")
    assert "process 1 (name1) can write at 0x40000" in finding.explanation


@pytest.mark.parametrize(
    ("rights", "found"),
    [
        (FileRights(0o100755, 0, 0o40755, 0), False),
        (FileRights(0o100757, 0, 0o40755, 0), True),
        (FileRights(0o100775, 0, 0o40755, 0), False),  # a group is not everybody
        (FileRights(0o100755, 0, 0o40777, 0), True),
        (FileRights(0o100755, 0, 0o41777, 0), False),  # sticky: only its owner takes a file away
        (FileRights(0o100755, 0, None, None), False),
        (FileRights(0o100755, 0, 0o40755, 0, (("/a", 0o40755), ("/", 0o41777))), False),
        (FileRights(0o100755, 0, 0o41777, 0, (("/a/b", 0o40755), ("/a", 0o40777), ("/", 0o40755))), True),
        (FileRights(0o100755, 0, 0o40777, 0, (("/a", 0o40777),)), True),
    ],
)
def test_code_that_everybody_may_write_or_replace_is_found(rights, found):
    report = audit(space_of([FILE]), Evidence(file_rights=lambda region: rights))
    assert [each.id for each in report] == ["code-anybody-may-write"] * found
    assert "code-anybody-may-write" not in [each.rule.id for each in report.untold]


RELRO = Elf(64, False, (Segment(0, 0, 0x1000, 0x1000, R | X), Segment(0x1000, 0x2000, 0x800, 0x2000, R | W)), None)


@pytest.mark.parametrize(
    ("relro", "first", "second", "found"),
    [
        ((0x2000, 0x3000), R, R | W, False),
        ((0x2000, 0x3000), R | W, R | W, True),
        ((0x2000, 0x2800), R | W, R | W, False),  # less than a page: nothing of it can be protected
        (None, R | W, R | W, False),
        ((0x2000, 0x4000), R, R | W, True),
    ],
)
def test_what_the_loader_was_to_protect_is_found_where_it_is_writable(relro, first, second, found):
    code = FILE._replace(start=0x100000, end=0x101000, offset=0)
    data = [
        FILE._replace(start=0x102000, end=0x103000, offset=0x1000, protection=first),
        Region(0x103000, 0x104000, second, False, kind=Kind.ANONYMOUS),
    ]
    report = audit(space_of([code, *data]), Evidence(elf=lambda region: RELRO._replace(relro=relro)))
    assert [each.id for each in report] == ["relro-undone"] * found


def test_a_program_at_a_fixed_place_is_found_by_the_strict_policy():
    evidence = Evidence(elf=lambda region: RELRO._replace(is_fixed=True))
    assert not audit(space_of([FILE]), evidence)
    assert "fixed-program" in [each.id for each in audit(space_of([FILE]), evidence, Policy.preset("strict"))]


def test_code_that_was_written_is_told_by_its_pages_or_else_by_the_memory_in_use():
    code = FILE._replace(end=0x5000)
    by_pages = audit(space_of([code]), Evidence(changed=lambda ranges: [(0x2000, 0x3000), (0x9000, 0xA000)]))
    assert [(each.id, each.explanation) for each in by_pages] == [
        ("changed-code", "4,096 bytes of it are a copy that was written, first at 0x2000")
    ]
    assert not audit(space_of([code]), Evidence(changed=lambda ranges: []))
    untold = [each.rule.id for each in audit(space_of([code]), Evidence(changed=lambda ranges: None)).untold]
    assert "changed-code" in untold


def test_a_map_near_the_limit_of_regions_is_found():
    many = [Region(at * 0x2000, at * 0x2000 + 0x1000, R, False, kind=Kind.ANONYMOUS) for at in range(10_000)]
    assert [each.id for each in audit(space_of(many), Evidence(most_regions=lambda: 11_000))] == ["many-regions"]
    assert not audit(space_of(many), Evidence(most_regions=lambda: 65_530))


@pytest.mark.parametrize("name", ["[vsyscall]", "[vectors]"])
def test_what_the_kernel_shows_to_everybody_is_none_of_the_regions_that_a_process_has(name):
    many = [Region(at * 0x2000, at * 0x2000 + 0x1000, R, False, kind=Kind.ANONYMOUS) for at in range(10_000)]
    many.append(Region(0xFFFFFFFFFF600000, 0xFFFFFFFFFF601000, R, False, name=name, kind=Kind.VSYSCALL))
    (found,) = audit(space_of(many), Evidence(most_regions=lambda: 10_000))
    assert found.explanation.startswith("10,000 regions of 10,000")


def test_files_that_no_package_brought_are_found_where_packages_are_asked():
    policy = Policy.preset("default").only(["unknown-code"])
    for known, found in ((True, 0), (False, 1), (None, 0)):
        report = audit(space_of([FILE]), Evidence(known_files=lambda known=known: lambda path: known), policy)
        assert (len(report), len(report.untold)) == (found, known is None)
    assert audit(space_of([FILE]), Evidence(known_files=lambda: None), policy).untold


class Sealing(SystemFlags):
    """Flags of which one tells that memory is sealed."""

    SEAL = 1

    @property
    def sealed(self):
        return Sealing.SEAL in self


SEALED, UNSEALED = Sealing.SEAL, Sealing(0)


@pytest.mark.parametrize(
    ("flags", "release", "found", "silent"),
    [
        ((SEALED, SEALED), "6.18.1", [], False),
        ((SEALED, UNSEALED), "6.18.1", [(0x3000, Severity.LOW)], False),
        ((UNSEALED, UNSEALED), "6.18.1", [(None, Severity.NOTE)], False),
        ((UNSEALED, UNSEALED), "6.9.12", [], True),
        ((SEALED, None), "6.18.1", [], True),
        (None, "6.18.1", [], True),
    ],
)
def test_code_that_is_not_sealed_is_found_where_other_memory_is_and_else_noted(flags, release, found, silent):
    other = FILE._replace(start=0x3000, end=0x4000, path="/lib/b.so", inode=8)
    space = space_of([FILE, other])
    system = dataclasses.replace(space.system, release=release)
    space = vmatlas.AddressSpace.of(space, dataclasses.replace(space.origin, system=system))
    seen = None
    if flags is not None:
        regions = [region._replace(flags=each) for region, each in zip(space, flags, strict=True)]
        seen = vmatlas.AddressSpace.of(regions, space.origin)
    report = audit(space, Evidence(look_again=lambda: seen), Policy.preset("default").only(["unsealed-code"]))
    assert [(each.region and each.region.start, each.severity) for each in report] == found
    assert bool(report.untold) is silent


def test_an_object_in_memory_tells_how_it_is_sealed_or_that_nobody_does():
    memory = FILE._replace(path="/memfd:x", kind=Kind.SHARED_MEMORY, shared=False)
    only = Policy.preset("default").only(["code-in-memory-file"])
    for seals, words in ((frozenset({"write"}), "; it is sealed"), (frozenset(), "; it is not sealed")):
        (finding,) = audit(space_of([memory]), Evidence(seals=lambda _, seals=seals: seals), only)
        assert words in finding.explanation
    report = audit(space_of([memory]), policy=only)
    assert len(report) == 1 and "sealed against writing is not told" in report.untold[0].why


def test_rights_that_are_not_told_are_no_pass():
    report = audit(space_of([FILE._replace(protection=Protection.UNTOLD)]))
    assert not report
    assert {"writable-and-executable", "executable-stack", "nameless-code"} <= {each.rule.id for each in report.untold}


def test_what_is_no_evidence_and_no_policy_is_refused():
    for wrong in ({"evidence": lambda region: None}, {"policy": "strict"}):
        with pytest.raises(vmatlas.UsageError):
            audit(space_of([FILE]), **wrong)


@pytest.mark.parametrize("rule", RULES, ids=[rule.id for rule in RULES])
def test_each_rule_says_what_it_is(rule):
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.id)
    assert all(len(text) > 20 for text in (rule.meaning, rule.legitimate, rule.remedy))


NAMES = {"linux": "Linux", "freebsd": "FreeBSD", "netbsd": "NetBSD", "qnx": "QNX"}


def row_of(rule):
    """The row of the documents' table that tells of a rule."""
    systems = "every system" if rule.systems is None else ", ".join(NAMES[each] for each in sorted(rule.systems))
    more = ", ".join(["`--thorough`"] * rule.is_thorough + ["strict alone"] * (not rule.is_usual))
    asks = f"{rule.asks}; {more}" if more else rule.asks
    return f"| `{rule.id}` | {rule.severity.word} | {rule.meaning} | {rule.legitimate} | {systems} | {asks} |"


def test_the_table_of_rules_in_the_documents_is_what_the_rules_say():
    text = Path(__file__).parents[2].joinpath("docs", "audit.md").read_text("utf-8")
    told = [line for line in text.splitlines() if re.match(r"\| `[a-z-]+` \| (high|medium|low|note) \|", line)]
    assert told == [row_of(rule) for rule in RULES]


HOSTILE = 20_000


def _hostile(at: int) -> Region:
    """One of many: code that touches code, objects that are mapped twice, files that claim the whole space."""
    start = 0x10000000 + at * 0x1000
    if at % 4 == 0:
        return Region(start, start + 0x1000, R | X, False, kind=Kind.ANONYMOUS)
    if at % 4 == 1:
        return Region(start, start + 0x1000, R | W | X, False, kind=Kind.ANONYMOUS)
    device, path = Device(0, 1), f"/memfd:{at // 8}"
    rights = R | X if at % 4 == 2 else R | W
    return Region(start, start + 0x1000, rights, True, 0, device, 5, path, kind=Kind.SHARED_MEMORY)


def test_a_map_that_is_made_to_be_dear_costs_no_more_than_its_length():
    """Whoever is audited chooses its map: nothing may go through all of it for each of its regions."""
    qemu = FILE._replace(path="/usr/bin/qemu-system-x86_64")
    files = [
        FILE._replace(start=0x80000000 + at * 0x2000, end=0x80001000 + at * 0x2000, path=f"/lib/{at}.so", inode=at + 9)
        for at in range(HOSTILE // 4)
    ]
    space = space_of([qemu, *map(_hostile, range(HOSTILE)), *files])
    greedy = Elf(64, False, (Segment(0, 0, 0x1000, 0x1000, R | X),), (0, 2**64))
    evidence = Evidence(elf=lambda region: greedy, changed=lambda ranges: list(ranges))
    began = time.monotonic()
    report = audit(space, evidence, Policy.of({"extends": "strict", "runtimes": True}))
    assert time.monotonic() - began < PATIENCE
    assert {"dual-mapping", "writable-and-executable", "nameless-code", "changed-code"} <= {each.id for each in report}
