"""Who ends when, and what has its room: views in dead cycles, copies, forks, threads, names, stacks.

What would crash does so in a child.
"""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
from errno import ENOSPC

import pytest

import vmatlas
from vmatlas import compiled, operations
from vmatlas.conformance.patience import PATIENCE
from vmatlas.operations import Advice, buffers

PAGE = os.sysconf("SC_PAGESIZE")

CYCLE = """
import gc, vmatlas
from vmatlas import operations

class Owner:
    def __init__(self, mapping):
        self.mapping, self.view, self.itself = mapping, mapping.buffer, self
    def __del__(self):
        at_the_end(self)

def touch(owner):
    owner.view[0] = 1
    print("touched")

def close(owner):
    try:
        owner.mapping.close()
    except operations.BufferInUse:
        pass
    touch(owner)

def revive(owner):
    global revived
    revived = owner

def lies(address):  # something else may lie there by now: Linux 6.1 fills the hole with the next thing that is mapped
    region = vmatlas.snapshot().find(address)
    return region is not None and region.shared

gc.disable()
mapping = operations.map_anonymous(1 << 20, shared=True)   # which nothing merges with
address = mapping.address
"""


compiled_only = pytest.mark.skipif(
    not compiled.twin(buffers.MODULE).serves,
    reason=f"the compiled exporter does not serve here: {compiled.twin(buffers.MODULE).reason}",
)
either_exporter = pytest.mark.parametrize("pure", [pytest.param(False, marks=compiled_only), True])


def lives(code: str, *, pure: bool | None = None) -> list[str]:
    environment = os.environ if pure is None else os.environ | {compiled.FORCE: str(int(pure))}
    command = [sys.executable, "-c", CYCLE + code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@either_exporter
@pytest.mark.parametrize("at_the_end", ["touch", "close"])
@pytest.mark.parametrize("first", ["the mapping", "its owner"])
def test_finalizer_of_a_dead_cycle_may_touch_its_view_and_the_memory_goes_after_it(
    at_the_end: str, first: str, pure: bool
) -> None:
    """The collector runs the finalizers of a cycle in the order in which its objects came to be."""
    made = "Owner(mapping)" if first == "the mapping" else "Owner(operations.map_anonymous(1 << 20, shared=True))"
    code = f"""
at_the_end = {at_the_end}
owner = {made}
address = owner.mapping.address
del owner, mapping
gc.collect()
operations.map_anonymous(4096).close()
print(lies(address))
"""
    assert lives(code, pure=pure) == ["touched", "False"]


@compiled_only
@pytest.mark.parametrize(
    "code",
    [
        """
mapping = operations.map_anonymous(4096, protection=vmatlas.Protection.READ)
exporter = mapping.buffer.obj
try:
    exporter[0] = 1                 # memory that cannot be written
except TypeError:
    print("nothing")
""",
        """
exporter = mapping.buffer.obj
try:
    vars(exporter).clear()          # what kept the memory there
except TypeError:
    print("nothing")
mapping.close()
try:
    exporter[0]
except TypeError:
    pass
""",
        """
view = mapping.buffer
exporter = view.obj
if hasattr(exporter, "__release_buffer__"):         # Python 3.12
    exporter.__release_buffer__(memoryview(exporter))
part = view[8:]
view.release()
try:
    mapping.close()
except operations.BufferInUse:
    part[0] = 1
    part.release()
mapping.close()
try:
    memoryview(exporter)[0]
except BufferError:
    print("nothing")
""",
    ],
    ids=["a write to what is read-only", "a read of what was closed", "a new view of what was closed"],
)
def test_exporter_of_a_buffer_does_not_crash_the_interpreter(code: str) -> None:
    assert lives(code, pure=False) == ["nothing"]


@either_exporter
@pytest.mark.parametrize("where", ["a global", "builtins", "a cycle with a finalizer", "a thread that goes on"])
def test_view_that_is_left_when_the_interpreter_ends_is_no_trouble(where: str, pure: bool) -> None:
    code = f"""
import builtins, threading, time
view = mapping.buffer
if {where!r} == "builtins":
    builtins.view = view
elif {where!r} == "a cycle with a finalizer":
    at_the_end = touch
    owner = Owner(mapping)
elif {where!r} == "a thread that goes on":
    def go_on(view):
        while True:
            view[0] = 1
            time.sleep(0.001)
    threading.Thread(target=go_on, args=(view,), daemon=True).start()
if {where!r} != "a global":
    del view, mapping
print("ends")
"""
    assert lives(code, pure=pure)[0] == "ends"


@either_exporter
def test_view_that_a_finalizer_brings_back_is_counted(pure: bool) -> None:
    code = """
at_the_end = revive
owner = Owner(mapping)
del owner, mapping
gc.collect()
operations.map_anonymous(4096).close()
close(revived)
print(lies(address))
"""
    assert lives(code, pure=pure) == ["touched", "True"]


def test_mapping_is_neither_copied_nor_pickled() -> None:
    with operations.map_anonymous(4096) as mapping:
        for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="neither copied nor pickled"):
                attempt(mapping)


def test_threads_that_ask_first_at_once_have_the_same_memory() -> None:
    code = """
import sys, threading
sys.setswitchinterval(1e-6)
operations._OWN.clear()
together, found = threading.Barrier(8), []
def ask():
    together.wait()
    found.append(id(operations._own()))
threads = [threading.Thread(target=ask) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found), len(set(found)))
mapping.close()
"""
    assert lives(code) == ["8", "1"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_child_never_sees_a_half_made_change() -> None:
    memory = operations._own()
    begun, half_made = threading.Event(), [False]

    def change() -> None:
        with memory.guard:
            half_made[0] = True
            begun.set()
            threading.Event().wait(0.3)
            half_made[0] = False

    thread = threading.Thread(target=change)
    thread.start()
    assert begun.wait(PATIENCE)
    child = os.fork()
    if child == 0:
        free = threading.Thread(target=lambda: free_again.append(memory.guard.acquire(timeout=PATIENCE)))
        free_again: list[bool] = []
        free.start()
        free.join()
        os._exit(half_made[0] or free_again != [True])
    assert os.waitpid(child, 0)[1] == 0
    thread.join()


@pytest.mark.parametrize("name", ["unnamed", "/", "/a/b", "/a\0b", 5])
def test_what_is_no_name_of_shared_memory_is_not_removed(name: str) -> None:
    with pytest.raises(vmatlas.UsageError, match="no name of shared memory"):
        operations.unlink_shared(name)


def test_name_that_is_not_there_is_told() -> None:
    with pytest.raises(vmatlas.OperationFailed, match="/vmatlas-was-never") as refused:
        operations.unlink_shared("/vmatlas-was-never")
    assert refused.value.errno_name == "ENOENT"


def test_named_shared_memory_has_its_room_before_it_is_touched() -> None:
    name = f"/vmatlas-room-{os.getpid()}"
    with operations.map_shared(1 << 20, name, create=True, exclusive=True) as mapping:
        operations.unlink_shared(name)
        assert os.fstat(mapping.descriptor).st_blocks * 512 >= 1 << 20


def test_shared_memory_that_finds_no_room_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(ENOSPC, os.strerror(ENOSPC))

    name = f"/vmatlas-full-{os.getpid()}"
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=f"1,048,576 bytes of shared memory: No space .*{name}"):
        operations.map_shared(1 << 20, name, create=True)
    with pytest.raises(vmatlas.OperationFailed, match="No such file"):
        operations.unlink_shared(name)


def test_nothing_is_placed_where_a_stack_grows_without_unsafe() -> None:
    code = """
import resource
page = resource.getpagesize()
stack, = vmatlas.snapshot().where(kind=vmatlas.Kind.STACK)
for pages in (1, 256):
    try:
        operations.map_anonymous(page, at=stack.start - pages * page)
    except vmatlas.UsageError as error:
        print("refused")
resource.setrlimit(resource.RLIMIT_STACK, (8 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))
operations.map_anonymous(page, at=stack.end - (16 << 20)).close()
operations.map_anonymous(page, at=stack.start - (1 << 20), unsafe=True).close()
mapping.close()
"""
    assert lives(code) == ["refused"] * 2


def test_resize_of_what_the_kernel_has_as_several_mappings_says_so() -> None:
    with operations.map_anonymous(4 * PAGE) as mapping:
        operations.advise(None, [(mapping.start, mapping.start + PAGE)], Advice.SEQUENTIAL)
        with pytest.raises(vmatlas.OperationFailed) as refused:
            operations.resize(mapping, 8 * PAGE)
    assert refused.value.hint is not None
    assert "several mappings" in refused.value.hint
