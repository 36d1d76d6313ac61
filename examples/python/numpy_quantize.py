# SPDX-License-Identifier: MIT
"""A NumPy array to 4 bits and back: what comes out, what it costs, how it is saved and loaded again."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import libbnb

weights = np.random.default_rng(0).standard_normal((1024, 4096), np.float32) * 0.02

# Quantize: two codes a byte, and one scale (absmax) for each block of 64 elements.
packed, state = libbnb.quantize_4bit(weights, quant_type="nf4")
print(f"weights {weights.shape} {weights.dtype}: {weights.nbytes / 1e6:.1f} MB")
print(f"packed  {packed.shape} {packed.dtype}: {packed.nbytes / 1e6:.1f} MB, absmax {state.absmax.nbytes / 1e6:.2f} MB")

# Dequantize: the state knows shape and dtype.
back = libbnb.dequantize_4bit(packed, state)
assert back.shape == weights.shape and back.dtype == weights.dtype
error = np.linalg.norm(back - weights) / np.linalg.norm(weights)
print(f"relative error {100 * error:.2f}%")

# The scales can be quantized, too (double quantization): 4.5 bits per weight become 4.13.
_, nested = libbnb.quantize_4bit(weights, compress_statistics=True, quant_type="nf4")
bits = 4 + 8 * (nested.absmax.nbytes + nested.state2.absmax.nbytes) / weights.size
print(f"double quantization: {bits:.2f} bits per weight")

# Other formats in one line each.
codes, row_absmax, _ = libbnb.int8_vectorwise_quant(weights)
fp8, scale = libbnb.quantize_fp8(weights)
for name, other in (
    ("int8", libbnb.int8_vectorwise_dequant(codes, row_absmax)),
    ("fp8", libbnb.dequantize_fp8(fp8, scale)),
):
    print(f"{name}: relative error {100 * np.linalg.norm(other - weights) / np.linalg.norm(weights):.2f}%")

# A state is a dict of arrays, in the form that bitsandbytes' checkpoints have.
with tempfile.TemporaryDirectory() as folder:
    np.savez(Path(folder) / "weights.npz", packed=packed, **state.as_dict(packed=True))
    with np.load(Path(folder) / "weights.npz") as file:
        loaded = libbnb.QuantState.from_dict({name: file[name] for name in file if name != "packed"})
        assert np.array_equal(libbnb.dequantize_4bit(file["packed"], loaded), back)
print("saved, loaded, the same bits")
