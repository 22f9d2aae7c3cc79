"""The commands behind the tasks: each ends with its documented code and says what is the matter in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmatlas_images.command import boot_machine, clean_cache, fetch_machines, list_machines, run_machines
from vmatlas_images.results import ExitCode


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMATLAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VMATLAS_OFFLINE", "1")


def test_every_machine_of_ours_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_machines() == ExitCode.PASSED
    shown = capsys.readouterr().out
    for name in ("linux-6.1 ", "linux-6.12 ", "linux-6.12-process32", "linux-6.17", "linux-newest"):
        assert name in shown
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


def test_kernel_that_cannot_be_fetched_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch_machines(["linux-6.1"]) != ExitCode.PASSED
    assert "VMATLAS_OFFLINE" in capsys.readouterr().err


def test_cache_is_emptied(capsys: pytest.CaptureFixture[str]) -> None:
    assert clean_cache() == ExitCode.PASSED
    assert "Freed 0 MB" in capsys.readouterr().out
