"""Builds core's compiled twins, of the model and of buffers, where there is a C compiler; without, Python serves."""

from __future__ import annotations

import os
import sysconfig

from setuptools import Extension, setup

# No free-threaded build of Python has the limited API; VMATLAS_TWINS=no makes a wheel for every system.
WITH_TWIN = not sysconfig.get_config_var("Py_GIL_DISABLED") and os.environ.get("VMATLAS_TWINS") != "no"

NATIVE = "src/vmatlas/native"

setup(
    ext_modules=[
        Extension(
            "vmatlas.model._native",
            sources=[f"{NATIVE}/model.c"],
            depends=[f"{NATIVE}/{name}.h" for name in ("arrays", "binding", "columns", "python")],
            extra_compile_args=["-std=c99", "-O2"],
            py_limited_api=True,
            optional=True,  # no compiler: the build goes on without it
        ),
        Extension(
            "vmatlas.operations._native",
            sources=[f"{NATIVE}/exporter.c"],
            depends=[f"{NATIVE}/python.h"],
            extra_compile_args=["-std=c99", "-O2"],
            py_limited_api=True,
            optional=True,
        ),
    ]
    if WITH_TWIN
    else [],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if WITH_TWIN else {},
)
