# SPDX-License-Identifier: MIT
"""Who may include whom: each room sees itself and the floors below; rooms of one floor do not see each other.

Floors: include/bnb <- formats, core <- reference, cpu, gpu, cuda, hip, metal <- api. Everybody outside sees the public
headers; tests/conformance also the constants of formats, tests/unit whatever it tests.
"""

from __future__ import annotations

import re
from pathlib import Path

from tree import CODE, Report, files, read

PUBLIC = ["bnb/"]
FOUNDATION = [*PUBLIC, "formats/", "core/"]

# The reference fills the kernel table of the CPU, like every instruction set: it sees that and no more of the CPU.
KERNEL_TABLE = ["cpu/kernels.h", "cpu/kernels.inc", "cpu/products.inc"]

# What kernels and their vocabulary compute with: constants, plain structs and tables.
KERNEL_DATA = [
    *("formats/", "core/ops.h", "core/dtype.h", "core/optimizer.h", "core/sums.h"),
    *("cpu/code_search.h", "cpu/together.h", "cpu/simd/"),
]

# Room (longest match wins) -> what its files may include, as prefixes.
ROOMS: dict[str, list[str]] = {
    "include/bnb": ["bnb.h", "dlpack.h"],
    "libbnb/formats": ["formats/"],
    "libbnb/core": FOUNDATION,
    "libbnb/reference": [*FOUNDATION, "reference/", *KERNEL_TABLE],
    "libbnb/cpu": [*FOUNDATION, "cpu/"],
    "libbnb/cpu/simd": KERNEL_DATA,
    "libbnb/cpu/kernels": [*KERNEL_DATA, *KERNEL_TABLE, "cpu/kernels/"],
    "libbnb/gpu": [*FOUNDATION, "gpu/"],
    "libbnb/cuda": [*FOUNDATION, "gpu/", "cuda/"],
    "libbnb/hip": [*FOUNDATION, "gpu/", "hip/"],
    "libbnb/emulated": ["gpu/ops/", "cuda/"],
    "libbnb/metal": [*FOUNDATION, "metal/"],
    "libbnb/api": [*FOUNDATION, "reference/", "cpu/", "api/"],
    "python": PUBLIC,
    "examples": PUBLIC,
    "benchmarks": [*PUBLIC, "benchmarks/"],
    "tests": PUBLIC,
    "tests/conformance": [*PUBLIC, "formats/"],
    "tests/golden": [*PUBLIC, "formats/", "conformance/", "unit/check.h"],
    "tests/unit": [*FOUNDATION, "reference/", "cpu/", "api/", "conformance/"],
    "tests/simt": [*FOUNDATION, "gpu/", "simt/"],
    "tests/metal/declarations": [],
    "tests/metal": [*FOUNDATION, "metal/", "simt/", "msl/"],
    "tests/fuzz": [*PUBLIC, "conformance/", "unit/check.h"],
}

# Kernel files are compiled with the flags of an instruction set: what a standard header leaves in their objects, the
# linker may hand to a CPU without it.
KERNEL_ROOMS = ("libbnb/cpu/kernels", "libbnb/cpu/simd")
KERNEL_STANDARD = {"cstdint", "cstring", "cstddef", "immintrin.h", "arm_neon.h"}

INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.MULTILINE)


def room_of(path: Path) -> str | None:
    parents = [parent.as_posix() for parent in path.parents]
    return next((parent for parent in parents if parent in ROOMS), None)


def check(path: Path, report: Report) -> None:
    room = room_of(path)
    if room is None:
        if path.parts[0] == "libbnb" or INCLUDE.search(read(path)):
            report.problem(path, "is in no room that tests/lint/floors.py knows")
        return
    for kind, name in INCLUDE.findall(read(path)):
        ours = kind == '"' or name.startswith("bnb/")
        beside = kind == '"' and "/" not in name and not room.startswith("libbnb")  # a file of the same folder
        if ours and not beside and not any(name.startswith(prefix) for prefix in ROOMS[room]):
            report.problem(path, f"{room} may not include {name}")
        if not ours and room in KERNEL_ROOMS and name not in KERNEL_STANDARD:
            report.problem(path, f"kernel files take no <{name}>")


def main() -> None:
    report = Report()
    for path in files({".c", ".cc", ".h", ".cu", ".hip", ".mm", ".metal"} & CODE):
        report.looked_at += 1
        check(path, report)
    listed = read(Path("include/meson.build"))
    for path in files({".h"}):
        if path.parent.as_posix() == "include/bnb" and f"bnb/{path.name}" not in listed:
            report.problem(path, "is not in the list of include/meson.build, so it is neither installed nor tested")
    report.finish()


main()
