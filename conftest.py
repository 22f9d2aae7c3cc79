"""What tests of all packages share: how long one may take, how signals reach it, and an agent for this machine."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vmatlas.conformance.patience import PATIENCE

Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """A test that waits for what does not come says so itself; one that hangs is ended at twice that time."""
    if config.getoption("timeout", None) is None:
        config.option.timeout = 2 * PATIENCE
    _start_programs_as_a_terminal_does()
    if not hasattr(config, "workerinput"):
        _keep_byte_code(config)


def pytest_collection_finish() -> None:
    """What was collected (six thousand tests) is no garbage: no collection of it shall look at that again."""
    gc.collect()
    gc.freeze()


def _keep_byte_code(config: pytest.Config) -> None:
    """Programs started from here find what they import compiled, also where Python is told to keep nothing.

    There are a thousand of them, and to compile takes more than all else that one does. The run's own folder has it.
    """
    if not sys.dont_write_bytecode or "PYTHONPYCACHEPREFIX" in os.environ:
        return
    folder = tempfile.mkdtemp(prefix="vmatlas-byte-code-")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # it may be -B as well
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = folder
    sys.dont_write_bytecode = False


def _start_programs_as_a_terminal_does() -> None:
    """Programs started from here heed all signals, whoever runs the tests.

    A shell that runs them in its background has SIGINT ignored, nohup SIGHUP, and what is ignored stays so across exec.
    What is handled does not; so the run itself goes on ignoring it, by a handler that does nothing.
    """
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGALRM", "SIGUSR1", "SIGUSR2"):
        number = getattr(signal, name, None)  # some systems lack some
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture
def heeding_ctrl_c() -> Iterator[None]:
    """SIGINT interrupts this process, even where the run ignores it (a shell's background)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def huge_pages() -> Iterator[None]:
    """Four more pages of hugetlb (Linux), for one test at a time of all that run: the pool is the machine's."""
    fcntl = pytest.importorskip("fcntl")
    pool = Path("/proc/sys/vm/nr_hugepages")
    if os.geteuid() != 0 or not os.access(pool, os.W_OK):
        pytest.skip("it takes root, and a writable /proc/sys, to have the kernel keep huge pages")
    with open(pool, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        had = int(pool.read_text())
        try:
            pool.write_text(str(had + 4))
            if int(pool.read_text()) < had + 4:
                pytest.skip("this kernel has no four huge pages to spare")
            yield
        finally:
            pool.write_text(str(had))


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """What takes long to make is made once in a run, whichever of its workers comes first: `once(name, make)`."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def one(name: str, make: Callable[[Path], object]) -> Path:
        folder = shared / f"once-{name}"
        with open(shared / f"once-{name}.lock", "wb") as lock:
            with contextlib.suppress(ImportError):  # where there is none, no other system's tests run beside
                import fcntl

                fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                new = shared / f"once-{name}.new"
                shutil.rmtree(new, ignore_errors=True)
                new.mkdir()
                make(new)
                new.rename(folder)
        return folder

    return one


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An agent to connect to: the one that is built for this machine, or one built by the host's compiler."""
    agents = pytest.importorskip("vmatlas_agents", reason="vmatlas-agents is not installed")
    from vmatlas_agents.build import BuildFailed, build, host_compiler, host_target, ziglang

    try:
        target = agents.target_for("Linux", os.uname().machine)
        return build(target, ziglang(target))[0]
    except (BuildFailed, LookupError, PermissionError):  # an ordinary user may not write where it is kept
        return build(host_target(), host_compiler("cc"), output=tmp_path_factory.mktemp("built"))[0]
