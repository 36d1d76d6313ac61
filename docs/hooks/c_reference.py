# SPDX-License-Identifier: MIT
"""Makes the page of the C functions from include/bnb/bnb.h: its sections, its comments, its declarations."""

from __future__ import annotations

import itertools
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

HEADER = Path(__file__).resolve().parents[2] / "include" / "bnb" / "bnb.h"
PAGE = "reference/c.md"

RULE = re.compile(r"^/\* -{20,}\n", re.MULTILINE)
COMMENT = re.compile(r"/\*(.*?)\*/", re.DOTALL)
START = re.compile(r"/\*.*?\*/|^(?:BNB_API|typedef|enum)\b", re.DOTALL | re.MULTILINE)
BESIDE = re.compile(r"[ \t]*/\*(.*?)\*/", re.DOTALL)  # a comment on the line on which a declaration ends
TOKEN = re.compile(r"/\*.*?\*/|[{};]", re.DOTALL)


@dataclass(frozen=True)
class Declaration:
    comment: str
    text: str

    @property
    def name(self) -> str:
        bare = COMMENT.sub("", self.text)
        if self.text.startswith("typedef"):
            return re.findall(r"\w+", bare)[-1]
        pattern = r"enum \{\s*(\w+)" if self.text.startswith("enum") else r"(\w+)\s*\("
        return re.search(pattern, bare)[1]  # type: ignore[index]

    @property
    def parameters(self) -> set[str]:
        inside = COMMENT.sub("", self.text).partition("(")[2]
        return set(re.findall(r"(\w+)\s*[,)]", inside))


def _plain(comment: str) -> str:
    """The words of a comment without its stars."""
    return "\n".join(re.sub(r"^ \* ?", "", line).rstrip() for line in comment.splitlines()).strip()


def _end(text: str, start: int) -> int:
    """Behind the semicolon of a declaration, the one outside of braces and comments."""
    depth = 0
    for token in TOKEN.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if token[0] == ";" and depth == 0:
            return token.end()
    raise SystemExit(f"{HEADER}: a declaration has no end: {text[start : start + 60]!r}")


def declarations(body: str) -> list[Declaration]:
    found: list[Declaration] = []
    comment, at = "", 0
    while match := START.search(body, at):
        if match[0].startswith("/*"):
            comment, at = _plain(match[0][2:-2]), match.end()
            continue
        start, at = match.start(), _end(body, match.start())
        if beside := BESIDE.match(body, at):
            comment, at = _plain(beside[1]), beside.end()
        found.append(Declaration(comment, body[start:at]))
        comment = ""
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Markdown


def _escaped(text: str) -> str:
    """Markdown that shows the text; what stands between backticks is code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a lone one
        parts = ["".join(parts)]
    for i in range(0, len(parts), 2):
        plain = parts[i].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        parts[i] = re.sub(r"([\\*_\[\]|#])", r"\\\1", plain)
        parts[i] = re.sub(r"docs/(\w+\.md)", r"[\1](../\1)", parts[i])
    return "`".join(parts)


def _prose(comment: str, parameters: set[str]) -> list[str]:
    """A comment as paragraphs, formulas (lines that are indented) and a list of what it says of each parameter."""
    item = re.compile(r"(?:^|(?<=  )|(?<=\. ))((?:\w+, )*\w+): ")
    lines: list[str] = []
    kind, ended = "", True  # of the line before: text, item or formula; and whether its sentence ended
    for line in comment.splitlines():
        if not line.strip():
            kind, ended = "", True
            lines.append("")
        elif line.startswith("  "):
            lines += ([] if kind == "formula" else [""]) + ["    " + line]
            kind, ended = "formula", True
        else:
            for part in _parts(line, item, parameters):
                names = item.match(part)
                is_item = bool(names and set(names[1].split(", ")) & parameters)
                if is_item and names:
                    lines += [""] * (kind != "item") + [f"- **{_escaped(names[1])}** {_escaped(part[names.end() :])}"]
                elif kind == "item" and not ended:
                    lines[-1] += " " + _escaped(part)
                    is_item = True
                else:
                    lines += [""] * (kind != "text") + [_escaped(part)]
                kind, ended = "item" if is_item else "text", part.rstrip().endswith((".", ":"))
    return [*lines, ""]


def _parts(line: str, item: re.Pattern[str], parameters: set[str]) -> list[str]:
    """A line, cut in front of each parameter that it begins to describe."""
    starts = [m.start() for m in item.finditer(line) if set(m[1].split(", ")) & parameters]
    edges = sorted({0, *starts, len(line)})
    return [line[a:b].strip() for a, b in itertools.pairwise(edges)]


def _manual(comment: str) -> list[str]:
    """The comment at the top of the header: capitals are headings, words in front of a gap are terms."""
    lines: list[str] = []
    for line in comment.splitlines():
        term = re.match(r"  (\S+(?: \S+)*?)(?:\s{2,}| (?=x'))(\S.*)", line)
        if line.isupper() or re.match(r"[A-Z ]{12,}\(", line):
            lines += ["", f"## {_escaped(line.capitalize() if line.isupper() else line[0] + line[1:].lower())}", ""]
        elif term:
            lines.append(f"- **{_escaped(term[1])}** {_escaped(term[2])}")
        elif line.startswith("   ") and lines:
            lines[-1] += " " + _escaped(line.strip())
        else:
            lines.append(_escaped(line))
    return lines


def _heading(comment: str) -> tuple[str, str]:
    """The title of a section and the rest of its comment."""
    if comment.startswith("Services: "):
        return comment, ""
    match = re.match(r"((?:[^.:]|[.:](?!\s))+)[.:]\s*", comment + " ")
    if not match:
        return comment, ""
    rest = comment[match.end() :]
    return match[1].replace("\n", " "), rest[:1].upper() + rest[1:]


def _entry(declaration: Declaration) -> list[str]:
    code = declaration.text.replace("BNB_API ", "").replace("BNB_ENUM(", "enum ").replace(") {", " {", 1)
    if declaration.text.startswith("BNB_API"):
        code = textwrap.dedent(declaration.text.removeprefix("BNB_API "))
        code = re.sub(r"\n +", "\n" + " " * (code.index("(") + 1), code)
    comment = _prose(declaration.comment, declaration.parameters)
    return [f"### {declaration.name} {{ #{declaration.name} }}", "", "```c", code, "```", "", *comment]


def page() -> str:
    text = HEADER.read_text(encoding="utf-8")
    head, *sections = RULE.split(text)
    manual = _plain(COMMENT.findall(head)[1])
    lines = ["# C functions", ""]
    lines += ["Made from [bnb.h](../../include/bnb/bnb.h), which is the manual; here it is in sections.", ""]
    lines += [*_manual(manual), "", "## Versions, statuses, formats", ""]
    lines += [line for declaration in declarations(head) for line in _entry(declaration)]
    for section in sections:
        comment, _, body = section.partition("*/")
        title, rest = _heading(_plain(comment))
        lines += [f"## {_escaped(title)}", "", *_prose(rest, set())]
        lines += [line for declaration in declarations(body) for line in _entry(declaration)]
    return "\n".join(lines) + "\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    files.append(File.generated(config, PAGE, content=page()))
    return files
