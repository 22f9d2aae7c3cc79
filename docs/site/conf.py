"""How Sphinx makes the site of what ci/site.py laid together. Run by it, in the environment of ci/site.lock."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "core" / "src")]

from docstrings import reformed  # noqa: E402

import vmatlas  # noqa: E402

project = "vmatlas"
author = "the authors of vmatlas"
project_copyright = "the authors of vmatlas, MIT"
version = release = vmatlas.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
root_doc = "index"
exclude_patterns = ["core/src", "platforms/*/src", "images/src"]

myst_enable_extensions = ["colon_fence", "attrs_inline"]
myst_heading_anchors = 6
myst_all_links_external = False
suppress_warnings = ["myst.header", "misc.highlighting_failure", "myst.xref_ambiguous"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "show-inheritance": True}
python_use_unqualified_type_names = True
add_module_names = False
maximum_signature_line_length = 100
default_role = "literal"
highlight_language = "none"

html_theme = "furo"
html_title = f"vmatlas {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"footer_icons": []}
copybutton_exclude = ".linenos, .gp, .go"


def setup(app: Any) -> None:
    """Our docstrings are plain text with code in single backticks: made what autodoc reads."""

    def reform(_app: object, _what: str, _name: str, _of: object, _options: object, lines: list[str]) -> None:
        lines[:] = reformed(lines)

    app.connect("autodoc-process-docstring", reform)
