"""OpenSSH against asyncssh: `python -P -m tests.bench.ssh_clients` (takes root, and asyncssh, installed for it alone).

Sessions to real sshd's, each in a network namespace of its own, without and with the delay of a wire: each logs in by a
key, runs a command that waits for a line, sends it 64 KB (an agent), and talks with it thirty times, a small frame each
way, as recording ten processes does. What one session takes, and so many at once; and what that costs this side's
processors (of a connection that is kept: without what its master takes).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.bench.namespaces import Sshds
from tests.bench.relay import Relay

SIZE = 65_536
TALKS = 30
FRAME = b"x" * 63 + b"\n"
THERE = "read -r size; head -c $size >/dev/null; echo ready; exec cat"


def by_openssh(port: int, *options: str) -> None:
    usual = ["ssh", "-T", "-e", "none", "-o", "BatchMode=yes"]
    command = [*usual, *options, "-p", str(port), "--", "127.0.0.1", THERE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(b"%d\n" % SIZE)
        child.stdin.write(b"a" * SIZE)
        _expect(child.stdout.read, b"ready\n")
        for _ in range(TALKS):
            child.stdin.write(FRAME)
            _expect(child.stdout.read, FRAME)


def _expect(read: Callable[[int], bytes | None], wanted: bytes) -> None:
    got = b""
    while len(got) < len(wanted):
        piece = read(len(wanted) - len(got))
        assert piece, "the session ended"
        got += piece
    assert got == wanted


class Asyncssh:
    """Its sessions all live in one loop, in a thread, as they would beside the threads that record."""

    def __init__(self, folder: Path) -> None:
        import asyncssh

        self._library = asyncssh
        self._key = str(folder / "user")
        self._known = str(folder / "known")
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def __call__(self, port: int) -> None:
        asyncio.run_coroutine_threadsafe(self._talk(port), self._loop).result(300)

    async def _talk(self, port: int) -> None:
        async with (
            self._library.connect(
                "127.0.0.1", port, username="root", client_keys=[self._key], known_hosts=self._known, config=None
            ) as connection,
            connection.create_process(THERE, encoding=None) as process,
        ):
            process.stdin.write(b"%d\n" % SIZE)
            process.stdin.write(b"a" * SIZE)
            assert await process.stdout.readexactly(6) == b"ready\n"
            for _ in range(TALKS):
                process.stdin.write(FRAME)
                assert await process.stdout.readexactly(len(FRAME)) == FRAME
            process.stdin.write_eof()


def _cost() -> float:
    """Seconds of a processor that this program and its children that ended took. sshd's are not ended meanwhile."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def measured(client: Callable[[int], None], ports: list[int], at_once: int) -> tuple[float, float, float]:
    """Seconds of one alone (the least of three), of all, and of a processor a session."""
    alone = []
    for port in ports[:3]:
        began = time.monotonic()
        client(port)
        alone.append(time.monotonic() - began)
    began, cost = time.monotonic(), _cost()
    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(client, ports))
    return min(alone), time.monotonic() - began, (_cost() - cost) / len(ports)


def main() -> None:
    """Both, in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        place = Path(folder) / "sshd"
        sshds = Sshds(place, options.hosts)
        stack.callback(sshds.end)
        keeps = ("-o", "ControlMaster=auto", "-o", f"ControlPath={place}/%p", "-o", "ControlPersist=60")

        def over_what_is_kept(port: int) -> None:
            by_openssh(port, *keeps)

        clients = {"OpenSSH": by_openssh, "asyncssh": Asyncssh(place), "OpenSSH, multiplexed": over_what_is_kept}
        key = (place / "host.pub").read_text()
        for milliseconds in (0, 50):
            relay = Relay(milliseconds / 1000, "to", *(f"{host}:22" for host in sshds.hosts))
            stack.callback(relay.end)
            lines = [f"[127.0.0.1]:{port} {key.strip()}" for port in relay.ports]
            (place / "known").write_text("\n".join(lines) + "\n")
            with ThreadPoolExecutor(options.concurrency) as threads:
                list(threads.map(over_what_is_kept, relay.ports))  # as the recording before has left it
            for number in range(options.rounds):
                for name, client in clients.items():
                    alone, all_of_them, cost = measured(client, relay.ports, options.concurrency)
                    print(
                        f"{milliseconds} ms, round {number + 1}, {name}: one alone {alone:.2f} s; {options.hosts}, "
                        f"{options.concurrency} at once, {all_of_them:.1f} s; {1000 * cost:.0f} ms of a processor each",
                        flush=True,
                    )
    os._exit(0)  # the loop of asyncssh has nothing more to say


if __name__ == "__main__":
    main()
