"""In translations, a warning for each page with a message that is untranslated or fuzzy."""

from __future__ import annotations

from fnmatch import fnmatch

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def check(app: Sphinx, document: nodes.document) -> None:
    page = app.env.docname
    if app.config.language == "en" or not any(fnmatch(page, each) for each in app.config.must_be_translated):
        return
    progress = document["translation_progress"]
    if not progress["total"] or progress["translated"] < progress["total"]:  # none: there is no catalogue
        logger.warning(
            "%d of %d messages have a translation that is up to date: python docs/build.py --update",
            progress["translated"],
            progress["total"],
            location=page,
        )


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("must_be_translated", [], "")
    app.connect("doctree-read", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
