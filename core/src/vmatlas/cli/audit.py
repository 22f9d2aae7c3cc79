"""`vmatlas audit`: what is suspicious in one process, in several, or in all."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from vmatlas.cli.exits import Exit, say
from vmatlas.cli.options import asking_options, bytes_option, csv_option, json_option, shape_options
from vmatlas.cli.recorded import SourceType, replay
from vmatlas.cli.words import Asked, Chooses
from vmatlas.errors import NoSuchProcess, UsageError, VmatlasError

if TYPE_CHECKING:
    from vmatlas.analysis.audit import AuditReport, Baseline, Finding, Policy, Rule, Severity
    from vmatlas.analysis.audit.rules.dual_mapping import Objects
    from vmatlas.backend import Target
    from vmatlas.cli.render.audit import Audited
    from vmatlas.cli.render.table import Table
    from vmatlas.cli.render.together import Whose
    from vmatlas.cli.survey import Unread
    from vmatlas.model import AddressSpace, ProcessInfo
    from vmatlas.process import Process
    from vmatlas.selection.resolving import Selected

_SEVERITIES = ("note", "low", "medium", "high")

_FOR_ALLOWANCES = 2.0
"""Seconds that are waited for what a process belongs to, once its map was read: it may have stopped to answer since."""

_DOUBT = "not allowed"
"""How the lines begin that say why a policy does not allow something."""

_Seen: TypeAlias = "tuple[str, str | None, str, Severity]"
"""What a finding says of a process: by that --watch knows it again. What weighs more now is new."""
_Who: TypeAlias = "tuple[int, int | None]"
"""A process: one with the number of another one started at another time."""
_Places: TypeAlias = "frozenset[tuple[int, int]]"
"""The memory that a finding is of: from where to where each region goes."""


@dataclass(frozen=True, slots=True)
class _Ask:
    """How an audit is made."""

    policy: Policy
    baseline: Baseline | None
    fail_on: Severity
    backend: str | None
    target: str
    patience: float | None

    def audited(self, space: AddressSpace, report: AuditReport, user: int | None = None) -> Audited:
        """Without what the baseline has."""
        from vmatlas.cli.render.together import Whose

        return self.new_of(Whose(space.pid, space.origin.name), user, space.origin.start_time, report)

    def new_of(self, whose: Whose, user: int | None, start_time: int | None, report: AuditReport) -> Audited:
        """The same, of whoever it is."""
        from dataclasses import replace

        from vmatlas.cli.render.audit import Audited

        if self.baseline is None:
            return Audited(whose, report, user, start_time=start_time)
        new = tuple(each for each in report.findings if not self.baseline.has(whose.name, each, user))
        return Audited(whose, replace(report, findings=new), user, len(report.findings) - len(new), start_time)


@dataclass(slots=True)
class _Looked:
    """What was found, in whom, and who was not read."""

    found: list[Audited] = field(default_factory=list)
    unread: Unread | None = None
    is_incomplete: bool = False
    """Something of a map may be missing; that was said."""
    named: bool = False
    """The names of processes are told in the table."""
    quick: Sequence[Rule] = ()

    def code(self, ask: _Ask) -> Exit:
        """The exit code, without what `Unread.tell` adds."""
        if any(each.severity >= ask.fail_on for audited in self.found for each in audited.report):
            return Exit.FOUND
        required = ask.policy.required
        silent = any(each.rule.id in required for audited in self.found for each in audited.report.untold)
        return Exit.INCOMPLETE if self.is_incomplete or silent else Exit.OK


@click.command("audit", short_help="What a security engineer looks for: writable code, injected code, old files.")
@click.argument("sources", metavar="[PROCESS...|FILE]", type=SourceType(), nargs=-1)
@click.option("--all", "everyone", is_flag=True, help="Every process that may be read.")
@click.option(
    "--policy",
    "policy_name",
    metavar="POLICY",
    default="default",
    help="default, strict, jit-friendly, or a YAML file. Default: default.",
)
@click.option(
    "--fail-on",
    metavar="SEVERITY",
    type=click.Choice(_SEVERITIES),
    default="low",
    help="Exit 1 from this severity on: note, low, medium, high. Default: low.",
)
@click.option("--only", metavar="FINDINGS", default="", help="Look for these alone, which have to speak: 'a,b'.")
@click.option("--ignore", metavar="FINDINGS", default="", help="Do not look for these: 'a,b'.")
@click.option("--baseline", metavar="FILE", help="What an earlier --json wrote: only what is new is told.")
@click.option("--thorough", is_flag=True, help="With --all too the rules that ask much of each process.")
@click.option(
    "--by", type=click.Choice(["process", "file"]), default="process", help="A line for each finding, or each file."
)
@json_option
@csv_option
@click.option("--sarif", "as_sarif", is_flag=True, help="SARIF 2.1.0, for pipelines.")
@click.option("--watch", is_flag=True, help="Look again and again; new findings as they appear.")
@click.option("--interval", metavar="SECONDS", type=float, default=5.0, help="With --watch: this often. Default: 5.")
@click.option("--for", "seconds", metavar="SECONDS", type=float, help="With --watch: end after this time.")
@click.option("--rules", "list_rules", is_flag=True, help="List what is looked for, by the policy.")
@click.option("--explain", metavar="FINDING", help="What a finding means, its honest causes, what to do.")
@bytes_option
@shape_options
@asking_options
def command(
    sources: tuple[Asked | Chooses | str, ...],
    everyone: bool,
    policy_name: str,
    fail_on: str,
    only: str,
    ignore: str,
    baseline: str | None,
    thorough: bool,
    by: str,
    as_json: bool,
    as_csv: bool,
    as_sarif: bool,
    watch: bool,
    interval: float,
    seconds: float | None,
    list_rules: bool,
    explain: str | None,
    exact: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    """Find what injected code looks like and what lets it be injected: memory that is writable and executable,
    executable stacks, code without a file or out of memory, the same object mapped twice, code that was changed or that
    others may change, files that are deleted or replaced, stacks with no guard. 'vmatlas audit --rules' lists it.

    \b
    Examples:
      vmatlas audit 1234
      vmatlas audit --all --policy jit-friendly --fail-on medium
      vmatlas audit --all --by file
      vmatlas audit --all --sarif
      vmatlas audit --explain dual-mapping

    A number is a process, - a capture on standard input, anything else the file of one, or a core (./1234 for a file of
    such a name); words choose several processes ('vmatlas --help' has them).
    Exit 1 when something is found that weighs as much as --fail-on says; 7 when nothing was, but the map may lack
    something, a process could not be read, or a rule that has to speak (--only, the policy) could not: who, which and
    why is told. A rule that cannot speak here says so, and is no pass.
    """
    from vmatlas.analysis.audit import Severity
    from vmatlas.cli.policies import baseline_of, policy_of
    from vmatlas.cli.render import audit, output
    from vmatlas.cli.survey import sources_of
    from vmatlas.cli.whom import several

    policy = _narrowed(policy_of(policy_name), only, ignore)
    if list_rules or explain is not None:
        return _tell_rules(policy, explain)
    _check_forms(as_json=as_json, as_csv=as_csv, as_sarif=as_sarif, by=by)
    _check_watch(watch, interval, seconds, as_csv=as_csv, as_sarif=as_sarif)
    _tell_expired(policy)
    known = None if baseline is None else baseline_of(baseline)
    ask = _Ask(policy, known, Severity.of(fail_on), backend, target, patience)
    source = sources_of(sources, everyone, "audit")

    def look(show: Callable[[_Looked], None]) -> _Looked:
        if isinstance(source, str):
            return _of_file(source, ask)
        if isinstance(source, Asked):
            return _of_process(source, ask)
        with several(source, target, patience) as (place, selected):
            return _of_several(place, selected, ask, thorough or selected is not None, show)

    def show(looked: _Looked) -> None:
        if as_json:
            output.show_json(_json(looked))
        elif as_csv:
            output.show_csv(*audit.findings_csv(looked.found, looked.unread))
        elif as_sarif:
            from vmatlas import __version__
            from vmatlas.cli.render.sarif import sarif

            output.show_json(sarif(looked.found, looked.unread, policy, __version__))
        elif by == "file":
            output.show(audit.files_table(looked.found, looked.unread))
        else:
            output.show(_table(looked, exact=exact))

    if watch:
        if isinstance(source, str):
            raise UsageError("--watch looks at processes: a file does not change")
        return _watched(look, ask, interval, seconds, as_json=as_json, exact=exact)
    looked = look(show)
    show(looked)
    if not _is_for_people():  # they see it below the table
        for doubt in audit.doubted_lines(looked.found):
            say(f"warning: {doubt}")
    told_nowhere_else = not (as_json or as_csv or as_sarif or _is_for_people())
    if told_nowhere_else and (line := audit.untold_line(looked.found)) is not None:
        say(f"warning: {line}")
    code = looked.code(ask)
    unread = Exit.OK if looked.unread is None else looked.unread.tell()
    return code if code is not Exit.OK else unread


def _table(looked: _Looked, *, exact: bool) -> Table:
    from vmatlas.cli.render import audit

    return audit.findings_table(looked.found, exact=exact, named=looked.named, unread=looked.unread, quick=looked.quick)


def _json(looked: _Looked) -> dict[str, Any]:
    from vmatlas.cli.render import audit

    if looked.unread is None:
        return audit.audited_json(looked.found[0])
    return audit.several_json(looked.found, looked.unread, looked.quick)


def _is_for_people() -> bool:
    """Whether the notes below the table are shown."""
    from vmatlas.cli.render.colour import chosen_colours

    return sys.stdout.isatty() or bool(chosen_colours())


def _narrowed(policy: Policy, only: str, ignore: str) -> Policy:
    """By what `--only` and `--ignore` say."""
    wanted = [word for word in map(str.strip, only.split(",")) if word]
    left = [word for word in map(str.strip, ignore.split(",")) if word]
    policy = policy.only(wanted) if wanted else policy
    return policy.without(left) if left else policy


def _check_forms(*, as_json: bool, as_csv: bool, as_sarif: bool, by: str) -> None:
    if as_json + as_csv + as_sarif > 1:
        raise UsageError("--json, --csv and --sarif exclude each other")
    if by == "file" and (as_json or as_csv or as_sarif):
        raise UsageError("--by file goes with the table", hint="--json has all: 'thing' is the file")


def _check_watch(watch: bool, interval: float, seconds: float | None, *, as_csv: bool, as_sarif: bool) -> None:
    if not watch:
        if seconds is not None:
            raise UsageError("--for goes with --watch")
        return
    if as_csv or as_sarif:
        raise UsageError("--watch shows a table, or JSON: an object in a line for each time")
    if not 0 < interval < float("inf"):
        raise UsageError(f"--interval {interval:g} is no time", hint="a number of seconds above 0")
    if seconds is not None and not 0 <= seconds < float("inf"):
        raise UsageError(f"--for {seconds:g} is no time", hint="a number of seconds from 0")


def _tell_rules(policy: Policy, explain: str | None) -> int:
    from vmatlas.analysis.audit import RULES
    from vmatlas.analysis.audit.policy import BY_ID, check_id
    from vmatlas.cli.render import audit, output

    if explain is None:
        output.show(audit.rules_table(RULES, policy.severities))
    else:
        rule = BY_ID[check_id(explain)]
        output.show_words(audit.rule_words(rule, policy.severities.get(rule.id)))
    return Exit.OK


def _tell_expired(policy: Policy) -> None:
    import datetime

    for each in policy.expired(datetime.date.today()):
        say(f"{policy.name}: an allowance ended on {each.until}: {each.reason}")


# ---- looking ----


def _of_file(source: str, ask: _Ask) -> _Looked:
    from vmatlas.analysis import audit as judge

    space = replay(source, residency=False, backend=ask.backend, target=ask.target)
    report = judge(space, policy=ask.policy)
    return _Looked([ask.audited(space, report)], is_incomplete=space.incomplete is not None)


def _of_process(source: Asked, ask: _Ask) -> _Looked:
    from vmatlas.analysis import audit as judge
    from vmatlas.cli.survey import of_one

    def judged(space: AddressSpace, asked: Process) -> tuple[AuditReport, int | None]:
        return judge(space, asked.evidence(), ask.policy), _user_of(asked)

    space, (report, user) = of_one(source, ask.target, ask.backend, ask.patience, judged, residency=False)
    return _Looked([ask.audited(space, report, user)], is_incomplete=space.incomplete is not None)


def _user_of(asked: Process) -> int | None:
    """The number of the user whose rights a process of this machine has."""
    from vmatlas.backend import ListsNumbers
    from vmatlas.target.local import LOCAL

    system: object = LOCAL.system if asked.target is LOCAL else None
    found = system.among([asked.pid]) if isinstance(system, ListsNumbers) else ()
    return next((info.user for _, info in found if info is not None), None)


def _of_several(
    place: Target, selected: Selected | None, ask: _Ask, thorough: bool, show: Callable[[_Looked], None]
) -> _Looked:
    from vmatlas.analysis import audit as judge
    from vmatlas.analysis.audit import Across
    from vmatlas.cli.render.together import Whose
    from vmatlas.cli.survey import Survey, judging, telling

    policy = ask.policy if thorough else ask.policy.quick()
    across = Across(policy)

    def judged(space: AddressSpace, asked: Process) -> tuple[AuditReport, Objects | None]:
        return judge(space, asked.evidence(), policy), across.of(space)

    looked = _Looked(named=selected is not None)
    looked.quick = [rule for rule in ask.policy.rules if rule not in policy.rules]
    looked.unread = survey = Survey(place, ask.backend, ask.patience, judging(judged, residency=False), selected)
    with telling(survey, lambda: show(looked)):
        for process, (report, objects) in survey:
            across.add(process, objects)
            whose = Whose(process.pid, process.known_name)
            looked.found.append(ask.new_of(whose, process.user, process.start_time, report))
    shared: dict[int, tuple[ProcessInfo, list[Finding]]] = {}  # a process may execute thousands that another one writes
    for process, finding in across.findings():
        shared.setdefault(process.pid, (process, []))[1].append(finding)
    for at, told in enumerate(looked.found):
        if told.whose.pid not in shared:
            continue
        process, findings = shared[told.whose.pid]
        more = ask.new_of(told.whose, told.user, told.start_time, _settled(place, process, findings, policy))
        looked.found[at] = told._replace(report=told.report.and_also(more.report), known=told.known + more.known)
    return looked


def _settled(place: Target, process: ProcessInfo, findings: list[Finding], policy: Policy) -> AuditReport:
    """What is found across processes in one of them, by the allowances."""
    from vmatlas import api
    from vmatlas.analysis.audit import Evidence
    from vmatlas.analysis.audit.judge import settled
    from vmatlas.cli.asking import in_time
    from vmatlas.target.local import LOCAL

    if not policy.allowances or place is not LOCAL:
        return settled(findings, Evidence(), policy)

    def known(_: Callable[[], None]) -> AuditReport:
        with api.open(process.pid) as opened:
            if process.start_time not in (None, opened.start_time):
                raise NoSuchProcess(f"the process {process.pid} has ended")
            return settled(findings, opened.evidence(), policy)

    try:
        return in_time(known, place, _FOR_ALLOWANCES, f"what is allowed of process {process.pid}")
    except VmatlasError:
        untold = Evidence(misnamed=lambda _: "the process has ended, or does not answer any more")
        return settled(findings, untold, policy)


# ---- looking again ----


def _watched(
    look: Callable[[Callable[[_Looked], None]], _Looked],
    ask: _Ask,
    interval: float,
    seconds: float | None,
    *,
    as_json: bool,
    exact: bool,
) -> int:
    """Until the process has ended, or the time is over, or Ctrl-C: findings that no look before had, and who or what
    could not be told for the first time. The exit code is that of all looks: 1, else 7, else 0."""
    end = float("inf") if seconds is None else time.monotonic() + seconds
    seen: dict[_Who, dict[_Seen, _Places]] = {}
    told: set[object] = set()
    first: Audited | None = None
    code, looks = Exit.OK, 0
    try:
        while True:
            due = time.monotonic() + interval
            try:
                looked = look(lambda _: None)
            except NoSuchProcess:
                if not looks:
                    raise
                say("the process has ended")
                return code
            if looked.unread is None:  # one process, of which its number is told alone
                first = first or looked.found[0]
                if first.start_time != looked.found[0].start_time:
                    say("the process has ended: its number is another's now")
                    return code
            looks += 1
            now = looked.code(ask)
            if looked.unread is not None and looked.unread.is_incomplete and now is Exit.OK:
                now = Exit.INCOMPLETE
            if code is not Exit.FOUND and now is not Exit.OK:
                code = now
            untold = _tell_new_gaps(looked, told)
            looked.found = _new_of(looked.found, seen, set() if looked.unread is None else looked.unread.who())
            if looked.found or (as_json and untold is not None):
                _show_new(looked, untold or [], as_json=as_json, exact=exact)
            time.sleep(max(min(due, end) - time.monotonic(), 0))
            if time.monotonic() >= end:
                return code
    except KeyboardInterrupt:
        return code


def _tell_new_gaps(looked: _Looked, told: set[object]) -> list[dict[str, Any]] | None:
    """Says who was not read, and which rules could not speak, where no look before did; the rules' part as JSON. None
    where there is nothing new."""
    from vmatlas.cli.render import audit

    is_new = looked.unread is not None and looked.unread.tell_new(told)
    for line in audit.doubted_lines(looked.found):
        if line not in told:
            told.add(line)
            say(f"warning: {line}")
    untold: list[dict[str, Any]] = [
        {"pid": each.whose.pid, "finding": one.rule.id, "why": one.why}
        for each in looked.found
        for one in each.report.untold
        if (each.whose.pid, each.start_time, one.rule.id) not in told
    ]
    rules: dict[str, None] = dict.fromkeys(each["finding"] for each in untold if each["finding"] not in told)
    told.update((each.whose.pid, each.start_time, one.rule.id) for each in looked.found for one in each.report.untold)
    told.update(rules)
    if rules:
        say(f"warning: not everything can be told here: {', '.join(rules)} (--json says why)")
    there = {(each.whose.pid, each.start_time) for each in looked.found}
    there |= set() if looked.unread is None else looked.unread.who()
    lines = {*audit.doubted_lines(looked.found), *(each["finding"] for each in untold)}
    told.difference_update([each for each in told if _is_past(each, there, lines)])
    return untold if untold or is_new else None


def _is_past(told: object, there: Set[_Who], lines: Set[str]) -> bool:
    """Of what was told: whether it is of a process that has ended, or a doubt that is none any more."""
    if isinstance(told, tuple):
        return told[:2] not in there and told[1:3] not in there
    return isinstance(told, str) and told.startswith(_DOUBT) and told not in lines


def _new_of(found: Sequence[Audited], seen: dict[_Who, dict[_Seen, _Places]], unread: Set[_Who]) -> list[Audited]:
    """Those with a finding that the last look at the process did not have, or of memory that it did not have it of:
    that alone, without the others. `seen` is what the last look found then, and of nobody else but who could not be
    read this time: so it does not grow.
    """
    from dataclasses import replace

    new, now = [], {who: marks for who, marks in seen.items() if who in unread}
    for each in found:
        before = seen.get((each.whose.pid, each.start_time), {})
        marks: dict[_Seen, _Places] = {}
        fresh = []
        for one in each.report.findings:
            mark = one.id, one.thing, one.explanation, one.severity
            known = before.get(mark)
            places = frozenset((region.start, region.end) for region in one.regions)
            marks[mark] = places | marks.get(mark, frozenset())
            if known is None:
                fresh.append(one)
            elif regions := tuple(region for region in one.regions if (region.start, region.end) not in known):
                fresh.append(replace(one, regions=regions))
        now[each.whose.pid, each.start_time] = marks
        if fresh:
            new.append(each._replace(report=replace(each.report, findings=tuple(fresh))))
    seen.clear()
    seen.update(now)
    return new


def _show_new(looked: _Looked, untold: list[dict[str, Any]], *, as_json: bool, exact: bool) -> None:
    import datetime
    import json

    from vmatlas.cli.render import audit, output
    from vmatlas.cli.render.together import unread_json

    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    if as_json:
        told = [audit.finding_json(each.whose, one) for each in looked.found for one in each.report.findings]
        unread = {} if looked.unread is None else unread_json(looked.unread)
        sys.stdout.write(json.dumps({"time": now, "findings": told, "untold": untold, **unread}) + "\n")
    else:
        sys.stdout.write(f"{now}\n")
        output.show(audit.findings_table(looked.found, exact=exact, named=looked.named))
        sys.stdout.write("\n")
    sys.stdout.flush()
