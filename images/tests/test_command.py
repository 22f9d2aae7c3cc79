"""The commands behind the tasks: each ends with its documented code and says what is the matter in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vmatlas_images import command
from vmatlas_images.command import (
    boot_machine,
    check_choice,
    clean_cache,
    fetch_machines,
    list_machines,
    make_page,
    make_table,
    run_machines,
)
from vmatlas_images.report.readme import BEGIN, END
from vmatlas_images.run.qemu import EMULATORS
from vmatlas_images.run.results import ExitCode


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMATLAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VMATLAS_OFFLINE", "1")


def test_every_machine_of_ours_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for emulator in EMULATORS.values():  # a host need not have them
        (tmp_path / emulator.program).write_text("#!/bin/sh\n")
        (tmp_path / emulator.program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert list_machines() == ExitCode.PASSED
    shown = capsys.readouterr().out
    for name in ("linux-6.1 ", "linux-6.12 ", "linux-6.12-process32", "linux-6.17", "linux-newest"):
        assert name in shown
    [row] = [line for line in shown.splitlines() if line.lstrip().startswith("linux-6.12-process32 ")]
    assert "pull-request" in row
    assert "default where none is named" in shown
    assert "VMATLAS_OFFLINE" in shown


def test_unknown_machine_is_a_usage_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert boot_machine("no-such") == ExitCode.USAGE
    assert fetch_machines(["no-such"]) == ExitCode.USAGE
    assert run_machines(only=["no-such"], output=tmp_path) == ExitCode.USAGE
    assert capsys.readouterr().err.count("no-such") == 3


def test_machines_that_did_not_run_are_not_passed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code = run_machines(only=["linux-6.1"], output=tmp_path)
    assert code == ExitCode.REQUIRED_NOT_RUN
    shown = capsys.readouterr().out
    assert "NOT RUN" in shown
    assert "0 tests passed" in shown
    assert (tmp_path / "machines.xml").is_file()


def test_an_interrupted_run_is_none_of_the_verdicts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run", interrupted)
    assert run_machines(only=["linux-6.1"], output=tmp_path) == ExitCode.INTERRUPTED == 130
    assert "Interrupted" in capsys.readouterr().out


def test_a_complaint_is_one_line_however_narrow_the_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    folder = tmp_path / "a-folder-with-a-long-name-that-would-be-cut"
    folder.mkdir()
    (folder / "broken.yaml").write_text("name: broken\nname: broken\n")
    monkeypatch.setenv("VMATLAS_IMAGES", str(folder))
    assert list_machines() == ExitCode.USAGE
    assert f"{folder}/broken.yaml:2: name: said twice (before in line 1)\n" in capsys.readouterr().err


def test_a_choice_that_is_none_is_said_before_anything_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = tmp_path / "sets.yaml"
    sets.write_text("small: [{machines: linux-6.1, reason: the fallback}]\ngone: [{machines: minix, reason: it was}]\n")
    monkeypatch.setattr(command, "SETS", sets)
    assert check_choice(set_name="small") == ExitCode.PASSED
    for wrong in (
        {"set_name": "large"},
        {"set_name": "gone"},
        {"set_name": "small", "only": ["linux-*"]},
        {"jobs": -1},
    ):
        assert check_choice(**wrong) == ExitCode.USAGE  # type: ignore[arg-type]
    said = capsys.readouterr().err.splitlines()
    for line, words in zip(
        said, ("no set 'large'; it has: small, gone", "'minix'", "give one", "-1 jobs"), strict=True
    ):
        assert words in line


def test_a_set_is_named_with_its_reasons_and_what_it_leaves_out(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = tmp_path / "sets.yaml"
    sets.write_text("small: [{machines: linux-6.1, reason: the fallback}]\n")
    monkeypatch.setattr(command, "SETS", sets)
    assert run_machines(set_name="small", require=["linux-6.17"], output=tmp_path) == ExitCode.REQUIRED_NOT_RUN
    shown = " ".join(capsys.readouterr().out.split())
    assert "Set small: linux-6.1 (the fallback) It leaves out: freebsd-" in shown
    assert "LEFT OUT by the set small: " in shown
    assert "REQUIRED linux-6.17: required, and the set small leaves out linux-6.17" in shown


def test_kernel_that_cannot_be_fetched_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch_machines(["linux-6.1"]) == ExitCode.REQUIRED_NOT_RUN
    assert "VMATLAS_OFFLINE" in capsys.readouterr().err


def test_cache_is_emptied(capsys: pytest.CaptureFixture[str]) -> None:
    assert clean_cache() == ExitCode.PASSED
    assert "Freed 0 MB" in capsys.readouterr().out


def test_where_nothing_is_named_the_default_set_runs_and_says_what_it_leaves_to_the_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_machines(output=tmp_path) == ExitCode.REQUIRED_NOT_RUN
    told, _, left_out = " ".join(capsys.readouterr().out.split()).partition("LEFT OUT by the set default: ")
    assert told.startswith("Set default: linux-6.12 (Linux on x86-64, Debian stable's kernel); ")
    for name in ("linux-newest-python", "linux-6.1-python", "linux-6.12-process32", "freebsd-14.4"):
        assert name in left_out
    run_machines(only=["freebsd-14.4"], output=tmp_path)
    assert "LEFT OUT by --only freebsd-14.4: " in capsys.readouterr().out


def test_a_word_for_the_accelerator_that_means_nothing_is_said_before_anything_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VMATLAS_ACCELERATOR", "kvm!")
    assert check_choice() == ExitCode.USAGE
    assert run_machines(only=["linux-6.1"], output=tmp_path) == ExitCode.USAGE
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all("VMATLAS_ACCELERATOR is 'kvm!': it can be tcg, or not set" in line for line in said)


def test_a_run_whose_folder_another_run_uses_keeps_its_results_beside_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with command._reserved(tmp_path / "out") as first:
        run_machines(only=["linux-6.1"], output=tmp_path / "out")
    assert first == tmp_path / "out"
    assert [path.name for path in first.iterdir()] == [".lock"]
    assert (tmp_path / "out-2" / "results.json").is_file()
    assert "Another run uses" in capsys.readouterr().out
    run_machines(only=["linux-6.1"], output=tmp_path / "out")
    assert (first / "results.json").is_file()


def test_results_that_cannot_be_kept_are_said_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run_machines(only=["linux-6.1"], output=tmp_path / "file") == ExitCode.USAGE
    page = tmp_path / "file" / "page.html"
    assert run_machines(only=["linux-6.1"], output=tmp_path / "out", page=page) == ExitCode.REQUIRED_NOT_RUN
    said = capsys.readouterr().err.splitlines()
    assert [line.count("cannot: File exists") + line.count("could not be kept: ") for line in said] == [1, 1]


def test_the_page_and_the_table_are_made_of_a_run_that_was_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run_machines(only=["linux-6.1"], output=tmp_path, page=tmp_path / "elsewhere.html")
    results, page, readme = tmp_path / "results.json", tmp_path / "again.html", tmp_path / "README.md"
    assert make_page([results], page) == ExitCode.PASSED
    assert page.read_bytes() == (tmp_path / "elsewhere.html").read_bytes()
    readme.write_text(f"{BEGIN}\n{END}\n")
    assert make_table([results], readme, tmp_path / "history.jsonl") == ExitCode.PASSED
    assert "| linux-6.1 | not run yet |" in readme.read_text()
    capsys.readouterr()
    assert (
        make_page([tmp_path / "none.json"], page)
        == make_table([tmp_path / "none.json"], readme, tmp_path / "history.jsonl")
        == ExitCode.USAGE
    )
    assert capsys.readouterr().err.count("none.json: cannot be read") == 2
    assert make_page([], page) == ExitCode.USAGE
