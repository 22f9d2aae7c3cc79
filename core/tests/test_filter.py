"""Filters: text to value to text, and each condition against a plain reading of its words."""

from __future__ import annotations

import contextlib
from fnmatch import fnmatchcase

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from vmatlas.errors import UsageError
from vmatlas.model import ANY, Details, Filter, Kind, Protection, Region, SystemFlags
from vmatlas.model.filter import NumberRange, parse_address, parse_size

from .strategies import Flags, filters, regions, space_of

R, W, X = Protection.READ, Protection.WRITE, Protection.EXECUTE
any_region = st.tuples(st.integers(0, 30), st.integers(1, 2**20)).flatmap(lambda at: regions(at[0], at[0] + at[1]))


def like(text: str, pattern: str) -> bool:
    return text == pattern or fnmatchcase(text, pattern) or fnmatchcase(text, pattern.replace("[", "[[]"))


def contains(name: str, text: str) -> bool:
    return text in name or fnmatchcase(name, "*" + text.replace("[", "[[]") + "*")


def told_of(region: Region, text: str) -> str:
    return region.label if "(deleted)" in text else region.path or region.name or ""


def called(flags: SystemFlags, words: str) -> bool:
    return any(flags & Flags[word.upper()] for word in words.split("|"))


def number_of(region: Region, key: str) -> object:
    field = "private_resident" if key == "private" else key
    if field in Region._fields:
        return getattr(region, field)
    return {own.lower(): value for own, value in region.details.items()}.get(key)


def within(value: object, low: int, high: int | None) -> bool:
    return isinstance(value, int) and low <= value and (high is None or value <= high)


def plainly(wanted: Filter, region: Region) -> bool:
    """The conditions one by one, as their documentation has them."""
    return (
        region.protection & wanted.given == wanted.given
        and not region.protection & wanted.withheld
        and wanted.shared in (None, region.shared)
        and wanted.file_backed in (None, region.inode is not None or region.path is not None)
        and wanted.deleted in (None, region.deleted)
        and (not wanted.kinds or region.kind in wanted.kinds)
        and region.kind not in wanted.other_kinds
        and all(region.path is not None and like(region.path, pattern) for pattern in wanted.paths)
        and all(region.name is not None and like(region.name, pattern) for pattern in wanted.names)
        and all(contains(told_of(region, text), text) for text in wanted.texts)
        and not any(contains(told_of(region, text), text) for text in wanted.other_texts)
        and all(region.flags is not None and called(region.flags, words) for words in wanted.flags)
        and all(region.flags is not None and not called(region.flags, words) for words in wanted.other_flags)
        and all(within(number_of(region, key), low, high) for key, low, high in wanted.numbers)
        and region.size >= wanted.min_size
        and (wanted.max_size is None or region.size <= wanted.max_size)
        and (wanted.min_resident == 0 or (region.resident is not None and region.resident >= wanted.min_resident))
        and (wanted.max_resident is None or (region.resident is not None and region.resident <= wanted.max_resident))
        and (wanted.overlaps is None or (region.start < wanted.overlaps[1] and region.end > wanted.overlaps[0]))
    )


@given(filters(own=True), any_region)
def test_a_filter_agrees_with_a_plain_reading_of_its_conditions(wanted, region):
    assert wanted.matches(region) is plainly(wanted, region)


@given(filters(own=True), filters(own=True), any_region)
def test_both_together_pass_what_each_passes(one, other, region):
    try:
        both = one & other
    except UsageError:
        assume(False)
    assert both.matches(region) == (one.matches(region) and other.matches(region))


@given(filters(own=True), filters(own=True), any_region)
def test_a_pair_is_refused_only_where_no_region_passes(one, other, region):
    try:
        assert one & other
    except UsageError:
        assert not (one.matches(region) and other.matches(region))


@pytest.mark.parametrize("key", ["path", "name", "text", "flag"])
def test_an_empty_pattern_is_refused_as_a_keyword_too(key):
    with pytest.raises(UsageError, match=f"{key}='' names no"):
        Filter.of(**{key: ""})


@given(filters(own=True), any_region)
def test_a_filter_written_as_text_is_read_as_the_same_filter(wanted, region):
    again = Filter.parse(str(wanted)) if wanted != ANY else ANY  # an empty text is refused
    assert again.matches(region) == wanted.matches(region)
    patterns = wanted.paths | wanted.names | wanted.texts | wanted.other_texts
    ends_open = any(pattern != pattern.strip() or pattern.endswith("\\") for pattern in patterns)
    assert again == wanted or ends_open
    assert str(again) == str(wanted)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x,", Filter(given=X)),
        ("rwx", Filter(given=R | W | X)),
        ("x", Filter(given=X)),
        ("RW", Filter(given=R | W)),
        ("!w", Filter(withheld=W)),
        ("r-x", Filter(given=R | X, withheld=W)),
        ("r-xp", Filter(given=R | X, withheld=W, shared=False)),
        ("rw-s", Filter(given=R | W, withheld=X, shared=True)),
        ("---", Filter(withheld=R | W | X)),
        ("rwxp", Filter(given=R | W | X, shared=False)),
        ("shared", Filter(shared=True)),
        ("!shared", Filter(shared=False)),
        ("private", Filter(shared=False)),
        ("!private", Filter(shared=True)),
        ("file", Filter(file_backed=True)),
        ("!file", Filter(file_backed=False)),
        ("deleted", Filter(deleted=True)),
        ("heap", Filter(kinds=frozenset([Kind.HEAP]))),
        ("!stack", Filter(other_kinds=frozenset([Kind.STACK]))),
        ("anon", Filter(kinds=frozenset([Kind.ANONYMOUS]))),
        ("kind=heap|stack", Filter(kinds=frozenset([Kind.HEAP, Kind.STACK]))),
        ("!kind=heap|stack", Filter(other_kinds=frozenset([Kind.HEAP, Kind.STACK]))),
        ("kind=file", Filter(kinds=frozenset([Kind.FILE]))),
        ("path=*/libc.so*", Filter(paths=frozenset(["*/libc.so*"]))),
        ("path=a\\,b", Filter(paths=frozenset(["a,b"]))),
        ("path=*/lib*,path=*.so", Filter(paths=frozenset(["*/lib*", "*.so"]))),
        ("name=[[]heap]", Filter(names=frozenset(["[[]heap]"]))),
        ("libc", Filter(texts=frozenset(["libc"]))),
        ("!libc", Filter(other_texts=frozenset(["libc"]))),
        ("/usr/lib/*.so", Filter(texts=frozenset(["/usr/lib/*.so"]))),
        ("[heap]", Filter(texts=frozenset(["[heap]"]))),
        ("text=x|w", Filter(texts=frozenset(["x|w"]))),
        ("text=heaps", Filter(texts=frozenset(["heaps"]))),
        ("devices", Filter(texts=frozenset(["devices"]))),
        ("libheaps", Filter(texts=frozenset(["libheaps"]))),
        ("my file", Filter(texts=frozenset(["my file"]))),
        ("path=/opt/we|ird/*", Filter(paths=frozenset(["/opt/we|ird/*"]))),
        ("path=*a|b*", Filter(paths=frozenset(["*a|b*"]))),
        ("path=*|*", Filter(paths=frozenset(["*|*"]))),
        ("path=*a[|]*b", Filter(paths=frozenset(["*a[|]*b"]))),
        ("name=[anon:a|b]", Filter(names=frozenset(["[anon:a|b]"]))),
        ("text=heap", Filter(texts=frozenset(["heap"]))),
        ("!text=x,x", Filter(other_texts=frozenset(["x"]), given=X)),
        ("share", Filter(texts=frozenset(["share"]))),
        ("text=7f0012345678", Filter(texts=frozenset(["7f0012345678"]))),
        ("facade,26000", Filter(texts=frozenset(["facade", "26000"]))),
        ("flag=locked", Filter(flags=frozenset(["locked"]))),
        ("flag=Dont-Dump", Filter(flags=frozenset(["dont_dump"]))),
        ("!flag=lo|gu", Filter(other_flags=frozenset(["lo|gu"]))),
        ("private>1M", Filter(numbers=frozenset([NumberRange("private", 2**20 + 1, None)]))),
        ("private_resident=0", Filter(numbers=frozenset([NumberRange("private", 0, 0)]))),
        ("page-size=2M", Filter(numbers=frozenset([NumberRange("page_size", 2**21, 2**21)]))),
        ("offset>=0x1000,offset<26000", Filter(numbers=frozenset([NumberRange("offset", 0x1000, 0x25FFF)]))),
        ("inode = 12", Filter(numbers=frozenset([NumberRange("inode", 12, 12)]))),
        ("start>=7f00", Filter(numbers=frozenset([NumberRange("start", 0x7F00, None)]))),
        ("Swap>0", Filter(numbers=frozenset([NumberRange("swap", 1, None)]))),
        ("swap<0", Filter(numbers=frozenset([NumberRange("swap", 0, -1)]))),
        ("size>1M", Filter(min_size=2**20 + 1)),
        ("SIZE >= 1.5k", Filter(min_size=1536)),
        ("size<=64K", Filter(max_size=2**16)),
        ("size=4096", Filter(min_size=4096, max_size=4096)),
        ("size<0", Filter(max_size=-1)),
        ("resident>0", Filter(min_resident=1)),
        ("at=0x7f00", Filter(overlaps=(0x7F00, 0x7F01))),
        ("in=1000-0x2000", Filter(overlaps=(0x1000, 0x2000))),
        ("in=0-5,in=3-9", Filter(overlaps=(3, 5))),
        ("in=0-1,in=4-5", Filter(overlaps=(4, 1))),
        ("rw, shared ,size>4K", Filter(given=R | W, shared=True, min_size=4097)),
    ],
)
def test_text_of_a_filter_is_read_as_documented(text, expected):
    assert Filter.parse(text) == expected
    assert Filter.of(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "foo=bar", "rwxr", "rw-x",
        "7f0012345678", "!7f0012345678", "26000a", "offset>1K", "!path=x", "!size>1", "size>", "stak", "haep", "!stak",
        "privvate", "heap|stack", "0x7f00", "7f120000-7f130000", "path", "inode", "text=", "flag=", "flag=lo|", "a<b",
        "start>1K", "size>1X", "size>-1", "size>1.5.5",
        "size>" + "9" * 400 + ".5",
        "size>1\u212a", "kind=", "kind=heap|nothing", "at=", "at=xyz", "at=-1", "at=1_000", "at=" + "f" * 17, "in=1",
        "in=5-5", "in=9-1", "!", "=", "shared,private", "r,!r", "heap,stack",
        "", " ", ",", " , ", "\t", "x|w", "!x|w", "x|libc", "libc|ld", "heap|", "heaps", "stacks", "!guards",
        "shared|private",
        "heap stack", "x\nfile", "r&x", "x;w", "x+w",
        "path=*libc*|*ld*", "path=libc|ld", "path=/bin/a|/bin/b", "name=[heap]|[stack]", "name=heap|stack",
        "!!x", "! !heap", "!!libc", "path=", "name= ", "p", "s", "!s", "rws", "xp",
    ],
)  # fmt: skip
def test_text_that_is_no_filter_is_refused_in_one_line(text):
    with pytest.raises(UsageError) as caught:
        Filter.parse(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=30))
@example("size>" + "9" * 5000)
@example("in=1-" + "f" * 5000)
def test_any_text_is_a_filter_or_a_usage_error(text):
    with contextlib.suppress(UsageError):
        assert isinstance(Filter.parse(text), Filter)


words = st.sampled_from(
    [
        "size",
        "resident",
        ">",
        "<=",
        "=",
        "1",
        "K",
        "0x",
        "!",
        "kind",
        "path",
        "in",
        "at",
        "-",
        "r",
        "x",
        ",",
        "\\",
        "|",
        "heap",
    ]
)


@given(st.lists(words, max_size=10).map("".join))
def test_any_words_of_the_language_are_a_filter_or_a_usage_error(text):
    test_any_text_is_a_filter_or_a_usage_error.hypothesis.inner_test(text)


def test_a_region_that_reaches_from_one_range_into_another_is_in_both():
    both = Filter.parse("in=0-1000,in=5000-6000")
    assert both.matches(Region(0x800, 0x5001, R))
    assert not both.matches(Region(0x1000, 0x6000, R))
    assert not both.matches(Region(0x800, 0x5000, R))
    assert Filter.parse(str(both)) == both


@pytest.mark.parametrize("name", ["[heap]", "[stack]", "[anon: x y ]", "[vdso]"])
def test_a_name_as_it_is_shown_finds_what_is_called_so(name):
    named, pathed = Region(0, 9, R, name=name), Region(0, 9, R, path=f"/tmp/{name}a")
    for text in (f"name={name}", f"name=*{name}*", name, f"text={name}"):
        assert Filter.parse(text).matches(named)
    for text in (f"path=/tmp/{name}a", f"path=*/{name}?", name):
        assert Filter.parse(text).matches(pathed)
    assert not Filter.parse(f"name={name}").matches(Region(0, 9, R, name=name + "x"))
    assert Filter.of(name=name).matches(named)
    assert Filter.of(path="/tmp/[!x]heap[]]a", text="eap").matches(Region(0, 9, R, path="/tmp/[heap]a"))


def test_a_text_that_has_the_mark_of_an_unlinked_file_finds_what_shows_it():
    gone = Region(0x1000, 0x2000, R, path="/lib/x.so", deleted=True)
    named = gone._replace(path="/lib/x.so (deleted)", deleted=False)
    kept = gone._replace(deleted=False)
    for text in ("text=(deleted)", "(deleted)", "text=x.so (deleted)"):
        found = [Filter.parse(text).matches(each) for each in (gone, named, kept)]
        assert found == [True, True, False], text
    assert [Filter.parse("!text=(deleted)").matches(each) for each in (gone, named, kept)] == [False, False, True]
    assert not Filter.parse("text=deleted").matches(gone), "what is no whole mark is looked for in the path"


def test_plain_text_is_what_a_name_or_a_path_contains():
    libc, anonymous = Region(0, 9, R, path="/lib/libc.so.6"), Region(0, 9, R)
    assert Filter.parse("libc").matches(libc)
    assert Filter.parse("lib*6").matches(libc)
    assert not Filter.parse("LIBC").matches(libc)
    assert not Filter.parse("libc").matches(anonymous)
    assert not Filter.parse("[stack]").matches(libc)
    assert Filter.parse("!text=[stack]").matches(libc)
    assert Filter.parse("!libc").matches(anonymous)
    assert not Filter.parse("!libc").matches(libc)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("stak", "did you mean 'stack'"), ("haep", "did you mean 'heap'"), ("anonymus", "did you mean 'anonymous'"),
        ("0x7f00", "at=0x7f00"),
        ("7f0012345678", "at=7f0012345678"), ("55D0C0", "at=55D0C0"),
        ("7f00-8f00", "in=7f00-8f00"), ("heap|stack", "kind=heap|stack"), ("rw-x", "r-xp"),
        ("x|w", "ask once for each (text=x|w"), ("libc|ld", "ask once for each (text=libc|ld"),
        ("heaps", "did you mean 'heap'"),
        ("stacks", "did you mean 'stack'"), ("heap stack", "commas: heap,stack"), ("x\nfile", "commas: x,file"),
        ("path=*libc*|*ld*", "ask once for each: path=*libc* ([|] is"),
        ("name=[heap]|[stack]", "each: name=[heap] ([|]"),
        ("", "without a filter every region passes"), ("!path=*libc*", "!text=libc"), ("!name=[heap]", "!text=[heap]"),
        ("!rw-p", "rights that must not be given are written !w"), ("!at=0", "in=START-END"),
        ("!size>1M", "is size<=1M"),
        ("!size=1", "size<... and size>..."), ("!", "!CONDITION"),
        ("s", "own: shared "), ("rwp", "own: rw,private "), ("!Xs", "own: x,shared "),
        ("writable", "writable is written w here (text=writable"), ("!Executable", "is written x here"),
        ("readable", "written r"), ("writeable", "written w"), ("file_backed", "written file here"),
        ("larger_than", "size>..."), ("smaller-than", "size<..."), ("locked", "flag=locked"), ("sealed", "flag=sealed"),
        ("writable executable", "commas: writable,executable"), ("writable|executable", "ask once for each"),
        ("name", "name=..."), ("inode", "inode>..."), ("foo=bar", "text=TEXT"),
    ],
)  # fmt: skip
def test_a_likely_mistake_is_told_with_what_is_likely_meant(text, told):
    with pytest.raises(UsageError) as caught:
        Filter.parse(text)
    assert told in (caught.value.hint or "")


@pytest.mark.parametrize("word", ["writable", "executable", "readable", "locked", "larger_than"])
def test_what_is_called_as_a_word_of_the_api_can_still_be_asked_for(word):
    for text in (f"text={word}", f"name={word}", f"path=*{word}*", f"kind=heap,text={word}"):
        assert str(Filter.parse(str(Filter.parse(text)))) == str(Filter.parse(text))
    assert Filter.parse(f"text={word}").texts == {word}


@pytest.mark.parametrize("pattern", ["*libc*|*ld*", "/a|/b", "a|b", "[heap]|[stack]"])
def test_a_pattern_that_would_be_refused_as_text_is_written_so_that_it_is_read(pattern):
    for wanted in (Filter(paths=frozenset([pattern])), Filter(names=frozenset([pattern]))):
        assert str(Filter.parse(str(wanted))) == str(wanted)


@pytest.mark.parametrize("empty", ["", " ", ",", " ,, "])
def test_an_empty_filter_is_refused_wherever_one_is_taken(empty):
    for take in (Filter.of, Filter.parse, space_of([]).where):
        with pytest.raises(UsageError, match="is empty"):
            take(empty)


@pytest.mark.parametrize("text", ["flag=WIERD", "!flag=wi-Erd", "flag=WIRED|Foo"])
def test_a_flag_that_is_unknown_is_quoted_as_it_was_written(text):
    space = space_of([Region(0, 9, R, flags=Flags.WIRED)])
    written = text.rpartition("=")[2].rpartition("|")[2]
    with pytest.raises(UsageError, match=f"unknown flag '{written}'"):
        space.where(text)


def test_a_map_that_cannot_tell_a_key_or_a_flag_refuses_the_filter():
    region = Region(0, 9, R, flags=Flags.WIRED, details=Details({"Swap": 4096}))
    space = space_of([region])
    assert list(space.where("swap>0,flag=wired")) == [region]
    assert not space.where("swap>4K")
    for text, told in (("swop>0", "no region of this map tells 'swop'"), ("flag=wierd", "unknown flag 'wierd'")):
        with pytest.raises(UsageError, match=told):
            space.where(text)
    bare = space_of([Region(0, 9, R)])
    for text in ("swap>0", "!flag=wired", "resident>1M", "resident<1M", "private>1M", "page_size=4K"):
        with pytest.raises(UsageError) as caught:
            bare.where(text)
        assert "residency" in (caught.value.hint or "")
        assert not space_of([]).where(text)
    resident = space_of([Region(0, 9, R, resident=0), Region(9, 12, R, resident=3)])
    assert [region.start for region in resident.where("resident>0")] == [9]
    for text in ("private>=0", "page_size>0"):  # the memory in use is told, and this is not: no more can be asked for
        with pytest.raises(UsageError, match="no region of this map tells") as caught:
            resident.where(text)
        assert caught.value.hint == "numbers: size, resident, offset, inode, start, end"


@pytest.mark.parametrize(
    ("text", "asks", "wants"),
    [
        ("resident>0", True, False), ("private>0", True, False), ("flag=lo", False, True), ("!flag=lo", False, True),
        ("swap>0", False, True), ("page_size=2M", False, True), ("offset>0,inode=1,start>0,libc,size>1", False, False),
    ],
)  # fmt: skip
def test_a_filter_says_whether_the_memory_in_use_must_be_asked_for(text, asks, wants):
    wanted = Filter.parse(text)
    assert (wanted.asks_residency, wanted.wants_residency) == (asks, wants)


def test_a_number_is_named_once_among_those_that_there_are():
    space = space_of([Region(0, 9, R, details=Details({"Size": 4096, "Rss": 0}))])
    with pytest.raises(UsageError) as caught:
        space.where("swop>0")
    named = (caught.value.hint or "").removeprefix("numbers: ").split(", ")
    assert len(named) == len(set(named)) and "size" in named


def test_a_flag_without_a_name_is_one_where_a_region_has_it():
    unnamed, bare = Region(9, 12, R, flags=Flags(1 << 40)), Region(0, 9, R, flags=Flags.WIRED)
    assert list(space_of([bare, unnamed]).where("flag=0x10000000000")) == [unnamed]
    for text in ("flag=0x10000000000", "!flag=0x10000000000", "flag=wired|0x10000000000"):
        with pytest.raises(UsageError, match="unknown flag '0x10000000000'") as caught:
            space_of([bare]).where(text)
        assert "wired" in (caught.value.hint or "")


def test_keywords_say_the_same_as_text():
    assert Filter.of(flag="Dont-Dump|lo", text="libc") == Filter.parse("flag=dont_dump|lo,libc")
    assert Filter.of(readable=True, writable=False) == Filter(given=R, withheld=W)
    assert Filter.of(kind="heap") == Filter.of(kind=Kind.HEAP) == Filter.of(kind=["heap", Kind.HEAP])
    assert Filter.of(larger_than="1M", smaller_than=2**21) == Filter(min_size=2**20 + 1, max_size=2**21 - 1)
    assert Filter.of("r", path="/lib*") == Filter(given=R, paths=frozenset(["/lib*"]))
    assert Filter.of(readable=None, kind=None) == ANY


@pytest.mark.parametrize(
    "criteria",
    [
        {"kind": "nothing"},
        {"kind": []},
        {"path": ""},
        {"name": ""},
        {"text": ""},
        {"flag": ""},
        {"larger_than": "much"},
        {"where": "r", "readable": False},
        {"where": "private", "shared": True},
    ],
)
def test_keywords_that_make_no_filter_are_refused(criteria):
    with pytest.raises(UsageError):
        Filter.of(**criteria)


def test_unknown_keywords_are_refused_with_those_that_there_are():
    with pytest.raises(TypeError, match=r"colour.*readable"):
        Filter.of(colour="red")


@given(st.integers(0, 2**64 - 1))
def test_addresses_are_hexadecimal_with_or_without_a_prefix(address):
    assert parse_address(hex(address)) == parse_address(f" {address:X} ") == address


@given(st.integers(0, 2**50), st.sampled_from([("", 0), ("K", 10), ("MiB", 20), ("gb", 30), ("T", 40)]))
def test_sizes_take_units_of_1024(number, unit):
    assert parse_size(f"{number}{unit[0]}") == number << unit[1]
