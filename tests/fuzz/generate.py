# SPDX-License-Identifier: MIT
"""Writes the table of the functions of the public headers: their names, and for those of bitsandbytes.h a call whose
arguments are drawn by type and name.

usage: generate.py OUTPUT -- COMPILER [ARGUMENTS...]
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lint"))
from declarations import Function, functions


def argument(type_: str, name: str) -> str:
    if not type_.endswith("*"):
        return f'draw.value<{type_}>("{name}")'
    target = type_.removesuffix("*").strip()
    if target.startswith("const "):
        return f'draw.input<{target.removeprefix("const ")}>("{name}")'
    return f'draw.output<{target}>("{name}")'


def bare_call(function: Function) -> str:
    lines = [f"std::string call_{function.name}(Draw &draw) {{"]
    for i, (type_, name) in enumerate(function.parameters):
        lines.append(f"  const auto p{i} = {argument(type_, name)};")
    arguments = ", ".join(f"p{i}" for i in range(len(function.parameters)))
    lines.append("  if (!draw.upload()) return bnb_last_error();")
    return "\n".join([*lines, f'  return draw.judge("{function.name}", {function.name}({arguments}));', "}", ""])


def main() -> None:
    found = functions(sys.argv[sys.argv.index("--") + 1 :])
    bare = [f for f in found.values() if f.header == "bitsandbytes.h"]
    text = "// Made by tests/fuzz/generate.py.\nnamespace fuzz {\n"
    text += "const char *const kDeclaredFunctions[] = {\n"
    text += "".join(f'    "{name}",\n' for name in found) + "    nullptr};\n\nnamespace {\n\n"
    text += "\n".join(bare_call(f) for f in bare)
    text += "\nconstexpr struct {\n  const char *name;\n  std::string (*call)(Draw &draw);\n} kBareCalls[] = {\n"
    text += (
        "".join(f'    {{"{f.name}", call_{f.name}}},\n' for f in bare) + "};\n\n}  // namespace\n}  // namespace fuzz\n"
    )
    Path(sys.argv[1]).write_text(text, encoding="utf-8")


main()
