"""A report on one process, as one page: what is suspicious, what adds up to what, what grows, and its picture. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape as quoted

from vmatlas.analysis.audit import AuditReport, Finding
from vmatlas.analysis.slopes import Verdict
from vmatlas.analysis.summary import Summary, Total
from vmatlas.analysis.trend import SINGLE, Trend, Trends
from vmatlas.legible import count, escape, human
from vmatlas.picture import html
from vmatlas.picture.course import CourseView
from vmatlas.picture.scene import Scene

_MOST_FILES, _MOST_TRENDS, _MOST_FINDINGS = 25, 20, 200


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """What is told of one process, together."""

    scene: Scene
    summary: Summary
    audit: AuditReport
    trends: Trends | None = None
    """What grew, of a series."""
    course: CourseView | None = None
    """The same, drawn."""

    def __repr__(self) -> str:
        return f"<Report of {self.scene.title}: {len(self.audit)} findings>"

    @property
    def title(self) -> str:
        """Whose, safe to show."""
        return f"{self.scene.title}: report"

    def html(self) -> str:
        """One page that needs nothing else, nor asks for anything."""
        parts = [("Findings", _findings_section(self.audit)), ("Use", _summary_section(self.summary))]
        if self.trends is not None:
            parts.insert(1, ("Growth", _trends_section(self.trends)))
        links = "".join(f'<li><a href="#{name.lower()}">{name}</a></li>' for name, _ in parts)
        links += "".join(
            f'<li><a href="#{place}">{name}</a></li>'
            for place, name, there in (("course", "Over time", self.course), ("picture", "Picture", self.scene))
            if there is not None
        )
        begin = (
            html.head(self.title, self.scene.origin, self.scene.says, self.scene.notes)
            + f'<nav class="contents" aria-label="contents"><ul>{links}</ul></nav>\n'
            + "".join(f'<div id="{name.lower()}">{section}</div>\n' for name, section in parts)
        )
        articles = [(self.title, begin)]
        if self.course is not None:
            articles.append(("Over time", f'<div id="course"></div>{self.course.article()}'))
        articles.append(("Picture", f'<div id="picture"></div>{html.space_article(self.scene)}'))
        return html.page(self.title, articles, together=True)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], name: str, *, texts: int) -> str:
    """`rows` are of markup; the first `texts` columns are words, the others numbers."""
    head = "".join(f'<th scope="col"{_kind(at, texts)}>{title}</th>' for at, title in enumerate(titles))
    body = "".join(
        f"<tr>{''.join(f'<td{_kind(at, texts)}>{cell}</td>' for at, cell in enumerate(row))}</tr>\n" for row in rows
    )
    return (
        f'<div class="wide" tabindex="0" role="group" aria-label="{name}"><table class="plain">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n"
    )


def _kind(at: int, texts: int) -> str:
    return ' class="label name"' if at < texts else ""


# Findings


def _findings_section(audit: AuditReport) -> str:
    parts = ["<section>\n<h2>Findings <small>what is suspicious: see vmatlas audit</small></h2>\n"]
    if not audit.findings:
        parts.append('<p class="empty">Nothing suspicious was found.</p>\n')
    else:
        parts.append(f'<ul class="findings">\n{"".join(map(_finding, audit.findings[:_MOST_FINDINGS]))}</ul>\n')
    if (more := len(audit.findings) - _MOST_FINDINGS) > 0:
        parts.append(f'<p class="quiet">and {more:,} more</p>\n')
    if audit.allowed:
        parts.append(f'<p class="quiet">{count(len(audit.allowed), "finding")} that the policy allows</p>\n')
    if audit.untold:  # a rule that could not speak is no pass
        told = "".join(
            f"<li>{quoted(each.rule.id)}: {quoted(escape(each.why))}</li>" for each in dict.fromkeys(audit.untold)
        )
        parts.append(f"<p>What could not be told:</p>\n<ul>{told}</ul>\n")
    return f"{''.join(parts)}</section>\n"


def _finding(finding: Finding) -> str:
    first, number = finding.region, len(finding.regions)
    where = ""
    if first is not None:
        more = f" and {number - 1:,} more" if number > 1 else ""
        where = f"{first.start:x}-{first.end:x} {first.permissions}{more}, {human(finding.size)}"
    runtime = f"; {escape(finding.runtime)}" if finding.runtime else ""
    thing = f'<br><span class="name">{quoted(escape(finding.thing))}</span>' if finding.thing else ""
    return (
        f'<li><span class="severity {finding.severity.word}">{finding.severity.word}</span> '
        f"<b>{quoted(finding.id)}</b> "
        f'{quoted(escape(finding.explanation) + runtime)}{thing}<br><span class="mono">{quoted(where)}</span></li>\n'
    )


# What adds up to what


def _summary_section(summary: Summary) -> str:
    uses = [[quoted(use.value), *_sizes(total)] for use, total in summary.uses.items()]
    uses.append(["<b>all</b>", *(f"<b>{cell}</b>" for cell in _sizes(summary.total))])
    by_memory = sorted(summary.files, key=lambda file: (-(file.total.resident or 0), -file.total.size))
    files = [
        [quoted(escape(file.path) + (" (deleted)" if file.deleted else "")), *_sizes(file.total)]
        for file in by_memory[:_MOST_FILES]
    ]
    named = sorted(summary.names.items(), key=lambda item: (-(item[1].resident or 0), -item[1].size))
    names = [[quoted(escape(name) or "(nameless)"), *_sizes(total)] for name, total in named[:_MOST_FILES]]
    titles = ("regions", "size", "in memory", "private")
    more = len(summary.files) - len(files)
    return (
        "<section>\n<h2>What it is for</h2>\n"
        + _table(("use", *titles), uses, "by use", texts=1)
        + "</section>\n<section>\n<h2>Files <small>the most in memory first</small></h2>\n"
        + (_table(("file", *titles), files, "by file", texts=1) if files else '<p class="empty">No file is mapped.</p>')
        + (f'<p class="quiet">and {more:,} more</p>\n' if more > 0 else "")
        + "</section>\n<section>\n<h2>Names of what has no file <small>? before a guess</small></h2>\n"
        + _table(("name", *titles), names, "by name", texts=1)
        + "</section>\n"
    )


def _sizes(total: Total) -> list[str]:
    told = [f"{total.regions:,}", human(total.size)]
    return told + ["&ndash;" if each is None else human(each) for each in (total.resident, total.private_resident)]


# What grows


def _trends_section(trends: Trends) -> str:
    """Single groups: each is memory once. What stays as it is, is not shown."""
    shown = [each for each in trends if each.by in SINGLE and each.verdict is not Verdict.STEADY]
    rows = [_trend(each) for each in shown[:_MOST_TRENDS]]
    more = len(shown) - len(rows)
    head = (
        f"<section>\n<h2>Growth <small>{quoted(escape(trends.measure))}, of {trends.moments:,} moments in "
        f"{trends.seconds:,.0f} s: see vmatlas growth</small></h2>\n"
    )
    if not rows:
        return f'{head}<p class="empty">Nothing grows nor shrinks.</p>\n</section>\n'
    titles = ("what", "verdict", "now", "gained", "an hour", "at least", "confidence")
    table = _table(titles, rows, "what grows", texts=2)
    return head + table + (f'<p class="quiet">and {more:,} more</p>\n' if more > 0 else "") + "</section>\n"


def _trend(each: Trend) -> list[str]:
    name = escape(each.key) or "(nameless)"
    if each.guess is not None:
        name += f" {escape(each.guess)}"
    if each.where is not None:
        name += f", most at {each.where[0]:x}-{each.where[1]:x}"
    sure = "&ndash;" if each.chance is None else "&gt;99.9%" if each.chance < 0.001 else f"{1 - each.chance:.1%}"
    numbers = [human(each.last), *(_signed(size) for size in (each.gained, round(each.slope), round(each.low)))]
    return [quoted(name), quoted(each.verdict.value), *numbers, sure]


def _signed(size: int) -> str:
    return f"{'+' if size > 0 else '-' if size < 0 else ''}{human(abs(size))}"
