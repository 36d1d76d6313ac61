#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Turns a kernel file into C++ for the host: host_source.py FILE.metal OUTPUT DEPFILE INCLUDE_FOLDER LANGUAGE

What Metal's compiler gets is put into a namespace of its own. There
- the attribute of a parameter becomes its default argument, so that a kernel runs when it is called without arguments,
- an instance of a template that has a name becomes an entry in the list of kernels,
- threadgroup variables become static: threadgroups run one after the other.
Then things that are C++ but no Metal are looked for, as far as the text shows them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "libbnb" / "metal"))
from embed import flatten, write_depfile

BUFFER = re.compile(r"([*&])\s*(\w+)\s*\[\[(buffer|threadgroup)\((\d+)\)\]\]")
ATTRIBUTE = re.compile(r"(\w+)\s*\[\[(\w+)\]\](?=\s*[,)])")
INSTANCES = re.compile(r'^(BNB_KERNEL|BNB_FLOAT_KERNELS|BNB_FLOAT_KERNELS_WITH)\("(\w+)", (.*)\)$')
PLAIN = re.compile(r"^kernel void (\w+)\(")
SHARED = re.compile(r"^(\s+)threadgroup (?=[\w:<>, ]+ \w+(\[[^\]]*\])*;)")

# A pattern, and what is wrong with it.
FORBIDDEN = [
    (r"\b__builtin_\w+", "is the compiler's own"),
    (r"\bstd::", "is not there"),
    (r"\blong long\b", "is no type of Metal"),
    (r"(?<![\w.])(\d+\.\d*|\.\d+)([eE][-+]?\d+)?(?![\w.])", "is a literal without f or h"),
    (r"\bif constexpr\b|\binline constexpr\b", "is C++17"),
    (r"^namespace \w+::", "is C++17"),
    (r"\[[&=]?\]\s*\(", "is a lambda"),
    (r"\bstatic (?!inline|constexpr|BNB_FN|_?assert)\w+", "is static"),
    (r"\b(u?char|u?short|u?int|u?long|float|half|bfloat|void|auto|T|\w+_t)\s*\*\s*\w+\s*[,)=;]", "*"),
]
SPACES = re.compile(r"\b(device|constant|threadgroup|thread)\b[^,(;]*$")
PRAGMA = re.compile(r"^#pragma (METAL|clang)")


def comment_free(line: str) -> str:
    return re.sub(r'//.*|"[^"]*"', "", line)


def problems(line: str) -> list[str]:
    code = comment_free(line)
    found: list[str] = []
    for pattern, why in FORBIDDEN:
        for match in re.finditer(pattern, code):
            if why != "*":
                found.append(f"{match[0].strip()} {why}")
            elif not SPACES.search(code[: match.end() - 1]):
                found.append(f"{match[0].strip()} is a pointer without an address space")
    return found


class Branches:
    """Which lines Metal's compiler sees, as far as __METAL_VERSION__ decides it."""

    def __init__(self) -> None:
        self.stack: list[bool] = []  # of the conditions around: False if Metal's compiler skips what follows
        self.metal: list[bool] = []  # whether each was that this is Metal's compiler

    def sees(self, line: str) -> bool:
        words = line.strip()
        if words.startswith("#if"):
            self.stack.append("!defined(__METAL_VERSION__)" not in words)
            self.metal.append("defined(__METAL_VERSION__)" in words and "!" not in words)
        elif words.startswith(("#else", "#elif")) and self.stack:
            self.stack[-1] = not self.metal[-1]
        elif words.startswith("#endif") and self.stack:
            self.stack.pop()
            self.metal.pop()
        return all(self.stack)


def registered(file: str, language: str, name: str, instance: str) -> str:
    return f'static const ::metal_host::Registered host_{name}("{file}", {language}, "{name}", [] {{ {instance}(); }});'


def instances(macro: str, name: str, text: str) -> list[tuple[str, str]]:
    """What a macro of common.h makes: names and instances of templates."""
    if macro == "BNB_KERNEL":
        return [(name, text)]
    function, *arguments = text.split(", ") if macro == "BNB_FLOAT_KERNELS_WITH" else [text]
    return [(f"{name}_{tag.lower()}", f"{function}<{', '.join([*arguments, tag])}>") for tag in ("F32", "F16", "BF16")]


def translate(line: str, file: str, language: str) -> str:
    if match := INSTANCES.match(line):
        return " ".join(
            f"MSL_INSTANCE({instance}) " + registered(file, language, name, instance)
            for name, instance in instances(*match.groups())
        )
    if "[[host_name" in line and not line.startswith("#define"):
        raise SystemExit(f"{file}: an instance of a kernel that is not one of BNB_KERNEL: {line.strip()}")
    line = SHARED.sub(r"\1static threadgroup ", line)
    line = BUFFER.sub(
        lambda m: f"{m[1]}{m[2]} = ::metal_host::{'pointer' if m[1] == '*' else 'reference'}_{m[3]}({m[4]})", line
    )
    return ATTRIBUTE.sub(r"\1 = ::metal_host::attribute_\2()", line)


def main(kernel: str, output: str, depfile: str, folder: str, language: str) -> None:
    path = Path(kernel)
    files: set[Path] = set()
    wrong: list[str] = []
    lines = ["// Written by host_source.py.", "#include <metal_stdlib>", f"namespace {path.stem}_{language} {{"]
    last_file, next_number, before = None, 0, ""
    branches = Branches()
    plain: list[str] = []  # kernels that are no templates
    for file, number, line in flatten(path, Path(folder), files):
        if (file, number) != (last_file, next_number):
            lines.append(f'#line {number} "{file}"')
        last_file, next_number = file, number + 1
        if match := PLAIN.match(line):
            plain += [] if before.startswith("template") else [match[1]]
        before = line
        if branches.sees(line):
            wrong += [f"{file}:{number}: {problem}" for problem in problems(line)]
        lines.append("" if PRAGMA.match(line) else translate(line, path.stem, language))
    if wrong:
        raise SystemExit("\n".join(wrong))
    lines += [registered(path.stem, language, name, name) for name in plain]
    lines.append("}")
    write_depfile(depfile, output, files)
    Path(output).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
