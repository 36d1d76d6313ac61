# SPDX-License-Identifier: MIT
"""Peak memory of `libbnb quantize` on a sharded checkpoint, against its bound: twice the largest tensor plus 200 MB.

    python benchmarks/quantize_memory.py [--gigabytes 3] [--largest-mb 768]

A synthetic checkpoint is made in a temporary folder and deleted afterwards; it and one result must fit there. The peak
is VmHWM of the process itself (Linux): its Python, NumPy and everything.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from common import save
from safetensors.numpy import save_file

import libbnb  # noqa: F401 (its version and instruction set are recorded)

_CHILD = """
import sys
from libbnb.cli import main
try:
    main()
finally:
    with open("/proc/self/status") as status:
        peak = next(line for line in status if line.startswith("VmHWM"))
    with open({result!r}, "w") as file:
        file.write(peak.split()[1])
"""

_COMMANDS = {
    "quantize nf4": ["quantize", "SRC", "DST"],
    "quantize nf4, double quantization": ["quantize", "SRC", "DST", "--double-quant"],
    "quantize int8": ["quantize", "SRC", "DST", "--format", "int8"],
    "quantize fp8": ["quantize", "SRC", "DST", "--format", "fp8"],
    "quantize nf4, matrices transposed": ["quantize", "GPT2", "DST"],
    "compare nf4 and int8": ["compare", "SRC", "-f", "nf4", "-f", "int8", "--json"],
    "dequantize nf4": ["dequantize", "NF4", "DST"],
}


def make_checkpoint(folder: Path, total: int, largest: int) -> None:
    """A model folder with shards: matrices of `largest` bytes and smaller ones, in bfloat16 and float32."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    noise = rng.standard_normal(1 << 22, np.float32) * 0.02
    dtypes = (np.dtype(ml_dtypes.bfloat16), np.dtype(np.float32))
    weight_map: dict[str, str] = {}
    cols, written, layer = 4096, 0, 0
    while written < total:
        dtype = dtypes[layer % 2]
        names = {
            f"h.{layer}.mlp.c_fc.weight": largest,
            f"h.{layer}.attn.c_proj.weight": largest // 8,
            f"h.{layer}.ln_1.weight": 16384,
        }
        if layer == 0:
            names["wte.weight"] = largest
        shard = f"model-{layer + 1:05d}.safetensors"
        tensors = {name: _filled(noise, nbytes, cols, dtype) for name, nbytes in names.items()}
        save_file(tensors, folder / shard, {"format": "pt"})
        weight_map |= dict.fromkeys(tensors, shard)
        written += sum(tensor.nbytes for tensor in tensors.values())
        layer += 1
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))


def _filled(noise: Any, nbytes: int, cols: int, dtype: np.dtype[Any]) -> Any:
    rows = nbytes // (cols * dtype.itemsize)
    if not rows:
        return noise[: nbytes // dtype.itemsize].astype(dtype)
    return np.resize(noise.astype(dtype), (rows, cols))


def as_gpt2(folder: Path, result: Path) -> None:
    """The same weights in a folder whose config says that they are stored as [in, out]."""
    result.mkdir()
    for path in folder.iterdir():
        if path.name != "config.json":
            (result / path.name).symlink_to(path)
    (result / "config.json").write_text(json.dumps({"model_type": "gpt2"}))


def peak_of(arguments: list[str], scratch: Path) -> tuple[int, float]:
    """Peak resident bytes and seconds of one run of the command line."""
    result = scratch / "peak"
    code = _CHILD.format(result=str(result))
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.DEVNULL)
    return int(result.read_text()) * 1024, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--largest-mb", type=int, default=768)
    parser.add_argument("--folder", type=Path, default=None, help="where the temporary folder is made")
    options = parser.parse_args()
    largest = options.largest_mb * 1_000_000 // 65536 * 65536
    bound = 2 * largest + 200_000_000
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        scratch = Path(temporary)
        places = {"SRC": scratch / "model", "GPT2": scratch / "gpt2", "NF4": scratch / "nf4", "DST": scratch / "out"}
        make_checkpoint(places["SRC"], int(options.gigabytes * 1e9), largest)
        as_gpt2(places["SRC"], places["GPT2"])
        total = sum(path.stat().st_size for path in places["SRC"].glob("*.safetensors"))
        for name, command in _COMMANDS.items():
            if name.startswith("dequantize"):
                peak_of(["quantize", str(places["SRC"]), str(places["NF4"])], scratch)
            peak, seconds = peak_of([str(places.get(word, word)) for word in command], scratch)
            subprocess.run(["rm", "-rf", str(places["DST"])], check=True)
            rows.append(
                {
                    "format": name,
                    "checkpoint_bytes": total,
                    "largest_tensor_bytes": largest,
                    "peak_rss_bytes": peak,
                    "bound_bytes": bound,
                    "seconds": round(seconds, 2),
                }
            )
            print(f"{name:36} {peak / 1e6:7.0f} MB of {bound / 1e6:.0f} MB, {seconds:5.1f} s", flush=True)
    print(save("quantize_memory", {"rows": rows}))
    assert all(row["peak_rss_bytes"] <= bound for row in rows)


if __name__ == "__main__":
    main()
