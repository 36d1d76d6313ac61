# SPDX-License-Identifier: MIT
"""Finds the code blocks of a page, and what its source says about running them. CONTRIBUTING.md has the rules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

RUN = {"python", "sh", "console", "c", "c++", "rust"}
READ = {"json", "toml", "yaml"}  # parsed
SHOWN = {"text", "cmake", "meson", "diff"}  # output, and files of programs that need not be here

_FENCE = re.compile(r"^( *)(`{3,})([^`\s]*)[^`]*$")
_REASON = re.compile(r"^\s*<!-- not executed:\s*(.*?)\s*-->\s*$")
_HIDDEN = re.compile(r"^<!-- python\s*$")


class PageError(Exception):
    """The page breaks a rule of CONTRIBUTING.md."""


@dataclass(frozen=True)
class Block:
    page: str
    line: int  # of its first line of code
    language: str
    code: str
    reason: str = ""  # why it is not executed
    hidden: bool = False

    @property
    def executed(self) -> bool:
        return self.language in RUN | READ and not self.reason


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(name: str, text: str) -> list[Block]:
    """The fenced blocks of a page and its hidden ones, in order."""
    found: list[Block] = []
    lines = text.splitlines()
    reason, at = "", 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if match := _REASON.match(line):
            reason = match[1]
            if not reason:
                raise PageError(f"{name}:{at}: 'not executed' without a reason")
        elif _HIDDEN.match(line):
            end = _line_after(lines, at, lambda text: text.strip() == "-->", f"{name}:{at}: the comment has no end")
            found.append(Block(name, at + 1, "python", "\n".join(lines[at:end]) + "\n", hidden=True))
            at = end + 1
        elif match := _FENCE.match(line):
            indent, ticks, language = match.groups()
            end = _line_after(lines, at, lambda text: text.strip() == ticks, f"{name}:{at}: the block has no end")  # noqa: B023
            if language not in RUN | READ | SHOWN:
                known = ", ".join(sorted(RUN | READ | SHOWN))
                raise PageError(f"{name}:{at}: a block of {language or 'no language'!r}; it must be one of {known}")
            code = "\n".join(row.removeprefix(indent) for row in lines[at:end]) + "\n"
            found.append(Block(name, at + 1, language, code, reason))
            reason, at = "", end + 1
        elif line.strip() and reason:
            raise PageError(f"{name}:{at}: 'not executed' stands in front of something that is no block")
    return found


def _line_after(lines: list[str], start: int, is_end: object, message: str) -> int:
    for number in range(start, len(lines)):
        if is_end(lines[number]):  # type: ignore[operator]
            return number
    raise PageError(message)


def blocks_of(path: Path) -> list[Block]:
    return blocks(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
