"""Pictures of the lecture: the figure that a cell's last expression gives, as a notebook would show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakSet

from matplotlib.figure import Figure

PIXELS_PER_INCH = 96  # CSS's; saved at twice that for screens of small pixels

_shown: WeakSet[Figure] = WeakSet()


def scrape(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save it and give the reStructuredText that shows it; sphinx-gallery calls this after each cell."""
    figure = block_vars["example_globals"].get("___")  # the name it gives the value of the last expression
    if not isinstance(figure, Figure) or figure in _shown:
        return ""
    _shown.add(figure)
    path = Path(next(block_vars["image_path_iterator"]))
    figure.savefig(path, dpi=2 * PIXELS_PER_INCH)
    return f"""
.. image:: /{path.relative_to(gallery_conf["src_dir"]).as_posix()}
   :alt: What the code above draws
   :class: sphx-glr-single-img
   :width: {round(figure.get_figwidth() * PIXELS_PER_INCH)}px
"""
