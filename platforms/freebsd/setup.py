"""Builds the compiled twin where there is a C compiler; without one the Python twin serves (`vmatlas doctor` tells).

This file is the same in every plugin: its pyproject.toml says which twin, and twin.py, beside core's headers, how.
"""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path
from typing import Any

from setuptools import setup

HERE = Path(__file__).resolve().parent


def keywords() -> dict[str, Any]:
    """By core beside us in a source tree, else by the installed vmatlas; nothing to compile without either."""
    folders = [HERE.parent.parent / "core" / "src" / "vmatlas" / "native"]
    found = importlib.util.find_spec("vmatlas")
    folders += [Path(place) / "native" for place in (found.submodule_search_locations or [])] if found else []
    for folder in folders:
        if (folder / "twin.py").is_file():
            told: dict[str, Any] = runpy.run_path(str(folder / "twin.py"))["keywords"](HERE)
            return told
    return {}


setup(**keywords())
