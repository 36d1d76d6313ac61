#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Mistakes in kernels do not get through: mistakes.py HOST_SOURCE FOLDER [COMMAND of a check ...]."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HEAD = '#include "metal/kernels/floats.h"\n\n'

# What is wrong, and a word of the message: of host_source.py, or of the compiler.
TEXT = {
    "kernel void f(device float *x [[buffer(1)]]) { x[0] = 0.5; }": "literal",
    "kernel void f(device float *x [[buffer(1)]]) { float *y = &x[0]; }": "address space",
    "inline float g(const float *x) { return x[0]; }": "address space",
    "kernel void f(device uint *x [[buffer(1)]]) { x[0] = __builtin_popcount(x[1]); }": "compiler's own",
    "namespace a::b {}": "C++17",
    "inline int g(int x) { if constexpr (true) return x; return 0; }": "C++17",
    "inline uint g() { static uint x = 0; return ++x; }": "static",
    "inline uint g(uint x) { return [&](uint y) { return x + y; }(1); }": "lambda",
    'template [[host_name("g")]] kernel void g<float>();': "BNB_KERNEL",
}
COMPILED = {
    "inline float g(device const float *x) { return x[0]; }\n"
    "kernel void f(device float *x [[buffer(1)]]) {\n"
    "  threadgroup float y[2];\n  y[0] = 1.0f;\n  x[0] = g(y);\n}": "no matching function",
    "kernel void f(constant float *x [[buffer(1)]]) { x[0] = 1.0f; }": "read-only|const",
    "kernel void f(device float *x [[buffer(1)]]) { thread float *y = x; y[0] = 1.0f; }": "cannot initialize",
    "kernel void f(device float *x [[buffer(1)]], uint i [[thread_position_in_space]]) { x[i] = 1.0f; }": "no member",
    "struct S { uint x[4]; };\n"
    "kernel void f(constant S &s [[buffer(0)]], device uint *x [[buffer(1)]]) { S t = s; x[0] = t.x[0]; }": (
        "no matching constructor"
    ),
    "kernel void f(device float *x [[buffer(1)]]) { double y = 1.0f; x[0] = float(y); }": "poisoned",
    "struct S { int a, b; };\ninline int g(S s) { auto [a, b] = s; return a; }": "C++17",
    "kernel void f(device float *x [[buffer(1)]]) { x[0] = sinh(x[1]); }": "undeclared",
    "kernel void f(device atomic_uint *x [[buffer(1)]]) { x[0] += 1; }": "no viable|invalid operands|overload",
}


def translated(source: Path, folder: str, host_source: str) -> tuple[Path, subprocess.CompletedProcess[str]]:
    output = source.with_suffix(".cc")
    command = [sys.executable, host_source, str(source), str(output), str(output) + ".d", folder, "310"]
    return output, subprocess.run(command, capture_output=True, text=True)


def main(host_source: str, folder: str, *check: str) -> int:
    failures = 0
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "mistake.metal")
        for text, words in {HEAD: "", **TEXT, **(COMPILED if check else {})}.items():
            source.write_text((HEAD + text if text != HEAD else HEAD) + "\n", encoding="utf-8")
            output, result = translated(source, folder, host_source)
            said = result.stderr
            if result.returncode == 0 and check:
                said += subprocess.run([*check, str(output)], capture_output=True, text=True).stderr
            if any(word in said for word in words.split("|")) and (words or not said):
                continue
            failures += 1
            print(f"FAIL {text}\n     {words!r} must be in:\n{said}")
    print(f"{failures} failures")
    return 1 if failures else 0


sys.exit(main(*sys.argv[1:]))
