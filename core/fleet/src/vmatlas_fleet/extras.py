"""What is installed only where it is wanted: pyarrow, DuckDB, Dask, fsspec. Loaded when it is needed, and no sooner."""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Any

from vmatlas.errors import Unsupported

_LIBRARIES = ("pyarrow", "duckdb", "distributed", "fsspec")
"""Each is what its distribution is called as well."""


@functools.cache
def needed(module: str) -> Any:
    """A library, or a module of one. Raises Unsupported, with what to install."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        if library not in _LIBRARIES or (error.name or "").partition(".")[0] != library:
            raise
        raise Unsupported(f"this needs {library}, which is not installed", hint=f"pip install {library}") from None
