"""Hooks of mkdocs: pages from outside docs/, the generated reference, and links between all of them.

A link in a Markdown file is written as it works in the repository. On the site, README.md is the front page, docs/ is
the root, and everything else keeps its path.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from reference import pages

ROOT = Path(__file__).parents[2]
FRONT = {"README.md": "index.md"}
ALSO = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CITATION.cff", "LICENSE", "examples/*", "recipes/*.yaml")
RESULTS = ("results/**/*.md", "results/**/*.svg", "results/readme/*.txt")
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:)([^)#\s]+)")


def on_config(config: Any) -> None:
    """Puts the reference before the last part of the navigation."""
    config.nav.insert(-1, {"Reference": [{title: path} for path, (title, _) in pages().items()]})


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are not in docs/."""
    for path, (_, text) in pages().items():
        files.append(File.generated(config, path, content=text))
    for pattern in (*FRONT, *ALSO, *RESULTS):
        for file in sorted(ROOT.glob(pattern)):
            path = file.relative_to(ROOT).as_posix()
            files.append(File.generated(config, FRONT.get(path, path), abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turns links between files of the repository into links between pages of the site."""
    home = posixpath.dirname(page.file.src_uri)
    repository = posixpath.dirname(repository_path(page.file.src_uri))

    def moved(link: re.Match[str]) -> str:
        target = site_path(posixpath.normpath(posixpath.join(repository, link[1])))
        return posixpath.relpath(target, home or ".") if files.get_file_from_path(target) else link[1]

    return _LINK.sub(moved, markdown)


def repository_path(path: str) -> str:
    """Returns where the source of a page stands; generated pages stand as if in docs/."""
    front = {page: file for file, page in FRONT.items()}
    outside = (ROOT / path).is_file() and not (ROOT / "docs" / path).is_file()
    return front.get(path) or (path if outside else f"docs/{path}")


def site_path(path: str) -> str:
    """Returns where a file of the repository stands on the site."""
    return FRONT.get(path) or path.removeprefix("docs/")
