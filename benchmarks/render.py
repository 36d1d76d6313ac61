# SPDX-License-Identifier: MIT
"""Writes the result tables of README.md and docs/, and the plots, from benchmarks/results/*.json.

    python benchmarks/render.py [--check]

A table stands between `<!-- generated: NAME -->` and `<!-- end -->`; nothing between them is typed by hand. With
--check nothing is written, and the exit status says whether the files are up to date.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MARKED = re.compile(r"(<!-- generated: ([a-z0-9-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine_line(document: dict[str, Any]) -> str:
    m = document["machine"]
    versions = ", ".join(f"{name} {m[name]}" for name in ("torch", "bitsandbytes") if name in m)
    isa = f", instruction set {m['instruction_set']}" if "instruction_set" in m else ""
    return f"{m['cpu']}, {m['cores']} cores{isa}; {versions}; {document['date']}. Medians of one run."


def quantize(document: dict[str, Any]) -> str:
    rows = [
        [
            row["operation"],
            row["dtype"],
            f"{row['elements_per_second'] / 1e9:.2f}",
            f"{row['speedup']:.1f}x",
            f"{100 * row['fraction_of_copy']:.0f}%",
        ]
        for row in document["rows"]
    ]
    header = ["operation", "dtype", "billion elements/s", "against bitsandbytes", "of copy bandwidth"]
    return f"{table(header, rows)}\n\n{document['rows'][0]['elements']:,} elements. {machine_line(document)}"


def overhead(document: dict[str, Any]) -> str:
    by_name: dict[str, dict[str, float]] = {}
    for row in document["overhead"]:
        by_name.setdefault(row["operation"], {})[row["caller"]] = row["microseconds"]
    rows = [[name, *(f"{t[c]:.1f}" for c in ("numpy", "torch", "bitsandbytes"))] for name, t in by_name.items()]
    header = ["call on a 64x64 array, us", "libbnb, NumPy", "libbnb, torch", "bitsandbytes"]
    return f"{table(header, rows)}\n\n{machine_line(document)}"


def quantize_memory(document: dict[str, Any]) -> str:
    mb = 1 << 20
    rows = [
        [
            row["format"],
            f"{row['checkpoint_bytes'] / mb:,.0f}",
            f"{row['largest_tensor_bytes'] / mb:,.0f}",
            f"{row['peak_rss_bytes'] / mb:,.0f}",
            f"{row['bound_bytes'] / mb:,.0f}",
        ]
        for row in document["rows"]
    ]
    return table(["format", "checkpoint, MiB", "largest tensor, MiB", "peak memory, MiB", "bound, MiB"], rows)


def optimizers(document: dict[str, Any]) -> str:
    rows = [
        [
            row["optimizer"],
            f"{row['tensors']:,} x {row['elements'] // row['tensors']:,}",
            f"{1e3 * row['seconds']:.1f}",
            f"{row['elements_per_second'] / 1e9:.2f}",
            *(f"{row[key]:.1f}x" if key in row else "" for key in ("against_bitsandbytes", "against_torch_fused")),
            f"{100 * row['fraction_of_copy']:.0f}%",
        ]
        for row in document["rows"]
    ]
    header = ["step", "tensors", "ms", "billion elements/s", "against bitsandbytes", "against torch's fused fp32 AdamW"]
    return f"{table([*header, 'of copy bandwidth'], rows)}\n\n{machine_line(document)}"


# name of the marked place -> (result file, what makes the text)
TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "quantize": ("quantize", quantize),
    "overhead": ("quantize", overhead),
    "quantize-memory": ("quantize_memory", quantize_memory),
    "optimizers": ("optimizers", optimizers),
}


def rendered(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        result, make = TABLES[match[2]]
        document = json.loads((RESULTS / f"{result}.json").read_text())
        return f"{match[1]}{make(document)}\n{match[4]}"

    return MARKED.sub(replace, text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale: list[Path] = []
    for page in PAGES:
        old = page.read_text()
        new = rendered(old)
        if new != old:
            stale.append(page)
            if not check:
                page.write_text(new)
    for page in stale:
        print(f"{'stale' if check else 'written'}: {page.relative_to(ROOT)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
