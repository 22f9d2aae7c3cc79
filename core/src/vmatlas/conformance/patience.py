"""How long tests wait for something that, on a machine at rest, comes at once: one number, measured once a run.

A test that waits wants to know whether something happens at all, never how soon: what is late on a loaded machine is
no fault of the code. So a test has no limit of its own, but this or a multiple of it; one that must tell "soon" from
"after a wait" makes that wait longer than this.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

NAME = "VMATLAS_TEST_PATIENCE"
"""The environment variable that holds it, in seconds: for all processes of a run, and for who knows better."""

_LEAST = 300.0
_STARTS = 5000  # a start of Python takes 10 to 20 ms at rest; tests that failed for load had waited for a dozen


def _measured() -> float:
    """What so many starts of Python take at the pace that one has now, and five minutes at least."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True)
    return max(_LEAST, _STARTS * (time.monotonic() - began))


PATIENCE = float(os.environ.get(NAME) or _measured())
"""Seconds after which a test takes it that what it waits for will not come."""

os.environ[NAME] = f"{PATIENCE:.0f}"
