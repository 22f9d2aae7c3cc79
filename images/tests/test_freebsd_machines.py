"""FreeBSD's machines without their images: the dialogue against a scripted console, and a run without a network."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas_images import Cache, FetchError, Machine, NotRunnable, fetch, machines
from vmatlas_images.describe.machine import Download
from vmatlas_images.describe.plan import plan_of
from vmatlas_images.errors import ImagesError
from vmatlas_images.fetch import catalogue
from vmatlas_images.prepare.userland import install_commands
from vmatlas_images.run.console import converse
from vmatlas_images.run.matrix import run
from vmatlas_images.run.results import State

from .conftest import Server, describe
from .test_console import Guest, check_nothing

FREEBSD = [machine for machine in machines() if machine.system == "freebsd"]
OFFICIAL = [machine for machine in FREEBSD if isinstance(machine.source, Download)]
OF_THE_USERS = [machine for machine in FREEBSD if machine not in OFFICIAL]
SINGLE_USER = [machine for machine in FREEBSD if machine.boot.start == "kernel"]
NAMED = pytest.mark.parametrize("machine", FREEBSD, ids=lambda machine: machine.name)
BOOT = "\r\nFreeBSD/amd64 (freebsd) (ttyu0)\r\n\r\nlogin: "
ALONE = "\r\nEnter full pathname of shell or RETURN for /bin/sh: "
WELCOME = "Last login: Sun Nov 22 04:00:00 on ttyu0\r\nFreeBSD 15.1-RELEASE (GENERIC)\r\n# a line of /etc/motd\r\n"
PROCFS, CD, START = (
    "mount -t procfs proc /proc",
    "mount -t cd9660 /dev/cd0 /mnt",
    "/mnt/agent --port /dev/cuau1 &",
)
OURS = "tar -xf /mnt/ours.tar -C /"


def guest(machine: Machine, tmp_path: Path, prompt: str, **answers: str) -> Guest:
    """One that asks who it is, or, started alone, for a shell; there a program has its whole path."""
    alone = machine in SINGLE_USER
    first, welcome, path = ("", prompt, "/sbin/") if alone else ("root", WELCOME + prompt, "")
    said = {first: welcome, path + PROCFS: prompt, path + CD: prompt, OURS: prompt}
    said[START] = answers.get("start", f"[1] 812\r\n{prompt}vmatlas-agent: ready on /dev/cuau1\r\n")
    return Guest(tmp_path, said, ALONE if alone else BOOT)


@NAMED
@pytest.mark.parametrize("prompt", ["root@freebsd:~ # ", "# "], ids=["csh", "sh"])
def test_dialogue_logs_in_mounts_and_starts_the_agent(machine: Machine, prompt: str, tmp_path: Path) -> None:
    scripted = guest(machine, tmp_path, prompt)
    converse(machine.dialogue, scripted.console, scale=1, check=check_nothing)
    ours = [] if machine.python is None else [OURS]
    first, path = ("", "/sbin/") if machine in SINGLE_USER else ("root", "")
    assert scripted.typed == [first, path + PROCFS, path + CD, *ours, START]
    scripted.console.close()


@NAMED
def test_agent_that_does_not_start_is_told_by_its_step(machine: Machine, tmp_path: Path) -> None:
    scripted = guest(machine, tmp_path, "# ", start="ELF binary type not known\r\n# ")
    with pytest.raises(ImagesError, match=f"step {len(machine.dialogue)} of the dialogue"):
        converse(machine.dialogue, scripted.console, scale=0.01, check=check_nothing)
    scripted.console.close()


@pytest.mark.parametrize("machine", OFFICIAL, ids=lambda machine: machine.name)
def test_images_are_checked_by_the_publishers_own_file_and_labelled(machine: Machine) -> None:
    assert isinstance(machine.source, Download)
    folder, name = machine.source.url.rsplit("/", 1)
    assert folder.startswith("https://download.freebsd.org/releases/CI-IMAGES/")
    assert machine.source.checksum_file == f"{folder}/CHECKSUM.SHA512"
    assert machine.source.sha256 is machine.source.sha512 is None, "no digest that nobody saw"
    assert machine.expect.kernel.at_least is not None and f"FreeBSD-{machine.expect.kernel.at_least}-RELEASE" in name
    assert f"{machine.expect.kernel.at_least}-RELEASE" in machine.expect.kernel
    assert "never run" in machine.labels
    assert machine.expect.answering == ("freebsd-sysctl", "freebsd-procfs")
    assert sum(step.within for step in machine.dialogue) <= machine.limits.boot


def test_guest_without_a_network_says_so_in_a_line(tmp_path: Path) -> None:
    """The plan's own lines, in a shell whose programs answer as those of a guest without network do."""
    (machine,) = (each for each in FREEBSD if each.python is not None)
    assert "-nic" in machine.boot.arguments
    script = install_commands([], plan_of(machine))
    for broken, told in (("dhclient", "em0 was given no address"), ("fetch", "pkg.freebsd.org does not answer")):
        for name in ("dhclient", "fetch", "pkg"):
            program = tmp_path / name
            program.write_text(f"#!/bin/sh\necho {name} >>{tmp_path}/asked\nexit {int(name == broken)}\n")
            program.chmod(0o755)
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        done = subprocess.run(["sh"], input=script, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 77
        assert done.stdout == f"no network in the guest: {told}\n"
    assert (tmp_path / "asked").read_text().split() == ["dhclient", "dhclient", "fetch"]


def test_there_is_another_processor_and_an_older_release() -> None:
    assert {machine.processor for machine in OFFICIAL} == {"x86_64", "aarch64"}
    assert len({machine.expect.kernel.at_least for machine in OFFICIAL}) == 3


@pytest.mark.parametrize(
    ("name", "variable"), [("freebsd-local", "VMATLAS_FREEBSD_IMAGE"), ("freebsd-kernel", "VMATLAS_FREEBSD_KERNEL")]
)
def test_a_disk_or_kernel_of_the_users_is_asked_for_by_its_variable(
    name: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {each.name for each in OF_THE_USERS} == {"freebsd-local", "freebsd-kernel"}
    (machine,) = (each for each in OF_THE_USERS if each.name == name)
    assert machine.expect.answering == ("freebsd-sysctl", "freebsd-procfs")
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(NotRunnable, match=f"{variable} is not set"):
        fetch(machine, Cache(tmp_path / "cache"))


def _at(server: Server, folder: Path) -> Machine:
    source = f"  kind: url\n  url: {server.url}/disk.raw.xz\n  checksum_file: {server.url}/CHECKSUM.SHA512\n"
    dialogue = "dialogue: [{type: x}]\n"
    head = "name: m\nabout: a test\nsystem: freebsd\nprocessor: x86_64\nsource:\n"
    return describe(folder, "m", head + source + "boot: {start: disk}\nagent: {delivery: cd}\n" + dialogue)


def test_publisher_that_hardly_answers_is_given_up_soon(
    server: Server, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "CHECKSUMS_WITHIN", 1.0)
    server.files["CHECKSUM.SHA512"] = b"x" * int(40 * PATIENCE)
    server.trickle["CHECKSUM.SHA512"] = 0.05
    started = time.monotonic()
    with pytest.raises(FetchError, match=r"CHECKSUM\.SHA512"):
        fetch(_at(server, tmp_path), cache)
    assert time.monotonic() - started < PATIENCE, "and not the half hour that the image itself may take"


def test_image_that_cannot_be_fetched_is_not_run_with_its_reason(
    server: Server, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("vmatlas_images.run.boot"), "qemu_for", lambda machine: Path("/bin/true"))
    never: Callable[..., object] = lambda *_: pytest.fail("nothing ran")  # noqa: E731
    report = run([_at(server, tmp_path)], never, hello=never, output=tmp_path / "out", cache=cache)  # type: ignore[arg-type]
    (result,) = report.results
    assert result.state is State.NOT_RUN
    assert "404" in result.reason and "CHECKSUM.SHA512" in result.reason
