"""The tasks of the repository, each a few lines into the package that owns the job: `./run invoke --list`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

HERE = Path(__file__).parent
PLUGINS = sorted(path.name for path in HERE.glob("platforms/*/src/vmatlas_*") if path.is_dir() and "." not in path.name)
PACKAGES = ("vmatlas", "vmatlas_agents", "vmatlas_fleet", "vmatlas_images", *PLUGINS)

TESTS = "core/tests core/agent/tests core/fleet/tests platforms images/tests tests"
# What asks this machine's kernel, or depends on the rights to files and processes: another user is told other things.
# What is computed, what is built, and random inputs are the same for everybody.
TESTS_OF_USERS = (
    "core/tests core/agent/tests core/fleet/tests platforms/linux_* tests"
    " images/tests/test_cache.py images/tests/test_guard.py"
    " --ignore=core/agent/tests/test_build.py --ignore=core/agent/tests/test_fuzz.py"
)
WORKERS = "-n auto --dist loadfile"  # a file's tests together: what they share is made once, not by each worker
SLOW = "what takes seconds of a processor, or long: other systems' agents, wheels, sanitizers' builds, a PostgreSQL"
FAULTS = "test-faults"
SETS_OF_THOROUGH = ("nightly", "release")
THOROUGH = "VMATLAS_TEST_THOROUGH"


def _run(context: Context, command: str, *, warn: bool = False) -> bool:
    """Run a command in this checkout, shown as it goes; whether it succeeded.

    The folder that ./run was called from may be somebody else's: pytest, mypy and ruff run what they find there.
    """
    result = context.run(
        f"cd {shlex.quote(str(HERE))} && {command}", pty=sys.stdout.isatty(), in_stream=False, warn=warn
    )
    return result is not None and result.ok


def _number(text: str, what: str, kind: type[int] | type[float] = int) -> float:
    """What was given as a number. Raises `Exit`: invoke itself would show its own traceback."""
    try:
        return kind(text)
    except ValueError:
        raise Exit(f"{what} {text}: a {'whole ' * (kind is int)}number is needed", code=2) from None


def _file(given: str, usual: str) -> Path:
    """A file or folder as it was given, from where ./run was called; else the usual one, in this checkout."""
    return Path(given).absolute() if given else HERE / usual


def _words(text: str) -> list[str]:
    return [word for word in text.replace(",", " ").split() if word]


@task
def check(context: Context) -> None:
    """Check style and types: ruff, and mypy in its strict mode."""
    _run(context, "ruff check .")
    _run(context, "ruff format --check .")
    _run(context, "mypy " + " ".join(f"-p {package}" for package in PACKAGES))


@task
def agents(context: Context, everything: bool = False) -> None:
    """Build the agents that the machines need; --everything: those of every processor."""
    _run(context, "python -P -m vmatlas_agents.build" + (" --all" if everything else ""))


@task
def lock(context: Context) -> None:
    """Resolve anew what ./run installs, and the tools of `wheels` and `site`: *.lock, with a digest for each file."""
    _run(context, "python ci/lock.py")


@task(
    help={
        "output": "the folder that they go to (dist)",
        "here": "those alone that this machine installs, without the agents",
        "test": "install them in empty environments, and try: all Pythons, by pip, uv, pipx (--here: this, by pip)",
        "url": "where the repository is published, for the metadata",
    }
)
def wheels(context: Context, output: str = "", here: bool = False, test: bool = False, url: str = "") -> None:
    """Build wheels and source distributions of all that is ours, with a bill of materials and digests."""
    folder, few = shlex.quote(str(_file(output, "dist"))), " --here" * here
    if not here:
        agents.body(context, everything=True)
    _run(context, f"python ci/wheels.py {folder}{few}" + (f" --url {shlex.quote(url)}" if url else ""))
    if test:
        _run(context, f"python ci/install_test.py {folder}{few}")


@task(
    help={
        "folder": "where the files of a release lie (dist)",
        "key": "sign: a file with a private key of ssh, or a key that gpg knows",
        "signers": "verify: who may sign by ssh, in lines of NAME KEYTYPE KEY (ssh-keygen's allowed signers)",
    }
)
def sign(context: Context, folder: str = "", key: str = "", signers: str = "") -> None:
    """Sign the digests of a release (--key), or verify the signature and every file (without)."""
    how = ""
    if key:
        how = f" --key {shlex.quote(str(_file(key, '')) if _file(key, '').is_file() else key)}"
    elif signers:
        how = f" --signers {shlex.quote(str(_file(signers, '')))}"
    _run(context, f"python ci/sign.py {shlex.quote(str(_file(folder, 'dist')))}{how}")


@task(
    help={
        "folder": "where the files of a release lie (dist)",
        "key": "attest: a private key as openssl writes it (Ed25519, or ECDSA with P-256)",
        "public": "verify: the public key, from elsewhere than the folder",
    }
)
def attest(context: Context, folder: str = "", key: str = "", public: str = "") -> None:
    """Attest what the files of a release were made of (--key), or verify that offline (--public)."""
    if bool(key) == bool(public):
        raise Exit("either --key, to attest, or --public, to verify", code=2)
    how = f"--key {shlex.quote(str(_file(key, '')))}" if key else f"--public {shlex.quote(str(_file(public, '')))}"
    _run(context, f"python ci/attest.py {shlex.quote(str(_file(folder, 'dist')))} {how}")


@task(help={"output": "the folder that it goes to (.vmatlas/site-made)"})
def site(context: Context, output: str = "") -> None:
    """Make the documentation site of docs/, docstrings and help; a warning or a link that leads nowhere is an error."""
    _run(context, f"python ci/site.py {shlex.quote(str(_file(output, '.vmatlas/site-made')))}")


@task(pre=[agents], help={"quick": "leave out the tests that are marked slow"})
def test(context: Context, only: str = "", quick: bool = False) -> None:
    """Run the tests that need no machine. --only EXPRESSION chooses some (pytest's -k)."""
    chosen = f" -k '{only}'" if only else ""
    _run(context, f"pytest {WORKERS} {TESTS} -m 'not machine{' and not slow' * quick}'{chosen}")


@task(pre=[agents])
def fleet_engines(context: Context) -> None:
    """Install Dask, Polars and Spark (800 MB; Spark takes a Java), and run the tests of a fleet that take them."""
    pip = "python -P -m pip install -q --disable-pip-version-check --no-compile --no-deps --no-build-isolation"
    _run(context, f"{pip} --require-hashes -r ci/engines.lock")
    _run(context, "pytest core/fleet/tests/test_engines.py core/fleet/tests/test_distributed.py")


@task(pre=[agents])
def fleet_object_store(context: Context) -> None:
    """Install s3fs and a server of its protocol, apart from all else, and run the tests of a fleet that take them."""
    place = shlex.quote(str(HERE / ".vmatlas/objects"))
    pip = "python -P -m pip install -q --disable-pip-version-check --no-compile --no-deps --upgrade --only-binary :all:"
    _run(context, f"{pip} --require-hashes --target {place} -r ci/objects.lock")
    _run(context, f"env PYTHONPATH={place} pytest core/fleet/tests/test_object_store.py")


@task(pre=[agents])
def test_as_user(context: Context) -> None:
    """Run the tests that depend on who asks as the user nobody (called by root), without the slow ones."""
    _run(context, f"tests/as_user pytest {WORKERS} {TESTS_OF_USERS} -m 'not machine and not slow and not hypothesis'")


@task(pre=[agents], help={"kills": "how many runs are killed at random moments (a handful)"})
def test_faults(context: Context, kills: str = "") -> None:
    """Run the tests that boot machines to break them: panics, hangs, killed runs, lost targets, programs that crash."""
    many = f"env VMATLAS_KILLS={_number(kills, '--kills')} " if kills else ""
    _run(context, f"{many}pytest -n 2 --dist loadfile {TESTS} -m machine")


@task(
    help={
        "only": "patterns of machine names, separated by commas: linux-6.*",
        "require": "what must run, else exit code 4: systems (one machine of each will do) or patterns (every machine)",
        "jobs": "processors to use (as many as there are)",
        "set": "a set of ci/sets.yaml instead of patterns: default, pull-request, nightly, release",
        "install": "install the QEMU packages that are missing (root, on Debian or Ubuntu)",
        "machines-only": "leave the host's own tests out",
        "page": "where the page goes (.vmatlas/page.html)",
    },
)
def test_all_platforms(
    context: Context,
    only: str = "",
    set: str = "",
    require: str = "",
    jobs: str = "",
    install: bool = False,
    machines_only: bool = False,
    page: str = "",
) -> None:
    """Run the tests of this host, then boot machines and run the conformance suite on each; one table.

    Without --only and --set: one machine for each system and processor. The sets of continuous integration, which name
    more, bring the slow tests of this host and those that break machines (test-faults) as well.

    Exit codes: 0 all passed, 1 a test failed, 2 usage, 3 a machine was lost, 4 something required did not run,
    130 interrupted.
    """
    from vmatlas_images.command import check_choice, install_emulators, run_machines

    output = HERE / ".vmatlas"
    processors = int(_number(jobs or "0", "--jobs"))
    if check_choice(only=_words(only), set_name=set, jobs=processors):
        raise Exit(code=2)
    if install:
        install_emulators(only=_words(only), set_name=set)
    is_quick = set in ("", "default")
    tasks = [] if machines_only else ["check", "test --quick"] if is_quick else ["check", "test", FAULTS]
    begin = f"env {THOROUGH}=1 invoke" if set in SETS_OF_THOROUGH else "invoke"
    failed = [name for name in tasks if not _run(context, f"{begin} {name}", warn=True)]
    if tasks and is_quick:
        print(f"Left out: slow tests ({SLOW}): ./run invoke test")
        print(f"Left out: the tests that break machines: ./run invoke {FAULTS}. A --set of ci/sets.yaml brings both")
    code = run_machines(
        only=_words(only),
        set_name=set,
        require=_words(require),
        jobs=processors,
        output=output,
        page=Path(page) if page else None,
    )
    if failed:
        raise Exit(f"FAILED on this host: {', '.join(failed)} (see above)", code=1)
    raise Exit(code=int(code))


@task(
    help={
        "results": "records of runs, separated by commas (.vmatlas/results.json)",
        "output": "where the page goes (.vmatlas/page.html); of a name that ends in .txt, as 80 columns of text",
    }
)
def page(context: Context, results: str = "", output: str = "") -> None:
    """Make one page of runs that were kept: a single HTML file, fit for publishing, or its twin in text."""
    from vmatlas_images.command import make_page

    records = [Path(each) for each in _words(results)] or [HERE / ".vmatlas/results.json"]
    raise Exit(code=int(make_page(records, _file(output, ".vmatlas/page.html"))))


@task(help={"results": "records of runs, separated by commas; machines that they do not tell of keep their rows"})
def table(context: Context, results: str = "") -> None:
    """Write the README's table of machines anew, from the records of runs, and add them to images/history.jsonl."""
    from vmatlas_images.command import make_table

    raise Exit(code=int(make_table([Path(each) for each in _words(results)], HERE / "README.md")))


@task
def machines(context: Context) -> None:
    """List the machines: what each is for, where its kernel comes from, whether it could run here now."""
    from vmatlas_images.command import list_machines

    raise Exit(code=int(list_machines()))


@task(help={"keep": "leave it up for so long at most (30m), for --target qemu:NAME to join"})
def machine_boot(context: Context, name: str, keep: str = "") -> None:
    """Boot a machine for a person: its console and its agent at hand, until Ctrl-C, or for as long as --keep says."""
    from vmatlas_images.command import boot_machine

    raise Exit(code=int(boot_machine(name, keep=keep)))


@task
def machine_end(context: Context, name: str) -> None:
    """End a machine that was booted to stay."""
    from vmatlas_images.command import end_machine

    raise Exit(code=int(end_machine(name)))


@task
def machine_fetch(context: Context, only: str = "") -> None:
    """Fetch and verify the kernels of the machines (--only PATTERNS), without booting any."""
    from vmatlas_images.command import fetch_machines

    raise Exit(code=int(fetch_machines(_words(only))))


@task(help={"only": "patterns of machine names; the others keep their entries"})
def lock_kernels(context: Context, only: str = "") -> None:
    """Write images/kernels.lock anew: which packages the kernels are today. VMATLAS_LOCKED=1 runs those."""
    from vmatlas_images.command import lock_kernels as lock

    raise Exit(code=int(lock(_words(only))))


@task
def machine_clean(context: Context) -> None:
    """Empty the cache of fetched and prepared kernels."""
    from vmatlas_images.command import clean_cache

    raise Exit(code=int(clean_cache()))


@task(help={"name": "what `uname -s` says there, in small letters"})
def new_platform(context: Context, name: str) -> None:
    """Begin a plugin for another system: its package, C, machine and tests, which fail until they are filled in."""
    from vmatlas_images.command import new_platform as begin

    raise Exit(code=int(begin(name, HERE)))


@task
def bench(context: Context, json: str = "", compare: str = "", plot: str = "", quick: bool = False) -> None:
    """Compare with the bare system calls and with the peers, in one run.

    --json FILE keeps the figures, --compare FILE tells how far they lie from an earlier run's, --plot FILE draws them.
    """
    files = {"json": json, "compare": compare, "plot": plot}
    options = [f" --{name} {shlex.quote(str(_file(file, '')))}" for name, file in files.items() if file]
    options += [" --quick"] * quick
    _run(context, f"PYTHONPATH={shlex.quote(str(HERE))} python -P -m tests.bench" + "".join(options))


@task(help={"minutes": "how long for each of the targets", "only": "frames, requests, host, files or decoders"})
def fuzz(context: Context, minutes: str = "10", only: str = "") -> None:
    """Fuzz what eats bytes from outside: the agent, its host, readers of files, decoders; finds go to fuzz-found."""
    parts = "".join(f" --only {name}" for name in _words(only))
    _run(context, f"python core/agent/fuzz --minutes {_number(minutes, '--minutes', float)}{parts}")
