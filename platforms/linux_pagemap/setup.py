"""Builds the compiled twin where there is a C compiler; without one the Python twin serves (`vmatlas doctor` tells)."""

from __future__ import annotations

import importlib.util
import os
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

# No free-threaded build of Python has the limited API; VMATLAS_TWINS=no makes a wheel for every system.
WITH_TWIN = not sysconfig.get_config_var("Py_GIL_DISABLED") and os.environ.get("VMATLAS_TWINS") != "no"

HERE = Path(__file__).resolve().parent


def columns_header() -> list[str]:
    """The folder of core's columns.h: beside us in a source tree, else that of the installed vmatlas."""
    folders = [HERE.parent.parent / "core" / "src" / "vmatlas" / "native"]
    found = importlib.util.find_spec("vmatlas")
    folders += [Path(place) / "native" for place in (found.submodule_search_locations or [])] if found else []
    return [os.path.relpath(folder, HERE) for folder in folders if (folder / "columns.h").is_file()][:1]


setup(
    ext_modules=[
        Extension(
            "vmatlas_linux_pagemap._native",
            sources=[f"native/{name}.c" for name in ("module", "scan", "entries", "decode")],
            include_dirs=columns_header(),
            depends=[f"native/{name}.h" for name in ("scan", "entries", "runs", "decode")],
            define_macros=[("_GNU_SOURCE", None), ("_FILE_OFFSET_BITS", "64")],  # offsets in pagemap are long ones
            extra_compile_args=["-std=c99", "-O2"],
            py_limited_api=True,
            optional=True,  # no compiler, no header: the build goes on without it
        )
    ]
    if WITH_TWIN
    else [],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if WITH_TWIN else {},
)
