"""Guesses at what node and a JVM have mapped just now, against what they say themselves."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vmatlas
from vmatlas.conformance.patience import PATIENCE
from vmatlas.model import AddressSpace

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the rules know processes of Linux")

NODE = """
const v8 = require("v8")
globalThis.kept = []
for (let number = 0; number < 100000; number++) kept.push({ number })
setTimeout(() => {
    const spaces = v8.getHeapSpaceStatistics()
    const size = name => spaces.find(each => each.space_name === name).space_size
    console.log(JSON.stringify([v8.getHeapStatistics().total_heap_size, size("code_space")]))
    for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
}, 0)
"""
"""It tells the size of its heap, and then waits: nothing is collected any more."""


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A program whose output is read, for as long as a test waits for anything."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        limit = threading.Timer(PATIENCE, process.kill)
        limit.start()
        try:
            yield process
        finally:
            limit.cancel()
            process.kill()


def bounds(space: AddressSpace, word: str) -> tuple[int, int]:
    """From the first to the last of what was guessed to be of it, in use or reserved."""
    starts = [start for start, guess in vmatlas.name_regions(space).items() if word in guess.group]
    assert starts, f"nothing is guessed to be of the {word}"
    last = space.find(starts[-1])
    assert last is not None
    return starts[0], last.end


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_every_page_of_the_heap_of_node_is_found_of_which_v8_tells() -> None:
    with running("node", "-e", NODE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "node ended before it told anything"
        space = vmatlas.snapshot(process.pid)
    total, code = json.loads(line)
    guesses = vmatlas.name_regions(space)
    heap = sum(region.size for region in space if (guess := guesses.get(region.start)) and guess.group == "V8 heap")
    if not heap:
        kept = [region for region in space if not region.label and region.size >= 4 << 30]
        assert kept, "no page of the heap was found"
        pytest.skip("this node has pointer compression: its heap is one reservation, which is not told")
    # The code space lies in the code range; the read-only space and pages that are kept for later are in no statistics.
    assert total - code <= heap <= 3 * total


@pytest.mark.skipif(shutil.which("java") is None, reason="java is not installed")
def test_a_jvm_has_heap_and_classes_where_its_log_says() -> None:
    """It waits for a debugger that never comes, before it runs anything."""
    waits = "-agentlib:jdwp=transport=dt_socket,server=y,suspend=y,address=127.0.0.1:0"
    log = "-Xlog:gc+heap+coops=debug,gc+metaspace=info:stdout"
    told = ""
    with running("java", "-Xmx64m", waits, log, "-version") as process:
        assert process.stdout is not None
        for line in process.stdout:
            told += line
            if line.startswith("Listening"):
                break
        else:
            pytest.skip(f"this JVM does not wait for a debugger, or knows no such log: {told[:200]!r}")
        space = vmatlas.snapshot(process.pid)
    heap = re.search(r"Heap address: 0x([0-9a-f]+), size: 64 MB", told)
    classes = re.search(r"class space mapped at: 0x[0-9a-f]+-0x([0-9a-f]+)", told)
    if heap is None or classes is None:
        pytest.skip(f"this JVM does not log where it puts heap and classes: {told[:200]!r}")
    start = int(heap[1], 16)
    found = bounds(space, "JVM heap")
    assert found[0] == start
    assert found[1] <= start + (64 << 20)
    assert bounds(space, "JVM class space")[1] == int(classes[1], 16)
    assert any(guess.group == "JVM code cache" for guess in vmatlas.name_regions(space).values())


QUIET = ["-display", "none", "-serial", "none", "-S", "-monitor", "stdio"]
PROGRAMS = {
    "node": ("node", "-e", NODE),
    "java": (
        "java",
        "-Xmx64m",
        "-agentlib:jdwp=transport=dt_socket,server=y,suspend=y,address=127.0.0.1:0",
        "-version",
    ),
    "redis-server": ("redis-server", "--port", "0", "--save", "", "--unixsocket", "SOCKET"),
    "qemu-system-x86_64": ("qemu-system-x86_64", "-M", "pc", "-accel", "tcg", *QUIET),
    "qemu-system-x86_64, code mapped twice": ("qemu-system-x86_64", "-M", "pc", "-accel", "tcg,split-wx=on", *QUIET),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_audit_that_knows_compilers_finds_nothing_in_real_programs(name: str, tmp_path: Path) -> None:
    """All rules of the policy, with the files and pages that they ask for; what there is, is a note, with its cause."""
    command = [str(tmp_path / "socket") if word == "SOCKET" else word for word in PROGRAMS[name]]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    with running(*command) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said, f"{command[0]} ended before it said anything"
        with vmatlas.open(process.pid) as asked:
            deadline = time.monotonic() + PATIENCE
            while True:
                report = vmatlas.audit(asked.snapshot(), asked.evidence(), vmatlas.Policy.preset("jit-friendly"))
                # Its loader may be at work for as long as it loads plugins; the rule says so, and to look again.
                if "relro-undone" not in {each.id for each in report} or time.monotonic() > deadline:
                    break
                time.sleep(0.1)
    assert not [each for each in report if each.severity > vmatlas.Severity.NOTE and not each.thing]
    assert {each.id for each in report if each.severity > vmatlas.Severity.NOTE} <= {"code-in-temporary-folder"}
    assert bool(report.findings) is (command[0] != "redis-server")
    assert all(each.runtime for each in report if each.rule.of_code)
