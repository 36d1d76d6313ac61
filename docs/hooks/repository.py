# SPDX-License-Identifier: MIT
"""Pages may point to any file of the repository: on the site it is a page of its own, made when the site is built.

README.md, CHANGELOG.md and their like become pages under project/; other files, and lists of folders, under source/.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PROJECT_PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "LICENSE")

FENCED = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
LANGUAGES = {".py": "python", ".h": "c", ".c": "c", ".cc": "cpp", ".cpp": "cpp", ".hpp": "cpp", ".rs": "rust"}
LANGUAGES |= {".json": "json", ".toml": "toml", ".yml": "yaml", ".sh": "sh", ".build": "python"}


def _page_of(path: str) -> str:
    """Where a file or folder of the repository is among the pages."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path in PROJECT_PAGES:
        return f"project/{path.removesuffix('.md').lower()}.md"
    return f"source/{path}.md"


def _place_of(page: str) -> str:
    """The inverse for pages that are written by hand: where their links start from."""
    for path in PROJECT_PAGES:
        if _page_of(path) == page:
            return path
    return f"docs/{page}"


def _links(text: str) -> list[str]:
    parts = FENCED.split(text)
    return [match[2] for part in parts[::2] for match in LINK.finditer(part)]


def _target(place: str, link: str) -> str | None:
    """The file or folder of the repository that a link of the file `place` points to; None for any other link."""
    name = link.partition("#")[0]
    if not name or ":" in name or name.startswith("/"):
        return None
    path = os.path.normpath(os.path.join(os.path.dirname(place), name))
    return path if (ROOT / path).exists() else None


def _entries(folder: str) -> list[Path]:
    found = (e for e in (ROOT / folder).iterdir() if not e.name.startswith((".", "__")) and e.name != "target")
    return sorted(found)


def _content(path: str) -> str:
    if path in PROJECT_PAGES:
        text = (ROOT / path).read_text(encoding="utf-8")
        return text if path.endswith(".md") else f"# {path}\n\n{text}"
    if (ROOT / path).is_dir():
        return f"# {path}/\n\n" + "".join(f"- [{e.name}]({Path(path).name}/{e.name}.md)\n" for e in _entries(path))
    text = (ROOT / path).read_text(encoding="utf-8")
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"^`+", text, re.MULTILINE)), default=0))
    language = LANGUAGES.get(Path(path).suffix, "text")
    return f"# {path}\n\n{fence}{language}\n{text}{fence}\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    waiting = list(PROJECT_PAGES)
    for file in files.documentation_pages():
        place = _place_of(file.src_uri)
        waiting += [target for link in _links(file.content_string) if (target := _target(place, link))]
    while waiting:
        path = waiting.pop()
        page = _page_of(path)
        if path.startswith("docs/") or files.get_file_from_path(page) is not None:
            continue
        text = _content(path)
        level = InclusionLevel.NOT_IN_NAV if page.startswith("source/") else InclusionLevel.INCLUDED
        files.append(File.generated(config, page, content=text, inclusion=level))
        if path in PROJECT_PAGES:
            waiting += [target for link in _links(text) if (target := _target(path, link))]
        elif (ROOT / path).is_dir():
            waiting += [f"{path}/{e.name}" for e in _entries(path)]
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    if page.file.src_uri.startswith("source/"):
        return markdown
    place = _place_of(page.file.src_uri)

    def moved(match: re.Match[str]) -> str:
        target = _target(place, match[2])
        if target is None:
            return match[0]
        anchor = match[2].partition("#")[2]
        path = os.path.relpath(_page_of(target), os.path.dirname(page.file.src_uri) or ".").replace(os.sep, "/")
        return f"{match[1]}{path}{'#' + anchor if anchor else ''}{match[3]}"

    parts = FENCED.split(markdown)
    parts[::2] = [LINK.sub(moved, part) for part in parts[::2]]
    return "".join(parts)
