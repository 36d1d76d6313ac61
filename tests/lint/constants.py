# SPDX-License-Identifier: MIT
"""A codebook is typed once, in libbnb/formats: nobody else has a table of its values, as fp32 bits or as decimals."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from tree import CODE, Report, files, read

# Tables and the headers that own them. Ordinary numbers (0, 1, 0.5 ...) say nothing about a second table.
TABLES = {
    "libbnb/formats/nf4.h": "kCodeBits",
    "libbnb/formats/fp4.h": "kCodeBits",
    "libbnb/formats/dynamic_map.h": "kSignedBits",
}
ORDINARY = {"00000000", "3F800000", "BF800000", "3F000000", "BF000000", "80000000", "3E800000", "BE800000"}
TOLERATED = 2  # so many values may stand in an explanation or a test


def bits_of(header: str, table: str) -> set[str]:
    body = re.search(rf"{table}\[\d+\]\s*=\s*{{([^}}]*)}}", read(Path(header)))
    if not body:
        raise SystemExit(f"{header} has no {table}: tests/lint/constants.py looks for it")
    return {word.upper() for word in re.findall(r"0x([0-9a-fA-F]{8})", body.group(1))} - ORDINARY


def decimals_of(bits: str) -> str:
    value = struct.unpack(">f", bytes.fromhex(bits))[0]
    return f"{abs(value):.9f}"[1:7]  # five digits behind the point tell them apart


def main() -> None:
    report = Report()
    known = {(header, table): bits_of(header, table) for header, table in TABLES.items()}
    for path in files(CODE):
        if path.parts[0] == "tests":
            continue  # an oracle that has its numbers from somewhere else is worth more
        report.looked_at += 1
        text = read(path)
        words = {word.upper() for word in re.findall(r"(?:0x)?\b([0-9a-fA-F]{8})(?=u?\b)", text)}
        words |= {word.upper() for word in re.findall(r"0x([0-9a-fA-F]{8})u?\b", text)}
        numbers = set(re.findall(r"(?<![\w.])0?(\.\d{5})\d*", text))
        for (header, table), bits in known.items():
            if path.as_posix() == header:
                continue
            found = len(bits & words)
            if header != "libbnb/formats/dynamic_map.h":
                found = max(found, len({decimals_of(b) for b in bits} & numbers))
            if found > TOLERATED:
                report.problem(path, f"types {found} values of {table} of {header} again")
    report.finish()


main()
