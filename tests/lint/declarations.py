# SPDX-License-Identifier: MIT
"""The functions that the public headers declare, found in what the C preprocessor makes of them."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tree import ROOT

INCLUDE = ROOT / "include"


@dataclass(frozen=True)
class Function:
    header: str
    result: str
    name: str
    parameters: list[tuple[str, str]]  # type and name


def _parameter(text: str) -> tuple[str, str]:
    type_, name = re.fullmatch(r"\s*(.*?)(\w+)\s*", text, re.DOTALL).groups()
    return " ".join(type_.split()), name


def functions(compiler: list[str]) -> dict[str, Function]:
    """By name. compiler: the command that runs the C compiler."""
    in_headers = [_functions_of(header, compiler) for header in sorted((INCLUDE / "bnb").glob("*.h"))]
    found: dict[str, Function] = {}
    for those in sorted(in_headers, key=len):  # a header comes before those that include it
        found = found | {name: function for name, function in those.items() if name not in found}
    return found


def _functions_of(header: Path, compiler: list[str]) -> dict[str, Function]:
    command = [*compiler, "-E", "-P", "-x", "c", "-DBNB_CDEF", f"-I{INCLUDE}", str(header)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    while (inner := re.sub(r"\{[^{}]*\}", "", text)) != text:  # bodies of structs and enums
        text = inner
    found: dict[str, Function] = {}
    for statement in text.split(";"):
        match = re.fullmatch(r"\s*([\w\s*]*?)(\w+)\s*\(([^()]*)\)\s*", statement)
        if match and "typedef" not in statement:
            result, name, text_of_parameters = match.groups()
            parameters = [] if text_of_parameters.strip() in ("", "void") else text_of_parameters.split(",")
            found[name] = Function(header.name, " ".join(result.split()), name, [_parameter(p) for p in parameters])
    return found
