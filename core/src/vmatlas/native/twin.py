"""How compiled twins are built: what `setup` is told, for core and for every plugin.

It lies beside the headers that the twins need, and is no module of the package: each setup.py runs it from there. What
is a distribution's own stands as data in its pyproject.toml:

    [[tool.vmatlas.twin]]
    module = "vmatlas_linux_ioctl._native"
    sources = ["native/module.c", "native/walk.c"]     # from the folder of pyproject.toml
    define = { _FILE_OFFSET_BITS = "64" }              # where there is something to define
    flags = ["-pthread"]                               # for compiler and linker

All are built for the limited API of the oldest Python that we have, so one serves every later one.

VMATLAS_TWINS=no     none: a wheel of Python alone, which goes wherever Python does
VMATLAS_TWINS=must   a twin that cannot be built is an error, and no reason to go on without it
"""

from __future__ import annotations

import os
import sysconfig
import tomllib
from pathlib import Path

from setuptools import Extension  # type: ignore[import-untyped]

NATIVE = Path(__file__).resolve().parent
OLDEST = "cp311"


def keywords(folder: Path) -> dict[str, object]:
    """What `setup` in a distribution's folder is told. Raises KeyError for a twin that is not whole."""
    asked = os.environ.get("VMATLAS_TWINS")
    if asked == "no" or sysconfig.get_config_var("Py_GIL_DISABLED"):  # no free-threaded Python has the limited API
        return {}
    told = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["tool"]["vmatlas"]["twin"]
    return {
        "ext_modules": [_extension(twin, folder, optional=asked != "must") for twin in told],
        "options": {"bdist_wheel": {"py_limited_api": OLDEST}},
    }


def _extension(twin: dict[str, object], folder: Path, *, optional: bool) -> Extension:
    sources = [str(each) for each in _list(twin, "sources")]
    flags = [str(each) for each in _list(twin, "flags")]
    define = twin.get("define", {})
    assert isinstance(define, dict)
    headers = {path for source in sources for path in (folder / source).parent.glob("*.h")} | set(NATIVE.glob("*.h"))
    return Extension(
        str(twin["module"]),
        sources=sources,
        include_dirs=[os.path.relpath(NATIVE, folder)],
        depends=sorted(os.path.relpath(path, folder) for path in headers),
        define_macros=[("_GNU_SOURCE", None), *define.items()],
        extra_compile_args=["-std=c99", "-O2", *flags],
        extra_link_args=flags,
        py_limited_api=True,
        optional=optional,  # no compiler: the build goes on without it
    )


def _list(twin: dict[str, object], name: str) -> list[object]:
    found = twin.get(name, [])
    assert isinstance(found, list)
    return found
