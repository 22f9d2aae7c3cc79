"""PROCMAP_QUERY asked by a child: for a build id the kernel reads the file, and may wait for its file system for ever.

Which file that is the process that is looked at decides, until the very moment of the question. A thread that waits so
(in a sleep that no signal ends) keeps its process from ending; a child is left behind, and ends when it is answered.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import struct
import threading
import warnings
from array import array
from errno import EPIPE

from vmatlas.systems.linux.procmap import MAX_BUILD_ID, MAX_NAME, PROCMAP_QUERY, SIZE
from vmatlas.systems.linux.starting import ended_early, not_started
from vmatlas_linux_ioctl.decode import NATIVE

LIMIT = 5.0
"""Seconds for one file."""
MOST_SILENT = 3
"""So many files may be waited for in one walk; then none is asked for its build id any more."""

_ERROR = struct.Struct("=iI")
_SIZES_AT, _POINTERS_AT = 80, 88
_SIZES = struct.Struct("=II")
_POINTERS = struct.Struct("=QQ")
_MOST = _ERROR.size + SIZE + MAX_NAME + 64
_WALL = 0x40000000  # wait(2): for a child that sends no signal, too

_WANTED = "to read build ids"

_left: list[int] = []
"""Children that did not end; the kernel still waits in them."""
_lock = threading.Lock()
"""Held for `_left`: several threads of a survey ask at once."""


class Silent(Exception):
    """A file did not answer in time; the text says so."""


class Apart:
    """A child that asks about one map; begun with the first question. A context manager."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._child = 0
        self._end: socket.socket | None = None
        self._silent = 0

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_child(is_waiting=False)

    def ask(self, record: bytearray, texts: memoryview) -> None:
        """PROCMAP_QUERY, with the answer in both: the build id stands MAX_NAME behind the name.

        Raises OSError (the kernel's errno), NotStarted, and Silent.
        """
        if self._silent >= MOST_SILENT:
            raise Silent(f"{MOST_SILENT} files did not answer in {LIMIT:g} s each")
        if self._end is None:
            try:
                self._child, end = _begin(self._descriptor)
            except OSError as refused:
                raise not_started(refused, _WANTED) from None
            self._end = socket.socket(fileno=end)
        answer = self._answer(self._end, record)
        if len(answer) < _ERROR.size + SIZE:  # somebody has ended it
            self._end_child(is_waiting=False)
            raise ended_early(_WANTED)
        error, _ = _ERROR.unpack_from(answer)
        if error:
            raise OSError(error, os.strerror(error))
        pointers = _POINTERS.unpack_from(record, _POINTERS_AT)
        record[:] = answer[_ERROR.size : _ERROR.size + SIZE]
        _POINTERS.pack_into(record, _POINTERS_AT, *pointers)
        name, build_id = _SIZES.unpack_from(record, _SIZES_AT)
        at = _ERROR.size + SIZE
        texts[:name] = answer[at : at + name]
        texts[MAX_NAME : MAX_NAME + build_id] = answer[at + name : at + name + build_id]

    def _answer(self, end: socket.socket, record: bytearray) -> bytes:
        """What the child says; nothing where it has ended. Raises Silent."""
        try:
            end.send(record)
            ready = select.poll()
            ready.register(end, select.POLLIN)
            if ready.poll(LIMIT * 1000):
                return end.recv(_MOST)
        except ConnectionError:
            return b""
        self._silent += 1
        self._end_child(is_waiting=True)
        raise Silent(f"no answer in {LIMIT:g} s")

    def _end_child(self, *, is_waiting: bool) -> None:
        """End the child, and those that were left before; one that waits in the kernel is left there."""
        if self._end is None:
            return
        self._end.close()
        self._end = None
        # Each is one thread's at a time: a number that another thread has waited for may be somebody else's by now.
        with _lock:
            before = _left[:]
            _left.clear()
        staying = [child for child in before if not _is_ended(child, wait=False)]
        if not _is_ended(self._child, wait=not is_waiting):
            staying.append(self._child)
        with _lock:
            _left.extend(staying)


def _is_ended(child: int, *, wait: bool) -> bool:
    """Whether it has ended, once it is told to."""
    try:
        if os.waitpid(child, os.WNOHANG | _WALL)[0]:
            return True
        os.kill(child, signal.SIGKILL)  # it is ours, as the line above tells
        return bool(os.waitpid(child, (0 if wait else os.WNOHANG) | _WALL)[0])
    except (ChildProcessError, ProcessLookupError):  # taken by somebody who waits for all of them
        return True


def _begin(descriptor: int) -> tuple[int, int]:
    """The child's id, and the socket to ask it by."""
    if NATIVE is not None:
        begun: tuple[int, int] = NATIVE.apart(descriptor)
        return begun
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of other threads: the child touches nothing of theirs
        child = os.fork()
    if not child:
        _serve(theirs, descriptor)
    theirs.close()
    return child, ours.detach()


def _serve(end: socket.socket, descriptor: int) -> None:
    """In the child: see native/apart.c. Does not come back."""
    try:
        asked = end.fileno()
        if asked == 0:  # out of the way, with no number but those that stay
            asked = os.dup2(asked, 2 if descriptor == 1 else 1)
        os.dup2(descriptor, 0)
        os.dup2(asked, 1)
        os.closerange(2, os.sysconf("SC_OPEN_MAX"))
        texts = array("B", bytes(MAX_NAME + MAX_BUILD_ID))
        at, _ = texts.buffer_info()
        while len(question := os.read(1, SIZE)) == SIZE:
            record = bytearray(question)
            name, build_id = _SIZES.unpack_from(record, _SIZES_AT)
            _POINTERS.pack_into(record, _POINTERS_AT, at if name else 0, at + MAX_NAME if build_id else 0)
            error, told = 0, b""
            try:
                fcntl.ioctl(0, PROCMAP_QUERY, record)
                name, build_id = _SIZES.unpack_from(record, _SIZES_AT)
                told = bytes(texts[:name]) + bytes(texts[MAX_NAME : MAX_NAME + build_id])
            except OSError as failed:
                error = failed.errno or EPIPE
            os.write(1, _ERROR.pack(error, 0) + record + told)
    finally:
        os._exit(0)
