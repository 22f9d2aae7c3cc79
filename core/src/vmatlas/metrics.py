"""The memory in use of processes for Prometheus: a collector of the library prometheus_client (the extra `metrics`).

    import prometheus_client
    from vmatlas.metrics import MemoryCollector

    prometheus_client.REGISTRY.register(MemoryCollector())
    prometheus_client.start_http_server(9256, "127.0.0.1")

docs/cli.md names the metrics. Each time that it is asked it asks the system; nothing is kept in between.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vmatlas import arguments
from vmatlas.backend import Target, TellsMembership
from vmatlas.errors import AccessDenied, NoSuchProcess, TornRead, Unanswered, UsageError, VmatlasError
from vmatlas.model import MemoryTotal, MemoryUse
from vmatlas.survey import PATIENCE
from vmatlas.target.local import LOCAL
from vmatlas.totals import GROUPS, Group, ProcessMemory, each_once, group_memories, memories, most_regions, weight

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily, Metric

TOP = 50
"""So many processes, or groups, have series of their own."""

KINDS = {"resident": "resident", "pss": "proportional", "uss": "private", "swap": "swapped"}
"""What the label `kind` says, and the field of `MemoryUse` that it is."""

REASONS = {NoSuchProcess: "ended", AccessDenied: "denied", TornRead: "torn", Unanswered: "unanswered"}
"""Why a process was not read; anything else is "other". They are there with 0, so that an alert may stand on them."""

_OTHERS = "(others)"


class MemoryCollector:
    """Asks every process, or those that are chosen, each time that it is collected.

    The number of series is bounded: `top` processes (or groups, with `by`) by PSS have their own, and the rest are
    one, of the name "(others)". With `by` (one of `vmatlas.totals.GROUPS`) series do not come and go with pids.
    """

    def __init__(
        self,
        *words: str,
        target: Target | None = None,
        backend: str | None = None,
        by: str | None = None,
        top: int = TOP,
        patience: float = PATIENCE,
    ) -> None:
        """`words` choose processes as `vmatlas.select` does; none: all. Raises UsageError."""
        if by is not None and by not in GROUPS:
            raise UsageError(f"{arguments.shown(by)} is nothing to put processes together by")
        if arguments.whole(top, "number of processes") < 0:
            raise UsageError(f"{arguments.shown(top)} is no number of processes", hint="a whole number from 0")
        self._words, self._place, self._backend = words, target or LOCAL, backend
        self._by, self._top, self._patience = by, top, patience

    def describe(self) -> list[Metric]:
        """Nothing is asked when it is registered."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metrics, as prometheus_client takes them. Raises what `vmatlas.select` and `vmatlas.memories` raise."""
        from prometheus_client.core import GaugeMetricFamily

        from vmatlas.selection.resolving import select

        began = time.monotonic()
        among = select(*self._words, target=self._place) if self._words else None
        listing = memories(self._place, backend=self._backend, regions=True, patience=self._patience, among=among)
        found = each_once(listing)  # two of one number may have the same labels, too
        told = [each for each in found if each.memory is not None]
        if self._by is None:
            yield from self._of_processes(sorted(told, key=_weight, reverse=True))
        else:
            yield from self._of_groups(group_memories(told, self._by, self._place), self._by)
        unread = GaugeMetricFamily(
            "vmatlas_unread_processes", "Processes whose memory could not be read, by reason.", labels=["reason"]
        )
        reasons = [_reason(each.error) for each in found if each.error is not None]
        for reason in (*REASONS.values(), "other"):
            unread.add_metric([reason], reasons.count(reason))
        yield unread
        yield GaugeMetricFamily("vmatlas_read_processes", "Processes whose memory was read.", value=len(told))
        is_incomplete = listing.incomplete is not None or (among is not None and among.incomplete is not None)
        yield GaugeMetricFamily(
            "vmatlas_listing_incomplete", "1 where the system may hide processes (hidepid).", value=int(is_incomplete)
        )
        if (limit := most_regions(self._place)) is not None:
            yield GaugeMetricFamily(
                "vmatlas_process_regions_limit", "Regions that a process may have (vm.max_map_count).", value=limit
            )
        yield GaugeMetricFamily(
            "vmatlas_collection_seconds", "How long it took to ask.", value=time.monotonic() - began
        )

    def _of_processes(self, told: Sequence[ProcessMemory]) -> Iterator[GaugeMetricFamily]:
        from prometheus_client.core import GaugeMetricFamily

        labels = ["pid", "name", "user"]
        memory = GaugeMetricFamily("vmatlas_process_memory_bytes", _HELP, labels=[*labels, "kind"])
        regions = GaugeMetricFamily("vmatlas_process_regions", "Regions of the memory map.", labels=labels)
        for each in told[: self._top]:
            values = [str(each.process.pid), _text(each.process.name), self._user(each)]
            _add(memory, values, each.memory)
            if each.regions is not None:
                regions.add_metric(values, each.regions)
        rest = told[self._top :]
        _add(memory, ["", _OTHERS, ""], MemoryTotal.of(each.memory for each in rest).at_least)
        if rest:
            regions.add_metric(["", _OTHERS, ""], sum(each.regions or 0 for each in rest))
        yield memory
        yield regions

    def _of_groups(self, groups: Sequence[Group], by: str) -> Iterator[GaugeMetricFamily]:
        from prometheus_client.core import GaugeMetricFamily

        memory = GaugeMetricFamily("vmatlas_group_memory_bytes", _HELP, labels=["by", "group", "kind"])
        counts = GaugeMetricFamily("vmatlas_group_processes", "Processes of a group.", labels=["by", "group"])
        together: dict[str, list[Group]] = {}  # of one label: a process may be called as the rest is, or as an escape
        for number, group in enumerate(groups):
            label = _text(group.key or "") if number < self._top else _OTHERS
            together.setdefault(label, []).append(group)
        for label, several in together.items():
            _add(memory, [by, label], MemoryTotal.of(group.total.at_least for group in several).at_least)
            counts.add_metric([by, label], sum(len(group.pids) for group in several))
        yield memory
        yield counts

    def _user(self, each: ProcessMemory) -> str:
        system: object = LOCAL.system if self._place is LOCAL else None
        if not isinstance(system, TellsMembership):
            return ""
        return _text(system.belongs_to(each.process.pid, each.process.start_time, "user") or "")


_HELP = (
    "Memory in use, by kind: resident, pss (each page divided by the number of its mappings: adds up), uss (in pages "
    "that nobody else maps), swap. The kinds do not add up."
)


def _add(memory: GaugeMetricFamily, labels: list[str], use: MemoryUse | None) -> None:
    """What is not told has no series: never 0. Of several it is a sum of what is told."""
    for kind, field in KINDS.items():
        number = getattr(use, field)
        if number is not None:
            memory.add_metric([*labels, kind], number)


def _weight(each: ProcessMemory) -> int:
    return 0 if each.memory is None else weight(each.memory)


def _reason(error: VmatlasError) -> str:
    return next((reason for kind, reason in REASONS.items() if isinstance(error, kind)), "other")


def _text(name: str) -> str:
    """A label is UTF-8: other bytes are shown as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()
