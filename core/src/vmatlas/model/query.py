"""A question to a backend, as a value. No I/O."""

from __future__ import annotations

import enum

from vmatlas.model.filter import ANY, Filter
from vmatlas.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmatlas.model.pages import PageState


class Question(enum.Enum):
    """The kinds of question; which backend answers best depends on it."""

    WHOLE_MAP = "whole map"
    """Every region."""
    FILTERED_MAP = "filtered map"
    """The regions that pass a filter of which the kernel can apply a part."""
    POINT = "point query"
    """The region at one address, or the next one."""
    RESIDENCY = "residency"
    """Every region, with the memory that is in use."""
    TOTALS = "totals"
    """The memory in use of the whole process: no map is made."""
    BUILD_IDS = "build ids"
    """Every region, with the ELF build id of its file."""
    PAGES = "pages"
    """What lies inside regions. Answered by a `PageSource`, and not by what reads maps."""


@dataclass(frozen=True, slots=True)
class Query:
    """What to acquire."""

    address: int | None = None
    """None: the whole map. Otherwise the region that covers this address."""
    or_next: bool = False
    """With `address`: the next region above when none covers it."""
    limit: int = 1
    """With `address` and `or_next`: at most this many regions, in order; from 1. A backend without `Feature.WALK`
    gives the whole map instead."""
    residency: bool = False
    """The memory in use, region by region. Dearer: the kernel walks the page tables."""
    totals: bool = False
    """The memory in use of the process as a whole, and nothing else."""
    build_ids: bool = False
    """The ELF build id of each file. Dearer: the kernel reads each file's notes."""
    where: Filter = ANY
    """Which regions are wanted. A backend may apply the part that its kernel can; the rest is applied above it."""
    pages: PageState | None = None
    """The states of pages that are asked for; None: it is a question about regions."""
    ranges: tuple[tuple[int, int], ...] = ()
    """With `pages`: where. Ranges of whole pages, [start, end), sorted, not overlapping nor touching."""

    @property
    def limit_of_answer(self) -> int:
        """How many regions are wanted at the most; 0 for no limit."""
        if self.address is None:
            return 0
        return self.limit if self.or_next else 1

    @property
    def question(self) -> Question:
        """The kind of question that this is."""
        if self.pages is not None:
            return Question.PAGES
        if self.totals:
            return Question.TOTALS
        if self.residency:
            return Question.RESIDENCY
        if self.build_ids:
            return Question.BUILD_IDS
        if self.address is not None:
            return Question.POINT
        return Question.WHOLE_MAP if self.where == ANY else Question.FILTERED_MAP
