"""Which regions are wanted, as one value: behind `where=`, `find`, the command line's `--where`, the kernel's filters.

All conditions must hold. As text, conditions are separated by commas:

    rwx  rw  x            these rights are given (others do not matter)
    r-x  rw-  r-xp  ---   exactly these, as in /proc/PID/maps (three letters, and p or s for the sharing)
    shared  private       the sharing
    file                  there is a file (or shared memory object) behind it
    deleted               that file has been unlinked
    heap stack anonymous  the kind, by its label; or kind=heap
    path=GLOB  name=GLOB  the path or the kernel's name (* ? [...]; a comma is written \\,). A name just as it is shown
                          matches itself: name=[heap]
    size>1M  size<=64K    the size; > >= < <= =. K, M, G, T are powers of 1024
    resident>1M           other numbers alike: resident, private, page_size, inode, start, end, offset (these three are
                          hexadecimal, as tables show them), and every number that the system tells under a key of
                          its own, in capitals or not: swap>0, pss>=1M
    flag=locked flag=lo   a flag of the system's, by its name or as the system writes it; flag=lo|gu either
    at=0x7f00             the region that covers the address
    in=0x1000-0x9000      regions that have an address in common with the range
    libc  text=libc       anything else: the path or the name contains it (* and ? have their meaning, too); the mark of
                          an unlinked file is no part of the path, but text=(deleted) finds it
    !CONDITION            the opposite of shared, file, deleted, a kind, a flag, a text, or a set of rights (none of
                          them given)

There is no "or" but for kinds and flags: ask once for each. An empty filter is refused, and so is what is likely a slip
(`stakc`, `heaps`, `writable`, `x|w`, `path=*libc*|*libm*`), with what is likely meant; a | in a path is written [|].

A word that has a meaning above has that one: `x` is a right, `heap` a kind, `file` is what is backed by one. As a text
it is written text=heap. What is told only with residency (resident, private, flags, keys) is asked for by itself.

No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from vmatlas.arguments import shown
from vmatlas.contracts import TypedDict, TypeVar
from vmatlas.errors import UsageError
from vmatlas.model.memory import REGION_FIELDS
from vmatlas.model.region import Kind, Protection, Region, SystemFlags
from vmatlas.patterns import pattern
from vmatlas.values import NamedTuple, dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Unpack

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = pattern(r"(?ia)(0x[0-9a-f]{1,16}|[0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([KMGT]?)(?:i?B)?")
_ADDRESS = pattern(r"(?ia)(?:0x)?[0-9a-f]+")
_EXACT = pattern(r"[r-][w-][x-][ps]?")
_RIGHTS = pattern(r"[rwx]{1,3}")
_COMPARISON = pattern(r"(?ias)([a-z][a-z0-9_().-]*)\s*(>=|<=|>|<|=)\s*(.+)")
_LIKE_RIGHTS = pattern(r"[rwx]{4,}|[rwxsp-]*-[rwxsp-]*")
_LIKE_SHARING = pattern(r"[rwx]*[sp]")
_LIKE_ADDRESS = pattern(r"(?ia)0x[0-9a-f]+|(?=[a-f]*[0-9])[0-9a-f]{6,}")
_LIKE_RANGE = pattern(r"(?ia)(?:0x)?[0-9a-f]{4,16}-(?:0x)?[0-9a-f]{4,16}")
_COMMA = pattern(r"(?<!\\),")
_BREAKS = pattern(r"[\s&;+]+")
_NO_NAME = pattern(r"[*?\[/:]")
_LETTERS = {"r": Protection.READ, "w": Protection.WRITE, "x": Protection.EXECUTE}
_ALL = Protection.READ | Protection.WRITE | Protection.EXECUTE
_LABELS = {kind.label: kind for kind in Kind} | {"anon": Kind.ANONYMOUS, "shm": Kind.SHARED_MEMORY}
_NEVER_SEVERAL = _LABELS.keys() - {"file", "device", "other"}
"""Kinds of which nobody finds the plural in a path; /sys/devices is mapped, and files lie in folders of that name."""
_WORDS = ("file", "deleted", "shared", "private")
_KEYS = ("kind", "path", "name", "at", "in", "flag", "text")
_OF_THE_API = (
    dict.fromkeys(("readable",), "r")
    | dict.fromkeys(("writable", "writeable"), "w")
    | dict.fromkeys(("executable", "executeable"), "x")
    | dict.fromkeys(("file_backed", "file-backed", "filebacked"), "file")
    | dict.fromkeys(("larger_than", "larger-than"), "size>...")
    | dict.fromkeys(("smaller_than", "smaller-than"), "size<...")
    | {word: f"flag={word}" for word in ("locked", "sealed", "grows_down")}
)
"""Words for conditions that keywords have (`Criteria`), and flags on every system: what is written for them here."""
_FIELDS = {
    "private": "private_resident",
    "page_size": "page_size",
    "offset": "offset",
    "inode": "inode",
    "start": "start",
    "end": "end",
}
"""Numbers of a region that a condition can compare, beside `size` and `resident`: the key, and the field."""
NOT_ALWAYS_TOLD = {"resident": "resident", "private": "private_resident", "page_size": "page_size"}
"""Those that a map tells of all its regions or of none: the key, and the column."""
_ALIASES = {
    "private_resident": "private",
    "private-resident": "private",
    "uss": "private",
    "page-size": "page_size",
    "pagesize": "page_size",
}
_HEXADECIMAL = {"start": "address", "end": "address", "offset": "offset in hexadecimal"}
"""What every table shows so: the key, and what its value is."""


def parse_size(text: str) -> int:
    """Bytes, from "4096", "0x1000", "64K", "1.5M", "2GiB". Raises UsageError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"'{text}' is no size", hint="write for example 4096, 0x1000, 64K or 1.5M")
    number, unit = match[1], match[2].upper()
    if number.lower().startswith("0x"):
        return int(number, 16) * _UNITS[unit]
    if "." not in number:
        return int(number) * _UNITS[unit]
    return int(float(number) * _UNITS[unit])


def parse_address(text: str, what: str = "address") -> int:
    """An address: hexadecimal with or without 0x, as maps show it. Raises UsageError."""
    if not _ADDRESS.fullmatch(text.strip()):
        raise UsageError(f"'{text}' is no {what}", hint="write it in hexadecimal, for example 0x7f1200000000")
    address = int(text.strip(), 16)
    if address >= 2**64:
        raise UsageError(f"{what} '{text}' does not fit in 64 bits")
    return address


class NumberRange(NamedTuple):
    """A number of a region lies between two others, inclusive both. One that is not told does not."""

    key: str
    """`private`, `page_size`, `offset`, `inode`, `start`, `end`; or one of the system's own keys, in lower case."""
    low: int
    high: int | None


class Criteria(TypedDict, total=False):
    """The keywords that say which regions are wanted; what is left out, or None, does not matter."""

    readable: bool | None
    writable: bool | None
    executable: bool | None
    shared: bool | None
    file_backed: bool | None
    """There is a file, a device or a shared memory object behind it."""
    deleted: bool | None
    kind: Kind | str | Iterable[Kind | str] | None
    """Any of these; as text by their labels: "heap"."""
    path: str | None
    """A pattern, as `fnmatch` has them; or the path itself, brackets and all."""
    name: str | None
    """A pattern for the kernel's name; or the name itself: "[heap]"."""
    text: str | None
    """What the path or the name contains."""
    flag: str | None
    """One of the system's flags, by its name or as the system writes it: "locked", "lo"; "lo|gu" for either."""
    larger_than: int | str | None
    """Exclusive; bytes, or text such as "1M"."""
    smaller_than: int | str | None
    """Exclusive."""


@dataclass(frozen=True, slots=True, repr=False)
class Filter:
    """Conditions on a region; all must hold. The default asks for nothing, so every region passes."""

    given: Protection = Protection.NONE
    """Rights that the region must have."""
    withheld: Protection = Protection.NONE
    """Rights that the region must not have."""
    shared: bool | None = None
    file_backed: bool | None = None
    """There is a file, a device or a shared memory object behind it."""
    deleted: bool | None = None
    kinds: frozenset[Kind] = frozenset()
    """Any of these; empty: every kind."""
    other_kinds: frozenset[Kind] = frozenset()
    """None of these."""
    paths: frozenset[str] = frozenset()
    """Patterns (`fnmatch`, case matters) that the path must match, each of them; a bracket may stand for itself."""
    names: frozenset[str] = frozenset()
    """Patterns that the kernel's name must match, each of them."""
    texts: frozenset[str] = frozenset()
    """What the path or the name must contain, each of them; * and ? have their meaning, a bracket is one."""
    other_texts: frozenset[str] = frozenset()
    """What neither may contain."""
    flags: frozenset[str] = frozenset()
    """Flags that must be set, each of them: words as in `SystemFlags.words`, or several with | between them for any."""
    other_flags: frozenset[str] = frozenset()
    """Flags that must not be set; where none are told, none of them is known to be unset."""
    numbers: frozenset[NumberRange] = frozenset()
    """Other numbers, one range for each; a region that does not tell one does not pass."""
    min_size: int = 0
    max_size: int | None = None
    """Bytes, inclusive both."""
    min_resident: int = 0
    max_resident: int | None = None
    """Bytes, inclusive both; a region of unknown residency passes neither."""
    overlaps: tuple[int, int] | None = None
    """(low, high): the region begins below `high` and ends above `low`: it has an address in common with [low, high).
    Two ranges together can have `low` above `high`: then the region reaches from one range into the other."""

    def __post_init__(self) -> None:
        """Raises UsageError for a field of another kind: a text where rights stand, which `parse` reads, above all."""
        for key in ("given", "withheld"):
            rights = getattr(self, key)
            if not isinstance(rights, int) or isinstance(rights, bool) or not 0 <= rights <= _ALL:
                raise UsageError(f"{shown(rights)} is no set of rights", hint="Filter.parse reads a filter in words")
        for key in ("shared", "file_backed", "deleted"):
            _check_choice(key, getattr(self, key))
        for key, kind, what in _SETS:
            members = getattr(self, key)
            if not isinstance(members, frozenset) or not all(isinstance(each, kind) for each in members):
                raise UsageError(f"{key}={shown(members)} is no frozenset of {what}")
            if kind is str and not all(each.strip() if "text" in key else each for each in members):
                # It could not be written as text, as it is in a capture.
                raise UsageError(f"the filter asks for an empty one of its {key}", hint="leave it out: None")
        for key in ("min_size", "min_resident", "max_size", "max_resident"):
            number = getattr(self, key)
            if type(number) is not int and not (number is None and key.startswith("max")):
                raise UsageError(f"{key}={shown(number)} is no number of bytes")
        for each in self.numbers:
            if not (
                isinstance(each.key, str) and type(each.low) is int and (each.high is None or type(each.high) is int)
            ):
                raise UsageError(f"{shown(each)} is no range of a number")
        span: Any = self.overlaps
        if span is not None and not (
            isinstance(span, tuple) and len(span) == 2 and all(type(each) is int for each in span)
        ):
            raise UsageError(f"overlaps={shown(span)} is no pair of addresses")

    @classmethod
    def of(cls, where: Filter | str | None = None, **criteria: Unpack[Criteria]) -> Filter:
        """From a filter or its text, from keywords, or both together.

        Raises UsageError for text that is no filter, and where no region could pass; TypeError for an unknown keyword.
        """
        if unknown := criteria.keys() - Criteria.__annotations__.keys():
            raise TypeError(
                f"unknown criteria: {', '.join(sorted(unknown))}; there are {', '.join(Criteria.__annotations__)}"
            )
        wanted: Any = ANY if where is None else cls.parse(where) if isinstance(where, str) else where
        if not isinstance(wanted, Filter):
            raise UsageError(f"{shown(wanted)} is no filter", hint="give its text, such as 'x,file', or a Filter")
        base = wanted
        if not criteria:
            return base
        given = withheld = Protection.NONE
        for wanted, right in (
            (criteria.get("readable"), Protection.READ),
            (criteria.get("writable"), Protection.WRITE),
            (criteria.get("executable"), Protection.EXECUTE),
        ):
            given |= right if wanted is True else Protection.NONE
            withheld |= right if wanted is False else Protection.NONE
        for key in ("readable", "writable", "executable", "shared", "file_backed", "deleted"):
            _check_choice(key, criteria.get(key))
        kind = criteria.get("kind")
        larger, smaller = criteria.get("larger_than"), criteria.get("smaller_than")
        return base & cls(
            given=given,
            withheld=withheld,
            shared=criteria.get("shared"),
            file_backed=criteria.get("file_backed"),
            deleted=criteria.get("deleted"),
            kinds=frozenset() if kind is None else _kinds([kind] if isinstance(kind, Kind | str) else kind),
            paths=_patterns("path", criteria.get("path")),
            names=_patterns("name", criteria.get("name")),
            texts=_patterns("text", criteria.get("text")),
            flags=frozenset(map(_flag, _patterns("flag", criteria.get("flag")))),
            min_size=0 if larger is None else _bytes(larger) + 1,
            max_size=None if smaller is None else _bytes(smaller) - 1,
        )

    @classmethod
    def parse(cls, text: str) -> Filter:
        """From text, as the module describes it. Raises UsageError that names the condition, and for an empty text:
        what a program or a shell's variable left empty must not turn into every region."""
        result = ANY
        if not isinstance(text, str):
            raise UsageError(f"{shown(text)} is no text of a filter", hint="give one such as 'x,file'")
        if not text.replace(",", " ").strip():
            raise UsageError(f"the filter {shown(text)} is empty", hint="without a filter every region passes")
        for condition in _COMMA.split(text):
            if condition.strip():
                result = result & _parse_condition(condition.strip().replace("\\,", ","))
        return result

    @property
    def asks_residency(self) -> bool:
        """Whether it looks at what a backend tells only when the memory in use is asked for."""
        return self.min_resident > 0 or self.max_resident is not None or "private" in self._keys

    @property
    def wants_residency(self) -> bool:
        """Whether it looks at what some backends tell only so, others always: flags, page size, own keys."""
        return bool(self.flags or self.other_flags or self._keys - _FIELDS.keys() or "page_size" in self._keys)

    @property
    def looks_at_names(self) -> bool:
        """Whether it looks at names, or at what may be told by them alone: the kind, and that a file is deleted."""
        named = self.paths or self.names or self.texts or self.other_texts or self.kinds or self.other_kinds
        return bool(named) or self.deleted is not None

    @property
    def _keys(self) -> frozenset[str]:
        return frozenset(each.key for each in self.numbers)

    def check_told(self, numbers: Iterable[str], details: Iterable[str], flags: Sequence[SystemFlags | None]) -> None:
        """Refuse what no region of a map can answer.

        `numbers` are those of `NOT_ALWAYS_TOLD` that the map tells, `details` the system's own keys, `flags` those of
        its regions. A flag that has no name here is one where a region has it: of a newer kernel. Raises UsageError.
        """
        own = {key.lower(): key for key in details}
        told = ["size", *numbers, *(key for key in _FIELDS if key not in NOT_ALWAYS_TOLD), *own]
        told += [key for key in REGION_FIELDS if key not in told] if "rss" in own else []
        asked = self._keys | ({"resident"} if self.min_resident > 0 or self.max_resident is not None else set())
        for key in sorted(asked.difference(told)):
            known = ", ".join(dict.fromkeys(told))  # Linux has a key "Size", too
            hint = f"numbers: {known}" if own or "resident" in told else ASK_RESIDENCY
            raise UsageError(f"no region of this map tells '{key}'", hint=hint)
        written = {
            word: as_written
            for group in self.flags | self.other_flags
            for word, as_written in zip(
                group.split("|"), (group.written if isinstance(group, _Flags) else group).split("|"), strict=True
            )
        }
        for word in sorted(written):
            one = next((each for each in flags if each is not None), None)
            if one is None:
                raise UsageError(f"this map tells no flags, so none is '{written[word]}'", hint=ASK_RESIDENCY)
            if not one.knows(word):
                # Few of tens of thousands are different objects.
                distinct = {id(each): each for each in flags if each is not None}.values()
                if not any(word in each.words() for each in distinct):
                    raise UsageError(f"unknown flag '{written[word]}'", hint="flags: " + ", ".join(one.known()))

    def __and__(self, other: Filter) -> Filter:
        """Both.

        Raises UsageError when they contradict each other, such as shared and private.
        """
        given, withheld = self.given | other.given, self.withheld | other.withheld
        if given & withheld:
            raise UsageError("the filter asks for a right to be both given and withheld")
        kinds = self.kinds & other.kinds if self.kinds and other.kinds else self.kinds | other.kinds
        if self.kinds and other.kinds and not kinds:
            raise UsageError("the filter asks for two different kinds at once", hint="use kind=heap|stack for either")
        return Filter(
            given=given,
            withheld=withheld,
            shared=_same("shared", self.shared, other.shared),
            file_backed=_same("file", self.file_backed, other.file_backed),
            deleted=_same("deleted", self.deleted, other.deleted),
            kinds=kinds,
            other_kinds=self.other_kinds | other.other_kinds,
            paths=self.paths | other.paths,
            names=self.names | other.names,
            texts=self.texts | other.texts,
            other_texts=self.other_texts | other.other_texts,
            flags=self.flags | other.flags,
            other_flags=self.other_flags | other.other_flags,
            numbers=_common_numbers(self.numbers, other.numbers),
            min_size=max(self.min_size, other.min_size),
            max_size=_least(self.max_size, other.max_size),
            min_resident=max(self.min_resident, other.min_resident),
            max_resident=_least(self.max_resident, other.max_resident),
            overlaps=_common_range(self.overlaps, other.overlaps),
        )

    def matcher(self) -> Callable[[Region], bool]:
        """A function that tells whether a region passes; it is as quick as the filter is simple."""
        tests: list[Callable[[Region], bool]] = []
        if self.given or self.withheld:
            # What is not told is neither given nor withheld: such a region passes no condition on rights.
            mask, value = int(self.given | self.withheld | Protection.UNTOLD), int(self.given)
            tests.append(lambda region: region.protection & mask == value)
        if self.shared is not None:
            tests.append(lambda region: region.shared is self.shared)
        if self.file_backed is not None:
            tests.append(lambda region: (region.inode is not None or region.path is not None) is self.file_backed)
        if self.deleted is not None:
            tests.append(lambda region: region.deleted is self.deleted)
        if self.kinds or self.other_kinds:
            kinds = (self.kinds or frozenset(Kind)) - self.other_kinds
            tests.append(lambda region: region.kind in kinds)
        if self.paths:
            path = _all_patterns(self.paths)
            tests.append(lambda region: region.path is not None and path(region.path))
        if self.names:
            name = _all_patterns(self.names)
            tests.append(lambda region: region.name is not None and name(region.name))
        if self.texts:
            tests.extend(map(_with_text, self.texts))
        for text in self.other_texts:
            tests.append(_without(_with_text(text)))
        for words in self.flags:
            tests.append(_with_flag(words, wanted=True))
        for words in self.other_flags:
            tests.append(_with_flag(words, wanted=False))
        tests.extend(map(_with_number, self.numbers))
        if self.min_size > 0 or self.max_size is not None:
            tests.append(lambda region: _within(region.end - region.start, self.min_size, self.max_size))
        if self.min_resident > 0 or self.max_resident is not None:
            tests.append(
                lambda region: (
                    region.resident is not None and _within(region.resident, self.min_resident, self.max_resident)
                )
            )
        if self.overlaps is not None:
            low, high = self.overlaps
            tests.append(lambda region: region.start < high and low < region.end)
        if not tests:
            return lambda region: True
        if len(tests) == 1:
            return tests[0]
        return lambda region: all(test(region) for test in tests)

    def matches(self, region: Region) -> bool:
        """Whether the region passes. Raises UsageError for what is no region."""
        check_region(region)
        return self.matcher()(region)

    def __repr__(self) -> str:
        return f"<Filter {str(self) or 'of nothing: every region passes'}>"

    def __str__(self) -> str:
        """As text that `parse` reads as the same filter; empty for the one that asks for nothing."""
        conditions = [_rights(self.given)] if self.given else []
        conditions += ["!" + _rights(self.withheld)] if self.withheld else []
        for value, yes, no in (
            (self.shared, "shared", "private"),
            (self.file_backed, "file", "!file"),
            (self.deleted, "deleted", "!deleted"),
        ):
            conditions += [] if value is None else [yes if value else no]
        for prefix, kinds in (("kind=", self.kinds), ("!kind=", self.other_kinds)):
            conditions += [prefix + "|".join(kind.label for kind in sorted(kinds))] if kinds else []
        for key, low, high in (
            ("size", self.min_size, self.max_size),
            ("resident", self.min_resident, self.max_resident),
        ):
            conditions += [f"{key}>={low}"] if low > 0 else []
            conditions += [] if high is None else [f"{key}<={high}" if high >= 0 else f"{key}<0"]
        for key, low, high in sorted(self.numbers, key=lambda each: each.key):
            form = "#x" if key in _HEXADECIMAL else ""
            conditions += [f"{key}>={low:{form}}"] if low > 0 or high is None else []
            conditions += [] if high is None else [f"{key}<={high:{form}}" if high >= 0 else f"{key}<0"]
        conditions += [f"flag={word}" for word in sorted(self.flags)]
        conditions += [f"!flag={word}" for word in sorted(self.other_flags)]
        if self.overlaps is not None:
            low, high = self.overlaps
            spans = [(low, high)] if low < high else [(0, high), (low, 2**64 - 1)]
            conditions += [f"in={start:#x}-{end:#x}" for start, end in spans]
        for key, patterns in (("name", self.names), ("path", self.paths)):
            conditions += [f"{key}={text}" for text in sorted(map(_pattern_text, patterns))]
        for key, texts in (("text", self.texts), ("!text", self.other_texts)):
            conditions += [f"{key}={text}" for text in sorted(map(_text_text, texts))]
        return ",".join(conditions)


def check_region(region: object) -> None:
    """Raises UsageError for what is no region."""
    if not isinstance(region, Region):
        raise UsageError(f"{shown(region)} is no region", hint="vmatlas.find and a snapshot give regions")


def check_filter(where: object) -> None:
    """Raises UsageError for what is no filter."""
    if not isinstance(where, Filter):
        raise UsageError(f"{shown(where)} is no filter", hint="Filter.parse('x,file') makes one")


def _check_choice(key: str, value: object) -> None:
    if value is not None and not isinstance(value, bool):
        raise UsageError(f"{key}={shown(value)} is neither True, nor False, nor None (which does not matter)")


_SETS: tuple[tuple[str, type, str], ...] = (
    ("kinds", Kind, "kinds"),
    ("other_kinds", Kind, "kinds"),
    ("paths", str, "texts"),
    ("names", str, "texts"),
    ("texts", str, "texts"),
    ("other_texts", str, "texts"),
    ("flags", str, "texts"),
    ("other_flags", str, "texts"),
    ("numbers", NumberRange, "NumberRange"),
)
"""Fields that are sets, and what their members are."""

ANY = Filter()
"""Every region."""


_T = TypeVar("_T")


def _same(name: str, a: _T | None, b: _T | None) -> _T | None:
    if a is not None and b is not None and a != b:
        raise UsageError(f"the filter asks for two different values of '{name}'")
    return b if a is None else a


def _within(value: int, low: int, high: int | None) -> bool:
    return value >= low and (high is None or value <= high)


def _least(a: int | None, b: int | None) -> int | None:
    return a if b is None else b if a is None else min(a, b)


def _common_range(a: tuple[int, int] | None, b: tuple[int, int] | None) -> tuple[int, int] | None:
    if a is None or b is None:
        return a or b
    return max(a[0], b[0]), min(a[1], b[1])


def _bytes(size: int | str) -> int:
    if isinstance(size, str):
        return parse_size(size)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise UsageError(f"{shown(size)} is no size", hint="give bytes, or text such as '64K'")
    return size


def _rights(protection: Protection) -> str:
    return protection.letters.replace("-", "")


def _pattern_text(glob: str) -> str:
    """A pattern as the value of a condition: `parse` strips spaces and splits at commas without a backslash."""
    if any(_are_alternatives(key, glob) for key in ("path", "name")):
        glob = glob.replace("|", "[|]")
    text = glob.replace(",", "\\,")
    if text[-1:].isspace() or text.endswith("\\"):
        text = f"{text[:-1]}[{text[-1]}]"
    return f"[{text[0]}]{text[1:]}" if text[:1].isspace() else text


def _text_text(text: str) -> str:
    """A text alike: what is on both sides of it does not matter."""
    written = text.replace(",", "\\,")
    after = "*" if written[-1:].isspace() or written.endswith("\\") else ""
    return ("*" if written[:1].isspace() else "") + written + after


def _kinds(kinds: Iterable[Kind | str]) -> frozenset[Kind]:
    if not isinstance(kinds, Iterable):
        raise UsageError(f"unknown kind {shown(kinds)}", hint="kinds: " + ", ".join(sorted(_LABELS)))
    found = frozenset(kind if isinstance(kind, Kind) else _kind(kind) for kind in kinds)
    if not found:  # what a program has computed, perhaps: it must not turn into every kind
        raise UsageError("no kind is wanted, so no region could pass", hint="None: the kind does not matter")
    return found


def _kind(label: str) -> Kind:
    found = _LABELS.get(label.strip().lower()) if isinstance(label, str) else None
    if found is None:
        told = f"'{label}'" if isinstance(label, str) else shown(label)
        raise UsageError(f"unknown kind {told}", hint="kinds: " + ", ".join(sorted(_LABELS)))
    return found


def _patterns(key: str, glob: str | None) -> frozenset[str]:
    if not isinstance(glob, str | None):
        raise UsageError(f"{key}={shown(glob)} is no text")
    if glob == "":
        raise UsageError(f"{key}='' names no {'text' if key == 'text' else 'pattern'}", hint="None: it does not matter")
    return frozenset() if glob is None else frozenset([glob])


def _matching(glob: str) -> Callable[[str], object]:
    import fnmatch  # most questions have no pattern
    import re

    return re.compile(fnmatch.translate(glob)).match


def _pattern(glob: str) -> Callable[[str], object]:
    """By the pattern, or with every bracket in it for itself: a name as it is shown is a pattern that matches it."""
    match = _matching(glob)
    if "[" not in glob:
        return match
    plainly = _matching(glob.replace("[", "[[]"))
    return lambda text: match(text) or plainly(text)


def _with_text(text: str) -> Callable[[Region], bool]:
    contains = _matching("*" + text.replace("[", "[[]") + "*")
    if "(deleted)" in text:  # as tables show it
        return lambda region: contains(region.label) is not None
    return lambda region: contains(region.path or region.name or "") is not None


def _all_patterns(globs: Iterable[str]) -> Callable[[str], bool]:
    matches = [_pattern(glob) for glob in globs]
    return lambda text: all(match(text) for match in matches)


def _without(matches: Callable[[Region], bool]) -> Callable[[Region], bool]:
    return lambda region: not matches(region)


class _Flags(str):
    """Words for flags, and how they were written: a refusal quotes that."""

    written: str


def _flag(word: str) -> str:
    """As `SystemFlags.words` has them; several with | between them stay so. Raises UsageError."""
    written = [each.strip() for each in word.split("|")]
    if not all(written):
        raise UsageError(f"'{word}' names no flag", hint="write flag=NAME, or flag=NAME|NAME for either")
    words = _Flags("|".join(each.lower().replace("-", "_") for each in written))
    words.written = "|".join(written)
    return words


def _with_flag(words: str, *, wanted: bool) -> Callable[[Region], bool]:
    any_of = frozenset(words.split("|"))
    known: dict[SystemFlags, bool] = {}

    def test(region: Region) -> bool:
        flags = region.flags
        if flags is None:
            return False
        found = known.get(flags)
        if found is None:
            found = known[flags] = not any_of.isdisjoint(flags.words())
        return found is wanted

    return test


def _with_number(wanted: NumberRange) -> Callable[[Region], bool]:
    key, low, high = wanted
    if (field := _FIELDS.get(key)) is not None:

        def of_field(region: Region) -> bool:
            value: int | None = getattr(region, field)
            return value is not None and _within(value, low, high)

        return of_field

    def of_detail(region: Region) -> bool:
        details = region.details
        value = next((details[own] for own in details if own.lower() == key), None)
        if value is None and key in REGION_FIELDS and (use := region.memory) is not None:
            value = getattr(use, key)
        return isinstance(value, int) and _within(value, low, high)

    return of_detail


def _common_numbers(one: frozenset[NumberRange], other: frozenset[NumberRange]) -> frozenset[NumberRange]:
    found = {each.key: each for each in one}
    for each in other:
        if (same := found.get(each.key)) is not None:
            found[each.key] = NumberRange(each.key, max(same.low, each.low), _least(same.high, each.high))
        else:
            found[each.key] = each
    return frozenset(found.values())


ASK_RESIDENCY = "ask for the memory in use, with which the system tells it: residency=True, --residency"


def _parse_condition(text: str) -> Filter:
    negated = text.startswith("!")
    word = text[1:].strip() if negated else text
    if word.startswith("!"):
        raise UsageError(f"the filter condition '{text}' is negated twice", hint="write it without either")
    lowered = word.lower()
    if _RIGHTS.fullmatch(lowered):
        rights = Protection.NONE
        for letter in lowered:
            rights |= _LETTERS[letter]
        return Filter(withheld=rights) if negated else Filter(given=rights)
    if lowered == "file":
        return Filter(file_backed=not negated)
    if lowered == "deleted":
        return Filter(deleted=not negated)
    if lowered in ("shared", "private"):
        return Filter(shared=(lowered == "shared") is not negated)
    if lowered in _LABELS:
        kinds = frozenset([_LABELS[lowered]])
        return Filter(other_kinds=kinds) if negated else Filter(kinds=kinds)
    key, equals, value = word.partition("=")
    key = key.strip().lower()
    if equals and key in ("kind", "flag", "flags", "text"):
        return _parse_negatable(key, value, negated)
    if not equals and _is_text(lowered):
        _refuse_likely_mistake(word, lowered)
        return _parse_negatable("text", word, negated)
    if negated:
        raise UsageError(f"the filter condition '{text}' cannot be negated", hint=_instead_of_negating(word, lowered))
    if _EXACT.fullmatch(lowered):
        given = Protection.NONE
        for letter in lowered[:3]:
            given |= _LETTERS.get(letter, Protection.NONE)
        return Filter(given=given, withheld=_ALL & ~given, shared={"s": True, "p": False}.get(lowered[3:]))
    if equals:
        if key in ("path", "name") and not value:
            raise UsageError(f"the filter condition '{key}=' names no pattern", hint=f"write for example {key}=*lib*")
        if key in ("path", "name"):
            _refuse_alternatives(key, value)
        match key:
            case "path":
                return Filter(paths=frozenset([value]))
            case "name":
                return Filter(names=frozenset([value]))
            case "at":
                address = parse_address(value)
                return Filter(overlaps=(address, address + 1))
            case "in":
                low, dash, high = value.partition("-")
                if dash and (span := (parse_address(low), parse_address(high)))[0] < span[1]:
                    return Filter(overlaps=span)
                raise UsageError(f"'{value}' is no address range", hint="write START-END in hexadecimal, END excluded")
    if (comparison := _COMPARISON.fullmatch(word)) is not None:
        key, sign, value = comparison[1].lower(), comparison[2], comparison[3]
        is_ours = _ALIASES.get(key, key) in ("size", "resident", *_FIELDS)
        if is_ours or sign != "=" or _SIZE.fullmatch(value.strip()):
            return _parse_comparison(_ALIASES.get(key, key), sign, value)
    raise UsageError(
        f"unknown filter condition '{text}'",
        hint="conditions: rwx, r-xp, shared, private, file, deleted, "
        + ", ".join(sorted(_LABELS.keys() - {Kind.FILE.label}))
        + ", kind=file, path=GLOB, name=GLOB, text=TEXT, flag=NAME, size>1M, resident>1M, at=ADDRESS, in=START-END",
    )


def _is_text(lowered: str) -> bool:
    return bool(lowered) and not {"<", ">"} & set(lowered) and not _EXACT.fullmatch(lowered)


def _refuse_likely_mistake(word: str, lowered: str) -> None:
    """A text that nobody writes who means a text. Raises UsageError that says what is likely meant."""
    instead = None
    if _LIKE_RIGHTS.fullmatch(lowered):
        instead = "rights are written rwx (given, others do not matter) or r-xp (exactly these)"
    elif _LIKE_SHARING.fullmatch(lowered):
        rights = f"{lowered[:-1]}," if lowered[1:] else ""
        instead = f"sharing is a word of its own: {rights}{'shared' if lowered.endswith('s') else 'private'}"
    elif _LIKE_ADDRESS.fullmatch(lowered):
        instead = f"the region at an address is at={word}"
    elif _LIKE_RANGE.fullmatch(lowered):
        instead = f"the regions in a range are in={word}"
    elif lowered in _OF_THE_API:
        instead = f"{lowered} is written {_OF_THE_API[lowered]} here"
    elif lowered in (*_KEYS, "flags"):
        instead = f"write {lowered}=..."
    elif lowered in ("size", "resident", *_FIELDS, *_ALIASES):
        instead = f"write {lowered}>..., {lowered}=..., and so on"
    elif all(part.strip() in _LABELS for part in lowered.split("|")):
        instead = f"one of several kinds is kind={word}"
    elif "|" in word.strip("|") or ("|" in word and _is_word(lowered.strip("| "))):
        instead = "there is no 'or' of conditions but for kinds and flags (kind=heap|stack): ask once for each"
    elif len(parts := _BREAKS.split(lowered)) > 1 and all(map(_is_word, parts)):
        instead = f"conditions that must all hold are separated by commas: {','.join(parts)}"
    elif lowered.endswith("s") and lowered[:-1] in _NEVER_SEVERAL:
        instead = f"did you mean '{lowered[:-1]}'?"
    elif (near := _near(lowered)) is not None:
        instead = f"did you mean '{near}'?"
    if instead is not None:
        plain = " ".join(word.split())  # in one line
        raise UsageError(
            f"unknown filter condition '{plain}'",
            hint=f"{instead} (text={plain} finds names and paths that contain it)",
        )


def _is_word(word: str) -> bool:
    """Whether it has a meaning of its own, by which it is no text."""
    return (
        word in _LABELS
        or word in _WORDS
        or word in _OF_THE_API
        or bool(_RIGHTS.fullmatch(word) or _EXACT.fullmatch(word))
    )


def _refuse_alternatives(key: str, pattern: str) -> None:
    """A pattern that is meant as several, for which there is no sign. Raises UsageError."""
    if _are_alternatives(key, pattern):
        raise UsageError(
            f"'|' is no 'or' in the pattern '{pattern}'",
            hint=f"ask once for each: {key}={pattern.split('|')[0].strip()} ([|] is the character itself)",
        )


def _are_alternatives(key: str, pattern: str) -> bool:
    """Whether each part between | looks like a pattern of its own: a path is whole, or begins with any text."""
    parts = [part.strip() for part in pattern.split("|")]
    if len(parts) < 2 or not all(part.strip("*?") for part in parts):
        return False
    if all(part.startswith(("*", "?", "/")) for part in parts):
        return True
    if key == "name":
        return all((part.startswith("[") and part.endswith("]")) or part.lower() in _LABELS for part in parts)
    return not _NO_NAME.search(pattern)  # no path


def _instead_of_negating(word: str, lowered: str) -> str:
    """What to write for the opposite of a condition that has none."""
    if not word:
        return "write !CONDITION, such as !shared or !libc"
    if _EXACT.fullmatch(lowered):
        return "rights that must not be given are written !w, the others w; the sharing shared or private"
    key, _, value = (part.strip() for part in word.partition("="))
    if key.lower() in ("path", "name"):
        text = value.strip("*") or "TEXT"
        return f"what names and paths must not contain is written !text={text}"
    if (comparison := _COMPARISON.fullmatch(word)) is not None and key.lower() not in ("at", "in"):
        opposite = {">": "<=", ">=": "<", "<": ">=", "<=": ">"}.get(comparison[2])
        if opposite is not None:
            return f"its opposite is {comparison[1]}{opposite}{comparison[3]}"
        return f"{comparison[1]}<... and {comparison[1]}>... are what it is not"
    if key.lower() in ("at", "in"):
        return "ask for the ranges around it: in=START-END"
    return "what can be negated: shared, private, file, deleted, a kind, a flag, a text, rights such as !w"


def _near(word: str) -> str | None:
    """A word of the language that differs from it by a slip; not one of which it is a part: that may be a text."""
    import difflib

    candidates = [each for each in (*_WORDS, *_LABELS) if each not in word and word not in each and len(word) > 3]
    swapped = next((each for each in candidates if sorted(each) == sorted(word)), None)
    return swapped or next(iter(difflib.get_close_matches(word, candidates, 1, 0.8)), None)


def _parse_negatable(key: str, value: str, negated: bool) -> Filter:
    if key == "kind":
        return _parse_kinds(value, negated)
    if key != "text":
        flags = frozenset([_flag(value)])
        return Filter(other_flags=flags) if negated else Filter(flags=flags)
    if not value.strip():
        raise UsageError("the filter condition 'text=' names no text")
    texts = frozenset([value])
    return Filter(other_texts=texts) if negated else Filter(texts=texts)


def _parse_kinds(value: str, negated: bool) -> Filter:
    # "file" alone means file-backed; kind=file is the kind.
    kinds = _kinds(value.split("|"))
    return Filter(other_kinds=kinds) if negated else Filter(kinds=kinds)


def _parse_comparison(key: str, sign: str, value: str) -> Filter:
    number = parse_address(value, _HEXADECIMAL[key]) if key in _HEXADECIMAL else parse_size(value)
    low = {">": number + 1, ">=": number, "=": number}.get(sign, 0)
    high = {"<": number - 1, "<=": number, "=": number}.get(sign)
    if key == "size":
        return Filter(min_size=low, max_size=high)
    if key == "resident":
        return Filter(min_resident=low, max_resident=high)
    return Filter(numbers=frozenset([NumberRange(key, low, high)]))
