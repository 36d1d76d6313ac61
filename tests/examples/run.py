# SPDX-License-Identifier: MIT
"""Installs the library of a build folder to a temporary place, builds an example against it there, and runs it.

Usage: run.py c|c-static|cpp|rust BUILD SOURCE COMPILER...
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SKIPPED = 77  # Meson's exit status for it

EXPECTED = {
    "c": [
        r"libbnb \d+\.\d+\.\d+, kernels for \w+",
        r"512 x 768 float32 in 221184 bytes: 4\.5 bits a weight, relative error 0\.0[89]\d",
        r"one scale too few: INVALID_ARGUMENT: cquantize_4bit: absmax has 6143 elements, must have 6144 .*",
    ],
    "cpp": [
        r"blockwise: 300000 values in 304688 bytes, relative error 0\.01\d\d",
        r"int8: relative error 0\.00\d\d",
        r"block size 0: INVALID_ARGUMENT: cquantize_blockwise: blocksize is 0, must be at least 1",
    ],
    "rust": [
        r"libbnb \d+\.\d+\.\d+",
        r"Nf4: 65536 values in 32768 bytes, relative error 0\.0\d\d\d",
        r"Fp4: 65536 values in 32768 bytes, relative error 0\.[01]\d\d\d",
        r"8 bits: relative error 0\.00\d\d",
        r"a block of 7: cquantize_4bit: blocksize is 7, must be even",
    ],
}
EXPECTED["c-static"] = EXPECTED["c"]


def run(command: list[str | Path], **options: object) -> str:
    text = [str(word) for word in command]
    print("$", *text, flush=True)
    done = subprocess.run(text, stdout=subprocess.PIPE, text=True, check=False, **options)  # type: ignore[call-overload]
    print(done.stdout, end="", flush=True)
    if done.returncode != 0:
        sys.exit(f"{text[0]} ended with status {done.returncode}")
    return done.stdout


def install(build: str, stage: Path) -> None:
    """Puts the library under `stage` and points pkg-config there."""
    meson = [sys.executable, "-m", "mesonbuild.mesonmain"]
    run([*meson, "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", stage])
    (found,) = stage.rglob("libbnb.pc")
    os.environ["PKG_CONFIG_PATH"] = str(found.parent)
    os.environ["PKG_CONFIG_SYSROOT_DIR"] = str(stage)
    os.environ["PKG_CONFIG_ALLOW_SYSTEM_CFLAGS"] = os.environ["PKG_CONFIG_ALLOW_SYSTEM_LIBS"] = "1"


def compile_and_run(source: Path, compiler: list[str], flags: list[str], scratch: Path, static: bool = False) -> str:
    mode = ["--static"] if static else []
    flags = [*flags, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1"]
    cflags = run(["pkg-config", "--cflags", "libbnb"]).split()
    libs = run(["pkg-config", *mode, "--libs", "libbnb"]).split()
    run([*compiler, *flags, source, *cflags, *libs, "-lm", "-o", scratch / "example"])
    folder = next((word[2:] for word in libs if word.startswith("-L")), "")
    return run([scratch / "example"], env=os.environ | {"LD_LIBRARY_PATH": "" if static else folder})


def main(example: str, build: str, source: Path, compiler: list[str]) -> None:
    needed = ["pkg-config", "cargo"] if example == "rust" else ["pkg-config"]
    for program in needed:
        if not shutil.which(program):
            print(f"skipped: there is no {program}")
            sys.exit(SKIPPED)
    os.environ.pop("LD_LIBRARY_PATH", None)  # Meson's, which would find the library where it was built
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        install(build, scratch / "stage")
        if example == "c":
            out = compile_and_run(source / "c/main.c", compiler, ["-std=c99"], scratch)
        elif example == "c-static":
            for shared in (scratch / "stage").rglob("libbnb.so*"):  # so that the linker takes the archive
                shared.unlink()
            out = compile_and_run(source / "c/main.c", compiler, ["-std=c99"], scratch, static=True)
        elif example == "cpp":
            out = compile_and_run(source / "cpp/main.cpp", compiler, ["-std=c++17"], scratch)
        else:
            cargo = ["--offline", "--locked", "--quiet", "--manifest-path", source / "rust/Cargo.toml"]
            os.environ["CARGO_TARGET_DIR"] = str(scratch / "target")
            run(["cargo", "test", *cargo])
            out = run(["cargo", "run", *cargo])
    missing = [pattern for pattern in EXPECTED[example] if not re.search(f"^{pattern}$", out, re.MULTILINE)]
    if missing:
        sys.exit(f"this was expected and did not come: {missing}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
