"""A plugin for another system, begun: its folder below platforms/ and its machine, from the templates in platform/.

What is left to write is marked, and each mark is a test that fails (docs/add-a-platform.md). Nothing is written unless
all can be, and nothing that is there is touched.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from jinja2 import Environment, PackageLoader, StrictUndefined

from .errors import MachineError

MARK = "FILL IN:"

_NAME = re.compile(r"[a-z][a-z0-9]{1,23}")
_MACHINE = "machine.yaml"
_LICENCE = "LICENSE"


def make(root: Path, name: str) -> list[Path]:
    """Make the plugin of a system below the root of a checkout; gives the files that were written.

    Raises `MachineError`, in one line, for a name that cannot be and for what is there already.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise MachineError(
            f"'{name}' is no name for a system: 2 to 24 small letters and digits, a letter first",
            hint="what `uname -s` says there, in small letters",
        )
    plugin, machine = root / "platforms" / name, root / "images" / f"{name}.yaml"
    if not plugin.parent.is_dir() or not machine.parent.is_dir():
        raise MachineError(f"{root.resolve()} is no checkout of vmatlas: it has no platforms and images")
    for taken in (plugin, machine):
        if taken.exists():
            raise MachineError(f"{taken} is there already")
    if importlib.util.find_spec(f"vmatlas_{name}") is not None:
        raise MachineError(f"a package vmatlas_{name} is installed already")
    files = dict(_filled(name))
    content = files.pop(PurePosixPath(_MACHINE))
    made = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=plugin.parent))
    try:
        for path, text in files.items():
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            (made / path).write_text(text, "utf-8")
        if (root / _LICENCE).is_file():
            shutil.copyfile(root / _LICENCE, made / _LICENCE)
        _put_in_order(made)
        made.chmod(0o755)
        made.rename(plugin)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    machine.write_text(content, "utf-8")
    return [*(plugin / path for path in files), machine]


def _put_in_order(folder: Path) -> None:
    """Imports and lines as this repository has them: where they break depends on the length of the name."""
    if importlib.util.find_spec("ruff") is not None:
        for command in (["check", "--fix", "--select", "I"], ["format"]):
            subprocess.run([sys.executable, "-P", "-m", "ruff", *command, "--quiet", folder], check=False, timeout=60)


def _filled(name: str) -> Iterator[tuple[PurePosixPath, str]]:
    """The path of each file below the plugin, and its text."""
    environment = Environment(
        loader=PackageLoader("vmatlas_images", "platform"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # Python, C, YAML: the only thing filled in is a name of letters and digits
    )
    for template in environment.list_templates(extensions=["j2"]):
        path = PurePosixPath(template.removesuffix(".j2").replace("NAME", name))
        yield path, environment.get_template(template).render(name=name, title=name.capitalize(), mark=MARK)
