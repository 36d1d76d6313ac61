# SPDX-License-Identifier: MIT
"""Compiles, links and runs blocks of C, C++ and Rust against the library that Python uses."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from blocks import ROOT, Block

INCLUDE = ROOT / "include"
COMPILERS = {"c": ["cc", "-std=c99", "-Wpedantic"], "c++": ["c++", "-std=c++17"], "rust": ["rustc", "--edition=2021"]}
SUFFIXES = {"c": ".c", "c++": ".cpp", "rust": ".rs"}
DEFINITION = re.compile(r"^[a-z][\w *<>:]*\([^;]*\)\s*\{", re.MULTILINE)


def can_run(language: str) -> bool:
    return shutil.which(COMPILERS[language][0]) is not None


def library() -> Path:
    import libbnb

    return Path(libbnb.info()["library"])


def _program(block: Block) -> tuple[str, bool]:
    """The whole of a program, and whether it has something to run."""
    code = block.code
    if re.search(r"\bmain\s*\(", code):
        return code, True
    if DEFINITION.search(code):
        return code, False
    if block.language == "rust":
        return f"fn main() {{\n{code}}}\n", True
    head = [line for line in code.splitlines() if line.startswith("#")]
    body = [line for line in code.splitlines() if not line.startswith("#")]
    return "\n".join([*head, "int main(void) {", *body, "return 0;", "}", ""]), True


def run(block: Block, folder: Path) -> None:
    code, has_main = _program(block)
    source = folder / f"block_{block.line}{SUFFIXES[block.language]}"
    source.write_text(code)
    program = source.with_suffix("")
    path = library()
    if block.language == "rust":
        crate = ["--crate-type", "bin" if has_main else "lib", "--crate-name", "block"]
        link = ["-L", f"native={path.parent}", "-C", f"link-arg=-Wl,-rpath,{path.parent}"]
        command = [*COMPILERS["rust"], *crate, *link, source, "-o", program]
    else:
        warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-variable", f"-I{INCLUDE}"]
        if block.language == "c++":
            warnings.append(f"-I{ROOT / 'libbnb'}")  # pages for those who work on the library
        link = [path, f"-Wl,-rpath,{path.parent}", "-lm"] if has_main else ["-c"]
        command = [*COMPILERS[block.language], *warnings, source, *link, "-o", program]
    _call([str(word) for word in command], folder)
    if has_main:
        _call([str(program)], folder)


def _call(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    print(done.stdout, end="")
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ends with status {done.returncode}:\n{done.stdout}{done.stderr}")
