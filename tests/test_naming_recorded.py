"""Guesses at what real programs had mapped, against what they themselves said; captures recorded on Linux 6.18."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

import vmatlas
from vmatlas.analysis.naming import RULES
from vmatlas.model import AddressSpace

RECORDED = Path(__file__).parent / "captures" / "naming"


def recorded(program: str) -> AddressSpace:
    return vmatlas.replay(RECORDED / f"{program}.vmatlas")


def spans(space: AddressSpace, word: str) -> list[tuple[int, int]]:
    """What was guessed to be of it, reserved or in use, where it touches put together."""
    found: list[tuple[int, int]] = []
    for start, guess in vmatlas.name_regions(space).items():
        region = space.find(start)
        if region is None or word not in guess.group:
            continue
        if found and found[-1][1] == start:
            found[-1] = found[-1][0], region.end
        else:
            found.append((start, region.end))
    return found


def test_a_jvm_has_its_memory_where_jcmd_says_that_it_is() -> None:
    """`VM.info`, `Compiler.codecache` and `GC.heap_info` of the same process said these."""
    space = recorded("jvm")
    heap = spans(space, "JVM heap")
    assert (heap[0][0], heap[-1][1]) == (0xF0000000, 0x100000000)
    archived = [region for region in space if 0xF0000000 <= region.start < 0x100000000 and region.path]
    assert sum(end - start for start, end in heap) + sum(each.size for each in archived) == 256 << 20
    assert spans(space, "JVM code cache") == [(0x7FCD99400000, 0x7FCDA8400000)]
    assert spans(space, "JVM class space") == [(0x7FCD3BBC7000, 0x7FCD7C000000)]  # from the end of the archive
    assert spans(space, "JVM metaspace") == [(0x7FCD37000000, 0x7FCD3B000000)]  # 64 MiB reserved in one node


def test_each_thread_of_a_jvm_has_a_stack() -> None:
    space = recorded("jvm")
    stacks = [guess for guess in vmatlas.name_regions(space).values() if guess.group == "thread stack"]
    threads = [thread for thread in space.origin.threads or () if thread.number != space.pid]
    assert {guess.name for guess in stacks} == {f"stack of thread {each.number} ({each.name})" for each in threads}


def test_the_pages_of_v8_are_told_from_what_else_node_maps() -> None:
    space = recorded("node")
    heap = [space.find(start) for start, guess in vmatlas.name_regions(space).items() if guess.group == "V8 heap"]
    assert len(heap) == 106
    assert {region.kind for region in heap if region} == {vmatlas.Kind.ANONYMOUS}
    assert spans(space, "V8 code range") == [(0x7F9E65FC0000, 0x7F9E85E00000), (0x7F9E85F92000, 0x7F9E85FC0000)]
    assert len([each for each in vmatlas.name_regions(space).values() if each.group == "thread stack"]) == 6


@pytest.mark.parametrize(("program", "groups"), [
    ("redis", {"?thread stack": 4, "?guard of a thread stack": 4, "?jemalloc extent": 3}),
    ("go", {"?thread stack": 4, "?Go heap": 1, "?reserved for the Go heap": 1, "?glibc malloc arena": 4}),
    ("chromium", {"?thread stack": 12, "?V8 heap": 17, "?V8 code range": 1, "?PartitionAlloc": 32}),
    ("python", {"?thread stack": 3, "?glibc malloc arena": 3, "?.bss": 2}),
])  # fmt: skip
def test_programs_have_what_they_are_known_to_have(program: str, groups: dict[str, int]) -> None:
    found = Counter(guess.group_label for guess in vmatlas.name_regions(recorded(program)).values())
    assert {group: found[group] for group in groups} == groups


@pytest.mark.parametrize("program", ["chromium", "go", "jvm", "node", "python", "redis"])
def test_what_the_kernel_names_is_never_named_otherwise_and_every_guess_has_its_evidence(program: str) -> None:
    space = recorded(program)
    guesses = vmatlas.name_regions(space)
    for start, guess in guesses.items():
        region = space.find(start)
        assert region is not None
        assert region.label == ""
        assert guess.evidence
        assert all(guess.evidence)
    nameless = [region for region in space if region.label == ""]
    assert len(guesses) >= len(nameless) // 2


def test_each_rule_has_its_row_in_the_docs_in_the_order_in_which_it_is_believed() -> None:
    page = (RECORDED.parents[2] / "docs" / "names.md").read_text()
    assert re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.MULTILINE) == [rule.name for rule in RULES]
