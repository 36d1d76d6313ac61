#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the C++ file with the text of every kernel file: embed.py OUTPUT DEPFILE INCLUDE_FOLDER FILE.metal ...

Metal's compiler runs when the library is used and gets one text without files beside it: what a kernel file includes in
quotes takes the place of the line that includes it, once.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
CHUNK = 12000  # characters of one literal: compilers have limits


def flatten(path: Path, folder: Path, seen: set[Path] | None = None) -> list[tuple[str, int, str]]:
    """The lines of the text that the compiler gets, with the file and the number that each has."""
    seen = set() if seen is None else seen
    if path in seen:
        return []
    seen.add(path)
    lines: list[tuple[str, int, str]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        lines += flatten(folder / match[1], folder, seen) if match else [(str(path), number, line)]
    return lines


def literal(text: str) -> str:
    delimiter = "metal"
    if f'){delimiter}"' in text:
        raise SystemExit("a kernel file contains the end of a raw string")
    pieces: list[str] = []
    while text:
        cut = len(text) if len(text) <= CHUNK else text.rindex("\n", 0, CHUNK) + 1
        pieces.append(f'R"{delimiter}({text[:cut]}){delimiter}"')
        text = text[cut:]
    return "\n".join(pieces)


def write_depfile(depfile: str, output: str, files: set[Path]) -> None:
    """What the output is made of, for ninja."""
    Path(depfile).write_text(f"{output}: {' '.join(sorted(map(str, files)))}\n", encoding="utf-8")


def main(output: str, depfile: str, folder: str, *kernels: str) -> None:
    rows: list[str] = []
    files: set[Path] = set()
    for name in kernels:
        seen: set[Path] = set()
        text = "".join(line + "\n" for _, _, line in flatten(Path(name), Path(folder), seen))
        rows.append(f'    {{"{Path(name).stem}", {literal(text)}}},\n')
        files |= seen
    write_depfile(depfile, output, files)
    Path(output).write_text(
        "// Written by libbnb/metal/embed.py.\n"
        '#include "metal/sources.h"\n\n'
        "namespace bnb::metal {\n\n"
        f"const Source kSources[] = {{\n{''.join(rows)}}};\n"
        f"const int kSourceCount = {len(rows)};\n\n"
        "}  // namespace bnb::metal\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
