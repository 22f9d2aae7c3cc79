"""What /proc is told to be: whose numbers it shows and whom it hides, from the files of kernels of all ages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import vmatlas
from vmatlas.systems.linux import proc
from vmatlas.systems.linux.proc import Hidepid, ProcMount

BELOW = b"44 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
USUAL = b"46 44 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw\n"
OTHERS = b"47 46 0:22 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n48 44 0:5 / /processes rw - proc proc rw\n"


def over(options: str, number: int = 65, below: int = 46) -> bytes:
    return f"{number} {below} 0:40 / /proc rw,relatime - proc proc {options}\n".encode()


def test_what_may_stand_against_who_has_the_right_is_told_as_what_may_be() -> None:
    for modules, told in (
        (None, "perhaps a security module"),
        (b"lockdown,capability,landlock,yama,apparmor", "perhaps landlock or apparmor stands against it"),
        (b"capability,yama\n", "perhaps a sandbox stands against it: no security module"),
    ):
        assert told in proc.may_stand_against_it(modules)


@pytest.mark.parametrize(("options", "mode", "group"), [
    ("rw", Hidepid.OFF, 0), ("rw,hidepid=0", Hidepid.OFF, 0), ("rw,hidepid=off", Hidepid.OFF, 0),
    ("rw,hidepid=1", Hidepid.NO_ACCESS, 0), ("rw,hidepid=noaccess", Hidepid.NO_ACCESS, 0),
    ("rw,gid=33,hidepid=2", Hidepid.INVISIBLE, 33), ("rw,gid=33,hidepid=invisible", Hidepid.INVISIBLE, 33),
    ("rw,hidepid=4", Hidepid.PTRACEABLE, 0), ("rw,hidepid=ptraceable,subset=pid", Hidepid.PTRACEABLE, 0),
    ("rw,hidepid=entirely", None, 0),
])  # fmt: skip
def test_mount_options_of_old_and_new_kernels_are_read(options: str, mode: Hidepid | None, group: int) -> None:
    found = proc.mount_of(BELOW + over(options, below=44))
    assert found is not None
    assert (found.hidepid, found.group) == (mode, group)


def test_mount_on_top_counts_wherever_its_line_stands() -> None:
    table = [BELOW, USUAL, OTHERS, over("rw,hidepid=invisible"), over("rw,hidepid=ptraceable", 9, 65)]
    for order in (table, table[::-1]):
        assert proc.mount_of(b"".join(order)) == ProcMount(Hidepid.PTRACEABLE, "ptraceable", 0)
    assert proc.mount_of(b"".join(table[:4])) == ProcMount(Hidepid.INVISIBLE, "invisible", 0)
    assert proc.mount_of(b"".join(table[:3])) == ProcMount(Hidepid.OFF, "off", 0)


@pytest.mark.parametrize("table", [
    b"", BELOW + OTHERS, b"no table at all\n", b"1 2 3 4 /proc 6 7 8 9 10 11 12\n",
    BELOW + USUAL + b"50 46 0:50 / /proc rw - tmpfs none rw\n",
])  # fmt: skip
def test_where_no_procfs_lies_on_top_there_is_none(table: bytes) -> None:
    assert proc.mount_of(table) is None
    assert proc.who_is_not_listed(table, b"", sees_first=True) is None


def mounted_at(point: str, below: int, kind: str = "tmpfs") -> bytes:
    return f"90 {below} 0:60 / {point} rw - {kind} none rw\n".encode()


@pytest.mark.parametrize(("table", "pids"), [
    (BELOW + USUAL + over("rw") + mounted_at("/proc/12", 65) + mounted_at("/proc/7/maps", 65), [7, 12]),
    (BELOW + USUAL + over("rw") + mounted_at("/proc/12", 46), []),  # below the /proc that lies on top
    (BELOW + USUAL + over("rw") + mounted_at("/proc/sys/fs", 65) + mounted_at("/proc/12x", 65), []),
    (BELOW + OTHERS, []),
])  # fmt: skip
def test_what_is_mounted_over_the_folders_of_processes_is_found(table: bytes, pids: list[int]) -> None:
    assert proc.covered(table) == pids


def status(capabilities: int = 0, group: int = 1000, groups: str = "") -> bytes:
    return f"Name:\tx\nGid:\t5\t5\t5\t{group}\nGroups:\t{groups} \nNSpid:\t7\nCapEff:\t{capabilities:016x}\n".encode()


PTRACE = 1 << 19


@pytest.mark.parametrize(("options", "caller", "sees_first", "told"), [
    ("rw", status(), True, None),
    ("rw,hidepid=noaccess", status(), True, None),  # those are listed, and errors one by one
    ("rw,hidepid=invisible", status(), False, "not every process is shown"),
    ("rw,hidepid=2", status(), False, "not every process is shown"),
    ("rw,hidepid=ptraceable", status(), False, "not every process is shown"),
    ("rw,hidepid=invisible", status(), True, "processes of other users, if there are any"),
    ("rw,hidepid=invisible", status(PTRACE), True, None),
    ("rw,hidepid=ptraceable", status(PTRACE), True, None),
    # The capability of a user namespace below: it is none over those who are outside.
    ("rw,hidepid=invisible", status(PTRACE), False, "not every process is shown"),
    ("rw,gid=33,hidepid=invisible", status(groups="4 33"), True, None),
    ("rw,gid=33,hidepid=invisible", status(group=33), True, None),
    ("rw,hidepid=invisible", status(groups="0"), True, None),
    ("rw,gid=33,hidepid=ptraceable", status(groups="33"), True, "processes of other users, if there are any"),
    # Groups that a user namespace does not map all look like this one.
    ("rw,gid=65534,hidepid=invisible", status(groups="65534"), True, "processes of other users, if there are any"),
    ("rw,hidepid=9", status(), False, "not every process is shown"),
    ("rw,hidepid=invisible", b"", True, "processes of other users, if there are any"),
])  # fmt: skip
def test_who_may_be_missing_from_the_list(options: str, caller: bytes, sees_first: bool, told: str | None) -> None:
    said = proc.who_is_not_listed(BELOW + USUAL + over(options), caller, sees_first=sees_first)
    assert said == told if told is None or said is None else said.startswith(told) and "hidepid=" in said


@pytest.mark.parametrize(("status", "numbers"), [
    (b"Name:\tx\nNStgid:\t9\nNSpid:\t9\nNSpgid:\t9\n", (9,)),
    (b"Name:\tx\nNSpid:\t20577\t12\t1\n", (20577, 12, 1)),
    (b"Name:\tNSpid: 4 5\nNSpid:\t9\n", (9,)),
    (b"Name:\tx\nPid:\t9\n", ()),  # before 4.1, and where CONFIG_PID_NS is off
    (b"NSpid:\tnine\n", ()),
    (b"", ()),
])  # fmt: skip
def test_numbers_of_a_process_in_each_namespace(status: bytes, numbers: tuple[int, ...]) -> None:
    assert proc.numbers_of(status) == numbers


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(proc, "PROC", str(tmp_path))
    monkeypatch.setattr(proc, "_checked", None)
    return tmp_path


def shown_as(folder: Path, number: int, status: str | None) -> None:
    (folder / str(number)).mkdir()
    (folder / "self").symlink_to(str(number))
    if status is not None:
        (folder / str(number) / "status").write_text(status)


def test_proc_that_calls_us_as_the_kernel_does_is_ours(scripted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown_as(scripted, os.getpid(), f"Name:\tx\nNSpid:\t{os.getpid()}\n")
    proc.check_numbers()
    read = []
    monkeypatch.setattr(proc, "read_own", lambda name: read.append(name) or b"")
    proc.check_numbers()
    assert not read  # once for a process and a /proc


def test_proc_that_calls_us_alike_by_chance_is_not_ours(scripted: Path) -> None:
    own = os.getpid()
    shown_as(scripted, own, f"Name:\tx\nNSpid:\t{own}\t{own}\n")
    with pytest.raises(vmatlas.Unsupported, match="of another pid namespace, where this process happens to be") as told:
        proc.check_numbers()
    assert "mount -t proc" in str(told.value.hint)
    with pytest.raises(vmatlas.Unsupported):  # not believed the second time either
        proc.check_numbers()


@pytest.mark.parametrize("status", [None, "", "Name:\tx\nPid:\t1\n"])
def test_kernel_that_tells_no_nspid_is_believed_by_the_number(scripted: Path, status: str | None) -> None:
    shown_as(scripted, os.getpid(), status)
    proc.check_numbers()


def test_other_number_is_another_namespace(scripted: Path) -> None:
    shown_as(scripted, os.getpid() + 1, None)
    with pytest.raises(vmatlas.Unsupported, match=f"there, this process is {os.getpid() + 1} and {os.getpid()} anoth"):
        proc.check_numbers()


def test_proc_in_which_we_are_not_is_another_namespace(scripted: Path) -> None:
    (scripted / "self").symlink_to("nowhere")
    with pytest.raises(vmatlas.Unsupported, match="another pid namespace, in which this process is not"):
        proc.check_numbers()


def test_no_proc_at_all_is_said(scripted: Path) -> None:
    with pytest.raises(vmatlas.Unsupported, match="/proc is not mounted"):
        proc.check_numbers()


def test_what_was_found_is_not_believed_of_a_child_or_of_another_proc(scripted: Path) -> None:
    own = os.getpid()
    shown_as(scripted, own, f"NSpid:\t{own}\n")
    proc.check_numbers()
    (scripted / "self").unlink()
    (scripted / "other").mkdir()  # another folder: as a fork has, and a /proc that was mounted over this one
    (scripted / "self").symlink_to("other")
    with pytest.raises(vmatlas.Unsupported):
        proc.check_numbers()


def test_rights_are_told_by_what_the_files_say() -> None:
    told = dict(proc.rights_told(USUAL + over("rw,gid=33,hidepid=noaccess"), status(PTRACE | 1 << 23), b"1\n"))
    assert told["capabilities"] == "CAP_SYS_PTRACE, CAP_SYS_NICE"
    assert told["yama ptrace_scope"].startswith("1 ")
    assert told["/proc hidepid"].startswith("noaccess (1): other users' processes are listed, but nothing of them can")
    assert told["/proc hidepid"].endswith("; not for those who have CAP_SYS_PTRACE or are in the group 33")
    told = dict(proc.rights_told(USUAL + over("rw,gid=33,hidepid=ptraceable"), status(), None))
    assert told["/proc hidepid"].endswith("; not for those who have CAP_SYS_PTRACE"), "there no group counts"
    told = dict(proc.rights_told(USUAL, status(), None))
    assert told["capabilities"] == "none that matter here"
    assert told["yama ptrace_scope"] == "no Yama"
    assert told["/proc hidepid"] == "off (0): every process is listed"


def test_what_is_mounted_over_a_process_is_told_with_the_rights() -> None:
    table = USUAL + b"90 46 0:40 /7/maps /proc/9/maps rw - proc proc rw\n"
    what, told = proc.rights_told(table, b"", None)[-1]
    assert (what, told) == (
        "/proc, of processes",
        "process 9 is not shown as it is: something is mounted over /proc/9",
    )
    assert len(proc.rights_told(USUAL, b"", None)) == 3


def test_without_proc_nothing_is_known_of_rights() -> None:
    assert {state for _, state in proc.rights_told(b"", b"", None)} == {"unknown, for want of /proc"}
    assert "no procfs at /proc" in dict(proc.rights_told(BELOW, status(), None))["/proc hidepid"]
    assert "not known here" in dict(proc.rights_told(over("rw,hidepid=7"), status(), None))["/proc hidepid"]


def test_process_that_is_there_is_told_from_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        assert proc.exists(os.getpid())
        assert proc.exists(1)  # another user's, mostly
        assert not proc.exists(0)
        assert not proc.exists(-1)
        assert not proc.exists(2**22 + 7)  # beyond PID_MAX_LIMIT
        assert not proc.exists(2**31 - 1)
        # Linux before 5.3, and Pythons that were built there: kill(2) tells as well.
        monkeypatch.delattr(os, "pidfd_open", raising=False)
