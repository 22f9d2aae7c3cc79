"""The page of a run: all that happened is on it, and nothing that a machine says can be anything but text."""

from __future__ import annotations

import functools
import os
import stat
import tempfile
import time
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations, pairwise
from math import dist
from pathlib import Path
from xml.etree import ElementTree

import html5lib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from vmatlas.conformance.colours import SEEN_BY, contrast, seen
from vmatlas.conformance.thorough import examples
from vmatlas_images import Case, CaseState, ImagesError, Machine, MachineResult, Outcome, Report, State, find
from vmatlas_images.report.page import (
    COLOURS,
    CONSOLE_BYTES,
    TEXT_COLUMNS,
    _rows,
    render,
    render_text,
    visible,
    write_page,
)
from vmatlas_images.report.record import Record, load, merge, save

MADE = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
HOSTILE = [
    b"<script>alert(1)</script>",
    b"</pre></div></details></table><h1>passed</h1>",
    b"<!-- ", b"]]>", b"&lt;b&gt;", b"&#x3c;img src=x onerror=alert(1)&#x3e;", b"\x00\x1b[31m\x07\x7f",
    b"\xff\xfe\xc3\x28", b"\xef\xbf\xbe", "\u202e\u2066\u200b\ufeff".encode(), b"{{ 7*7 }}{% raw %}", b"\r\n\r\r\n\r",
    b"<style>*{display:none}</style><base href=//evil.example>", b"' onclick='x", b'" autofocus onfocus="x',
]  # fmt: skip


@pytest.fixture
def machine() -> Machine:
    """One of ours."""
    return find_once("linux-6.1")


def told(machine: Machine, console: Path | None = None, words: str = "plain") -> Record:
    """A run with every way to end, whose machines say `words` wherever they can."""
    cases = (
        Case("test_a[linux-procfs-7]", CaseState.PASSED, "linux-procfs", "", 0.5, "layouts"),
        Case("test_a[linux-procfs-8]", CaseState.PASSED, "linux-procfs", "", 0.5, "layouts"),
        Case(f"test_b[{words}]", CaseState.FAILED, "linux-procfs", words, 1.5, "layouts"),
        Case("test_c[linux-procfs]", CaseState.NOT_RUN, "linux-procfs", words, 0, "processes"),
        Case("test_d[linux-procfs]", CaseState.REFUSED, "linux-procfs", words, 0, "declared"),
    )
    tells = {"linux-procfs": ("RESIDENCY", words), "linux-ioctl": ("BUILD_ID",)}
    outcome = Outcome(cases, ("linux-procfs",), {"linux-ioctl": words}, tells)
    results = (
        MachineResult(
            machine, State.RAN, kernel=words, source=words, accelerator="tcg", accelerator_reason=words,
            outcome=outcome, console=console, notes=(words,), seconds={"boot": 12.3},
        ),
        MachineResult(find_once("linux-6.12"), State.LOST, words, last_words=words, console=console),
        MachineResult(find_once("linux-6.17"), State.NOT_RUN, words),
    )  # fmt: skip
    return Record(Report(results, 12, (find_once("linux-newest"),), words, MADE), "0.1.0")


def tree(page: str) -> ElementTree.Element:
    """The page as a parser that follows the HTML standard reads it."""
    root: ElementTree.Element = html5lib.parse(page, namespaceHTMLElements=False)
    return root


def shape(root: ElementTree.Element) -> list[tuple[object, tuple[tuple[str, str], ...]]]:
    return [(element.tag, tuple(sorted(element.attrib.items()))) for element in root.iter()]


def words_of(root: ElementTree.Element) -> str:
    return " ".join("".join(root.itertext()).split())


find_once = functools.cache(find)


@functools.cache
def benign_shape() -> list[tuple[object, tuple[tuple[str, str], ...]]]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "x.log")
        for path in (log, log.with_suffix(".conformance.txt")):
            path.write_bytes(b"plain")
        return shape(tree(render(told(find_once("linux-6.1"), log))))


hostile = st.lists(st.one_of(st.sampled_from(HOSTILE), st.binary(max_size=40)), max_size=6).map(b"".join)


@settings(max_examples=examples(100), deadline=None)
@given(console=hostile, said=hostile)
def test_whatever_a_machine_says_is_text_and_nothing_else(console: bytes, said: bytes) -> None:
    console, words = console or b"plain", said.decode("utf-8", "replace") or "plain"
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "x.log")
        for path in (log, log.with_suffix(".conformance.txt")):
            path.write_bytes(console)
        root = tree(render(told(find_once("linux-6.1"), log, words)))
        assert shape(root) == benign_shape()
        shown = [pre.text or "" for pre in root.iter("pre") if pre.get("class") == "console"]
    # A parser drops one line end that directly follows <pre>.
    wanted = visible(console.decode("utf-8", "replace")).removeprefix("\n")
    assert [text.removeprefix("\n") for text in shown] == [wanted, wanted]


@given(st.text())
def test_no_character_is_unseen_or_turns_the_order_round(text: str) -> None:
    shown = visible(text)
    assert not [each for each in shown if unicodedata.category(each) in ("Cc", "Cf", "Cs") and each not in "\t\n"]
    assert visible(shown) == shown
    assert visible(text.encode("ascii", "ignore").decode()).isascii() or any(c < " " or c == "\x7f" for c in text)


def test_every_way_to_end_is_told_with_its_reason(machine: Machine, tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("the console's text")
    log.with_suffix(".conformance.txt").write_text("the suite's story")
    words = words_of(tree(render(told(machine, log, "a reason"))))
    for said in (
        "linux-6.1: FAILED", "linux-6.12: LOST", "linux-6.17: NOT RUN", "left out by a reason", "the console's text",
        "the suite's story", "1 failed, 2 passed", "1 not run", "1 refused", "not run , 0.0 s: a reason",
        "refused as declared , 0.0 s: a reason", "no test", "refuses", "It said nothing: it never ran.",
        "2026-01-02 03:04 UTC",
    ):  # fmt: skip
        assert said.replace(" ,", ",") in words, said


@settings(max_examples=examples(50), deadline=None)
@given(said=hostile)
def test_as_text_no_line_is_wider_than_80_columns_whatever_a_machine_says(said: bytes) -> None:
    words = said.decode("utf-8", "replace") or "plain"
    text = render_text(told(find_once("linux-6.1"), None, words))
    assert max(cell_len(each) for each in text.splitlines()) <= TEXT_COLUMNS
    assert {each for each in text if unicodedata.category(each).startswith("C")} == {"\n"}


def test_as_text_the_page_tells_the_same_but_for_the_consoles(machine: Machine, tmp_path: Path) -> None:
    write_page(told(machine, None, "the reason"), tmp_path / "page.txt")
    text = (tmp_path / "page.txt").read_text("utf-8")
    for words in (
        "linux-6.1: FAILED", "linux-6.12: LOST", "linux-6.17: NOT RUN", "linux-newest: left out by the reason",
        "linux-procfs, layouts: FAILED: b: the reason", "1 refused as declared (declared): the reason",
        "1 not run (processes): the reason", "linux-ioctl refuses: the reason", "linux-procfs: residency",
        "What the topics are",
    ):  # fmt: skip
        assert words in text
    [counts] = [each.split() for each in text.splitlines() if each.startswith("  linux-procfs   ")]
    assert counts == ["linux-procfs", "2", "1", "1", "1"]


@pytest.mark.parametrize("by", SEEN_BY)
@pytest.mark.parametrize("of", COLOURS)
def test_how_a_test_ended_is_told_apart_by_everybody(of: str, by: str) -> None:
    assert set(COLOURS[of]) == set(CaseState)
    for one, other in combinations(COLOURS[of].values(), 2):
        assert dist(seen(one[0], by), seen(other[0], by)) >= 20
    assert all(contrast(ground, ink) >= 4.5 for ground, ink in COLOURS[of].values())


def test_what_each_backend_tells_is_a_table_of_its_own(machine: Machine) -> None:
    [table] = [each for each in tree(render(told(machine))).iter("table") if each.get("class") == "told"]
    head, *rows = [["".join(cell.itertext()) for cell in row if cell.tag in ("th", "td")] for row in table.iter("tr")]
    says = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert head == ["feature", "linux-ioctl", "linux-procfs"]
    assert (says["build id"]["linux-ioctl"], says["residency"]["linux-ioctl"]) == ("yes", "no")
    assert says["residency"]["linux-procfs"] == "yes"


def test_the_columns_are_the_topics_of_the_suite_and_one_for_the_packages_own_tests(machine: Machine) -> None:
    cases = [Case(f"test_x[{number}]", CaseState.PASSED, "", "", 0, f"TestOfAPackage{number}") for number in range(30)]
    record = told(machine)
    outcome = replace(record.report.results[0].outcome, cases=(*record.report.results[0].outcome.cases, *cases))
    first = replace(record.report.results[0], outcome=outcome)
    root = tree(render(replace(record, report=replace(record.report, results=(first,)))))
    columns = [cell.text or "" for cell in next(root.iter("thead")).iter("th")]
    assert columns[4:] == ["backend", "expected", "declared", "layouts", "processes", "packages"]
    told_of = {word.text: "".join(said.itertext()) for word, said in pairwise(root.find(".//dl[@class='about']") or [])}
    assert told_of["layouts"].startswith("Each kind of mapping is read back as it was made")
    assert all(told_of[column] for column in columns[5:])
    assert "TestOfAPackage29: x" in words_of(root)


def test_the_page_asks_nobody_and_runs_nothing(machine: Machine) -> None:
    root = tree(render(told(machine)))
    tags = {element.tag for element in root.iter() if isinstance(element.tag, str)}
    assert not tags & {"script", "img", "iframe", "object", "embed", "base", "form"}
    references = [element.attrib[name] for element in root.iter() for name in ("src", "href") if name in element.attrib]
    assert all(reference.startswith(("#console-", "data:,")) for reference in references)


def test_of_a_long_console_the_end_is_shown_and_the_rest_is_counted(machine: Machine, tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_bytes(b"early" + b"." * CONSOLE_BYTES + b"late")
    words = words_of(tree(render(told(machine, log))))
    assert "late" in words
    assert "early" not in words
    assert "Its last part; 9 bytes before it are left out." in words


def test_a_console_that_is_gone_is_said(machine: Machine, tmp_path: Path) -> None:
    assert "it cannot be read any more: No such file" in render(told(machine, tmp_path / "gone.log"))


def test_a_record_of_somebody_else_shows_no_file_but_its_own(machine: Machine, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a private key")
    secret.with_suffix(".conformance.txt").write_text("a private letter")
    kept = tmp_path / "sent" / "results.json"
    save(told(machine, tmp_path / "lies" / "where.log").report, kept)
    kept.write_text(kept.read_text("utf-8").replace(str(tmp_path / "lies" / "where.log"), str(secret)), "utf-8")
    assert str(secret) in kept.read_text("utf-8")
    assert "private" not in render(load(kept))
    own = kept.parent / "consoles" / f"{machine.name}.log"
    own.parent.mkdir()
    own.write_text("what it said")
    assert "what it said" in render(load(kept))


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "device", "link of the folder"])
def test_what_lies_in_the_place_of_a_console_and_is_none_is_not_read(
    machine: Machine, tmp_path: Path, kind: str
) -> None:
    secret = tmp_path / "elsewhere" / f"{machine.name}.log"
    secret.parent.mkdir()
    secret.write_text("a private key")
    kept = tmp_path / "sent" / "results.json"
    save(told(machine, secret).report, kept)
    place = kept.parent / "consoles" / secret.name
    if kind == "link of the folder":
        place.parent.symlink_to(secret.parent)
    else:
        place.parent.mkdir()
    match kind:
        case "link":
            place.symlink_to(secret)
        case "pipe":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
        case "device" if os.geteuid() == 0:
            os.mknod(place, 0o644 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero, which never ends
        case "device":
            pytest.skip("making a device takes root")
    shown = render(load(kept))  # at once: a pipe is not waited for
    assert "private" not in shown
    assert "it cannot be read any more" in shown


def test_a_run_that_is_kept_comes_back_and_gives_the_same_page(machine: Machine, tmp_path: Path) -> None:
    record = told(machine)
    save(record.report, tmp_path / "out" / "results.json")
    again = load(tmp_path / "out" / "results.json")
    assert render(again) == render(record)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["results.json"]


def test_several_runs_are_one_with_the_latest_of_each_machine(machine: Machine) -> None:
    def ran(day: int, *results: MachineResult, left_out: tuple[Machine, ...] = ()) -> Record:
        made = MADE.replace(day=day)
        return Record(Report(results, 10, left_out, f"run {day}", made), f"0.{day}.0")

    other, third = find_once("linux-6.12"), find_once("linux-newest")
    old = ran(1, MachineResult(machine, State.RAN, kernel="old"), MachineResult(third, State.NOT_RUN, "no image"))
    new = ran(3, MachineResult(machine, State.RAN, kernel="new"), left_out=(other, third))
    away = ran(4, MachineResult(machine, State.NOT_RUN, "no network"), left_out=(other,))
    merged = merge([away, new, old])
    told = {result.machine.name: (result.state, result.kernel or result.reason) for result in merged.report.results}
    assert told == {machine.name: (State.RAN, "new"), third.name: (State.NOT_RUN, "no image")}
    assert (merged.report.left_out, merged.report.left_out_by) == ((other,), "run 1; run 3; run 4")
    assert (merged.report.made, merged.vmatlas, merged.report.seconds) == (MADE.replace(day=4), "0.4.0", 30)
    assert merge([new]) is new


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file: Invalid JSON"),
        ("[]", "no record of a run"),
        ('{"format": 2, "vmatlas": "9", "report": {"results": []}}', r"no record of a run: format: .*should be 1"),
        ('{"vmatlas": "9"}', "report: Field required"),
    ],
)
def test_a_file_that_is_no_record_is_said_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ImagesError, match=words) as error:
        load(tmp_path / "x.json")
    assert "\n" not in error.value.message


# In a browser


def test_in_a_browser_a_cell_opens_its_story_and_leads_to_the_console(
    browser: object, machine: Machine, tmp_path: Path
) -> None:
    import json

    from axe_core_python.selenium import Axe
    from selenium.webdriver import Chrome
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    assert isinstance(browser, Chrome)
    log = tmp_path / "x.log"
    log.write_bytes(b"first line\n" + b"\n".join(HOSTILE) + b"\nlast line of it")
    write_page(told(machine, log, "a reason " + HOSTILE[0].decode()), tmp_path / "page.html")
    browser.get("about:blank")
    browser.get_log("performance")  # what the browser's own first page asked for
    browser.get((tmp_path / "page.html").as_uri())

    def opened() -> list[str]:
        panels = browser.find_elements(By.CSS_SELECTOR, "details[open] > .panel")
        return [panel.text for panel in panels if panel.is_displayed()]

    assert opened() == []
    cells = {cell.text.replace("\n", " "): cell for cell in browser.find_elements(By.TAG_NAME, "summary")}
    [layouts] = [cell for text, cell in cells.items() if "linux-procfs, layouts: 1 failed, 2 passed" in text]
    layouts.click()
    [story] = opened()
    for words in ("linux-6.1, linux-procfs: layouts", "7: passed, 0.5 s", "failed, 1.5 s: a reason <script>alert(1)"):
        assert words in story

    browser.find_element(By.CSS_SELECTOR, "details[open] a").click()  # to the console, in the machine's own cell
    [story] = opened()
    assert story.startswith("linux-6.1: FAILED")
    assert "first line" in story
    assert HOSTILE[1].decode() in story
    assert "last line of it" in story

    cells["linux-6.12: LOST"].send_keys(Keys.ENTER)  # by the keyboard alone
    [story] = opened()
    assert story.startswith("linux-6.12: LOST")

    faults = Axe().run(browser)["violations"]
    assert [(fault["id"], [node["target"] for node in fault["nodes"]]) for fault in faults] == []
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    assert {url for url in asked if not url.startswith("data:")} == {(tmp_path / "page.html").as_uri()}


@pytest.mark.parametrize(("width", "height"), [(1400, 900), (390, 800)])
def test_in_a_window_of_any_width_each_cell_opens_and_closes_where_it_is_seen(
    browser: object, machine: Machine, tmp_path: Path, width: int, height: int
) -> None:
    from selenium.webdriver import ActionChains, Chrome
    from selenium.webdriver.common.by import By

    assert isinstance(browser, Chrome)
    write_page(told(machine, None, "word " * 60), tmp_path / "page.html")
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get((tmp_path / "page.html").as_uri())

    def asked(script: str, *words: object) -> object:
        found: object = browser.execute_script(f"return {script}", *words)  # type: ignore[no-untyped-call]
        return found

    assert asked("document.documentElement.scrollWidth <= innerWidth"), (
        "nothing but the tables is wider than the window"
    )
    cells = browser.find_elements(By.CSS_SELECTOR, "summary")
    assert len(cells) > 5
    for cell in cells:
        asked("arguments[0].scrollIntoView({block: 'center', inline: 'center'})", cell)
        cell.click()  # an error when anything lies over it
        assert asked("document.querySelectorAll('details[open]').length") == 1
        assert asked("document.querySelector('details[open]').contains(arguments[0])", cell)
        right = asked("parseFloat(getComputedStyle(arguments[0], '::after').right)", cell)
        bottom = asked("parseFloat(getComputedStyle(arguments[0], '::after').bottom)", cell)
        at = asked(
            "[document.documentElement.clientWidth - arguments[0] - 9, innerHeight - arguments[1] - 9]", right, bottom
        )
        actions = ActionChains(browser)
        actions.w3c_actions.pointer_action.move_to_location(*map(int, at)).click()  # type: ignore[call-overload]
        actions.perform()
        assert asked("document.querySelectorAll('details[open]').length") == 0
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_line_ends_of_any_number_cost_no_more_than_they_are_long() -> None:
    before = time.process_time()
    assert visible("\r" * 200_000 + "x") == "\u240d" * 200_000 + "x"
    assert visible("a" + "\r" * 200_000 + "\nb\r") == "a\nb\u240d"
    assert time.process_time() - before < 4.0, "it took a minute"


@pytest.mark.parametrize("name", ["t[", "[", "]", "t]", "t[a", "t[a]b", ""])
def test_a_case_of_any_name_is_on_the_page(machine: Machine, tmp_path: Path, name: str) -> None:
    case = Case(name, CaseState.PASSED, "linux-procfs", "", 0, "layouts")
    result = MachineResult(machine, State.RAN, outcome=Outcome((case,)))
    assert name.replace("[", "&#91;") in (page := render(Record(Report((result,), made=MADE), "1"))) or name in page


def test_a_record_made_at_a_time_without_a_zone_is_none(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    save(Report((MachineResult(machine, State.RAN, outcome=Outcome(())),), made=MADE), path)
    assert merge([load(path), load(path)]).report.made == MADE
    path.write_text(path.read_text().replace("2026-01-02T03:04:00Z", "2026-01-02T03:04:00"))
    with pytest.raises(ImagesError, match="a time without a zone"):
        load(path)


class Counted(str):
    """A name that counts how often it is compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return super().__eq__(other)

    __hash__ = str.__hash__


def test_rows_cost_what_there_are_cases_however_many_backends_a_record_names() -> None:
    cases = tuple(Case("test_a", CaseState.PASSED, Counted(f"b{number}")) for number in range(300))
    result = MachineResult(find("linux-6.1"), State.RAN, outcome=Outcome(cases))
    Counted.compared = 0
    assert len(list(_rows(result, ["layouts"]))) == 300
    assert Counted.compared < 300 * 30
