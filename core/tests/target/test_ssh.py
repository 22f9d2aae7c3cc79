"""`ssh:` against a real sshd on loopback, with keys, port and configuration of its own."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

import vmatlas
from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import TargetLost, Unsupported, UsageError
from vmatlas.target.agent import AgentTarget
from vmatlas.target.asking import Limits
from vmatlas.target.connect import connect
from vmatlas.target.ssh import command_for, connect_by_ssh

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


@dataclass
class Server:
    """A running sshd."""

    port: int
    temporary: Path
    """TMPDIR of its sessions."""
    config: Path

    @property
    def url(self) -> str:
        return f"ssh:{getpass.getuser()}@127.0.0.1:{self.port}"

    def left_over(self) -> list[str]:
        """What sessions left behind, once they had time to clean up."""
        until = time.monotonic() + PATIENCE
        while (left := os.listdir(self.temporary)) and time.monotonic() < until:
            time.sleep(0.05)
        return left


def listening(folder: Path) -> tuple[subprocess.Popen[bytes] | None, int]:
    """An sshd and its port; None where another program was faster to take the port that was free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "log"
    with log.open("wb") as said:
        command = [str(SSHD), "-D", "-e", "-f", folder / "sshd_config", "-p", str(port)]
        child = subprocess.Popen(command, stderr=said)
    until = time.monotonic() + PATIENCE
    while f"Server listening on 127.0.0.1 port {port}." not in (text := log.read_text()):
        if child.poll() is not None and "Address already in use" in text:
            return None, port
        assert child.poll() is None and time.monotonic() < until, text
        time.sleep(0.05)
    return child, port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, binary: Path) -> Iterator[Server]:
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("no sshd or no ssh here: apt-get install openssh-server openssh-client")
    shell = pwd.getpwuid(os.geteuid()).pw_shell
    if Path(shell).name in ("nologin", "false"):
        pytest.skip(f"the user {getpass.getuser()} has no shell to log in to ({shell})")
    folder = tmp_path_factory.mktemp("sshd")
    temporary = folder / "tmp"
    temporary.mkdir()
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True, timeout=PATIENCE
        )
    shutil.copy(folder / "user.pub", folder / "authorized")
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\nPermitRootLogin yes\n"
        f"SetEnv TMPDIR={temporary}\n"
    )
    (folder / "ssh_config").write_text(
        f"Host *\nIdentityFile {folder}/user\nIdentitiesOnly yes\nStrictHostKeyChecking accept-new\n"
        f"UserKnownHostsFile {folder}/known\nBatchMode yes\nLogLevel ERROR\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    for _ in range(10):
        child, port = listening(folder)
        if child is not None:
            break
    else:
        pytest.fail((folder / "log").read_text())
    try:
        yield Server(port, temporary, folder / "ssh_config")
    finally:
        child.terminate()
        child.wait(PATIENCE)


@pytest.fixture(autouse=True)
def configured(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An `ssh` that reads the test's own configuration, found first in PATH."""
    if "server" not in request.fixturenames:
        return
    server = request.getfixturevalue("server")
    wrapper = tmp_path / "bin" / "ssh"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {server.config} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")


def test_the_map_of_a_process_is_read_by_ssh(server: Server) -> None:
    still = [sys.executable, "-c", "import os; os.write(1, b'\\n'); os.read(0, 1)"]
    sleeper = subprocess.Popen(still, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert sleeper.stdout is not None and sleeper.stdout.readline()
        target = connect(server.url)
        with vmatlas.open(sleeper.pid, target=target) as process:
            assert [(region.start, region.path) for region in process.snapshot()] == [
                (region.start, region.path) for region in vmatlas.snapshot(sleeper.pid)
            ]
        assert target.name == server.url
        assert os.listdir(server.temporary), "the agent lies there while it runs"
        target.close()
    finally:
        sleeper.kill()
        sleeper.communicate()
    assert server.left_over() == []


def test_nothing_is_left_when_the_host_is_killed(server: Server) -> None:
    program = (
        "import sys, time\nfrom vmatlas.target.connect import connect\n"
        f"target = connect({server.url!r})\ntarget.agent.spawn()\n"
        "print(target.agent.hello.pid, flush=True)\ntime.sleep(3600)\n"
    )
    host = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert host.stdout
    pid = int(host.stdout.readline())
    host.kill()
    host.communicate()
    assert server.left_over() == []
    until = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < until, "the agent lives on"
        time.sleep(0.05)


def test_an_agent_that_is_killed_there_is_a_lost_target_and_is_removed(server: Server) -> None:
    target = connect(server.url, Limits(silence=2 * PATIENCE))
    assert isinstance(target, AgentTarget)
    os.kill(target.agent.hello.pid, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(TargetLost):
        target.agent.ping()
    assert time.monotonic() - began < PATIENCE
    target.close()
    assert server.left_over() == []


def test_no_right_to_log_in_is_said_with_what_ssh_says(server: Server) -> None:
    with pytest.raises(TargetLost, match="ended with exit code 255") as lost:
        connect(f"ssh:nobody-of-that-name@127.0.0.1:{server.port}")
    assert "Permission denied" in lost.value.last_words
    assert lost.value.hint and "ssh alone" in lost.value.hint


def test_nobody_listening_is_said(server: Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(TargetLost, match="ended with exit code 255") as lost:
            connect(f"ssh:127.0.0.1:{unused.getsockname()[1]}")
    assert "Connection refused" in lost.value.last_words


def test_no_agent_for_that_machine_names_the_command_that_builds_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import vmatlas_agents

    monkeypatch.setattr(vmatlas_agents, "BUILT", tmp_path)
    with pytest.raises(Unsupported, match=r"is not built: python -m vmatlas_agents\.build --target"):
        connect(server.url)
    assert server.left_over() == []


@pytest.mark.parametrize(
    ("destination", "port", "host"),
    [
        ("board", None, "board"),
        ("root@board", None, "root@board"),
        ("root@board:2222", "2222", "root@board"),
        ("root@[fe80::1]:2222", "2222", "root@fe80::1"),
        ("fe80::1", None, "fe80::1"),
    ],
)
def test_destinations(monkeypatch: pytest.MonkeyPatch, destination: str, port: str | None, host: str) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    command = command_for(destination)
    assert command[command.index("--") + 1] == host
    assert (command[command.index("-p") + 1] if "-p" in command else None) == port


def test_an_agent_that_is_kept_is_sent_once_and_run_from_there(server: Server, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    rest = f"{server.url.removeprefix('ssh:')}?folder={tmp_path}"
    kept: list[tuple[str, int]] = []
    for _ in range(2):
        target = connect_by_ssh(rest, Limits(), asks=False, keeps=True)
        assert target.system_info.system == "linux"
        target.close()
        (agent,) = (tmp_path / "vmatlas").iterdir()
        kept.append((agent.name, agent.stat().st_mtime_ns))
    assert kept[0] == kept[1]
    assert agent.name == f"agent-{sha256(agent.read_bytes()).hexdigest()}"
    assert agent.stat().st_mode & 0o777 == 0o700 and agent.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder to another user takes root")
def test_an_agent_is_kept_in_no_folder_of_another_user(server: Server, tmp_path: Path) -> None:
    (tmp_path / "vmatlas").mkdir()
    os.chown(tmp_path / "vmatlas", 65534, 65534)
    rest = f"{server.url.removeprefix('ssh:')}?folder={tmp_path}"
    with pytest.raises(TargetLost) as lost:
        connect_by_ssh(rest, Limits(), keeps=True)
    assert "is of another user" in lost.value.last_words


@pytest.fixture
def keeping(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, binary: Path) -> str:
    """What follows "ssh:", where `ssh` runs here what it is to run there, in a folder that others may write to."""
    programs, shared = tmp_path / "bin", tmp_path / "shared"
    programs.mkdir()
    shared.mkdir()
    shared.chmod(0o1777)
    (programs / "ssh").write_text('#!/bin/bash\nexec sh -c "${@: -1}"\n')
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return f"board?folder={shared}"


def planted(tmp_path: Path, name: Path) -> Path:
    """A program in the place of an agent that is kept; gives what it would leave if it were run."""
    run = tmp_path / "it was run"
    name.write_text(f"#!/bin/sh\n: >'{run}'\n")
    name.chmod(0o755)
    return run


def agent_name() -> str:
    import platform

    import vmatlas_agents

    return f"agent-{sha256(vmatlas_agents.path('Linux', platform.machine()).read_bytes()).hexdigest()}"


@pytest.mark.parametrize("mode", [0o700, 0o1777])
def test_an_agent_is_kept_in_no_folder_that_a_link_leads_to(keeping: str, tmp_path: Path, mode: int) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(mode)
    (tmp_path / "shared" / "vmatlas").symlink_to(elsewhere)
    run = planted(tmp_path, elsewhere / agent_name())
    with pytest.raises(TargetLost) as lost:
        connect_by_ssh(keeping, Limits(), keeps=True)
    assert "vmatlas is a link" in lost.value.last_words
    assert not run.exists() and len(list(elsewhere.iterdir())) == 1


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_an_agent_is_kept_in_no_folder_that_others_may_write_to(keeping: str, tmp_path: Path, mode: int) -> None:
    (tmp_path / "shared" / "vmatlas").mkdir()
    (tmp_path / "shared" / "vmatlas").chmod(mode)
    run = planted(tmp_path, tmp_path / "shared" / "vmatlas" / agent_name())
    with pytest.raises(TargetLost) as lost:
        connect_by_ssh(keeping, Limits(), keeps=True)
    assert "may be written to by others" in lost.value.last_words
    assert not run.exists()


@pytest.mark.parametrize("what", ["another", "link", "writable", "folder", "link to a folder", "of its size"])
def test_what_is_there_and_is_not_the_agent_that_was_kept_is_sent_anew(keeping: str, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "shared" / "vmatlas"
    folder.mkdir(0o700)
    kept = folder / agent_name()
    run = planted(tmp_path, tmp_path / "program" if what == "link" else kept)
    if what == "link":
        kept.symlink_to(tmp_path / "program")
    elif what == "writable":
        connect_by_ssh(keeping, Limits(), keeps=True).close()
        kept.chmod(0o777)
    elif what == "folder":
        kept.unlink()
        kept.mkdir()
        (kept / "x").touch()
    elif what == "link to a folder":
        kept.unlink()
        kept.symlink_to(tmp_path)
    elif what == "of its size":
        if shutil.which("sha256sum") is None:
            pytest.skip("no sha256sum here: the size alone is looked at")
        kept.unlink()
        connect_by_ssh(keeping, Limits(), keeps=True).close()
        size = kept.stat().st_size
        planted(tmp_path, kept)
        os.truncate(kept, size)
    target = connect_by_ssh(keeping, Limits(), keeps=True)
    assert target.system_info.system == "linux"
    target.close()
    assert not run.exists()
    assert [each.name for each in folder.iterdir()] == [kept.name]
    assert not kept.is_symlink() and kept.stat().st_mode & 0o777 == 0o700
    assert f"agent-{sha256(kept.read_bytes()).hexdigest()}" == kept.name


@pytest.mark.skipif(os.geteuid() != 0, reason="a folder of another user takes root")
def test_an_agent_is_run_from_no_folder_that_somebody_put_in_the_place_of_the_one_that_was_made(
    keeping: str, tmp_path: Path
) -> None:
    chosen = tmp_path / "shared" / "theirs"
    (tmp_path / "bin" / "mktemp").write_text(f"#!/bin/sh\nmkdir '{chosen}'; chown 65534 '{chosen}'; echo '{chosen}'\n")
    (tmp_path / "bin" / "mktemp").chmod(0o755)
    with pytest.raises(TargetLost) as lost:
        connect_by_ssh(keeping, Limits())
    assert "is of another user" in lost.value.last_words


@pytest.mark.parametrize("destination", ["-oProxyCommand=touch /tmp/x", "a host", ":22", ""])
def test_what_ssh_would_take_for_an_option_is_refused(destination: str) -> None:
    with pytest.raises(UsageError):
        command_for(destination)


def test_a_host_without_ssh_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Unsupported, match="no ssh here"):
        command_for("board")
