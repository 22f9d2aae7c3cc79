"""Series: every moment comes back to the byte, what did not change costs bytes, a cut costs the last moment alone."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import random
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vmatlas import arguments
from vmatlas.capture import ALWAYS_READ, Capture
from vmatlas.errors import MalformedData, UsageError, VmatlasError
from vmatlas.model import Query
from vmatlas.series import delta, frames, moments
from vmatlas.series.reader import Series
from vmatlas.series.when import Times, nearest
from vmatlas.series.writer import SeriesWriter

from .strategies import LINUX, captures

on_disk = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

KEYS = ["Size", "Rss", "Pss", "Shared_Clean", "Private_Dirty", "Referenced", "Anonymous", "Swap", "Locked"]
REGIONS = 1000


def smaps(rss: dict[int, int] | None = None, *, without: int = -1, more: int = 0) -> bytes:
    """A text of 1,000 regions, of which some hold other numbers, one is missing, or some are new."""
    told = []
    new = [number + 0.5 for number in range(200, 200 + more)]
    for number in sorted([*new, *(each for each in range(REGIONS) if each != without)]):
        start = 0x7F0000000000 + int(number * 0x40000)
        told.append(b"%x-%x rw-p 00000000 00:00 0 \n" % (start, start + 0x10000))
        for key in KEYS:
            value = (rss or {}).get(number, 64) if key in ("Rss", "Pss", "Private_Dirty", "Anonymous") else 0
            told.append(f"{key + ':':16}{value:8d} kB\n".encode())
        told.append(b"VmFlags: rd wr mr mw me ac%s \n" % (b" sd" if number % 3 else b" hg"))
    return b"".join(told)


def captured(time: float = 1_790_000_000.25, **streams: bytes) -> Capture:
    return Capture(
        streams=streams or {"smaps": smaps(), "smaps_rollup": b"Rss: 64000 kB\n"},
        system=LINUX,
        pid=7,
        backend="linux-procfs",
        distribution="vmatlas-linux-procfs",
        query=Query(residency=True),
        time=time,
        start_time=99,
        name="worker",
    )


def written(path: Path, *given: Capture, boot: str | None = "b", clock: float = 100.0) -> list[int]:
    with SeriesWriter(path, boot=boot, replace=True) as writing:
        return [writing.add(each, clock + 10 * number) for number, each in enumerate(given)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "x.vmatlas"


# ---- what comes back, and what it costs ----


@on_disk
@given(st.lists(captures, min_size=1, max_size=6))
def test_every_moment_comes_back_as_it_was(file, given_captures):
    file.unlink(missing_ok=True)
    with SeriesWriter(file) as writing:
        writing.check = lambda _: None
        for number, each in enumerate(given_captures):
            writing.add(each, float(number))
    with Series.open(file) as series:
        for order in (range(len(series)), reversed(range(len(series)))):
            for number in order:
                found, wanted = series[number], given_captures[number]
                assert str(found.query.where) == str(wanted.query.where)
                query = dataclasses.replace(found.query, where=wanted.query.where)
                assert dataclasses.replace(found, query=query) == wanted


@pytest.mark.parametrize(
    ("after", "most"),
    [
        (smaps(), 32),
        (smaps({500: 68}), 160),
        (smaps(dict.fromkeys(range(400, 420), 68)), 400),
        (smaps(without=300), 160),
        (smaps(more=3), 500),
    ],
    ids=["nothing", "one region", "20 regions", "one gone", "three new"],
)
def test_what_changed_little_costs_little_and_what_did_not_change_costs_bytes(file, after, most):
    first, second = written(file, captured(), captured(1_790_000_010.5, smaps=after, smaps_rollup=b"Rss: 64000 kB\n"))
    assert len(smaps()) > 300_000 and first > 2000
    assert second <= most
    with Series.open(file) as series:
        assert series[1].streams["smaps"] == after
        assert [each.is_same for each in series.moments] == [False, after == smaps()]


def test_a_file_is_at_most_twice_its_deltas_and_no_moment_is_far_from_one_that_stands_alone(file):
    texts = [smaps(dict.fromkeys(range(step, 1000, 9), 68 + step)) for step in range(20)]
    sizes = written(file, *(captured(1e9 + n, smaps=text) for n, text in enumerate(texts)))
    with Series.open(file) as series:
        assert [each.streams["smaps"] for each in series] == texts
        wholes = [size for size, kind in zip(sizes, series._kinds, strict=True) if bytes([kind]) == frames.WHOLE]
    changes = sum(sizes) - sum(wholes)
    assert sum(wholes[1:]) <= changes + max(wholes)


@pytest.mark.parametrize(("bound", "most", "wholes"), [("MOST_REBUILT", 3 * len(smaps()), 3), ("MOST_STEPS", 120, 3)])
def test_a_moment_is_come_to_by_a_bounded_amount_of_work(file, monkeypatch, bound, most, wholes):
    monkeypatch.setattr(moments, bound, most)
    written(file, *(captured(1e9 + step, smaps=smaps({step: 1})) for step in range(9)))
    with Series.open(file) as series:
        assert bytes(series._kinds).count(frames.WHOLE) >= wholes
        assert series[8].streams["smaps"] == smaps({8: 1})
    monkeypatch.setattr(moments, bound, most // 3)
    with Series.open(file) as series, pytest.raises(MalformedData, match="stands by itself"):
        list(series)


def test_the_memory_that_writing_takes_does_not_grow_with_the_series(file):
    given_captures = [captured(1e9 + step, smaps=smaps({step: 1})) for step in range(20)]
    with SeriesWriter(file) as writing:
        for each in given_captures[:2]:
            writing.add(each)
        tracemalloc.start()
        try:
            for each in given_captures[2:4]:
                writing.add(each)
            early = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            for each in given_captures[4:]:
                writing.add(each)
            late = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert late[1] <= 1.5 * early[1] + 100_000


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_a_delta_of_any_two_streams_gives_the_second(before, after):
    assert delta.decode(before, delta.encode(before, after), len(after), stream="x", offset=0) == after


@given(st.text("ab\n0", max_size=400), st.lists(st.tuples(st.integers(0, 400), st.text("ab\n0", max_size=60))))
def test_a_delta_of_what_was_edited_gives_what_it_became(text, edits):
    before = after = text.encode() * 3
    for place, new in edits:
        after = after[:place] + new.encode() + after[place + 7 :]
    assert delta.decode(before, delta.encode(before, after), len(after), stream="x", offset=0) == after


def test_steps_however_many_cost_a_small_multiple_of_what_they_make():
    before = random.Random(7).randbytes(1 << 20)
    steps = b"\0\x10\0" * (len(before) // 16)
    tracemalloc.start()
    try:
        assert delta.decode(before, steps, len(before), stream="x", offset=0) == before
        assert tracemalloc.get_traced_memory()[1] < 4 * len(before)
    finally:
        tracemalloc.stop()


# ---- what is cut, and what is damaged ----


def test_a_cut_anywhere_loses_the_last_moment_alone(file):
    first, second, third = (smaps({1: rss})[:4000] for rss in (1, 2, 3))
    written(file, captured(smaps=first), captured(1e9 + 1, smaps=second), captured(1e9 + 2, smaps=third))
    whole = file.read_bytes()
    with Series.open(file) as series:
        assert series.incomplete is None
        last = series._offsets[2]
    for size in range(last + 1, len(whole)):
        file.write_bytes(whole[:size])
        with Series.open(file) as series:
            assert len(series) == 2 and series[1].streams["smaps"] == second
            assert series.incomplete is not None and f"at byte {last:,}" in series.incomplete
    for tail in (bytes(4096), whole[last : last + 40] + bytes(len(whole) - last - 40)):
        file.write_bytes(whole[:last] + tail)
        with Series.open(file) as series:
            assert len(series) == 2 and series.incomplete is not None


def test_a_cut_tail_is_cut_away_by_who_appends(file):
    written(file, captured(), captured(1e9 + 1, smaps=smaps({1: 2})))
    file.write_bytes(file.read_bytes()[:-3])
    with SeriesWriter.appending(file, boot="b") as writing:
        assert writing.cut_away > 0 and writing.recorded == 1
        writing.add(captured(1e9 + 2, smaps=smaps({1: 9})), 200.0)
    with Series.open(file) as series:
        assert series.incomplete is None and len(series) == 2
        assert series[0] == captured() and series[1].streams["smaps"] == smaps({1: 9})


def test_damage_that_is_no_cut_is_told_with_its_place(file):
    written(file, captured(), captured(1e9 + 1, smaps=smaps({1: 2})))
    whole = bytearray(file.read_bytes())
    whole[200] ^= 1
    file.write_bytes(whole)
    with pytest.raises(MalformedData) as caught:
        Series.open(file)
    assert 0 < caught.value.offset < 200


def test_whatever_a_file_holds_it_is_read_or_refused(file):
    written(file, captured(smaps=smaps()[:3000], stat=b"7 (a) S"), captured(1e9 + 1, smaps=smaps({1: 2})[:3000]))
    whole, chance = file.read_bytes(), random.Random(7)
    for _ in range(300):
        file.write_bytes(damaged(whole, chance))
        _read_all(file)


def test_whatever_a_frame_holds_it_is_read_or_refused(file):
    """With checks that are right, as somebody makes them who means harm."""
    chance = random.Random(7)
    before = moments.State.of(captured(smaps=smaps()[:3000], stat=b"7 (a) S"))
    after = moments.State.of(captured(1e9 + 1, smaps=smaps({1: 2})[:3000], stat=b"7 (a) R"))
    good = [moments.whole(before, 1.0), moments.changed(before, after, 2.0)[:2], moments.same(after, 3.0)]
    begin = frames.MAGIC + frames.packed(frames.SESSION, json.dumps({"boot": None}).encode())
    file.write_bytes(begin + b"".join(frames.packed(*each) for each in good))
    with Series.open(file) as series:
        assert len(series) == 3
    for _ in range(600):
        bad = list(good)
        which = chance.randrange(3)
        bad[which] = chance.choice([b"W", b"D", b"S", bad[which][0]]), damaged(bad[which][1], chance)
        file.write_bytes(begin + b"".join(frames.packed(*each) for each in bad))
        _read_all(file)


def damaged(content: bytes, chance: random.Random) -> bytes:
    """A byte other than it was, some cut out, some doubled, or the end gone."""
    place, size = chance.randrange(len(content)), chance.randrange(1, 40)
    return chance.choice(
        [
            content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :],
            content[:place] + content[place + size :],
            content[:place] + content[place : place + size] * 2 + content[place + size :],
            content[:place] + chance.randbytes(size) + content[place:],
            content[:place],
        ]
    )


def _read_all(file: Path) -> None:
    try:
        with Series.open(file) as series:
            for each in series:
                assert isinstance(each, Capture)
    except VmatlasError as error:
        assert "\n" not in str(error)


def test_a_small_file_does_not_unpack_to_much(file):
    """A stream of more than a small file may have, as it says or not; a delta of steps without an end."""
    size = 2 * ALWAYS_READ
    bombs = [
        delta.number(1) + b"\x02" + b"\x05smaps" + delta.number(size) + _text(zlib.compress(bytes(size))),
        delta.number(1) + b"\x02" + b"\x05smaps" + delta.number(10) + _text(zlib.compress(bytes(size))),
    ]
    manifest = moments.whole(moments.State.of(captured(smaps=b"")), 1.0)[1][: -len(b"\x01\x02\x05smaps\x00\x08") - 8]
    tracemalloc.start()
    try:
        for bomb in bombs:
            file.write_bytes(frames.MAGIC + frames.packed(b"W", manifest + bomb))
            with Series.open(file) as series, pytest.raises(MalformedData):
                series[0]
        assert tracemalloc.get_traced_memory()[1] < 2 * ALWAYS_READ
    finally:
        tracemalloc.stop()
    dense = zlib.compressobj(zdict=b"")
    told = dense.compress(bytes(size)) + dense.flush()
    with pytest.raises(MalformedData, match="stands by itself, after so many"):
        moments.decode(
            b"D",
            moments._TIMES.pack(1, 1) + b"\0\1\1\0" + delta.number(9) + delta.number(size) + _text(told),
            moments.State({}, (("smaps", b"x" * 99),), 1.0),
            shown="x",
            offset=0,
            largest=ALWAYS_READ,
            done=moments.Work(),
        )


def _text(content: bytes) -> bytes:
    return delta.number(len(content)) + content


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"", MalformedData, "it is empty"),
        (b"PK\3\4 nothing", MalformedData, "of another kind"),
        (b"vmatlas series 3\n", UsageError, "format 3, and this version of vmatlas reads up to 2"),
        (frames.MAGIC, MalformedData, "there is none yet"),
        (frames.MAGIC + frames.packed(b"S", bytes(16)), MalformedData, "stands by itself"),
        (frames.MAGIC + frames.packed(b"H", b"[]"), MalformedData, "who recorded"),
    ],
)
def test_what_is_no_series_is_refused_in_a_line(file, content, error, words):
    file.write_bytes(content)
    with pytest.raises(error, match=words):
        Series.open(file)


def test_a_series_that_is_taken_for_a_capture_is_called_by_its_name(file):
    written(file, captured())
    with pytest.raises(MalformedData, match="it is a series of captures, which"):
        Capture.load(file)


def test_what_is_denser_than_a_reader_takes_is_kept_as_it_is(file):
    text = b"x" * (ALWAYS_READ + 5)
    written(file, captured(maps=text), captured(1e9, maps=text + b"y"))
    with Series.open(file) as series:
        assert [len(each.streams["maps"]) for each in series] == [len(text), len(text) + 1]


# ---- who writes ----


def test_two_writers_of_one_series_are_refused(file):
    with SeriesWriter(file, boot="b") as first:
        first.add(captured())
        for second in (lambda: SeriesWriter(file, replace=True), lambda: SeriesWriter.appending(file, boot="b")):
            with pytest.raises(UsageError, match="is being written by another program"):
                second()
        first.add(captured(1e9 + 1))
    with SeriesWriter.appending(file, boot="b") as third:
        third.add(captured(1e9 + 2))
    with Series.open(file) as series:
        assert len(series) == 3


@pytest.mark.parametrize(
    ("boot", "change", "words"),
    [
        ("b", {"pid": 8}, "pid 7 .pid"),
        ("b", {"start_time": 100}, "start time"),
        ("b", {"target": "ssh:x"}, "target"),
        ("c", {}, "another start of the system"),
    ],
)
def test_another_process_is_not_appended(file, boot, change, words):
    written(file, captured())
    before = file.read_bytes()
    with SeriesWriter.appending(file, boot=boot) as writing, pytest.raises(UsageError, match=words):
        writing.add(dataclasses.replace(captured(), **change))
    assert file.read_bytes() == before


def test_a_process_of_which_no_start_is_told_is_not_appended(file):
    nobody = dataclasses.replace(captured(), start_time=None)
    written(file, nobody)
    with SeriesWriter.appending(file, boot="b") as writing, pytest.raises(UsageError, match="cannot be told"):
        writing.add(nobody)


def test_a_file_that_is_there_is_not_written_over_unasked(file):
    written(file, captured())
    with pytest.raises(FileExistsError):
        SeriesWriter(file)
    captured().save(file)
    with pytest.raises(UsageError, match="single capture"):
        SeriesWriter.appending(file)


def test_a_full_disk_leaves_what_was_there(file, monkeypatch):
    with SeriesWriter(file) as writing:
        writing.add(captured())
        whole = file.read_bytes()
        real = os.pwrite

        def full(descriptor, content, place):
            if len(content) > 20:
                return real(descriptor, content[:20], place)
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            writing.add(captured(1e9, smaps=smaps({3: 4})))
        assert file.read_bytes() == whole
        monkeypatch.undo()
        writing.add(captured(1e9, smaps=smaps({3: 4})))
    with Series.open(file) as series:
        assert series.incomplete is None and series[1].streams["smaps"] == smaps({3: 4})


def test_a_full_disk_leaves_what_was_to_be_replaced(file, monkeypatch):
    written(file, captured())
    file.chmod(0o640)
    whole = file.read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with SeriesWriter(file, replace=True) as writing:
        assert file.read_bytes() == whole, "it stands until there is a moment"
        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space") as raised:
            writing.add(captured(1e9))
        assert raised.value.filename == str(file)
        monkeypatch.undo()
        assert file.read_bytes() == whole and os.listdir(file.parent) == [file.name]
        writing.add(captured(1e9))
        writing.add(captured(1e9, smaps=smaps({3: 4})))
        with pytest.raises(UsageError, match="another program"):
            SeriesWriter(file, replace=True)
    assert file.stat().st_mode & 0o777 == 0o640
    with Series.open(file) as series:
        assert series.incomplete is None and len(series) == 2


@pytest.mark.parametrize("laid", [None, b"another"])
def test_a_file_that_was_removed_or_replaced_meanwhile_is_told_at_the_next_moment(file, laid):
    with SeriesWriter(file) as writing:
        writing.add(captured())
        file.rename(file.with_name("taken"))
        if laid is not None:
            file.write_bytes(laid)
        with pytest.raises(OSError, match="another file was put in its place") as raised:
            writing.add(captured(1e9))
        assert raised.value.filename == str(file)
    assert (file.read_bytes() if file.exists() else None) == laid


def test_the_lock_is_let_go_of_with_the_writer(file):
    SeriesWriter(file).close()
    with open(file, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


# ---- clocks, and words for moments ----


def test_a_clock_that_jumps_keeps_the_order_and_the_time_that_passed(file):
    with SeriesWriter(file) as writing:
        for wall, clock in ((1e9, 5.0), (1e9 + 10, 15.0), (1e9 - 3600, 25.0), (1e9 - 3590, 35.0), (1e9, 2.0)):
            writing.add(captured(wall), clock)
    with Series.open(file) as series:
        assert [each.elapsed for each in series.moments] == [0, 10, 20, 30, 3620]
        assert [each.time for each in series.moments][2] == 1e9 - 3600
        assert series.index_at("+20s") == 2


NOON = 1_790_000_000.0 // 86400 * 86400
TIMES = Times([NOON + 10.02 * each for each in range(100)], [10.02 * each for each in range(100)])


@pytest.mark.parametrize(
    ("word", "index"),
    [
        *(("last", 99), ("first", 0), ("#1", 0), ("#100", 99), ("+0", 0), ("+90s", 9), ("+1m30s", 9), ("-90s", 90)),
        *(("00:00", 0), ("00:01", 6), ("0:01:30", 9), ("00:01:30.5", 9), ("00:16:31", 99)),
    ],
)
def test_a_moment_is_named_in_words(word, index, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    arguments_time_zone()
    assert nearest(TIMES, word) == index
    if ":" in word and len(word) > 4:
        day = "2026-09-21" if NOON == 1_789_948_800 else pytest.fail("another day")
        assert nearest(TIMES, f"{day}T{word.zfill(8) if word.count(':') == 2 else word}") == index


def arguments_time_zone() -> None:
    import time

    time.tzset()


@pytest.fixture(autouse=True)
def zone_again():
    yield
    arguments_time_zone()


@pytest.mark.parametrize(
    ("word", "why"),
    [
        *(("#0", "no moment #0"), ("#101", "no moment"), ("+2h", "lies near"), ("12:00", "the nearest is #100")),
        *(
            ("", "no moment of a series"),
            ("noon", "last, first"),
            ("+x", "no length of time"),
            ("25:00", "no moment of"),
        ),
        *(("2026-09-21", "no moment of"), ("1999-01-01T00:00", "lies near")),
    ],
)
def test_a_moment_that_there_is_not_is_refused_with_what_there_is(word, why, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    arguments_time_zone()
    with pytest.raises(UsageError) as caught:
        nearest(TIMES, word)
    assert why in f"{caught.value} {caught.value.hint}"


def test_of_several_days_a_time_is_that_of_the_last(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    arguments_time_zone()
    wall = [NOON + 3600.0 * hour for hour in range(72)]
    assert nearest(Times(wall, wall), "10:00") == 58


@pytest.mark.parametrize(
    ("step", "count", "word", "index"),
    [
        (3600, 24, "10:00", 0),  # the second day ends at 09:00: it has no 10:00
        (3600, 24, "10:00:00", 0),
        (3600, 24, "09:00", 23),
        (600, 144, "10:00", 0),  # ends at 09:50
        (3600, 72, "09:30", 47),  # the third day ends at 09:00
        (3600, 72, "10:10", 48),
        (3600, 3, "09:30", 0),  # no day has it: what lies near
    ],
)
def test_a_day_that_ends_before_a_time_has_it_not(step, count, word, index, monkeypatch):
    """From 10:00 on."""
    monkeypatch.setenv("TZ", "UTC")
    arguments_time_zone()
    wall = [NOON + 36_000.0 + step * each for each in range(count)]
    assert nearest(Times(wall, [each - wall[0] for each in wall]), word) == index


def test_an_hour_that_is_there_twice_is_the_nearer_one(monkeypatch):
    """The clock of Berlin goes from 03:00 to 02:00 again, at 01:00 UTC."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    arguments_time_zone()
    second_hour = 1_792_890_000.0  # 2026-10-25T01:00 UTC
    wall = [second_hour + 600.0 + 60 * each for each in range(40)]
    assert nearest(Times(wall, [each - wall[0] for each in wall]), "2026-10-25T02:30") == 20
    wall = [each - 3600 for each in wall]
    assert nearest(Times(wall, [each - wall[0] for each in wall]), "2026-10-25T02:30") == 20


@pytest.mark.parametrize(
    ("text", "seconds"), [("1.5", 1.5), ("10s", 10), ("5m", 300), ("1h30m", 5400), ("2d", 172800), ("250ms", 0.25)]
)
def test_a_length_of_time_has_units(text, seconds):
    assert arguments.duration(text, "interval") == seconds


@pytest.mark.parametrize("text", ["", "x", "1x", "1h30", "-1", "1e5", "1 s", "s", "1" * 400, "٣s", "nan", "1..5s"])
def test_what_is_no_length_of_time_is_refused(text):
    with pytest.raises(UsageError, match="no length of time"):
        arguments.duration(text, "interval")
