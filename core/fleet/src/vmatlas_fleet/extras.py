"""What is installed only where it is wanted: pyarrow, DuckDB, Dask, fsspec. Loaded when it is needed, and no sooner."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from vmatlas.errors import Unsupported

_LIBRARIES = ("pyarrow", "duckdb", "distributed", "fsspec")
"""Each is what its distribution is called as well."""


@functools.cache
def needed(module: str) -> Any:
    """A library, or a module of one. Raises Unsupported, with what to install."""
    try:
        with _few_threads():
            return import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        if library not in _LIBRARIES or (error.name or "").partition(".")[0] != library:
            raise
        raise Unsupported(f"this needs {library}, which is not installed", hint=f"pip install {library}") from None


@contextlib.contextmanager
def _few_threads() -> Iterator[None]:
    """While numpy is loaded, which these load: its OpenBLAS begins a thread for each processor, and ends the program by
    SIGINT where it may not (RLIMIT_NPROC). Nothing here multiplies matrices."""
    name = "OPENBLAS_NUM_THREADS"
    if name in os.environ:
        yield
        return
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name, None)
