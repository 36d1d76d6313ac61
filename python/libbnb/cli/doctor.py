# SPDX-License-Identifier: MIT
"""libbnb doctor."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import libbnb
from libbnb._native import Info
from libbnb.cli.bench_device import device_of
from libbnb.cli.console import out, print_json, table
from libbnb.cli.machine import cpu_fields, gpus, processor
from libbnb.cli.self_test import differences

# Distribution names; what each is for is in the documentation.
_PACKAGES = (
    "numpy", "ml_dtypes", "safetensors", "torch", "bitsandbytes", "transformers", "accelerate", "peft", "jax", "cupy",
    "mlx", "tokenizers", "matplotlib",
)  # fmt: skip
_VARIABLES = (
    "BNB_LIB_PATH", "BNB_BACKEND", "BNB_CPU_ISA", "BNB_NUM_THREADS", "BNB_LOG", "LIBBNB_PLUGIN", "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES", "PYTORCH_MPS_FAST_MATH",
)  # fmt: skip
_FLAGS = (
    "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vbmi", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8",
    "asimd", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, what was found, and what to do about it ("" for nothing)."""

    topic: str
    found: str
    advice: str = ""
    is_error: bool = False


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False) -> None:
    """Show what was found on this machine, what libbnb uses of it, and what to do if something is wrong.

    Exit status 1 if libbnb cannot work.
    """
    findings = [*_package(), *_library(), *_cpu(), *_gpu(), *_environment(), *_packages(), *_plugin()]
    broken = any(finding.is_error for finding in findings)
    if as_json:
        print_json({"ok": not broken, "findings": [asdict(finding) for finding in findings]})
    else:
        _print(findings)
    if broken:
        raise typer.Exit(1)


def _print(findings: list[Finding]) -> None:
    rows = table("what", "found")
    rows.columns[1].justify, rows.columns[1].no_wrap = "left", False
    for finding in findings:
        rows.add_row(finding.topic, finding.found)
    out.print(rows)
    out.print()
    advice = [finding for finding in findings if finding.advice]
    for finding in advice:
        out.print(f"{'ERROR' if finding.is_error else 'note'}: {finding.advice}", markup=False, soft_wrap=True)
    if not advice:
        out.print("Nothing to do.")


def _package() -> list[Finding]:
    where = Path(libbnb.__file__).parent
    copies = sorted({entry for entry in map(Path, sys.path) if (entry / "libbnb" / "_native.py").exists()})
    advice = ""
    if len(copies) > 1:
        others = ", ".join(str(path) for path in copies if path / "libbnb" != where)
        advice = f"libbnb is installed more than once; {where} is used, not {others}: uninstall the others"
    return [
        Finding("libbnb", f"{libbnb.__version__} in {where}", advice),
        Finding("Python", f"{platform.python_version()} ({platform.python_implementation()}) on {platform.platform()}"),
    ]


def _library() -> list[Finding]:
    try:
        info = libbnb.info()
    except libbnb.Error as error:
        return [Finding("library", "cannot be loaded", str(error), is_error=True)]
    findings = [
        Finding("library", f"{info['library']} (version {info['library_version']}, ABI {info['abi_version']})"),
        Finding("  chosen because", info["chosen_by"]),
        *(
            Finding(f"  backend {row['name']}", f"{row['devices']} device{'s' * (row['devices'] != 1)}")
            for row in info["backends"]
        ),
    ]
    for name, reason in info["skipped"].items():
        findings.append(Finding(f"  library {name}", f"not used: {reason} ({info['installed'][name]})"))
    if info["isa"] is None:
        advice = f"BNB_CPU_ISA is {os.environ.get('BNB_CPU_ISA')!r}: {info['isa_reason']}; correct or unset it"
        return [*findings, Finding("instruction set", "none", advice, is_error=True)]
    findings.append(Finding("instruction set", f"{info['isa']}: {info['isa_reason']}"))
    isas = ", ".join(row["name"] + ("" if row["available"] else " (not on this CPU)") for row in info["isas"])
    findings.append(Finding("  in the library", isas))
    return [*findings, _threads(info["num_threads"]), _self_test(), *_device_tests(info)]


def _threads(threads: int) -> Finding:
    cpus = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cpus
    advice = ""
    if threads > allowed:
        advice = f"{threads} threads on {allowed} usable CPUs only get in each other's way: lower BNB_NUM_THREADS"
    return Finding("threads", f"{threads} of {cpus} CPUs ({allowed} usable by this process)", advice)


def _self_test() -> Finding:
    """NF4 there and back on data whose error is known: at most half the widest gap between two values of the format."""
    weights = np.linspace(-1, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    back = libbnb.dequantize_4bit(*libbnb.quantize_4bit(weights, quant_type="nf4"))
    if float(np.abs(back - weights).max()) < 0.16:
        return Finding("self-test", "NF4 there and back: right")
    return Finding("self-test", "wrong numbers", "libbnb computes wrong numbers here: please report it", is_error=True)


def _device_tests(info: Info) -> list[Finding]:
    """The same on GPUs, against the CPU. PyTorch is imported if there is a GPU that libbnb can use."""
    findings: list[Finding] = []
    for row in info["backends"]:
        if row["name"] == "cpu" or not row["devices"]:
            continue
        topic = f"self-test on {row['name']}"
        try:
            device = device_of(row["name"])
            found = differences(device)
        except libbnb.Unsupported as error:
            findings.append(Finding(topic, f"not done: {error}"))
            continue
        if device.stream:
            findings.append(Finding(f"  tensors on {device.kind}", device.stream))
        if not found:
            findings.append(Finding(topic, "the same as on the CPU"))
        for one in found:
            advice = f"{one.operation} fails on {row['name']}: please report it" if one.is_error else ""
            findings.append(Finding(topic, f"{one.operation}: {one.how}", advice, one.is_error))
    return findings


def _cpu() -> list[Finding]:
    fields = cpu_fields()
    present = set((fields.get("flags") or fields.get("Features") or "").split())
    findings = [Finding("CPU", f"{processor()} ({platform.machine()})")]
    if present:
        findings.append(
            Finding("  features", " ".join(flag for flag in _FLAGS if flag in present) or "none libbnb uses")
        )
    return findings


def _gpu() -> list[Finding]:
    found = gpus()
    if not found:
        return [Finding("GPU", "none found")]
    try:
        info = libbnb.info()
    except libbnb.Error:
        return [Finding("GPU", text) for text in found.values()]
    return [Finding("GPU", text, _why_not_used(name, info)) for name, text in found.items()]


_HIDDEN = "is its driver right, does CUDA_VISIBLE_DEVICES hide it?"


def _why_not_used(backend: str, info: Info) -> str:
    """What to do for a GPU that there is to be used; nothing if it is, or another one."""
    devices = {row["name"]: row["devices"] for row in info["backends"]}
    if any(count for name, count in devices.items() if name != "cpu"):
        return ""
    if backend in devices:
        reasons = "is it one of Apple's own, M1 or newer?" if backend == "metal" else _HIDDEN
        return f"there is a GPU, but {backend} finds none: {reasons}"
    if backend in info["skipped"]:
        return f"there is a GPU, but libbnb's library for {backend} does not work: {info['skipped'][backend]}"
    if info["chosen_by"] in ("BNB_LIB_PATH", "BNB_BACKEND"):
        return f"there is a GPU, but {info['chosen_by']} names a library that does not have {backend}"
    return f"there is a GPU, but this installation is without {backend}: build it with -D{backend}=enabled"


def _environment() -> list[Finding]:
    findings = [Finding("environment", f"{name}={os.environ[name]}") for name in _VARIABLES if name in os.environ]
    if "BNB_CPU_ISA" in os.environ:
        findings.append(Finding("", "", "BNB_CPU_ISA caps the instruction set: unset it for full speed"))
    return [finding for finding in findings if finding.topic or finding.advice]


def _packages() -> list[Finding]:
    findings: list[Finding] = []
    for name in _PACKAGES:
        try:
            findings.append(Finding(name, importlib.metadata.version(name), _about(name)))
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(name, "not installed"))
    return findings


def _about(name: str) -> str:
    version = importlib.metadata.version(name)
    if name == "bitsandbytes" and tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < (0, 45):
        return f"bitsandbytes {version} cannot read int8 checkpoints of today's transformers: update it"
    return ""


# What a user's program does; in a process of its own, because bitsandbytes and PyTorch take seconds and may print.
_PLUGIN = """
import dataclasses, json, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import bitsandbytes
from libbnb.integrations.bitsandbytes import status
found = dataclasses.asdict(status())
found["warnings"] = [str(one.message) for one in caught if "libbnb" in str(one.message)]
print(json.dumps(found))
"""
_PLUGIN_SECONDS = 120


def _plugin() -> list[Finding]:
    """Whether bitsandbytes runs on our kernels."""
    topic = "bitsandbytes plug-in"
    try:
        importlib.metadata.version("bitsandbytes")
    except importlib.metadata.PackageNotFoundError:
        return []
    if os.environ.get("LIBBNB_PLUGIN") == "0":
        return [Finding(topic, "turned off: LIBBNB_PLUGIN=0")]
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PLUGIN], capture_output=True, text=True, timeout=_PLUGIN_SECONDS, check=True
        )
        found = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        last = (getattr(error, "stderr", None) or "").strip().splitlines()[-1:]
        return [Finding(topic, "unknown", f"import bitsandbytes fails here: {last[0] if last else error}")]
    if not found["active"]:
        why = found["warnings"][0] if found["warnings"] else "this bitsandbytes did not load it; is it older than 0.46?"
        return [Finding(topic, "not active", why)]
    skipped = "".join(f"; not {name}: {reason}" for name, reason in found["skipped"].items())
    return [Finding(topic, f"active: {len(found['operators'])} operators run on libbnb on the CPU{skipped}")]
