"""The page of a picture in a real browser: drawn, searched, zoomed, by mouse and by keyboard; it asks nobody."""

from __future__ import annotations

import base64
import json
import struct
import time
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from vmatlas.analysis.audit.finding import Untold
from vmatlas.conformance.patience import PATIENCE
from vmatlas.conformance.thorough import THOROUGH
from vmatlas.picture.drawn import Picture, pictures
from vmatlas.picture.palette import LIGHT, Sort
from vmatlas.picture.scene import Node, Scene, scene_of

from .strategies import space_of
from .test_picture import HOSTILE, compared, growing, hostile_scene, many, reported, reported_series, threads

selenium = pytest.importorskip("selenium", reason="selenium drives the browser: pip install selenium")


class Page:
    """A page that is open."""

    def __init__(self, browser: object, scenes: list[Scene], folder: Path) -> None:
        from selenium.webdriver import Chrome

        assert isinstance(browser, Chrome)
        self.browser = browser
        self.path = folder / "atlas.html"
        self.path.write_text(pictures(scenes).html(), "utf-8")
        self.media()
        self.size(1400, 900)
        browser.get("about:blank")
        browser.get_log("performance")
        browser.get_log("browser")
        browser.get(self.path.as_uri())

    def media(self, **features: str) -> None:
        told = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": told})

    def size(self, width: int, height: int) -> None:
        wanted = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", wanted)

    def ask(self, script: str) -> object:
        found: object = self.browser.execute_script(f"return {script}")
        return found

    def text(self, selector: str) -> str:
        return str(self.ask(f"[...document.querySelectorAll({selector!r})].map(each => each.innerText).join('\\n')"))

    def until(self, script: str) -> None:
        """What is drawn, is drawn with the next frame."""
        end = time.monotonic() + PATIENCE
        while not self.ask(script):
            assert time.monotonic() < end, script
            time.sleep(0.02)

    def type(self, words: str) -> None:
        from selenium.webdriver.common.keys import Keys

        field = self.browser.find_element("css selector", "article:not([hidden]) input[type=search]")
        field.send_keys(Keys.CONTROL + "a")
        field.send_keys(Keys.BACKSPACE)
        field.send_keys(words)

    def press(self, *keys: str) -> None:
        self.browser.find_element("css selector", ".ribbon").send_keys(*keys)

    def colours(self) -> set[tuple[int, int, int]]:
        """Of the map, as it is drawn: each that has a hundred pixels."""
        script = """(() => { const canvas = document.querySelector('canvas'), many = new Map();
            const told = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
            for (let at = 0; at < told.length; at += 4) { if (told[at + 3] < 255) continue;
                const key = [told[at], told[at + 1], told[at + 2]].join(); many.set(key, (many.get(key) || 0) + 1); }
            return [...many].filter(each => each[1] >= 100).map(each => each[0]); })()"""
        found = self.ask(script)
        assert isinstance(found, list)
        return {(int(red), int(green), int(blue)) for red, green, blue in (each.split(",") for each in found)}

    def is_quiet(self) -> None:
        """Nothing was asked of anybody, and nothing went wrong."""
        assert self.browser.get_log("browser") == []
        messages = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        asked = {each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"}
        assert asked <= {self.path.as_uri(), "about:blank"}


def rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue


def test_map_is_drawn_in_the_colours_of_what_is_there_and_list_and_totals_agree(browser, tmp_path):
    scene = scene_of(space_of(many(60)))
    page = Page(browser, [scene], tmp_path)
    drawn = page.colours()
    assert rgb(LIGHT[Sort.IMAGE]) in drawn and rgb(LIGHT[Sort.ANONYMOUS]) in drawn
    assert rgb(LIGHT[Sort.DEVICE]) not in drawn
    assert (
        page.text(".found")
        == f"60 regions, {scene.says.split(', ')[1].removesuffix(' mapped')}, " + (scene.says.split(", ")[2])
    )
    assert f"{scene.pieces[0].region.start:x}" in page.text(".list tbody")
    assert "all" in page.text(".totals tfoot")
    page.is_quiet()


def test_search_finds_names_addresses_rights_and_sizes(browser, tmp_path):
    space = space_of(many(60))
    scene = scene_of(space)
    page = Page(browser, [scene], tmp_path)

    def found(words: str) -> int:
        page.type(words)
        told = page.text(".found")
        return int(told.split()[0].replace(",", "")) if " of 60" in told else 60

    assert found("lib3.so") == sum("lib3.so" in each.label for each in space)
    assert found(f"{space[7].start + 8:x}") == 1
    assert found("r-x") == sum(each.permissions.startswith("r-x") for each in space)
    assert found("w") == sum("w" in each.permissions for each in space)
    assert found("size>100K") == sum(each.size > 100 * 1024 for each in space)
    assert found("image !size>100K") == sum(
        piece.sort is Sort.IMAGE and piece.region.size <= 100 * 1024 for piece in scene.pieces
    )
    assert found("nowhere") == 0
    assert "No region passes" in page.text(".list-empty")
    assert found("") == 60


def meant_by(node: Node, scene: Scene) -> int:
    """So many regions a rectangle of the treemap stands for, or a sort of which it is the rest."""
    of_sort = [piece for piece in scene.pieces if piece.sort is node.sort]
    if node.label == "(nameless)":
        return sum(not piece.label for piece in of_sort)
    return sum(node.label in (piece.name, piece.common) for piece in of_sort) or len(of_sort)


def test_a_click_in_the_treemap_finds_what_it_stands_for(browser, tmp_path):
    for scene in (threads(10), scene_of(space_of(many(400)))):
        page = Page(browser, [scene], tmp_path)
        cells = page.browser.find_elements("css selector", ".treemap [data-find]")
        nodes = [node for group in scene.tree for node in group.children]
        assert len(cells) == len(nodes) > 2
        for cell, node in zip(cells, nodes, strict=True):
            page.browser.execute_script("arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", cell)
            assert page.text(".found").split(" of ")[0] == str(meant_by(node, scene)), node
        page.is_quiet()


def test_what_stands_within_quotes_is_one_name(browser, tmp_path):
    page = Page(browser, [threads(10)], tmp_path)
    for words, number in (
        ('"thread stack"', 10),
        ('!"thread stack"', 2),
        ("nameless", 1),
        ('"thread stack" size>1G', 0),
    ):
        page.type(words)
        assert page.text(".found").startswith(f"{number} of 12 "), words
    page.type('"')
    assert page.text(".found").startswith("12 regions")
    page.is_quiet()


def test_neighbours_with_no_room_for_their_names_have_once_what_they_have_in_common(browser, tmp_path):
    page = Page(browser, [threads(400)], tmp_path)
    page.ask(
        """(() => { window.told = []; const of = CanvasRenderingContext2D.prototype, draw = of.fillText;
        of.fillText = function (text, ...at) { window.told.push(text); return draw.call(this, text, ...at); }; })()"""
    )
    page.size(1200, 900)  # so it is drawn again
    page.until("window.told.some(each => /^\\d+ \\u00d7 .thread stack$/.test(each))")
    told = page.ask("window.told")
    assert isinstance(told, list)
    assert not [each for each in told if str(each).startswith("?stack")]
    page.is_quiet()


def test_words_in_the_treemap_end_within_their_cells(browser, tmp_path):
    page = Page(browser, [scene_of(space_of(many(400)))], tmp_path)
    long = "(each => each.getComputedTextLength() > each.ownerSVGElement.getBoundingClientRect().width)"
    page.until("[...document.querySelectorAll('.treemap text')].some(each => each.textContent.endsWith('…'))")
    assert page.ask(f"[...document.querySelectorAll('.treemap text')].filter({long}).length") == 0


def test_keyboard_chooses_searches_and_zooms_and_what_is_known_is_told(browser, tmp_path):
    from selenium.webdriver.common.keys import Keys

    space = space_of(many(60))
    page = Page(browser, [scene_of(space)], tmp_path)
    assert "Point at a region" in page.text(".detail")
    page.press(Keys.ARROW_RIGHT)
    assert f"{space[0].start:x}-{space[0].end:x}" in page.text(".detail")
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    told = page.text(".detail")
    assert f"{space[1].start:x}-{space[1].end:x}" in told
    for word in ("addresses", "size", "rights", "in memory", "inode", "offset in the file", "free behind it"):
        assert word in told
    before = page.text(".scale")
    page.press("+")
    assert page.text(".scale") != before
    page.press("0")
    assert page.text(".scale") == before
    page.press(Keys.END)
    assert f"{space[-1].start:x}" in page.text(".detail")
    page.browser.find_element("css selector", "body").send_keys("/")
    assert page.ask("document.activeElement.type") == "search"
    page.browser.switch_to.active_element.send_keys(f"lib3.so{Keys.ENTER}")
    first = next(each for each in space if "lib3.so" in each.label)
    assert f"{first.start:x}" in page.text(".detail")
    page.press(Keys.ESCAPE)
    assert "Point at a region" in page.text(".detail")
    page.is_quiet()


def test_mouse_tells_of_the_region_that_it_points_at(browser, tmp_path):
    from selenium.webdriver import ActionChains

    space = space_of(many(12))
    scene = scene_of(space)
    page = Page(browser, [scene], tmp_path)
    canvas = page.browser.find_element("css selector", "canvas")
    left, top = -canvas.size["width"] / 2 + 130, -canvas.size["height"] / 2 + 24
    ActionChains(page.browser).move_to_element_with_offset(canvas, int(left), int(top)).perform()
    assert f"{space[0].start:x}" in page.text(".detail")
    assert f"{space[0].start:x}"[:8] in page.text(".tag")
    ActionChains(page.browser).click().perform()
    assert page.ask("document.querySelector('tr.chosen').dataset.row") == "0"
    page.browser.find_element("css selector", ".list tbody tr[data-row='5']").click()
    assert f"{space[5].start:x}" in page.text(".detail")
    page.browser.find_element("css selector", "button[data-sort=image]").click()
    assert " of 12 regions" in page.text(".found")
    page.browser.find_element("css selector", "[data-by=size]").click()
    rows = page.ask("[...document.querySelectorAll('tr[data-row]')].map(each => Number(each.dataset.row))")
    images = [row for row, piece in enumerate(scene.pieces) if piece.sort is Sort.IMAGE]
    assert rows == sorted(images, key=lambda row: (-space[row].size, row))
    page.is_quiet()


def test_hostile_names_are_shown_and_do_nothing(browser, tmp_path):
    page = Page(browser, [hostile_scene()], tmp_path)
    for row in range(2 * len(HOSTILE) + 1):
        page.browser.execute_script(
            "const row = document.querySelector(`tr[data-row='${arguments[0]}']`); if (row) row.click();", row
        )
        assert page.ask("document.querySelectorAll('.detail script, .detail svg, .list img, .detail img').length") == 0
    assert page.ask("document.querySelectorAll('script').length") == 3
    assert page.ask("getComputedStyle(document.body).display") == "block"
    told = page.text(".list tbody")
    assert "<script>alert(1)</script>" in told and "\\u202e" in told and "\u202e" not in told
    page.type("alert")
    page.is_quiet()


def test_nobody_is_kept_from_it(browser, tmp_path):
    """By the rules of axe: names and roles, contrast of texts; light, dark, and narrow."""
    from axe_core_python.selenium import Axe

    page = Page(browser, [scene_of(space_of(many(12))), scene_of(space_of(many(3)))], tmp_path)
    others = tmp_path / "others.html"
    others.write_text(Picture((compared(), growing())).html(), "utf-8")
    for scheme, width, path, chosen in (
        ("light", 390, page.path, 0),
        ("dark", 1400, others, 0),
        ("light", 1400, others, 1),
    ):
        page.media(prefers_color_scheme=scheme)
        page.size(width, 900)
        page.browser.get(path.as_uri())
        page.browser.find_element("css selector", f".choose option[value='{chosen}']").click()
        faults = Axe().run(page.browser)["violations"]
        told = [(fault["id"], [node["target"] for node in fault["nodes"]]) for fault in faults]
        assert told == [], (scheme, width, path.name, chosen)
        assert page.ask("document.documentElement.scrollWidth <= innerWidth")


def test_nobody_is_kept_from_a_report_and_its_contents_lead_to_its_parts(browser, tmp_path):
    from axe_core_python.selenium import Axe

    page = Page(browser, [scene_of(space_of(many(3)))], tmp_path)
    report, _, _ = reported_series()
    untold = Untold(reported().audit[0].rule, HOSTILE[0])
    page.path.write_text(replace(report, audit=replace(report.audit, untold=(untold,))).html(), "utf-8")
    page.media(prefers_color_scheme="dark")
    page.size(390, 900)
    page.browser.get(page.path.as_uri())
    faults = Axe().run(page.browser)["violations"]
    assert [(fault["id"], [node["target"] for node in fault["nodes"]]) for fault in faults] == []
    assert page.ask("document.documentElement.scrollWidth <= innerWidth")
    links = page.browser.find_elements("css selector", "nav.contents a")
    assert len(links) == 5
    for link in links:
        link.click()
        place = str(link.get_attribute("href")).rpartition("#")[2]
        page.until(f"location.hash === '#{place}'")
        seen = f"document.getElementById('{place}').getBoundingClientRect()"
        page.until(f"(box => box.top < innerHeight && box.bottom > -2)({seen})")
    assert page.ask("document.querySelectorAll('img, iframe').length") == 0
    page.is_quiet()


def test_dark_is_drawn_dark_and_paper_is_always_light(browser, tmp_path):
    page = Page(browser, [scene_of(space_of(many(60)))], tmp_path)
    page.media(prefers_color_scheme="dark")
    page.until("getComputedStyle(document.body).backgroundColor === 'rgb(20, 23, 28)'")
    page.until("true")
    assert page.ask("matchMedia('(prefers-color-scheme: dark)').matches")
    end = time.monotonic() + PATIENCE
    while rgb(LIGHT[Sort.IMAGE]) in page.colours():
        assert time.monotonic() < end
    page.browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert rgb(LIGHT[Sort.IMAGE]) in page.colours()
    page.browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert rgb(LIGHT[Sort.IMAGE]) not in page.colours()
    printed = page.browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert base64.b64decode(printed).startswith(b"%PDF")


def test_of_several_one_is_shown_and_the_others_can_be_chosen(browser, tmp_path):
    page = Page(browser, [scene_of(space_of(many(5))), scene_of(space_of(many(9)))], tmp_path)
    assert page.text("article:not([hidden]) .found").startswith("5 regions")
    page.browser.find_element("css selector", ".choose option[value='1']").click()
    assert page.text("article:not([hidden]) .found").startswith("9 regions")
    assert page.ask("document.querySelector('article:not([hidden]) canvas').width") > 300
    page.is_quiet()


@pytest.mark.parametrize("number", [0, 1, 100_000 if THOROUGH else 20_000], ids=["none", "one", "many"])
def test_any_number_of_regions_is_drawn(browser, tmp_path, number):
    made = many(min(number, 2000))
    if number > 2000:  # the same again, higher: making each anew takes longer than all else here
        span = made[-1].end - made[0].start + 4096
        plain = [each._replace(details=type(each.details)(), flags=None) for each in made]
        made = [
            each._replace(start=each.start + turn * span, end=each.end + turn * span)
            for turn in range(number // 2000)
            for each in plain
        ]
    page = Page(browser, [scene_of(space_of(made))], tmp_path)
    assert page.text(".found").startswith(f"{number:,} region")
    if not number:
        assert "There is no region" in page.text(".list-empty")
        return
    assert page.colours()
    page.type("lib3.so")
    page.press("+", "+", "-", "0")
    page.is_quiet()


def test_a_slider_goes_through_the_moments_of_a_series(browser, tmp_path):
    from selenium.webdriver import Chrome
    from selenium.webdriver.common.keys import Keys

    assert isinstance(browser, Chrome)
    page = Page(browser, [scene_of(space_of(many(5)))], tmp_path)
    page.path.write_text(Picture((growing(),)).html(), "utf-8")
    browser.get(page.path.as_uri())
    assert "6 of 6" in page.text(".when")
    last = page.ask("document.querySelector('canvas').toDataURL()")
    assert page.text("[data-band='0']").split("\n")[-1] == "96K"
    slider = browser.find_element("css selector", "input[type=range]")
    slider.send_keys(Keys.HOME)
    assert "1 of 6" in page.text(".when")
    assert page.text("[data-band='0']").split("\n")[-1] == "16K"
    assert page.ask("document.querySelector('canvas').toDataURL()") != last
    assert page.ask("document.querySelector('.now').getAttribute('x1')") == "70"
    slider.send_keys(Keys.ARROW_RIGHT)
    assert "2 of 6" in page.text(".when")
    page.is_quiet()


def test_drawing_of_one_file_is_one_that_a_browser_shows(browser, tmp_path):
    from selenium.webdriver import Chrome

    assert isinstance(browser, Chrome)
    path = tmp_path / "atlas.svg"
    path.write_text(pictures([hostile_scene()]).svg(), "utf-8")
    browser.get(path.as_uri())
    assert browser.execute_script("return document.documentElement.tagName") == "svg"
    assert browser.execute_script("return document.querySelectorAll('script, [onload], foreignObject').length") == 0
    drawn = base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"])
    width, height = struct.unpack(">II", drawn[16:24])
    at, packed = 8, b""
    while at < len(drawn):
        size, kind = struct.unpack(">I4s", drawn[at : at + 8])
        packed += drawn[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    assert width > 300 and height > 300
    assert len(set(zlib.decompress(packed))) > 20  # more than an empty sheet
    assert browser.get_log("browser") == []
