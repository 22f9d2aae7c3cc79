"""What tests of all packages share: how signals reach them, however they were started."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture
def heeding_ctrl_c() -> Iterator[None]:
    """SIGINT does here, and in programs started from here, what it does by default.

    A shell that runs the tests in its background has it ignored in all of them; what is ignored stays so across exec,
    what is handled does not.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
