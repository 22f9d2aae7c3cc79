"""`vmatlas doctor` tells what works and what does not, and why."""

from __future__ import annotations

import json
import os

import pytest

import vmatlas
from vmatlas import installed, registry


@pytest.fixture
def plugins(monkeypatch):
    """Installs entry points for the length of a test."""
    for cached in (registry._found, registry.entries, registry._load):
        cached.cache_clear()
    real = installed.entry_points
    added: dict[str, list[installed.Entry]] = {}
    monkeypatch.setattr(
        registry,
        "entry_points",
        lambda groups: {group: sorted([*there, *added.get(group, [])]) for group, there in real(groups).items()},
    )
    yield added
    for cached in (registry._found, registry.entries, registry._load):
        cached.cache_clear()


def test_doctor_tells_the_kernel_the_rights_and_the_choices(run):
    told = json.loads(run("doctor", "--json").stdout)
    assert told["system"]["release"] == os.uname().release
    assert told["operations"].startswith("vmatlas-linux-memory: place, lock, ")
    assert any(right["what"] == "user" and str(os.getuid()) in right["state"] for right in told["rights"])
    backends = {each["name"]: each for each in told["backends"]}
    assert backends["linux-procfs"]["available"] is True
    choices = {each["question"]: each["backend"] for each in told["choices"]}
    assert choices["residency"] == "linux-procfs"
    with vmatlas.open() as process:
        assert choices["whole map"] == process.choice(vmatlas.Query()).backend.name
    assert told["troubles"] == []


def test_doctor_tells_who_asks_about_pages(run):
    told = json.loads(run("doctor", "--json").stdout)
    sources = {each["name"]: each for each in told["page_sources"]}
    if not sources:
        pytest.skip("nothing is installed that asks about pages")
    assert "exclusive" in sources["linux-pagemap"]["states"]
    chosen = next(each for each in told["choices"] if each["question"] == "pages")
    assert chosen["backend"] in [name for name, each in sources.items() if each["available"]] or not chosen["backend"]
    assert {"linux-pagemap", "linux-pagemap-scan"} <= {each["job"] for each in told["twins"]}
    words = run("doctor").stdout
    assert "pages: present, swapped, file" in words or not sources["linux-pagemap"]["available"]


def test_a_broken_source_of_pages_is_shown_with_its_reason(run, plugins):
    plugins[registry.PAGES] = [installed.Entry("torn", "no_such_module:PAGES", "vmatlas-torn")]
    told = json.loads(run("doctor", "--json").stdout)
    torn = next(each for each in told["page_sources"] if each["name"] == "torn")
    assert (torn["available"], torn["states"]) == (False, [])
    assert "No module named 'no_such_module'" in torn["reason"]


def test_doctor_in_words(run):
    result = run("doctor")
    assert result.exit_code == 0
    sections = result.stdout.split("\n\n")
    assert [section.split()[0] for section in sections] == ["WHAT", "BACKEND", "QUESTION", "WORK"]
    assert os.uname().release in sections[0]
    assert "linux-procfs" in sections[1]


def test_a_broken_plugin_is_shown_with_its_reason_and_does_not_stop_the_others(run, plugins):
    plugins[registry.BACKENDS] = [installed.Entry("broken", "no_such_module:BACKEND", "vmatlas-broken")]
    plugins[registry.TARGETS] = [installed.Entry("lost", "os:nothing_of_that_name", "vmatlas-lost")]
    result = run("doctor", "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    broken = next(each for each in told["backends"] if each["name"] == "broken")
    assert (broken["available"], "No module named 'no_such_module'" in broken["reason"]) == (False, True)
    assert [trouble["what"] for trouble in told["troubles"]] == [
        "plugin 'broken' of vmatlas-broken (vmatlas.backends)",
        "plugin 'lost' of vmatlas-lost (vmatlas.targets)",
    ]
    assert "TROUBLE" in run("doctor").stdout


def test_two_plugins_of_one_name_are_told(run, plugins):
    plugins[registry.BACKENDS] = [installed.Entry("linux-procfs", "other:BACKEND", "vmatlas-impostor")]
    result = run("doctor")
    assert result.exit_code == 5, "maps cannot be read until one of them is gone"
    assert "two distributions register 'linux-procfs'" in result.stdout
    assert "uninstall one of them" in result.stdout


def test_a_kernel_without_the_ioctl_is_named_as_the_reason(run, monkeypatch):
    from vmatlas.backend import Availability
    from vmatlas.target.local import LOCAL

    backend = registry.backend("linux-ioctl")
    monkeypatch.setattr(LOCAL, "_probed", {})
    monkeypatch.setattr(type(backend), "probe", lambda self: Availability(False, "the kernel is older than 6.11"))
    told = json.loads(run("doctor", "--json").stdout)
    assert next(each for each in told["backends"] if each["name"] == "linux-ioctl")["reason"].startswith(
        "the kernel is"
    )
    point = next(each for each in told["choices"] if each["question"] == "point query")
    assert point["backend"] == "linux-procfs"
    assert "older than 6.11" in point["reason"]
    monkeypatch.setattr(LOCAL, "_probed", {})


def test_a_system_that_no_plugin_knows_is_an_answer_and_not_an_error(run, monkeypatch):
    from vmatlas.target.local import LocalTarget

    def unknown(self):
        raise vmatlas.Unsupported("no installed plugin knows the system 'plan9'", hint="known: linux")

    monkeypatch.setattr(LocalTarget, "system_info", property(unknown))
    result = run("doctor")
    assert result.exit_code == 5
    assert "plan9" in result.stdout
