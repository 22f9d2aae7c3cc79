"""What may go wrong around a run of machines: killed at any moment, a full disk, two at once, clocks that jump.

The runs are the real ones: the command behind `invoke test-all-platforms`, on a kernel that a server on loopback gives.
VMATLAS_KILLS=N kills N runs (`invoke test-faults --kills N`).
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

import vmatlas
from vmatlas.conformance.patience import PATIENCE
from vmatlas_images import Cache, built_agent, fetch, find
from vmatlas_images.fetch.cache import digest_of
from vmatlas_images.prepare.preparing import prepare

from .conftest import Server
from .test_guard import within

KILLS = int(os.environ.get("VMATLAS_KILLS", "6"))
AT_ONCE = 3 if KILLS > 10 else 2

pytestmark = [pytest.mark.machine, pytest.mark.network, pytest.mark.timeout(10 * PATIENCE + 20 * KILLS)]

PASSED, USAGE, NOT_RUN = 0, 2, 4
RUN = """
import sys
from pathlib import Path
from vmatlas_images.command import run_machines
sys.exit(run_machines(only=["faulty"], output=Path(sys.argv[1])))
"""


@dataclass
class Place:
    """A cache, a folder of machines with one in it, and where runs leave what they leave."""

    folder: Path
    server: Server

    @property
    def environment(self) -> dict[str, str]:
        """For a run in this place alone."""
        folders = {
            "VMATLAS_CACHE": self.folder / "cache", "VMATLAS_IMAGES": self.folder / "images",
            "TMPDIR": self.folder / "tmp",
        }  # fmt: skip
        kept = {name: value for name, value in os.environ.items() if not name.startswith("VMATLAS_")}
        return kept | {name: str(path) for name, path in folders.items()} | {"VMATLAS_ACCELERATOR": "tcg"}

    def start(self, output: str = "out", before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """A run, in a process group of its own."""
        command = [*before, sys.executable, "-c", RUN, self.folder / output]
        return subprocess.Popen(
            command, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def run(self, output: str = "out", before: tuple[str, ...] = ()) -> tuple[int, str]:
        """A run to its end: its exit code, and all that it said."""
        started = self.start(output, before)
        said, _ = started.communicate(timeout=3 * PATIENCE)
        return started.returncode, said

    def processes(self) -> list[str]:
        """Whatever still runs and names this place: QEMUs, guards, suites."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and int(folder.name) != os.getpid():
                try:
                    line = (folder / "cmdline").read_bytes()
                except OSError:
                    continue
                if str(self.folder).encode() in line:
                    found.append(line.replace(b"\0", b" ").decode("utf-8", "replace"))
        return found


@pytest.fixture
def kernel() -> Path:
    """The kernel of linux-6.12, from the cache of this host."""
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("no qemu-system-x86_64: invoke test-all-platforms --install brings it")
    machine = find("linux-6.12")
    made = prepare(machine, fetch(machine), built_agent(machine.system, machine.processor))
    assert made.kernel is not None
    return made.kernel


def place_in(folder: Path, server: Server, content: bytes) -> Place:
    """A place whose machine is linux-6.12, but for where its kernel comes from."""
    server.files["vmlinuz"] = content
    for each in ("images", "tmp"):
        (folder / each).mkdir(parents=True)
    text = find("linux-6.12").path.read_text()
    source = (
        f"source:\n  kind: url\n  url: {server.url}/vmlinuz\n  sha256: {hashlib.sha256(content).hexdigest()}\nboot:"
    )
    text = re.sub(r"source:.*?\nboot:", source, text, flags=re.DOTALL).replace("name: linux-6.12", "name: faulty")
    (folder / "images" / "faulty.yaml").write_text(text)
    return Place(folder, server)


@pytest.fixture
def place(tmp_path: Path, server: Server, kernel: Path) -> Place:
    """A place whose machine boots."""
    return place_in(tmp_path / "place", server, kernel.read_bytes())


def are_locks_free(cache: Path) -> bool:
    for path in (cache / "locks").glob("*"):
        with path.open("rb+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
    return True


def damaged(cache: Path, whole: dict[str, set[str]]) -> list[str]:
    """Entries that are not what their names say. `whole`: the files of prepared entries seen before, with their
    digests; new ones are added."""
    wrong = [path.name for path in (cache / "files").glob("*") if path.name != f"sha256-{digest_of(path)}"]
    for path in (cache / "records").glob("*.json"):
        json.loads(path.read_text())
    for path in (cache / "prepared").glob("*"):
        if whole.setdefault(path.name, digests(path)) != digests(path):
            wrong.append(str(path))
    return wrong


def digests(folder: Path) -> set[str]:
    return {f"{path.name} {digest_of(path)}" for path in folder.iterdir()}


def test_runs_killed_at_any_moment_leave_no_qemu_no_half_entry_and_no_lock(
    tmp_path: Path, server: Server, kernel: Path
) -> None:
    server.pace["vmlinuz"] = 0.8
    places = [place_in(tmp_path / str(number), server, kernel.read_bytes()) for number in range(AT_ONCE)]
    started = time.monotonic()
    code, said = places[0].run()
    takes = time.monotonic() - started
    assert code == PASSED, said
    whole: dict[str, set[str]] = {}
    assert damaged(places[0].folder / "cache", whole) == []
    seed = random.randrange(1 << 32)
    print(f"\nseed {seed}; a run that is left alone takes {takes:.1f} s")
    chance = random.Random(seed)
    plans = [
        (
            chance.uniform(0, takes),
            chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]),
            chance.choice([os.kill, os.killpg]),
            chance.random() < 0.6,  # the cache is emptied first, so that fetching and preparing are killed too
        )
        for _ in range(KILLS)
    ]
    queue = iter(plans)
    lock, faults, ended = threading.Lock(), list[str](), list[int]()
    stages: Counter[str] = Counter()

    def kill_runs(place: Place) -> None:
        cache = place.folder / "cache"
        while True:
            with lock:
                plan = next(queue, None)
            if plan is None:
                return
            after, number, whom, emptied = plan
            if emptied:
                shutil.rmtree(cache, ignore_errors=True)
            started = place.start()
            try:
                started.wait(after)
            except subprocess.TimeoutExpired:
                whom(started.pid, number)
            said, _ = started.communicate(timeout=PATIENCE)
            gone = within(PATIENCE, lambda: not place.processes())
            with lock:
                ended.append(started.returncode)
                stages[(re.findall(r" s  faulty: (\w+)", said) or ["start"])[-1]] += 1
                story = f"after {after:.2f} s, {number.name} to {whom.__name__}, ended with {started.returncode}: "
                if not gone:
                    faults.append(story + f"left behind: {place.processes()}")
                faults.extend(story + f"damaged: {entry}" for entry in damaged(cache, whole))
                if not are_locks_free(cache):
                    faults.append(story + "a lock is held")
                # Before its first stage it is Python that is interrupted, in the middle of an import.
                if number is signal.SIGINT and "Traceback" in said and " s  faulty: " in said:
                    faults.append(story + said[-800:])

    with ThreadPoolExecutor() as threads:
        list(threads.map(kill_runs, places))
    killed = sum(code != PASSED for code in ended)
    print(f"{len(ended)} runs, {killed} of them killed before their end, in {dict(stages)}; {len(faults)} faults")
    assert faults == []
    assert len(ended) == KILLS
    assert killed > 0
    # The next run passes, and sweeps what killed ones left half made.
    with ThreadPoolExecutor() as threads:
        runs = list(threads.map(Place.run, places))
    for place, (code, said) in zip(places, runs, strict=True):
        assert code == PASSED, said
        assert list((place.folder / "cache" / "tmp").iterdir()) == []
        assert list((place.folder / "tmp").glob("vmatlas-*")) == []


def tmpfs(size: str, place: Path) -> tuple[str, ...]:
    """What goes before a command that is to see a file system of that size, and no more, at a place."""
    place.mkdir(parents=True, exist_ok=True)
    script = f'mount -t tmpfs -o size={size} tmpfs "$0" && exec "$@"'
    before = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(place))
    tried = subprocess.run([*before, "true"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    if tried.returncode != 0:
        before = ("unshare", "--mount", *before[4:])
        tried = subprocess.run([*before, "true"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {tried.stderr.strip()}")
    return before


@pytest.mark.parametrize(
    ("size", "stage"),
    [("1m", "fetch"), ("fits", "prepare")],
)
def test_a_cache_on_a_full_disk_is_one_line_and_no_verdict(
    tmp_path: Path, server: Server, kernel: Path, size: str, stage: str
) -> None:
    place = place_in(tmp_path / "place", server, kernel.read_bytes())
    if size == "fits":  # the kernel, and not the initramfs with the agent beside it
        size = str((kernel.stat().st_size // 4096 + 8) * 4096)
    code, said = place.run(before=tmpfs(size, place.folder / "cache"))
    assert code == NOT_RUN, said
    assert "No space left on device" in " ".join(said.split())
    assert f"faulty: {stage}" in said
    assert "Traceback" not in said
    assert "0 tests passed" in said


def test_results_that_find_no_room_are_said_and_are_no_success(place: Place) -> None:
    code, said = place.run(before=tmpfs("16k", place.folder / "out"))
    assert code != PASSED
    assert "Traceback" not in said
    assert "No space left on device" in " ".join(said.split())


def test_two_runs_at_once_share_a_cache_and_not_their_results(place: Place) -> None:
    runs = [place.start(), place.start()]
    said = [run.communicate(timeout=3 * PATIENCE)[0] for run in runs]
    assert [run.returncode for run in runs] == [PASSED, PASSED], said
    assert place.server.asked == ["vmlinuz"]
    told = [text for text in said if "Another run uses" in text]
    assert len(told) == 1
    for name in ("out", "out-2"):
        assert (place.folder / name / "results.json").is_file()
        assert "faulty" in (place.folder / name / "machines.xml").read_text()


def test_a_guest_whose_clock_passes_2038_tells_the_same(tmp_path: Path, server: Server, kernel: Path) -> None:
    place = place_in(tmp_path / "place", server, kernel.read_bytes())
    described = place.folder / "images" / "faulty.yaml"
    described.write_text(
        described.read_text().replace("boot:\n", 'boot:\n  arguments: [-rtc, "base=2038-01-19T03:14:06"]\n', 1)
    )
    code, said = place.run()
    assert code == PASSED, said
    assert "2038" in (place.folder / "out" / "consoles" / "faulty.log").read_text()


def test_a_clock_of_the_host_that_jumps_ends_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = itertools.cycle([0.0, 40 * 365 * 86400.0, -3 * 365 * 86400.0])
    real = time.time
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    with vmatlas.connect("qemu:faulty") as target:
        for _ in range(20):
            assert len(vmatlas.snapshot(1, target=target)) > 3
    assert within(PATIENCE, lambda: not place.processes())


def test_a_record_from_the_future_is_as_old_as_it_is_ahead(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.write_record("r", {"a": "b"})
    ahead = time.time() + 1e6
    os.utime(tmp_path / "records" / "r.json", (ahead, ahead))
    found = cache.record("r")
    assert found is not None
    assert found[1] == pytest.approx(1e6, abs=100)


SCRIPT = """
import vmatlas
target = vmatlas.connect("qemu:faulty")
assert len(vmatlas.snapshot(1, target=target)) > 3
raise ValueError("a script of a user's that dies")
"""


def test_a_script_that_dies_with_a_machine_open_says_that_and_no_more(place: Place) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=place.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == "ValueError: a script of a user's that dies"
    assert "ignored" not in done.stderr
    assert within(PATIENCE, lambda: not place.processes())
