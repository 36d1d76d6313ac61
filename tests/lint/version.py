# SPDX-License-Identifier: MIT
"""The version is typed once, in the project() of meson.build, everything else asks for it; the changelog has its entry.

usage: version.py [--tag vX.Y.Z]

With --tag, also: that tag is the one of this version, and the changelog gives it a date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tree import Report, files, read

HISTORY = {"CHANGELOG.md"}  # names every version


def version_of_project() -> str:
    match = re.search(
        r"^project\([^)]*?\bversion:\s*'(\d+\.\d+\.\d+)'", read(Path("meson.build")), re.MULTILINE | re.DOTALL
    )
    if not match:
        raise SystemExit("meson.build has no project(... version: 'X.Y.Z'): tests/lint/version.py looks for it")
    return match.group(1)


def main() -> None:
    report = Report()
    version = version_of_project()
    literal = re.compile(rf"(?<![\w.]){re.escape(version)}(?![\w.]*\d)")
    for path in files():
        report.looked_at += 1
        if path.as_posix() in HISTORY:
            continue
        for number, line in enumerate(read(path).splitlines(), 1):
            if literal.search(line) and not (path.as_posix() == "meson.build" and line.startswith("project(")):
                report.problem(f"{path}:{number}", f"repeats the version {version}, which is in meson.build")
    entry = re.search(rf"^## {re.escape(version)} \((.+)\)$", read(Path("CHANGELOG.md")), re.MULTILINE)
    if not entry:
        report.problem("CHANGELOG.md", f"has no entry '## {version} (not released)' or with a date")
    if "--tag" in sys.argv:
        tag = sys.argv[sys.argv.index("--tag") + 1]
        if tag != f"v{version}":
            report.problem(tag, f"is not the tag of version {version}, v{version}")
        if entry and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", entry.group(1)):
            report.problem("CHANGELOG.md", f"says that {version} is {entry.group(1)}, not when it was released")
    report.finish()


main()
