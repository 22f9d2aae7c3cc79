"""Plain command lines mean without the parser of options what they mean with it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vmatlas.cli import showing
from vmatlas.cli.maps import command
from vmatlas.cli.plain import ASKED, COMPLETION, VIEW, understood
from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import UsageError

FLAGS = sorted(VIEW.keys() | ASKED.keys())
LINES = [["self"], ["1", "self"], ["7"] * 2, *(["1", flag] for flag in FLAGS), ["--csv", "12", "--bytes", "--gaps"]]


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_a_plain_line_means_what_the_parser_makes_of_it(line, monkeypatch):
    asked = []

    def note(sources, view, **rest):
        usual = {"residency": False, "build_ids": False, "guards": False, "thread": None, "lenient": False}
        asked.append((sources, view, usual | {"patience": None, "backend": None, "target": "local"} | rest))
        return 0

    monkeypatch.setattr(showing, "show", note)
    monkeypatch.setattr("vmatlas.cli.maps.show", note)
    plain = understood(["maps", *line])
    assert plain is not None and plain() == 0
    with command.make_context("maps", [*line]) as context:
        assert command.invoke(context) == 0
    assert asked[0] == asked[1]


def test_every_option_without_a_value_is_known_but_those_that_a_process_does_not_take():
    flags = {option.opts[0] for option in command.params if getattr(option, "is_flag", False)}
    assert set(FLAGS) == flags - {"--lenient", "--reverse"}


@pytest.mark.parametrize(
    "line",
    [
        *([], ["maps"], ["find", "1", "7f00"], ["maps", "--json"], ["maps", "core.1"], ["maps", "name:x"]),
        *(["maps", "1", "--sort", "size"], ["maps", "1", "--jso"], ["maps", "1", "--help"], ["maps", "--", "1"]),
        *(["maps", "1", "-h"], ["maps", "-1"], ["maps", ""], ["maps", "1", "--lenient"], ["maps", "\u0661"]),
    ],
    ids=" ".join,
)
def test_any_other_line_takes_the_parser(line):
    assert understood(line) is None


def test_a_shell_that_completes_takes_the_parser(monkeypatch):
    monkeypatch.setenv(COMPLETION, "bash_complete")
    assert understood(["maps", "1"]) is None


def test_a_plain_map_loads_neither_the_parser_nor_what_others_need():
    told = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import sys; from vmatlas.cli import main; sys.argv = ['vmatlas', 'maps', 'self']; code = main();"
            "print(*sys.modules, file=sys.stderr); sys.exit(code)",
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert told.returncode == 0, told.stderr
    dear = {"click", "inspect", "ast", "dataclasses", "json", "importlib.metadata", "email", "locale", "zipfile"}
    dear |= {"typing", "re", "threading", "weakref", "binascii"}
    of_other_systems = {"vmatlas_freebsd", "vmatlas_netbsd", "vmatlas_qnx"}
    assert not (dear | of_other_systems) & set(told.stderr.split())


def test_a_number_that_is_none_is_refused_in_the_same_words():
    plain = understood(["maps", "1" * 200])
    assert plain is not None
    with pytest.raises(UsageError) as ours:
        plain()
    with pytest.raises(UsageError) as theirs:
        command.make_context("maps", ["1" * 200])
    assert str(ours.value) == str(theirs.value)
