"""QNX's machines without their images: what a user names, the dialogues against scripted consoles, QEMU's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pytest

from vmatlas_images import Cache, Machine, NotRunnable, fetch, machines
from vmatlas_images.errors import ImagesError, MachineError
from vmatlas_images.prepare.preparing import Prepared, prepare
from vmatlas_images.resolve.local import local_disk
from vmatlas_images.run.console import Transcript, VgaConsole, converse, keys_of
from vmatlas_images.run.matrix import run
from vmatlas_images.run.qemu import Sockets, arguments
from vmatlas_images.run.results import State

from .conftest import describe
from .test_console import Guest, check_nothing, vga

QNX = {machine.name: machine for machine in machines() if machine.system == "qnx"}
NAMED = pytest.mark.parametrize("machine", QNX.values(), ids=list(QNX))
EIGHT = pytest.mark.parametrize("machine", [QNX["qnx-8.0"], QNX["qnx-8.0-secure"]], ids=["plain", "secure"])
VARIABLES = {
    "qnx-6.4": "VMATLAS_QNX_IMAGE",
    "qnx-8.0": "VMATLAS_QNX8_IMAGE",
    "qnx-8.0-secure": "VMATLAS_QNX8_SECURE_IMAGE",
}


@pytest.fixture(autouse=True)
def no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the one who runs the tests has."""
    for name in VARIABLES.values():
        monkeypatch.delenv(name, raising=False)


@NAMED
def test_licensed_image_is_a_file_of_the_users_that_a_variable_names(machine: Machine) -> None:
    assert machine.source.kind == "file"
    assert machine.source.path.startswith(f"${VARIABLES[machine.name]}")
    assert machine.source.sha256 is None
    assert VARIABLES[machine.name] in machine.source.obtain
    page = (Path(__file__).parents[2] / "docs" / "get-an-image.md").read_text("utf-8")
    assert "docs/get-an-image.md" in machine.source.obtain
    assert f"`{machine.name}`" in page and VARIABLES[machine.name] in page
    assert ("never run" in machine.labels) == (machine.name != "qnx-6.4")
    assert machine.expect.answering == ("qnx-mapinfo", "qnx-pagedata")
    assert sum(step.within for step in machine.dialogue) <= max(machine.limits.boot, 150)
    assert QNX["qnx-6.4"].limits.boot <= 90


def test_without_an_image_each_row_says_not_run_and_why(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("vmatlas_images.run.boot"), "qemu_for", lambda machine: Path("/bin/true"))

    def never(*_: object) -> None:
        pytest.fail("nothing ran")

    report = run(list(QNX.values()), never, hello=never, output=tmp_path, cache=cache)  # type: ignore[arg-type]
    for result in report.results:
        assert result.state is State.NOT_RUN
        assert result.reason.startswith(f"{VARIABLES[result.machine.name]} is not set: it names this machine's image (")
        assert "docs/get-an-image.md" in result.reason


def test_prompt_on_the_screen_starts_driver_and_agent(tmp_path: Path) -> None:
    characters = {tuple(keys_of(chr(code))): chr(code) for code in range(32, 127)}
    screen = ["Starting drivers\n# "]

    def press(keys: Sequence[str]) -> None:
        screen[0] += "\n# " if list(keys) == ["ret"] else characters[tuple(keys)]

    console = VgaConsole(lambda address, size: vga(screen[0])[:size], press, Transcript(tmp_path / "console"))
    converse(QNX["qnx-6.4"].dialogue, console, scale=1, check=check_nothing)
    console.close()
    assert screen[0].split("\n# ")[1:] == [
        "pidin > /.boot",
        "mkdir /tmp",
        "devc-ser8250 -b115200 -I 131072 &",
        "/fs/cd0/agent --port /dev/ser1 &",
        "",
    ]


def test_file_that_is_no_disk_ends_the_wait_for_a_prompt(tmp_path: Path) -> None:
    """QEMU's BIOS says so at once; the prompt would be waited for a minute."""
    boot = QNX["qnx-6.4"].boot
    screen = "Booting from Hard Disk...\nBoot failed: not a bootable disk\n\nNo bootable device."
    console = VgaConsole(
        lambda address, size: vga(screen)[:size], lambda keys: None, Transcript(tmp_path / "c"), boot.panic
    )
    with pytest.raises(AssertionError, match="No bootable device"):
        converse(QNX["qnx-6.4"].dialogue, console, scale=1, check=lambda: told(console))
    console.close()


def told(console: VgaConsole) -> None:
    """What a boot does between two looks: it ends with the words of a panic."""
    assert console.panic is None, console.panic


CD = "mount -t cd /dev/cd0 /mnt"
DRIVER = "test -e /dev/ser2 || devc-ser8250 -b115200 -I131072 -u2 2f8,3 &"
START = "/mnt/agent --port /dev/ser2 &"


@EIGHT
def test_login_on_the_serial_line_mounts_the_cd_and_starts_the_agent(machine: Machine, tmp_path: Path) -> None:
    answers = {CD: "# ", DRIVER: "[1] 77\r\n# ", START: "# vmatlas-agent: ready on /dev/ser2\r\n"}
    guest = Guest(tmp_path, Login(answers), "Startup complete\r\nQNX qnx 8.0.0 x86pc x86_64\r\n\r\nlogin: ")
    converse(machine.dialogue, guest.console, scale=1, check=check_nothing)
    assert guest.typed == ["root", "root", CD, DRIVER, START]
    guest.console.close()


class Login(dict[str, str]):
    """Answers of a guest whose user and password are the same word."""

    _said = 0

    def get(self, line: str, default: str = "") -> str:  # type: ignore[override]
        """The password is asked for once."""
        if line != "root":
            return super().get(line, default)
        self._said += 1
        return "Password:" if self._said == 1 else "# "


@EIGHT
def test_agent_that_does_not_start_is_told_by_its_step(machine: Machine, tmp_path: Path) -> None:
    guest = Guest(tmp_path, Login({CD: "# ", DRIVER: "# ", START: "cannot execute\r\n# "}), "login: ")
    with pytest.raises(ImagesError, match="step 6 of the dialogue"):
        converse(machine.dialogue, guest.console, scale=0.02, check=check_nothing)
    guest.console.close()


def made(folder: Path) -> Path:
    """What mkqnximage leaves in its folder."""
    (folder / "output").mkdir(parents=True)
    (folder / "output" / "ifs.bin").write_bytes(b"ifs")
    (folder / "output" / "disk-qemu.vmdk").write_bytes(b"# Disk DescriptorFile")
    (folder / "output" / "disk-qemu").write_bytes(b"extent")
    return folder


@EIGHT
def test_kernel_and_disk_of_mkqnximage_are_used_where_they_lie(
    machine: Machine, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(tmp_path / "qnx8")
    monkeypatch.setenv(VARIABLES[machine.name], str(folder))
    agent = tmp_path / "agent"
    agent.write_bytes(b"agent")
    prepared = prepare(machine, fetch(machine, cache), agent, cache)
    assert prepared.kernel == folder / "output" / "ifs.bin"
    assert prepared.disk == local_disk(machine) == folder / "output" / "disk-qemu.vmdk"
    assert prepared.cd is not None
    assert prepared.initramfs is None, "there is nothing to put in"
    words = arguments(machine, prepared, "tcg", Sockets(3, 4, 5))
    assert words[words.index("-kernel") + 1] == str(prepared.kernel)
    assert f"id=disk,if=none,format=vmdk,snapshot=on,file={prepared.disk}" in words, "never written to"
    assert "ide-hd,drive=disk" in words, "two that are first to boot from are one too many for QEMU"
    assert "-initrd" not in words and "-append" not in words
    assert words[-2:] == ["-device", "virtio-rng-pci"]


@EIGHT
@pytest.mark.parametrize("lacking", ["ifs.bin", "disk-qemu.vmdk"])
def test_folder_without_one_of_the_two_says_which(
    machine: Machine, lacking: str, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(tmp_path / "qnx8")
    (folder / "output" / lacking).unlink()
    monkeypatch.setenv(VARIABLES[machine.name], str(folder))
    with pytest.raises(NotRunnable, match=f"no image at .*/output/{lacking}") as caught:
        fetch(machine, cache)
    assert "mkqnximage" in (caught.value.hint or "")


def test_disk_beside_a_disk_is_refused(tmp_path: Path) -> None:
    text = (
        "name: m\nabout: x\nsystem: qnx\nprocessor: x86_64\nsource: {kind: file, path: a, disk: b, obtain: x}\n"
        "boot: {start: disk}\nagent: {delivery: cd}\ndialogue: [{type: x}]\n"
    )
    with pytest.raises(MachineError, match=r"source\.disk is for boot\.start: kernel"):
        describe(tmp_path, "m", text)


def test_kernel_alone_has_no_disk(tmp_path: Path) -> None:
    assert local_disk(QNX["qnx-6.4"]) is None
    assert Prepared().disk is None
