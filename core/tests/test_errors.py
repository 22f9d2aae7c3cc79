"""Errors are values: they can be pickled, and say where they come from."""

from __future__ import annotations

import copy
import pickle

import pytest

from vmatlas import errors
from vmatlas.errors import MalformedData, OperationFailed, TargetLost, VmatlasError
from vmatlas.model import IncompleteResult, Region

from .strategies import space_of

PLACE = {"pid": 7, "target": "board", "backend": "linux-procfs", "hint": "do this"}
EXAMPLES = [
    *(
        kind("what happened", **PLACE)
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, VmatlasError) and not issubclass(kind, MalformedData)
    ),
    MalformedData("maps", 17, "a line", found=b"\xff" * 90, **PLACE),
    errors.Disordered("maps", 17, "order", **PLACE),
    TargetLost("gone", last_words="panic", **PLACE),
    OperationFailed("refused", errno=22, errno_name="EINVAL", **PLACE),
    IncompleteResult("a part", space_of([Region(1, 2, 0)]), target="board"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_errors_survive_pickling_and_copying_with_all_that_they_carry(error, again):
    same = again(error)
    assert type(same) is type(error)
    assert same.__dict__ == error.__dict__
    assert str(same) == str(error)
    assert same.args == error.args


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_is_one_of_ours_and_one_line(error):
    assert isinstance(error, VmatlasError)
    assert "\n" not in str(error)
    assert "board" in str(error)


def test_malformed_data_names_stream_offset_and_what_stood_there():
    error = MalformedData("smaps", 120, "'Key: value'", found=b"x" * 1000)
    assert str(error) == f"malformed data in stream 'smaps' at byte 120: expected 'Key: value', found {b'x' * 40!r}"
    assert (error.stream, error.offset, error.expected, error.found) == ("smaps", 120, "'Key: value'", b"x" * 1000)


def test_located_fills_in_only_what_was_not_known():
    error = VmatlasError("x", pid=1).located(pid=2, target="board", backend="b")
    assert (error.pid, error.target, error.backend) == (1, "board", "b")
    assert str(error) == "x [board, b]"
    assert str(VmatlasError("x", target="local", backend="b")) == "x [b]"


def test_a_usage_error_is_a_value_error_too():
    with pytest.raises(ValueError):
        raise errors.UsageError("no")


def test_what_others_say_is_one_line_that_ends() -> None:
    error = MalformedData("x\n", 0, "a \x1b[31mname\udcff\n" + "y" * 9000)
    assert str(error).isprintable() and len(str(error)) < 700
    assert r"a \x1b[31mname\udcff\nyyy" in str(error) and r"'x\n'" in str(error)
