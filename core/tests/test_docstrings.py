"""What docstrings tell: every public name is explained, with its errors and options; the reference has all."""

from __future__ import annotations

import inspect
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vmatlas
from vmatlas import operations

ROOT = Path(__file__).parents[2]
SHARED = ("target", "backend")
"""Where a question goes: told once, in the module's own words and docs/python.md."""


def functions() -> list[tuple[str, object]]:
    return [
        (f"{module.__name__}.{name}", getattr(module, name))
        for module in (vmatlas, operations)
        for name in module.__all__
        if inspect.isfunction(getattr(module, name))
    ]


def members() -> Iterator[tuple[str, object]]:
    """Methods and properties of public classes, but for those of Python's own (`count` of a tuple)."""
    for module in (vmatlas, operations):
        for name in module.__all__:
            value = getattr(module, name)
            for member, found in vars(value).items() if isinstance(value, type) else ():
                inner = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
                if not member.startswith("_") and inspect.isfunction(inner):
                    yield f"{name}.{member}", inner


@pytest.mark.parametrize("module", [vmatlas, operations], ids=lambda module: module.__name__)
def test_every_public_name_is_explained(module: object) -> None:
    named = {name: getattr(module, name) for name in module.__all__}  # type: ignore[attr-defined]
    told = {name: value for name, value in named.items() if isinstance(value, type) or inspect.isfunction(value)}
    assert [name for name, value in told.items() if not (inspect.getdoc(value) or "").strip()] == []


def test_every_method_and_property_of_a_public_class_is_explained() -> None:
    assert [name for name, value in members() if not (inspect.getdoc(value) or "").strip()] == []


@pytest.mark.parametrize(("name", "function"), functions(), ids=[name for name, _ in functions()])
def test_a_function_tells_its_errors_and_each_of_its_options(name: str, function: object) -> None:
    """Errors: which it raises, or whose."""
    told = inspect.getdoc(function) or ""
    assert re.search(r"[Rr]aise", told), name
    options = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    named = [each.name for each in options if each.kind is each.KEYWORD_ONLY and each.name not in SHARED]
    elsewhere = re.search(r"as (?:in|of|for)\s+`[\w.]+`", told)  # whose options these are
    assert [each for each in named if each not in told and not elsewhere] == []


def test_the_reference_has_every_public_name() -> None:
    sys.path.insert(0, str(ROOT / "ci"))
    try:
        made = "\n".join(page for _, page in runpy.run_path(str(ROOT / "ci" / "site.py"))["_api"]())
    finally:
        sys.path.remove(str(ROOT / "ci"))
    listed = re.findall(r"^\.\. auto(?:class|function):: vmatlas\.(\w+)$", made, re.MULTILINE)
    public = [
        name for name in vmatlas.__all__ if isinstance(getattr(vmatlas, name), type) or callable(getattr(vmatlas, name))
    ]
    assert sorted(listed) == sorted(public)


def test_the_page_of_the_api_names_every_function() -> None:
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    public = [name for name in vmatlas.__all__ if inspect.isfunction(getattr(vmatlas, name))]
    assert [name for name in public if not re.search(rf"\b{name}\b", page)] == []
