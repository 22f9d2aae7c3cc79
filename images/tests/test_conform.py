"""From the conformance suite's JUnit file to an outcome: nothing that did not pass is counted as passed."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmatlas_images.errors import ImagesError
from vmatlas_images.run import conform
from vmatlas_images.run.conform import read_junit
from vmatlas_images.run.results import CaseState

REPORT = """<?xml version="1.0"?><testsuites><testsuite name="pytest">
<testcase classname="test_two_words" name="a[linux-procfs]" time="0.5"><properties>
<property name="backend" value="linux-procfs"/>
 <property name="answers" value="linux-procfs"/></properties></testcase>
<testcase name="a[linux-ioctl]" time="0.1"><properties><property name="backend" value="linux-ioctl"/>
 <property name="refuses" value="older than 6.11"/>
 <property name="tells" value="WALK BUILD_ID"/></properties></testcase>
<testcase name="b" time="0.1"><failure message="assert 1 == 2">story</failure></testcase>
<testcase name="c" time="0.1"><error message="no fixture">story</error></testcase>
<testcase name="d" time="0.1"><skipped message="a container hides them"/></testcase>
<testcase classname="suite.test_declared" name="e[linux-ioctl]" time="0.1"><properties>
 <property name="backend" value="linux-ioctl"/><property name="refused" value="it tells of no residency"/>
</properties></testcase>
<testcase name="f" time="0.1"><skipped message="refused as declared: QNX has no mremap"/></testcase>
</testsuite></testsuites>"""


def test_every_case_comes_out_as_what_it_was(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    outcome = read_junit(tmp_path / "report.xml")
    assert [case.state for case in outcome.cases] == [
        CaseState.PASSED,
        CaseState.PASSED,
        CaseState.FAILED,
        CaseState.FAILED,
        CaseState.NOT_RUN,
        CaseState.REFUSED,
        CaseState.REFUSED,
    ]
    assert (outcome.cases[0].topic, outcome.cases[5].topic) == ("two words", "declared")
    assert outcome.answered == ("linux-procfs",)
    assert outcome.tells == {"linux-ioctl": ("WALK", "BUILD_ID")}
    assert outcome.refused == {"linux-ioctl": "older than 6.11"}
    assert [case.reason for case in outcome.cases[2:]] == [
        "assert 1 == 2",
        "no fixture",
        "a container hides them",
        "it tells of no residency",
        "QNX has no mremap",
    ]


def test_reasons_name_the_machine_and_not_the_socket_that_it_had(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT.replace("residency", "residency [unix:/tmp/x/agent]"))
    outcome = read_junit(tmp_path / "report.xml", target="unix:/tmp/x/agent", called="qemu:linux-6.12")
    assert outcome.cases[5].reason == "it tells of no residency [qemu:linux-6.12]"
    assert outcome.refused == {"linux-ioctl": "older than 6.11"}


@pytest.mark.parametrize("said", ["nan", "inf", "1e999", "-1", "soon", ""])
def test_a_time_that_is_none_is_no_time(tmp_path: Path, said: str) -> None:
    """A guest's own report says what it likes; a run with such a time could not be read back."""
    (tmp_path / "r.xml").write_text(f'<testsuite><testcase name="a" time="{said}"/></testsuite>')
    assert read_junit(tmp_path / "r.xml").cases[0].seconds == 0


def test_a_report_of_too_many_cases_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "r.xml").write_text("<testsuite>" + "<testcase/>" * 11 + "</testsuite>")
    assert len(read_junit(tmp_path / "r.xml").cases) == 11
    monkeypatch.setattr(conform, "_MOST_CASES", 10)
    with pytest.raises(ImagesError, match="it has 11 cases"):
        read_junit(tmp_path / "r.xml")


@pytest.mark.parametrize("text", ["", "<testsuites>", "no xml"])
def test_report_that_is_none_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.xml").write_text(text)
    with pytest.raises(ImagesError, match="no report"):
        read_junit(tmp_path / "report.xml")
