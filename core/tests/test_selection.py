"""The words that choose processes, and whom they choose on a target that is made up."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest

import vmatlas
from vmatlas import AccessDenied, NoSuchProcess, ProcessInfo, Selection, Unsupported, UsageError
from vmatlas.cli.exits import Exit, exit_of
from vmatlas.cli.processes import _of
from vmatlas.selection import resolving
from vmatlas.selection.words import KEYS, Word, is_word, parse

from .fakes import FakeProcess, FakeTarget


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("1234", Word("pid", "1234")),
        ("0012", Word("pid", "12")),
        ("pid:1234", Word("pid", "1234")),
        ("self", Word("self")),
        ("all", Word("all")),
        ("!self", Word("self", "", True)),
        ("!7", Word("pid", "7", True)),
        ("name:postgres", Word("name", "postgres")),
        ("name:a:b", Word("name", "a:b")),
        ("!name:[kthread]", Word("name", "[kthread]", True)),
        ("name:two words\n", Word("name", "two words\n")),
        ("children:self", Word("children", "self")),
        ("children:1", Word("children", "1")),
        ("cgroup:/a b", Word("cgroup", "/a b")),
        ("pidfile:/run/x:y.pid", Word("pidfile", "/run/x:y.pid")),
    ],
)
def test_a_word_says_how_and_whom(text, word):
    assert parse(text) == word
    assert is_word(text)


@pytest.mark.parametrize("word", ["1234", "self", "all", "!user:root", "unit:a.service", "container:x", "!7"])
def test_a_word_is_shown_as_it_was_written(word):
    assert str(parse(word)) == word
    assert str(Selection.of("1", word)) == f"1 {word}"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("bash", "name:bash"),
        ("", "name:"),
        ("!", "name:"),
        ("!!self", "name:"),
        ("0x10", "name:0x10"),
        ("1_0", "name:1_0"),
        ("\uff11", "number"),
        ("nme:x", "name:"),
        ("name:", "by its name"),
        ("pid:x", "number"),
        ("children:name:x", "tree"),
        ("pid:" + "9" * 5000, None),
        ("9" * 5000, None),
        ("name:a\0b", None),
        ("new\nline", "name:"),
    ],
)
def test_what_chooses_nobody_is_refused_with_what_there_is(text, hint):
    with pytest.raises(UsageError) as raised:
        parse(text)
    assert hint is None or hint in (raised.value.hint or "")
    assert len(str(raised.value)) < 5200


def test_what_looks_like_a_file_is_no_word():
    assert not any(is_word(each) for each in ("worker.vmatlas", "./1234", "/tmp/name:x", "C:x", "nme:x", "-"))
    assert all(is_word(f"{key}:") for key in KEYS)  # wrong, but meant for one


@dataclass
class Machine(FakeTarget):
    """A machine of a few processes: the agent is 9."""

    listed: list[ProcessInfo] = field(default_factory=list)

    def processes(self) -> Iterator[ProcessInfo]:
        return iter(self.listed)

    def open(self, pid: int | None, thread: int | None = None) -> FakeProcess:
        if pid is not None and pid not in {each.pid for each in self.listed}:
            raise NoSuchProcess(f"there is no process {pid}", pid=pid)
        return FakeProcess(self, 9 if pid is None else pid)


def machine(**more: object) -> Machine:
    tree = {
        1: (0, "init"),
        9: (1, "agent"),
        20: (1, "postgres"),
        21: (20, "postgres"),
        22: (21, "worker"),
        30: (1, "x"),
    }
    return Machine(listed=[ProcessInfo(pid, parent, name, pid * 10, **more) for pid, (parent, name) in tree.items()])


def chosen(*words: object, **more: object) -> list[int]:
    return [each.pid for each in vmatlas.select(*words, target=machine(**more))]


def test_several_words_choose_together_each_process_once():
    assert chosen("name:postgres") == [20, 21]
    assert chosen("name:post*", 22, "20") == [20, 21, 22]
    assert chosen("children:20", "name:x") == [20, 21, 22, 30]
    assert chosen("all") == [1, 9, 20, 21, 22, 30]


def test_some_are_left_out_and_without_another_word_of_all():
    assert chosen("children:20", "!name:worker") == [20, 21]
    assert chosen("!children:20", "!1") == [9, 30]
    assert chosen("all", "!name:nobody") == [1, 9, 20, 21, 22, 30]
    with pytest.raises(NoSuchProcess, match="nobody is left"):
        chosen("name:x", "!all")


def test_the_one_who_asks_is_meant_by_its_number_and_by_self_alone():
    assert chosen("self") == chosen(9) == chosen("pid:9") == chosen("children:self") == [9]
    assert 9 not in chosen("name:*") and 9 not in chosen("children:1")
    with pytest.raises(NoSuchProcess, match="this command alone"):
        chosen("name:agent")


def test_a_word_that_chooses_nobody_is_told_beside_what_others_choose():
    selected = vmatlas.select("name:x", "name:post", 77, target=machine())
    assert [each.pid for each in selected] == [30]
    assert [word for word, _ in selected.unmatched] == ["name:post", "77"]
    assert selected.unmatched[0][1].hint == "'name:*post*' chooses 2"
    with pytest.raises(NoSuchProcess, match="no process is called post"):
        chosen("name:post", 77)


@dataclass
class Hiding(Machine):
    """One that does not list everybody."""

    gap: str | None = None

    def unlisted(self) -> str | None:
        return self.gap

    def open(self, pid: int | None, thread: int | None = None) -> FakeProcess:
        if pid == 77:
            raise AccessDenied(f"process {pid} is hidden", pid=pid)
        return super().open(pid, thread)


HIDING = {
    "not every process is shown": Hiding(listed=machine(user=33).listed, gap="not every process is shown"),
    "1 process is listed by number alone (process 77 is hidden)": Hiding(
        listed=[*machine(user=33).listed, ProcessInfo(77, None, "", None, kernel=None)]
    ),
}


@pytest.mark.parametrize("gap", HIDING)
@pytest.mark.parametrize(
    "words", [("name:bash",), (78, "name:bash"), ("user:34",), ("name:agent",), ("name:x", "!name:x")]
)
def test_nobody_is_sure_only_where_everybody_is_shown(gap, words):
    with pytest.raises(NoSuchProcess, match="as far as can be seen") as raised:
        vmatlas.select(*words, target=HIDING[gap])
    assert raised.value.incomplete == gap and gap in str(raised.value)
    assert exit_of(raised.value) is Exit.INCOMPLETE, "3 would be taken for: it is not running"


@pytest.mark.parametrize("gap", HIDING)
def test_somebody_found_does_not_hide_that_others_may_be_meant(gap):
    assert vmatlas.select("name:postgres", target=HIDING[gap]).incomplete == gap
    assert vmatlas.select("children:20", target=HIDING[gap]).incomplete == gap


def test_whose_rights_are_not_told_is_not_lost_in_silence():
    silent = ProcessInfo(40, 1, "held", None)
    place = Machine(listed=[*machine(user=33).listed, silent])
    found = vmatlas.select("user:33", target=place)
    assert 40 not in [each.pid for each in found] and "40 held" in (found.incomplete or "")
    with pytest.raises(NoSuchProcess) as raised:
        vmatlas.select("user:34", target=place)
    assert exit_of(raised.value) is Exit.INCOMPLETE


@dataclass
class Brief(Machine):
    """One that is asked about a few."""

    def brief(self, pids: Sequence[int] | None = None) -> Iterator[ProcessInfo]:
        return (each for each in self.listed if pids is None or each.pid in pids)


def test_who_ended_before_its_rights_were_asked_is_no_gap():
    class Ending(Brief):
        def brief(self, pids: Sequence[int] | None = None) -> Iterator[ProcessInfo]:
            return (each for each in super().brief(pids) if pids is None or each.pid != 40)

        def processes(self) -> Iterator[ProcessInfo]:
            return iter([*self.listed, ProcessInfo(40, 1, "ended", 400)])

    assert vmatlas.select("user:33", target=Ending(listed=machine(user=33).listed)).incomplete is None


def test_who_answers_late_or_no_more_is_still_the_same():
    info = ProcessInfo(40, 1, "x", 400)
    silent, other = replace(info, start_time=None), replace(info, start_time=401)
    for before, now, is_kept in (
        (info, info, True), (silent, info, True), (info, silent, True), (info, other, False)
    ):  # fmt: skip
        assert list(resolving._Lookup(Brief(listed=[now]))._still([before])) == [before] * is_kept
        assert _of([before], [now]) == [now] * is_kept
    assert list(resolving._Lookup(Brief(listed=[]))._still([info])) == []


@pytest.mark.parametrize("words", [(78,), ("children:78",), (20, "!20")])
def test_a_number_is_nobodys_for_sure_whoever_is_hidden(words):
    with pytest.raises(NoSuchProcess) as raised:
        vmatlas.select(*words, target=HIDING["not every process is shown"])
    assert raised.value.incomplete is None
    assert exit_of(raised.value) is Exit.NO_SUCH_PROCESS


def test_users_are_told_by_number_where_they_are_told():
    assert chosen("user:33", user=33) == [1, 20, 21, 22, 30]
    with pytest.raises(NoSuchProcess, match="rights of user 34"):
        chosen("user:34", user=33)
    with pytest.raises(Unsupported, match="does not tell the user"):
        chosen("user:33")
    with pytest.raises(UsageError, match="by number"):
        chosen("user:www-data", user=33)


@pytest.mark.parametrize("word", ["cgroup:/a", "unit:a.service", "container:a", "pidfile:/run/x.pid"])
def test_what_is_told_of_this_machine_alone_is_refused_elsewhere(word):
    with pytest.raises(Unsupported) as raised:
        chosen(word)
    assert "number" in (raised.value.hint or "")


def test_a_tree_without_parents_is_no_tree():
    place = Machine(listed=[ProcessInfo(5, None, "a", 1), ProcessInfo(6, None, "b", 1)])
    with pytest.raises(Unsupported, match="parent"):
        vmatlas.select("children:5", target=place)


def test_a_selection_is_a_sequence_that_shows_itself_shortly():
    selected = vmatlas.select("children:20", target=machine())
    assert len(selected) == 3 and selected[0].name == "postgres" and selected[1:][0].pid == 21
    assert repr(selected) == "<Selected by 'children:20': 3>"


def test_what_has_a_number_is_chosen_by_it():
    assert [each.pid for each in vmatlas.select(os.getpid())] == [os.getpid()]
    assert chosen(FakeProcess(machine(), 20)) == [20]


@pytest.mark.parametrize("words", [("all",), ("!name:x",), ("all", "name:x")])
def test_a_target_that_lists_nobody_is_told_as_one(words):
    class Empty(FakeTarget):
        def processes(self):
            return iter(())

    with pytest.raises(NoSuchProcess, match="no process is") as told:
        vmatlas.select(*words, target=Empty())
    assert told.value.incomplete
