"""The agent program, as the host sees it.

`Agent` is the program at the other end; `AgentProcess` is a process there that carries out what it is asked (the agent
itself or a child of it), with the operations on its memory that tests make their layouts of. Knows nothing of backends.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from vmatlas.errors import MalformedData, OperationFailed, Unsupported, VmatlasError
from vmatlas.model import Protection
from vmatlas.model.system import ByteOrder
from vmatlas.target.asking import MOST_OF_SOURCE, Answer, Conversation, Limits
from vmatlas.target.streams import ByteStream
from vmatlas.target.wire import (
    HELLO,
    MAX_PAYLOAD,
    STREAM,
    ListedProcess,
    Looked,
    Operation,
    Result,
    pack,
    read_hello,
    read_looked,
    read_processes,
    read_result,
    text8,
    text16,
)

READ_WRITE = Protection.READ | Protection.WRITE

_PAGES = 512, 1 << 24
"""The smallest and the largest page that a machine may have: of the VAX, and 16 MiB."""

_A_REGION = 8192
"""Bytes that what a kernel tells of one region may have: a record of 104, a name of 4,096, a build id."""
_BESIDE = 1 << 17
"""What an answer may have beside what was asked for."""
_LEAST_PAYLOAD = 1024
"""Bytes: no line of ours holds less, and a request that names a file may need as much."""
_WITHOUT_LIMIT = 1 << 21
"""What an answer may have though few regions were asked for: a source of text heeds no limit."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What an agent says of itself and its machine."""

    fields: Mapping[str, str] = field(repr=False)

    def _said(self, key: str) -> str:
        text = self.fields.get(key, "")
        if not text:
            raise Unsupported(f"the agent's hello lacks '{key}': it is no agent of this version")
        return text

    def _number(self, key: str) -> int:
        text = self._said(key)
        if not (text.isascii() and text.isdigit() and len(text) <= 10 and 0 < int(text) < 2**32):
            raise self._malformed(key, "a number of 32 bits above 0")
        return int(text)

    def _malformed(self, key: str, expected: str) -> MalformedData:
        found = self.fields[key].encode("utf-8", "surrogateescape")
        return MalformedData(HELLO, 0, f"'{key}' to be {expected}", found=found)

    @property
    def max_payload(self) -> int:
        """Bytes of payload that a request to it should have at most."""
        told = self._number("max_payload") if "max_payload" in self.fields else MAX_PAYLOAD
        return min(max(told, _LEAST_PAYLOAD), MAX_PAYLOAD)

    def check(self) -> None:
        """Whether it says all that the rest is read by. Raises Unsupported for what lacks, MalformedData."""
        for number in (self.pid, self.page_size, self.pointer_bits, self.byte_order):
            assert number

    @property
    def agent(self) -> str:
        """The agent's version."""
        return self.fields.get("agent", "")

    @property
    def role(self) -> str:
        """ "agent", "child" or "init"."""
        return self.fields.get("role", "")

    @property
    def system(self) -> str:
        """In small letters: "linux"; of a derived system the one that serves it (`systems.names`)."""
        from vmatlas.systems.names import system_called

        return system_called(self.fields.get("system", ""))

    @property
    def pid(self) -> int:
        """The agent's own process id."""
        return self._number("pid")

    @property
    def page_size(self) -> int:
        """Bytes."""
        size = self._number("page_size")
        if size & (size - 1) or not _PAGES[0] <= size <= _PAGES[1]:
            raise self._malformed("page_size", f"a power of two from {_PAGES[0]:,} to {_PAGES[1]:,}")
        return size

    @property
    def byte_order(self) -> ByteOrder:
        """Of the machine."""
        match self._said("byte_order"):
            case "little":
                return "little"
            case "big":
                return "big"
            case _:
                raise self._malformed("byte_order", "'little' or 'big'")

    @property
    def pointer_bits(self) -> int:
        """Of the agent's own process; its kernel may be wider."""
        bits = self._number("pointer_bits")
        if bits not in (32, 64):
            raise self._malformed("pointer_bits", "32 or 64")
        return bits

    @property
    def emulator(self) -> str | None:
        """The program that runs the agent in the kernel's place ("qemu-arm-static"); None: the kernel itself."""
        return self.fields.get("emulator") or None

    @property
    def sources(self) -> frozenset[str]:
        """The sources it can be asked."""
        return frozenset(self.fields.get("sources", "").split())

    @property
    def operations(self) -> frozenset[str]:
        """The operations it knows."""
        return frozenset(self.fields.get("operations", "").split())


class Agent:
    """An agent at the other end of a byte stream."""

    def __init__(self, stream: ByteStream, name: str, limits: Limits | None = None) -> None:
        """Greet it. Raises TargetLost when it does not answer, Unsupported when it speaks another protocol."""
        self.name = name
        self.talk = Conversation(stream, name, limits or Limits())
        """The conversation with it; it counts frames and requests."""
        try:
            self.hello = Hello(read_hello(self.ask(Operation.HELLO).payload))
            self.hello.check()
            self.talk.can_resend = {"pieces", "resend"} <= self.hello.operations
            self.itself = AgentProcess(self, self.hello.pid, 0)
            """The agent's own process."""
        except VmatlasError as error:
            self.close()
            raise error.located(target=name) from None
        except BaseException:
            self.close()
            raise

    def ask(
        self,
        operation: Operation,
        payload: bytes = b"",
        *,
        process: int = 0,
        patience: float = 0.0,
        most: int | None = None,
    ) -> Answer:
        """One request and its whole answer: see `Conversation.ask`."""
        return self.talk.ask(operation, payload, process=process, patience=patience, most=most)

    # ---- what needs no process ----

    def ping(self, payload: bytes = b"") -> bytes:
        """Whether it is there; gives the payload back."""
        return self.ask(Operation.PING, payload).payload

    def processes(self, pid: int = 0) -> list[ListedProcess]:
        """Every process there that the agent sees, or only that one (none, when it is gone)."""
        payload = pack("I", pid) if pid else b""
        return read_processes(self.ask(Operation.PROCESSES, payload).streams.get("processes", b""))

    def write_file(
        self, path: bytes, content: bytes, *, mode: int = 0o644, create: bool = True, new: bool = False
    ) -> Result:
        """Write a file there, in pieces if it is large; the value of the result is all its bytes.

        A `new` one is in the place of no other, nor of a link (EEXIST): for folders that others may write to.
        """
        size, written = min(24_000, self.hello.max_payload * 3 // 4), 0
        for start in range(0, max(len(content), 1), size):
            piece = content[start : start + size]
            flags = 3 if start else 4 if new else 0 if create else 2
            answer = self.ask(Operation.WRITE_FILE, text16(path) + pack("II", mode, flags) + piece)
            result = read_result(answer.payload)
            if not result.ok:
                return result
            written += result.value
        return Result(written)

    def unlink(self, path: bytes) -> Result:
        """Remove a file there."""
        return read_result(self.ask(Operation.UNLINK, text16(path)).payload)

    def read_file(self, path: bytes, limit: int = 0) -> bytes:
        """The content of a file there, at most `limit` bytes (0: all). Raises AgentRefused."""
        most = limit + limit // 64 + _BESIDE if limit else None
        return self.ask(Operation.READ_FILE, text16(path) + pack("Q", limit), most=most).streams.get("file", b"")

    def list_folder(self, path: bytes) -> list[bytes]:
        """The names in a folder there, without `.` and `..`. Raises AgentRefused."""
        names = self.ask(Operation.LIST_FOLDER, text16(path)).streams.get("names", b"").split(b"\0")
        return [name for name in names if name not in (b"", b".", b"..")]

    def stat_file(self, path: bytes) -> Result:
        """The detail of the result is the file's inode number; of a symbolic link, its own."""
        return read_result(self.ask(Operation.STAT_FILE, text16(path)).payload)

    def look_up(self, root: bytes, path: bytes, answering: Mapping[int, int] | None = None) -> Looked:
        """What stands at a path below a root, or what the root itself leads to (an empty path). Linux.

        `answering`: the mounts whose file system may be asked, at most 64, by number the CRC-32 of the line in a
        mountinfo that says so; no other is waited for, nor one that has another line by now.
        """
        mounts = answering or {}
        count = len(mounts)
        payload = text16(root) + text16(path) + pack(f"I{count}Q{count}I", count, *mounts, *mounts.values())
        return read_looked(self.ask(Operation.LOOK_UP, payload).payload)

    def read_link(self, path: bytes) -> bytes:
        """Where a symbolic link there points. Raises AgentRefused."""
        return self.ask(Operation.READ_LINK, text16(path)).streams.get("link", b"")

    def advise_process(
        self, pid: int, ranges: Sequence[tuple[int, int]], advice: int, *, start_time: int = 0, flags: int = 0
    ) -> Result:
        """process_madvise on (address, length) ranges, at most 1,024; ESRCH when the start time is another (0: any)."""
        head = pack("IQIII", pid, start_time, advice, flags, len(ranges))
        payload = head + b"".join(pack("QQ", address, length) for address, length in ranges)
        return read_result(self.ask(Operation.ADVISE_PROCESS, payload).payload)

    def spawn(self, program: bytes = b"") -> AgentProcess:
        """A child of the agent: a fork of it, or `program` (another agent) run as its child.

        Raises OperationFailed when the system refuses.
        """
        result = read_result(self.ask(Operation.SPAWN, text16(program)).payload)
        pid = required(result, f"spawn {program.decode(errors='replace')}".strip())
        if not 0 < pid < 2**32:
            raise MalformedData(STREAM, 0, "the pid of a child", found=str(pid).encode())
        return AgentProcess(self, pid, pid)

    def shutdown(self) -> None:
        """End the agent; an init powers its machine off."""
        self.ask(Operation.SHUTDOWN)
        self.close()

    def close(self) -> None:
        """End the connection, and what was started for it. Safe to call twice."""
        self.talk.close()

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def required(result: Result, what: str) -> int:
    """The value of a call that must have succeeded. Raises OperationFailed."""
    if not result.ok:
        raise OperationFailed(
            f"{what} failed on the target: {result.errno_name}", errno=result.errno, errno_name=result.errno_name
        )
    return result.value


class MapFlag(enum.IntFlag):
    """How to map. Private unless SHARED."""

    NONE = 0
    SHARED = 1
    FIXED = 2
    FIXED_NOT_OVER = 4
    NO_RESERVE = 8
    POPULATE = 16
    GROWS_DOWN = 32
    LOCKED = 64
    HUGE = 128
    STACK = 256


class MapObject(enum.IntEnum):
    """What to map."""

    ANONYMOUS = 0
    FILE = 1
    MEMORY = 2
    """memfd, called `name`."""
    SHARED_MEMORY = 3
    """POSIX shared memory called `name` (it begins with a slash), whose name is removed again."""
    SYSTEM_V = 4


class WatchMode(enum.IntFlag):
    """What a userfaultfd answers for."""

    MISSING = 1
    WRITE_PROTECT = 2
    MINOR = 4


@dataclass(frozen=True, slots=True)
class AgentProcess:
    """A process there that carries out what it is asked: the agent itself, or a child of it.

    Values and errno of the results are those of the call on the target.
    """

    agent: Agent
    pid: int
    _process: int

    def ask(
        self, operation: Operation, payload: bytes = b"", *, patience: float = 0.0, most: int | None = None
    ) -> Answer:
        """Any operation, carried out by this process."""
        return self.agent.ask(operation, payload, process=self._process, patience=patience, most=most)

    def _call(self, operation: Operation, payload: bytes) -> Result:
        return read_result(self.ask(operation, payload).payload)

    # ---- maps ----

    def acquire(
        self,
        source: str,
        pid: int = 0,
        *,
        tid: int = 0,
        flags: int = 0,
        address: int = 0,
        end: int = 0,
        limit: int = 0,
        names: bool = True,
        build_ids: bool = False,
    ) -> Mapping[str, bytes]:
        """The streams of a source about a process (0: this one), read with this process's rights.

        Raises AgentRefused, which carries the streams that came before the error.
        """
        want = (1 if names else 0) | (2 if build_ids else 0)
        payload = text8(source.encode()) + pack("IIQQQII", pid, tid, flags, address, end, limit, want)
        most = limit * _A_REGION + _WITHOUT_LIMIT if limit else MOST_OF_SOURCE.get(source)
        return self.ask(Operation.ACQUIRE, payload, most=most).streams

    def query(
        self,
        source: str,
        addresses: Sequence[int],
        pid: int = 0,
        *,
        tid: int = 0,
        flags: int = 0,
        names: bool = True,
        build_ids: bool = False,
    ) -> Mapping[str, bytes]:
        """Single addresses, at most 4,000: the streams `errnos` and `vmas`. Raises AgentRefused."""
        want = (1 if names else 0) | (2 if build_ids else 0)
        head = text8(source.encode()) + pack("IIQII", pid, tid, flags, want, len(addresses))
        most = len(addresses) * _A_REGION + _BESIDE
        return self.ask(Operation.QUERY, head + pack(f"{len(addresses)}Q", *addresses), most=most).streams

    def query_ranges(
        self, source: str, ranges: Sequence[tuple[int, int]], pid: int = 0, *, tid: int = 0, flags: int = 0
    ) -> Mapping[str, bytes]:
        """Ranges of addresses, [start, end), at most 2,000: the streams of a source about them. Raises AgentRefused."""
        bounds = [bound for each in ranges for bound in each]
        head = text8(source.encode()) + pack("IIQII", pid, tid, flags, 0, len(bounds))
        return self.ask(Operation.QUERY, head + pack(f"{len(bounds)}Q", *bounds)).streams

    # ---- its memory ----

    def map(
        self,
        length: int,
        *,
        address: int = 0,
        protection: Protection = READ_WRITE,
        flags: MapFlag = MapFlag.NONE,
        source: MapObject = MapObject.ANONYMOUS,
        name: bytes = b"",
        offset: int = 0,
        system_flags: int = 0,
    ) -> Result:
        """mmap (for SYSTEM_V shmat): the value is the address. `system_flags` are added as the system numbers them."""
        numbers = pack("QQIIIBQ", address, length, protection, flags, system_flags, source, offset)
        return _as_address(self._call(Operation.MAP, numbers + text16(name)), length)

    def unmap(self, address: int, length: int) -> Result:
        """munmap."""
        return self._call(Operation.UNMAP, pack("QQ", address, length))

    def protect(self, address: int, length: int, protection: Protection) -> Result:
        """mprotect."""
        return self._call(Operation.PROTECT, pack("QQI", address, length, protection))

    def protect_every(self, address: int, length: int, step: int, size: int, protection: Protection) -> Result:
        """mprotect on `size` bytes at every `step` of the range: the value is how often."""
        return self._call(Operation.PROTECT_EVERY, pack("QQQQI", address, length, step, size, protection))

    def lock(self, address: int, length: int, *, on_fault: bool = False) -> Result:
        """mlock."""
        return self._call(Operation.LOCK, pack("QQI", address, length, on_fault))

    def unlock(self, address: int, length: int) -> Result:
        """munlock."""
        return self._call(Operation.UNLOCK, pack("QQ", address, length))

    def lock_all(self, *, current: bool = True, future: bool = False, on_fault: bool = False) -> Result:
        """mlockall; with nothing asked for, munlockall."""
        return self._call(Operation.LOCK_ALL, pack("I", current | future << 1 | on_fault << 2))

    def advise(self, address: int, length: int, advice: int) -> Result:
        """madvise, with the system's own number."""
        return self._call(Operation.ADVISE, pack("QQI", address, length, advice))

    def move(self, address: int, size: int, new_size: int, *, flags: int, to: int = 0) -> Result:
        """mremap, with its own flags (MAYMOVE 1, FIXED 2, DONTUNMAP 4): the value is the address."""
        return _as_address(self._call(Operation.MOVE, pack("QQQIQ", address, size, new_size, flags, to)), new_size)

    def flush(
        self,
        address: int,
        length: int,
        *,
        synchronous: bool = True,
        asynchronous: bool = False,
        invalidate: bool = False,
    ) -> Result:
        """msync."""
        flags = asynchronous | invalidate << 1 | synchronous << 2
        return self._call(Operation.FLUSH, pack("QQI", address, length, flags))

    def watch(self, address: int, length: int, mode: WatchMode) -> Result:
        """Register a range with a userfaultfd (Linux): the value is the descriptor that `unwatch` takes.

        A fault in it is EFAULT, since nobody answers it. A kernel refuses to move such a range together with others.
        """
        return self._call(Operation.WATCH, pack("QQI", address, length, mode))

    def unwatch(self, descriptor: int) -> Result:
        """Close that userfaultfd."""
        return self._call(Operation.UNWATCH, pack("I", descriptor))

    def touch(self, address: int, length: int, *, write: int | None = None) -> Result:
        """Read one byte of each page, or write the byte `write`. A fault is EFAULT, its address in `detail`."""
        return self._call(Operation.TOUCH, pack("QQBB", address, length, write is not None, write or 0))

    def name(self, address: int, length: int, name: bytes) -> Result:
        """Name anonymous memory (Linux 5.17 and newer, where it is built in)."""
        return self._call(Operation.NAME, pack("QQ", address, length) + text8(name))

    def peek(self, address: int, length: int) -> bytes:
        """Bytes of its memory. Raises AgentRefused (EFAULT)."""
        request = pack("QI", address, length)
        return self.ask(Operation.PEEK, request, most=length + length // 64 + _BESIDE).streams.get("memory", b"")

    def poke(self, address: int, content: bytes) -> Result:
        """Write bytes to its memory, at most some 32,000."""
        return self._call(Operation.POKE, pack("Q", address) + content)

    # ---- its life ----

    def sleep(self, seconds: float) -> None:
        """Do nothing, for at most 60 s."""
        self.ask(Operation.SLEEP, pack("I", int(seconds * 1000)), patience=seconds)

    def become(self, user: int, group: int) -> Result:
        """Take the rights of another user; for a child."""
        return self._call(Operation.BECOME, pack("II", user, group))

    def limit(self, resource: int, soft: int | None, hard: int | None) -> Result:
        """setrlimit, with the system's number of the resource (None: no limit); for a child."""
        most = 2**64 - 1
        values = (most if limit is None else limit for limit in (soft, hard))
        return self._call(Operation.LIMIT, pack("IQQ", resource, *values))

    def end(self, signal: int = 9) -> Result:
        """Send a child of the agent a signal. Until it is reaped it is a zombie."""
        return read_result(self.agent.ask(Operation.END, pack("II", self.pid, signal)).payload)

    def reap(self, seconds: float = 5.0) -> Result:
        """Wait for a child of the agent to end.

        The value is its pid, or 0 when it still runs; `detail` is the wait status.
        """
        payload = pack("II", self.pid, int(seconds * 1000))
        return read_result(self.agent.ask(Operation.REAP, payload, patience=seconds).payload)


def _as_address(result: Result, size: int) -> Result:
    """The same, its value as the address of so many bytes. Raises MalformedData where these have no room there."""
    if not result.ok:
        return result
    address = result.value % 2**64
    if address + size > 2**64:
        raise MalformedData(STREAM, 0, f"an address at which {size:,} bytes have room", found=b"%#x" % address)
    return replace(result, value=address)
