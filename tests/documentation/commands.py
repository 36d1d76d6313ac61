# SPDX-License-Identifier: MIT
"""The programs that pages call: `commands.py NAME ARGUMENTS...`.

Not here: libbnb itself. Python runs with libbnb, with code or with a file that the page made. Programs that install,
build or take long are not run; their arguments have to make sense: files and folders exist in the repository, extras
are in pyproject.toml, options in meson.options.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from blocks import ROOT

DEVELOPMENT = {"pytest", "venv", "pip", "build", "mkdocs", "ensurepip", "http.server"}
MADE = re.compile(r"^(build|site|dist|stage|target)\b")


def refuse(message: str) -> None:
    sys.exit(f"{' '.join(sys.argv[1:])}: {message}")


def execute(arguments: list[str]) -> None:
    os.environ["PATH"] = os.environ.pop("BNB_DOCUMENTED_PATH", os.environ["PATH"])
    os.execvp(arguments[0], arguments)


def check_paths(arguments: list[str]) -> None:
    """Words that look like files or folders of the repository, or of the folder of the page, are there."""
    for argument in arguments:
        for word in argument.split("="):
            looks_like_one = re.fullmatch(r"(?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|toml|md|c|cpp|rs|ini|yml)", word)
            if looks_like_one and not MADE.match(word) and not (Path(word).exists() or (ROOT / word).exists()):
                refuse(f"there is no {word}")


def check_extras(arguments: list[str]) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    extras = set(re.findall(r"^(\w+) = ", section, re.MULTILINE))
    for argument in arguments:
        if match := re.fullmatch(r"(?:\.|libbnb)\[([\w,]+)\](?:[=<>].*)?", argument):
            unknown = set(match[1].split(",")) - extras
            if unknown:
                refuse(f"pyproject.toml has no extra {', '.join(sorted(unknown))}")


def check_options(arguments: list[str]) -> None:
    ours = set(re.findall(r"^option\('(\w+)'", (ROOT / "meson.options").read_text(encoding="utf-8"), re.MULTILINE))
    for argument in arguments:
        if (match := re.match(r"-D(\w+)=", argument)) and match[1] not in ours | {"werror", "b_sanitize", "b_lundef"}:
            refuse(f"meson.options has no option {match[1]}")


def python(arguments: list[str]) -> None:
    if arguments[:2] == ["-m", "libbnb"] or arguments[:1] == ["-c"]:
        execute([sys.executable, *arguments])
    elif arguments[:1] == ["-m"]:
        if arguments[1] not in DEVELOPMENT:
            refuse(f"pages may run these modules: libbnb, {', '.join(sorted(DEVELOPMENT))}")
        check_paths(arguments[2:])
    elif arguments and Path(arguments[0]).exists():  # made by the page
        execute([sys.executable, *arguments])
    else:
        script(arguments)


def script(arguments: list[str]) -> None:
    """A program of the repository: there, and Python. Its own test runs it."""
    files = [a for a in arguments if a.endswith(".py")]
    if not files and "libbnb" not in arguments:
        refuse("names neither a file nor libbnb")
    for name in files:
        path = Path(name) if Path(name).exists() else ROOT / name
        if not path.exists():
            refuse(f"there is no {name}")
        compile(path.read_text(encoding="utf-8"), name, "exec")


def pkg_config(arguments: list[str]) -> None:
    from native import INCLUDE, library

    if arguments[-1] != "libbnb":
        refuse("there is only libbnb")
    folder = library().parent
    flags = {"--cflags": f"-I{INCLUDE}", "--libs": f"-L{folder} -Wl,-rpath,{folder} -lbnb", "--modversion": "1"}
    print(" ".join(flags[argument] for argument in arguments[:-1]))


def main(name: str, arguments: list[str]) -> None:
    if name in ("cc", "c++"):
        execute([name, *arguments])
    elif name in ("python", "python3"):
        python(arguments)
    elif name in ("torchrun", "accelerate"):
        script(arguments)
    elif name == "pkg-config":
        pkg_config(arguments)
    else:
        check_paths(arguments)
        check_extras(arguments)
        check_options(arguments)


main(sys.argv[1], sys.argv[2:])
