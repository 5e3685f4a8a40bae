"""The site that ``make docs`` builds: the project's Markdown pages and the reference of its API.

The source folder is that of the project, not ``docs/``, so that links between pages are the same on
the site and in the repository.
"""

from sphinx.application import Sphinx

import pyfastnn

project = "pyfastnn"
version = release = pyfastnn.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

root_doc = "README"
include_patterns = [
    "*.md",
    "docs/*.md",
    "benchmarks/README.md",
    "csrc/README.md",
    "examples/README.md",
    "tests/cuda/ptx/README.md",
]
CONTENTS = """
```{toctree}
:hidden:
:glob:
docs/api
docs/*
CONTRIBUTING
CHANGELOG
csrc/README
examples/README
benchmarks/README
tests/cuda/ptx/README
```
"""

myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_custom_sections = ["Shape"]
# What a docstring refers to must be there, but for types of PyTorch, of scikit-learn and of the
# standard library and for type variables.
nitpicky = True
_IGNORED = (
    r"(torch|nn|dist|collections|sklearn)\..+|Tensor|Axes|Figure|Path|Writer"
    r"|.+\.Model|.+\.CsrMatrix"
)
nitpick_ignore_regex = [("py:.*", _IGNORED)]

html_theme = "alabaster"
html_theme_options = {"fixed_sidebar": True, "page_width": "75em"}
html_copy_source = html_show_sourcelink = False


def add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """Give the first page a table of contents, which would be noise where GitHub shows it."""
    if page == root_doc:
        source[0] += CONTENTS


def setup(app: Sphinx) -> None:
    """Connect the above to Sphinx."""
    app.connect("source-read", add_contents)
