"""Builds the documentation site: `make docs`."""

import pkgutil
from importlib import import_module

from sphinx.util.docutils import SphinxDirective

import mimseg

project = "mimseg"
version = release = mimseg.__version__
copyright = "the mimseg authors, Apache-2.0"  # noqa: A001

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "results/*/*", "methods/*"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nitpicky = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False

copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"mimseg {version}"
html_theme_options = {"navigation_with_keys": True}
html_static_path = ["_static"]
html_css_files = ["site.css"]


class Room(SphinxDirective):
    """Documents every module of a package under a heading of its own."""

    required_arguments = 1

    def run(self):
        package = self.arguments[0]
        lines = []
        for module in pkgutil.iter_modules(import_module(package).__path__, f"{package}."):
            if not module.ispkg:
                lines += [module.name, "-" * len(module.name), ""]
                lines += [f".. automodule:: {module.name}", ""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def setup(app):
    app.add_directive("room", Room)
    return {"parallel_read_safe": True}
