"""./run: what its stamp hangs on, in a checkout whose path no careless script survives."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from invoke.context import Context
from invoke.loader import FilesystemLoader
from invoke.runners import Result

from vmatlas.conformance.patience import PATIENCE

ROOT = Path(__file__).parents[1]
FOLDERS = ("core", "core/agent", "images", "platforms/linux_procfs", "platforms/linux_ioctl")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the stamp is made of, in a path with a blank and a quote."""
    place = tmp_path / "a checkout of mine, 'tis"
    for folder in FOLDERS:
        for path in (ROOT / folder).glob("pyproject.toml"), (ROOT / folder).glob("setup.py"):
            for file in path:
                (place / folder).mkdir(parents=True, exist_ok=True)
                shutil.copy(file, place / folder)
    for folder in ("core/src/vmatlas/native", "platforms/linux_procfs/native", "platforms/linux_ioctl/native"):
        shutil.copytree(ROOT / folder, place / folder)
    (place / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "requirements.lock", place / "tests")
    shutil.copy(ROOT / "run", place)
    return place


def stamp(checkout: Path) -> dict[str, str]:
    """The lines of the stamp, by what they are for."""
    functions = re.findall(
        r"^(?:distributions|stamp_of_sources)\(\) \{\n.*?^\}\n", (checkout / "run").read_text(), re.M | re.S
    )
    assert len(functions) == 2
    script = "here=$1 python=python3\n" + "".join(functions) + "stamp_of_sources\n"
    done = subprocess.run(["sh", "-euc", script, "sh", checkout], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    return dict(line.split(None, 1) for line in done.stdout.splitlines())


def test_what_a_build_leaves_behind_changes_nothing(checkout: Path) -> None:
    before = stamp(checkout)
    assert before.keys() == {"environment", *FOLDERS} - {"images"}
    for folder in ("core", "platforms/linux_procfs"):  # as `pip wheel ./core` and `pip install ./platforms/...` do
        left = checkout / folder / "build" / "lib" / "native"
        left.mkdir(parents=True)
        (left / "columns.h").write_text("/* a copy */")
        (checkout / folder / "src" / "x.egg-info").mkdir(parents=True)
    assert stamp(checkout) == before


def test_a_changed_file_of_c_is_that_distributions_and_a_header_of_cores_is_everybodys(checkout: Path) -> None:
    before = stamp(checkout)
    with next((checkout / "platforms/linux_ioctl/native").glob("*.c")).open("a") as file:
        file.write("/* changed */\n")
    one = stamp(checkout)
    assert {name for name in one if one[name] != before[name]} == {"platforms/linux_ioctl"}
    with (checkout / "core/src/vmatlas/native/columns.h").open("a") as file:
        file.write("/* changed */\n")
    every = stamp(checkout)
    assert {name for name in every if every[name] != one[name]} == before.keys() - {"environment"}


def test_what_the_environment_is_made_of_changes_all_of_it(checkout: Path) -> None:
    before = stamp(checkout)
    for made_from in ("images/pyproject.toml", "tests/requirements.lock"):
        with (checkout / made_from).open("a") as file:
            file.write("# changed\n")
        after = stamp(checkout)
        assert after["environment"] != before["environment"]
        before = after


def test_the_lock_divides_into_what_comes_first_and_the_rest(checkout: Path) -> None:
    function = re.search(r"^locked\(\) \{\n.*?^\}\n", (checkout / "run").read_text(), re.M | re.S)
    assert function is not None

    def locked(*names: str) -> str:
        script = f'here=$1; shift\n{function[0]}locked "$@"\n'
        return subprocess.check_output(["sh", "-euc", script, "sh", checkout, *names], text=True, timeout=PATIENCE)

    def found(text: str) -> list[str]:
        return re.findall(r"^([^ =]+)==", text, re.M)

    lock = (checkout / "tests" / "requirements.lock").read_text()
    first, rest = locked("setuptools", "wheel"), locked("!", "setuptools", "wheel")
    assert found(first) == ["setuptools", "wheel"]
    assert sorted([*found(first), *found(rest)]) == sorted(found(lock))
    assert sorted((first + rest).splitlines()) == sorted(line for line in lock.splitlines() if not line.startswith("#"))


def test_a_path_that_no_environment_can_have_is_said_in_one_line(checkout: Path) -> None:
    place = checkout.rename(checkout.with_name("one:two"))
    done = subprocess.run([place / "run", "true"], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "move it" in done.stderr


def test_python_is_not_looked_for_modules_in_the_folder_that_it_is_started_from() -> None:
    """`-m` and `-c` put that folder first, before the standard library: it may be somebody else's, and we root."""
    started = re.compile(r"(?:sys\.executable, \"|\"\$python\" |/bin/python\" |\(context, \"python )(-\w+)")
    code = [*(ROOT / "core").rglob("*.py"), *(ROOT / "images" / "src").rglob("*.py"), *(ROOT / "ci").glob("*.py")]
    sources = [path for path in code if not {"tests", "fuzz"} & set(path.relative_to(ROOT).parts)]
    found = [
        (f"{path.relative_to(ROOT)}:{number}", match[1])
        for path in [*sources, ROOT / "tasks.py", ROOT / "run"]
        for number, line in enumerate(path.read_text("utf-8").split("\n"), 1)
        for match in started.finditer(line)
    ]
    assert len(found) > 10
    assert [each for each in found if each[1] in ("-m", "-c")] == []


def test_the_tasks_are_those_of_the_checkout_and_not_of_the_folder_it_is_called_from(tmp_path: Path) -> None:
    script = (ROOT / "run").read_text()
    script = "here=$1 env=$2; shift 2\n" + script[script.index("PATH=$env/bin:$PATH") :]
    tools = tmp_path / "env" / "bin"
    tools.mkdir(parents=True)
    (tools / "invoke").write_text('#!/bin/sh\necho "$@"\n')
    (tools / "invoke").chmod(0o755)
    command = [
        "sh",
        "-euc",
        f"fail() {{ exit 2; }}\n{script}",
        "sh",
        "/a b",
        tools.parent,
        "invoke",
        "page",
        "--x",
        "y z",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout == "--search-root /a b page --x y z\n"


def test_what_tasks_run_finds_its_settings_in_the_checkout_and_not_where_it_is_called_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pytest reads conftest.py, mypy loads plugins: in the folder that they stand in, which may be somebody else's."""
    module, _ = FilesystemLoader(start=str(ROOT)).load("tasks")
    monkeypatch.chdir(tmp_path)
    ran: list[str] = []

    class Watched(Context):
        def run(self, command: str, **_: object) -> Result:
            ran.append(command)
            return Result(exited=0)

    for task, *given in (
        (module.check,), (module.agents,), (module.lock,), (module.test,), (module.test_as_user,),
        (module.test_faults,), (module.fuzz,), (module.site,), (module.wheels, "here"), (module.bench, "here.json"),
    ):  # fmt: skip
        task.body(Watched(), *given)
    assert len(ran) > 9
    assert [command for command in ran if not command.startswith(f"cd {shlex.quote(str(ROOT))} && ")] == []
    assert f"wheels.py {tmp_path}/here" in ran[-2] and f" --json {tmp_path}/here.json" in ran[-1], "but what is named"
