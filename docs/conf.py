"""How Sphinx builds the documentation. `python docs/build.py` builds it in both languages.

Nothing is fetched: there is no intersphinx, and formulas are MathML, not a script from elsewhere.
"""

import sys
from pathlib import Path

import fastconv

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

project = "fastconv"
author = "the fastconv developers"
copyright = f"2026, {author}"
version = release = fastconv.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "reference",
    "mathml",
    "translated",
]
nitpicky = True
nitpick_ignore_regex = [("py:obj", ".*")]  # a name in single backticks may be a parameter, without a target
exclude_patterns = ["_build", "lecture"]
templates_path = ["_templates"]
default_role = "autolink"

# ---- the reference ----

autosummary_generate = False
autodoc_typehints = "none"  # the docstrings tell types, shapes too
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# ---- pages in Markdown ----

myst_heading_anchors = 3

# ---- the lecture: scripts in docs/lecture, run once for both languages ----

sphinx_gallery_conf = {
    "examples_dirs": "lecture",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/\d\d_",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("last_figure.scrape",),
    "ignore_repr_types": r"matplotlib\.figure",
    "copyfile_regex": r"index\.rst",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "write_computation_times": False,
    "min_reported_time": 3600,
    "show_signature": False,
}

# ---- translations ----

locale_dirs = ["locale"]
gettext_compact = False
gettext_location = False  # line numbers would change with every edit
gettext_uuid = False

# ---- HTML. Furo: small, no scripts or fonts from elsewhere, one column of pages as a lecture has ----

html_theme = "furo"
html_title = "fastconv"
html_static_path = ["_static"]
html_css_files = ["fastconv.css"]
html_show_sphinx = False
html_copy_source = False
html_math_renderer = "mathml"
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "languages.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
