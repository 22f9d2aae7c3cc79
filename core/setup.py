"""Builds core's compiled twins (model, buffers, symbols) where there is a C compiler; without, Python serves."""

from __future__ import annotations

import runpy
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent

setup(**runpy.run_path(str(HERE / "src" / "vmatlas" / "native" / "twin.py"))["keywords"](HERE))
