"""What tests of all packages share: how long one may take, and how signals reach it, however it was started."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from vmatlas.conformance.patience import PATIENCE


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """A test that waits for what does not come says so itself; one that hangs is ended at twice that time."""
    if config.getoption("timeout", None) is None:
        config.option.timeout = 2 * PATIENCE


@pytest.fixture
def heeding_ctrl_c() -> Iterator[None]:
    """SIGINT does here, and in programs started from here, what it does by default.

    A shell that runs the tests in its background has it ignored in all of them; what is ignored stays so across exec,
    what is handled does not.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
