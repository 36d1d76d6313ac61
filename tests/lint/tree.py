# SPDX-License-Identifier: MIT
"""The files of the repository as the lints see them, and how they report."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Rooms of the repository; builds, caches and virtual environments beside them are nobody's business.
ROOMS = (".ci", ".github", "benchmarks", "docs", "examples", "include", "libbnb", "python", "tests")
SKIPPED = {"__pycache__", "target", "build", "results"}
CODE = {".c", ".cc", ".h", ".inc", ".cu", ".hip", ".mm", ".metal", ".py", ".pyi", ".rs"}
TEXT = CODE | {".in", ".sh", ".md", ".toml", ".build", ".options", ".ini", ".json", ".txt", ".yml", ".yaml"}


def files(suffixes: set[str] = TEXT) -> Iterator[Path]:
    """Every text file of the repository, relative to its root."""
    for path in sorted(ROOT.iterdir()):
        if path.is_file() and (path.suffix in suffixes or path.name.startswith("meson")):
            yield path.relative_to(ROOT)
    for room in ROOMS:
        for folder, folders, names in os.walk(ROOT / room):
            folders[:] = sorted(name for name in folders if name not in SKIPPED and not name.endswith(".egg-info"))
            for name in sorted(names):
                path = Path(folder, name)
                if path.suffix in suffixes or (room == ".ci" and not path.suffix):
                    yield path.relative_to(ROOT)


def read(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


class Report:
    """Collects problems; `finish` prints them and ends the process."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.looked_at = 0

    def problem(self, where: object, what: str) -> None:
        self.problems.append(f"{where}: {what}")

    def finish(self) -> None:
        for problem in self.problems:
            print(problem)
        if self.looked_at == 0:
            print("nothing was looked at: the lint itself is broken")
        print(f"{self.looked_at} looked at, {len(self.problems)} problems")
        sys.exit(1 if self.problems or self.looked_at == 0 else 0)
