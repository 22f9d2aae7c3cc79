"""The two pages of `vmatlas top`: who uses how much, and one of them. What is shown of anybody is text, made safe."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from rich.cells import cell_len
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input, Static

from vmatlas.cli.exits import Exit, exit_of, story_of
from vmatlas.cli.render.palette import STYLES
from vmatlas.cli.render.table import Column, Row, Table, terminal_lines
from vmatlas.cli.render.text import (
    NOTHING,
    count,
    escape,
    growth_text,
    human,
    label_of,
    one_line,
    range_text,
    size_text,
)
from vmatlas.cli.screen.questions import Listed, Look, Opened, Repeated, totals_of
from vmatlas.cli.screen.rows import Rows
from vmatlas.errors import NoSuchProcess, TargetLost, UsageError
from vmatlas.model import ANY, Filter, MemoryUse, ProcessInfo, Region
from vmatlas.selection.words import is_word, parse
from vmatlas.target.local import LOCAL
from vmatlas.totals import ProcessMemory

if TYPE_CHECKING:
    from vmatlas.backend import Target

_SOON = 1.0
"""Seconds without an answer from which on that is said."""

_LOOK = 0.5
"""Seconds between two looks at whether there is an answer."""

_ANY_NAME = "x" * 400
"""A name takes whatever room there is."""


class How(NamedTuple):
    """What the command line says."""

    words: tuple[str, ...]
    every: float
    sort: str
    place: Target
    backend: str | None
    patience: float | None


class Told(Message):
    """An answer, or why there is none."""

    def __init__(self, found: object) -> None:
        super().__init__()
        self.found = found


class Page(Screen[None]):
    """Lines above, rows, lines below, and a field for words."""

    KEYS: ClassVar[str]
    SORTS: ClassVar[tuple[str, ...]]
    BINDINGS = [  # noqa: RUF012  (as textual declares it)
        Binding("s", "sort"),
        Binding("r", "turn_round"),
        Binding("slash", "ask"),
        Binding("space", "pause"),
    ]
    question: Repeated[object]

    def __init__(self, columns: tuple[Column, ...], widest: tuple[str, ...], sort: str) -> None:
        super().__init__()
        self._rows = Rows(columns, widest)
        self._head, self._above = Static("", id="head", markup=False), Static("", id="above", markup=False)
        self._state, self._keys = Static("", id="state", markup=False), Static("", id="keys", markup=False)
        self._field = Input(id="words", compact=True, select_on_focus=False)
        self._sort, self._is_turned = sort, False
        self._problem = self._note = ""
        self._amiss = ""  # in the words: said until they are mended

    def compose(self) -> ComposeResult:
        """Its lines."""
        yield from (self._head, self._above, self._rows, self._field, self._state, self._keys)

    def on_mount(self) -> None:
        """Ask for the first time."""
        self._field.display = self._above.display = False
        self._keys.update(Text(self.KEYS, no_wrap=True, overflow="crop"))
        self._rows.focus()
        self.question.start()
        self.set_interval(_LOOK, self._tell_state)
        self._show()

    def on_unmount(self) -> None:
        """Ask no more."""
        self.question.stop()

    def on_resize(self) -> None:
        """What there is room for is another."""
        self._show()

    def on_told(self, message: Told) -> None:
        """There is an answer."""
        if isinstance(message.found, Exception):
            self._problem = story_of(message.found)[0]
            self.fail(message.found)
        else:
            self._problem = ""
            self.take(message.found)
        self._show()

    def take(self, found: object) -> None:
        """An answer."""
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        """Why there is none; a defect of ours ends the program, and is told as any other.

        A target that is lost stays lost: what was seen last stays, and its story is told at the end, where it has room.
        """
        assert isinstance(self.app, Top)
        if isinstance(error, TargetLost):
            self._problem = "the target is lost: this is what was seen last; q tells why"
            self.question.stop()
            self.app.lost = error
        elif exit_of(error) is Exit.BUG:
            self.app.defect = error
            self.app.exit(Exit.BUG)

    def show_rows(self) -> None:
        """Fill the lines and the rows."""
        raise NotImplementedError

    def wanted(self, words: str) -> None:
        """Go by these words from now on. Raises UsageError."""
        raise NotImplementedError

    def _show(self) -> None:
        self.show_rows()
        self._tell_state()

    def _tell_state(self) -> None:
        """In a line: what goes wrong, what could not be read, how it is sorted, what is seen."""
        seen, parts = self._rows.seen, list[str]()
        waits = self.question.waits
        if waits >= _SOON:
            parts.append(f"no answer for {waits:.0f} s")
        if self.question.is_paused:
            parts.append("paused")
        parts = [self._amiss, *parts, self._problem, self._note]
        if len(seen):
            parts.append(f"rows {seen.start + 1:,} to {seen.stop:,}")
        parts.append(f"by {self._sort}{', turned round' if self._is_turned else ''}")
        style = "bold" if self._amiss or self._problem or waits >= _SOON else "dim"
        self._state.update(
            Text(one_line("; ".join(filter(None, parts))), style=style, no_wrap=True, overflow="ellipsis")
        )

    def say(self, *lines: str) -> None:
        """The first lines of the page: whose it is, and what it comes to."""
        text = Text(no_wrap=True, overflow="ellipsis")
        for number, line in enumerate(lines):
            text.append(("\n" if number else "") + line, style="" if number else "bold")
        self._head.update(text)

    def action_sort(self) -> None:
        """By the next column."""
        self._sort = self.SORTS[(self.SORTS.index(self._sort) + 1) % len(self.SORTS)]
        self._show()

    def action_turn_round(self) -> None:
        """The last row first."""
        self._is_turned = not self._is_turned
        self._show()

    def action_pause(self) -> None:
        """Look no more, or again."""
        self.question.is_paused = not self.question.is_paused
        if not self.question.is_paused:
            self.question.again()
        self._tell_state()

    def action_ask(self) -> None:
        """For the words to go by."""
        self._field.display = True
        self._field.focus()
        self._field.action_end()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go by the words, or say what is wrong with them and leave them there."""
        try:
            self.wanted(event.value)
        except UsageError as error:
            self._amiss = f"{error}; {error.hint}" if error.hint else str(error)
        else:
            self.leave_field()
        self._show()

    def leave_field(self) -> bool:
        """Whether the field was there to be left."""
        was_there = bool(self._field.display)
        self._field.display, self._amiss = False, ""
        self._rows.focus()
        return was_there

    def on_rows_chosen(self, message: Rows.Chosen) -> None:
        """Of a row nothing more is told, as a rule."""


def _where(place: Target) -> str:
    return "" if place.name == LOCAL.name else f" on {place.name}"


def _pss(each: ProcessMemory) -> int | None:
    return None if each.memory is None else each.memory.proportional


def _style_of(growth: int | None) -> str:
    return "" if not growth else "change.grown" if growth > 0 else "change.shrunk"


class Processes(Page):
    """Who uses how much."""

    KEYS = " Enter open  / who  s sort  r turn round  Space pause  q quit"
    SORTS = ("pss", "private", "resident", "swap", "since", "pid", "name")
    BINDINGS = [Binding("q,escape", "leave")]  # noqa: RUF012  (as textual declares it)

    def __init__(self, how: How, wire: threading.Lock) -> None:
        columns = (
            Column("PID", right=True),
            Column("PSS", right=True),
            Column("SINCE", right=True, leaves=1),
            Column("PRIVATE", right=True, leaves=2),
            Column("RESIDENT", right=True, leaves=3),
            Column("SWAP", right=True, leaves=4),
            Column("NAME", crops=True),
        )
        sizes = ["1023.9M"] * 5
        super().__init__(columns, ("4194304", *sizes, _ANY_NAME), how.sort)
        self._how, self._wire, self._words = how, wire, how.words
        self._found: dict[int, ProcessMemory] = {}
        self._first: dict[tuple[int, int | None], int] = {}
        self.question = Repeated(self._ask, lambda found: self.post_message(Told(found)), how.every, wire)

    def on_mount(self) -> None:
        """With the words of the command line in the field."""
        self._field.value = shlex.join(self._words)
        self._field.placeholder = (
            "name:post*  user:www-data  children:1234  unit:nginx.service  !1234; nothing: everybody"
        )

    def _ask(self) -> Listed:
        return totals_of(self._words, self._how.place, self._how.backend, self._how.patience)

    def take(self, found: object) -> None:
        """Of words that are not the user's any more it is no answer."""
        assert isinstance(found, Listed)
        if found.words != self._words:
            return
        self._found = {each.process.pid: each for each in found.found}
        self._note = f"not read: {found.unread}" if found.unread else ""
        first = {(each.process.pid, each.process.start_time): _pss(each) or 0 for each in found.found}
        self._first = {who: self._first.get(who, now) for who, now in first.items()}

    def fail(self, error: Exception) -> None:
        """Nobody is chosen now: somebody may be later."""
        if isinstance(error, NoSuchProcess):
            self._found = {}
            return
        super().fail(error)

    def _since(self, each: ProcessMemory) -> int | None:
        now = _pss(each)
        first = self._first.get((each.process.pid, each.process.start_time))
        return None if now is None or first is None else now - first

    def show_rows(self) -> None:
        """The sums of all, and a row for each."""
        uses = [each.memory for each in self._found.values() if each.memory is not None]
        sums = [sum(getattr(use, name) or 0 for use in uses) for name in ("proportional", "private", "swapped")]
        who = " ".join(self._words) if self._words else "every process"
        self.say(
            one_line(f"vmatlas top: {who}{_where(self._how.place)}"),
            f"{count(len(uses), 'process', 'processes')}, PSS {human(sums[0])}, private {human(sums[1])}, "
            f"swap {human(sums[2])}",
        )
        keys: dict[str, Callable[[ProcessMemory], Any]] = {
            "pss": lambda each: -(_pss(each) or 0),
            "since": lambda each: -(self._since(each) or 0),
            "private": lambda each: -(each.memory.private or 0 if each.memory else 0),
            "resident": lambda each: -(each.memory.resident or 0 if each.memory else 0),
            "swap": lambda each: -(each.memory.swapped or 0 if each.memory else 0),
            "pid": lambda each: each.process.pid,
            "name": lambda each: each.process.name,
        }
        key = keys[self._sort]
        order = sorted(self._found.values(), key=lambda each: (key(each), each.process.pid), reverse=self._is_turned)
        self._rows.fill([each.process.pid for each in order], lambda index: self._row(order[index]))

    def _row(self, each: ProcessMemory) -> Row:
        use, since = each.memory or MemoryUse(), self._since(each)
        cells = (
            str(each.process.pid),
            size_text(use.proportional, exact=False),
            growth_text(since, exact=False) if since else NOTHING,
            *(size_text(size, exact=False) for size in (use.private, use.resident, use.swapped)),
            escape(each.process.name) or NOTHING,
        )
        return Row(cells, "", {0: "heading", 2: _style_of(since)})

    def wanted(self, words: str) -> None:
        """Words that choose processes; any other is taken for a part of a name. Raises UsageError."""
        try:
            split = shlex.split(words)
        except ValueError as error:
            raise UsageError(f"the words end within quotes: {error}") from None
        named = [word if ":" in word or is_word(word) else f"name:*{word}*" for word in split]
        for word in named:
            parse(word)
        self._words = tuple(named)
        self._field.value = shlex.join(named)
        self.question.again()

    def on_rows_chosen(self, message: Rows.Chosen) -> None:
        """Open it."""
        chosen = self._found.get(message.key) if isinstance(message.key, int) else None
        if chosen is not None:
            self.app.push_screen(Process(chosen.process, self._how, self._wire))

    def action_leave(self) -> None:
        """The field, or the program."""
        if not self.leave_field():
            self.app.exit(0)


class Process(Page):
    """One of them: its map, by kind and region, and what grew since it was opened."""

    KEYS = " Esc back  / regions  s sort  r turn round  b from now on  k kinds  Space pause  q quit"
    SORTS = ("address", "size", "memory", "grew", "kind", "name")
    BINDINGS = [  # noqa: RUF012  (as textual declares it)
        Binding("escape,backspace", "leave"),
        Binding("q", "quit"),
        Binding("b", "begin"),
        Binding("k", "kinds"),
    ]

    def __init__(self, info: ProcessInfo, how: How, wire: threading.Lock) -> None:
        columns = (
            Column("RANGE"),
            Column("PERM"),
            Column("SIZE", right=True, leaves=2),
            Column("IN-USE", right=True),
            Column("GREW", right=True),
            Column("KIND", leaves=1),
            Column("NAME", crops=True),
        )
        widest = (
            range_text(2**47 - 1, 2**47 - 1),
            "rwxp",
            "1023.9M",
            "1023.9M",
            "+1023.9M",
            "shared-memory",
            _ANY_NAME,
        )
        super().__init__(columns, widest, "address")
        self._info, self._where = info, _where(how.place)
        self._opened = Opened(info, how.place, how.backend)
        self._look: Look | None = None
        self._filter, self._has_kinds = ANY, True
        self.question = Repeated(
            self._opened.look, lambda found: self.post_message(Told(found)), how.every, wire, end=self._opened.close
        )

    def on_mount(self) -> None:
        """With what the field is for."""
        self._field.placeholder = "rw  x,file  heap  libc  size>1M  !shared; nothing: all of it"

    def take(self, found: object) -> None:
        """Another look at it."""
        assert isinstance(found, Look)
        self._look = found
        self._note = f"something may be missing: {found.space.incomplete}" if found.space.incomplete else ""

    def fail(self, error: Exception) -> None:
        """It has ended: what was seen last stays to be looked at."""
        if isinstance(error, NoSuchProcess):
            self._problem = "it has ended: this is what was seen last"
            self.question.stop()
            return
        super().fail(error)

    def show_rows(self) -> None:
        """Whose, what it comes to, the kinds, and the regions that pass."""
        whose = one_line(f"process {self._info.pid} ({self._info.name}){self._where}")
        if self._look is None:
            self.say(whose, "" if self._problem else "asking for its map")
            return
        space, difference = self._look.space, self._look.difference
        use, gained = space.memory.use, difference.memory
        told = [f"{count(len(space), 'region')}, {human(space.total)} mapped"]
        told += [
            f"{human(size)} {name}"
            for name, size in (("in memory", use.resident), ("private", use.private), ("in swap", use.swapped))
            if size is not None
        ]
        held = "" if gained is None or gained.held is None else f"{growth_text(gained.held, exact=False)} in use, "
        grew = f"in {self._look.seconds:.0f} s: {held}{growth_text(difference.growth, exact=False)} mapped"
        self.say(f"{whose}: {', '.join(told)}", grew)
        self._above.update(self._kinds() if self._has_kinds else Text(""))
        self._above.display = self._has_kinds
        keys: dict[str, Callable[[Region], Any]] = {
            "address": lambda each: each.start,
            "size": lambda each: -each.size,
            "memory": lambda each: -(each.resident or 0),
            "grew": lambda each: -(self._grew(each) or 0),
            "kind": lambda each: each.kind.label,
            "name": self._label,
        }
        passing = self._look.regions if self._filter == ANY else space.where(self._filter)
        order = sorted(passing, key=keys[self._sort], reverse=self._is_turned)
        self._rows.fill([each.start for each in order], lambda index: self._row(order[index]))

    def _kinds(self) -> Text:
        """What each comes to, as far as there is room for it above the map."""
        assert self._look is not None
        now, first, rows = self._look.kinds, self._look.first_kinds, []
        for kind, total in now.items():
            before = first[kind].memory.use.held if kind in first else 0
            held = total.memory.use.held
            grew = None if held is None or before is None else held - before
            cells = (
                kind.label,
                f"{total.regions:,}",
                human(total.size),
                *(size_text(size, exact=False) for size in (total.resident, total.private_resident)),
                growth_text(grew, exact=False) if grew else NOTHING,
            )
            rows.append(Row(cells, "", {0: f"kind.{kind.label}"}))
        columns = (
            Column("KIND"),
            *(Column(title, right=True) for title in ("REGIONS", "SIZE", "IN-MEMORY", "PRIVATE", "GREW")),
        )
        lines = list(terminal_lines(Table(columns, rows), max(self.size.width, 20), cell_len))
        text = Text(no_wrap=True, overflow="crop")
        for line in [*lines[: max(self.size.height // 3, 2)], []]:
            for cell in line:
                text.append(cell.text, style=STYLES[cell.style] if cell.style else "")
            text.append("\n")
        text.right_crop(1)
        return text

    def _grew(self, region: Region) -> int | None:
        gained = None if self._look is None else self._look.grown.get(region.start)
        return None if gained is None else gained.held

    def _label(self, region: Region) -> str:
        if region.label or self._look is None:
            return label_of(region)
        guess = self._look.guesses.get(region.start)
        return NOTHING if guess is None else escape(guess.label)

    def _row(self, region: Region) -> Row:
        use, grew = region.memory, self._grew(region)
        cells = (
            range_text(region.start, region.end),
            region.permissions,
            human(region.size),
            size_text(None if use is None else use.held, exact=False),
            growth_text(grew, exact=False) if grew else NOTHING,
            region.kind.label,
            self._label(region),
        )
        return Row(cells, f"kind.{region.kind.label}", {4: _style_of(grew)})

    def wanted(self, words: str) -> None:
        """Words of a filter. Raises UsageError."""
        self._filter = Filter.parse(words) if words.strip() else ANY

    def action_kinds(self) -> None:
        """With them, or without: more room for the map."""
        self._has_kinds = not self._has_kinds
        self._show()

    def action_begin(self) -> None:
        """Growth is told from now on."""
        self._opened.from_now()
        self.question.again()

    def action_leave(self) -> None:
        """The field, or the page."""
        if not self.leave_field():
            self.app.pop_screen()

    def action_quit(self) -> None:
        """The program."""
        self.app.exit(0)


class Top(App[int]):
    """`vmatlas top`. Its ground is the terminal's own, and its colours are the sixteen that every terminal has."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS = [Binding("ctrl+c,ctrl+q", "leave", priority=True)]  # noqa: RUF012  (as textual declares it)
    CSS = """
    Screen, Static, Rows, Input { background: ansi_default; color: ansi_default; }
    Rows { height: 1fr; }
    #head, #above { height: auto; }
    #head, #state, #keys { text-wrap: nowrap; text-overflow: ellipsis; }
    #above { padding-top: 1; }
    #state, #keys { height: 1; }
    #keys { text-style: reverse; }
    Input { height: 1; border: none; padding: 0; }
    """

    def __init__(self, how: How, *, colours: bool) -> None:
        if colours:
            os.environ.pop("NO_COLOR", None)
        else:
            os.environ["NO_COLOR"] = "1"  # which textual looks at, and takes away
        super().__init__(ansi_color=True)
        self.animation_level = "none"
        self.defect: Exception | None = None
        """What went wrong that must not."""
        self.lost: TargetLost | None = None
        """Why there is no target any more."""
        self._how, self._wire = how, threading.Lock()

    def on_mount(self) -> None:
        """To the first page."""
        self.push_screen(Processes(self._how, self._wire))

    def action_leave(self) -> None:
        """At once."""
        self.exit(0)
