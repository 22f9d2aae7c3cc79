"""QEMU's absence, its arguments, and the probe that decides about KVM."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas_images import Cache, NotRunnable, find, install_qemu
from vmatlas_images.describe.machine import Firmware
from vmatlas_images.prepare.preparing import Prepared
from vmatlas_images.run import accelerator
from vmatlas_images.run.accelerator import Accelerator
from vmatlas_images.run.qemu import EMULATORS, Sockets, arguments, find_qemu, qemu_for

from .conftest import describe
from .test_machine import GOOD


def test_a_missing_qemu_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NotRunnable) as caught:
        find_qemu("x86_64")
    assert str(caught.value) == "qemu-system-x86_64 is missing"
    assert caught.value.hint == "apt-get install --no-install-recommends qemu-system-x86"


def test_a_missing_qemu_is_told_before_anything_is_fetched(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmatlas_images import boot

    monkeypatch.setenv("PATH", "/nowhere")
    with (
        pytest.raises(NotRunnable, match="qemu-system-x86_64 is missing"),
        boot(find("linux-6.12"), hello=lambda stream, limit: pytest.fail("it has no QEMU")),
    ):
        pass
    assert not cache.root.exists()


def old_qemu(folder: Path, says: str) -> None:
    program = folder / "qemu-system-x86_64"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)


FIRMWARE = """\
  memory: 128
  qemu: {at_least: "10.1", obtain: a newer one is in trixie}
  firmware: {path: FOLDER/EFI.fd, package: qemu-efi-x}
"""


def test_a_qemu_that_is_too_old_and_firmware_that_is_missing_are_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = GOOD.replace("  memory: 128\n", FIRMWARE.replace("FOLDER", str(tmp_path)))
    machine = describe(tmp_path, "good", text)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    for number, says in enumerate(("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg)", "something else")):
        old_qemu(tmp_path, says)
        os.utime(tmp_path / "qemu-system-x86_64", (number, number))
        with pytest.raises(NotRunnable, match=r"and it takes 10\.1 or newer") as caught:
            qemu_for(machine)
        assert caught.value.hint == "a newer one is in trixie"
    old_qemu(tmp_path, "QEMU emulator version 11.0.1")
    with pytest.raises(NotRunnable, match=f"no firmware at {tmp_path}/EFI.fd") as caught:
        qemu_for(machine)
    assert caught.value.hint == "apt-get install --no-install-recommends qemu-efi-x"
    (tmp_path / "EFI.fd").touch()
    assert qemu_for(machine) == tmp_path / "qemu-system-x86_64"
    line = " ".join(arguments(machine, Prepared(kernel=Path("/k")), "tcg", Sockets(3, 4, 5)))
    assert f"-bios {tmp_path}/EFI.fd -kernel /k" in line


def test_installing_names_the_command_where_it_cannot_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NotRunnable, match="this host has no apt-get"):
        install_qemu({"x86_64"})
    monkeypatch.undo()
    if all(Path(f"/usr/bin/{EMULATORS[name].program}").exists() for name in ("x86_64", "s390x")):
        pytest.skip("every QEMU is installed here")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/apt-get" if name == "apt-get" else None)
    with pytest.raises(NotRunnable, match="by root alone") as caught:
        install_qemu({"x86_64"})
    assert caught.value.hint == "sudo apt-get install --no-install-recommends qemu-system-x86"


def test_installing_what_is_there_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "qemu-system-x86_64").write_text("#!/bin/sh\n")
    (tmp_path / "qemu-system-x86_64").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install_qemu({"x86_64"}) == []


def test_installing_runs_apt_get_and_tells_what_it_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    apt = tmp_path / "apt-get"
    apt.write_text(
        f'#!/bin/sh\necho "$@" >> {log}\ncase "$*" in *install*) echo "E: no network" >&2; exit 100;; esac\n'
    )
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(NotRunnable, match="failed: E: no network"):
        install_qemu({"x86_64", "i386"})
    assert log.read_text().splitlines() == ["-q update", "install --no-install-recommends qemu-system-x86 -y -q"]
    with pytest.raises(NotRunnable, match="failed: E: no network"):
        install_qemu(set(), [Firmware(path="/nowhere/x", package="qemu-efi-x"), Firmware(path="/", package="there")])
    assert log.read_text().splitlines()[-1] == "install --no-install-recommends qemu-efi-x there -y -q"


def test_qemu_is_told_whole_paths_since_it_does_not_run_where_we_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    machine = describe(tmp_path, "good", GOOD)
    files = Prepared(kernel=Path("k"), initramfs=Path("i"), disk=Path("d"), cd=Path("c"))
    line = " ".join(arguments(machine, files, "tcg", Sockets(3, 4, 5)))
    for words in (f"-kernel {tmp_path}/k ", f"-initrd {tmp_path}/i ", f"file={tmp_path}/d ", f"file={tmp_path}/c "):
        assert words in line
    (tmp_path / "qemu-system-x86_64").write_text("#!/bin/sh\n")
    (tmp_path / "qemu-system-x86_64").chmod(0o755)
    monkeypatch.setenv("PATH", ".", prepend=os.pathsep)
    assert find_qemu("x86_64") == tmp_path / "qemu-system-x86_64"


def test_a_machine_is_what_its_description_says(tmp_path: Path) -> None:
    machine = describe(tmp_path, "good", GOOD.replace("memory: 128", "memory: 128\n  command_line: quiet, or not"))
    words = arguments(machine, Prepared(kernel=Path("/k"), initramfs=Path("/i")), "tcg", Sockets(3, 4, 5))
    line = " ".join(words)
    assert "-nodefaults -no-user-config -no-reboot -S" in line
    assert words[words.index("-append") + 1] == "quiet, or not"
    assert line.index("-serial chardev:console") < line.index("-serial chardev:agent")
    assert "-m 128" in line
    assert "-accel tcg -cpu max,-cx16 " in line
    kvm = arguments(machine, Prepared(kernel=Path("/k"), initramfs=Path("/i")), "kvm", Sockets(3, 4, 5))
    assert "-accel kvm -cpu max " in " ".join(kvm)
    arm = arguments(
        find("linux-6.12-aarch64"), Prepared(kernel=Path("/k"), initramfs=Path("/i")), "tcg", Sockets(3, 4, 5)
    )
    assert "-accel tcg -cpu max,pauth-impdef=on " in " ".join(arm)


def test_a_board_without_pci_has_its_disk_its_cd_and_a_second_serial_port_all_the_same() -> None:
    machine = find("netbsd-local")
    files = Prepared(kernel=Path("/k"), disk=Path("/d"), cd=Path("/c"))
    line = " ".join(arguments(machine, files, "tcg", Sockets(3, 4, 5)))
    assert "-machine microvm," in line
    assert "-serial chardev:console -device isa-serial,chardev=agent,index=1 " in line
    assert "-drive id=disk,if=none,format=raw,snapshot=on,file=/d -device virtio-blk-device,drive=disk " in line
    assert "-drive id=cd,if=none,format=raw,readonly=on,file=/c -device virtio-blk-device,drive=cd " in line
    assert not {"virtio-scsi", "ide-cd,drive=cd", "media=cdrom"} & set(line.replace(",", " ").split())


def test_a_disk_is_never_written_to_and_its_name_may_hold_a_comma(tmp_path: Path) -> None:
    text = (
        GOOD[: GOOD.index("source:")]
        + "source: {kind: file, path: 'a,b', obtain: x}\nboot: {start: disk, console: vga}\n"
    )
    machine = describe(tmp_path, "good", text + "agent: {delivery: cd}\ndialogue: [{type: x}]\n")
    words = arguments(machine, Prepared(disk=Path("/a,b"), cd=Path("/cd")), "tcg", Sockets(3, 4, 5))
    drives = [word for flag, word in itertools.pairwise(words) if flag == "-drive"]
    assert any("snapshot=on" in drive and drive.endswith("file=/a,,b") for drive in drives)
    assert any("media=cdrom" in drive and "readonly=on" in drive for drive in drives)
    assert words[words.index("-vga") + 1] == "std"
    assert "chardev:console" not in words


@pytest.fixture
def kvm(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """A host with a /dev/kvm for this user, whatever this one has."""
    exists, access = Path.exists, os.access
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/dev/kvm" or exists(path))
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) == "/dev/kvm" or access(path, mode))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (tmp_path / "qemu-system-x86_64").write_text("#!/bin/sh\n")
    (tmp_path / "qemu-system-x86_64").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return cache


def test_kvm_is_used_only_after_a_guest_answered_under_it(kvm: Cache) -> None:
    chosen = accelerator.choose("x86_64", kvm, probe=lambda qemu: None)
    assert (chosen.name, chosen.reason) == ("kvm", "a probe guest answered under it")


def test_a_kvm_that_hangs_is_not_used_and_the_reason_is_told(kvm: Cache) -> None:
    chosen = accelerator.choose("x86_64", kvm, probe=lambda qemu: "a probe guest did not answer under it within 6 s")
    assert str(chosen) == "tcg (/dev/kvm is there, but a probe guest did not answer under it within 6 s)"


def test_the_limits_of_a_machine_grow_with_what_a_busy_host_takes_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = {"monotonic": iter([100.0, 100.35]), "thread_time": iter([5.0, 5.05, 5.2])}
    for name, told in clocks.items():
        monkeypatch.setattr(accelerator.time, name, lambda told=told: next(told))
    assert accelerator.host_pace() == 3.5
    assert Accelerator("tcg", "x", pace=3.5).scale == 3.5
    assert Accelerator("kvm", "x", pace=3.0).scale == 1.5
    assert Accelerator("kvm", "x").scale == 0.5


def test_the_probe_is_asked_once_for_each_boot_of_the_host(kvm: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def probe(qemu: Path) -> str | None:
        asked.append(qemu)
        return "no"

    first = accelerator.choose("x86_64", kvm, probe=probe)
    assert accelerator.choose("x86_64", kvm, probe=probe) == first
    assert len(asked) == 1
    monkeypatch.setattr(accelerator, "_boot_id", lambda: "after another boot")
    accelerator.choose("x86_64", kvm, probe=probe)
    assert len(asked) == 2


def test_tcg_is_used_for_another_processor_and_on_request(kvm: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    assert accelerator.choose("s390x", kvm).reason == "s390x on a x86_64 host"
    monkeypatch.setenv("VMATLAS_ACCELERATOR", "tcg")
    assert accelerator.choose("x86_64", kvm).reason == "VMATLAS_ACCELERATOR says so"


@pytest.mark.machine
def test_the_probe_guest_answers_under_tcg() -> None:
    assert accelerator.probe(find_qemu("x86_64"), "tcg", limit=PATIENCE) is None


@pytest.mark.machine
def test_a_probe_guest_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "_BOOT_SECTOR", b"\xfa\xf4".ljust(510, b"\0") + b"\x55\xaa")  # cli; hlt
    started = time.monotonic()
    assert (
        accelerator.probe(find_qemu("x86_64"), "tcg", limit=1.5) == "a probe guest did not answer under it within 1.5 s"
    )
    assert time.monotonic() - started < PATIENCE


@pytest.mark.machine
def test_an_accelerator_that_qemu_refuses_is_told_in_its_words() -> None:
    assert "nonsense" in (accelerator.probe(find_qemu("x86_64"), "nonsense") or "")


@pytest.mark.machine
def test_this_hosts_kvm_is_decided_in_seconds(cache: Cache) -> None:
    started = time.monotonic()
    chosen = accelerator.choose("x86_64", cache)
    assert time.monotonic() - started < accelerator.PROBE_LIMIT + PATIENCE
    assert chosen.name in ("kvm", "tcg")
    assert chosen.reason
