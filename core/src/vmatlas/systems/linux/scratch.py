"""Memory to read one's own map into, that does not appear in the map.

A process that reads its own map by ordinary means sees the buffers that the reading made, and memory that grows while
it reads. So the answer goes into a mapping made beforehand, large enough for all of it, which can be told from
everything else by its name and is cut from the answer: it is gone when the caller looks.
"""

from __future__ import annotations

import mmap
import os
from errno import errorcode
from types import TracebackType

from vmatlas.errors import OperationFailed

_NAME = "vmatlas-scratch"
LABEL = f"/memfd:{_NAME} (deleted)".encode()
"""What the kernel calls it in the map."""


class Scratch:
    """A shared mapping of a memfd (memfd_create(2), since Linux 3.17). A context manager.

    A child that is forked meanwhile does not inherit it.
    """

    def __init__(self, size: int) -> None:
        """`size` in bytes. Raises OperationFailed."""
        try:
            descriptor = os.memfd_create(_NAME, os.MFD_CLOEXEC)
            try:
                os.ftruncate(descriptor, size)
                self._map = mmap.mmap(descriptor, size)  # keeps a descriptor of its own
            finally:
                os.close(descriptor)
            self._map.madvise(mmap.MADV_DONTFORK)
        except OSError as error:
            raise OperationFailed(
                f"no memory to read one's own map into ({size:,} bytes): {error.strerror}",
                errno=error.errno or 0,
                errno_name=errorcode.get(error.errno or 0, ""),
            ) from None
        self.view = memoryview(self._map)

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.view.release()
        self._map.close()
