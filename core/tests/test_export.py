"""Exports: the same facts as dictionaries, as JSON and as Arrow."""

from __future__ import annotations

import json
import pickle
import sys

import pyarrow
import pytest
from hypothesis import given

from vmatlas.errors import Unsupported
from vmatlas.model import Device, Kind, Protection, Region
from vmatlas.model.export import region_to_dict
from vmatlas.model.memory import FIELDS

from .strategies import Flags, space_of, spaces


@given(spaces)
def test_json_is_the_dictionaries(space):
    assert json.loads(space.to_json()) == space.to_dicts()
    assert json.loads(space.to_json(indent=1)) == space.to_dicts()
    assert space.to_json().isascii()


@given(spaces)
def test_dictionaries_say_what_the_regions_say(space):
    for row, region in zip(space.to_dicts(), space, strict=True):
        for name in ("start", "end", "size", "shared", "offset", "inode", "path", "name", "deleted", "resident"):
            assert row[name] == getattr(region, name)
        assert row["details"] == dict(region.details)
        assert row["protection"] == region.protection.letters
        assert row["kind"] == region.kind.label


@given(spaces)
def test_many_regions_are_told_as_each_alone(space):
    assert [list(row.items()) for row in space.to_dicts()] == [list(region_to_dict(each).items()) for each in space]


@given(spaces)
def test_arrow_has_the_same_rows_as_the_dictionaries(space):
    table = space.to_arrow()
    table.validate(full=True)
    rows = table.to_pylist()
    assert len(rows) == len(space)
    for row, expected in zip(rows, space.to_dicts(), strict=True):
        details = {name.removeprefix("detail."): row.pop(name) for name in list(row) if name.startswith("detail.")}
        assert {key: value for key, value in details.items() if value is not None} == expected.pop("details")
        for name in ("path", "name"):
            if expected[name] is not None:
                expected[name] = expected[name].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        assert row == expected


@given(spaces)
def test_the_types_of_the_arrow_columns_do_not_depend_on_the_values(space):
    empty = space_of([]).to_arrow().schema
    schema = space.to_arrow().schema
    assert pyarrow.schema([field for field in schema if not field.name.startswith("detail.")]) == empty


def test_one_region_is_exported_as_documented():
    region = Region(
        0x1000,
        0x3000,
        Protection.READ | Protection.EXECUTE,
        False,
        0x1000,
        Device(0xFD, 1),
        42,
        "/caf\udce9",
        None,
        True,
        Kind.SHARED_MEMORY,
        Flags(0b100011),
        resident=4096,
        build_id=b"\xab\xcd",
    )
    assert space_of([region]).to_dicts() == [
        {
            "start": 0x1000,
            "end": 0x3000,
            "size": 0x2000,
            "protection": "r-x",
            "max_protection": None,
            "shared": False,
            "offset": 0x1000,
            "device": "fd:01",
            "inode": 42,
            "path": "/caf\udce9",
            "name": None,
            "deleted": True,
            "kind": "shared-memory",
            "flags": ["WIRED", "COPIED", "0x20"],
            "resident": 4096,
            "private_resident": None,
            "page_size": None,
            "build_id": "abcd",
            "memory": dict.fromkeys(FIELDS) | {"resident": 4096},
            "details": {},
        }
    ]
    assert space_of([region]).to_arrow()["path"].to_pylist() == ["/caf\\xe9"]


def test_arrow_without_pyarrow_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Unsupported, match="pyarrow") as caught:
        space_of([]).to_arrow()
    assert caught.value.hint == "pip install pyarrow"


@given(spaces)
def test_tables_survive_pickling(space):
    assert pickle.loads(pickle.dumps(space.to_arrow())) == space.to_arrow()


@given(spaces)
def test_numpy_has_the_columns_over_their_own_memory(space):
    held = space.to_numpy()
    assert held["start"].tolist() == [region.start for region in space]
    assert held["protection"].tolist() == [region.protection for region in space]
    assert held["shared"].tolist() == [{False: 0, True: 1, None: 255}[region.shared] for region in space]
    assert held["inode"].tolist() == [2**64 - 1 if region.inode is None else region.inode for region in space]
    assert ("resident" in held) is (space.columns.resident is not None)
    if len(space):
        assert held["end"].__array_interface__["data"][0] == space.columns.end.buffer_info()[0]
        with pytest.raises(ValueError, match="read-only"):
            held["end"][0] = 1


def test_arrow_s_numbers_are_the_columns_own_memory():
    space = space_of([Region(0x1000, 0x2000, Protection.READ), Region(0x3000, 0x4000, Protection.READ, offset=7)])
    table = space.to_arrow()
    assert table["start"].chunk(0).buffers()[1].address == space.columns.start.buffer_info()[0]
    assert table["offset"].to_pylist() == [None, 7]


def test_numpy_without_numpy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(Unsupported, match="numpy") as caught:
        space_of([]).to_numpy()
    assert caught.value.hint == "pip install numpy"
