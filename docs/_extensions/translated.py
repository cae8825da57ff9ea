"""In translations, a warning for each message without a translation, or with one that is fuzzy.

Sphinx counts them too, but takes for untranslated what reads the same in both languages, and texts of images.
"""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from babel.messages.pofile import read_po
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.nodes import extract_messages

logger = logging.getLogger(__name__)


class CheckTranslation(SphinxTransform):
    default_priority = 19  # before Sphinx puts the translations in their places

    def apply(self) -> None:
        page = self.env.docname
        if not any(fnmatch(page, pattern) for pattern in self.config.must_be_translated):
            return
        messages = Path(self.app.srcdir, "locale", self.config.language, "LC_MESSAGES", f"{page}.po")
        with messages.open("rb") as file:
            catalogue = read_po(file)
        for node, text in extract_messages(self.document):
            message = catalogue.get(text)
            if message is None or not message.string or message.fuzzy:
                logger.warning("needs a translation (docs/build.py --update): %s", text, location=node)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("must_be_translated", [], "env")
    app.add_transform(CheckTranslation)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
