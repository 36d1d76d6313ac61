# SPDX-License-Identifier: MIT
"""What every file has to look like: licence line, a sentence, sizes, and words that have no place in a repository."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tree import CODE, Report, files, read

FILE_LINES = 500
FUNCTION_LINES = 80
KERNEL_FUNCTION_LINES = 150
COLUMNS = 140  # 120 is the aim

# The brackets keep this file from finding itself.
WORDS = re.compile(r"\bTOD[O]\b|\bFIXM[E]\b|\bXX[X]\b|/wor[k]/|/roo[t]/|/hom[e]/\w|(?<![\w.])/tm[p]/")

LICENCE = re.compile(r"^(?:#!.*\n)?(?://|#|/\*|<!--|;)\s*SPDX-License-Identifier: MIT")
NO_LICENCE_LINE = {".md", ".json", ".toml", ".txt", ".lock"}


NO_FUNCTION = re.compile(r"[ #}/]|(namespace|extern|struct|class|enum|union)\b")


def functions(text: str) -> Iterator[tuple[int, int]]:
    """(first line number, lines) of every function of C or C++ whose braces start and end in the first column."""
    start = None
    for number, line in enumerate(text.splitlines(), 1):
        if line.endswith("{") and not NO_FUNCTION.match(line):
            start = number
        elif line.startswith("}") and start is not None:
            yield start, number - start + 1
            start = None


def check(path: Path, report: Report) -> None:
    text = read(path)
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if WORDS.search(line):
            report.problem(f"{path}:{number}", f"has the word {WORDS.search(line).group()!r}")
        if len(line) > COLUMNS and path.suffix in CODE:
            report.problem(f"{path}:{number}", f"is {len(line)} columns wide, more than {COLUMNS}")
    if path.suffix not in NO_LICENCE_LINE and text and not LICENCE.match(text):
        report.problem(path, "does not begin with the SPDX line")
    if text and not text.endswith("\n"):
        report.problem(path, "does not end with a line break")
    if path.suffix in CODE and len(lines) > FILE_LINES:
        report.problem(path, f"has {len(lines)} lines, more than {FILE_LINES}")
    if path.suffix in {".c", ".cc", ".h", ".cu"}:
        after = next((line for line in lines[1:2]), "")
        if not after.startswith(("//", "/*")):
            report.problem(path, "has no sentence that says what it is, below the SPDX line")
        for first, count in functions(text):
            kernel = "kernels" in path.parts or "BNB_KERNEL" in lines[first - 1]
            limit = KERNEL_FUNCTION_LINES if kernel else FUNCTION_LINES
            if count > limit:
                report.problem(f"{path}:{first}", f"function of {count} lines, more than {limit}")


def main() -> None:
    report = Report()
    for path in files():
        report.looked_at += 1
        check(path, report)
    report.finish()


main()
