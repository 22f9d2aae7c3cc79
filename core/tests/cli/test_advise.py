"""`vmatlas advise`: a skin over `operations.advise`, with the memory in use before and after."""

from __future__ import annotations

import json

import pytest

import vmatlas
from vmatlas import operations
from vmatlas.cli.render.advise import Told, advised_table
from vmatlas.errors import AccessDenied, OperationFailed
from vmatlas.operations import Advice, Advised

ADVICES = ("cold", "pageout", "willneed", "collapse")


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What reaches the API, which then claims to have done it: rights are for the tests of the plugin."""
    seen: list[tuple[object, ...]] = []

    def advise(
        process: vmatlas.Process, regions: vmatlas.AddressSpace, advice: Advice, *, dry_run: bool, go_on: bool
    ) -> Advised:
        assert not go_on
        seen.append((process.pid, regions, advice, dry_run))
        return Advised(
            advice, process.pid, len(regions), regions.total, 0 if dry_run else regions.total, dry_run=dry_run
        )

    monkeypatch.setattr(operations, "advise", advise)
    return seen


@pytest.mark.parametrize("advice", ADVICES)
def test_option_chooses_the_advice_and_the_filter_the_regions(run, child, taken, rows_of, advice):
    result = run("advise", child.pid, f"--{advice}", "--where", "anonymous,size>4K", "--bytes")
    assert result.exit_code == 0, result.stderr
    [(pid, regions, given, dry_run)] = taken
    assert (pid, given, dry_run) == (child.pid, Advice(advice), False)
    expected = vmatlas.snapshot(child.pid, residency=True).where("anonymous,size>4K")
    assert list(regions) == list(expected)
    [row] = rows_of(result.stdout)
    assert row["ADVICE"] == advice
    assert (row["REGIONS"], row["ASKED"], row["ADVISED"]) == (
        str(len(expected)),
        str(expected.total),
        str(expected.total),
    )
    resident = sum(region.resident or 0 for region in expected)
    assert (row["RESIDENT-BEFORE"], row["RESIDENT-AFTER"]) == (str(resident), str(resident))


def test_regions_of_the_kernel_are_left_out(run, child, taken):
    assert run("advise", child.pid, "--cold").exit_code == 0
    [(_, regions, _, _)] = taken
    names = {region.name for region in regions}
    assert not names & {"[vdso]", "[vvar]", "[vsyscall]", "[vvar_vclock]"}
    assert "[stack]" in names


def test_dry_run_asks_for_nothing_to_be_done(run, child, taken):
    result = run("advise", child.pid, "--cold", "--dry-run", "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert taken[0][3] is True
    assert (told["dry_run"], told["advised"], told["resident_after"]) == (True, 0, None)
    assert told["unasked"] is None
    assert told["asked"] == sum(region.size for region in taken[0][1])
    assert told["start_time"] == vmatlas.snapshot(child.pid).start_time


def test_dry_run_that_could_not_ask_the_kernel_says_why(run, child, monkeypatch):
    def advise(process, regions, advice, *, dry_run, go_on):
        return Advised(advice, process.pid, len(regions), regions.total, 0, dry_run=dry_run, unasked="no such question")

    monkeypatch.setattr(operations, "advise", advise)
    told = json.loads(run("advise", child.pid, "--cold", "--dry-run", "--json").stdout)
    assert told["unasked"] == "no such question"


@pytest.mark.parametrize("unasked", [None, "no such question"])
def test_people_are_told_of_a_dry_run_and_whether_the_kernel_was_asked(unasked):
    space = vmatlas.snapshot()
    advised = Advised(Advice.COLD, 7, len(space), space.total, 0, dry_run=True, unasked=unasked)
    done, *asked = advised_table(Told(advised, space, None, None), exact=False).notes
    assert done.endswith("would be advised; nothing was done")
    assert asked == ([] if unasked is None else [f"the kernel was not asked: {unasked}"])


def test_stop_is_told_with_its_reason_and_exit_7(run, child, monkeypatch):
    def advise(process, regions, advice, *, dry_run, go_on):
        failure = OperationFailed("stopped: a hole", errno=12, errno_name="ENOMEM", hint="look again")
        return Advised(advice, process.pid, len(regions), regions.total, 4096, (0x1000, 0x3000), failure)

    monkeypatch.setattr(operations, "advise", advise)
    result = run("advise", child.pid, "--cold")
    assert result.exit_code == 7
    assert result.stdout.splitlines()[1].endswith("1000-3000")
    assert result.stderr == "vmatlas: stopped: a hole\nhint: look again\n"
    told = json.loads(run("advise", child.pid, "--cold", "--json").stdout)
    assert told["stopped_at"] == {"start": 0x1000, "end": 0x3000}
    assert (told["reason"], told["errno"]) == ("stopped: a hole", "ENOMEM")


def test_what_was_refused_on_the_way_is_counted_and_is_exit_7(run, child, monkeypatch):
    def advise(process, regions, advice, *, dry_run, go_on):
        failure = OperationFailed("the first is locked", errno=22, errno_name="EINVAL")
        assert go_on
        return Advised(advice, process.pid, len(regions), regions.total, 0, None, failure, refused=((1, 2), (3, 4)))

    monkeypatch.setattr(operations, "advise", advise)
    result = run("advise", child.pid, "--cold", "--go-on")
    assert (result.exit_code, result.stderr) == (7, "vmatlas: the first is locked\n")
    assert result.stdout.splitlines()[1].endswith("2 ranges refused")
    told = json.loads(run("advise", child.pid, "--cold", "--go-on", "--json").stdout)
    assert (told["refused"], told["stopped_at"]) == ([{"start": 1, "end": 2}, {"start": 3, "end": 4}], None)


def test_missing_right_is_exit_4(run, child, monkeypatch):
    def advise(*_, **__):
        raise AccessDenied("no right to advise", hint="try sudo")

    monkeypatch.setattr(operations, "advise", advise)
    result = run("advise", child.pid, "--cold")
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr == "vmatlas: no right to advise\nhint: try sudo\n"


def test_advice_must_be_said(run, child):
    result = run("advise", child.pid)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--cold, --pageout, --willneed, --collapse" in result.stderr


def test_real_advice_to_oneself_is_done(run, rows_of):
    result = run("advise", "self", "--cold", "--where", "stack", "--bytes")
    assert result.exit_code == 0, result.stderr
    [row] = rows_of(result.stdout)
    assert row["ASKED"] == row["ADVISED"] != "0"


def test_two_advices_are_a_usage_error_and_none_is_given(run, child, taken):
    result = run("advise", child.pid, "--cold", "--pageout")
    assert (result.exit_code, taken) == (2, [])
    assert "more than one advice" in result.stderr
