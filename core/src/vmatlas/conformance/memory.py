"""Memory operations on a process of a target: an agent's requests under the contract of `vmatlas.operations`.

So the rules of core (placement, ownership, moves that stop) run on every kernel that an agent runs on. There are no
buffers: the memory is not this process's.
"""

from __future__ import annotations

from vmatlas import api
from vmatlas.backend import Target
from vmatlas.errors import OperationFailed, Unsupported
from vmatlas.model import AddressSpace, Protection, Region
from vmatlas.operations import Memory
from vmatlas.operations.contract import Ability, Operations
from vmatlas.operations.systems import operations_of
from vmatlas.operations.values import Advice
from vmatlas.target.agent import AgentProcess, MapFlag
from vmatlas.target.asking import AgentRefused
from vmatlas.target.wire import Result

_MAYMOVE, _FIXED, _DONTUNMAP = 1, 2, 4
"""mremap(2)."""


def _checked(result: Result, what: str) -> int:
    if not result.ok:
        raise OperationFailed(f"{what}: {result.errno_name}", errno=result.errno, errno_name=result.errno_name)
    return result.value


class AgentCalls:
    """The memory calls of a process that an agent commands."""

    def __init__(self, worker: AgentProcess, operations: Operations) -> None:
        """`operations`: what is known of the target's system."""
        self.worker = worker
        self._operations = operations
        self.system = operations.system
        self.abilities = operations.abilities & ~(Ability.BUFFERS | Ability.MEMORY_OBJECT | Ability.SHARED_OBJECT)
        self.occupied = operations.occupied
        self.promises = operations.promises
        self.lock_resource = operations.lock_resource_of(worker.agent.hello.fields.get("machine", ""))
        self.stacks_grow = False  # they do on some, but an agent's is not called deep

    @property
    def page_size(self) -> int:
        """Bytes, on the target."""
        return self.worker.agent.hello.page_size

    @property
    def address_bits(self) -> int:
        """Of the agent's own kind of process."""
        return self.worker.agent.hello.pointer_bits

    def lacks(self, ability: Ability) -> str:
        """As the plugin says, or what comes of its being far away."""
        return "the memory is another machine's" if ability is Ability.BUFFERS else self._operations.lacks(ability)

    def advice_number(self, advice: Advice) -> int | None:
        """The system's."""
        return self._operations.advice_number(advice)

    def why_unasked(self, advice: Advice) -> str | None:
        """As the plugin says."""
        return self._operations.why_unasked(advice)

    def range_refused(self, refusal: OperationFailed, advice: Advice) -> str:
        """The system's story."""
        return self._operations.range_refused(refusal, advice)

    def why_unmovable(self, region: Region) -> str | None:
        """By the system's rules."""
        return self._operations.why_unmovable(region)

    def lock_limit(self) -> tuple[int, int | None] | None:
        """An agent does not tell."""
        return None

    def locked_bytes(self) -> int | None:
        """An agent does not tell."""
        return None

    def region_count(self) -> tuple[int, int] | None:
        """An agent does not tell."""
        return None

    def map(
        self, address: int, size: int, protection: Protection, flags: MapFlag, descriptor: int = -1, offset: int = 0
    ) -> int:
        """mmap of anonymous memory."""
        assert descriptor < 0, "an agent maps by name, not by descriptor"
        try:
            return _checked(self.worker.map(size, address=address, protection=protection, flags=flags), "mmap")
        except AgentRefused as refused:
            if refused.errno_name != "ENOTSUP":
                raise
            raise Unsupported(f"{self.system} cannot map with {flags!r}") from refused

    def unmap(self, address: int, size: int) -> None:
        """munmap."""
        _checked(self.worker.unmap(address, size), "munmap")

    def protect(self, address: int, size: int, protection: Protection) -> None:
        """mprotect."""
        _checked(self.worker.protect(address, size, protection), "mprotect")

    def lock(self, address: int, size: int, on_fault: bool) -> None:
        """mlock, mlock2."""
        _checked(self.worker.lock(address, size, on_fault=on_fault), "mlock")

    def unlock(self, address: int, size: int) -> None:
        """munlock."""
        _checked(self.worker.unlock(address, size), "munlock")

    def lock_all(self, current: bool, future: bool, on_fault: bool) -> None:
        """mlockall."""
        _checked(self.worker.lock_all(current=current, future=future, on_fault=on_fault), "mlockall")

    def unlock_all(self) -> None:
        """munlockall."""
        _checked(self.worker.lock_all(current=False), "munlockall")

    def flush(self, address: int, size: int, wait: bool, invalidate: bool) -> None:
        """msync."""
        _checked(
            self.worker.flush(address, size, synchronous=wait, asynchronous=not wait, invalidate=invalidate), "msync"
        )

    def advise(self, address: int, size: int, number: int) -> None:
        """madvise."""
        _checked(self.worker.advise(address, size, number), "madvise")

    def move(self, address: int, size: int, new_size: int, to: int | None, may_move: bool, keep_old: bool) -> int:
        """mremap."""
        flags = _MAYMOVE if may_move or to is not None or keep_old else 0
        flags |= (_FIXED if to is not None else 0) | (_DONTUNMAP if keep_old else 0)
        return _checked(self.worker.move(address, size, new_size, flags=flags, to=to or 0), "mremap")


def memory_of(worker: AgentProcess, reader: Target) -> Memory:
    """The memory of a process that an agent commands, whose map the reader tells.

    Raises Unsupported when no plugin with its system's operations is installed.
    """

    def read_map() -> AddressSpace:
        try:
            return api.snapshot(worker.pid, target=reader, residency=True)
        except Unsupported:
            return api.snapshot(worker.pid, target=reader)

    return Memory(AgentCalls(worker, operations_of(worker.agent.hello.system)), read_map)
