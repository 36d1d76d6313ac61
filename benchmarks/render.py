# SPDX-License-Identifier: MIT
"""Writes the result tables of README.md and docs/, and the plots, from benchmarks/results/*.json.

    python benchmarks/render.py [--check]

A table stands between `<!-- generated: NAME -->` and `<!-- end -->`; nothing between them is typed by hand. With
--check nothing is written, and the exit status says whether the tables are up to date.
"""

from __future__ import annotations

import argparse
import json
import math
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


def times(row: dict[str, Any], peer: str) -> str:
    """How many times as fast as the peer, "" where it was not measured."""
    key = f"against_{peer}"
    if key not in row:
        return ""
    return f"{row[key]:.1f}x" if row[key] >= 5 else f"{row[key]:.2f}x"


# What has a table of its own: the part of an operation's name that says so -> whom it is compared with.
FAMILIES = {"ternary": "ggml", "_mx": "torchao"}


def quantize(document: dict[str, Any], family: str = "") -> str:
    def family_of(operation: str) -> str:
        return next((name for name in FAMILIES if name in operation), "")

    chosen = [row for row in document["rows"] if family_of(row["operation"]) == family]
    if not chosen:
        return "Not measured yet."
    rows = [
        [
            row["operation"],
            row["dtype"],
            f"{row['elements_per_second'] / 1e9:.2f}",
            f"{row['speedup']:.1f}x" if row["speedup"] else "",
            f"{100 * row['fraction_of_copy']:.0f}%",
        ]
        for row in chosen
    ]
    peer = FAMILIES.get(family, "bitsandbytes")
    header = ["operation", "dtype", "billion elements/s", f"against {peer}", "of copy bandwidth"]
    return f"{table(header, rows)}\n\n{document['rows'][0]['elements']:,} elements. {machine_line(document)}"


def device_line(document: dict[str, Any]) -> str:
    gpu, machine = document["gpu"], document["machine"]
    bandwidth = f"copy bandwidth {document['copy_bandwidth'] / 1e12:.2f} TB/s"
    versions = ", ".join(f"{name} {machine[name]}" for name in ("torch", "bitsandbytes") if name in machine)
    return f"{gpu['device']}, {bandwidth}; {versions}; {document['date']}. Medians of one run."


def device_elements(document: dict[str, Any]) -> str:
    rows = [
        [row["operation"], row["dtype"], f"{100 * row['fraction_of_copy']:.0f}%", times(row, "bitsandbytes")]
        for row in document["rows"]
        if "elements" in row
    ]
    header = ["operation", "dtype", "of copy bandwidth", "against bitsandbytes"]
    return f"{table(header, rows)}\n\n{device_line(document)}"


def device_products(document: dict[str, Any]) -> str:
    rows = [
        [
            row["operation"],
            f"{row['n']:,}x{row['k']:,}",
            f"{row['m']:,}",
            f"{1e6 * row['seconds']:.1f}",
            f"{row['operations_per_second'] / 1e12:.1f}",
            f"{100 * row['fraction_of_copy']:.0f}%",
            *(times(row, peer) for peer in ("bitsandbytes", "dequantize_then_dense", "dense")),
        ]
        for row in document["rows"]
        if "m" in row
    ]
    header = ["operation", "N x K", "M", "us", "TFLOP/s", "of copy bandwidth"]
    header += ["against bitsandbytes", "against dequantize, then dense", "against dense bf16"]
    return f"{table(header, rows)}\n\n{device_line(document)}"


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
            times(row, "bitsandbytes"),
            times(row, "torch_fused"),
            f"{100 * row['fraction_of_copy']:.0f}%",
        ]
        for row in document["rows"]
    ]
    header = ["step", "tensors", "ms", "billion elements/s", "against bitsandbytes", "against torch's fused fp32 AdamW"]
    return f"{table([*header, 'of copy bandwidth'], rows)}\n\n{machine_line(document)}"


def products(document: dict[str, Any]) -> str:
    first = document["rows"][0]
    rows = [
        [
            f"{row['m']:,}",
            f"{1e3 * row['seconds']:.2f}",
            f"{row['operations_per_second'] / 1e9:,.0f}",
            f"{100 * row['fraction_of_read']:.0f}%" if row["m"] <= 8 else "",
            *(times(row, peer) for peer in ("dense", "bitsandbytes", "bitsandbytes_eval", "ggml")),
        ]
        for row in document["rows"]
        if all(row[key] == first[key] for key in ("format", "dtype", "n", "k"))
    ]
    header = ["rows of activations", "ms", "GFLOP/s", "of read bandwidth"]
    header += ["against dense bf16", "against bitsandbytes", "after its eval()", "against ggml's Q4_0"]
    what = f"NF4 weights {first['n']:,}x{first['k']:,}, bf16 activations."
    return f"{table(header, rows)}\n\n{what} {machine_line(document)}"


def all_products(document: dict[str, Any]) -> str:
    cells: dict[tuple[str, str, str], dict[int, str]] = {}
    for row in document["rows"]:
        peer = "int_mm" if row["format"] == "int8" else "dense"
        line = cells.setdefault((row["format"], row["dtype"], f"{row['n']}x{row['k']}"), {})
        line[row["m"]] = f"{1e3 * row['seconds']:.2f} ({row[f'against_{peer}']:.2f})"
    counts = sorted({row["m"] for row in document["rows"]})
    rows = [[*key, *(line.get(m, "") for m in counts)] for key, line in cells.items()]
    header = ["weights", "activations", "N x K", *(f"M={m:,}" for m in counts)]
    return f"{table(header, rows)}\n\n{machine_line(document)}"


def product_layers(document: dict[str, Any]) -> str:
    rows = [
        [row["format"], f"{row['m']:,}", f"{1e3 * row['seconds']:.2f}", times(row, "bitsandbytes"), times(row, "dense")]
        for row in document["rows"]
        if "against_bitsandbytes" in row and row["format"].startswith("Linear8bitLt")
    ]
    header = ["layer, 4,096x4,096, bf16", "rows", "ms", "against bitsandbytes", "against dense bf16"]
    return f"{table(header, rows)}\n\n{machine_line(document)}"


def alternating(document: dict[str, Any]) -> str:
    rows = [[f"{row['m']:,}", f"{100 * row['excess']:+.0f}%"] for row in document["alternating"]]
    return table(["rows", "NF4 product and PyTorch's dense one in turn, against the two alone"], rows)


def ternary_products(document: dict[str, Any]) -> str:
    def against(row: dict[str, Any], peer: str, ours: str = "product") -> str:
        time = row.get(f"{peer}_seconds")
        return "" if time is None else f"{time / row[f'{ours}_seconds']:.2f}x"

    rows = [
        [
            row["format"],
            f"{row['m']:,}",
            f"{1e3 * row['product_seconds']:.3f}",
            f"{100 * row['fraction_of_read']:.0f}%" if row["m"] <= 4 else "",
            against(row, "int8"),
            against(row, "int_mm"),
            f"{1e3 * row['layer_seconds']:.3f}",
            against(row, "dense", "layer"),
            against(row, "ggml", "layer"),
        ]
        for row in document["rows"]
    ]
    header = ["weights", "rows", "product, ms", "of read bandwidth", "against our int8", "against torch._int_mm"]
    header += ["layer, ms", "against dense bf16", "against ggml"]
    first = document["rows"][0]
    return f"{table(header, rows)}\n\n{first['n']:,}x{first['k']:,} weights. {machine_line(document)}"


def plot_products(document: dict[str, Any], path: Path) -> None:
    """How many times as fast as PyTorch's dense product each format is, over the rows of activations."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    first = document["rows"][0]
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in document["rows"]:
        if "against_dense" in row and (row["n"], row["k"]) == (first["n"], first["k"]):
            lines.setdefault(f"{row['format']}, {row['dtype']}", []).append((row["m"], row["against_dense"]))
    for name, points in lines.items():
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("rows of activations")
    axes.set_ylabel("times as fast as PyTorch's dense product")
    axes.set_title(
        f"Products with quantized weights, {first['n']:,}x{first['k']:,}, {document['machine']['cores']} cores"
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=110)


def generation(document: dict[str, Any]) -> str:
    wide = document["wide"]
    speed = {row["variant"]: row for row in wide["rows"]}
    rows: list[list[str]] = []
    for row in document["rows"]:
        fast = speed[row["variant"]]
        peer = fast.get("against_bitsandbytes")
        rows.append(
            [
                row["variant"],
                f"{row['perplexity']:.3f}",
                f"{fast['bytes'] / 1e6:.0f}" if fast["bytes"] else "",
                f"{fast['tokens_per_second']:.1f}",
                f"{fast['against_dense']:.2f}x",
                f"{peer:.1f}x" if peer else "",
            ]
        )
    header = ["linear layers", "perplexity", "wide: megabytes", "characters/s", "against dense", "against bitsandbytes"]
    trained = f"{document['layers']} layers of width {document['width']}, {document['steps']} steps"
    wide_model = f"{wide['layers']} layers of width {wide['width']}, {wide['dtype']}, random weights"
    told = f"Perplexity per character of held-out text ({trained}). Wide: {wide_model}."
    return f"{table(header, rows)}\n\n{told} {machine_line(document)}"


def plugin(document: dict[str, Any]) -> str:
    ours, stock = document["libbnb"], document["bitsandbytes"]
    lines = (
        (f"prefill of {document['prompt']} tokens, tokens/s", "prefill", True),
        ("decode, tokens/s", "decode", True),
        (f"QLoRA step of {document['trained_tokens']} tokens, s", "qlora", False),
        ("loading and quantizing the model, s", "load", False),
        ("quantizing a weight of 4 million elements with double quantization, s", "quantize", False),
    )
    rows = []
    for what, key, is_rate in lines:
        ratio = ours[key] / stock[key] if is_rate else stock[key] / ours[key]
        rows.append(
            [
                what,
                *(f"{one[key]:,.0f}" if one[key] >= 100 else f"{one[key]:.3g}" for one in (ours, stock)),
                f"{ratio:.1f}x",
            ]
        )
    made = f"A Llama of {document['parameters'] / 1e6:.0f} million random parameters in NF4, bf16."
    header = ["through transformers", "with the plug-in", "bitsandbytes alone", ""]
    return f"{table(header, rows)}\n\n{made} {machine_line(document)}"


def minilm(document: dict[str, Any]) -> str:
    found = {row["variant"]: row for row in document["rows"]}
    rows: list[list[str]] = []
    for name, row in found.items():
        if name.startswith("libbnb"):
            kind = name.removeprefix("libbnb ")
            both = (row, found.get(f"bitsandbytes {kind}"))
            rows.append([kind, *(f"{one[key]:.4f}" if one else "" for one in both for key in ("mean", "worst"))])
    return table(["format", "mean cosine", "worst", "bitsandbytes: mean", "worst"], rows)


def bitnet(document: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{run['held_out_loss']:.3f}",
            f"{math.exp(run['held_out_loss']):.2f}",
        ]
        for name, run in document["runs"].items()
    ]
    gguf = document["gguf"]
    same = (
        ("the same", "bit for bit") if document["same_tokens"] and gguf["same_bits"] else ("OTHER", "WITH OTHER BITS")
    )
    made = (
        f"{document['parameters'] / 1e6:.1f} million parameters, {document['steps']:,} steps. Packed, the linear "
        f"layers take {document['float_bytes'] / document['packed_bytes']:.1f} times fewer bytes than in fp32, "
        f"{document['sparsity']:.0%} of the weights are zero, and {same[0]} tokens are written. The GGUF file has "
        f"{gguf['file_bytes'] / 1e6:.2f} MB and {gguf['ternary_tensors']} ternary tensors, read back {same[1]}. "
        f"torch {document['versions']['torch']}; {document['date']}."
    )
    return f"{table(['model', 'loss on held-out text, nats a token', 'perplexity'], rows)}\n\n{made}"


def qlora(document: dict[str, Any]) -> str:
    rows = [
        [
            row["run"],
            f"{row['trained']:,}",
            f"{row['model_bytes'] / 1e6:.1f}",
            f"{row['before']:.3f}",
            f"{row['after']:.3f}",
            f"{row['peak_bytes'] / 1e6:.0f}",
            f"{row['seconds']:.0f}",
        ]
        for row in document["rows"]
    ]
    header = ["trained", "parameters", "model, MB", "loss before", "after", "peak memory, MB", "s"]
    base = document["base"]
    told = f"A Llama of {base['parameters'] / 1e6:.1f} million parameters, {document['steps']} steps."
    return f"{table(header, rows)}\n\n{told} {machine_line(document)}"


# name of the marked place -> (result file, what makes the text)
TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "quantize": ("quantize", quantize),
    "quantize-ternary": ("quantize", lambda document: quantize(document, "ternary")),
    "quantize-mx": ("quantize", lambda document: quantize(document, "_mx")),
    "overhead": ("quantize", overhead),
    "quantize-memory": ("quantize_memory", quantize_memory),
    "optimizers": ("optimizers", optimizers),
    "plugin": ("plugin", plugin),
    "products": ("products", products),
    "products-all": ("products", all_products),
    "products-layers": ("products", product_layers),
    "products-alternating": ("products", alternating),
    "products-mx": ("mx_products", all_products),
    "products-ternary": ("ternary_products", ternary_products),
    "device": ("device", device_elements),
    "device-products": ("device", device_products),
    "generation": ("generation", generation),
    "minilm": ("minilm", minilm),
    "qlora": ("qlora", qlora),
    "bitnet": ("bitnet", bitnet),
}
# picture -> (result file, what draws it)
PLOTS: dict[str, tuple[str, Callable[[dict[str, Any], Path], None]]] = {
    "docs/images/products.png": ("products", plot_products),
}


def load(result: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((RESULTS / f"{result}.json").read_text())
    return document


def rendered(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        result, make = TABLES[match[2]]
        text = make(load(result)) if (RESULTS / f"{result}.json").exists() else "Not measured yet."
        return f"{match[1]}{text}\n{match[4]}"

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
    if not check:
        for picture, (result, draw) in PLOTS.items():
            draw(load(result), ROOT / picture)
    for page in stale:
        print(f"{'stale' if check else 'written'}: {page.relative_to(ROOT)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
