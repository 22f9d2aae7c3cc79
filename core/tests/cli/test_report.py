"""`vmatlas report`: one page on one process."""

from __future__ import annotations


def test_a_report_on_a_process_is_one_page(run, child, tmp_path):
    path = tmp_path / "report.html"
    result = run("report", child.pid, "-o", path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{path}: process {child.pid} (python")
    page = path.read_text("utf-8")
    assert "writable-and-executable" in page and f"{child.at['wx']:x}" in page
    assert page.count("<article") == 2 and 'class="data"' in page
    assert all(character.isprintable() or character == "\n" for character in page)
    assert path.stat().st_mode & 0o077 == 0
    assert run("report", child.pid, "-o", path).exit_code == 2
    assert run("report", child.pid, "-o", path, "--force").exit_code == 0


def test_a_report_on_a_series_tells_what_became_of_it(run, child, tmp_path):
    series = tmp_path / "leak.vmatlas"
    assert run("record", child.pid, "--every", "0.05", "--for", "0.2", "-o", series).exit_code == 0
    assert run("report", series, "-o", tmp_path / "a.html").exit_code == 0
    page = (tmp_path / "a.html").read_text("utf-8")
    assert page.count("<article") == 3 and "<polygon" in page and "see vmatlas growth" in page
    assert run("report", f"{series}@first", "-o", tmp_path / "b.html").exit_code == 0
    assert (tmp_path / "b.html").read_text("utf-8").count("<article") == 2


def test_what_is_no_report_is_refused(run, child, tmp_path):
    for words, told in (
        ((child.pid, "-o", tmp_path / "a.svg"), "a report is a page"),
        (("all", "-o", tmp_path / "a.html"), "on one process"),
        ((child.pid,), "-o"),
    ):
        result = run("report", *words)
        assert result.exit_code == 2 and told in result.stderr
