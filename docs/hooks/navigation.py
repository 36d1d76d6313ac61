# SPDX-License-Identifier: MIT
"""Pages that mkdocs.yml does not name come last in the section of their folder: a new page needs no entry there."""

from __future__ import annotations

from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files

# folder of a page -> section of mkdocs.yml; "" is docs/ itself
SECTIONS = {"": "Manual", "howto": "How to", "reference": "Reference", "project": "The project"}
UNLISTED = ("source/",)  # files of the repository that pages point to: reached from there


def _pages_of(nav: list[Any]) -> set[str]:
    found: set[str] = set()
    for entry in nav:
        values = entry.values() if isinstance(entry, dict) else [entry]
        for value in values:
            found |= _pages_of(value) if isinstance(value, list) else {value}
    return found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    nav: list[Any] = config.nav  # type: ignore[assignment]
    listed = _pages_of(nav)
    sections = {name: pages for entry in nav if isinstance(entry, dict) for name, pages in entry.items()}
    for file in sorted(files.documentation_pages(), key=lambda file: file.src_uri.removesuffix(".md")):
        folder = file.src_uri.rpartition("/")[0]
        if file.src_uri in listed or file.src_uri.startswith(UNLISTED):
            continue
        if folder not in SECTIONS:
            raise SystemExit(f"docs/{file.src_uri}: docs/hooks/navigation.py knows no section for the folder {folder}")
        sections[SECTIONS[folder]].append(file.src_uri)
    return files
