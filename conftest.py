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
RUN = "VMATLAS_TEST_RUN"
"""The environment variable that names the folder of this run, for all its workers."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """A test that waits for what does not come says so itself; one that hangs is ended at twice that time."""
    if config.getoption("timeout", None) is None:
        config.option.timeout = 2 * PATIENCE
    _start_programs_as_a_terminal_does()
    if not hasattr(config, "workerinput"):
        _keep_byte_code(config)
        folder = os.environ[RUN] = tempfile.mkdtemp(prefix="vmatlas-tests-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """Of the workers of a run one at a time, where the system has such locks."""
    with open(Path(os.environ[RUN], name), "wb") as lock:
        with contextlib.suppress(ImportError):
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """One worker first: what it makes of the tests' assertions, the others find made, which is more than half of it."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    done = Path(os.environ[RUN], "collected")
    with _alone("collecting"):
        if not done.exists():
            try:
                return (yield)
            finally:
                done.touch()
    return (yield)


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
def once() -> Once:
    """What takes long to make is made once in a run, whichever of its workers comes first: `once(name, make)`."""

    def one(name: str, make: Callable[[Path], object]) -> Path:
        folder = Path(os.environ[RUN], name)
        with _alone(f"{name}.lock"):
            if not folder.is_dir():
                new = folder.with_name(f"{name}.new")
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


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Chromium, headless; a missing one fails the test where continuous integration promised it."""
    from selenium import webdriver

    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        why = "no browser to look at a page in: apt-get install chromium chromium-driver"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options.add_argument(f"--user-data-dir={profile}")
        chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
        try:
            chrome.set_page_load_timeout(PATIENCE)
            yield chrome
        finally:
            chrome.quit()
