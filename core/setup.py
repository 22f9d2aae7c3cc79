"""Builds the compiled twin of the model where there is a C compiler; without one Python alone serves."""

from __future__ import annotations

from setuptools import Extension, setup

NATIVE = "src/vmatlas/native"

setup(
    ext_modules=[
        Extension(
            "vmatlas.model._native",
            sources=[f"{NATIVE}/model.c"],
            depends=[f"{NATIVE}/binding.h", f"{NATIVE}/columns.h"],
            extra_compile_args=["-std=c99", "-O2"],
            py_limited_api=True,
            optional=True,  # no compiler: the build goes on without it
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
