"""Does jobs by vmatlas or psutil and tells the time of each: `python -m tests.bench.worker`.

In a process of its own, so that the compiled twins can be kept from it (VMATLAS_PURE=1). A job a line as JSON, an
answer a line: nanoseconds, or why not. A job's `map_threads` limits the threads of one map, `worked` asks for the
processor's time. It ends with its input.
"""

from __future__ import annotations

import bisect
import gc
import json
import os
import resource
import struct
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any

import vmatlas
from tests.bench.child import PAGE, make_regions

Job = dict[str, Any]

_open: dict[tuple[int, str | None], vmatlas.Process] = {}


def handle(job: Job) -> vmatlas.Process:
    key = job["pid"], job.get("backend")
    if key not in _open:
        _open[key] = vmatlas.open(job["pid"], backend=job.get("backend"))
    return _open[key]


def whole_map(job: Job) -> Callable[[], object]:
    return handle(job).snapshot


def fill(job: Job) -> Callable[[], object]:
    """Gives the worker itself so many regions, once."""
    make_regions(job["regions"])
    return lambda: None


def one_shot(job: Job) -> Callable[[], object]:
    return lambda: vmatlas.snapshot(job["pid"])


def regions(job: Job) -> Callable[[], object]:
    process = handle(job)
    return lambda: list(process.snapshot())


def points(job: Job) -> Callable[[], object]:
    process, addresses = handle(job), job["addresses"]

    def ask() -> None:
        find = process.find
        for address in addresses:
            find(address)

    return ask


def one_shot_points(job: Job) -> Callable[[], object]:
    return lambda: [vmatlas.find(job["pid"], address) for address in job["addresses"]]


def many(job: Job) -> Callable[[], object]:
    process, addresses = handle(job), job["addresses"]
    return lambda: process.find_many(addresses)


def executable_files(job: Job) -> Callable[[], object]:
    process = handle(job)
    return lambda: list(process.snapshot(executable=True, file_backed=True))


def residency(job: Job) -> Callable[[], object]:
    process = handle(job)
    return lambda: process.snapshot(residency=True)


def pages(job: Job) -> Callable[[], object]:
    """What lies in a range; `of` are the states that are asked for."""
    process, between = handle(job), (job["start"], job["end"])
    of = vmatlas.PageState.of(job["of"]) if "of" in job else None
    return lambda: process.pages(between=between, of=of)


def guards(job: Job) -> Callable[[], object]:
    process = handle(job)
    return lambda: process.snapshot(guards=True)


def unpack_pagemap(job: Job) -> Callable[[], object]:
    """What people write themselves: the entries of a range in one reading, each unpacked."""

    def ask() -> list[tuple[int, int, int]]:
        found: list[tuple[int, int, int]] = []
        with open(f"/proc/{job['pid']}/pagemap", "rb") as file:
            file.seek(job["start"] // PAGE * 8)
            data = file.read((job["end"] - job["start"]) // PAGE * 8)
        for number, (entry,) in enumerate(struct.iter_unpack("Q", data)):
            if entry >> 61:
                found.append((job["start"] + number * PAGE, entry >> 63, entry >> 62 & 1))
        return found

    return ask


def unpack_pagemap_by_page(job: Job) -> Callable[[], object]:
    """The same, page by page: seek, read 8 bytes, unpack."""

    def ask() -> list[tuple[int, int, int]]:
        found: list[tuple[int, int, int]] = []
        with open(f"/proc/{job['pid']}/pagemap", "rb", buffering=0) as file:
            for address in range(job["start"], job["end"], PAGE):
                file.seek(address // PAGE * 8)
                (entry,) = struct.unpack("Q", file.read(8))
                if entry >> 61:
                    found.append((address, entry >> 63, entry >> 62 & 1))
        return found

    return ask


def unchanged(job: Job) -> Callable[[], object]:
    """Some looks of `watch` at a map that stays as it is."""
    process, looks = handle(job), job["looks"]

    class Done(Exception):
        pass

    def ask() -> None:
        left = looks

        def wait(_: float) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Done

        try:
            for _ in process.watch(0, wait=wait):
                pass
        except Done:
            pass

    return ask


def machine(job: Job) -> Callable[[], object]:
    def ask() -> None:
        for _ in vmatlas.snapshots(threads=job["threads"], residency=job.get("residency", False)):
            pass

    return ask


def audits(job: Job) -> Callable[[], object]:
    """Every process by the rules that `audit --all` asks."""
    policy = vmatlas.Policy.preset("default").quick()

    def judge(process: vmatlas.Process) -> vmatlas.AuditReport:
        return vmatlas.audit(process.snapshot(), process.evidence(), policy)

    return lambda: list(vmatlas.survey(judge, threads=job["threads"]))


def totals(job: Job) -> Callable[[], object]:
    """The memory in use of every process; `described` or by number alone."""
    described, threads = job["described"], job.get("threads")
    return lambda: list(vmatlas.memories(described=described, threads=threads))


def psutil_totals(job: Job) -> Callable[[], object]:
    import psutil

    def ask() -> list[object]:
        found: list[object] = []
        for process in psutil.process_iter():
            try:
                found.append((process.pid, process.memory_full_info()))
            except psutil.Error:
                continue
        return found

    return ask


def core(job: Job) -> Callable[[], object]:
    return lambda: vmatlas.replay(job["path"])


def pyelftools(job: Job) -> Callable[[], object]:
    try:
        from elftools.elf.elffile import ELFFile  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        raise vmatlas.Unsupported("pip install pyelftools") from None

    def read() -> list[tuple[int, int, int]]:
        with open(job["path"], "rb") as file:
            return [(each["p_vaddr"], each["p_memsz"], each["p_flags"]) for each in ELFFile(file).iter_segments()]

    return read


def _here(job: Job) -> list[int]:
    """The same addresses of the library as it is mapped in this process."""
    region = next(
        each
        for each in vmatlas.snapshot()
        if each.path == job["library"] and each.protection & vmatlas.Protection.EXECUTE
    )
    with vmatlas.open() as process:
        shift = (process.elf_address(region.start, region) or 0) - region.start
    return [each - shift for each in job["addresses"]]


def symbols(job: Job) -> Callable[[], object]:
    addresses, space = _here(job), vmatlas.snapshot()
    return lambda: vmatlas.symbolize_many(space, addresses)


def kept_symbols(job: Job) -> Callable[[], object]:
    from vmatlas.symbolizing import Symbolizer

    addresses, symbolizer = _here(job), Symbolizer(vmatlas.snapshot())
    return lambda: symbolizer.symbols(addresses)


def split_lines(job: Job) -> Callable[[], object]:
    """What people write themselves: right for ordinary names, and with no check at all."""

    def ask() -> list[object]:
        found: list[object] = []
        with open(f"/proc/{job['pid']}/maps", encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                span, rights, offset, device, inode, *path = line.rstrip("\n").split(None, 5)
                start, end = span.split("-")
                found.append(
                    (int(start, 16), int(end, 16), rights, int(offset, 16), device, int(inode), path[0] if path else "")
                )
        return found

    return ask


def psutil_maps(job: Job) -> Callable[[], object]:
    import psutil

    process = psutil.Process(job["pid"])
    return lambda: process.memory_maps(grouped=False)


def psutil_search(job: Job) -> Callable[[], object]:
    """The same question by psutil, as its users have to ask it: it gives bounds as text."""
    import psutil

    def ask() -> list[object]:
        regions = psutil.Process(job["pid"]).memory_maps(grouped=False)
        bounds = [tuple(int(edge, 16) for edge in region.addr.split("-")) for region in regions]
        starts = [start for start, _ in bounds]
        found: list[object] = []
        for address in job["addresses"]:
            row = bisect.bisect_right(starts, address) - 1
            found.append(regions[row] if row >= 0 and address < bounds[row][1] else None)
        return found

    return ask


def psutil_files(job: Job) -> Callable[[], object]:
    import psutil

    def ask() -> list[object]:
        regions = psutil.Process(job["pid"]).memory_maps(grouped=False)
        return [region for region in regions if "x" in region.perms and region.path.startswith("/")]

    return ask


def psutil_machine(job: Job) -> Callable[[], object]:
    import psutil

    def ask() -> None:
        for process in psutil.process_iter():
            try:
                process.memory_maps(grouped=False)
            except psutil.Error:
                continue

    return ask


JOBS = {
    each.__name__: each
    for each in (
        whole_map, fill, one_shot, regions, points, one_shot_points, many, executable_files, residency, unchanged,
        pages, guards, unpack_pagemap, unpack_pagemap_by_page, machine, audits, totals, psutil_totals, split_lines,
        psutil_maps, psutil_search, psutil_files, psutil_machine, core, pyelftools, symbols, kept_symbols,
    )
}  # fmt: skip


def held(job: Job) -> float:
    """Bytes that the columns of a map hold, its distinct names included; for each region."""
    columns = handle(job).snapshot().columns
    arrays = sum(
        sys.getsizeof(each)
        for each in (getattr(columns, name) for name in columns.__slots__)
        if isinstance(each, array)
    )
    names = sum(sys.getsizeof(label) + sys.getsizeof(label.path or label.name or "") for label in columns.labels)
    return (arrays + names + sys.getsizeof(columns.labels)) / len(columns)


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        job: Job = json.loads(line)
        os.environ.pop("VMATLAS_THREADS", None)
        if "map_threads" in job:
            os.environ["VMATLAS_THREADS"] = str(job["map_threads"])
        try:
            if job["job"] == "held":
                print(held(job), flush=True)
                continue
            ask = JOBS[job["job"]](job)
            ask()  # what is made once on first use is there from now on
            gc.collect()
            clock = time.process_time_ns if job.get("worked") else time.perf_counter_ns
            begin = clock()
            for _ in range(job.get("repeat", 1)):
                kept = ask()
            taken = (clock() - begin) / job.get("repeat", 1)
            del kept
            print(taken, flush=True)
        except vmatlas.Unsupported as error:
            print(f"missing {error}", flush=True)


if __name__ == "__main__":
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(__file__)]
    main()
