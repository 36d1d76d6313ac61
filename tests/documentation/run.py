# SPDX-License-Identifier: MIT
"""Runs the blocks of one page from top to bottom in one process: `run.py PAGE` in an empty folder.

Python blocks share a namespace. Lines of shell find the programs of tests/documentation/commands.py and nothing else.
The folder has what a reader would have: `model` and `minilm`, a small checkpoint in safetensors, and `broken`, what is
left of one.
"""

from __future__ import annotations

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


def main() -> None:
    page = Path(sys.argv[1])
    name = page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name
    try:
        run_page(blocks(name, page.read_text(encoding="utf-8")), Path.cwd())
    except BaseException as error:
        traceback.print_exc(file=sys.stdout)
        sys.exit(f"{type(error).__name__}: {error}"[:2000])
    os._exit(0) if "jax" in sys.modules else sys.exit(0)


main()
