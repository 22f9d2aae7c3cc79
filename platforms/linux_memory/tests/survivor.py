"""Does with memory whatever comes to mind, without `unsafe`, touches every live buffer after each step, and must live.

python survivor.py SEED STEPS
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
from collections import Counter

import vmatlas
from vmatlas import Protection, operations
from vmatlas.operations import Advice, Mapping
from vmatlas_linux_memory import OPERATIONS

PAGE = OPERATIONS.page_size


class Survivor:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.made: list[Mapping] = []
        self.views: list[memoryview] = []
        self.file = tempfile.NamedTemporaryFile()  # noqa: SIM115  (for as long as the process lives)
        self.file.write(bytes(6 * PAGE + 100))
        self.file.flush()
        self.others = [region.start for region in vmatlas.snapshot()]
        self.told: Counter[str] = Counter()

    def size(self) -> int:
        return self.random.choice([-PAGE, 0, 1, 100, PAGE, PAGE + 1, 3 * PAGE, 8 * PAGE, 2**48, 2**63, 2**64])

    def address(self) -> int:
        near = [edge for mapping in self.made if not mapping.closed for edge in (mapping.start, mapping.end)]
        base = self.random.choice(near or [0]) if self.random.random() < 0.7 else self.random.choice(self.others)
        return base + self.random.choice([0, 0, 0, 1, PAGE, -PAGE, 2 * PAGE, 2**63])

    def whole(self) -> tuple[int, int]:
        """The place of a mapping, mostly."""
        open_ones = [mapping for mapping in self.made if not mapping.closed]
        if open_ones and self.random.random() < 0.7:
            mapping = self.random.choice(open_ones)
            return mapping.start, mapping.size
        return self.address(), self.size()

    def ends(self) -> tuple[int, int]:
        start, size = self.whole()
        return start, start + size

    def mapping(self) -> Mapping:
        return self.random.choice(self.made)

    def protection(self) -> Protection:
        return Protection(self.random.choice([0, 1, 1, 3, 3, 3, 5, 7]))

    def keep(self, mapping: Mapping) -> None:
        self.made.append(mapping)

    def step(self) -> None:
        r = self.random
        places = {"at": self.address(), "replace": r.random() < 0.5} if r.random() < 0.4 else {}
        keep_old, fault = r.random() < 0.3, r.random() < 0.5
        to = self.address() if r.random() < 0.5 else None
        steps = [
            lambda: self.keep(operations.map_anonymous(self.size(), protection=self.protection(), **places)),
            lambda: self.keep(operations.map_anonymous(3 * PAGE)),
            lambda: self.keep(operations.map_file(self.file.name, shared=fault, protection=Protection.READ, **places)),
            lambda: self.keep(operations.map_shared(self.size())),
            lambda: self.keep(operations.map_shared(descriptor=self.mapping().descriptor)),
            lambda: self.keep(operations.guarded_buffer(r.choice([1, 100, PAGE, 5000]))),
            lambda: self.keep(operations.secret(r.choice([1, PAGE]))),
            lambda: self.keep(operations.write_then_execute(b"\xc3" * r.choice([1, PAGE + 1]))),
            lambda: self.views.append(self.mapping().buffer),
            lambda: self.views.append(self.mapping().buffer[r.randrange(50) :: r.choice([1, 3])]),
            lambda: self.views.append(r.choice(self.views).toreadonly()),
            lambda: r.choice(self.views).release(),
            lambda: self.views.pop(r.randrange(len(self.views))),
            lambda: self.mapping().close(),
            lambda: self.made.pop(r.randrange(len(self.made))),
            lambda: operations.protect(*self.whole(), self.protection()),
            lambda: self.mapping().protect(self.protection(), r.choice([0, 0, PAGE, 1]), r.choice([None, PAGE, 0])),
            lambda: self.within_guard(),
            lambda: operations.lock(*self.whole(), on_fault=fault),
            lambda: operations.unlock(*self.whole()),
            lambda: operations.flush(*self.whole(), invalidate=fault),
            lambda: operations.move(*self.whole(), to, keep_old=keep_old, replace=fault),
            lambda: operations.move(self.address(), r.choice([8, 16, 64]) * PAGE, to),
            lambda: operations.resize(self.mapping(), self.size(), may_move=fault),
            lambda: operations.advise(None, [self.ends()], r.choice(list(Advice))),
            lambda: self.mapping().as_region(),
        ]
        chosen = r.randrange(len(steps))
        try:
            steps[chosen]()
            self.told["done"] += 1
        except (vmatlas.VmatlasError, ValueError, IndexError, OSError) as error:
            # ValueError: a view that was released; IndexError: nothing to choose from
            self.told[type(error).__name__] += 1
        self.touch()

    def within_guard(self) -> None:
        with self.mapping().protected(self.protection()):
            self.touch()

    def touch(self) -> None:
        for view in self.views:
            with contextlib.suppress(ValueError):  # released
                for index in (0, len(view) // 2, len(view) - 1) if len(view) else ():
                    value = view[index]
                    if not view.readonly:
                        view[index] = value


def main(seed: int, steps: int) -> None:
    survivor = Survivor(seed)
    for _ in range(steps):
        survivor.step()
    survivor.views.clear()
    for mapping in survivor.made:
        mapping.close()
    print(dict(survivor.told))
    assert survivor.told["done"] > steps // 10, "nothing was tried in earnest"


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
