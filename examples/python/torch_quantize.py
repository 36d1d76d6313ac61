# SPDX-License-Identifier: MIT
"""The same calls on PyTorch tensors: tensors in, tensors out, on the same device, without copies in between."""

from __future__ import annotations

import torch

import libbnb

torch.manual_seed(0)
weights = torch.randn(1024, 4096, dtype=torch.bfloat16) * 0.02

packed, state = libbnb.quantize_4bit(weights, quant_type="nf4")
back = libbnb.dequantize_4bit(packed, state)
assert isinstance(back, torch.Tensor) and back.dtype == torch.bfloat16 and back.shape == weights.shape
error = (back.float() - weights.float()).norm() / weights.float().norm()
print(f"nf4: {packed.numel() + 4 * state.absmax.numel()} bytes for {weights.numel()} weights, error {100 * error:.2f}%")

# Outputs can be yours: nothing is allocated in a loop.
out = torch.empty_like(weights)
absmax, codes = torch.empty_like(state.absmax), torch.empty_like(packed)
for _ in range(3):
    libbnb.quantize_4bit(weights, absmax=absmax, out=codes, quant_type="nf4")
    libbnb.dequantize_4bit(codes, state, out=out)
assert torch.equal(out, back) and torch.equal(codes, packed)

# 8 bits: optimizer states and the like (dynamic map), rows of a matrix (LLM.int8()).
codes8, state8 = libbnb.quantize_blockwise(weights, blocksize=256)
rows, row_absmax, _ = libbnb.int8_vectorwise_quant(weights)
for name, other in (
    ("8-bit blockwise", libbnb.dequantize_blockwise(codes8, state8)),
    ("int8", libbnb.int8_vectorwise_dequant(rows, row_absmax)),
):
    print(f"{name}: error {100 * (other.float() - weights.float()).norm() / weights.float().norm():.2f}%")

# A linear layer whose weight is stored in 4 bits.
x = torch.randn(8, 4096, dtype=torch.bfloat16)
y = torch.nn.functional.linear(x, libbnb.dequantize_4bit(packed, state))
expected = torch.nn.functional.linear(x, weights)
print(f"linear layer: error {100 * (y - expected).float().norm() / expected.float().norm():.2f}%")
