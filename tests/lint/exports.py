# SPDX-License-Identifier: MIT
"""The symbols that a library exports are the functions that the public headers declare, neither more nor fewer.

usage: exports.py LIBRARY NM -- COMPILER [ARGUMENTS...]
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from declarations import functions
from tree import Report

# Names that are neither bnb_<verb> nor c<verb>...: bitsandbytes called them so.
BITSANDBYTES = re.compile(r"gemv_4bit_inference_cpu_(fp4|nf4)_bf16|has_avx512(f|bf16)_cpu|get_context|get_cusparse")
OURS = re.compile(r"(bnb_[a-z0-9_]+|c_?[a-z0-9_]+)")


def exported(nm: str, library: str) -> set[str]:
    output = subprocess.run([nm, "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    return {line.split()[-1].split("@")[0] for line in output.splitlines() if line.split()[-2] not in ("A", "a")}


def main() -> None:
    library, nm = sys.argv[1:3]
    report = Report()
    headers = set(functions(sys.argv[sys.argv.index("--") + 1 :]))
    symbols = exported(nm, library)
    report.looked_at = len(headers)
    for name in sorted(headers):
        if not (OURS.fullmatch(name) or BITSANDBYTES.fullmatch(name)):
            report.problem(name, "has neither the prefix of an operation nor that of a service")
    for name in sorted(headers - symbols):
        report.problem(name, f"is declared, but {Path(library).name} does not export it")
    for name in sorted(symbols - headers):
        report.problem(name, f"is exported by {Path(library).name}, but no public header declares it")
    report.finish()


main()
