"""The answer of `vmatlas doctor`."""

from __future__ import annotations

import dataclasses
from typing import Any

from vmatlas.cli.checkup import Checkup
from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.text import NOTHING, one_line


def checkup_tables(checkup: Checkup) -> list[Table]:
    """The machine, the backends, the choices, the compiled twins, and what is wrong, if anything."""
    return [
        _facts(checkup),
        _backends(checkup),
        _choices(checkup),
        _twins(checkup),
        *([_troubles(checkup)] if checkup.troubles else []),
    ]


def _facts(checkup: Checkup) -> Table:
    facts = [("vmatlas", f"{checkup.version}, Python {checkup.python}"), ("target", checkup.target)]
    if (system := checkup.system) is not None:
        facts += [
            ("kernel", f"{system.system} {system.release} {system.machine}"),
            ("build", system.version),
            ("pages", f"{system.page_size} bytes; {system.pointer_width}-bit, {system.byte_order}-endian"),
        ]
    facts += checkup.rights
    if checkup.operations:
        facts.append(("memory operations", checkup.operations))
    rows = [Row((one_line(name), one_line(value)), "", {0: "heading"}) for name, value in facts]
    return Table((Column("WHAT"), Column("HOW IT STANDS", wraps=True)), rows)


def _backends(checkup: Checkup) -> Table:
    rows = [
        Row(
            (
                one_line(each.name),
                "yes" if each.available else "no",
                one_line(each.reason or ", ".join(each.features)),
            ),
            "",
            {0: "heading", 1: "good" if each.available else "bad"},
        )
        for each in checkup.backends
    ]
    rows += [
        Row(
            (
                one_line(each.name),
                "yes" if each.available else "no",
                one_line(each.reason or "pages: " + ", ".join(each.states)),
            ),
            "",
            {0: "heading", 1: "good" if each.available else "bad"},
        )
        for each in checkup.page_sources
    ]
    columns = (Column("BACKEND"), Column("AVAILABLE"), Column("WHY NOT, OR WHAT IT TELLS", wraps=True))
    return Table(columns, rows, empty="no backend is installed, or the system is not known")


def _choices(checkup: Checkup) -> Table:
    rows = [
        Row(
            (each.question.replace(" ", "-"), one_line(each.backend or NOTHING), one_line(each.reason)),
            "",
            {0: "heading", 1: "good" if each.backend else "bad"},
        )
        for each in checkup.choices
    ]
    return Table(
        (Column("QUESTION"), Column("BACKEND"), Column("WHY", wraps=True)), rows, empty="no question can be answered"
    )


def _twins(checkup: Checkup) -> Table:
    rows = [
        Row(
            (
                one_line(each.job).replace(" ", "-"),
                "C" if each.compiled else "Python",
                one_line(each.reason or NOTHING),
            ),
            "",
            {0: "heading", 1: "good" if each.compiled else ""},
        )
        for each in checkup.twins
    ]
    return Table((Column("WORK"), Column("DONE BY"), Column("WHY NOT BY C", wraps=True)), rows)


def _troubles(checkup: Checkup) -> Table:
    rows = [
        Row(
            (one_line(each.what), one_line(each.reason) + (f" (hint: {one_line(each.hint)})" if each.hint else "")),
            "",
            {0: "bad"},
        )
        for each in checkup.troubles
    ]
    return Table((Column("TROUBLE"), Column("REASON", wraps=True)), rows)


def checkup_json(checkup: Checkup) -> dict[str, Any]:
    """All of it."""
    return dataclasses.asdict(checkup) | {
        "rights": [{"what": what, "state": state} for what, state in checkup.rights],
        "answers": checkup.answers,
    }
