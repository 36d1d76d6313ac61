# SPDX-License-Identifier: MIT
"""No code of one instruction set may be handed to a CPU without it: the objects of an instruction set define only
symbols of its own namespace, and no weak one, which the linker may take from any object that has it.

usage: isa_objects.py NM NAME=ARCHIVE...
"""

from __future__ import annotations

import subprocess
import sys

from tree import Report


def main() -> None:
    report = Report()
    nm = sys.argv[1]
    for argument in sys.argv[2:]:
        isa, archive = argument.split("=", 1)
        output = subprocess.run(
            [nm, "-C", "--defined-only", archive], check=True, capture_output=True, text=True
        ).stdout
        for line in output.splitlines():
            fields = line.split(maxsplit=2)
            if len(fields) < 3 or len(fields[0]) < 8:
                continue
            kind, name = fields[1], fields[2]
            report.looked_at += 1
            if kind in "WwVvu":
                report.problem(archive, f"weak symbol {name}")
            elif kind.isupper() and not name.startswith(f"bnb::cpu::{isa}::"):
                report.problem(archive, f"{name} is visible outside and not in bnb::cpu::{isa}")
    report.finish()


main()
