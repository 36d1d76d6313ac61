# SPDX-License-Identifier: MIT
"""Runs the blocks of pages from top to bottom, each page in a process and a folder of its own.

usage: run.py FOLDER PAGE... [--import MODULE...]

A page's folder is FOLDER/1, FOLDER/2 ...; beside it are 1.log, what was printed, and 1.status. Modules named are
imported before the processes fork, so that heavy ones are imported once.

Python blocks share a namespace. Lines of shell find the programs of tests/documentation/commands.py and nothing else.
The folder has what a reader would have: `model` and `minilm`, a small checkpoint in safetensors, and `broken`, what is
left of one.
"""

from __future__ import annotations

import importlib
import json
import linecache
import os
import re
import shutil
import subprocess
import sys
import traceback
import types
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import native
from blocks import ROOT, Block, blocks
from checkpoint import make_broken_copy, make_checkpoint

TOOLS = ["ls", "cat", "mkdir", "cp", "mv", "head", "tail", "grep", "du", "env", "true"]
OURS = ["python", "python3", "torchrun", "accelerate", "pip", "pip3", "meson", "ninja", "cargo", "pkg-config"]
OURS += ["cc", "c++", "git", "mkdocs", "pre-commit"]
REFUSAL = re.compile(r"^libbnb: error:|^Traceback", re.MULTILINE)


class BlockError(Exception):
    """A block does not do what a page says."""


def _bin(folder: Path) -> Path:
    """A folder with the programs that a page may call."""
    programs = folder / ".programs"
    programs.mkdir()
    commands = Path(__file__).with_name("commands.py")
    (programs / "libbnb").write_text(f'#!/bin/sh\nPATH="$BNB_DOCUMENTED_PATH" exec "{sys.executable}" -m libbnb "$@"\n')
    for name in OURS:
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "{commands}" {name} "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    for name in TOOLS:
        if path := shutil.which(name):
            (programs / name).symlink_to(path)
    return programs


def shell(script: str, programs: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": str(programs), "BNB_DOCUMENTED_PATH": os.environ.get("PATH", "")}
    command = [shutil.which("bash") or "bash", "--norc", "-euo", "pipefail", "-c", script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def run_sh(block: Block, programs: Path) -> None:
    done = shell(block.code, programs)
    if done.returncode != 0:
        raise BlockError(f"the commands end with status {done.returncode}:\n{done.stdout}{done.stderr}")


def run_console(block: Block, programs: Path) -> None:
    """Commands behind `$ `, with what they print; one that is shown to fail has to."""
    for part in re.split(r"^\$ ", block.code, flags=re.MULTILINE)[1:]:
        command, _, shown = re.sub(r"\\\n", " ", part).partition("\n")
        done = shell(command, programs)
        if (done.returncode != 0) != bool(REFUSAL.search(shown)):
            raise BlockError(f"{command} ends with status {done.returncode}:\n{done.stdout}{done.stderr}")


def run_python(block: Block, namespace: dict[str, object]) -> None:
    name = f"{block.page}:{block.line}"
    linecache.cache[name] = (len(block.code), None, block.code.splitlines(keepends=True), name)
    exec(compile(block.code, name, "exec"), namespace)


def run_page(found: list[Block], folder: Path) -> None:
    programs = _bin(folder)
    if make_checkpoint(folder / "model"):
        (folder / "minilm").symlink_to("model")
        make_broken_copy(folder / "model", folder / "broken")
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").touch()
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    for block in (block for block in found if block.executed):
        print(f"-- {block.page}:{block.line} ({block.language})", flush=True)
        if block.language == "python":
            run_python(block, vars(module))
        elif block.language == "sh":
            run_sh(block, programs)
        elif block.language == "console":
            run_console(block, programs)
        elif block.language == "json":
            json.loads(block.code)
        elif block.language == "toml":
            import tomllib

            tomllib.loads(block.code)
        elif block.language == "yaml":
            import yaml

            yaml.safe_load(block.code)
        else:
            native.run(block, folder)


def child(page: Path) -> int:
    name = page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name
    try:
        run_page(blocks(name, page.read_text(encoding="utf-8")), Path.cwd())
    except BaseException as error:
        traceback.print_exc(file=sys.stdout)
        print(f"{type(error).__name__}: {error}"[:2000])
        return 1
    return 0


def main(folder: Path, pages: list[str], modules: list[str]) -> None:
    for name in modules:
        importlib.import_module(name)
    for number, page in enumerate(pages, 1):
        place = folder / str(number)
        place.mkdir(parents=True)
        sys.stdout.flush()
        if (process := os.fork()) == 0:
            log = os.open(place.with_suffix(".log"), os.O_WRONLY | os.O_CREAT)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.chdir(place)
            status = child(Path(page))
            sys.stdout.flush()
            os._exit(status)  # without the farewells of what was imported
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        place.with_suffix(".status").write_text(str(status))


words, _, imports = " ".join(sys.argv[1:]).partition(" --import ")
main(Path(words.split()[0]).resolve(), words.split()[1:], imports.split())
