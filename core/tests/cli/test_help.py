"""Each command's help has examples, and they work; shells can complete."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vmatlas.cli.program import COMMANDS, program
from vmatlas.conformance.patience import PATIENCE


def examples_of(command: str) -> list[str]:
    import click

    found = program.get_command(click.Context(program), command)
    assert found is not None
    assert found.help is not None
    block = found.help.partition("Examples:")[2].partition("\n\n")[0]
    return [line.strip() for line in block.splitlines() if line.strip()]


ALL = [example for command in COMMANDS if command != "top" for example in examples_of(command)]
"""But of what draws on a terminal: test_top.py."""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_of_the_command(run, command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert re.search(rf"^ +vmatlas {command}\b", result.stdout, re.MULTILINE)
    assert max(map(len, result.stdout.splitlines())) <= 120


@pytest.mark.parametrize("example", ALL)
def test_example_of_the_help_works(run, child, tmp_path, monkeypatch, example):
    monkeypatch.chdir(tmp_path)
    for name in ("worker", "before", "after"):
        assert run("record", child.pid, "-o", f"{name}.vmatlas").exit_code == 0
    if "leak.vmatlas" in example and not example.startswith("vmatlas record"):
        assert run("record", child.pid, "--every", "0.3", "--for", "0.9", "-o", "leak.vmatlas").exit_code == 0
        shutil.copy("leak.vmatlas", "worker-leak.vmatlas")
    if example.startswith("vmatlas record"):
        (tmp_path / "worker.vmatlas").unlink()
    program_name, *words = shlex.split(example.partition(" | ")[0])
    assert program_name == "vmatlas"
    there = f"{child.at['plain']:x}"
    words = [word.replace(":1234", f":{child.pid}") for word in words]
    real = {"1234": str(child.pid), "7f0012345678": there, "0x7f0012345678": there, "0x55d0c0001000": there}
    real |= {"leak.vmatlas@10:00": "leak.vmatlas@last", "leak.vmatlas@11:00": "leak.vmatlas@last", "+10m": "#1"}
    real |= {"core.1234": "worker.vmatlas", "7f0012345000": there}  # any file that a process left
    real |= {"1h": "0", "60s": "1", "1s": "0.3"}
    real |= {"/var/lib/node_exporter/vmatlas.prom": "vmatlas.prom", "9256": "0"}
    monkeypatch.setattr("wsgiref.simple_server.WSGIServer.serve_forever", lambda *_, **__: None)
    if words[0] == "watch":  # nothing changes in the child
        words += ["--for", "0.1"]
    if "--during" in words:
        words[words.index("--during") + 1] = "0.1"
    result = run(*(real.get(word, word) for word in words))
    if words[0] == "written" and result.exit_code == 5:
        assert "CONFIG_MEM_SOFT_DIRTY" in result.stderr
        pytest.skip("this kernel does not tell which pages were written")
    if words[0] == "advise" and result.exit_code == 4 and os.geteuid():
        pytest.skip("advising another process takes CAP_SYS_NICE, which this user has not")
    may_find = words[0] in ("audit", "diff", "growth") or "--neighbours" in words
    may_miss = "--all" in words  # who may not look at others is told whom it did not see
    allowed = {0, *([1] if may_find else []), *([7] if may_miss else [])}
    assert result.exit_code in allowed, result.stderr
    assert bool(result.stdout) is (words[0] != "watch" and not {"--textfile", "--listen"} & set(words))


def test_help_of_the_program_names_every_command_and_every_filter_word(run):
    text = run("--help").stdout
    assert all(re.search(rf"^ +{command} ", text, re.MULTILINE) for command in COMMANDS)
    for word in ("rwx", "r-x", "shared", "private", "file", "deleted", "path=", "name=", "size>", "at=", "in=", "!"):
        assert word in text


def test_no_arguments_show_the_help(run):
    result = run()
    assert (result.exit_code, result.stdout) == (0, run("--help").stdout)


MANUAL = Path(__file__).parents[2] / "man" / "vmatlas.1"


def test_the_manual_page_is_that_of_the_commands():
    from vmatlas.cli.manual import manual

    assert MANUAL.read_text() == manual(), "python -m vmatlas.cli.manual > man/vmatlas.1"


def test_the_manual_page_is_one_that_man_can_show():
    shown = next((found for each in ("groff", "mandoc") if (found := shutil.which(each))), None)
    if shown is None:
        pytest.skip("neither groff nor mandoc is installed here")
    how = ["-man", "-Tutf8", "-ww"] if shown.endswith("groff") else ["-Tutf8", "-Wwarning"]
    made = subprocess.run([shown, *how, str(MANUAL)], capture_output=True, text=True, timeout=PATIENCE)
    assert made.stderr == ""
    text = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", made.stdout)
    assert all(f"vmatlas {command}" in text for command in COMMANDS)
    assert "--residency" in text.replace("\u2212", "-")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_one_that_the_shell_accepts(run, shell):
    script = run("completion", shell).stdout
    assert "_VMATLAS_COMPLETE" in script
    if shutil.which(shell) is None:
        return
    checked = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, timeout=PATIENCE)
    assert checked.returncode == 0, checked.stderr


def test_completion_that_no_shell_asked_for_is_refused():
    environment = os.environ | {"_VMATLAS_COMPLETE": "bash_complete"}
    done = subprocess.run(
        [sys.executable, "-m", "vmatlas"], env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
    assert "COMP_WORDS" in done.stderr


def completed(start, words: str) -> list[str]:
    count = len(words.split(" ")) - 1
    environment = os.environ | {"_VMATLAS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    out, said = start(env=environment).communicate(timeout=PATIENCE)
    assert said == b""
    return [line.partition(",")[2] for line in out.decode().splitlines()]


def test_completion_knows_commands_processes_options_and_backends(start, child):
    assert completed(start, "vmatlas su") == ["summary"]
    assert str(child.pid) in completed(start, "vmatlas maps ")
    assert completed(start, f"vmatlas maps {child.pid}") == [str(child.pid)]
    assert "--residency" in completed(start, "vmatlas maps self --")
    assert "linux-procfs" in completed(start, "vmatlas maps self --backend ")
    assert completed(start, "vmatlas maps self --sort re") == ["resident"]
    assert completed(start, "vmatlas maps self --where an") == ["anonymous"]
    assert completed(start, "vmatlas maps self --where x,!sha") == ["x,!shared", "x,!shared-memory"]
    assert completed(start, "vmatlas maps self --target ss") == ["ssh:"]
    assert completed(start, "vmatlas maps self --color al") == ["always"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_a_process_or_else_a_capture(tmp_path, child):
    program = [sys.executable, "-c", "import sys; from vmatlas.cli import main; sys.exit(main())"]
    (tmp_path / "vmatlas").write_text(f'#!/bin/sh\nexec {shlex.join(program)} "$@"\n')
    (tmp_path / "vmatlas").chmod(0o755)
    script = """
        PATH="$PWD:$PATH"; eval "$(vmatlas completion bash)"
        compopt() { options="$1 $2"; }     # it works in a completion alone, and needs a terminal then
        for word in "$@"; do
            COMP_WORDS=(vmatlas summary "$word"); COMP_CWORD=2; COMPREPLY=(); options=
            _vmatlas_completion vmatlas "$word" summary
            echo "$options:${COMPREPLY[*]}"
        done
    """
    asked = subprocess.run(
        ["bash", "-c", script, "bash", str(child.pid), "work"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    process, file = asked.stdout.splitlines()
    assert str(child.pid) in process.partition(":")[2].split(), asked.stderr
    assert file == "-o default:", "bash then looks for files by itself"
