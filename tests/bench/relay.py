"""A wire that delays, as a program: `python -P -m tests.bench.relay SECONDS agent PATH`, or `SECONDS to ADDRESS...`.

Listens on loopback and says on which ports, as JSON in a line: one, behind which a new agent answers each, or
one for each address HOST:PORT, to which it connects. What comes is passed on half of the time later, each way; the time
between two pieces stays as it is. It ends with its input. A program of its own, so that what it costs is not counted
with those who speak through it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class _Sink(Protocol):
    def write(self, data: bytes) -> object: ...
    def close(self) -> object: ...
    async def drain(self) -> None: ...


async def _late(reader: asyncio.StreamReader, writer: _Sink, seconds: float) -> None:
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def pass_on() -> None:
        while True:
            due, piece = await pieces.get()
            await asyncio.sleep(max(due - time.monotonic(), 0))
            if not piece:
                writer.close()
                return
            writer.write(piece)
            await writer.drain()

    passing = asyncio.create_task(pass_on())
    while True:
        piece = await reader.read(1 << 16)
        await pieces.put((time.monotonic() + seconds / 2, piece))
        if not piece:
            break
    await passing


def _to_an_agent(path: str, seconds: float) -> Connected:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        agent = await asyncio.create_subprocess_exec(
            path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert agent.stdin is not None and agent.stdout is not None
        await asyncio.gather(
            _late(reader, agent.stdin, seconds), _late(agent.stdout, writer, seconds), return_exceptions=True
        )
        agent.stdin.close()  # it ends with its input
        await agent.wait()

    return connected


def _to_an_address(host: str, port: int, seconds: float) -> Connected:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)  # what a connection takes to be made
        there, back = await asyncio.open_connection(host, port)
        await asyncio.gather(_late(reader, back, seconds), _late(there, writer, seconds), return_exceptions=True)

    return connected


async def _serve(seconds: float, kind: str, words: list[str]) -> None:
    if kind == "agent":
        ways = [_to_an_agent(words[0], seconds)]
    else:
        ways = [_to_an_address(host, int(port), seconds) for host, _, port in (word.rpartition(":") for word in words)]
    servers = [await asyncio.start_server(way, "127.0.0.1", 0, backlog=1024) for way in ways]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


class Relay:
    """Such a program, and its ports; ended by `end`."""

    def __init__(self, seconds: float, kind: str, *words: str | Path) -> None:
        command = [sys.executable, "-P", "-m", "tests.bench.relay", str(seconds), kind, *map(str, words)]
        self._program = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        assert self._program.stdout is not None
        self.ports: list[int] = json.loads(self._program.stdout.readline())

    def end(self) -> None:
        """End it, and who speaks through it."""
        self._program.kill()
        self._program.communicate()


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1]), sys.argv[2], sys.argv[3:]))
