"""Build the documentation: English in docs/_build/html, Korean in docs/_build/html/ko.

pip install '.[docs]' && python docs/build.py

Warnings are errors. Korean comes second and finds the lecture's scripts run already.
`python docs/build.py --update` brings docs/locale up to date with the English text, for translators.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

DOCS = Path(__file__).parent
BUILD = DOCS / "_build"

TRANSLATED = ("index", "installation", "gallery/*")  # pages; the others stay English


def sphinx(builder: str, output: Path, language: str = "en", **settings: str) -> None:
    doctrees = BUILD / "doctrees" / f"{builder}-{language}"
    command = [sys.executable, "-m", "sphinx", "--builder", builder, "--doctree-dir", str(doctrees)]
    strict = ["--fail-on-warning", "--keep-going", "--quiet", "--jobs", "2"]
    for setting, value in {"language": language, **settings}.items():
        command += ["-D", f"{setting}={value}"]
    subprocess.run([*command, *strict, str(DOCS), str(output)], check=True)


def update_translations() -> None:
    """New messages come in untranslated, changed ones as fuzzy; both fail the build until seen to."""
    sphinx("gettext", BUILD / "gettext")
    for template in (BUILD / "gettext").rglob("*.pot"):
        page = template.relative_to(BUILD / "gettext").with_suffix("").as_posix()
        if not any(fnmatch(page, pattern) for pattern in TRANSLATED):
            template.unlink()
    catalogues = ["-p", str(BUILD / "gettext"), "-d", str(DOCS / "locale"), "-l", "ko", "-w", "100"]
    subprocess.run([sys.executable, "-m", "sphinx_intl", "update", *catalogues], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the documentation, in English and in Korean.")
    parser.add_argument("--update", action="store_true", help="update docs/locale instead")
    if parser.parse_args().update:
        update_translations()
        return
    sphinx("html", BUILD / "html")
    sphinx("html", BUILD / "html" / "ko", "ko", must_be_translated=",".join(TRANSLATED))
    print(f"{BUILD / 'html' / 'index.html'}\n{BUILD / 'html' / 'ko' / 'index.html'}")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
